"""What must be in an archive, and where, on each system."""

import pytest

from pipeline.model.configs import PlainPackage, PyPyPackage
from pipeline.model.layout import (
    Kind,
    extension_suffix,
    library_path,
    link_to,
    patchlevel_path,
    program_path,
    required_members,
    standard_library_path,
)
from pipeline.model.platforms import Platform
from pipeline.model.versions import InterpreterVersion
from tests.factories import changed, make_platform, make_pypy_package

PLAIN = PlainPackage(
    kind="plain",
    executable="demo",
    links=("demo1",),
    license_file="demo/LICENSE",
    documents={"README.md": "demo/README.md"},
)
PYPY = changed(
    make_pypy_package(),
    executable="pypy3.11",
    library="libpypy3.11-c.so",
    links=("pypy", "python3"),
    files=("README.rst", "lib/pypy3.11/os.py"),
    windows_files=("README.rst", "Lib/os.py"),
)


ROWS = {"linux": "linux-x86_64", "darwin": "macos-arm64", "windows": "windows-x86_64"}


def on(system: str) -> Platform:
    """Return a platform of an operating system."""
    return make_platform(ROWS[system])


def test_a_plain_archive_has_its_program_links_licence_and_documents() -> None:
    assert required_members(PLAIN, on("linux")) == {
        "LICENSE": Kind.FILE,
        "BUILD-INFO.json": Kind.FILE,
        "README.md": Kind.FILE,
        "bin/demo": Kind.PROGRAM,
        "bin/demo1": link_to("demo"),
    }


def test_a_plain_archive_for_darwin_is_like_one_for_linux() -> None:
    assert required_members(PLAIN, on("darwin")) == required_members(PLAIN, on("linux"))


def test_a_plain_archive_for_windows_has_copies_of_its_program_at_the_top() -> None:
    assert required_members(PLAIN, on("windows")) == {
        "LICENSE": Kind.FILE,
        "BUILD-INFO.json": Kind.FILE,
        "README.md": Kind.FILE,
        "demo.exe": Kind.FILE,
        "demo1.exe": Kind.FILE,
    }


def test_pypy_on_linux_has_links_to_its_program_and_its_library_beside_it() -> None:
    assert required_members(PYPY, on("linux")) == {
        "LICENSE": Kind.FILE,
        "BUILD-INFO.json": Kind.FILE,
        "README.rst": Kind.FILE,
        "lib/pypy3.11/os.py": Kind.FILE,
        "bin/pypy3.11": Kind.PROGRAM,
        "bin/pypy": link_to("pypy3.11"),
        "bin/python3": link_to("pypy3.11"),
        "bin/libpypy3.11-c.so": Kind.FILE,
    }


def test_pypy_on_darwin_differs_from_linux_by_its_library_only() -> None:
    linux, darwin = (required_members(PYPY, on(system)) for system in ("linux", "darwin"))

    assert linux.items() ^ darwin.items() == {
        ("bin/libpypy3.11-c.so", Kind.FILE),
        ("bin/libpypy3.11-c.dylib", Kind.FILE),
    }


def test_pypy_on_windows_has_copies_at_the_top_and_its_own_files() -> None:
    assert required_members(PYPY, on("windows")) == {
        "LICENSE": Kind.FILE,
        "BUILD-INFO.json": Kind.FILE,
        "README.rst": Kind.FILE,
        "Lib/os.py": Kind.FILE,
        "pypy3.11.exe": Kind.FILE,
        "pypy.exe": Kind.FILE,
        "python3.exe": Kind.FILE,
        "libpypy3.11-c.dll": Kind.FILE,
    }


@pytest.mark.parametrize(
    ("system", "program", "library"),
    [
        ("linux", "bin/pypy3.11", "bin/libpypy3.11-c.so"),
        ("darwin", "bin/pypy3.11", "bin/libpypy3.11-c.dylib"),
        ("windows", "pypy3.11.exe", "libpypy3.11-c.dll"),
    ],
)
def test_every_system_has_its_own_place_and_suffix(system: str, program: str, library: str) -> None:
    assert program_path("pypy3.11", on(system)) == program
    assert library_path(PYPY, on(system)) == library


@pytest.mark.parametrize(
    ("row", "suffix"),
    [
        ("linux-x86_64", ".pypy311-pp73-x86_64-linux-gnu.so"),
        ("linux-armhf", ".pypy311-pp73-arm-linux-gnueabihf.so"),
        ("linux-i686", ".pypy311-pp73-i386-linux-gnu.so"),
        ("macos-arm64", ".pypy311-pp73-darwin.so"),
        ("windows-x86_64", ".pypy311-pp73-win_amd64.pyd"),
    ],
)
def test_extension_modules_are_named_after_interpreter_and_platform(row: str, suffix: str) -> None:
    version = InterpreterVersion.parse("7.3.23")

    assert extension_suffix(PYPY, version, make_platform(row)) == suffix


@pytest.mark.parametrize(
    ("system", "library", "header"),
    [
        ("linux", "lib/pypy3.11", "include/pypy3.11/patchlevel.h"),
        ("darwin", "lib/pypy3.11", "include/pypy3.11/patchlevel.h"),
        ("windows", "Lib", "include/patchlevel.h"),
    ],
)
def test_the_standard_library_and_the_headers_have_their_places(
    system: str, library: str, header: str
) -> None:
    assert standard_library_path(PYPY, on(system)) == library
    assert patchlevel_path(PYPY, on(system)) == header


def test_nothing_is_a_link_on_windows() -> None:
    """Its own tools unpack none from a zip file."""
    kinds = {kind for package in (PLAIN, PYPY) for kind in on_windows(package)}

    assert kinds == {Kind.FILE}


def on_windows(package: PlainPackage | PyPyPackage) -> list[str]:
    """Return what the members of an archive for Windows must be."""
    return list(required_members(package, on("windows")).values())


def test_a_link_is_known_by_its_target() -> None:
    assert link_to("pypy3.11") == "a link to pypy3.11"
