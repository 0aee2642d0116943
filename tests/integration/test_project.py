"""The project's own promises: layers hold, unit tests need no network, the demo's tests pass."""

import json
import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import docker
import pytest

from tests.integration.conftest import ROOT, Project

VIOLATIONS = {
    "a model that starts processes": ("pipeline/model/base.py", "import subprocess"),
    "a plan with effects": ("pipeline/plan.py", "from pipeline.effects import files"),
    "a stage that imports the command line": (
        "pipeline/source/runner.py",
        "from pipeline import cli",
    ),
    "a gate that opens sockets": ("pipeline/verify/gates.py", "import socket"),
}


def lint_imports(directory: Path) -> "subprocess.CompletedProcess[str]":
    program = shutil.which("lint-imports")
    if program is None:
        pytest.skip("import-linter is not installed here")
    return subprocess.run(
        [program, "--no-cache"], cwd=directory, capture_output=True, text=True, check=False
    )


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    shutil.copytree(ROOT / "pipeline", tmp_path / "pipeline")
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


def test_the_layers_hold(copied: Path) -> None:
    done = lint_imports(copied)

    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(("path", "line"), VIOLATIONS.values(), ids=list(VIOLATIONS))
def test_a_planted_violation_is_reported(copied: Path, path: str, line: str) -> None:
    module = copied / path
    module.write_text(f"{module.read_text()}\n{line}\n")

    done = lint_imports(copied)

    assert done.returncode == 1
    assert "BROKEN" in done.stdout


def test_unit_tests_pass_without_any_network_interface() -> None:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/unit"]

    done = subprocess.run(
        ["unshare", "--map-root-user", "--net", *command],
        cwd=ROOT,
        env={**os.environ, "HYPOTHESIS_PROFILE": "few"},
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stdout[-3000:]


@pytest.mark.docker
@pytest.mark.slow
@pytest.mark.parametrize("interpreter", ["pypy", "python2"])
def test_the_demos_own_tests_pass_untranslated(fast: Project, interpreter: str) -> None:
    """Under both bootstrap interpreters, with the pinned toolchain and its own pytest."""
    records = [json.loads(path.read_text()) for path in fast.work.glob("cache/environments/*")]
    image = next(item["image_id"] for item in records if item["name"] == "translate")
    (source,) = fast.work.glob("stages/source/*/source.tar")
    container = docker.from_env().containers.create(
        image,
        [interpreter, "-m", "pytest", "-q", "tests"],
        working_dir="/build/source",
        network_mode="none",
        environment={"PYTHONPATH": "/build/toolchain:/build/source", "HOME": "/build/tmp"},
    )
    try:
        container.put_archive("/", source.read_bytes())
        container.start()
        status = container.wait()["StatusCode"]
        log = container.logs().decode()
    finally:
        container.remove(force=True)

    assert status == 0, log
    assert " passed" in log


def test_the_source_archive_has_no_bytecode(fast: Project) -> None:
    (source,) = fast.work.glob("stages/source/*/source.tar")

    with tarfile.open(source) as archive:
        names = archive.getnames()

    assert "build/source/targetdemo.py" in names
    assert not [name for name in names if name.endswith(".pyc")]
