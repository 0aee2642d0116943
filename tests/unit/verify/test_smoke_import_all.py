"""The script that imports every module of the packaged library."""

import io
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest

from tests.scripts import smoke_script

MODULES = {
    "lib_pypy/smoke_good.py": "",
    "lib_pypy/smoke_good_build.py": "raise RuntimeError('compiles something')",
    "lib/smoke_package/__init__.py": "",
    "lib/smoke_package/__main__.py": "raise RuntimeError('a program')",
    "lib/smoke_package/inner/__init__.py": "",
    "lib/smoke_package/inner/leaf.py": "",
    "lib/smoke_package/tests/__init__.py": "raise RuntimeError('tests')",
}

Run = Callable[..., int]


@pytest.fixture
def script() -> ModuleType:
    return smoke_script("import_all")


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Make an installation whose two directories of modules are in ``sys.path``."""
    root = tmp_path / "un packed"
    for name, text in MODULES.items():
        write(root / name, text)
    write(tmp_path / "un packed elsewhere" / "smoke_other.py", "raise RuntimeError")
    monkeypatch.setattr(sys, "prefix", str(root))
    monkeypatch.setattr(sys, "builtin_module_names", ("sys",))
    for directory in ("un packed elsewhere", "un packed/lib", "un packed/lib_pypy"):
        monkeypatch.syspath_prepend(tmp_path / directory)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    yield root
    for name in [name for name in sys.modules if name.startswith("smoke_")]:
        del sys.modules[name]


@pytest.fixture
def run(script: ModuleType, root: Path) -> Run:
    """Run the script on that installation, with what need not be importable."""

    def run(known: str = "", *more: str) -> int:
        paths = [root.parent / f"known-{number}.txt" for number in range(1 + len(more))]
        for path, text in zip(paths, (known, *more), strict=True):
            path.write_text(text, encoding="utf-8")
        output = io.StringIO()
        status = script.main([str(path) for path in paths], output)
        assert output.getvalue() == "done\n"
        assert isinstance(status, int)
        return status

    return run


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"{text}\n", encoding="utf-8")


def test_modules_of_every_directory_and_of_packages_are_imported_in_order(
    run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run() == 0
    assert capsys.readouterr().err.splitlines() == [
        "smoke_good",
        "smoke_package",
        "smoke_package.inner",
        "smoke_package.inner.leaf",
        "sys",
        "5 imported, 0 failed",
    ]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("class = 1", "SyntaxError: invalid syntax (smoke_bad.py, line 1)"),
        ("import no_such_module", "ModuleNotFoundError: No module named 'no_such_module'"),
        (
            "raise ImportError('libXft.so.2: no such file')",
            "ImportError: libXft.so.2: no such file",
        ),
        ("raise SystemExit(0)", "SystemExit: 0"),
    ],
    ids=["syntax", "missing-module", "missing-library", "exit"],
)
def test_a_module_that_cannot_be_imported_is_named_at_the_end_and_is_status_1(
    run: Run, root: Path, capsys: pytest.CaptureFixture[str], text: str, reason: str
) -> None:
    write(root / "lib" / "smoke_bad.py", text)

    assert run() == 1
    assert capsys.readouterr().err.splitlines()[-2:] == [
        "5 imported, 1 failed",
        f"smoke_bad: {reason}",
    ]


def test_a_broken_module_deep_in_a_package_is_found(
    run: Run, root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(root / "lib" / "smoke_package" / "inner" / "bad.py", "1 / 0")

    assert run() == 1
    assert "smoke_package.inner.bad: ZeroDivisionError: " in capsys.readouterr().err


def test_a_built_in_module_that_is_missing_is_found(
    run: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "builtin_module_names", ("sys", "smoke_built_in"))

    assert run() == 1
    assert "smoke_built_in: ModuleNotFoundError: " in capsys.readouterr().err


@pytest.mark.parametrize(
    "known",
    [
        ("smoke_package.inner.bad  # a reason\n",),
        ("# modules\nsmoke_package.inner\n",),
        ("smoke_package\n",),
        ("", "smoke_package\n"),
    ],
    ids=["itself", "its-package", "the-package-of-that", "second-list"],
)
def test_a_known_failure_is_excused(run: Run, root: Path, known: tuple[str, ...]) -> None:
    write(root / "lib" / "smoke_package" / "inner" / "bad.py", "1 / 0")

    assert run(*known) == 0


def test_a_name_that_begins_alike_is_not_excused(run: Run, root: Path) -> None:
    write(root / "lib" / "smoke_package" / "inner" / "bad.py", "1 / 0")

    assert run("smoke_pack\nsmoke_package.inn\nsmoke_package.inner.ba\n") == 1


def test_a_library_that_is_not_in_the_path_is_a_failure(
    run: Run, root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "prefix", str(root / "elsewhere"))

    assert run() == 1
    assert "no directory in sys.path is below " in capsys.readouterr().err
