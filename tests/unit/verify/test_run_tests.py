"""The script that runs the standard library's own tests on a packaged interpreter."""

import importlib.util
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[3] / "translation_configs" / "pypy" / "run_tests.py"
MODULES = {
    "test_good": "class Good(unittest.TestCase):\n    def test_one(self): pass\n",
    "test_bad": "class Bad(unittest.TestCase):\n    def test_one(self): self.fail()\n",
    "test_broken": "class = 1\n",
}


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., int]]:
    """Run the script on modules of a package ``test``, with what is known to fail."""
    package = tmp_path / "test"
    package.mkdir()
    (package / "__init__.py").touch()
    for name, text in MODULES.items():
        (package / f"{name}.py").write_text(f"import unittest\n{text}", encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    kept = {name: module for name, module in sys.modules.items() if name.split(".")[0] == "test"}
    for name in kept:
        monkeypatch.delitem(sys.modules, name)
    spec = importlib.util.spec_from_file_location("run_tests", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)

    def run(modules: list[str], known: str = "") -> int:
        (tmp_path / "modules.txt").write_text("# modules\n" + "\n".join(modules), encoding="utf-8")
        (tmp_path / "known.txt").write_text(known, encoding="utf-8")
        status = script.main(str(tmp_path / "modules.txt"), str(tmp_path / "known.txt"))
        assert isinstance(status, int)
        return status

    yield run
    for name in [name for name in sys.modules if name.split(".")[0] == "test"]:
        del sys.modules[name]


def test_passing_tests_are_status_0(
    run: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["test_good"]) == 0
    assert capsys.readouterr().err == ""


def test_a_failure_is_named_and_is_status_1(
    run: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["test_good", "test_bad"]) == 1
    assert capsys.readouterr().err == "failed: test.test_bad.Bad.test_one\n"


def test_a_known_failure_is_excused(run: Callable[..., int]) -> None:
    assert run(["test_bad"], "test.test_bad.Bad.test_one  # the reason\n") == 0


def test_a_known_failure_that_passes_is_named_and_holds_nothing_back(
    run: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["test_good"], "test.test_good.Good.test_one\n") == 0
    assert capsys.readouterr().err == "known to fail, but passed: test.test_good.Good.test_one\n"


def test_a_module_that_cannot_be_imported_is_a_failure_of_its_name(
    run: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["test_good", "test_broken"]) == 1
    assert capsys.readouterr().err == "failed: test.test_broken\n"


def test_a_module_that_is_known_to_be_broken_is_excused(run: Callable[..., int]) -> None:
    assert run(["test_broken"], "test.test_broken\n") == 0
