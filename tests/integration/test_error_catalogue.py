"""Each error class, provoked once through the command line: its exit code and its message.

``pytest tests/integration/test_error_catalogue.py -s`` prints the catalogue as it is met.
"""

import fcntl
import hashlib
import io
import json
import os
import re
import signal
import socket
import subprocess
import tarfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from pipeline import errors
from pipeline.effects.store import LocalStore, Tagged
from pipeline.publish.project import project as write_indexes
from pipeline.publish.sites import OpenChannel, Site
from tests.fakes import make_context
from tests.integration.conftest import ROOT, Project, Ran, notary_of

pytestmark = [pytest.mark.docker, pytest.mark.gpg, pytest.mark.slow]

PASSWORD = {"RPP_FARM_PASSWORD": "any"}
NOWHERE = "tcp://127.0.0.1:1"
Provoke = Callable[[Project], Ran]


def only_programs(directory: Path, *programs: str) -> str:
    """Return a PATH on which there are only these programs, linked from the real one."""
    directory.mkdir(exist_ok=True)
    for program in programs:
        found = subprocess.run(["which", program], check=True, capture_output=True, text=True)
        (directory / program).symlink_to(found.stdout.strip())
    return str(directory)


def fake_program(directory: Path, name: str, script: str) -> str:
    """Return a PATH that starts with a program of ours."""
    directory.mkdir(exist_ok=True)
    (directory / name).write_text(f"#!/bin/sh\n{script}\n")
    (directory / name).chmod(0o755)
    return f"{directory}:{os.environ['PATH']}"


def remove_stages(project: Project, *stages: str) -> None:
    for stage in stages:
        subprocess.run(["rm", "-rf", str(project.work / "stages" / stage)], check=True)


def config_error(project: Project) -> Ran:
    project.edit("demo.toml", ('gc = "incminimark"', 'gc = "incminimrk"'))
    return project.run("config", check=False)


def unknown_name(project: Project) -> Ran:
    return project.run("release", "demmo", check=False)


def digest_mismatch(project: Project) -> Ran:
    project.edit("pins.toml", ("803933038f37", "803933038f38"))
    return project.run("source", check=False)


def download(project: Project) -> Ran:
    remove_stages(project, "source", "../cache/downloads")
    project.edit("pins.toml", ("/rpython-0.2.1.tar.gz", "/no-such-file.tar.gz"))
    return project.run("source", check=False)


def source(project: Project) -> Ran:
    project.edit("demo.toml", ('path = "demo"', 'path = "nothing"'))
    return project.run("plan", check=False)


def missing_tool(project: Project) -> Ran:
    path = only_programs(project.work.parent / "bin", "sh")
    return project.run("sign", check=False, PATH=path)


def engine_unavailable(project: Project) -> Ran:
    remove_stages(project, "translate")
    return project.run("translate", check=False, DOCKER_HOST=NOWHERE)


def image(project: Project) -> Ran:
    project.edit(
        "environments.toml",
        ('"http://deb.debian.org/debian", "http://archive.debian.org', '"http://127.0.0.1:1'),
    )
    return project.run("translate", check=False)


def preflight(project: Project) -> Ran:
    return project.run("doctor", check=False, DOCKER_HOST=NOWHERE)


def command(project: Project) -> Ran:
    subprocess.run(["rm", "-rf", str(project.work / "keys")], check=True)
    path = fake_program(project.work.parent / "bin", "gpg", "echo broken gpg >&2; exit 2")
    return project.run("sign", check=False, PATH=path)


def platform(project: Project) -> Ran:
    return project.run("plan", "--worker", "riscv64", check=False)


def translation(project: Project) -> Ran:
    target = project.configs / "demo" / "targetdemo.py"
    target.write_text("this is not Python\n")
    return project.run("translate", check=False)


def step_timeout(project: Project) -> Ran:
    remove_stages(project, "translate")
    project.edit("demo.toml", ("timeout = 5400", "timeout = 2"))
    return project.run("translate", check=False)


def step_silent(project: Project) -> Ran:
    remove_stages(project, "translate")
    project.edit("demo.toml", ("silence = 1800", "silence = 1"))
    return project.run("translate", check=False)


def package(project: Project) -> Ran:
    project.edit("demo.toml", ('license_file = "demo/LICENSE"', 'license_file = "demo/LICENCE"'))
    return project.run("package", check=False)


def gate(project: Project) -> Ran:
    project.edit("demo.toml", ('needed = ["libc.so.6", ', "needed = ["))
    return project.run("verify", check=False)


def unsafe_archive(project: Project) -> Ran:
    """A pinned file that climbs out of the directory that it is unpacked into."""
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w:gz") as archive:
        archive.addfile(tarfile.TarInfo("rpython-0.2.1/../../escaped"))
    digest = hashlib.sha256(data.getvalue()).hexdigest()
    cached = project.work / "cache" / "downloads" / digest / "rpython-0.2.1.tar.gz"
    cached.parent.mkdir(parents=True)
    cached.write_bytes(data.getvalue())
    pins = project.configs / "pins.toml"
    good = "803933038f3744538fc04bca9d5be0102eaa80fdc26dcb376b8178e0fa66e90b"
    pins.write_text(pins.read_text().replace(good, digest))
    return project.run("source", check=False)


def signing_key(project: Project) -> Ran:
    project.edit("channels.toml", ('key = "quickstart"', f'key = "{"A" * 40}"'))
    return project.run("sign", check=False)


def signature(project: Project) -> Ran:
    remove_stages(project, "sign")
    path = fake_program(project.work.parent / "bin", "gpgv", "echo BADSIG; exit 1")
    return project.run("sign", check=False, PATH=path)


def immutable_name(project: Project) -> Ran:
    store = project.work / "other"
    taken = store / "demo" / "demo-v1.0.0" / "demo-v1.0.0-linux64.tar.gz"
    taken.parent.mkdir(parents=True)
    taken.write_bytes(b"other bytes")
    return project.run("publish", "--store", str(store), check=False)


def fetch_back(project: Project) -> Ran:
    (signed,) = (project.work / "stages" / "sign").iterdir()
    (signed / "demo-v1.0.0-linux64.tar.zst").write_bytes(b"altered")
    return project.run("publish", "--store", str(project.work / "other"), check=False)


def ledger(project: Project) -> Ran:
    (project.store / "ledger.json").write_text("{}x")
    return project.run("ledger", check=False)


def store(project: Project) -> Ran:
    return project.run("publish", "--store", "/proc/nothing", check=False)


def destination(project: Project) -> Ran:
    project.edit("channels.toml", ("[release]", '[release]\ngithub = { repository = "me/demo" }'))
    return project.run("release", check=False, GITHUB_TOKEN="")


def event(project: Project) -> Ran:
    return project.run("yank", "demo-v9.9.9", "--reason", "a test", check=False)


def with_apt(project: Project) -> Project:
    project.edit("channels.toml", ("[release]", '[release]\napt = { suites = ["bookworm"] }'))
    project.edit("channels.toml", ("[nightly]", '[nightly]\napt = { suites = ["bookworm"] }'))
    return project


def debian_package(project: Project) -> Ran:
    part = '[[debian.parts]]\nsuffix = "-more"\nsummary = "more"\nfiles = ["no/*"]\n\n'
    project.edit("demo.toml", ("[[debian.alternatives]]", f"{part}[[debian.alternatives]]"))
    return with_apt(project).run("debian", check=False)


def lintian(project: Project) -> Ran:
    # A package may not put files there, says Debian's policy.
    project.edit("distributions.toml", ('prefix = "usr/lib/rpython"', 'prefix = "opt/rpython"'))
    return with_apt(project).run("debian", check=False)


def install(project: Project) -> Ran:
    project.edit(
        "demo.toml",
        (
            'argv = ["demo", "--version"]\nstdout = "demo 1.0.0',
            'argv = ["demo", "--version"]\nstdout = "demo 2.0.0',
        ),
    )
    return with_apt(project).run("install-check", check=False)


def with_tap(project: Project, repository: Path) -> Project:
    tap = f'{{ repository = "file://{repository}", author = "Tap <tap@example.org>" }}'
    for channel in ("release", "nightly"):
        project.edit("channels.toml", (f"[{channel}]", f"[{channel}]\ntap = {tap}"))
    return project


def tap(project: Project) -> Ran:
    return with_tap(project, Path("/nowhere.git")).run("unyank", "demo", "1.0.0", check=False)


def formula(project: Project) -> Ran:
    repository = project.work.parent / "tap.git"
    subprocess.run(["git", "init", "-q", "--bare", "-b", "main", repository], check=True)
    with_tap(project, repository)
    archive = project.store / "demo" / "demo-v1.0.0" / "demo-v1.0.0-linux64.tar.gz"
    archive.write_bytes(archive.read_bytes()[::-1])
    return project.run("unyank", "demo", "1.0.0", check=False)


def workdir_busy(project: Project) -> Ran:
    with (project.work / ".lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        return project.run("release", check=False)


def record(project: Project) -> Ran:
    (made,) = (project.work / "stages" / "source").iterdir()
    (made / "record.json").write_text('{"half": ')
    return project.run("source", check=False)


def jobs_failed(project: Project) -> Ran:
    second = (project.configs / "demo.toml").read_text()
    for key in ("interpreter", "package", "image", "formula"):
        second = re.sub(rf'^{key} = "(.*)"', rf'{key} = "\g<1>-two"', second, flags=re.MULTILINE)
    (project.configs / "demo-two.toml").write_text(second)
    remove_stages(project, "source")
    project.edit("pins.toml", ("803933038f37", "803933038f38"))
    return project.run("release", "demo", "demo-two", check=False)


def farm(project: Project) -> Ran:
    options = ("--farm", "http://127.0.0.1:1", "--platform", "linux-x86_64")
    return project.run("release", "demo", *options, check=False, **PASSWORD)


def farm_login(project: Project) -> Ran:
    options = ("--farm", "http://farm.invalid", "--platform", "linux-x86_64")
    return project.run("release", "demo", *options, check=False, **PASSWORD)


def prepared(project: Project, *, claims: dict[str, object]) -> Ran:
    """Prepare a run whose translation is not there, and collect it with these claims."""
    remove_stages(project, "translate")
    directory = project.work.parent
    store = ("--run", "r1", "--hand-over", str(directory / "handover"))
    submission = directory / "submission.json"
    submission.write_text('{"request": "r", "channel": "release", "platforms": ["linux-x86_64"]}')
    project.run("prepare", *store, "--submission", str(submission))
    path = directory / "claims.json"
    path.write_text(json.dumps({"run": "r1", "claims": [], **claims}))
    return project.run("release", *store, "--claims", str(path), check=False)


def claim(project: Project) -> Ran:
    digest = "0" * 64
    place = {"place": "trusted/thing.tar", "sha256": digest, "size": 1}
    said = {"run": "r1", "identifier": "demo-linux-x86_64", "worker": "w", "seconds": 1}
    stage = {"stage": "translate", "key": digest, **place}
    return prepared(project, claims={"claims": [{**said, "stages": [stage], "cached": False}]})


def unit_failed(project: Project) -> Ran:
    failed = {"identifier": "demo-linux-x86_64", "reason": "the worker was lost in 3 attempts"}
    return prepared(project, claims={"failed": [failed]})


def unknown_run(project: Project) -> Ran:
    store = ("--run", "r9", "--worker", "w", "--hand-over", str(project.work / "handover"))
    return project.run("translate", "demo-linux-x86_64", *store, check=False)


def disk_full(project: Project) -> Ran:
    remove_stages(project, "source")
    small = project.work / "stages" / "source"
    small.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "small", small], check=True)
    try:
        return project.run("source", check=False)
    finally:
        subprocess.run(["umount", small], check=True)


def detached(project: Project) -> Ran:
    project.work.joinpath("detached").write_text("a file where a directory should be")
    return project.run("detached", "name", "--", "config", check=False)


def dial(project: Project) -> Ran:
    password = project.work / "password"
    password.write_text("not a secret")
    password.chmod(0o600)
    master = ("--master", "127.0.0.1:1", "--password-file", str(password), "--plain")
    return project.run("farm-worker", str(project.work / "w"), "--name", "w", *master, check=False)


def farm_start(project: Project) -> Ran:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        return project.run("farm", "--port", port, "--worker-port", "0", check=False)


CATALOGUE: dict[type[errors.PipelineError], Provoke] = {
    errors.JobsFailedError: jobs_failed,
    errors.ConfigError: config_error,
    errors.UnknownNameError: unknown_name,
    errors.DigestMismatchError: digest_mismatch,
    errors.DownloadError: download,
    errors.SourceError: source,
    errors.MissingToolError: missing_tool,
    errors.EngineUnavailableError: engine_unavailable,
    errors.ImageError: image,
    errors.PreflightError: preflight,
    errors.CommandError: command,
    errors.PlatformError: platform,
    errors.TranslationError: translation,
    errors.StepTimeoutError: step_timeout,
    errors.StepSilentError: step_silent,
    errors.PackageError: package,
    errors.GateError: gate,
    errors.UnsafeArchiveError: unsafe_archive,
    errors.SigningKeyError: signing_key,
    errors.SignatureError: signature,
    errors.ImmutableNameError: immutable_name,
    errors.FetchBackError: fetch_back,
    errors.LedgerError: ledger,
    errors.StoreError: store,
    errors.DestinationError: destination,
    errors.EventError: event,
    errors.DebianPackageError: debian_package,
    errors.LintianError: lintian,
    errors.InstallError: install,
    errors.TapError: tap,
    errors.FormulaError: formula,
    errors.WorkdirBusyError: workdir_busy,
    errors.RecordError: record,
    errors.FarmError: farm,
    errors.FarmLoginError: farm_login,
    errors.ClaimError: claim,
    errors.UnitFailedError: unit_failed,
    errors.RunError: unknown_run,
    errors.DiskFullError: disk_full,
    errors.DetachedError: detached,
    errors.DialError: dial,
    errors.FarmStartError: farm_start,
}


@pytest.mark.parametrize("cause", CATALOGUE, ids=lambda cause: cause.__name__)
def test_each_cause_has_its_exit_code_and_says_what_to_do(
    fast_copy: Project, cause: type[errors.PipelineError]
) -> None:
    ran = CATALOGUE[cause](fast_copy)

    start = ran.stderr.find("error: ")
    message = ran.stderr[start:].strip()
    print(f"\n{cause.exit_code:3} {cause.__name__}\n{message}")  # noqa: T201 - the catalogue
    assert ran.status == cause.exit_code
    assert start >= 0
    assert "this is a bug in the pipeline" not in ran.stderr


def test_the_catalogue_is_complete() -> None:
    """What needs a second writer, a lost answer, many nightlies or less Python is elsewhere."""
    known = {
        value
        for value in vars(errors).values()
        if isinstance(value, type) and issubclass(value, errors.PipelineError)
    }

    elsewhere = {
        errors.ConflictError,
        errors.UncertainError,
        errors.BisectError,
        errors.FarmExtraError,
    }
    assert known == {*CATALOGUE, errors.PipelineError, *elsewhere}


class _BusyStore(LocalStore):
    """A store in which somebody else is always faster."""

    def read(self, key: str) -> Tagged | None:
        present = super().read(key)
        if key.endswith("versions.json"):
            others = (present.data if present else b"") + b" "
            (self.root / key).write_bytes(others)
        return present


def test_endless_contention_ends_with_a_conflict(fast_copy: Project) -> None:
    busy = Site(store=_BusyStore(fast_copy.store), base_url="http://127.0.0.1:8377")
    (fast_copy.store / "demo" / "versions.json").write_text("[]")
    ctx = make_context(fast_copy.configs.parent)
    channel = OpenChannel(
        config=ctx.config.channels.release, sites=(busy,), notary=notary_of(fast_copy)
    )

    with pytest.raises(errors.ConflictError) as caught:
        write_indexes(ctx, channel)

    print(f"\n{caught.value.exit_code:3} ConflictError\nerror: {caught.value}")  # noqa: T201
    assert caught.value.exit_code == 63


@contextmanager
def _running(project: Project) -> Iterator["subprocess.Popen[str]"]:
    process = subprocess.Popen(
        project.command("release"), cwd=ROOT, stderr=subprocess.PIPE, text=True
    )
    with process:
        yield process


def test_an_interrupt_says_how_to_go_on(fast_copy: Project) -> None:
    remove_stages(fast_copy, "verify")
    with _running(fast_copy) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if "run in clean" in line:
                break
        process.send_signal(signal.SIGINT)
        rest = process.stderr.read()

    print(f"\n{process.returncode:3} interrupt\n{rest.strip()}")  # noqa: T201
    assert process.returncode == 130
    assert "run the same command to go on" in rest
