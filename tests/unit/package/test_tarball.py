"""How an executable becomes archives."""

import os
import tarfile
from pathlib import Path
from typing import Final

import pytest

from pipeline.effects.archives import uncompressed_digest
from pipeline.effects.engine import ContainerStep
from pipeline.environment import ready_environment
from pipeline.errors import PackageError, UnsafeArchiveError
from pipeline.model.base import pretty_json
from pipeline.model.records import Environment, Package
from pipeline.package.tarball import make_package, package_inputs
from tests.crafted import Craft, make_craft
from tests.fakes import (
    ELF,
    EPOCH,
    Ran,
    World,
    digest,
    make_world,
    replace_text,
    stage_output,
    write_text,
)

STEM: Final = "toy-v1.2.3-linux64"


@pytest.fixture
def world(tmp_path: Path) -> World:
    return make_world(tmp_path / "project")


@pytest.fixture
def craft(world: World) -> Craft:
    return make_craft(world)


def environment_of(world: World, craft: Craft) -> Environment:
    return ready_environment(world.ctx, "translate", craft.job.platform)


def packed(world: World, craft: Craft) -> tuple[Package, Path]:
    environment = environment_of(world, craft)
    with stage_output(world.ctx) as stage:
        record = make_package(world.ctx, craft.job, craft.info, ELF, environment, stage)
    return record, stage.directory


def test_an_archive_comes_in_both_formats_with_the_same_tree(world: World, craft: Craft) -> None:
    record, directory = packed(world, craft)

    names = [item.filename for item in record.artifacts]
    digests = {uncompressed_digest(directory / name) for name in names}
    assert names == [f"{STEM}.tar.gz", f"{STEM}.tar.zst"]
    assert len(digests) == 1
    assert {item.platform for item in record.artifacts} == {"linux-x86_64"}


def test_an_archive_holds_what_was_assembled_below_one_directory(
    world: World, craft: Craft
) -> None:
    _, directory = packed(world, craft)

    with tarfile.open(directory / f"{STEM}.tar.gz") as archive:
        members = {member.name: member for member in archive}
    assert list(members) == [
        STEM,
        f"{STEM}/BUILD-INFO.json",
        f"{STEM}/LICENSE",
        f"{STEM}/README.md",
        f"{STEM}/bin",
        f"{STEM}/bin/toy",
        f"{STEM}/bin/toy1",
    ]
    assert members[f"{STEM}/bin/toy"].mode == 0o755
    assert members[f"{STEM}/LICENSE"].mode == 0o644
    assert members[f"{STEM}/bin/toy1"].linkname == "toy"
    assert {(item.uid, item.gid, item.mtime) for item in members.values()} == {(0, 0, EPOCH)}


def test_equal_inputs_give_equal_bytes(world: World, craft: Craft, tmp_path: Path) -> None:
    """Also from another checkout, under another umask."""
    first, _ = packed(world, craft)
    previous = os.umask(0o077)
    try:
        other = make_world(tmp_path / "elsewhere")
        second, _ = packed(other, make_craft(other))
    finally:
        os.umask(previous)

    assert second == first


def test_the_assembly_gets_everything_as_files_and_names(world: World, craft: Craft) -> None:
    seen: dict[str, bytes] = {}
    usual = world.engine.scripts["package"]

    def look(step: ContainerStep) -> Ran:
        (given,) = step.inputs
        with tarfile.open(given) as archive:
            for member in archive:
                content = archive.extractfile(member)
                if content is not None:
                    seen[member.name] = content.read()
        return usual(step)

    world.engine.scripts["package"] = look

    packed(world, craft)

    (step,) = world.engine.steps
    assert step.command == ("sh", "/build/in/assemble.sh", STEM, "toy", "toy1")
    assert step.environment["SOURCE_DATE_EPOCH"] == str(EPOCH)
    assert seen == {
        "build/in/assemble.sh": b"#!/bin/sh\n",
        "build/in/documents/BUILD-INFO.json": pretty_json(craft.info),
        "build/in/documents/LICENSE": b"MIT License\n",
        "build/in/documents/README.md": b"# Toy\n",
        "build/in/executable": ELF.read_bytes(),
    }


def test_a_failing_assembly_shows_what_it_wrote(world: World, craft: Craft) -> None:
    world.engine.scripts["package"] = lambda _step: Ran(status=1, lines=("strip: no such file",))

    with pytest.raises(PackageError) as caught:
        packed(world, craft)

    assert str(caught.value) == "tarball/assemble.sh: exit status 1\nstrip: no such file"


def test_an_assembly_that_makes_another_directory_is_refused(world: World, craft: Craft) -> None:
    world.engine.scripts["package"] = lambda _step: Ran(files={"other/LICENSE": b""})

    with pytest.raises(PackageError, match=rf"wrote no directory /build/out/{STEM}"):
        packed(world, craft)


def test_an_assembly_that_writes_outside_is_refused(world: World, craft: Craft) -> None:
    world.engine.scripts["package"] = lambda _step: Ran(files={"../../evil": b""})

    with pytest.raises(UnsafeArchiveError, match="evil"):
        packed(world, craft)


@pytest.mark.parametrize("document", ["LICENSE", "README.md"])
def test_a_missing_document_is_named_with_its_config(
    document: str, world: World, craft: Craft
) -> None:
    (world.ctx.root / "translation_configs" / "toy" / document).unlink()

    with pytest.raises(PackageError, match=rf"toy/{document}: missing, but toy\.toml packs it"):
        packed(world, craft)


def inputs(world: World) -> dict[str, object]:
    craft = make_craft(world)
    environment = Environment(
        name="translate", digest=digest("e"), image_id="sha256:1", packages=()
    )
    return package_inputs(world.ctx, craft.job, craft.info, environment)


@pytest.mark.parametrize(
    ("path", "old", "new"),
    [
        ("translation_configs/toy/README.md", "Toy", "Tool"),
        ("translation_configs/toy/LICENSE", "MIT", "BSD"),
        ("packaging/tarball/assemble.sh", "sh", "bash"),
        ("translation_configs/toy.toml", '["toy1"]', '["toy2"]'),
        ("translation_configs/toy.toml", '"1.2.3"', '"1.2.4"'),
        ("translation_configs/toy.toml", "incminimark", "minimark"),
        ("translation_configs/pins.toml", digest("sdist"), digest("another sdist")),
    ],
    ids=["document", "licence", "assembly", "links", "version", "collector", "toolchain"],
)
def test_whatever_decides_the_bytes_is_an_input(
    path: str, old: str, new: str, world: World
) -> None:
    before = inputs(world)
    replace_text(world.ctx.root / path, old, new)

    after = inputs(world.again())

    assert after != before


def test_a_file_that_is_not_packed_is_no_input(world: World) -> None:
    before = inputs(world)
    write_text(world.ctx.root / "packaging" / "other.sh", "x")

    assert inputs(world) == before


def test_the_description_does_not_tell_the_worker_s_make_jobs(craft: Craft) -> None:
    assert craft.info.command == (
        *("rpython", "--batch", "--gc=incminimark", "--opt=jit", "--lldebug"),
        *("target.py", "--fast"),
    )
    assert (craft.info.gc, craft.info.jit) == ("incminimark", True)
