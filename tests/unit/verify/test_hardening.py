"""The gates on how files are linked; their faults are in faults.py, here is what they let pass."""

from pathlib import Path

import lief
import pytest

from pipeline.model.configs import SymbolRules
from pipeline.verify.gates import check_gates
from pipeline.verify.hardening import HARDENING_GATES
from tests.crafted import (
    LIBSQLITE,
    PYPY,
    PYPY_LIBRARY,
    SSL,
    Craft,
    make_craft,
    make_elf,
    make_pypy_craft,
    unpacked,
)
from tests.factories import changed
from tests.fakes import World, make_world


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return make_world(tmp_path_factory.mktemp("project"))


@pytest.fixture
def craft() -> Craft:
    return make_pypy_craft()


def found(craft: Craft, directory: Path) -> list[str]:
    return check_gates(HARDENING_GATES, unpacked(craft, directory))[1]


def test_gates_measure_what_they_saw(craft: Craft, tmp_path: Path) -> None:
    results, _ = check_gates(HARDENING_GATES, unpacked(craft, tmp_path))

    measured = {result.gate: result.measured for result in results}
    assert measured.pop("ELF06").endswith(" exports")
    assert measured.pop("ELF07").endswith(" of RPython's names")
    assert measured == {
        "ELF08": "7 binaries",
        **dict.fromkeys(("ELF09", "ELF10", "ELF11", "ELF12"), "9 binaries"),
    }


def test_a_bundled_library_exports_its_own_names(craft: Craft, tmp_path: Path) -> None:
    content = make_elf(LIBSQLITE, exports=("SSL_new", "lzma_code"))
    craft.change(LIBSQLITE, content=content)

    assert found(craft, tmp_path) == []


def test_a_module_may_export_names_that_only_begin_alike(craft: Craft, tmp_path: Path) -> None:
    craft.binary(SSL, lambda binary: binary.add_exported_function(0x300, "ECMA"))

    assert found(craft, tmp_path) == []


def test_a_module_is_named_after_pypy_without_a_leak(craft: Craft, tmp_path: Path) -> None:
    craft.binary(SSL, lambda binary: binary.add_exported_function(0x300, "pypy_g_private"))

    assert found(craft, tmp_path) == []


def test_names_that_are_not_rpython_s_may_be_exported(craft: Craft, tmp_path: Path) -> None:
    craft.binary(PYPY_LIBRARY, lambda binary: binary.add_exported_function(0x300, "_init"))

    assert found(craft, tmp_path) == []


def test_the_first_of_many_leaks_are_named_and_the_others_counted(
    craft: Craft, tmp_path: Path
) -> None:
    names = [f"pypy_g_{number}" for number in range(7)]
    required = craft.job.interpreter.verify.symbols.required
    craft.change(PYPY_LIBRARY, content=make_elf(PYPY_LIBRARY, exports=(*required, *names)))

    lines = found(craft, tmp_path)

    assert [line.split(": ")[2] for line in lines] == [
        (
            "exports pypy_g_0, pypy_g_1, pypy_g_2, pypy_g_3, pypy_g_4 and 2 more; "
            "expected only the names in verify.symbols.public"
        )
    ]


def test_exports_are_required_of_the_library_and_not_of_the_program(
    craft: Craft, tmp_path: Path
) -> None:
    required = craft.job.interpreter.verify.symbols.required
    craft.change(PYPY_LIBRARY, content=make_elf(PYPY_LIBRARY))
    craft.change(PYPY, content=make_elf(PYPY, exports=required))

    lines = found(craft, tmp_path)

    assert [line.split()[0] for line in lines] == ["ELF06"] * len(required)


def test_a_library_that_is_no_elf_file_exports_nothing(craft: Craft, tmp_path: Path) -> None:
    craft.change(PYPY_LIBRARY, content=b"INPUT(libpypy.a)\n")

    lines = found(craft, tmp_path)

    assert {line.split()[0] for line in lines} == {"ELF06"}


@pytest.mark.parametrize(
    ("exported", "gates"), [("toy_run", []), ("toy_stop", ["ELF06"])], ids=["it", "another"]
)
def test_exports_are_required_of_a_plain_program_itself(
    exported: str, gates: list[str], world: World, tmp_path: Path
) -> None:
    craft = make_craft(world)
    rules = changed(craft.job.interpreter.verify, symbols=SymbolRules(required=("toy_run",)))
    craft.job = changed(craft.job, interpreter=changed(craft.job.interpreter, verify=rules))
    craft.program(lambda binary: binary.add_exported_function(0x300, exported))

    lines = found(craft, tmp_path)

    assert [line.split()[0] for line in lines] == gates


@pytest.mark.parametrize(("visibility", "gates"), [(0, ["ELF07"]), (2, [])], ids=["seen", "hidden"])
def test_what_an_architecture_keeps_beside_the_visibility_is_no_matter(
    visibility: int, gates: list[str], craft: Craft, tmp_path: Path
) -> None:
    """ppc64le keeps the distance of a function's two entries in the same byte."""

    def export(binary: lief.ELF.Binary) -> None:
        binary.add_exported_function(binary.entrypoint, "pypy_g_main")
        symbol = binary.get_dynamic_symbol("pypy_g_main")
        assert symbol is not None
        symbol.other = 0x60 | visibility

    craft.binary(PYPY_LIBRARY, export)

    lines = found(craft, tmp_path)

    assert [line.split()[0] for line in lines] == gates
