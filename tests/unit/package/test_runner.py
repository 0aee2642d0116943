"""How a tree becomes archives, and what they say of themselves."""

import os
import tarfile
from dataclasses import replace
from pathlib import Path
from typing import Final

import pytest

from pipeline.effects.archives import Entry, uncompressed_digest, unpack, write_archive
from pipeline.effects.files import sha256_of
from pipeline.environment import ready_environment
from pipeline.model.artifacts import ArtifactKind
from pipeline.model.base import pretty_json
from pipeline.model.records import BuildInfo, Environment, Package
from pipeline.package import pypy
from pipeline.package.assembly import Assembled, Translated
from pipeline.package.runner import (
    PackageInput,
    build_info,
    input_key,
    make_package,
    package_inputs,
    release_input_key,
)
from pipeline.plan import Job
from tests.factories import (
    ROOT,
    make_config,
    make_pypy_job,
    make_pypy_package,
    make_source_tree,
    make_translation,
)
from tests.fakes import ELF, EPOCH, World, digest, make_job, make_world, replace_text, stage_output

STEM: Final = "toy-v1.2.3-linux64"
PYPY: Final = "pypy3.11-v7.3.23-linux64"


@pytest.fixture
def world(tmp_path: Path) -> World:
    return make_world(tmp_path / "project")


@pytest.fixture
def job(world: World) -> Job:
    return make_job(world.ctx)


def described(world: World, job: Job) -> BuildInfo:
    return build_info(world.ctx, job, make_source_tree(), make_translation(), digest("key"))


def packed(world: World, job: Job, info: BuildInfo) -> tuple[Package, Path]:
    environment = ready_environment(world.ctx, "translate", job.placement)
    products = world.ctx.root / "products.tar"
    program = Entry(path="build/source/toy", content=ELF, executable=True)
    write_archive(products, [program], epoch=EPOCH)
    given = PackageInput(
        info=info,
        translated=Translated(source=world.ctx.root / "source.tar", products=products),
    )
    with stage_output(world.ctx) as stage:
        record = make_package(world.ctx, job, given, environment, stage)
    return record, stage.directory


def test_an_archive_comes_in_both_formats_with_the_same_tree(world: World, job: Job) -> None:
    record, directory = packed(world, job, described(world, job))

    names = [item.filename for item in record.artifacts]
    digests = {uncompressed_digest(directory / name) for name in names}
    assert names == [f"{STEM}.tar.gz", f"{STEM}.tar.zst"]
    assert len(digests) == 1
    assert {item.platform for item in record.artifacts} == {"linux-x86_64"}
    assert [item.sha256 for item in record.artifacts] == [
        sha256_of(directory / name) for name in names
    ]


def test_an_archive_holds_what_was_assembled_below_one_directory(world: World, job: Job) -> None:
    _, directory = packed(world, job, described(world, job))

    with tarfile.open(directory / f"{STEM}.tar.gz") as archive:
        members = {member.name: member for member in archive}
        content = archive.extractfile(f"{STEM}/BUILD-INFO.json")
        assert content is not None
        assert content.read() == pretty_json(described(world, job))
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


def test_equal_inputs_give_equal_bytes(world: World, job: Job, tmp_path: Path) -> None:
    """Also from another checkout, under another umask."""
    first, _ = packed(world, job, described(world, job))
    previous = os.umask(0o077)
    try:
        other = make_world(tmp_path / "elsewhere")
        there = make_job(other.ctx)
        second, _ = packed(other, there, described(other, there))
    finally:
        os.umask(previous)

    assert second == first


@pytest.fixture
def pypy_tree(monkeypatch: pytest.MonkeyPatch) -> Assembled:
    """What the packager makes of PyPy, in short."""
    tree = Assembled(
        entries=(Entry(path=f"{PYPY}/bin/pypy3.11", content=ELF, executable=True),),
        debug=(Entry(path=f"{PYPY}-debug/bin/pypy3.11.debug", content=b"symbols"),),
        modules=("_ssl", "lzma"),
        skipped=("_tkinter",),
    )
    monkeypatch.setattr(pypy, "assemble", lambda *_arguments: tree)
    return tree


def shipped(world: World) -> World:
    """The same world with the configuration that is shipped."""
    return world.again(config=make_config())


@pytest.mark.usefixtures("pypy_tree")
def test_debug_symbols_are_packed_apart(world: World) -> None:
    job = make_pypy_job()

    record, directory = packed(world, job, described(shipped(world), job))

    kinds = {item.kind: item.filename for item in record.artifacts}
    assert kinds[ArtifactKind.DEBUG_ZST] == f"{PYPY}-debug.tar.zst"
    assert tree_of(directory / kinds[ArtifactKind.DEBUG_ZST]) == {
        f"{PYPY}-debug/bin/pypy3.11.debug": b"symbols"
    }
    assert set(tree_of(directory / kinds[ArtifactKind.ARCHIVE_ZST])) == {
        f"{PYPY}/BUILD-INFO.json",
        f"{PYPY}/bin/pypy3.11",
    }


def tree_of(path: Path) -> dict[str, bytes]:
    """Return the files of an archive."""
    files = path.parent / f"files of {path.name}"
    unpack(path, files)
    return {
        found.relative_to(files).as_posix(): found.read_bytes()
        for found in files.rglob("*")
        if found.is_file()
    }


def test_the_record_says_which_modules_were_built(world: World, pypy_tree: Assembled) -> None:
    job = make_pypy_job()

    record, _ = packed(world, job, described(shipped(world), job))

    assert (record.modules, record.skipped) == (pypy_tree.modules, pypy_tree.skipped)


def inputs(world: World, **changes: str) -> dict[str, object]:
    job = make_job(world.ctx)
    environment = Environment(
        name="translate", digest=digest("e"), image_id="sha256:1", packages=()
    ).model_copy(update=changes)
    return package_inputs(world.ctx, job, described(world, job), environment)


@pytest.mark.parametrize(
    ("path", "old", "new"),
    [
        ("translation_configs/toy/README.md", "Toy", "Tool"),
        ("packaging/tarball/assemble.sh", "sh", "bash"),
        ("translation_configs/toy.toml", '["toy1"]', '["toy2"]'),
        ("translation_configs/toy.toml", '"1.2.3"', '"1.2.4"'),
        ("translation_configs/toy.toml", "incminimark", "minimark"),
        ("translation_configs/pins.toml", digest("sdist"), digest("another sdist")),
    ],
    ids=["document", "assembly", "links", "version", "collector", "toolchain"],
)
def test_whatever_decides_the_bytes_is_an_input(
    path: str, old: str, new: str, world: World
) -> None:
    before = inputs(world)
    replace_text(world.ctx.root / path, old, new)

    after = inputs(world.again())

    assert after != before


def test_the_environment_s_content_is_an_input_and_its_image_s_id_is_none(world: World) -> None:
    before = inputs(world)

    assert inputs(world, digest=digest("other")) != before
    assert inputs(world, image_id="sha256:2") == before


def test_the_description_does_not_tell_the_worker_s_make_jobs(world: World, job: Job) -> None:
    info = described(world, job)

    assert info.command == (
        *("rpython", "--batch", "--gc=incminimark", "--opt=jit", "--lldebug", "--output=toy"),
        *("target.py", "--fast"),
    )
    assert (info.gc, info.jit) == ("incminimark", True)


def test_the_description_names_every_pin_that_went_in(world: World, job: Job) -> None:
    pypy_job = make_pypy_job()
    package = make_pypy_package()

    info = described(shipped(world), pypy_job)

    assert described(world, job).pins == {"rpython": digest("sdist"), "py": digest("wheel")}
    assert set(info.pins) == set(package.pins)


def test_the_description_has_the_language_version_of_the_source(world: World) -> None:
    assert described(shipped(world), make_pypy_job()).language_version == "3.11.15"


# --- what is known before anything is translated --------------------------------------------


def key_of(
    world: World, job: Job | None = None, *, translation: str = "t", environment: str = "e"
) -> str:
    """Return the input key of a job, by default of the toy's."""
    job = job or make_job(world.ctx)
    return input_key(world.ctx, job, digest(translation), digest(environment))


@pytest.mark.parametrize(
    ("path", "old", "new"),
    [
        ("translation_configs/toy/README.md", "Toy", "Tool"),
        ("translation_configs/toy/LICENSE", "MIT", "BSD"),
        ("translation_configs/toy/target.py", "main", "other"),
        ("packaging/tarball/assemble.sh", "sh", "bash"),
        ("translation_configs/toy.toml", '["toy1"]', '["toy2"]'),
        ("translation_configs/toy.toml", '"1.2.3"', '"1.2.4"'),
        ("translation_configs/toy.toml", '"1.2"', '"1.3"'),
        ("translation_configs/toy.toml", "https://toy.test", "https://www.toy.test"),
        ("translation_configs/toy.toml", 'license = "MIT"', 'license = "ISC"'),
    ],
    ids=[
        *("document", "license file", "source", "assembly", "links"),
        *("version", "language version", "homepage", "license"),
    ],
)
def test_whatever_decides_the_bytes_decides_the_input_key(
    path: str, old: str, new: str, world: World
) -> None:
    before = key_of(world)
    replace_text(world.ctx.root / path, old, new)

    assert key_of(world.again()) != before


def test_a_translation_and_its_environment_decide_the_input_key(world: World) -> None:
    assert key_of(world, translation="other") != key_of(world)
    assert key_of(world, environment="other") != key_of(world)


def test_names_do_not_decide_the_input_key(world: World, job: Job) -> None:
    """Or a nightly would be news each day."""
    named = job.model_copy(
        update={
            "stem": "another",
            "source_archive": "another-src.tar.gz",
            "revision": job.revision.model_copy(update={"number": 7}),
        }
    )

    assert key_of(world, named) == key_of(world, job)


def test_pypys_pins_decide_its_input_key(world: World) -> None:
    ctx, job = shipped(world).ctx, make_pypy_job()
    ctx = replace(ctx, root=ROOT)
    before = input_key(ctx, job, digest("translation"), digest("e"))
    pins = dict(ctx.config.pins)
    name = make_pypy_package().pins[-1]
    pins[name] = pins[name].model_copy(update={"sha256": digest("newer")})
    newer = replace(ctx, config=ctx.config.model_copy(update={"pins": pins}))

    assert input_key(newer, job, digest("translation"), digest("e")) != before


def test_a_releases_input_key_is_that_of_its_jobs() -> None:
    keys = {"a": digest("a"), "b": digest("b")}

    key = release_input_key(keys)

    assert key == release_input_key(dict(reversed(keys.items())))
    assert key != release_input_key({"a": digest("a")})
    assert key != release_input_key({"a": digest("b"), "b": digest("a")})
