"""The tree of a package with one program."""

from pathlib import Path
from typing import Final

import pytest

from pipeline.effects.archives import Entry, write_archive
from pipeline.effects.engine import ContainerStep
from pipeline.environment import ready_environment
from pipeline.errors import PackageError
from pipeline.model.platforms import Mode
from pipeline.package.assembly import Assembled, Translated
from pipeline.package.plain import assemble, input_digests
from pipeline.plan import Job
from tests.factories import make_platform, make_pypy_job
from tests.fakes import (
    ELF,
    EPOCH,
    Ran,
    World,
    given_files,
    make_job,
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
def translated(tmp_path: Path) -> Translated:
    products = tmp_path / "products.tar"
    program = Entry(path="build/source/toy", content=ELF, executable=True)
    write_archive(products, [program], epoch=EPOCH)
    return Translated(source=tmp_path / "source.tar", products=products)


def assembled(world: World, translated: Translated, job: Job | None = None) -> Assembled:
    job = job or make_job(world.ctx)
    environment = ready_environment(world.ctx, "translate", job.placement)
    temporary = world.ctx.root / "temporary"
    temporary.mkdir()
    with stage_output(world.ctx) as stage:
        return assemble(world.ctx, job, translated, environment, temporary, stage)


def test_the_tree_is_what_the_script_made(world: World, translated: Translated) -> None:
    tree = assembled(world, translated)

    assert [(entry.path, entry.executable, entry.link) for entry in tree.entries] == [
        (f"{STEM}/LICENSE", False, None),
        (f"{STEM}/README.md", False, None),
        (f"{STEM}/bin/toy", True, None),
        (f"{STEM}/bin/toy1", False, "toy"),
    ]
    assert (tree.debug, tree.modules, tree.skipped) == ((), (), ())


def test_the_assembly_gets_everything_as_files_and_names(
    world: World, translated: Translated
) -> None:
    seen: dict[str, bytes] = {}
    usual = world.engine.scripts["package"]

    def look(step: ContainerStep) -> Ran:
        seen.update(given_files(step))
        return usual(step)

    world.engine.scripts["package"] = look

    assembled(world, translated)

    (step,) = world.engine.steps
    assert step.command == (
        *("sh", "/build/in/assemble.sh", STEM, "/build/source/toy"),
        *("toy", "toy1"),
    )
    assert seen == {
        "build/in/assemble.sh": b"#!/bin/sh\n",
        "build/in/documents/LICENSE": b"MIT License\n",
        "build/in/documents/README.md": b"# Toy\n",
        "build/source/toy": ELF.read_bytes(),
    }


@pytest.mark.parametrize(
    ("mode", "program"), [(Mode.NATIVE, "strip"), (Mode.CROSS, "aarch64-linux-gnu-strip")]
)
def test_the_program_is_stripped_by_the_tool_for_its_platform(
    mode: Mode, program: str, world: World, translated: Translated
) -> None:
    changes = {"platform": make_platform("linux-aarch64"), "mode": mode}
    job = make_job(world.ctx).model_copy(update=changes)

    assembled(world, translated, job)

    (step,) = world.engine.steps
    assert step.environment["STRIP"] == program


def test_an_assembly_that_makes_another_directory_is_refused(
    world: World, translated: Translated
) -> None:
    world.engine.scripts["package"] = lambda _step: Ran(files={"other/LICENSE": b""})

    with pytest.raises(PackageError, match=rf"reported success, but wrote no directory {STEM}"):
        assembled(world, translated)


@pytest.mark.parametrize("document", ["LICENSE", "README.md"])
def test_a_missing_document_is_named_with_its_config(
    document: str, world: World, translated: Translated
) -> None:
    (world.ctx.root / "translation_configs" / "toy" / document).unlink()

    with pytest.raises(PackageError, match=rf"toy/{document}: missing, but toy\.toml packs it"):
        assembled(world, translated)


def test_another_kind_of_package_is_not_assembled_here(
    world: World, translated: Translated
) -> None:
    with pytest.raises(TypeError, match=r"pypy3\.11-linux-x86_64: its package is of kind pypy"):
        assembled(world, translated, make_pypy_job())


@pytest.mark.parametrize(
    ("path", "old", "new"),
    [
        ("translation_configs/toy/README.md", "Toy", "Tool"),
        ("translation_configs/toy/LICENSE", "MIT", "BSD"),
        ("packaging/tarball/assemble.sh", "sh", "bash"),
    ],
    ids=["document", "licence", "script"],
)
def test_every_file_that_is_packed_or_run_is_an_input(
    path: str, old: str, new: str, world: World
) -> None:
    before = input_digests(world.ctx, make_job(world.ctx))
    replace_text(world.ctx.root / path, old, new)

    assert input_digests(world.ctx, make_job(world.ctx)) != before


def test_a_file_that_is_not_packed_is_no_input(world: World) -> None:
    before = input_digests(world.ctx, make_job(world.ctx))
    write_text(world.ctx.root / "packaging" / "other.sh", "x")

    assert input_digests(world.ctx, make_job(world.ctx)) == before
