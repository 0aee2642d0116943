"""The gates on who an interpreter is; their faults are in faults.py, here is what they let pass."""

from pathlib import Path

import pytest

from pipeline.model.layout import extension_suffix
from pipeline.model.versions import InterpreterVersion
from pipeline.verify.gates import check_gates
from pipeline.verify.identity import IDENTITY_GATES
from tests.crafted import (
    GDBM,
    PATCHLEVEL,
    PYPY_LIBRARY,
    SUFFIX,
    Craft,
    make_craft,
    make_elf,
    make_members,
    make_pypy_craft,
    patchlevel,
    unpacked,
)
from tests.factories import make_platform, make_pypy_package
from tests.fakes import World, make_world


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return make_world(tmp_path_factory.mktemp("project"))


@pytest.fixture
def craft() -> Craft:
    return make_pypy_craft()


def measured(craft: Craft, directory: Path) -> dict[str, str]:
    results, _ = check_gates(IDENTITY_GATES, unpacked(craft, directory))
    return {result.gate: result.measured for result in results}


def found(craft: Craft, directory: Path) -> list[str]:
    return check_gates(IDENTITY_GATES, unpacked(craft, directory))[1]


def test_gates_measure_what_they_saw(craft: Craft, tmp_path: Path) -> None:
    versions = craft.embedded

    assert measured(craft, tmp_path) == {
        "IDN01": 'PYPY_VERSION "7.3.23", 4 numbers',
        "IDN02": f"5 modules {SUFFIX}",
        "LIB01": f"openssl {versions['_ssl']}, xz {versions['lzma']}, gdbm not looked up",
        "DBG01": "2 files of debug symbols",
    }


def test_a_plain_program_has_nothing_of_it(world: World, tmp_path: Path) -> None:
    assert measured(make_craft(world), tmp_path) == {
        "IDN01": "no C headers",
        "IDN02": "no extension modules",
        "LIB01": "none",
        "DBG01": "no debug archive",
    }


@pytest.mark.parametrize("version", ["7.3.23", "7.3.23rc1", "7.3.23a0", "7.3.23b1"])
def test_headers_of_the_very_version_are_right(version: str, tmp_path: Path) -> None:
    assert found(make_pypy_craft(version), tmp_path) == []


def test_every_number_of_the_header_is_compared(craft: Craft, tmp_path: Path) -> None:
    assert measured(craft, tmp_path)["IDN01"] == 'PYPY_VERSION "7.3.23", 4 numbers'


def test_a_number_in_a_form_that_cannot_be_read_is_found(craft: Craft, tmp_path: Path) -> None:
    craft.change(PATCHLEVEL, content=patchlevel("7.3.23") + b"#define PY_MINOR_VERSION (11)\n")

    (line,) = found(craft, tmp_path)

    assert line.endswith("PY_MINOR_VERSION is (11); expected 11")


def test_a_version_without_quotes_is_no_text(craft: Craft, tmp_path: Path) -> None:
    craft.change(PATCHLEVEL, content=patchlevel("7.3.23").replace(b'"7.3.23"', b"7.3.23"))

    (line,) = found(craft, tmp_path)

    assert line.endswith('PYPY_VERSION is 7.3.23; expected "7.3.23"')


def test_letters_of_a_number_may_be_of_any_case(tmp_path: Path) -> None:
    craft = make_pypy_craft("7.3.11")
    content = patchlevel("7.3.11").replace(b"0x07030b00", b"0x07030B00")
    craft.change(PATCHLEVEL, content=content)

    assert found(craft, tmp_path) == []


def test_spaces_in_a_header_mean_nothing(craft: Craft, tmp_path: Path) -> None:
    content = patchlevel("7.3.23").replace(b"PYPY_VERSION ", b"PYPY_VERSION\t  ")
    craft.change(PATCHLEVEL, content=content)

    assert found(craft, tmp_path) == []


def test_a_missing_header_is_found(craft: Craft, tmp_path: Path) -> None:
    craft.remove(PATCHLEVEL)

    assert found(craft, tmp_path) == [
        (
            f"IDN01 version in the C headers: pypy3.11-v7.3.23-linux64/{PATCHLEVEL}: "
            "No such file or directory; expected the header"
        )
    ]


@pytest.mark.parametrize(
    ("version", "platform", "suffix"),
    [
        ("7.3.23", "linux-x86_64", ".pypy311-pp73-x86_64-linux-gnu.so"),
        ("7.3.23rc1", "linux-x86_64", ".pypy311-pp73-x86_64-linux-gnu.so"),
        ("8.0.0a0", "linux-x86_64", ".pypy311-pp80-x86_64-linux-gnu.so"),
        ("7.3.23", "linux-ppc64le", ".pypy311-pp73-powerpc64le-linux-gnu.so"),
        ("7.3.23", "macos-arm64", ".pypy311-pp73-darwin.so"),
        ("7.3.23", "windows-x86_64", ".pypy311-pp73-win_amd64.pyd"),
    ],
)
def test_the_abi_tag_has_the_version_s_first_two_numbers_and_the_platform(
    version: str, platform: str, suffix: str
) -> None:
    row = make_platform(platform)

    assert extension_suffix(make_pypy_package(), InterpreterVersion.parse(version), row) == suffix


def test_a_library_beside_the_modules_carries_no_abi_tag(craft: Craft, tmp_path: Path) -> None:
    craft.add_file("lib/libother.so", make_elf("libother.so"))

    assert found(craft, tmp_path) == []


def test_a_library_without_a_marker_needs_only_its_module(craft: Craft, tmp_path: Path) -> None:
    craft.change(GDBM, content=b"nothing of gdbm")

    assert found(craft, tmp_path) == []


def test_a_release_without_debug_symbols_has_nothing_to_compare(
    craft: Craft, tmp_path: Path
) -> None:
    craft.debug_members = None

    assert measured(craft, tmp_path)["DBG01"] == "no debug archive"


def test_not_every_program_needs_debug_symbols(craft: Craft, tmp_path: Path) -> None:
    files = {f"{PYPY_LIBRARY}.debug": make_elf(PYPY_LIBRARY)}
    craft.debug_members = make_members(craft.job, f"{craft.job.stem}-debug", files)

    assert measured(craft, tmp_path)["DBG01"] == "1 files of debug symbols"


def test_a_debug_archive_of_another_release_holds_no_symbols(craft: Craft, tmp_path: Path) -> None:
    files = {f"{PYPY_LIBRARY}.debug": make_elf(PYPY_LIBRARY)}
    craft.debug_members = make_members(craft.job, "pypy3.11-v7.3.22-linux64-debug", files)

    lines = found(craft, tmp_path)

    assert [line.split(": ", 1)[1] for line in lines] == [
        (
            f"pypy3.11-v7.3.23-linux64-debug/{PYPY_LIBRARY}.debug: no such file; "
            "expected debug symbols"
        )
    ]
