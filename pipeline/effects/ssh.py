"""A container engine's socket on another machine, brought here by the user's own ``ssh``.

One ssh process forwards a local socket (``-L``) for as long as this process lives: it runs ``cat``
over there, which ends when nothing holds its standard input any more, even after ``kill -9``. The
ssh program knows the user's keys, agent and host aliases. The SDK's own ssh transport starts a
process for each request, and fails with a broken pipe when one has ended before it is closed.
"""

import atexit
import shutil
import tempfile
import time
from functools import cache
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from pipeline.effects.process import ProcessRunner, Running, Tool
from pipeline.errors import EngineUnavailableError

SOCKET: Final = "/var/run/docker.sock"
CONNECT_TIMEOUT: Final = 30
POLL: Final = 0.05
SSH: Final = Tool(program="ssh", purpose="reach an engine elsewhere", package="openssh-client")
OPTIONS: Final = {
    "BatchMode": "yes",
    "ConnectTimeout": str(CONNECT_TIMEOUT),
    "ExitOnForwardFailure": "yes",
    "ServerAliveInterval": "30",
    "ServerAliveCountMax": "4",
}


def ssh_command(address: str, local: Path) -> tuple[str, ...]:
    """Return the argv that forwards *local* to the engine at *address* (``ssh://user@host:22``).

    A path in the address is that of the socket on the other machine. Pure.
    """
    parts = urlsplit(address)
    host = f"{parts.username}@{parts.hostname}" if parts.username else str(parts.hostname)
    port = ("-p", str(parts.port)) if parts.port else ()
    remote = parts.path.rstrip("/") or SOCKET
    options = (word for item in OPTIONS.items() for word in ("-o", "=".join(item)))
    return ("ssh", "-T", *options, *port, "-L", f"{local}:{remote}", "--", host, "cat")


@cache
def forwarded(address: str) -> str:
    """Return the address of a local socket that leads to the engine at *address*.

    Raises:
        EngineUnavailableError: there is no way there; the message has what ssh said.
        MissingToolError: there is no ssh.
    """
    directory = Path(tempfile.mkdtemp(prefix="rpp-ssh-"))
    atexit.register(shutil.rmtree, directory, ignore_errors=True)
    local, log = directory / "engine.sock", directory / "log"
    tunnel = ProcessRunner().start_tied(ssh_command(address, local), tool=SSH, log=log)
    atexit.register(tunnel.stop)
    if not _appears(local, tunnel):
        tunnel.stop()
        said = log.read_text(errors="replace").strip() or "ssh made no connection"
        msg = (
            f"no container engine answers at {address}: {said}. Check that address: ssh must "
            "reach it without a question, and its user must be allowed to use the engine"
        )
        raise EngineUnavailableError(msg)
    return f"unix://{local}"


def _appears(local: Path, tunnel: Running) -> bool:
    until = time.monotonic() + CONNECT_TIMEOUT
    while not local.exists():
        if tunnel.has_ended or time.monotonic() > until:
            return False
        time.sleep(POLL)
    return True
