"""Real parts: the command line as a user types it, a container engine, GnuPG, real clients.

``fast`` is the demo without JIT, which translates in a minute or two; ``full`` is what ships.
Both are made once for all tests.
"""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from pipeline.effects.clock import utc_now
from pipeline.effects.process import ProcessRunner
from pipeline.model.configs import SigningConfig
from pipeline.sign.gpg import quickstart_keyring
from pipeline.sign.notary import KeyringNotary
from tests.integration.ceph import Ceph, running_ceph

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True, kw_only=True)
class Ran:
    """A finished command."""

    status: int
    stdout: str
    stderr: str


@dataclass(frozen=True, kw_only=True)
class Project:
    """A copy of the configuration, and directories to work in."""

    configs: Path
    work: Path
    environment: Mapping[str, str]

    @property
    def store(self) -> Path:
        """The store as shipped."""
        return self.work / "store"

    def command(self, *arguments: str) -> list[str]:
        """Return the command line of a verb."""
        verb, *rest = arguments
        places = ["--configs", str(self.configs), "--work", str(self.work)]
        return [sys.executable, "-m", "pipeline", verb, *places, *rest]

    def run(self, *arguments: str, check: bool = True, **environment: str) -> Ran:
        """Run a verb to its end."""
        done = subprocess.run(
            self.command(*arguments),
            cwd=ROOT,
            env={**os.environ, **self.environment, **environment},
            capture_output=True,
            text=True,
            timeout=1800,
            check=False,
        )
        if check:
            assert done.returncode == 0, done.stderr
        return Ran(status=done.returncode, stdout=done.stdout, stderr=done.stderr)

    def edit(self, name: str, *replacements: tuple[str, str]) -> None:
        """Replace text in a configuration file; what is replaced must be there."""
        path = self.configs / name
        text = path.read_text(encoding="utf-8")
        for old, new in replacements:
            assert old in text, f"{old!r} is not in {name}"
            text = text.replace(old, new)
        path.write_text(text, encoding="utf-8")


def copy_project(directory: Path, *, jit: bool) -> Project:
    """Copy what the pipeline reads, so that a test may change it."""
    for name in ("translation_configs", "dockerfiles", "packaging"):
        shutil.copytree(ROOT / name, directory / name)
    project = Project(
        configs=directory / "translation_configs", work=directory / "out", environment={"CI": "1"}
    )
    if not jit:
        project.edit("demo.toml", ("jit = true", "jit = false"))
    return project


def notary_of(project: Project) -> KeyringNotary:
    """Return who signs a project's ledger: its throw-away key, made if there is none yet."""
    process, home = ProcessRunner(), project.work / "keys" / "gnupg"
    return KeyringNotary(
        keyring=lambda: quickstart_keyring(process, home),
        is_there=home.is_dir,
        config=SigningConfig(key="quickstart"),
        process=process,
        now=utc_now,
    )


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """A fresh copy of the configuration without JIT, and an empty work directory."""
    return copy_project(tmp_path, jit=False)


@pytest.fixture(scope="session")
def fast(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A finished release of the demo without JIT; tests must not change it."""
    project = copy_project(tmp_path_factory.mktemp("fast"), jit=False)
    project.run("release")
    return project


@pytest.fixture(scope="session")
def full(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A finished release of the demo as shipped; tests must not change it."""
    project = copy_project(tmp_path_factory.mktemp("full"), jit=True)
    project.run("release")
    return project


@pytest.fixture
def fast_copy(fast: Project, tmp_path: Path) -> Project:
    """A copy of the finished fast release, to damage or go on with."""
    shutil.copytree(fast.configs.parent, tmp_path / "copy", symlinks=True)
    copied = tmp_path / "copy"
    return Project(
        configs=copied / "translation_configs", work=copied / "out", environment={"CI": "1"}
    )


@pytest.fixture(scope="session")
def ceph() -> Iterator[Ceph]:
    """A real S3 server, for all tests; each takes a bucket or a prefix of its own."""
    with running_ceph() as ceph:
        yield ceph


@pytest.fixture
def serve() -> Iterator[Callable[[Project], str]]:
    """Give a function that serves a project's store and returns its address."""
    with ExitStack() as stack:

        def start(project: Project) -> str:
            command = [*project.command("serve"), "--port", "0"]
            process = stack.enter_context(
                subprocess.Popen(
                    command,
                    cwd=ROOT,
                    env={**os.environ, **project.environment},
                    stderr=subprocess.PIPE,
                    text=True,
                )
            )
            stack.callback(process.kill)
            assert process.stderr is not None
            for line in process.stderr:
                if found := re.search(r"is served at (http://\S+)", line):
                    return found[1]
            raise AssertionError(process.wait())

        yield start
