"""Which source is meant, and what goes into its one tar file."""

import os
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest

from pipeline.effects.http import OnBytes
from pipeline.errors import SourceError, UnsafeArchiveError
from pipeline.model.configs import Pin
from pipeline.model.records import Revision, SourceTree
from pipeline.source import make_source, resolve_revision, source_inputs
from tests.fakes import (
    EPOCH,
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


@pytest.fixture
def world(tmp_path: Path) -> World:
    return make_world(tmp_path / "project")


def directory(world: World) -> Path:
    return world.ctx.root / "translation_configs" / "toy"


def resolved(world: World) -> Revision:
    return resolve_revision(world.ctx, world.ctx.config.interpreters["toy"])


def test_a_revision_is_of_the_configured_date(world: World) -> None:
    revision = resolved(world)

    assert (revision.kind, revision.number, revision.epoch) == ("directory", 20260101, EPOCH)


CHANGES: Final[dict[str, Callable[[Path], object]]] = {
    "content": lambda top: write_text(top / "target.py", "other\n"),
    "new file": lambda top: write_text(top / "new.py", ""),
    "removed file": lambda top: (top / "target.py").unlink(),
    "name": lambda top: (top / "target.py").rename(top / "targets.py"),
    "moved file": lambda top: (top / "target.py").rename(top / "toylang" / "target.py"),
    "executable bit": lambda top: (top / "target.py").chmod(0o755),
    "new link": lambda top: (top / "link.py").symlink_to("target.py"),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_revision_changes_with_what_is_packed(
    change: Callable[[Path], object], world: World
) -> None:
    before = resolved(world).revision
    change(directory(world))

    after = resolved(world).revision

    assert after != before


def test_a_revision_changes_with_where_a_link_points(world: World) -> None:
    link = directory(world) / "link.py"
    link.symlink_to("target.py")
    before = resolved(world).revision
    link.unlink()
    link.symlink_to("README.md")

    after = resolved(world).revision

    assert after != before


IRRELEVANT: Final[dict[str, Callable[[Path], object]]] = {
    "time": lambda top: os.utime(top / "target.py", (1, 1)),
    "bytecode": lambda top: write_text(top / "toylang" / "__pycache__" / "cli.pyc", "x"),
    "old bytecode": lambda top: write_text(top / "target.pyc", "x"),
    "test cache": lambda top: write_text(top / ".pytest_cache" / "v", "x"),
    "examples cache": lambda top: write_text(top / ".hypothesis" / "e", "x"),
    "other permissions": lambda top: (top / "target.py").chmod(0o600),
    "empty directory": lambda top: (top / "empty").mkdir(),
}


@pytest.mark.parametrize("change", IRRELEVANT.values(), ids=IRRELEVANT)
def test_a_revision_does_not_change_with_what_is_not_packed(
    change: Callable[[Path], object], world: World
) -> None:
    before = resolved(world).revision
    change(directory(world))

    after = resolved(world).revision

    assert after == before


def test_a_revision_is_the_same_in_every_checkout(world: World, tmp_path: Path) -> None:
    other = make_world(tmp_path / "__pycache__" / "another checkout")

    assert resolved(other) == resolved(world)


@pytest.mark.parametrize("how", ["missing", "empty"])
def test_a_source_without_files_is_refused(how: str, world: World, tmp_path: Path) -> None:
    directory(world).rename(tmp_path / "away")
    if how == "empty":
        directory(world).mkdir()

    with pytest.raises(SourceError, match=r"toy: no source files\. Check source\.path"):
        resolved(world)


def packed(world: World) -> tuple[SourceTree, dict[str, tarfile.TarInfo], dict[str, bytes]]:
    """Return the stage's record, and the members and contents of what it packed."""
    job = make_job(world.ctx)
    with stage_output(world.ctx) as stage:
        record = make_source(world.ctx, job, stage)
    contents = {}
    with tarfile.open(stage.directory / record.archive) as archive:
        members = {member.name: member for member in archive}
        for name, member in members.items():
            content = archive.extractfile(member)
            if content is not None:
                contents[name] = content.read()
    return record, members, contents


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
    assert members["build/out"].isdir()
    assert members["build/tmp"].isdir()


def test_only_the_packages_of_an_sdist_are_taken(world: World) -> None:
    _, members, _ = packed(world)

    assert not [name for name in members if "setup.py" in name or "docs" in name]


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
