"""Which files an image has, and whether its programs find their libraries."""

import tarfile
from pathlib import Path

import lief
import pytest

from pipeline.distribute.image.contents import (
    Selection,
    bundled_libraries,
    defined_versions,
    require_libraries,
    select,
)
from pipeline.distribute.image.layers import kept
from pipeline.distribute.image.system import System, system_of
from pipeline.errors import ImageError
from tests.factories import make_config
from tests.fakes import ELF

SHIPPED = {
    name: config for name, config in make_config().interpreters.items() if name.startswith("pypy")
}
SELECTION = Selection(dropped=("lib/py/test/*", "*.pyc"), private=("lib/*.so*",))
C_LIBRARY = "libc.so.6"


def tree(root: Path, *names: str) -> Path:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    return root


def names_in(root: Path) -> list[str]:
    return sorted(path.relative_to(root).as_posix() for path in root.rglob("*"))


def program(path: Path, *needed: str, rpath: str | None = None) -> None:
    """Write a program that needs further libraries."""
    binary = lief.ELF.parse(ELF)
    assert binary is not None
    for library in needed:
        binary.add_library(library)
    if rpath is not None:
        binary.add(lief.ELF.DynamicEntryRunPath(rpath))
    path.parent.mkdir(parents=True, exist_ok=True)
    binary.write(str(path))


def system_with(directory: Path, **libraries: bytes) -> System:
    path = directory / "layer.tar"
    with tarfile.open(path, "w") as archive:
        for name, content in libraries.items():
            source = directory / name
            source.write_bytes(content)
            archive.add(source, f"usr/lib/{name}")
    return system_of([kept(path)], "x86_64-linux-gnu")


@pytest.fixture
def c_library() -> bytes:
    """A C library that has the version of symbols that the toy needs."""
    versions = defined_versions(Path(lief_c_library()).read_bytes())
    assert "GLIBC_2.2.5" in versions
    return Path(lief_c_library()).read_bytes()


def lief_c_library() -> str:
    """Return the C library of the machine that runs the tests."""
    found = next(Path("/").glob("lib*/x86_64-linux-gnu/libc.so.6"), None)
    if found is None:
        pytest.skip("there is no glibc for x86_64 here")
    return str(found)


def test_dropped_files_and_empty_directories_are_left_out(tmp_path: Path) -> None:
    tree(tmp_path, "bin/p", "lib/py/test/a/b.py", "lib/py/os.py", "lib/py/c/os.pyc")

    select(tmp_path, SELECTION, frozenset())

    assert names_in(tmp_path) == ["bin", "bin/p", "lib", "lib/py", "lib/py/os.py"]


def test_a_bundled_library_is_left_to_the_system_only_if_that_has_it(tmp_path: Path) -> None:
    tree(tmp_path, "lib/libz.so.1", "lib/libffi.so.7", "bin/libz.so.1")

    replaced = select(tmp_path, SELECTION, frozenset({"libz.so.1", "libffi.so.8"}))

    assert replaced == ("lib/libz.so.1",)
    assert bundled_libraries(tmp_path, SELECTION) == ("lib/libffi.so.7",)
    assert (tmp_path / "bin/libz.so.1").exists()


def test_a_library_of_the_system_or_of_the_archive_is_found(
    tmp_path: Path, c_library: bytes
) -> None:
    root = tmp_path / "root"
    program(root / "bin/p", "libown.so.1", rpath="$ORIGIN/../lib")
    tree(root, "lib/libown.so.1")

    require_libraries(root, system_with(tmp_path, **{C_LIBRARY: c_library}), where="image x")


@pytest.mark.parametrize("rpath", [None, "$ORIGIN/../../lib", "/usr/local/elsewhere"])
def test_a_library_that_is_nowhere_is_named_with_who_needs_it(
    tmp_path: Path, c_library: bytes, rpath: str | None
) -> None:
    root = tmp_path / "root"
    program(root / "bin/p", "libown.so.1", rpath=rpath)
    tree(root, "lib/libown.so.1")

    with pytest.raises(ImageError, match=r"(?s)image x: .*bin/p needs libown\.so\.1\n.*packages"):
        require_libraries(root, system_with(tmp_path, **{C_LIBRARY: c_library}), where="image x")


def test_a_library_of_that_name_without_the_needed_versions_is_another_one(tmp_path: Path) -> None:
    """As Debian 12's libtinfo.so.6 is for a libncursesw.so.6 of Debian 11."""
    root = tmp_path / "root"
    program(root / "bin/p")

    with pytest.raises(ImageError, match=r"bin/p needs GLIBC_2\.2\.5 of libc\.so\.6"):
        require_libraries(root, system_with(tmp_path, **{C_LIBRARY: ELF.read_bytes()}), where="x")


# Of the archive of PyPy 3.11 v7.3.23 for linux64.
BUNDLED = (
    "lib/libbz2.so.1.0",
    "lib/libffi.so.7",
    "lib/libncursesw.so.6",
    "lib/libsqlite3.so.0",
    "lib/libtcl8.6.so",
    "lib/libtk8.6.so",
    "lib/libz.so.1",
)
OF_PYPY = (
    "bin/libpypy3.11-c.so",
    "lib/pypy3.11/_blake2/_blake2b_cffi.pypy311-pp73-x86_64-linux-gnu.so",
    "lib/pypy3.11/_lzma_cffi.pypy311-pp73-x86_64-linux-gnu.so",
    "lib/pypy3.11/_pypy_openssl.pypy311-pp73-x86_64-linux-gnu.so",
    "lib/pypy3.11/_sqlite3_cffi.pypy311-pp73-x86_64-linux-gnu.so",
    "lib/pypy3.11/_testcapi.pypy311-pp73-x86_64-linux-gnu.so",
    "lib/pypy3.11/_tkinter/tklib_cffi.pypy311-pp73-x86_64-linux-gnu.so",
    "lib-python/2.7/lib2to3/pgen2/driver.py",
    "lib_pypy/_sqlite3_cffi.pypy-73-x86_64-linux-gnu.so",
)


@pytest.mark.parametrize("interpreter", sorted(SHIPPED))
def test_what_pypy_made_itself_is_not_a_bundled_library(interpreter: str, tmp_path: Path) -> None:
    """The SBOM says of a bundled one that it is from the system that the archive was built on."""
    image = SHIPPED[interpreter].image
    assert image is not None
    root = tree(tmp_path, *BUNDLED, *OF_PYPY)

    found = bundled_libraries(root, Selection(dropped=image.dropped, private=image.private))

    assert found == BUNDLED
