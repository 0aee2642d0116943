"""The script that starts Tcl and Tk of the packaged interpreter."""

import runpy
import sys
from pathlib import Path
from types import ModuleType
from typing import Final

import pytest

SCRIPT: Final = Path(__file__).parents[3] / "translation_configs" / "pypy" / "tcl.py"


class TclError(Exception):
    """What Tcl and Tk raise."""


class Tcl:
    """An interpreter that knows where its scripts and those of Tk are."""

    library: Path
    tk_library: Path

    def eval(self, command: str) -> str:
        """Answer the two commands that are asked."""
        return str({"info library": self.library, "set tk_library": self.tk_library}[command])


def no_display() -> None:
    msg = "no display name"
    raise TclError(msg)


def no_scripts() -> None:
    msg = "Can't find a usable init.tcl"
    raise TclError(msg)


@pytest.fixture
def tkinter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """Put a module in Tk's place, with the scripts in an installation."""
    root = tmp_path / "un packed"
    for name in ("lib/tcl8.6/init.tcl", "lib/tk8.6/tk.tcl"):
        (root / name).parent.mkdir(parents=True)
        (root / name).touch()
    monkeypatch.setattr(Tcl, "library", root / "lib" / "tcl8.6", raising=False)
    monkeypatch.setattr(Tcl, "tk_library", root / "lib" / "tk8.6", raising=False)
    module = ModuleType("tkinter")
    vars(module).update(TclError=TclError, Tcl=Tcl, Tk=no_display)
    monkeypatch.setitem(sys.modules, "tkinter", module)
    monkeypatch.setattr(sys, "prefix", str(root))
    return module


@pytest.mark.usefixtures("tkinter")
def test_the_places_of_the_scripts_and_the_want_of_a_display_are_told(
    capsys: pytest.CaptureFixture[str],
) -> None:
    runpy.run_path(str(SCRIPT))

    assert capsys.readouterr().out == "lib/tcl8.6\nlib/tk8.6\nno display name\n"


@pytest.mark.usefixtures("tkinter")
def test_scripts_of_the_system_are_told_from_those_of_the_installation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "system").mkdir()
    (tmp_path / "system" / "init.tcl").touch()
    monkeypatch.setattr(Tcl, "library", tmp_path / "system")

    runpy.run_path(str(SCRIPT))

    assert capsys.readouterr().out.startswith("../system\n")


@pytest.mark.usefixtures("tkinter")
@pytest.mark.parametrize("name", ["lib/tcl8.6/init.tcl", "lib/tk8.6/tk.tcl"])
def test_a_missing_script_is_a_failure(tmp_path: Path, name: str) -> None:
    (tmp_path / "un packed" / name).unlink()

    with pytest.raises(FileNotFoundError, match=name):
        runpy.run_path(str(SCRIPT))


def test_a_tcl_that_does_not_start_is_a_failure(
    monkeypatch: pytest.MonkeyPatch, tkinter: ModuleType
) -> None:
    monkeypatch.setattr(tkinter, "Tcl", no_scripts)

    with pytest.raises(TclError, match=r"init\.tcl"):
        runpy.run_path(str(SCRIPT))
