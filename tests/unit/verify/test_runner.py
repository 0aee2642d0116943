"""How the gates of a job are run together."""

import hashlib
import tarfile
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Final

import pytest

from pipeline.environment import ready_environment
from pipeline.errors import DigestMismatchError, GateError, PipelineError
from pipeline.model.artifacts import Artifact
from pipeline.model.configs import InterpreterConfig
from pipeline.model.platforms import Placement
from pipeline.model.records import Environment, Package, Verification
from pipeline.verify.runner import Packed, verify, verify_inputs
from tests.crafted import (
    PYPY_LIBRARY,
    Craft,
    Member,
    make_craft,
    make_elf,
    make_members,
    write_archives,
)
from tests.factories import changed, make_config
from tests.fakes import Answer, World, digest, make_world, replace_text, stage_output
from tests.unit.verify.faults import (
    ARCHIVAL,
    SOURCE_GZ,
    CraftWithSource,
    all_gate_ids,
    make_pypy,
    source_artifact,
    write_source,
)


@pytest.fixture
def world(tmp_path: Path) -> World:
    return make_world(tmp_path / "project")


@pytest.fixture
def craft(world: World) -> Craft:
    return make_craft(world)


@pytest.fixture
def environments(world: World, craft: Craft) -> tuple[Environment, ...]:
    place = Placement(host=craft.job.platform)
    return tuple(ready_environment(world.ctx, name, place) for name in craft.job.verified_in)


def packed(craft: Craft, directory: Path) -> Packed:
    artifacts = tuple(
        Artifact(
            filename=path.name,
            kind=kind,
            platform=craft.job.platform.identifier,
            size=path.stat().st_size,
            sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
        )
        for kind, path in write_archives(craft, directory).items()
    )
    package = Package(stem=craft.job.stem, artifacts=artifacts)
    given = Packed(package=package, directory=directory, info=craft.info)
    if not isinstance(craft, CraftWithSource):
        return given
    path = write_source(craft, directory / "sources")
    return replace(given, source=source_artifact(path), source_directory=path.parent)


def verified(
    world: World, craft: Craft, archives: Packed, environments: tuple[Environment, ...]
) -> Verification:
    with stage_output(world.ctx) as stage:
        return verify(world.ctx, craft.job, archives, environments, stage)


def test_a_good_job_passes_every_gate(
    world: World, craft: Craft, environments: tuple[Environment, ...], tmp_path: Path
) -> None:
    archives = packed(craft, tmp_path / "archives")

    record = verified(world, craft, archives, environments)

    assert [result.gate for result in record.gates] == [
        *("ARC01", "ARC02", "ARC03", "ARC04", "ARC05", "ARC06", "ARC07", "ARC08", "DBG02"),
        *("ELF01", "ELF02", "ELF03", "ELF04", "ELF05", "TXT01", "TXT02"),
        *("ELF06", "ELF07", "ELF08", "ELF09", "ELF10", "ELF11", "ELF12"),
        *("IDN01", "IDN02", "LIB01", "DBG01"),
        *("RUN01", "OPT01", "OPT02", "OPT03", "RUN01"),
    ]
    assert record.artifacts == archives.package.artifacts
    assert record.glibc_floor == "2.2.5"


def test_smoke_tests_run_in_every_environment_and_proofs_once(
    world: World, craft: Craft, environments: tuple[Environment, ...], tmp_path: Path
) -> None:
    before = len(world.engine.sessions)

    verified(world, craft, packed(craft, tmp_path / "archives"), environments)

    images = [image_id for image_id, _ in world.engine.sessions[before:]]
    asked_for_options = [
        any(call.argv[-1] == "--info" for call in session.calls)
        for _, session in world.engine.sessions[before:]
    ]
    assert images == [environment.image_id for environment in environments]
    assert asked_for_options == [True, False]


def test_an_unsafe_archive_is_neither_unpacked_nor_run(
    world: World,
    craft: Craft,
    environments: tuple[Environment, ...],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(
        "pipeline.verify.runner.unpack", lambda *_arguments: pytest.fail("it was unpacked")
    )
    craft.add(Member(name="other/file"))
    before = len(world.engine.sessions)

    with pytest.raises(GateError, match="ARC01"):
        verified(world, craft, packed(craft, tmp_path / "archives"), environments)

    assert len(world.engine.sessions) == before


def test_findings_of_all_kinds_are_reported_together(
    world: World, craft: Craft, environments: tuple[Environment, ...], tmp_path: Path
) -> None:
    craft.change("LICENSE", uid=1000, content=b"/build/source")
    world.engine.answers[("--version",)] = Answer(stdout="toy 9.9.9\n")

    with pytest.raises(GateError) as caught:
        verified(world, craft, packed(craft, tmp_path / "archives"), environments)

    lines = str(caught.value).splitlines()
    assert lines[0].startswith("4 gate findings")
    assert [line.split()[0] for line in lines[1:]] == ["ARC06", "TXT01", "RUN01", "RUN01"]
    assert "clean-old" in lines[3]
    assert "clean-new" in lines[4]


def test_an_archive_that_changed_since_it_was_packed_is_refused(
    world: World, craft: Craft, environments: tuple[Environment, ...], tmp_path: Path
) -> None:
    archives = packed(craft, tmp_path / "archives")
    path = archives.directory / archives.package.artifacts[1].filename
    path.write_bytes(path.read_bytes() + b"\0")

    with pytest.raises(DigestMismatchError) as caught:
        verified(world, craft, archives, environments)

    message = str(caught.value)
    assert message.startswith(f"{path}: sha256 is ")
    assert archives.package.artifacts[1].sha256 in message


def inputs(
    world: World, craft: Craft, archives: Packed, environments: tuple[Environment, ...]
) -> dict[str, object]:
    return verify_inputs(world.ctx, craft.job, archives, environments)


def test_the_verdict_depends_on_archives_tests_and_environments(
    world: World, craft: Craft, environments: tuple[Environment, ...], tmp_path: Path
) -> None:
    archives = packed(craft, tmp_path / "archives")
    before = inputs(world, craft, archives, environments)

    replace_text(world.ctx.root / "translation_configs/toy/programs/sum.expected", "3", "4")
    other_test = inputs(world, craft, archives, environments)
    other_environment = inputs(world, craft, archives, environments[:1])
    craft.remove("LICENSE")
    other_archive = inputs(world, craft, packed(craft, tmp_path / "others"), environments)

    assert other_test["tests"] != before["tests"]
    assert other_environment["environments"] != before["environments"]
    assert other_archive["archives"] != before["archives"]


Change = Callable[[InterpreterConfig], InterpreterConfig]


def package_with(**fields: object) -> Change:
    return lambda config: changed(config, package=changed(config.package, **fields))


def translation_with(**fields: object) -> Change:
    return lambda config: changed(config, translation=changed(config.translation, **fields))


CHANGES: Final[Mapping[str, tuple[str, Change]]] = {
    "a required file": ("package", package_with(files=("README.rst",))),
    "links": ("package", package_with(links=("pypy",))),
    "modules": ("package", package_with(modules={"_ssl": ("_ssl",)})),
    "the header": ("package", package_with(patchlevel="include/other.h")),
    "the ABI tag": ("package", package_with(extension_suffix=".so")),
    "the implementation": ("implementation", lambda config: changed(config, implementation="x")),
    "modules asked for": ("target_options", translation_with(target_options=("--withmod-_x",))),
    "the version file": (
        "version_file",
        lambda config: changed(config, source=changed(config.source, version_file="version.py")),
    ),
}


@pytest.mark.parametrize(("key", "change"), CHANGES.values(), ids=CHANGES)
def test_the_verdict_depends_on_what_is_expected_of_equal_bytes(
    key: str,
    change: Change,
    pypy_world: World,
    pypy: Craft,
    pypy_environments: tuple[Environment, ...],
    tmp_path: Path,
) -> None:
    archives = packed(pypy, tmp_path / "archives")
    before = inputs(pypy_world, pypy, archives, pypy_environments)

    pypy.job = changed(pypy.job, interpreter=change(pypy.job.interpreter))
    after = inputs(pypy_world, pypy, archives, pypy_environments)

    assert {name for name in before if before[name] != after[name]} == {key}


def test_the_verdict_depends_on_versions_linked_in_description_and_source(
    pypy_world: World,
    pypy: CraftWithSource,
    pypy_environments: tuple[Environment, ...],
    tmp_path: Path,
) -> None:
    archives = packed(pypy, tmp_path / "archives")
    before = inputs(pypy_world, pypy, archives, pypy_environments)

    newer = inputs(newer_openssl(pypy_world), pypy, archives, pypy_environments)
    other_info = replace(archives, info=archives.info.model_copy(update={"gc": "minimark"}))
    described = inputs(pypy_world, pypy, other_info, pypy_environments)
    sourceless = replace(archives, source=None)
    without_source = inputs(pypy_world, pypy, sourceless, pypy_environments)

    assert newer["embedded"] != before["embedded"]
    assert described["info"] != before["info"]
    assert without_source["archives"] != before["archives"]


def newer_openssl(world: World) -> World:
    """Return the world with another OpenSSL pinned, of the same bytes."""
    config = world.ctx.config
    pins = {**config.pins, "openssl": changed(config.pins["openssl"], version="9.9.9")}
    return replace(world, ctx=replace(world.ctx, config=changed(config, pins=pins)))


def test_a_link_to_itself_is_refused(
    world: World, craft: Craft, environments: tuple[Environment, ...], tmp_path: Path
) -> None:
    name = f"{craft.job.stem}/loop"
    craft.add(Member(name=name, type=tarfile.SYMTYPE, link="loop", mode=0o777))
    archives = packed(craft, tmp_path / "archives")

    with pytest.raises(PipelineError, match="loop"):
        verified(world, craft, archives, environments)


@pytest.fixture
def pypy_world(world: World) -> World:
    """The world with the configuration that is shipped."""
    return replace(world, ctx=replace(world.ctx, config=make_config()))


@pytest.fixture
def pypy(world: World) -> CraftWithSource:
    craft = make_pypy()
    world.engine.answers.update(craft.answers)
    return craft


@pytest.fixture
def pypy_environments(world: World, pypy: Craft) -> tuple[Environment, ...]:
    return tuple(
        Environment(
            name=name, digest=digest(name), image_id=world.engine.add_image(name), packages=("a 1",)
        )
        for name in pypy.job.interpreter.verify.environments
    )


def test_a_good_pypy_passes_every_gate(
    pypy_world: World,
    pypy: Craft,
    pypy_environments: tuple[Environment, ...],
    tmp_path: Path,
) -> None:
    archives = packed(pypy, tmp_path / "archives")

    record = verified(pypy_world, pypy, archives, pypy_environments)

    passed = [result.gate for result in record.gates]
    assert set(passed) == all_gate_ids(pypy)
    assert {"SRC01", "SRC02", "SRC03"} < set(passed)
    assert passed.count("MOD01") == len(pypy_environments)
    assert (passed.count("IDN03"), passed.count("RUN05")) == (1, 1)


def test_debug_symbols_of_another_build_stop_the_release(
    pypy_world: World,
    pypy: Craft,
    pypy_environments: tuple[Environment, ...],
    tmp_path: Path,
) -> None:
    files = {f"{PYPY_LIBRARY}.debug": make_elf("another build")}
    pypy.debug_members = make_members(pypy.job, f"{pypy.job.stem}-debug", files)
    archives = packed(pypy, tmp_path / "archives")

    with pytest.raises(GateError, match=r"1 gate finding.*\nDBG01 "):
        verified(pypy_world, pypy, archives, pypy_environments)


def test_libraries_that_are_linked_in_have_the_versions_of_their_pins(
    pypy_world: World,
    pypy: Craft,
    pypy_environments: tuple[Environment, ...],
    tmp_path: Path,
) -> None:
    archives = packed(pypy, tmp_path / "archives")

    with pytest.raises(GateError, match=r"1 gate finding.*\nLIB01 .*'OpenSSL 9\.9\.9 '"):
        verified(newer_openssl(pypy_world), pypy, archives, pypy_environments)


def test_a_source_archive_of_another_commit_stops_the_release(
    pypy_world: World,
    pypy: CraftWithSource,
    pypy_environments: tuple[Environment, ...],
    tmp_path: Path,
) -> None:
    pypy.change_source(ARCHIVAL, content=b"node: 0123456789ab\n")
    archives = packed(pypy, tmp_path / "archives")

    with pytest.raises(GateError, match=r"1 gate finding.*\nSRC02 "):
        verified(pypy_world, pypy, archives, pypy_environments)


def test_a_source_archive_that_is_badly_packed_is_not_unpacked(
    pypy_world: World,
    pypy: CraftWithSource,
    pypy_environments: tuple[Environment, ...],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(
        "pipeline.verify.source_archive.unpack", lambda *_arguments: pytest.fail("it was unpacked")
    )
    pypy.add_to_source(Member(name="other/file"))
    archives = packed(pypy, tmp_path / "archives")

    with pytest.raises(GateError, match=r"1 gate finding.*\nSRC01 "):
        verified(pypy_world, pypy, archives, pypy_environments)


def test_a_source_archive_that_changed_since_it_was_packed_is_refused(
    pypy_world: World,
    pypy: CraftWithSource,
    pypy_environments: tuple[Environment, ...],
    tmp_path: Path,
) -> None:
    archives = packed(pypy, tmp_path / "archives")
    path = write_source(pypy, tmp_path / "archives" / "sources")
    path.write_bytes(path.read_bytes() + b"\0")

    with pytest.raises(DigestMismatchError, match=SOURCE_GZ):
        verified(pypy_world, pypy, archives, pypy_environments)


def test_modules_that_were_built_and_skipped_stay_in_the_record(
    pypy_world: World,
    pypy: Craft,
    pypy_environments: tuple[Environment, ...],
    tmp_path: Path,
) -> None:
    archives = packed(pypy, tmp_path / "archives")
    package = changed(archives.package, modules=("_ssl",), skipped=("_gdbm",))

    record = verified(pypy_world, pypy, replace(archives, package=package), pypy_environments)

    assert (record.modules, record.skipped) == (("_ssl",), ("_gdbm",))
