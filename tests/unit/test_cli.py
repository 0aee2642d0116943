"""The command line: verbs, names, exit codes."""

import io
import json
import logging
import platform
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, NoReturn

import pytest

from pipeline.cli import building, main, ports, publishing
from pipeline.effects.engine import WORKER_IMAGE
from pipeline.errors import (
    ConfigError,
    EngineUnavailableError,
    GateError,
    PipelineError,
    SourceError,
    TranslationError,
)
from pipeline.stages import Stage
from tests.fakes import FakeEngine, Image, Ran, World, fixed_clock, make_world, replace_text

VERBS: Final = (
    *("release", "nightly"),
    *("source", "translate", "package", "verify", "sign", "publish", "ledger"),
    *("config", "plan", "schemas", "doctor", "reconcile", "serve"),
    *("yank", "unyank", "promote", "prune", "status", "bisect"),
    *("detached", "reap", "facts", "farm-worker", "farm"),
)
STAGE_VERBS: Final = VERBS[2:9]


@dataclass(frozen=True, kw_only=True)
class Command:
    """The command line on the toy project, with fake ports."""

    world: World
    capture: pytest.CaptureFixture[str]
    elsewhere: FakeEngine
    addresses: list[str]

    def run(self, *argv: str) -> int:
        """Run a verb with this project's directories."""
        root = self.world.ctx.root
        configs = ("--configs", str(root / "translation_configs"), "--work", str(root / "out"))
        return main([*argv, *configs])

    def output(self) -> str:
        """Return what programs would read."""
        return self.capture.readouterr().out

    def message(self) -> str:
        """Return what people would read, as one line."""
        return " ".join(self.capture.readouterr().err.split())


@pytest.fixture
def command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Command:
    world = make_world(tmp_path / "project")
    elsewhere, addresses = FakeEngine(), list[str]()

    def docker_engine(_workspace: str, address: str | None = None) -> FakeEngine:
        if address is None:
            return world.engine
        addresses.append(address)
        return elsewhere

    monkeypatch.setattr(ports, "DockerEngine", docker_engine)
    monkeypatch.setattr(ports, "ProcessRunner", lambda: world.process)
    monkeypatch.setattr(ports, "HttpClient", lambda: world.http)
    monkeypatch.setattr(ports, "HttpView", lambda _http: world.public)
    monkeypatch.setattr(ports, "utc_now", fixed_clock())
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    monkeypatch.setenv("CI", "1")
    monkeypatch.setenv("COLUMNS", "300")
    monkeypatch.setattr(platform, "system", lambda: "Linux")
    return Command(world=world, capture=capsys, elsewhere=elsewhere, addresses=addresses)


def files(root: Path) -> set[str]:
    return {path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file()}


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_help(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main([verb, "--help"])

    text = capsys.readouterr().out
    assert caught.value.code == 0
    assert text.startswith(f"usage: python -m pipeline {verb} ")
    assert "--configs DIR" in text


def test_help_lists_every_verb(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--help"])

    text = capsys.readouterr().out
    assert [verb for verb in VERBS if not re.search(rf"\n    {verb}\s", text)] == []


@pytest.mark.parametrize(
    "argv",
    [
        [],
        ["relaese"],
        ["plan", "--channel", "weekly"],
        ["plan", "--interpreter-version", "1.2"],
        ["plan", "--mode", "simulated"],
    ],
    ids=["no verb", "unknown verb", "unknown channel", "no version", "unknown mode"],
)
def test_a_wrong_command_line_is_refused(
    argv: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        main(argv)

    assert caught.value.code == 2
    assert "usage: " in capsys.readouterr().err


def test_a_wrong_version_is_explained(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["plan", "--interpreter-version", "1.2"])

    assert "'1.2' is not a version like '7.3.23'" in capsys.readouterr().err


class ClosedOutput(io.StringIO):
    """An output whose reader went away."""

    def fileno(self) -> int:
        """Return a number that is nobody's."""
        return 4711

    def flush(self) -> None:
        """Fail as a closed pipe does."""
        raise BrokenPipeError


def raising(error: BaseException) -> Callable[..., NoReturn]:
    def run(*_arguments: object) -> NoReturn:
        raise error

    return run


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ConfigError("wrong key"), 10),
        (EngineUnavailableError("no engine"), 21),
        (TranslationError("exit status 1"), 30),
        (GateError("1 gate finding"), 40),
        (PipelineError("something"), 1),
        (KeyboardInterrupt(), 130),
        (ValueError("oops"), 99),
        (BrokenPipeError("an engine's"), 99),  # our own output is still read
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else str(value),
)
def test_errors_become_exit_codes(
    error: BaseException, code: int, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(building, "load_config", raising(error))

    status = command.run("config")

    assert status == code


def test_output_that_nobody_reads_any_more_is_no_bug(
    command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As behind ``| head``: what is still to be written goes nowhere."""
    closed = ClosedOutput()
    monkeypatch.setattr(sys, "stdout", closed)
    monkeypatch.setattr(building, "load_config", raising(BrokenPipeError()))
    turned: list[tuple[int, int]] = []
    monkeypatch.setattr("os.dup2", lambda new, old: turned.append((new, old)))

    status = command.run("config")

    assert status == 0
    assert [old for _, old in turned] == [closed.fileno()]


def test_an_interrupt_keeps_what_is_finished(command: Command) -> None:
    def interrupt(_step: object) -> Ran:
        raise KeyboardInterrupt

    command.world.engine.scripts["translate"] = interrupt

    status = command.run("translate", "toy")

    assert status == 130
    assert "finished stages are kept, run the same command to go on" in command.message()
    assert len(list((command.world.ctx.root / "out" / "stages" / "source").iterdir())) == 1


def test_an_error_is_shown_once_with_its_place(command: Command) -> None:
    command.world.engine.scripts["translate"] = lambda _step: Ran(status=1, lines=("boom",))

    status = command.run("translate", "toy")

    message = command.message()
    assert status == TranslationError.exit_code
    assert "error: translate toy-linux-x86_64: exit status 1; the whole log is " in message
    assert message.count("boom") == 1
    assert "Traceback" not in message


def test_a_bug_is_reported_as_one(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(building, "load_config", raising(ZeroDivisionError("oops")))

    command.run("config")

    message = command.message()
    assert "ZeroDivisionError: oops" in message
    assert "this is a bug in the pipeline; please report it" in message


def plan(command: Command, *argv: str) -> list[str]:
    """Return the identifiers of the jobs that are planned."""
    assert command.run("plan", "--json", *argv) == 0
    told = json.loads(command.output())
    return [job["identifier"] for release in told["releases"] for job in release["jobs"]]


def test_a_plan_is_json_for_programs(command: Command) -> None:
    status = command.run("plan", "--json")

    told = json.loads(command.output())
    (toy, gem) = told["releases"]
    assert status == 0
    assert (toy["release"], gem["release"]) == ("toy-v1.2.3", "gem-v1.2.3")
    assert toy["urls"]["SHA256SUMS"] == "https://downloads.test/toy/toy-v1.2.3/SHA256SUMS"


def test_a_plan_without_names_is_the_channel_s(command: Command) -> None:
    assert plan(command) == ["toy-linux-x86_64", "gem-linux-x86_64"]


def test_an_interpreter_is_a_name(command: Command) -> None:
    assert plan(command, "gem") == ["gem-linux-x86_64"]


def test_an_identifier_is_a_name(command: Command) -> None:
    assert plan(command, "toy-linux-x86_64_v3") == ["toy-linux-x86_64_v3"]


def test_platforms_can_be_chosen(command: Command) -> None:
    found = plan(command, "toy", "--platform", "linux-x86_64", "--platform", "linux-x86_64_v3")

    assert found == ["toy-linux-x86_64", "toy-linux-x86_64_v3"]


def test_a_plan_can_be_for_another_worker(command: Command) -> None:
    assert plan(command, "toy-linux-aarch64", "--worker", "aarch64") == ["toy-linux-aarch64"]


def test_a_local_source_is_not_for_what_is_a_directory_already(command: Command) -> None:
    status = command.run("plan", "toy", "--channel", "nightly", "--source", "elsewhere")

    assert status == SourceError.exit_code
    assert "toy.toml: its source is a directory already" in command.message()


def test_a_local_source_is_for_one_interpreter(command: Command) -> None:
    status = command.run("plan", "toy", "gem", "--channel", "nightly", "--source", "elsewhere")

    assert status == ConfigError.exit_code
    here = Path("elsewhere").absolute()
    assert f"--source {here} was given for several interpreters" in command.message()


@pytest.mark.parametrize("option", ["--interpreter-version", "--pypy-version"])
def test_a_version_can_be_given(option: str, command: Command) -> None:
    command.run("plan", "--json", "toy", option, "2.0.0rc1")

    assert json.loads(command.output())["releases"][0]["release"] == "toy-v2.0.0rc1"


def test_the_base_url_can_be_given(command: Command) -> None:
    command.run("plan", "--json", "toy", "--base-url", "https://mirror.test")

    urls = json.loads(command.output())["releases"][0]["urls"].values()
    assert all(url.startswith("https://mirror.test/toy/") for url in urls)


@pytest.mark.parametrize(
    ("name", "near"),
    [("tyo", "'toy'"), ("gems", "'gem'")],
)
def test_an_unknown_interpreter_gets_a_near_match(name: str, near: str, command: Command) -> None:
    status = command.run("plan", name)

    assert status == 11
    assert f"unknown interpreter '{name}'. Did you mean {near}?" in command.message()


def test_an_unknown_platform_gets_a_near_match(command: Command) -> None:
    status = command.run("plan", "toy", "--platform", "linux-x86-64")

    assert status == 11
    assert "unknown platform 'linux-x86-64'. Did you mean 'linux-x86_64'?" in command.message()


def test_a_platform_of_another_machine_is_refused(command: Command) -> None:
    status = command.run("plan", "toy-linux-aarch64")

    assert status == 25
    refused = "linux-aarch64 cannot be translated in any way on this worker (linux, x86_64)"
    message = command.message()
    assert refused in message
    assert "--engine linux-aarch64=ssh://HOST" in message


def test_a_mode_that_a_platform_does_not_have_is_refused(command: Command) -> None:
    status = command.run("plan", "toy-linux-aarch64", "--mode", "emulated")

    assert status == 25
    assert "linux-aarch64 cannot be translated in mode emulated" in command.message()


def test_all_of_an_interpreters_platforms_may_be_asked_for(command: Command) -> None:
    there = replace(command.elsewhere.told, machine="aarch64")
    command.elsewhere.told = there

    command.run("plan", "--json", "toy", "--platform", "all", "--engine", "linux-aarch64=ssh://arm")

    (release,) = json.loads(command.output())["releases"]
    assert [(job["platform"]["identifier"], job["mode"]) for job in release["jobs"]] == [
        ("linux-x86_64", "native"),
        ("linux-x86_64_v3", "native"),
        ("linux-aarch64", "native"),
    ]


@pytest.mark.parametrize("machine", ["aarch64", "arm64"], ids=["docker", "podman"])
def test_an_engine_elsewhere_is_asked_for_its_machine(machine: str, command: Command) -> None:
    """Docker says it as uname does, Podman as OCI does."""
    command.elsewhere.told = replace(command.elsewhere.told, machine=machine)

    status = command.run("plan", "toy-linux-aarch64", "--engine", "linux-aarch64=ssh://arm")

    assert status == 0
    assert "toy-linux-aarch64 native" in command.message()
    assert command.addresses == ["ssh://arm"]
    assert command.world.engine.asked == []


def test_an_engine_elsewhere_of_the_wrong_machine_is_refused(command: Command) -> None:
    status = command.run("plan", "toy-linux-aarch64", "--engine", "linux-aarch64=ssh://intel")

    assert status == 25
    assert "in any way on this worker (linux, x86_64)" in command.message()


def test_an_engine_elsewhere_does_its_platforms_work_and_no_other(command: Command) -> None:
    command.elsewhere.told = replace(command.elsewhere.told, machine="aarch64")
    command.elsewhere.machine = "arm64"
    platforms = ("--platform", "linux-x86_64", "--platform", "linux-aarch64")

    status = command.run("translate", "toy", *platforms, "--engine", "linux-aarch64=tcp://arm:2376")

    assert status == 0
    here, there = command.world.engine.steps, command.elsewhere.steps
    assert [step.command[step.command.index("setarch") + 1] for step in here] == ["x86_64"]
    assert [step.command[step.command.index("setarch") + 1] for step in there] == ["aarch64"]


def test_without_containers_the_worker_itself_does_the_work(
    command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    native = FakeEngine()
    native.contained = False
    native.images[WORKER_IMAGE] = Image(image_id=WORKER_IMAGE)
    monkeypatch.setattr(ports, "NativeEngine", lambda _root, _process: native)

    status = command.run("translate", "toy", "--engine", "linux-x86_64=native")

    assert status == 0
    assert [step.image_id for step in native.steps] == [WORKER_IMAGE]
    assert set(native.asked) <= {"info", "run", "has_image", "image_id"}
    assert command.world.engine.asked == []
    assert command.addresses == []


def test_an_engine_for_an_unknown_platform_gets_a_near_match(command: Command) -> None:
    status = command.run("plan", "toy", "--engine", "linux-aarch=ssh://arm")

    assert status == 11
    assert "command line: --engine: unknown platform 'linux-aarch'. Did you mean" in (
        command.message()
    )


@pytest.mark.parametrize(
    "text", ["linux-aarch64", "=ssh://arm", "linux-aarch64=arm", "linux-aarch64=", ""]
)
def test_an_engine_without_a_platform_or_an_address_is_explained(
    text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["plan", "--engine", text])

    assert caught.value.code == 2
    assert f"{text!r} is not PLATFORM=URL, as in linux-aarch64=ssh://host" in (
        " ".join(capsys.readouterr().err.split())
    )


def test_a_plan_shows_every_job_and_url_to_people(command: Command) -> None:
    command.run("plan", "toy")

    message = command.message()
    assert "toy-linux-x86_64 native yes" in message
    assert "https://downloads.test/toy/toy-v1.2.3/toy-v1.2.3-linux64.tar.gz" in message


@pytest.mark.parametrize("verb", ["release", "nightly", *STAGE_VERBS])
def test_a_dry_run_shows_the_plan_and_does_nothing(verb: str, command: Command) -> None:
    before = files(command.world.ctx.root)

    status = command.run(verb, "toy", "--dry-run")

    message = command.message()
    assert status == 0
    assert "Dry run: nothing was done" in message
    assert "to do, from source on" in message
    assert command.world.engine.asked == []
    assert command.world.process.calls == []
    assert command.world.http.downloads == []
    assert files(command.world.ctx.root) - before <= {"out/identity", "out/.lock"}


@pytest.mark.parametrize("verb", STAGE_VERBS)
def test_a_stage_s_verb_runs_the_stages_up_to_it(verb: str, command: Command) -> None:
    status = command.run(verb, "toy")

    order = [stage.value for stage in Stage]
    made = {path.name for path in (command.world.ctx.root / "out" / "stages").iterdir()}
    reached = order[order.index("source") : order.index(verb) + 1]
    assert status == 0
    not_asked_for = {"debian", "image", "install-check"}
    assert made == set(reached) - {"publish", "ledger"} - not_asked_for


def test_a_release_goes_from_source_to_indexes(command: Command) -> None:
    status = command.run("release", "toy")

    store = command.world.ctx.root / "out" / "store"
    message = command.message()
    assert status == 0
    assert {"ledger.json", "toy/versions.json", "toy/uv.json"} <= files(store)
    assert "toy-v1.2.3 published: " in message
    assert "THROW-AWAY" not in message


def test_a_release_that_is_there_is_left_alone(command: Command) -> None:
    command.run("release", "toy")
    store = command.world.ctx.root / "out" / "store"
    before = {name: (store / name).read_bytes() for name in files(store)}
    command.message()

    status = command.run("release", "toy")

    assert status == 0
    assert "was published already, nothing to do" in command.message()
    assert {name: (store / name).read_bytes() for name in files(store)} == before


SELF_HOSTED: Final = 'kind = "release"\ninterpreter = "toy"'


def test_a_release_that_was_published_translates_the_next(command: Command) -> None:
    gem = command.world.ctx.root / "translation_configs" / "gem.toml"
    replace_text(gem, 'kind = "image"\nargv = ["pypy", "-S"]', SELF_HOSTED)
    command.run("release", "toy")

    status = command.run("translate", "gem")

    assert status == 0
    assert "/build/bootstrap/bin/toy" in command.world.engine.steps[-1].command


def test_a_release_that_has_nothing_to_be_translated_with_is_refused(command: Command) -> None:
    gem = command.world.ctx.root / "translation_configs" / "gem.toml"
    replace_text(gem, 'kind = "image"\nargv = ["pypy", "-S"]', SELF_HOSTED)

    status = command.run("release", "gem")

    assert status == SourceError.exit_code
    assert "the store has no final release of toy for linux-x86_64" in command.message()
    assert command.world.engine.steps == []


def test_a_nightly_is_named_after_its_source(command: Command) -> None:
    status = command.run("nightly", "toy")

    store = command.world.ctx.root / "out" / "store" / "toy"
    releases = [path.name for path in store.iterdir() if (path / "SHA256SUMS").exists()]
    assert status == 0
    assert [name.rpartition("-")[0] for name in releases] == ["toy-nightly-2026-11-21-20260101"]


def test_another_store_can_be_given(command: Command, tmp_path: Path) -> None:
    status = command.run("release", "toy", "--store", str(tmp_path / "mirror"))

    assert status == 0
    assert "ledger.json" in files(tmp_path / "mirror")
    assert not (command.world.ctx.root / "out" / "store").exists()


def test_several_failures_have_their_own_exit_code(command: Command) -> None:
    replace_text(command.world.ctx.root / "translation_configs/gem/target.py", "main", "gem")
    command.world.engine.scripts["translate"] = lambda _step: Ran(status=1)

    status = command.run("release")

    message = command.message()
    assert status == 3
    assert "translate toy-linux-x86_64: " in message
    assert "translate gem-linux-x86_64: " in message


def test_a_busy_work_directory_is_refused(command: Command) -> None:
    with command.world.ctx.work.locked():
        status = command.run("source", "toy")

    assert status == 70
    assert "is at work here" in command.message()


def test_what_is_published_is_made_what_the_ledger_says(command: Command) -> None:
    command.run("release", "toy")
    index = command.world.ctx.root / "out" / "store" / "toy" / "versions.json"
    data = index.read_bytes()
    index.unlink()
    command.message()

    statuses, messages = [], []
    for option in ("--dry-run", "--check"):
        statuses.append(command.run("reconcile", option))
        messages.append(command.message())
    there = index.exists()
    status = command.run("reconcile")

    url = "https://downloads.test/toy/versions.json"
    assert (statuses, there) == ([0, 1], False)
    assert [f"{url} to be written 1 indexes" in message for message in messages] == [True, True]
    assert status == 0
    assert f"{url} written 1 indexes" in command.message()
    assert index.read_bytes() == data
    assert command.run("reconcile", "--check") == 0
    assert "0 indexes to be written, 0 files wrong" in command.message()


def test_indexes_can_be_written_for_another_address(command: Command) -> None:
    command.run("release", "toy")
    store = command.world.ctx.root / "out" / "store"

    status = command.run("reconcile", "--store", str(store), "--base-url", "http://127.0.0.1:8377")

    assert status == 0
    assert b"http://127.0.0.1:8377/toy/" in (store / "toy" / "versions.json").read_bytes()


MIRROR: Final = 'mirrors = [{ store = "mirror", base_url = "https://mirror.test" }]\n'


@pytest.fixture
def mirrored(command: Command) -> Command:
    """The command line on a project whose channels have a mirror."""
    channels = command.world.ctx.root / "translation_configs" / "channels.toml"
    channels.write_text(re.sub("(?m)^signing", f"{MIRROR}signing", channels.read_text()))
    return command


def test_a_release_goes_to_every_mirror(mirrored: Command) -> None:
    status = mirrored.run("release", "toy")

    out = mirrored.world.ctx.root / "out"
    assert status == 0
    assert files(out / "mirror") == files(out / "store")
    assert b"https://mirror.test/toy/" in (out / "mirror" / "toy" / "versions.json").read_bytes()


def test_a_store_of_ones_own_has_no_mirrors(mirrored: Command, tmp_path: Path) -> None:
    status = mirrored.run("release", "toy", "--store", str(tmp_path / "mine"))

    assert status == 0
    assert "ledger.json" in files(tmp_path / "mine")
    assert not (mirrored.world.ctx.root / "out" / "mirror").exists()


def test_a_mirror_that_lost_something_is_made_whole(mirrored: Command) -> None:
    mirrored.run("release", "toy")
    lost = mirrored.world.ctx.root / "out" / "mirror" / "ledger.json"
    lost.unlink()
    mirrored.message()

    status = mirrored.run("reconcile")

    assert status == 0
    assert "https://mirror.test/ledger.json written 1 indexes" in mirrored.message()
    assert lost.is_file()


def test_a_release_may_be_staged(command: Command) -> None:
    status = command.run("release", "toy", "--stage")

    store = command.world.ctx.root / "out" / "store"
    assert status == 0
    assert "toy/toy-v1.2.3/SHA256SUMS" in files(store)
    assert "toy-v1.2.3" not in "".join(
        path.read_text(encoding="utf-8") for path in (store / "toy").glob("*.json")
    )


def test_a_nightly_cannot_be_staged(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["nightly", "--stage"])

    assert caught.value.code == 2
    assert "unrecognized arguments: --stage" in capsys.readouterr().err


def test_a_nightly_of_the_same_inputs_names_the_one_that_is_there(command: Command) -> None:
    command.run("nightly", "toy")
    store = command.world.ctx.root / "out" / "store"
    before = files(store)
    command.message()

    status = command.run("nightly", "toy")

    assert status == 0
    message = command.message()
    assert "not made, its inputs are those of toy-nightly-2026-11-21-" in message
    assert files(store) == before


def test_a_dry_run_says_that_a_nightly_would_not_be_made(command: Command) -> None:
    command.run("nightly", "toy")
    command.message()

    status = command.run("nightly", "toy", "--dry-run")

    assert status == 0
    assert "nothing to do, its inputs are those of toy-nightly-2026-11-21-" in command.message()


def test_a_bucket_is_not_served(command: Command) -> None:
    status = command.run("serve", "--store", "s3://bucket/prefix")

    assert status == ConfigError.exit_code
    assert "s3://bucket/prefix: a bucket is served by its server" in command.message()


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """Servers that end at once, as with Ctrl-C; what they were asked to serve."""
    made: list[object] = []

    class Server:
        server_port = 8377

        def serve_forever(self) -> None:
            raise KeyboardInterrupt

        def server_close(self) -> None:
            made.append("closed")

    def make_server(root: Path, host: str, port: int) -> Server:
        made.append((root, host, port))
        return Server()

    monkeypatch.setattr(publishing, "make_server", make_server)
    return made


def test_a_store_is_served_until_ctrl_c(command: Command, server: list[object]) -> None:
    status = command.run("serve")

    root = command.world.ctx.root / "out" / "store"
    message = command.message()
    assert status == 0
    assert server == [(root, "127.0.0.1", 8377), "closed"]
    assert f"{root} is served at http://127.0.0.1:8377" in message
    assert "python -m pipeline reconcile --store" in message


@pytest.mark.parametrize("port", ["-1", "65536", "http"])
def test_a_port_that_there_is_not_is_refused(
    command: Command, server: list[object], port: str
) -> None:
    with pytest.raises(SystemExit) as caught:
        command.run("serve", "--port", port)

    assert caught.value.code == 2
    assert f"{port} is no port: 0 to 65535" in command.message()
    assert server == []


@pytest.mark.parametrize("port", [0, 65535])
def test_any_port_may_be_served_at(command: Command, server: list[object], port: int) -> None:
    command.run("serve", "--port", str(port))

    assert server[0] == (command.world.ctx.root / "out" / "store", "127.0.0.1", port)


def test_a_server_that_fits_the_indexes_says_nothing_of_them(
    command: Command, server: list[object], tmp_path: Path
) -> None:
    address = "http://127.0.0.1:8377"

    command.run("serve", "--store", str(tmp_path), "--base-url", address)

    assert server[0] == (tmp_path, "127.0.0.1", 8377)
    assert "reconcile" not in command.message()


def test_the_configuration_is_shown_to_people_and_programs(command: Command) -> None:
    assert command.run("config") == 0
    assert "toy 1.2.3 incminimark yes" in command.message()

    assert command.run("config", "--json") == 0
    assert set(json.loads(command.output())["interpreters"]) == {"toy", "gem"}


def test_a_wrong_configuration_is_named_by_file_and_key(command: Command) -> None:
    replace_text(command.world.ctx.root / "translation_configs/toy.toml", "incminimark", "minmark")

    status = command.run("config")

    message = command.message()
    assert status == 10
    assert "toy.toml: key translation.gc: 'minmark' is not one of its values." in message
    assert "Did you mean 'minimark'?" in message


def test_schemas_are_written_and_checked(command: Command) -> None:
    stale = command.run("schemas", "--check")
    written = command.run("schemas")
    checked = command.run("schemas", "--check")

    directory = command.world.ctx.root / "translation_configs" / "schema"
    assert (stale, written, checked) == (1, 0, 0)
    assert "interpreter.schema.json" in files(directory)


def test_checking_schemas_writes_none(command: Command) -> None:
    command.run("schemas", "--check")

    assert not (command.world.ctx.root / "translation_configs" / "schema").exists()


def test_doctor_fails_with_the_fix(command: Command) -> None:
    command.world.engine.silent = EngineUnavailableError("no engine: start one")

    status = command.run("doctor")

    assert status == 23
    assert "engine: no answer. no engine: start one" in command.message()


def test_a_dry_run_provisions_nothing(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(building, "provision", raising(AssertionError()))

    status = command.run("release", "toy", "--provision", "--dry-run")

    assert status == 0


def test_provisioning_comes_first(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[str] = []

    def noting(name: str) -> Callable[..., tuple[()]]:
        def note(*_arguments: object) -> tuple[()]:
            order.append(name)
            return ()

        return note

    monkeypatch.setattr(building, "provision", noting("provision"))
    monkeypatch.setattr(building, "diagnose", noting("diagnose"))
    command.world.engine.scripts["translate"] = lambda _step: Ran(lines=noting("translate")())

    command.run("release", "toy", "--provision")

    assert order == ["provision", "diagnose", "translate"]


def test_the_releaser_is_known_also_without_a_user_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("getpass.getuser", raising(KeyError("uid not found")))
    monkeypatch.setattr("os.getuid", lambda: 4711)

    assert ports._releaser() == "uid 4711"  # noqa: SLF001 - there is no other way to see it


@pytest.mark.parametrize("url", ["nonsense", "http://slash.test/", "ftp://x.test"])
def test_a_wrong_base_url_is_no_bug_of_the_pipeline(url: str, command: Command) -> None:
    status = command.run("plan", "--base-url", url)

    assert status in {2, 10}


def test_each_identifier_stands_for_one_job(command: Command) -> None:
    found = plan(command, "toy-linux-x86_64", "gem-linux-x86_64_v3")

    assert found == ["toy-linux-x86_64", "gem-linux-x86_64_v3"]


def test_verbose_is_of_our_own_modules_only(
    command: Command, caplog: pytest.LogCaptureFixture
) -> None:
    """A library's log may hold a request with what authorises it."""
    command.run("config", "--verbose")

    logging.getLogger("botocore.auth").debug("x-amz-security-token: canary")
    logging.getLogger("pipeline.effects.process").debug("run gpg")

    assert [record.name for record in caplog.records if record.levelno == logging.DEBUG] == [
        "pipeline.effects.process"
    ]
