"""Debian packages of a small archive: made, judged, installed, upgraded and removed for real.

The archive has what decides something: a program, a bundled library that the suite has too, one
that it has not, modules to be compiled (by a Python that is a shell script), documents.
"""

import platform
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest

from pipeline.config import load_config
from pipeline.distribute.archives import Archives
from pipeline.distribute.debian.runner import make_packages
from pipeline.effects.archives import Compression, Entry, write_archive
from pipeline.effects.clock import utc_now
from pipeline.effects.console import Console
from pipeline.effects.context import Context, StageOutput
from pipeline.effects.docker_engine import DockerEngine
from pipeline.effects.engine import Session
from pipeline.effects.files import WorkDirectory, describe
from pipeline.effects.http import HttpClient
from pipeline.effects.process import ProcessRunner
from pipeline.effects.public import HttpView
from pipeline.environment import ready_environment
from pipeline.errors import LintianError
from pipeline.model.artifacts import ArtifactKind
from pipeline.model.debian import DebianConfig
from pipeline.model.naming import archive_stem, release_name
from pipeline.model.platforms import Placement
from pipeline.model.records import DebianPackages, Environment, Package
from pipeline.model.versions import InterpreterVersion
from pipeline.plan import Job
from tests.factories import changed, make_build_info_of, make_job
from tests.fakes import ELF, EPOCH
from tests.integration.conftest import copy_project

pytestmark = [
    pytest.mark.docker,
    pytest.mark.network,
    pytest.mark.slow,
    pytest.mark.skipif(platform.machine() != "x86_64", reason="the program is for x86_64"),
]

SUITE: Final = "bookworm"
ROOT: Final = "/usr/lib/rpython/toy3.1"
CONFIG: Final = DebianConfig.model_validate(
    {
        "package": "toy3.1",
        "section": "interpreters",
        "python": "bin/toy",
        "byte_compiled": ("lib/toy",),
        "externally_managed": "lib/toy/EXTERNALLY-MANAGED",
        "commands": {"toy3.1-own": "bin/toy"},
        "alternatives": (
            {"command": "toy3", "path": "bin/toy", "priority": 301},
            {"command": "toy3.1", "path": "bin/toy", "priority": 301},
        ),
        "private": ("lib/*.so*",),
        "companions": {"lib/libz.so.1": ("lib/z/*",)},
        "parts": (
            {"suffix": "-extra", "summary": "more modules", "files": ("lib/toy/extra*",)},
            {"suffix": "-doc", "summary": "documents", "files": ("*.md",), "documents": True},
        ),
    }
)
# A Python as far as the packages are concerned: asked for nothing it tells its version, else it
# compiles every module below the directories that it is given.
PYTHON: Final = """\
#!/bin/sh
if [ $# -eq 0 ]; then echo {version}; exit; fi
for directory; do
  case "$directory" in
    /*)
      find "$directory" -name '*.py' | while read -r module; do
        name=${{module##*/}}
        mkdir -p "${{module%/*}}/__pycache__"
        echo {version} >"${{module%/*}}/__pycache__/${{name%.py}}.toy31.pyc"
      done
      ;;
  esac
done
"""
# Another package that has one of the names as a link and one as a file, as Debian's pypy3 has.
FOREIGN: Final = """
set -e
mkdir -p foreign/DEBIAN foreign/usr/bin
printf '%s\\n' 'Package: foreign' 'Version: 1' 'Architecture: all' 'Description: other' \
  'Maintainer: A Tester <tester@example.invalid>' >foreign/DEBIAN/control
printf '#!/bin/sh\\necho foreign\\n' >foreign/usr/bin/toy3.1
chmod 755 foreign/usr/bin/toy3.1
ln -s toy3.1 foreign/usr/bin/toy3
dpkg-deb --build foreign foreign.deb
"""


@dataclass(frozen=True, kw_only=True)
class Workshop:
    """Where packages are made, for bookworm."""

    ctx: Context
    environment: Environment
    clean: Environment
    directory: Path

    def make(self, version: str, place: str, files: dict[str, bytes] | None = None) -> "Made":
        """Make the packages of an archive of *version*, in the directory *place*."""
        job = _job(version)
        directory = self.directory / place
        directory.mkdir()
        archives = _archives(job, directory, {**_files(version), **(files or {})})
        with self.ctx.console.step(place) as step:
            # The name of a container is made of the key.
            stage = StageOutput(key=f"{place:0>64}", directory=directory, step=step)
            packages = make_packages(self.ctx, job, archives, (self.environment,), stage, (SUITE,))
        return Made(packages=packages, directory=directory)


@dataclass(frozen=True, kw_only=True)
class Made:
    """Packages in a directory."""

    packages: DebianPackages
    directory: Path

    def paths(self) -> list[Path]:
        """Return where they are, the main one first."""
        return [self.directory / artifact.filename for artifact in self.packages.artifacts]


def _job(version: str) -> Job:
    """Return a job of the demo, told to be packaged as a toy of that version."""
    job = make_job()
    parsed = InterpreterVersion.parse(version)
    stem = archive_stem(release_name("demo", parsed), job.platform, nightly=False)
    interpreter = changed(job.interpreter, debian=CONFIG)
    return changed(job, interpreter=interpreter, version=parsed, stem=stem)


def _files(version: str) -> dict[str, bytes]:
    return {
        "bin/toy": PYTHON.format(version=version).encode(),
        "bin/toy-elf": ELF.read_bytes(),
        "lib/libz.so.1": ELF.read_bytes(),
        "lib/z/table": b"of the library\n",
        "lib/libodd.so.3": ELF.read_bytes(),
        "lib/toy/one.py": b"#!/usr/bin/env python3\n",
        f"lib/toy/only_in_{version.replace('.', '_')}.py": b"pass\n",
        "lib/toy/extra.py": b"pass\n",
        "LICENSE": b"Do with it what you like.\n",
        "README.md": b"A toy.\n",
    }


def _archives(job: Job, directory: Path, files: dict[str, bytes]) -> Archives:
    path = directory / f"{job.stem}.tar.zst"
    entries = (
        Entry(path=f"{job.stem}/{name}", content=content, executable=name.startswith("bin/"))
        for name, content in files.items()
    )
    write_archive(path, entries, epoch=EPOCH, compression=Compression.ZSTD)
    artifact = describe(path, ArtifactKind.ARCHIVE_ZST, job.platform.identifier)
    package = Package(stem=job.stem, artifacts=(artifact,))
    return Archives(package=package, directory=directory, info=make_build_info_of(job))


@pytest.fixture(scope="module")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Workshop:
    project = copy_project(tmp_path_factory.mktemp("debian"), jit=False)
    work = WorkDirectory(project.work)
    work.root.mkdir(parents=True, exist_ok=True)
    ctx = Context(
        root=project.configs.parent,
        config=load_config(project.configs),
        work=work,
        engine=DockerEngine("testdebian"),
        process=ProcessRunner(),
        http=HttpClient(),
        public=HttpView(HttpClient()),
        console=Console(),
        now=utc_now,
        releaser="tests",
    )
    suite, placement = ctx.config.suites[SUITE], Placement(host=make_job().platform)
    return Workshop(
        ctx=ctx,
        environment=ready_environment(ctx, suite.environment, placement),
        clean=ready_environment(ctx, suite.clean, placement),
        directory=tmp_path_factory.mktemp("made"),
    )


@pytest.fixture(scope="module")
def old(workshop: Workshop) -> Made:
    return workshop.make("1.0.0", "old")


@pytest.fixture
def system(workshop: Workshop) -> Iterator[Session]:
    """A clean Debian in which root may do what root does."""
    engine = workshop.ctx.engine
    with engine.session(workshop.clean.image_id, user="0:0", network="bridge") as session:
        yield session


def run(system: Session, *argv: str) -> str:
    done = system.call(argv, timeout=300, directory="/srv")
    assert done.status == 0, (argv, done.text, done.stderr.decode())
    return done.text


def copy_into(system: Session, made: Made, directory: str, temporary: Path) -> str:
    """Copy packages into a directory of the container; return a pattern of them."""
    entries = [Entry(path=f"{directory}/{path.name}", content=path) for path in made.paths()]
    write_archive(temporary / "debs.tar", entries, epoch=EPOCH)
    system.copy_into(temporary / "debs.tar", "/srv")
    return f"{directory}/*.deb"


def files_of(system: Session) -> set[str]:
    """Return every path, but for dpkg's own books and the test's files."""
    places = ("/proc", "/sys", "/dev", "/srv", "/var/lib/dpkg", "/var/log", "/var/cache")
    pruned = [word for place in places for word in ("-path", place, "-o")]
    listed = run(system, "find", "/", "-xdev", "(", *pruned[:-1], ")", "-prune", "-o", "-print")
    return set(listed.splitlines())


def test_two_makings_give_the_same_bytes(workshop: Workshop, old: Made) -> None:
    again = workshop.make("1.0.0", "again")

    assert again.packages == old.packages


def test_lintian_finds_no_error(old: Made) -> None:
    (gate,) = old.packages.gates

    assert gate.gate == "DEB01"
    assert f"{SUITE}: 3 packages, 0 errors" in gate.measured


def test_lintians_error_stops_the_packages(workshop: Workshop) -> None:
    # A file that only the system's administrator may put there.
    script = {"lib/toy/one.sh": b"#!/usr/local/bin/odd\n"}

    with pytest.raises(LintianError, match="interpreter-in-usr-local"):
        workshop.make("1.0.0", "refused", script)


def test_packages_say_what_they_need_and_hold_what_they_say(
    old: Made, system: Session, tmp_path: Path
) -> None:
    copy_into(system, old, "old", tmp_path)

    main, extra, _ = old.packages.packages
    told = run(system, "dpkg-deb", "--field", f"old/{main.filename}").rstrip("\n")
    listed = run(system, "sh", "-c", f"dpkg-deb --contents old/{main.filename}")

    assert told == main.control
    assert "Depends: libc6 (>= 2." in main.control
    assert f"Depends: toy3.1 (= {main.package_version})" in extra.control
    assert "lib/libodd.so.3" in listed
    assert "lib/libz.so.1" not in listed
    assert "lib/z/table" not in listed
    assert "extra.py" not in listed


def test_packages_are_installed_upgraded_and_removed_beside_one_of_the_same_commands(
    workshop: Workshop, old: Made, system: Session, tmp_path: Path
) -> None:
    new = workshop.make("1.0.1", "new")
    for name, made in (("old", old), ("new", new)):
        copy_into(system, made, name, tmp_path)
    run(system, "sh", "-c", FOREIGN)
    before = files_of(system)
    cache = f"{ROOT}/lib/toy/__pycache__"

    run(system, "sh", "-c", "dpkg -i old/*.deb")
    assert [run(system, name) for name in ("toy3", "toy3.1", "toy3.1-own")] == ["1.0.0\n"] * 3
    compiled = run(system, "ls", cache).split()
    assert compiled == ["extra.toy31.pyc", "one.toy31.pyc", "only_in_1_0_0.toy31.pyc"]
    assert run(system, "head", "-n1", f"{ROOT}/lib/toy/one.py") == f"#!{ROOT}/bin/toy\n"

    run(system, "dpkg", "-i", "foreign.deb")
    run(system, "sh", "-c", "dpkg -i new/*.deb")
    assert [run(system, name) for name in ("toy3", "toy3.1")] == ["foreign\n"] * 2
    assert run(system, "toy3.1-own") == "1.0.1\n"
    compiled = run(system, "ls", cache).split()
    assert compiled == ["extra.toy31.pyc", "one.toy31.pyc", "only_in_1_0_1.toy31.pyc"]

    run(system, "dpkg", "--remove", "foreign")
    assert [run(system, name) for name in ("toy3", "toy3.1")] == ["1.0.1\n"] * 2
    run(system, "dpkg", "--remove", "toy3.1-extra")
    assert "extra.toy31.pyc" not in run(system, "ls", cache)

    run(system, "dpkg", "-i", "foreign.deb")
    run(system, "dpkg", "--purge", "toy3.1-doc", "toy3.1")
    assert [run(system, name) for name in ("toy3", "toy3.1")] == ["foreign\n"] * 2
    assert run(system, "dpkg", "--verify", "foreign") == ""
    run(system, "dpkg", "--purge", "foreign")
    assert files_of(system) == before


def test_a_package_that_comes_second_leaves_the_names_until_they_are_free(
    old: Made, system: Session, tmp_path: Path
) -> None:
    copy_into(system, old, "old", tmp_path)
    run(system, "sh", "-c", FOREIGN)
    run(system, "dpkg", "-i", "foreign.deb")

    run(system, "sh", "-c", "dpkg -i old/*.deb")
    while_both = [run(system, name) for name in ("toy3", "toy3.1", "toy3.1-own")]
    run(system, "dpkg", "--purge", "foreign")
    alone = [run(system, name) for name in ("toy3", "toy3.1")]

    assert while_both == ["foreign\n", "foreign\n", "1.0.0\n"]
    assert alone == ["1.0.0\n"] * 2
