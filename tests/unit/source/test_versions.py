"""The versions that a PyPy source says it is, read without running it."""

from typing import Final

import pytest

from pipeline.errors import SourceError
from pipeline.model.versions import InterpreterVersion
from pipeline.source.versions import read_versions

# The form is upstream's, the text is not: tuples among imports, other constants and functions.
TEXT: Final = '''"""Says which versions this is."""

import os

CPYTHON_VERSION = (3, 11, 15, "final", 0)  # of the language
OTHER_VERSION = 1013
PYPY_VERSION   =   (7, 3, 23, "final", 0)

directory = os.getcwd()

def told(space):
    return space.newint(OTHER_VERSION)
'''


def with_lines(*lines: str) -> str:
    return "".join(f"{line}\n" for line in lines)


def test_both_versions_are_read() -> None:
    assert read_versions(TEXT, "version.py") == (InterpreterVersion.parse("7.3.23"), "3.11.15")


@pytest.mark.parametrize(
    ("tuple_text", "version"),
    [
        pytest.param('(8, 0, 0, "alpha", 0)', "8.0.0a0", id="alpha"),
        pytest.param('(8, 0, 0, "beta", 1)', "8.0.0b1", id="beta"),
        pytest.param("(7, 3, 23, 'candidate', 2)", "7.3.23rc2", id="candidate"),
        pytest.param('(7, 3, 23, "final", 42)', "7.3.23", id="final with a number"),
    ],
)
def test_every_level_is_read(tuple_text: str, version: str) -> None:
    text = TEXT.replace('(7, 3, 23, "final", 0)', tuple_text)

    assert str(read_versions(text, "version.py")[0]) == version


def test_nothing_of_the_source_is_run() -> None:
    text = with_lines("raise SystemExit(3)", TEXT)

    assert read_versions(text, "version.py")[1] == "3.11.15"


def test_what_is_assigned_last_counts() -> None:
    text = with_lines(TEXT, 'PYPY_VERSION = (7, 3, 24, "final", 0)')

    assert str(read_versions(text, "version.py")[0]) == "7.3.24"


FINAL: Final = '(7, 3, 23, "final", 0)'
LANGUAGE: Final = 'CPYTHON_VERSION = (3, 11, 15, "final", 0)'


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("", id="empty"),
        pytest.param(with_lines(LANGUAGE), id="no interpreter"),
        pytest.param(with_lines(f"PYPY_VERSION = {FINAL}"), id="no language"),
        pytest.param(with_lines(LANGUAGE, "PYPY_VERSION = (7, 3, 23)"), id="too short"),
        pytest.param(with_lines(LANGUAGE, "PYPY_VERSION = '7.3.23'"), id="text"),
        pytest.param(with_lines(LANGUAGE, "PYPY_VERSION = version()"), id="computed"),
        pytest.param(with_lines(LANGUAGE, "PYPY_VERSION = {[]: 1}"), id="unhashable"),
        pytest.param(
            with_lines(LANGUAGE, 'PYPY_VERSION = (8, 0, 0, "candidate", 0)'), id="candidate 0"
        ),
        pytest.param(with_lines(LANGUAGE, "def PYPY_VERSION(: pass"), id="no Python"),
        pytest.param(
            with_lines(LANGUAGE, "if True:", f"    PYPY_VERSION = {FINAL}"), id="in a block"
        ),
    ],
)
def test_another_form_is_refused_with_its_place(text: str) -> None:
    with pytest.raises(SourceError) as caught:
        read_versions(text, "https://git.example: version.py")

    assert str(caught.value).startswith(
        "https://git.example: version.py: does not assign version tuples to PYPY_VERSION and "
        "CPYTHON_VERSION: "
    )
