"""The scripts that say what the packaged interpreter is, and what it was translated with."""

import json
import platform
import runpy
import sys
import sysconfig
from collections.abc import Mapping
from typing import Any, Final

import pytest

from tests.scripts import SCRIPTS

VERSION: Final = (
    "3.11.15 (194f9f44b505, Nov 21 2026, 10:00:00)\n[PyPy 7.3.23 with GCC 10.2.1 20210110]"
)
GOOD: Final[Mapping[str, object]] = {
    "implementation": "pypy",
    "interpreter_version": [7, 3, 23, "final", 0],
    "language_version": "3.11.15",
    "version": VERSION,
    "version_line": "PyPy 7.3.23",
    "revision": "194f9f44b505",
    "machine": "x86_64",
    "extension_suffix": ".pypy311-pp73-x86_64-linux-gnu.so",
}


@pytest.fixture
def _pypy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let this interpreter say that it is a PyPy."""
    monkeypatch.setattr(sys, "pypy_version_info", (7, 3, 23, "final", 0), raising=False)
    monkeypatch.setattr(sys, "version", VERSION)
    monkeypatch.setattr(
        sys, "_git", ("PyPy", "release-pypy3.11-v7.3.23", "194f9f44b505"), raising=False
    )
    monkeypatch.setattr(platform, "python_implementation", lambda: "PyPy")
    monkeypatch.setattr(platform, "python_version", lambda: "3.11.15")
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    monkeypatch.setattr(sysconfig, "get_config_var", {"EXT_SUFFIX": GOOD["extension_suffix"]}.get)


def told(script: str, capsys: pytest.CaptureFixture[str]) -> Any:
    runpy.run_path(str(SCRIPTS / script))
    return json.loads(capsys.readouterr().out)


@pytest.mark.usefixtures("_pypy")
def test_an_interpreter_is_reported_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    assert told("report.py", capsys) == GOOD


@pytest.mark.usefixtures("_pypy")
@pytest.mark.parametrize(
    ("module", "name", "value", "wrong"),
    [
        (platform, "python_implementation", lambda: "CPython", {"implementation": "cpython"}),
        (
            sys,
            "pypy_version_info",
            (7, 3, 23, "alpha", 0),
            {"interpreter_version": [7, 3, 23, "alpha", 0]},
        ),
        (platform, "python_version", lambda: "3.11.14", {"language_version": "3.11.14"}),
        (platform, "machine", lambda: "aarch64", {"machine": "aarch64"}),
        (
            sysconfig,
            "get_config_var",
            {"SO": ".pypy-73.so"}.get,
            {"extension_suffix": ".pypy-73.so"},
        ),
        (sysconfig, "get_config_var", {}.get, {"extension_suffix": None}),
    ],
    ids=["implementation", "version", "language", "machine", "suffix-2.7", "no-suffix"],
)
def test_another_value_is_reported_and_nothing_else_changes(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    module: object,
    name: str,
    value: object,
    wrong: dict[str, object],
) -> None:
    monkeypatch.setattr(module, name, value)

    assert told("report.py", capsys) == {**GOOD, **wrong}


@pytest.mark.usefixtures("_pypy")
def test_another_version_in_the_first_line_is_reported(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    version = VERSION.replace("PyPy 7.3.23", "PyPy 7.3.24-alpha0")
    monkeypatch.setattr(sys, "version", version)

    expected = {**GOOD, "version": version, "version_line": "PyPy 7.3.24-alpha0"}
    assert told("report.py", capsys) == expected


@pytest.mark.usefixtures("_pypy")
def test_revisions_that_contradict_each_other_are_not_taken_for_one(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "_git", ("PyPy", "main", "d3d629bf20c9"))

    assert told("report.py", capsys) == {**GOOD, "revision": VERSION}


@pytest.mark.usefixtures("_pypy")
def test_an_old_interpreter_names_its_revision_otherwise(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delattr(sys, "_git")
    monkeypatch.setattr(sys, "_mercurial", ("PyPy", "main", "194f9f44b505"), raising=False)

    assert told("report.py", capsys) == GOOD


@pytest.mark.parametrize("name", ["pypy_version_info", "version", "_git"])
@pytest.mark.usefixtures("_pypy")
def test_an_interpreter_that_is_no_pypy_cannot_be_reported(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.delattr(sys, name)

    with pytest.raises(AttributeError):
        runpy.run_path(str(SCRIPTS / "report.py"))


@pytest.mark.parametrize(
    "options",
    [
        {"translation.gc": "incminimark", "translation.jit": True},
        {"translation.gc": "minimark", "translation.jit": False, "translation.make_jobs": 1},
    ],
    ids=["jit", "no-jit"],
)
def test_the_options_of_the_translation_are_told_as_they_are(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    options: dict[str, object],
) -> None:
    monkeypatch.setattr(sys, "pypy_translation_info", options, raising=False)

    assert told("translation_info.py", capsys) == options


def test_an_interpreter_that_was_not_translated_has_no_options() -> None:
    with pytest.raises(AttributeError, match="pypy_translation_info"):
        runpy.run_path(str(SCRIPTS / "translation_info.py"))
