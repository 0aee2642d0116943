"""Which package has which file of the archive."""

from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.distribute.debian.split import bundled_libraries, left_out, split
from pipeline.errors import DebianPackageError
from pipeline.model.debian import DebianConfig
from tests.factories import make_config

NAMES: Final = st.text(alphabet="ab.-_ \n'$é", min_size=1, max_size=4)
PATHS: Final = st.lists(NAMES, min_size=1, max_size=4).map("/".join)
PYPY: Final = (
    "BUILD-INFO.json",
    "LICENSE",
    "README.rst",
    "bin/libpypy3.11-c.so",
    "bin/pypy3.11",
    "include/pypy3.11/Python.h",
    "lib/PYPY_PORTABLE_DEPS.txt",
    "lib/libffi.so.7",
    "lib/libtcl8.6.so",
    "lib/libtk8.6.so",
    "lib/libz.so.1",
    "lib/pypy3.11/_tkinter/__init__.py",
    "lib/pypy3.11/ensurepip/__init__.py",
    "lib/pypy3.11/os.py",
    "lib/pypy3.11/test/test_os.py",
    "lib/pypy3.11/tkinter/__init__.py",
    "lib/pypy3.11/tkinter/test/test_ttk/test_style.py",
    "lib/tcl8.6/init.tcl",
    "lib/tcl8.6/msgs/de.msg",
    "lib/tk8.6/tk.tcl",
)


def make_debian(*patterns: str, **overrides: Any) -> DebianConfig:
    """Return a table with a part for each of *patterns*."""
    parts = tuple(
        {"suffix": f"-{number}", "summary": "a part", "files": (pattern,)}
        for number, pattern in enumerate(patterns)
    )
    return DebianConfig.model_validate({"package": "toy", "parts": parts, **overrides})


@pytest.fixture
def pypy() -> DebianConfig:
    config = make_config().interpreters["pypy3.11"].debian
    assert config is not None
    return config


def test_pypy_is_split_as_users_of_debian_expect(pypy: DebianConfig) -> None:
    parts = split(pypy, PYPY)

    assert parts == {
        "pypy3.11": (
            "bin/libpypy3.11-c.so",
            "bin/pypy3.11",
            "lib/PYPY_PORTABLE_DEPS.txt",
            "lib/libffi.so.7",
            "lib/libz.so.1",
            "lib/pypy3.11/os.py",
        ),
        "pypy3.11-dev": ("include/pypy3.11/Python.h",),
        "pypy3.11-testsuite": (
            "lib/pypy3.11/test/test_os.py",
            "lib/pypy3.11/tkinter/test/test_ttk/test_style.py",
        ),
        "pypy3.11-venv": ("lib/pypy3.11/ensurepip/__init__.py",),
        "pypy3.11-tk": (
            "lib/libtcl8.6.so",
            "lib/libtk8.6.so",
            "lib/pypy3.11/_tkinter/__init__.py",
            "lib/pypy3.11/tkinter/__init__.py",
            "lib/tcl8.6/init.tcl",
            "lib/tcl8.6/msgs/de.msg",
            "lib/tk8.6/tk.tcl",
        ),
        "pypy3.11-doc": ("BUILD-INFO.json", "LICENSE", "README.rst"),
    }


@given(paths=st.sets(PATHS, min_size=1), patterns=st.lists(NAMES, max_size=3))
def test_each_file_is_in_exactly_one_package(paths: set[str], patterns: list[str]) -> None:
    config = make_debian(*(f"{pattern}*" for pattern in patterns))

    try:
        parts = split(config, paths)
    except DebianPackageError:
        parts = {"toy": tuple(sorted(paths))}

    found = [path for files in parts.values() for path in files]
    assert sorted(found) == sorted(paths)


def test_the_first_part_that_fits_has_a_file() -> None:
    config = make_debian("lib/tests/*", "lib/*")

    parts = split(config, ["bin/toy", "lib/tests/one", "lib/two"])

    assert parts == {"toy": ("bin/toy",), "toy-0": ("lib/tests/one",), "toy-1": ("lib/two",)}


def test_a_part_without_files_is_an_error_that_names_it() -> None:
    config = make_debian("include/*")

    with pytest.raises(DebianPackageError, match=r"package toy-0: the archive has no file"):
        split(config, ["bin/toy"])


def test_bundled_libraries_are_told_by_the_patterns(pypy: DebianConfig) -> None:
    assert bundled_libraries(pypy, PYPY) == (
        "lib/libffi.so.7",
        "lib/libtcl8.6.so",
        "lib/libtk8.6.so",
        "lib/libz.so.1",
    )


def test_a_library_of_the_suite_is_left_out_with_what_belongs_to_it(pypy: DebianConfig) -> None:
    out = left_out(pypy, PYPY, {"lib/libtcl8.6.so", "lib/libz.so.1"})

    assert out == {
        "lib/libtcl8.6.so",
        "lib/libz.so.1",
        "lib/tcl8.6/init.tcl",
        "lib/tcl8.6/msgs/de.msg",
    }


def test_what_is_dropped_is_left_out_in_any_case() -> None:
    config = make_debian(dropped=("*.pyc",))

    assert left_out(config, ["a.pyc", "b.py", "c/d.pyc"], ()) == {"a.pyc", "c/d.pyc"}
