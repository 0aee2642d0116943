"""What ccache remembers goes into containers and comes back."""

import tarfile
from errno import ENOSPC
from pathlib import Path

import pytest

from pipeline.plan import Job
from pipeline.translate.compiler_cache import compiler_cache_archive, keep_compiler_cache
from tests.fakes import World, make_job, make_world, write_text


@pytest.fixture
def world(tmp_path: Path) -> World:
    return make_world(tmp_path / "project")


@pytest.fixture
def job(world: World) -> Job:
    return make_job(world.ctx)


def left(world: World, job: Job, place: Path, **files: str) -> None:
    """Keep what a container left in its output directory."""
    for name, text in files.items():
        write_text(place / "ccache" / name, text)
    keep_compiler_cache(world.ctx, job, place)


def given(world: World, job: Job, temporary: Path) -> dict[str, str]:
    """Return the files that the next container is given."""
    temporary.mkdir()
    found = {}
    with tarfile.open(compiler_cache_archive(world.ctx, job, temporary)) as archive:
        for member in archive:
            assert (member.uid, member.gid) == (1000, 1000)
            content = archive.extractfile(member)
            if content is not None:
                found[member.name] = content.read().decode()
    return found


def test_the_first_container_gets_an_empty_directory(
    world: World, job: Job, tmp_path: Path
) -> None:
    with tarfile.open(compiler_cache_archive(world.ctx, job, tmp_path)) as archive:
        members = {member.name: member.isdir() for member in archive}

    assert members == {"build": True, "build/out": True, "build/out/ccache": True}


def test_the_next_container_gets_what_the_last_one_left(
    world: World, job: Job, tmp_path: Path
) -> None:
    left(world, job, tmp_path / "first", old="1", kept="1")
    left(world, job, tmp_path / "second", kept="2", new="2")

    assert given(world, job, tmp_path / "third") == {
        "build/out/ccache/kept": "2",
        "build/out/ccache/new": "2",
    }


def test_a_container_that_left_nothing_does_not_empty_it(
    world: World, job: Job, tmp_path: Path
) -> None:
    left(world, job, tmp_path / "first", kept="1")
    left(world, job, tmp_path / "second")

    assert given(world, job, tmp_path / "third") == {"build/out/ccache/kept": "1"}


def test_each_platform_has_its_own(world: World, job: Job, tmp_path: Path) -> None:
    left(world, job, tmp_path / "first", kept="1")

    assert given(world, make_job(world.ctx, "linux-x86_64_v3"), tmp_path / "second") == {}


def test_a_nightly_gets_what_releases_left_and_adds_to_a_cache_of_its_own(
    world: World, job: Job, tmp_path: Path
) -> None:
    """Who can have code compiled can write to a cache, and releases link what is in theirs."""
    branch = job.revision.model_copy(update={"kind": "git", "tag": None})
    nightly = job.model_copy(update={"revision": branch})
    tagged = branch.model_copy(update={"tag": "release-v1.0.0"})
    release = job.model_copy(update={"revision": tagged})
    left(world, release, tmp_path / "first", shared="release", released="1")
    left(world, nightly, tmp_path / "second", shared="nightly", added="1")

    assert given(world, nightly, tmp_path / "third") == {
        "build/out/ccache/added": "1",
        "build/out/ccache/released": "1",
        "build/out/ccache/shared": "nightly",
    }
    assert given(world, release, tmp_path / "fourth") == {
        "build/out/ccache/released": "1",
        "build/out/ccache/shared": "release",
    }


def test_a_copy_that_fails_leaves_the_last_one(
    world: World, job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    left(world, job, tmp_path / "first", kept="1")

    def copy_a_part(_source: Path, target: Path, **_options: object) -> None:
        write_text(target / "part", "2")
        raise OSError(ENOSPC, "disk full")

    monkeypatch.setattr("shutil.copytree", copy_a_part)
    with pytest.raises(OSError, match="disk full"):
        left(world, job, tmp_path / "second", kept="2")

    assert given(world, job, tmp_path / "third") == {"build/out/ccache/kept": "1"}
    cache = world.ctx.work.path("cache", "ccache", job.platform.identifier)
    assert [path.name for path in cache.iterdir()] == ["released"]


def test_what_a_killed_process_left_half_done_does_not_come_back(
    world: World, job: Job, tmp_path: Path
) -> None:
    cache = world.ctx.work.path("cache", "ccache", job.platform.identifier)
    write_text(cache / "released.new" / "old", "0")

    left(world, job, tmp_path / "first", kept="1")

    assert given(world, job, tmp_path / "second") == {"build/out/ccache/kept": "1"}
