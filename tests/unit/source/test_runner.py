"""What goes into a source's one tar file."""

import os
import tarfile
from pathlib import Path
from typing import Final

import pytest

from pipeline.effects.archives import Entry, write_archive
from pipeline.effects.http import OnBytes
from pipeline.errors import SourceError, UnsafeArchiveError
from pipeline.model.artifacts import ArtifactKind
from pipeline.model.configs import Pin
from pipeline.model.records import Revision, SourceTree
from pipeline.plan import Job
from pipeline.source.resolve import local_revision
from pipeline.source.runner import archival_text, make_source, source_inputs
from tests.factories import make_git_revision, make_pypy_job
from tests.fakes import (
    EPOCH,
    Answer,
    FakeHttp,
    World,
    digest,
    make_job,
    make_world,
    replace_text,
    sdist,
    stage_output,
    wheel,
    write_text,
)

SOURCE_ARCHIVE: Final = "pypy3.11-v7.3.23-src.tar.gz"


@pytest.fixture
def world(tmp_path: Path) -> World:
    return make_world(tmp_path / "project")


def directory(world: World) -> Path:
    return world.ctx.root / "translation_configs" / "toy"


def output(world: World) -> Path:
    return world.ctx.work.path("stage", "k" * 64)


def read_tar(path: Path) -> tuple[dict[str, tarfile.TarInfo], dict[str, bytes]]:
    """Return the members and contents of an archive."""
    contents = {}
    with tarfile.open(path) as archive:
        members = {member.name: member for member in archive}
        for name, member in members.items():
            content = archive.extractfile(member) if member.isfile() else None
            if content is not None:
                contents[name] = content.read()
    return members, contents


def packed(
    world: World, job: Job | None = None
) -> tuple[SourceTree, dict[str, tarfile.TarInfo], dict[str, bytes]]:
    """Return the stage's record, and the members and contents of what it packed."""
    with stage_output(world.ctx) as stage:
        record = make_source(world.ctx, job or make_job(world.ctx), stage)
    return record, *read_tar(stage.directory / record.archive)


def test_toolchain_and_source_are_packed_where_the_translation_looks_for_them(
    world: World,
) -> None:
    _, members, contents = packed(world)

    assert {name for name in contents if name.startswith("build/toolchain/")} == {
        "build/toolchain/rpython/__init__.py",
        "build/toolchain/rpython/translator/__init__.py",
        "build/toolchain/rpython/translator/c/src/signals.h",
        "build/toolchain/py/__init__.py",
        "build/toolchain/py-1.11.0.dist-info/METADATA",
    }
    assert contents["build/shim/sitecustomize.py"] == b"import sys\n"
    assert contents["build/source/toylang/cli.py"] == b"NAME = 'toy'\n"
    assert {name for name in members if name.count("/") == 1} == {
        *("build/out", "build/shim", "build/source", "build/tmp", "build/toolchain")
    }
    assert members["build/out"].isdir()
    assert members["build/tmp"].isdir()


def test_only_the_packages_of_an_sdist_are_taken(world: World) -> None:
    _, members, _ = packed(world)

    assert not [name for name in members if "setup.py" in name or "docs" in name]


def test_an_sdist_with_two_top_directories_is_refused(world: World) -> None:
    two = sdist({"rpython-0.2.1/rpython/__init__.py": b"", "other/__init__.py": b""})
    world.http.files["rpython-0.2.1.tar.gz"] = two

    with pytest.raises(SourceError, match=r"rpython-0\.2\.1\.tar\.gz: 2 top directories"):
        packed(world)


def test_caches_are_not_packed(world: World) -> None:
    write_text(directory(world) / "toylang" / "__pycache__" / "cli.pyc", "x")
    write_text(directory(world) / "target.pyc", "x")

    _, members, _ = packed(world)

    assert not [name for name in members if "pyc" in name]


def test_members_belong_to_the_builder_and_have_the_source_s_time(world: World) -> None:
    _, members, _ = packed(world)

    assert {(member.uid, member.gid) for member in members.values()} == {(1000, 1000)}
    assert {member.mtime for member in members.values()} == {EPOCH}


def test_equal_sources_give_equal_bytes(world: World, tmp_path: Path) -> None:
    other = make_world(tmp_path / "elsewhere")
    os.utime(directory(other) / "target.py", (1, 1))

    assert packed(other)[0] == packed(world)[0]


def test_only_pinned_files_are_fetched(world: World) -> None:
    packed(world)

    assert world.http.downloads == [
        "https://files.test/rpython-0.2.1.tar.gz",
        "https://files.test/py-1.11.0-py2.py3-none-any.whl",
    ]


class ChangingHttp(FakeHttp):
    """Somebody edits a source file while the toolchain is fetched."""

    def __init__(self, edited: Path) -> None:
        super().__init__()
        self._edited = edited

    def download(self, pin: Pin, directory: Path, on_bytes: OnBytes = lambda _count: None) -> Path:
        """Edit, and then fetch."""
        write_text(self._edited, f"edited during {pin.filename}")
        return super().download(pin, directory, on_bytes)


def test_a_source_that_changes_while_it_is_packed_is_refused(world: World) -> None:
    http = ChangingHttp(directory(world) / "target.py")

    with pytest.raises(SourceError, match=r"toy: changed while it was packed\. Run again"):
        packed(world.again(http=http))


@pytest.mark.parametrize(
    ("filename", "content"),
    [
        ("rpython-0.2.1.tar.gz", sdist({"rpython-0.2.1/../../evil": b""})),
        ("py-1.11.0-py2.py3-none-any.whl", wheel({"../evil": b""})),
        ("rpython-0.2.1.tar.gz", b"no archive"),
        ("py-1.11.0-py2.py3-none-any.whl", b"no archive"),
    ],
    ids=["sdist climbs out", "wheel climbs out", "no sdist", "no wheel"],
)
def test_a_hostile_toolchain_is_refused(filename: str, content: bytes, world: World) -> None:
    world.http.files[filename] = content

    with pytest.raises(UnsafeArchiveError, match=filename):
        packed(world)


def test_a_directory_of_this_repository_is_not_released(world: World) -> None:
    record, _, contents = packed(world)

    assert record.source_archive is None
    assert "build/source/.hg_archival.txt" not in contents


@pytest.mark.parametrize(
    ("revision", "text"),
    [
        pytest.param(
            make_git_revision(),
            "node: 194f9f44b505\nbranch: release-pypy3.11-v7.x\ntag: release-pypy3.11-v7.3.23\n",
            id="release",
        ),
        pytest.param(
            make_git_revision(number=187671, branch="py3.11", tag=None),
            "node: 194f9f44b505\nbranch: py3.11\n",
            id="nightly",
        ),
        pytest.param(
            make_git_revision(kind="checkout", branch=None, tag=None, dirty=True),
            "node: 194f9f44b505+\nbranch: unknown\n",
            id="changed checkout",
        ),
    ],
)
def test_rpython_is_told_the_revision_as_mercurial_would(revision: Revision, text: str) -> None:
    assert archival_text(revision) == text.encode()


@pytest.fixture
def exporting(world: World) -> World:
    """A world in which git has the commit of PyPy's release."""

    def export(argv: tuple[str, ...]) -> None:
        (place,) = (word.removeprefix("--output=") for word in argv if "--output=" in word)
        entries = [
            Entry(path="pypy/goal/targetpypystandalone.py", content=b"target = 1\n"),
            Entry(path="rpython/__main__.py", content=b"main()\n", executable=True),
            Entry(path="lib_pypy/link.py", link="../pypy/goal/targetpypystandalone.py"),
        ]
        write_archive(Path(place), entries, epoch=EPOCH)

    world.process.expect("git", "archive", answer=Answer(effect=export))
    return world


def test_a_commit_is_packed_with_what_tells_its_revision(exporting: World) -> None:
    job = make_pypy_job()

    record, members, contents = packed(exporting, job)

    assert record.revision == job.revision
    assert contents["build/source/pypy/goal/targetpypystandalone.py"] == b"target = 1\n"
    assert members["build/source/rpython/__main__.py"].mode == 0o755
    assert members["build/source/lib_pypy/link.py"].linkname == (
        "../pypy/goal/targetpypystandalone.py"
    )
    assert contents["build/source/.hg_archival.txt"] == archival_text(job.revision)
    assert {member.mtime for member in members.values()} == {job.revision.epoch}


def test_a_source_with_its_own_rpython_needs_no_toolchain(exporting: World) -> None:
    _, members, _ = packed(exporting, make_pypy_job())

    assert not [name for name in members if name.startswith("build/toolchain")]
    assert exporting.http.downloads == []


def test_a_released_commit_is_released_as_source_too(exporting: World) -> None:
    record, _, _ = packed(exporting, make_pypy_job())

    assert record.source_archive is not None
    path = output(exporting) / SOURCE_ARCHIVE
    members, contents = read_tar(path)
    top = "pypy3.11-v7.3.23-src"
    assert (record.source_archive.filename, record.source_archive.platform) == (path.name, None)
    assert record.source_archive.kind is ArtifactKind.SOURCE_GZ
    assert set(contents) == {
        f"{top}/.hg_archival.txt",
        f"{top}/pypy/goal/targetpypystandalone.py",
        f"{top}/rpython/__main__.py",
    }
    assert {member.name.split("/")[0] for member in members.values()} == {top}
    assert {(member.uid, member.gid) for member in members.values()} == {(0, 0)}


@pytest.fixture
def local(world: World, tmp_path: Path) -> Job:
    """The job of a nightly of a directory without git."""
    place = tmp_path / "pypy"
    write_text(place / "rpython" / "__main__.py", "main()\n")
    write_text(place / "rpython" / "__pycache__" / "x.pyc", "x")
    return make_pypy_job(
        revision=local_revision(world.ctx, place), source_directory=str(place), source_archive=None
    )


def test_a_local_directory_is_packed_as_it_is_and_not_released(world: World, local: Job) -> None:
    record, _, contents = packed(world, local)

    sources = {name for name in contents if name.startswith("build/source/")}
    assert sources == {"build/source/rpython/__main__.py", "build/source/.hg_archival.txt"}
    assert contents["build/source/.hg_archival.txt"].startswith(
        f"node: {local.revision.revision[:12]}+\n".encode()
    )
    assert record.source_archive is None


def test_of_a_local_checkout_only_what_git_names_is_packed(
    world: World, local: Job, tmp_path: Path
) -> None:
    answers = {
        "HEAD": Answer(stdout=f"{'a' * 40}\n"),
        "ls-files": Answer(stdout="rpython/__main__.py\0"),
        "--is-shallow-repository": Answer(stdout="false\n"),
        "status": Answer(stdout="?? new.py\n"),
        "rev-list": Answer(stdout="3\n"),
        "show": Answer(stdout=f"{EPOCH}\n"),
    }
    for word, answer in answers.items():
        world.process.expect("git", word, answer=answer)
    write_text(tmp_path / "pypy" / "ignored.log", "x")
    (tmp_path / "pypy" / ".git").mkdir()
    job = local.model_copy(update={"revision": local_revision(world.ctx, tmp_path / "pypy")})

    _, _, contents = packed(world, job)

    assert "build/source/rpython/__main__.py" in contents
    assert "build/source/ignored.log" not in contents


def test_a_local_directory_that_changed_since_it_was_resolved_is_refused(
    world: World, local: Job, tmp_path: Path
) -> None:
    write_text(tmp_path / "pypy" / "new.py", "")

    with pytest.raises(SourceError, match=r"pypy: changed while it was packed\. Run again"):
        packed(world, local)


def inputs(world: World) -> dict[str, object]:
    return source_inputs(world.ctx, make_job(world.ctx))


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("toy/target.py", "main", "other"),
        ("../dockerfiles/bootstrap/sitecustomize.py", "sys", "os"),
        ("toy.toml", "2026-01-01", "2026-01-02"),
        ("pins.toml", digest("sdist"), digest("another sdist")),
        ("toy.toml", '["rpython", "py"]', '["rpython"]'),
    ],
    ids=["source", "shim", "date", "digest of a pin", "pins"],
)
def test_whatever_is_packed_is_an_input(file: str, old: str, new: str, world: World) -> None:
    before = inputs(world)
    replace_text(world.ctx.root / "translation_configs" / file, old, new)

    after = inputs(world.again())

    assert after != before


def test_where_a_pin_is_fetched_from_is_no_input(world: World) -> None:
    before = inputs(world)
    replace_text(world.ctx.root / "translation_configs" / "pins.toml", "files.test", "mirror.test")

    assert inputs(world.again()) == before


@pytest.mark.parametrize(
    "override",
    [
        pytest.param({"revision": "0" * 40}, id="commit"),
        pytest.param({"branch": "main"}, id="branch"),
        pytest.param({"tag": None}, id="tag"),
        pytest.param({"dirty": True}, id="dirty"),
        pytest.param({"epoch": EPOCH}, id="time"),
    ],
)
def test_what_the_packed_source_says_of_itself_is_an_input(
    override: dict[str, object], world: World
) -> None:
    other = make_pypy_job(revision=make_git_revision(**override))

    assert source_inputs(world.ctx, other) != source_inputs(world.ctx, make_pypy_job())


def test_the_name_of_the_released_source_is_an_input(world: World) -> None:
    nightly = make_pypy_job(source_archive="pypy-c-jit-187671-194f9f44b505-src.tar.gz")

    assert source_inputs(world.ctx, nightly) != source_inputs(world.ctx, make_pypy_job())


def test_a_nightly_s_number_is_not_packed(world: World) -> None:
    numbered = make_pypy_job(revision=make_git_revision(number=187671))

    assert source_inputs(world.ctx, numbered) == source_inputs(world.ctx, make_pypy_job())
