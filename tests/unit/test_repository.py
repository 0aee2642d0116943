"""What must hold of the repository's files, whatever they say."""

import importlib.util
import json
import socket
import time
from pathlib import Path

import pytest

from pipeline.config import load_config
from pipeline.effects.process import ProcessRunner
from tests.factories import ROOT

FIXED = {
    "noxfile.py",
    "pyproject.toml",
    "README.md",
    "LICENSE",
    "uv.lock",
    ".git",  # a directory, but a file in a worktree
    ".gitignore",
    ".pre-commit-config.yaml",
}


# What libseccomp calls the machines; one that a profile does not name has its processes killed.
SECCOMP_NAMES = {
    "x86_64": "SCMP_ARCH_X86_64",
    "i686": "SCMP_ARCH_X86",
    "aarch64": "SCMP_ARCH_AARCH64",
}


@pytest.mark.parametrize("host", ["x86_64", "aarch64"])
def test_the_system_call_profile_knows_every_machine_whose_programs_a_worker_runs(
    host: str,
) -> None:
    profile = json.loads((ROOT / "dockerfiles" / "seccomp.json").read_bytes())
    known = {row["architecture"]: row["subArchitectures"] for row in profile["archMap"]}
    rows = load_config(ROOT / "translation_configs").platforms.values()
    native = {row.machine for row in rows if row.os == "linux" and host in row.runs_on}

    own = SECCOMP_NAMES[host]
    assert {SECCOMP_NAMES[machine] for machine in native} <= {own, *known[own]}


def test_no_folder_hides_a_library() -> None:
    """``packaging/`` is on the path from the root; as a package it would be the library's."""
    assert (ROOT / "packaging").is_dir()
    assert [path.name for path in (ROOT / "packaging").rglob("*.py")] == []
    assert not (ROOT / "tests" / "packaging").exists()


def test_the_library_packaging_is_not_the_folder() -> None:
    found = importlib.util.find_spec("packaging")

    assert found is not None
    assert found.origin is not None
    assert ROOT / "packaging" not in Path(found.origin).parents


def test_every_part_of_the_pipeline_says_what_it_is_for() -> None:
    modules = sorted((ROOT / "pipeline").rglob("*.py"))

    assert modules
    assert [path for path in modules if not path.read_text("utf-8").startswith('"""')] == []


def test_only_known_files_are_at_the_top() -> None:
    files = {path.name for path in ROOT.iterdir() if path.is_file()}

    assert {name for name in files - FIXED if not name.startswith(".coverage")} == set()


def test_a_unit_test_cannot_wait() -> None:
    with pytest.raises(pytest.fail.Exception, match=r"called time\.sleep"):
        time.sleep(0)


def test_a_unit_test_cannot_use_the_network() -> None:
    with (
        socket.socket() as unconnected,
        pytest.raises(pytest.fail.Exception, match=r"called socket\.socket\.connect"),
    ):
        unconnected.connect(("127.0.0.1", 9))


def test_a_unit_test_cannot_start_a_process(tmp_path: Path) -> None:
    with pytest.raises(pytest.fail.Exception, match=r"called subprocess\.Popen"):
        ProcessRunner().start_detached(["true"], log=tmp_path / "log")
