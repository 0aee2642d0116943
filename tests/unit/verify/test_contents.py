"""The gates on unpacked files; their faults are in test_gates.py, here is what they let pass."""

from pathlib import Path

import lief
import pytest

from pipeline.verify.contents import CONTENT_GATES, glibc_floor
from pipeline.verify.gates import check_gates
from pipeline.verify.tree import Tree
from tests.crafted import Craft, Member, make_craft, unpacked
from tests.factories import changed
from tests.fakes import ELF, World, make_world


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return make_world(tmp_path_factory.mktemp("project"))


@pytest.fixture
def craft(world: World) -> Craft:
    return make_craft(world)


def found(tree: Tree) -> list[str]:
    return check_gates(CONTENT_GATES, tree)[1]


def with_glibc(craft: Craft, version: str) -> None:
    def spoil(binary: lief.ELF.Binary) -> None:
        (requirement,) = binary.symbols_version_requirement
        requirement.get_auxiliary_symbols()[0].name = version

    craft.program(spoil)


def test_gates_measure_what_they_saw(craft: Craft, tmp_path: Path) -> None:
    tree = unpacked(craft, tmp_path)

    results, _ = check_gates(CONTENT_GATES, tree)

    assert {result.gate: result.measured for result in results} == {
        "ELF01": "1 ELF files",
        "ELF02": "X86_64",
        "ELF03": "glibc 2.2.5 (declared 2.31)",
        "ELF04": "libc.so.6",
        "ELF05": "$ORIGIN or none",
        "TXT01": "4 files",
        "TXT02": "toy-linux-x86_64 1.2.3",
    }


def test_binaries_are_found_by_their_content(craft: Craft, tmp_path: Path) -> None:
    craft.add(Member(name=f"{craft.job.stem}/logo.png", content=ELF.read_bytes()))
    craft.add(Member(name=f"{craft.job.stem}/fake.so", content=b"not a library"))

    tree = unpacked(craft, tmp_path)

    assert [name for name, _ in tree.binaries] == [
        f"{craft.job.stem}/bin/toy",
        f"{craft.job.stem}/logo.png",
    ]


def test_a_linked_file_is_looked_at_once(craft: Craft, tmp_path: Path) -> None:
    tree = unpacked(craft, tmp_path)

    names = [path.relative_to(tree.root).as_posix() for path in tree.files]

    assert names == ["BUILD-INFO.json", "LICENSE", "README.md", "bin/toy"]


def test_every_binary_is_looked_at_and_not_only_the_interpreter(
    craft: Craft, tmp_path: Path
) -> None:
    foreign = bytearray(ELF.read_bytes())
    foreign[18] = 0xB7  # EM_AARCH64
    craft.add(Member(name=f"{craft.job.stem}/lib/_ssl.so", content=bytes(foreign)))

    lines = found(unpacked(craft, tmp_path))

    assert lines == [
        (
            "ELF02 machine of every binary: toy-v1.2.3-linux64/lib/_ssl.so: machine AARCH64; "
            "expected X86_64"
        )
    ]


def test_the_machine_of_the_platform_is_what_counts(world: World, tmp_path: Path) -> None:
    craft = make_craft(world, "linux-aarch64", "aarch64")

    lines = found(unpacked(craft, tmp_path))

    assert [line.split("; ")[0] for line in lines] == [
        "ELF02 machine of every binary: toy-v1.2.3-aarch64/bin/toy: machine X86_64"
    ]


@pytest.mark.parametrize(
    ("label", "floor"),
    [("GLIBC_2.9", "2.9"), ("GLIBC_2.31", "2.31"), ("GLIBC_PRIVATE", "0"), ("GLIBCXX_3.4", "0")],
    ids=["below", "the declared one", "private", "another library's"],
)
def test_the_floor_is_the_newest_glibc_version_needed(
    label: str, floor: str, craft: Craft, tmp_path: Path
) -> None:
    with_glibc(craft, label)

    tree = unpacked(craft, tmp_path)

    assert glibc_floor(tree) == floor
    assert found(tree) == []


def test_versions_of_glibc_are_compared_as_numbers(craft: Craft, tmp_path: Path) -> None:
    craft.add(Member(name=f"{craft.job.stem}/lib.so", content=ELF.read_bytes()))
    with_glibc(craft, "GLIBC_2.14")

    floor = glibc_floor(unpacked(craft, tmp_path))

    assert floor == "2.14"


def test_a_tree_without_binaries_needs_no_glibc(craft: Craft, tmp_path: Path) -> None:
    craft.change("bin/toy", content=b"#!/bin/sh\n")

    floor = glibc_floor(unpacked(craft, tmp_path))

    assert floor == "0"


def test_libraries_may_be_searched_beside_the_binary(craft: Craft, tmp_path: Path) -> None:
    craft.program(lambda binary: binary.add(lief.ELF.DynamicEntryRunPath("$ORIGIN/../lib:$ORIGIN")))

    lines = found(unpacked(craft, tmp_path))

    assert lines == []


def test_the_platform_s_loader_may_be_needed(craft: Craft, tmp_path: Path) -> None:
    craft.program(lambda binary: binary.add_library("ld-linux-x86-64.so.2"))

    lines = found(unpacked(craft, tmp_path))

    assert lines == []


def test_for_musl_its_own_library_may_be_needed_and_none_of_glibc(
    craft: Craft, tmp_path: Path
) -> None:
    musl = changed(
        craft.job.platform,
        libc="musl",
        binaries=changed(
            craft.job.platform.binaries, loader="ld-musl-x86_64.so.1", glibc_floor=None
        ),
    )
    craft.job = changed(craft.job, platform=musl)
    craft.program(lambda binary: binary.add_library("libc.so"))

    lines = found(unpacked(craft, tmp_path))

    assert [line for line in lines if line.startswith("ELF04")] == [
        (
            "ELF04 needed libraries: toy-v1.2.3-linux64/bin/toy: needs libc.so.6; "
            "expected only ld-musl-x86_64.so.1, libc.so, or one that it finds in the archive"
        )
    ]


@pytest.mark.parametrize(
    "path",
    ["/build/source", "/build/toolchain", "/build/shim", "/build/tmp", "/build/out", "/build/in/"],
)
def test_every_path_of_the_build_environment_is_a_leak(
    path: str, craft: Craft, tmp_path: Path
) -> None:
    craft.change("LICENSE", content=f"{path}/x".encode())

    lines = found(unpacked(craft, tmp_path))

    assert lines == [
        (
            f"TXT01 no build paths: toy-v1.2.3-linux64/LICENSE: holds '{path}' at byte 0; "
            "expected no path of the build environment"
        )
    ]


def test_a_description_is_compared_by_content_and_not_by_its_bytes(
    craft: Craft, tmp_path: Path
) -> None:
    craft.change("BUILD-INFO.json", content=craft.info.model_dump_json(by_alias=True).encode())

    lines = found(unpacked(craft, tmp_path))

    assert lines == []


def test_a_missing_description_is_found(craft: Craft, tmp_path: Path) -> None:
    craft.remove("BUILD-INFO.json")

    lines = found(unpacked(craft, tmp_path))

    assert [line.split()[0] for line in lines] == ["TXT02"]


def test_a_cut_off_binary_is_found(craft: Craft, tmp_path: Path) -> None:
    craft.add(Member(name=f"{craft.job.stem}/lib.so", content=ELF.read_bytes()[:40]))

    lines = found(unpacked(craft, tmp_path))

    assert [line.split(": ")[1] for line in lines] == ["toy-v1.2.3-linux64/lib.so"]


@pytest.mark.parametrize("path", ["$ORIGIN/../../../tmp", "$ORIGINAL/lib"])
def test_a_search_path_that_leaves_the_archive_is_found(
    path: str, craft: Craft, tmp_path: Path
) -> None:
    craft.program(lambda binary: binary.add(lief.ELF.DynamicEntryRunPath(path)))

    lines = found(unpacked(craft, tmp_path))

    assert [line.split()[0] for line in lines] == ["ELF05"]
