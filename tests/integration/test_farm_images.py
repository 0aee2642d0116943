"""The images of a farm: what the compose file promises, and a worker and a master made of images.

Building both takes minutes and an index of Python packages, so that is done where it is asked for:
``RPP_FARM_IMAGES=1 nox -s integration -- tests/integration/test_farm_images.py``.
"""

import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import docker
import pytest
import requests
import yaml  # type: ignore[import-untyped] # comes with what stands for S3
from docker.errors import DockerException

from pipeline.config import load_farm
from tests.integration.conftest import ROOT
from tests.integration.local_farm import wait_for

ASKED = "RPP_FARM_IMAGES"
PARTS = ("pipeline", "translation_configs", "dockerfiles", "packaging")
FILES = ("pyproject.toml", "uv.lock", "README.md", "LICENSE")
SYSTEM_CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")


@pytest.fixture(scope="module")
def compose() -> Any:
    return yaml.safe_load((ROOT / "dockerfiles" / "farm" / "compose.yaml").read_text())


def test_a_team_s_farm_has_the_workers_of_farm_toml(compose: Any) -> None:
    workers = load_farm(ROOT / "translation_configs").workers

    assert set(compose["services"]) == {"database", "master", *workers}
    for name in workers:
        service = compose["services"][name]
        assert service["hostname"] == name
        assert f"--name={name}" in service["command"]
        assert {option.partition("=")[0] for option in service["command"]} >= {
            "--master",
            "--ca",
            "--password-file",
        }


def test_a_team_s_farm_is_open_to_workers_only(compose: Any) -> None:
    ports = {name: item["ports"] for name, item in compose["services"].items() if "ports" in item}

    assert ports == {"master": ["127.0.0.1:8010:8010", "9989:9989"]}
    assert compose["networks"]["database"] == {"internal": True}
    assert compose["services"]["database"]["networks"] == ["database"]


def test_a_worker_sees_its_own_password_only_and_no_secret_is_a_variable(compose: Any) -> None:
    services = compose["services"]
    for name in load_farm(ROOT / "translation_configs").workers:
        secrets = services[name]["secrets"]
        assert secrets[0] == "ca"
        assert [compose["secrets"][item]["file"] for item in secrets[1:]] == [
            f"${{FARM}}/secrets/worker-{name}"
        ]
        assert "environment" not in services[name]
        assert "${FARM}" not in str(services[name]["volumes"])
    assert set(services["database"]["environment"]) == {
        "POSTGRES_USER",
        "POSTGRES_DB",
        "POSTGRES_PASSWORD_FILE",
    }


def test_a_team_s_images_are_named_by_who_runs_them_and_start_again(compose: Any) -> None:
    for service in compose["services"].values():
        assert service["image"].startswith("${")
        assert service["image"].endswith(":?by digest}")
        assert service["restart"] == "always"
    assert compose["services"]["master"]["user"].startswith("${FARM_USER:?")


@pytest.fixture
def context(tmp_path: Path) -> Path:
    """What an image is built from, with the certificates that this machine trusts."""
    directory = tmp_path / "context"
    for name in PARTS:
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / name, directory / name, ignore=ignored)
    for name in FILES:
        shutil.copy(ROOT / name, directory / name)
    if SYSTEM_CERTIFICATES.is_file():
        certificates = directory / "dockerfiles" / "farm" / "certificates"
        shutil.copy(SYSTEM_CERTIFICATES, certificates / "here.crt")
    return directory


@pytest.fixture
def build(context: Path) -> Callable[[str], str]:
    """Give a function that builds one of the images and returns its id."""
    client = docker.from_env()
    base = next(
        (
            str(image.id)
            for image in client.images.list()
            if any(tag.startswith("rpython-pipeline/base-bookworm:") for tag in image.tags)
            and image.attrs["Architecture"] == "amd64"
        ),
        None,
    )
    if base is None:
        pytest.skip("no base image of Debian 12 is here; a release of the demo makes one")

    def make(name: str) -> str:
        command = ["docker", "build", "--quiet", "--network=host", f"--build-arg=BASE={base}"]
        command += [f"--file={context}/dockerfiles/farm/{name}.Dockerfile", str(context)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=1200, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout.split()[-1]

    return make


def reaches_an_index() -> bool:
    try:
        return requests.get("https://pypi.org/simple/uv/", timeout=10).ok
    except requests.RequestException:
        return False


@pytest.mark.slow
@pytest.mark.docker
@pytest.mark.network
@pytest.mark.skipif(ASKED not in os.environ, reason=f"takes 4 minutes; {ASKED}=1 asks for it")
def test_a_worker_of_an_image_dials_in_to_a_master_of_an_image(
    build: Callable[[str], str], tmp_path: Path
) -> None:
    if not reaches_an_index():
        pytest.skip("no index of Python packages can be reached")
    farm, pages, workers = tmp_path / "farm", free_port(), free_port()
    subprocess.run(
        [
            *(sys.executable, "-m", "pipeline", "farm", "--prepare-only"),
            *("--directory", str(farm), "--port", str(pages), "--worker-port", str(workers)),
        ],
        cwd=ROOT,
        check=True,
    )
    images = [build("master"), build("worker")]
    client = docker.from_env()
    running = []
    try:
        running.append(
            client.containers.run(
                images[0],
                detach=True,
                network_mode="host",
                user=f"{os.getuid()}:{os.getgid()}",
                environment={"FARM": str(farm)},
                volumes=[f"{farm}:{farm}"],
            )
        )
        wait_for(lambda: answers(pages), 120)
        running.append(
            client.containers.run(
                images[1],
                ["--name=worker-1", f"--master=127.0.0.1:{workers}", "--password-file=/run/w"],
                detach=True,
                network_mode="host",
                volumes=[
                    f"{farm}/secrets/worker-worker-1:/run/w:ro",
                    f"{farm}/tls/ca.pem:/run/secrets/ca:ro",
                ],
            )
        )
        wait_for(lambda: "worker-1" in connected(pages), 60)
    finally:
        logs = [container.logs().decode(errors="replace") for container in running]
        for container in running:
            with suppress(DockerException):
                container.remove(force=True, v=True)

    assert "Connected to buildmaster" in logs[1]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def connected(port: int) -> set[str]:
    answer = requests.get(f"http://127.0.0.1:{port}/api/v2/workers", timeout=10)
    return {item["name"] for item in answer.json()["workers"] if item["connected_to"]}


def answers(port: int) -> bool:
    try:
        return "coordinator-1" in connected(port)
    except requests.RequestException:
        return False
