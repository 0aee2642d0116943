"""The demo for other platforms: by a cross compiler, and for musl.

Everything is real: the cross compiler, QEMU for what runs on the target, the clean containers of
the target's architecture.
"""

import json
import platform
import tarfile
from pathlib import Path
from typing import Any

import pytest

from tests.integration.conftest import Project, copy_project

pytestmark = [
    pytest.mark.docker,
    pytest.mark.qemu,
    pytest.mark.network,
    pytest.mark.slow,
    pytest.mark.skipif(platform.machine() != "x86_64", reason="cross compilers are for x86_64"),
]

# More of them take a quarter of an hour of bootstrapping on a new machine.
PLATFORMS = ("linux-aarch64", "linux-musl-x86_64")


@pytest.fixture(scope="module")
def released(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A release of the demo without JIT for both, by one command."""
    project = copy_project(tmp_path_factory.mktemp("cross"), jit=False)
    options = [word for name in PLATFORMS for word in ("--platform", name)]
    project.run("release", "demo", *options)
    return project


def manifest(project: Project) -> dict[str, Any]:
    (path,) = project.store.glob("demo/demo-v*/*-manifest.json")
    return dict(json.loads(path.read_bytes()))


def build_info(project: Project, suffix: str) -> dict[str, Any]:
    (path,) = project.store.glob(f"demo/demo-v*/*-{suffix}.tar.gz")
    with tarfile.open(path) as archive:
        file = archive.extractfile(f"{path.name.removesuffix('.tar.gz')}/BUILD-INFO.json")
        assert file is not None
        return dict(json.load(file))


def test_one_command_releases_for_every_platform(released: Project) -> None:
    facts = manifest(released)["platforms"]

    assert {fact["platform"] for fact in facts} == set(PLATFORMS)


@pytest.mark.parametrize("suffix", ["aarch64", "linux64-musl"])
def test_an_archive_says_how_it_was_made(suffix: str, released: Project) -> None:
    info = build_info(released, suffix)

    assert info["mode"] == "cross"
    assert "--platform=arm" in info["command"]


def test_musls_program_needs_musl_alone(released: Project) -> None:
    verified = [
        record
        for path in released.work.glob("stages/verify/*/record.json")
        if (record := json.loads(path.read_bytes()))["stem"].endswith("-musl")
    ]
    gates = {gate["gate"]: gate["measured"] for gate in verified[0]["gates"]}

    assert gates["ELF03"] == "no glibc"
    assert gates["ELF04"] == "libc.so"


def test_what_cannot_be_done_here_is_told_before_anything_is_made(tmp_path: Path) -> None:
    project = copy_project(tmp_path, jit=False)

    ran = project.run(
        "release", "demo", "--platform", "linux-s390x", "--mode", "cross", check=False
    )

    assert ran.status == 25
    assert "linux-s390x cannot be translated in mode cross on this worker" in ran.stderr
    assert "possible in mode emulated" in ran.stderr
    assert not (project.work / "stages").exists()
