"""How a released interpreter comes into the container."""

import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import pytest

from pipeline.effects.archives import Compression, Entry, write_archive
from pipeline.effects.files import describe
from pipeline.errors import TranslationError, UnsafeArchiveError
from pipeline.model.artifacts import ArtifactKind
from pipeline.model.records import BootstrapRelease
from pipeline.plan import Job
from pipeline.translate.bootstrap import bootstrap_archives, bootstrap_path
from tests.fakes import EPOCH, World, make_job, make_world

NAME: Final = "pypy2.7-v7.3.23-linux64.tar.zst"
TOP: Final = "pypy2.7-v7.3.23-linux64"
ENTRIES: Final = (
    Entry(path=f"{TOP}/bin/pypy2.7", content=b"\x7fELF", executable=True),
    Entry(path=f"{TOP}/bin/pypy", link="pypy2.7"),
    Entry(path=f"{TOP}/bin/libpypy-c.so", content=b"\x7fELF library"),
    Entry(path=f"{TOP}/lib-python/os.py", content=b"# os\n"),
)


@pytest.fixture
def world(tmp_path: Path) -> World:
    return make_world(tmp_path / "project")


@pytest.fixture
def temporary(tmp_path: Path) -> Path:
    """An empty directory."""
    directory = tmp_path / "temporary"
    directory.mkdir()
    return directory


def bootstrapped(world: World, entries: Sequence[Entry] = ENTRIES) -> Job:
    """Return a job whose bootstrap release is in the cache and has these *entries*."""
    path = world.ctx.root / NAME
    write_archive(path, entries, epoch=1, compression=Compression.ZSTD)
    artifact = describe(path, ArtifactKind.ARCHIVE_ZST, "linux-x86_64")
    release = BootstrapRelease(release="pypy2.7-v7.3.23", artifact=artifact, executable="pypy2.7")
    cached = bootstrap_path(world.ctx, release)
    cached.parent.mkdir(parents=True)
    path.rename(cached)
    return make_job(world.ctx).model_copy(update={"bootstrap": release})


def members(world: World, job: Job, temporary: Path) -> dict[str, tarfile.TarInfo]:
    """Return what the container is given, by name."""
    (archive,) = bootstrap_archives(world.ctx, job, temporary)
    with tarfile.open(archive) as opened:
        return {member.name: member for member in opened}


def test_a_job_without_one_is_given_nothing(world: World, temporary: Path) -> None:
    assert bootstrap_archives(world.ctx, make_job(world.ctx), temporary) == ()
    assert list(temporary.iterdir()) == []


def test_archives_are_cached_by_their_digest(world: World) -> None:
    job = bootstrapped(world)

    assert job.bootstrap is not None
    assert bootstrap_path(world.ctx, job.bootstrap) == world.ctx.work.path(
        "cache", "bootstrap", job.bootstrap.artifact.sha256, NAME
    )


def test_its_files_lie_below_the_directory_that_the_command_starts_it_from(
    world: World, temporary: Path
) -> None:
    found = members(world, bootstrapped(world), temporary)

    assert [name for name, member in found.items() if not member.isdir()] == [
        "build/bootstrap/bin/libpypy-c.so",
        "build/bootstrap/bin/pypy",
        "build/bootstrap/bin/pypy2.7",
        "build/bootstrap/lib-python/os.py",
    ]


def test_its_program_can_be_executed_and_its_links_are_kept(world: World, temporary: Path) -> None:
    found = members(world, bootstrapped(world), temporary)

    assert {name.rpartition("/")[2]: member.mode for name, member in found.items()} == {
        **dict.fromkeys(("build", "bootstrap", "bin", "lib-python"), 0o755),
        "pypy2.7": 0o755,
        "pypy": 0o777,
        "libpypy-c.so": 0o644,
        "os.py": 0o644,
    }
    assert found["build/bootstrap/bin/pypy"].linkname == "pypy2.7"


def test_its_files_belong_to_the_one_who_builds_and_have_the_time_of_the_source(
    world: World, temporary: Path
) -> None:
    found = members(world, bootstrapped(world), temporary).values()

    assert {(item.uid, item.gid, item.mtime) for item in found} == {(1000, 1000, EPOCH)}


def test_an_archive_with_two_top_directories_is_refused(world: World, temporary: Path) -> None:
    job = bootstrapped(world, (*ENTRIES, Entry(path="other/file")))

    with pytest.raises(TranslationError) as caught:
        bootstrap_archives(world.ctx, job, temporary)

    assert str(caught.value) == f"{NAME}: 2 top directories, not one"


def test_an_archive_that_reaches_outside_is_refused(world: World, temporary: Path) -> None:
    job = bootstrapped(world, (*ENTRIES, Entry(path=f"{TOP}/out", link="/etc/passwd")))

    with pytest.raises(UnsafeArchiveError, match=r"'out' links to '/etc/passwd'"):
        bootstrap_archives(world.ctx, job, temporary)
