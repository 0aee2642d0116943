"""An engine on another machine: reached by a real sshd here, asked by doctor, given a release."""

import os
import platform
import pwd
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.conftest import Project

pytestmark = [pytest.mark.docker, pytest.mark.network]

SSHD = shutil.which("sshd", path="/usr/sbin:/usr/local/sbin")
HERE = f"linux-{platform.machine()}"
FOREIGN = {"x86_64": "linux-aarch64", "aarch64": "linux-x86_64"}[platform.machine()]
WAIT = 10.0
NEW_KEY = ("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f")


def free_port() -> int:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        return int(bound.getsockname()[1])


def wait_for(port: int) -> None:
    until = time.monotonic() + WAIT
    while time.monotonic() < until:
        with socket.socket() as tried:
            if tried.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.1)
    msg = f"sshd does not answer at port {port}"
    raise AssertionError(msg)


def write_client(directory: Path, port: int) -> Path:
    """Write an ``ssh`` that knows the server, as a user's own configuration would."""
    host_key = (directory / "host_key.pub").read_text(encoding="ascii")
    (directory / "known_hosts").write_text(f"[127.0.0.1]:{port} {host_key}", encoding="ascii")
    config = directory / "config"
    config.write_text(
        f"Host *\n  IdentityFile {directory}/user_key\n  IdentitiesOnly yes\n"
        f"  UserKnownHostsFile {directory}/known_hosts\n  StrictHostKeyChecking yes\n"
    )
    client = directory / "bin" / "ssh"
    client.parent.mkdir()
    client.write_text(f'#!/bin/sh\nexec {shutil.which("ssh")} -F {config} "$@"\n')
    client.chmod(0o755)
    return client


@pytest.fixture
def by_ssh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Give the address of this machine's engine as another machine would reach it."""
    if SSHD is None:
        pytest.skip("no sshd here (apt-get install openssh-server)")
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(exist_ok=True)
    directory = tmp_path / "ssh"
    directory.mkdir(mode=0o700)
    for name in ("host_key", "user_key"):
        subprocess.run([*NEW_KEY, directory / name], check=True)
    port = free_port()
    client = write_client(directory, port)
    options = {
        "ListenAddress": f"127.0.0.1:{port}",
        "HostKey": directory / "host_key",
        "AuthorizedKeysFile": directory / "user_key.pub",
        "PidFile": "none",
        "PermitRootLogin": "yes",
        "StrictModes": "no",
        "UsePAM": "no",
    }
    command = [SSHD, "-D", "-e", "-f", "/dev/null"]
    command += [word for name, value in options.items() for word in ("-o", f"{name}={value}")]
    server = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    try:
        wait_for(port)
        monkeypatch.setenv("PATH", f"{client.parent}:{os.environ['PATH']}")
        yield f"ssh://{pwd.getpwuid(os.geteuid()).pw_name}@127.0.0.1:{port}"
    finally:
        server.kill()
        server.wait()


def test_doctor_asks_an_engine_elsewhere_what_it_can_do(project: Project, by_ssh: str) -> None:
    ran = project.run("doctor", "--engine", f"{FOREIGN}={by_ssh}", check=False)

    lines = [line for line in ran.stderr.splitlines() if line.startswith(f"{FOREIGN}: ")]
    assert [line.split(":", 1)[1].split("  ")[0].strip() for line in lines] == [
        "engine",
        "memory",
        "disk",
        f"programs of {FOREIGN.removeprefix('linux-')}",
    ]
    assert f"version {engine_version()}, {platform.machine()}" in lines[0]
    assert "run there" in lines[3]


def engine_version() -> str:
    asked = ["docker", "version", "--format", "{{.Server.Version}}"]
    return subprocess.run(asked, check=True, capture_output=True, text=True).stdout.strip()


@pytest.mark.slow
def test_a_release_is_made_by_an_engine_elsewhere(project: Project, by_ssh: str) -> None:
    project.run("release", "demo", "--platform", HERE, "--engine", f"{HERE}={by_ssh}")

    assert list(project.store.glob("**/*-linux64.tar.gz"))


@pytest.mark.parametrize("address", ["tcp://127.0.0.1:1", "ssh://nobody@127.0.0.1:1"])
def test_an_engine_that_does_not_answer_is_told_of_before_any_work(
    address: str, project: Project
) -> None:
    ran = project.run("release", "demo", "--engine", f"{HERE}={address}", check=False)

    assert ran.status == 21
    assert f"no container engine answers at {address}" in ran.stderr
    assert "Check that address" in ran.stderr
    assert not (project.work / "stages").exists()
