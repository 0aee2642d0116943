"""The master's process, and that there is one on a database."""

import fcntl
import sys
from pathlib import Path
from typing import IO, Any, Final, Protocol, cast

from buildbot.master import BuildMaster
from sqlalchemy import URL, Connection, create_engine, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.pool import NullPool
from twisted.application import service
from twisted.internet import reactor, task, threads
from twisted.python import log
from twisted.python.log import FileLogObserver, ILogObserver
from twisted.python.logfile import LogFile

from pipeline.errors import WorkdirBusyError
from pipeline.farm.settings import database_url
from pipeline.frontends.buildbot import pacing
from pipeline.frontends.buildbot.configuration import settings_of
from pipeline.frontends.buildbot.deferring import deferred

LOCK_NUMBER: Final = 0x7270_7974_686F_6E
"""The advisory lock of PostgreSQL that a living master holds on its database."""


def application_in(directory: Path) -> Any:
    """Return the application that ``twistd`` runs: one master, its files in *directory*."""
    application = service.Application("buildmaster")
    logfile = LogFile.fromFullPath(
        str(directory / "twistd.log"), rotateLength=10_000_000, maxRotatedFiles=10
    )
    application.setComponent(ILogObserver, FileLogObserver(logfile).emit)
    OneMaster(directory).setServiceParent(application)
    BuildMaster(str(directory), "master.cfg").setServiceParent(application)
    return application


class OneMaster(service.Service):
    """Holds the master's database, before Buildbot touches it and until the process ends.

    A second master on it would mark the builds of the first as lost. Reading the configuration
    again, or checking it, holds nothing.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._hold: Hold | None = None

    def privilegedStartService(self) -> None:
        """Take the database; ends the process if another one has it."""
        try:
            self._hold = hold_of(database_url(settings_of(self._directory)), self._directory)
            self._hold.take()
        except WorkdirBusyError as error:
            log.msg(f"refused: {error}")
            # twistd has put its log in the place of sys.stderr by now.
            if sys.__stderr__ is not None:
                sys.__stderr__.write(f"error: {error}\n")
            raise SystemExit(error.exit_code) from error
        _ = task.LoopingCall(self._look).start(pacing.LOCK_SECONDS, now=False)

    @deferred
    async def _look(self) -> None:
        """Take it again if it was dropped; end the master if another one was faster."""
        try:
            if self._hold is not None:
                await threads.deferToThread(self._hold.renew)
        except WorkdirBusyError as error:
            log.msg(f"the database was lost to another master: {error}")
            cast("Any", reactor).stop()
        except SQLAlchemyError as error:
            log.msg(f"the database does not answer, so it is not known whether it is held: {error}")


class Hold(Protocol):
    """Keeps other masters from a database."""

    def take(self) -> None:
        """Take it, until the process ends; WorkdirBusyError: another master has it."""

    def renew(self) -> None:
        """Take it again if it was dropped meanwhile; errors as above."""


def hold_of(url: str, directory: Path) -> Hold:
    """Return how the database *url* is held; a relative path is below *directory*."""
    parsed = make_url(url)
    if parsed.get_backend_name() == "postgresql":
        return ServerHold(parsed)
    return FileHold(directory / f"{parsed.database or 'memory'}.lock")


class FileHold:
    """A file beside sqlite's that is locked. One for each directory, if it is in memory."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file: IO[str] | None = None

    def take(self) -> None:
        """Lock the file."""
        self._file = self.path.open("a+", encoding="utf-8")
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            self._file.close()
            msg = f"another master uses the database beside {self.path}. Stop it first."
            raise WorkdirBusyError(msg) from error

    def renew(self) -> None:
        """Do nothing: only the end of the process drops it."""


class ServerHold:
    """An advisory lock of PostgreSQL, which its connection holds; a restart there drops it."""

    def __init__(self, url: URL) -> None:
        self._url = url
        self._connection: Connection | None = None

    def take(self) -> None:
        """Connect, and lock."""
        connection = create_engine(self._url, poolclass=NullPool).connect()
        taken = connection.execute(text(f"SELECT pg_try_advisory_lock({LOCK_NUMBER})")).scalar()
        connection.commit()
        if not taken:
            connection.close()
            msg = f"another master uses the database {self._url.database}. Stop it first."
            raise WorkdirBusyError(msg)
        self._connection = connection

    def renew(self) -> None:
        """Ask whether the connection lives, and lock by another one if not."""
        if self._is_alive():
            return
        self._connection = None
        self.take()

    def _is_alive(self) -> bool:
        if self._connection is None:
            return False
        try:
            self._connection.execute(text("SELECT 1"))
            self._connection.commit()
        except SQLAlchemyError:
            return False
        return True
