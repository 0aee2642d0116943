"""A worker's directory: how it dials in, and what it says of itself.

``worker.tac`` and ``worker.json`` are what ``twistd`` runs; ``info/`` is sent to the master at each
connection: ``facts`` (JSON), ``root`` and ``python`` (where the pipeline is). What is in ``jobs/``
is work under way, which a new start of the worker finds again.
"""

import importlib.util
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final

from pydantic import Field

from pipeline.effects.files import write_atomically
from pipeline.errors import FarmExtraError
from pipeline.farm.settings import escaped, read_secret
from pipeline.model.base import Model, Name, pretty_json
from pipeline.model.farm import Facts

TAC: Final = "worker.tac"
SETTINGS: Final = "worker.json"
INFO: Final = "info"
TRUST: Final = "trust"
WORKER_PACKAGE: Final = "buildbot_worker"
MASTER_PACKAGE: Final = "buildbot"
KEEPALIVE: Final = 60
# A worker that lost its master should be back before its job is given to another one.
LONGEST_WAIT: Final = 20


@dataclass(frozen=True, kw_only=True)
class Master:
    """Where a master listens for workers; without TLS if *is_plain*.

    *ca* is the PEM file of who signed its certificate (None: one that this system trusts).
    """

    host: str
    port: int
    ca: Path | None = None
    is_plain: bool = False


class WorkerSettings(Model):
    """``worker.json``: *connection* describes an endpoint to Twisted; times are in seconds."""

    name: Name
    connection: str
    password_file: Path
    keepalive: Annotated[int, Field(ge=10)] = KEEPALIVE
    longest_wait: Annotated[int, Field(ge=1)] = LONGEST_WAIT


def require_extra(package: str) -> None:
    """Refuse to go on without what the farm runs on.

    Raises:
        FarmExtraError: this Python does not have it.
    """
    if importlib.util.find_spec(package) is None:
        raise FarmExtraError(package, python=sys.executable)


def connection(master: Master, trust: Path | None) -> str:
    """Return how Twisted is told to dial; *trust* is a directory with certificates."""
    host = escaped(master.host)
    if master.is_plain:
        return f"tcp:{host}:{master.port}"
    roots = "" if trust is None else f":trustRoots={escaped(trust)}"
    return f"tls:{host}:{master.port}{roots}"


def write_worker(
    directory: Path, name: str, master: Master, password_file: Path, *, tac: Path
) -> None:
    """Make or renew what ``twistd`` runs in *directory*; *tac* is the file to copy.

    Raises:
        ConfigError: the password is missing, empty, or others can read it.
    """
    read_secret(password_file)
    trust = None
    if master.ca is not None:
        trust = directory / TRUST
        write_atomically(trust / "ca.pem", master.ca.read_bytes())
    settings = WorkerSettings(
        name=name, connection=connection(master, trust), password_file=password_file
    )
    write_atomically(directory / SETTINGS, pretty_json(settings))
    write_atomically(directory / TAC, tac.read_bytes())


def announce(directory: Path, facts: Facts, root: Path) -> None:
    """Write what the worker says of itself; the pipeline's code is in *root*."""
    info = directory / INFO
    for name, text in (
        ("facts", pretty_json(facts).decode()),
        ("host", pretty_json(facts).decode()),  # the one of these that a master tells others
        ("root", f"{root}\n"),
        ("python", f"{sys.executable}\n"),
    ):
        write_atomically(info / name, text.encode())


def twistd_command(directory: Path, tac: str) -> tuple[str, ...]:
    """Return the command that runs *tac* of *directory* in the foreground, logging to its output.

    No file with a pid is written: one of a killed process would keep the next from starting. Who
    starts it holds a lock instead.
    """
    beside = Path(sys.executable).parent / "twistd"
    program = str(beside) if beside.exists() else shutil.which("twistd") or "twistd"
    return (
        *(program, "--nodaemon", "--pidfile=", f"--rundir={directory}"),
        f"--python={directory / tac}",
    )
