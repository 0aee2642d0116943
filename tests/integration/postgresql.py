"""A PostgreSQL server of its own for a test, if its programs are on this machine."""

import contextlib
import os
import pwd
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

NO_SERVER = "needs PostgreSQL's initdb and pg_ctl (Debian: apt-get install postgresql)"


def programs() -> Path | None:
    """Return the directory of the newest server's programs; None if there is none."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=_number)
    return found[-1].parent if found else None


def _number(path: Path) -> int:
    name = path.parent.parent.name
    return int(name) if name.isdecimal() else 0


@dataclass(frozen=True, kw_only=True)
class Postgresql:
    """A running server that trusts everybody on this machine."""

    base: Path
    port: int

    @property
    def url(self) -> str:
        """The address of its first database, for SQLAlchemy."""
        return f"postgresql+psycopg2://postgres@127.0.0.1:{self.port}/postgres"

    def start(self) -> None:
        """Start it, and wait until it answers."""
        options = (
            f"-p {self.port} -c listen_addresses=127.0.0.1 -c unix_socket_directories={self.base}"
        )
        self._control("start", "-w", "-o", options, "-l", str(self.base / "log"))

    def stop(self) -> None:
        """Stop it at once, as a power cut would."""
        self._control("stop", "-m", "immediate")

    def _control(self, *arguments: str) -> None:
        _run("pg_ctl", "-D", str(self.base / "data"), *arguments)


def _run(program: str, *arguments: str) -> None:
    """Run one of the server's programs; it refuses to be root, so root is another user then."""
    directory = programs()
    assert directory is not None
    user = "postgres" if os.geteuid() == 0 else None
    subprocess.run(
        [str(directory / program), *arguments],
        check=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        cwd="/",
        user=user,
        group=user,
        extra_groups=[] if user else None,
        timeout=60,
    )


@contextlib.contextmanager
def running_postgresql(base: Path, port: int) -> Iterator[Postgresql]:
    """Make an empty server below *base* and run it."""
    base.mkdir(mode=0o755)
    if os.geteuid() == 0:
        user = pwd.getpwnam("postgres")
        os.chown(base, user.pw_uid, user.pw_gid)
    _run("initdb", "-A", "trust", "-U", "postgres", "-N", "-D", str(base / "data"))
    server = Postgresql(base=base, port=port)
    server.start()
    try:
        yield server
    finally:
        with contextlib.suppress(subprocess.CalledProcessError):
            server.stop()
        shutil.rmtree(base, ignore_errors=True)
