"""A real registry for tests: Debian's docker-registry (distribution 2.8) on the loopback."""

import ctypes
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Final

import pytest

SALT: Final = b"$2b$04$abcdefghijklmnopqrstuu"
STARTS_WITHIN: Final = 20.0


@contextmanager
def running_registry(
    directory: Path, *, password: str | None = None, deletes: bool = True
) -> Iterator[int]:
    """Run a registry that keeps its content in *directory*; give its port.

    With a *password* it is for the user ``me`` only. It takes away manifests if it *deletes*.
    """
    if shutil.which("docker-registry") is None:
        pytest.skip("docker-registry is not installed")
    port = _free_port()
    directory.mkdir(parents=True, exist_ok=True)
    config = directory / "registry.yml"
    config.write_text(_config(directory, port, password, deletes=deletes))
    with (directory / "log").open("wb") as log:
        process = subprocess.Popen(
            ["docker-registry", "serve", str(config)], stdout=log, stderr=log
        )
        try:
            _wait_for(port, process, directory / "log")
            yield port
        finally:
            process.terminate()
            process.wait(30)


def _config(directory: Path, port: int, password: str | None, *, deletes: bool) -> str:
    delete = f"{{enabled: {str(deletes).lower()}}}"
    lines = [
        "version: 0.1",
        "log: {level: warn}",
        f"storage: {{filesystem: {{rootdirectory: {directory}/data}}, delete: {delete}}}",
        f"http: {{addr: '127.0.0.1:{port}'}}",
    ]
    if password is not None:
        users = directory / "htpasswd"
        users.write_text(f"me:{_bcrypt(password)}\n")
        lines.append(f"auth: {{htpasswd: {{realm: tests, path: {users}}}}}")
    return "\n".join(lines) + "\n"


def _bcrypt(password: str) -> str:
    """Hash a password as htpasswd files have it, with the C library's function."""
    library = ctypes.CDLL("libcrypt.so.1")
    library.crypt.restype = ctypes.c_char_p
    hashed: bytes = library.crypt(password.encode(), SALT)
    return hashed.decode()


def _free_port() -> int:
    with closing(socket.socket()) as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def _wait_for(port: int, process: "subprocess.Popen[bytes]", log: Path) -> None:
    end = time.monotonic() + STARTS_WITHIN
    while time.monotonic() < end and process.poll() is None:
        with closing(socket.socket()) as client:
            if client.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise AssertionError(log.read_text())
