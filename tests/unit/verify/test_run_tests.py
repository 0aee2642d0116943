"""The script that runs the standard library's own tests on a packaged interpreter."""

import io
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest

from tests.scripts import smoke_script

MODULES = {
    "test_good": "class Good(unittest.TestCase):\n    def test_one(self): pass\n",
    "test_bad": "class Bad(unittest.TestCase):\n    def test_one(self): self.fail()\n",
    "test_broken": "class = 1\n",
    "test_exit": "raise SystemExit(0)\n",
    "test_class": (
        "class Class(unittest.TestCase):\n    def test_one(self): pass\n"
        "    @classmethod\n    def setUpClass(cls): raise RuntimeError\n"
    ),
    "test_module": (
        "class Class(unittest.TestCase):\n    def test_one(self): pass\n"
        "def tearDownModule(): raise RuntimeError\n"
    ),
    "test_subtest": (
        "class Class(unittest.TestCase):\n    def test_one(self):\n"
        "        with self.subTest('a b', i=1): self.fail()\n"
    ),
    "test_noisy": (
        "import sys\nclass Noisy(unittest.TestCase):\n"
        "    def test_one(self): print('done'); print('failed', file=sys.stderr)\n"
    ),
    "test_support": (
        "verbose = True\ndef _run_suite(suite): raise RuntimeError\n"
        "def run_unittest(case):\n"
        "    _run_suite(unittest.defaultTestLoader.loadTestsFromTestCase(case))\n"
    ),
    "test_old": (
        "from test import test_support\n"
        "class Base(unittest.TestCase):\n    def test_one(self): self.kind\n"
        "class Real(Base):\n    kind = 1\n    def test_two(self): self.fail()\n"
        "def test_main(): test_support.run_unittest(Real)\n"
    ),
}


@pytest.fixture
def script() -> ModuleType:
    return smoke_script("run_tests")


@pytest.fixture
def run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: ModuleType
) -> Iterator[Callable[..., int]]:
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
    monkeypatch.setattr(script.time, "time", lambda: 0.0)

    def run(modules: list[str], known: str = "") -> int:
        (tmp_path / "modules.txt").write_text("# modules\n" + "\n".join(modules), encoding="utf-8")
        (tmp_path / "known.txt").write_text(known, encoding="utf-8")
        output = io.StringIO()
        status = script.main(str(tmp_path / "modules.txt"), str(tmp_path / "known.txt"), output)
        assert output.getvalue() == "done\n"
        assert isinstance(status, int)
        return status

    yield run
    for name in [name for name in sys.modules if name.split(".")[0] == "test"]:
        del sys.modules[name]


def last_line(capsys: pytest.CaptureFixture[str]) -> str:
    return capsys.readouterr().err.splitlines()[-1]


def test_passing_tests_are_status_0(
    run: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["test_good"]) == 0
    told = capsys.readouterr()
    assert told.out == ""
    assert re.fullmatch(r"test_good: 1 tests, \d+\.\d s\n1 tests, 0 known failures\n", told.err)


def test_a_failure_is_named_and_is_status_1(
    run: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["test_good", "test_bad"]) == 1
    assert last_line(capsys) == "failed: test.test_bad.Bad.test_one: AssertionError(None)"


def test_a_known_failure_is_excused(run: Callable[..., int]) -> None:
    assert run(["test_bad"], "test.test_bad.Bad.test_one  # the reason\n") == 0


@pytest.mark.parametrize(("machine", "status"), [("aarch64", 0), ("x86_64", 1)])
def test_a_failure_may_be_known_on_one_machine_only(
    machine: str, status: int, run: Callable[..., int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("platform.machine", lambda: machine)

    assert run(["test_bad"], "test.test_bad.Bad.test_one @aarch64  # the reason\n") == status


def test_a_known_failure_that_passes_is_named_and_holds_nothing_back(
    run: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["test_good"], "test.test_good.Good.test_one\n") == 0
    assert last_line(capsys) == "known to fail, but passed: test.test_good.Good.test_one"


def test_a_module_that_cannot_be_imported_is_a_failure_of_its_name(
    run: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["test_good", "test_broken"]) == 1
    assert last_line(capsys).startswith("failed: test.test_broken: SyntaxError('invalid syntax'")


def test_a_module_that_is_known_to_be_broken_is_excused(run: Callable[..., int]) -> None:
    assert run(["test_broken"], "test.test_broken\n") == 0


def test_a_module_that_ends_the_program_is_a_failure_of_its_name(
    run: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["test_exit", "test_good"]) == 1
    assert last_line(capsys).startswith("failed: test.test_exit: SystemExit(")


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("test_class", "test.test_class.Class"),
        ("test_module", "test.test_module"),
        ("test_subtest", "test.test_subtest.Class.test_one"),
    ],
)
def test_a_fixture_is_named_by_its_class_or_module_and_a_subtest_by_its_test(
    run: Callable[..., int], capsys: pytest.CaptureFixture[str], module: str, name: str
) -> None:
    assert run([module]) == 1
    assert last_line(capsys).startswith(f"failed: {name}: ")
    assert run([module], name) == 0


def test_a_fixture_that_is_known_to_fail_excuses_no_other(run: Callable[..., int]) -> None:
    assert run(["test_class", "test_module"], "test.test_class.Class\n") == 1


def test_what_tests_print_is_not_in_the_way(
    run: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["test_noisy"]) == 0
    told = capsys.readouterr()
    assert told.out == ""
    assert re.fullmatch(r"test_noisy: 1 tests, \d+\.\d s\n1 tests, 0 known failures\n", told.err)


def test_a_module_of_python_2_says_itself_which_of_its_classes_are_tests(
    run: Callable[..., int],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    script: ModuleType,
) -> None:
    monkeypatch.setattr(script, "IS_PYTHON_2", True)

    assert run(["test_old"]) == 1
    assert [line for line in capsys.readouterr().err.splitlines() if "failed: " in line] == [
        "failed: test.test_old.Real.test_two: AssertionError(None)"
    ]
