"""Work that outlives who started it: its files, and the locks that say who is alive.

Everything is in one directory, ``WORK/detached/NAME/``. Who lives holds a lock on a file, which the
kernel takes away when it dies: a number in a file proves nothing, since numbers are used again.

- ``supervisor.lock``: held by the supervisor. It starts the work, stops it, and records its end.
- ``work.lock``: held by the work, which may outlive its supervisor.
- ``followers.lock``: shared by all who follow; ``start.lock``: held by who decides to start.
- ``stdout``, ``stderr``: what the work writes, from its beginning.
- ``session``, ``work``: the pids of the supervisor, which leads a session, and of the work.
- ``pending``, which becomes ``exit-STATUS``: a status is in a name, since a file can be renamed
  also where the disk is full.
"""

import os
import select
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Final

from pipeline.effects.locks import lock, try_lock
from pipeline.effects.process import Outputs, session_members

DIRECTORY: Final = "detached"
EXIT: Final = "exit-"
PENDING: Final = "pending"


class DetachedWork:
    """The work *name* of one work directory."""

    def __init__(self, root: Path, name: str) -> None:
        self.root = root
        self.name = name
        self.directory = root / DIRECTORY / name

    @property
    def stdout(self) -> Path:
        """What the work writes to its standard output."""
        return self.directory / "stdout"

    @property
    def stderr(self) -> Path:
        """What the work, and its supervisor, write to their standard error."""
        return self.directory / "stderr"

    @property
    def outputs(self) -> Outputs:
        """Where its processes write."""
        return Outputs(stdout=self.stdout, stderr=self.stderr)

    @property
    def is_supervised(self) -> bool:
        """Whether its supervisor lives."""
        return self._is_held("supervisor")

    @property
    def is_running(self) -> bool:
        """Whether the work itself lives, with or without a supervisor."""
        return self._is_held("work")

    @property
    def is_followed(self) -> bool:
        """Whether anybody follows it; only the supervisor asks, since asking takes the lock."""
        with self._lock_file("followers") as stream:
            return not try_lock(stream)

    @property
    def status(self) -> int | None:
        """How the work ended, None while it has not."""
        found = next(self.directory.glob(f"{EXIT}*"), None)
        return None if found is None else int(found.name.removeprefix(EXIT))

    @contextmanager
    def deciding(self) -> Iterator[None]:
        """Wait until nobody else decides whether to start or to stop the work; keep others out."""
        self.directory.mkdir(parents=True, exist_ok=True)
        with self._lock_file("start") as stream:
            lock(stream)
            yield

    @contextmanager
    def followed(self) -> Iterator[None]:
        """Follow the work while the block runs."""
        with self._lock_file("followers") as stream:
            lock(stream, shared=True)
            yield

    @contextmanager
    def alive(self, who: str) -> Iterator[int]:
        """Give a descriptor that holds the lock of the ``supervisor`` or of the ``work``.

        Whoever inherits it holds the lock too, and goes on holding it after the block.
        """
        with self._lock_file(who) as stream:
            lock(stream)
            yield stream.fileno()

    def begin(self) -> None:
        """Forget what an earlier run left, and make the file that will say how this one ends."""
        for name in ("stdout", "stderr", "session", "work", PENDING):
            (self.directory / name).unlink(missing_ok=True)
        for left in self.directory.glob(f"{EXIT}*"):
            left.unlink()
        self.stdout.touch()
        self.stderr.touch()
        (self.directory / PENDING).touch()

    def note(self, who: str, pid: int) -> None:
        """Write down the pid of the ``session`` (its leader, the supervisor) or of the ``work``."""
        (self.directory / who).write_text(str(pid), encoding="ascii")

    def end(self, status: int) -> None:
        """Record how the work ended, all at once and for good.

        Raises:
            OSError: it could not be recorded; then nobody takes the work for a success.
        """
        (self.directory / PENDING).rename(self.directory / f"{EXIT}{status}")
        descriptor = os.open(self.directory, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def interrupt(self) -> bool:
        """Send the work what Ctrl-C sends; return whether there is one.

        What it has started itself is for it to stop.
        """
        pid = self._pid("work")
        if pid is None or not self.is_running:
            return False
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGINT)
        return True

    def kill(self, *, supervisor: bool) -> None:
        """Kill every process of the session but, unless *supervisor*, the one that records the end.

        A session's number is not given to another one while a process of it lives, and the locks
        say that one does.
        """
        session = self._pid("session")
        if session is None or not (self.is_running or self.is_supervised):
            return
        for pid in session_members(session):
            if pid != os.getpid() and (supervisor or pid != session):
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)

    def _pid(self, who: str) -> int | None:
        try:
            return int((self.directory / who).read_text(encoding="ascii"))
        except (FileNotFoundError, ValueError):
            return None

    @contextmanager
    def _lock_file(self, who: str) -> Iterator[IO[str]]:
        with (self.directory / f"{who}.lock").open("a") as stream:
            yield stream

    def _is_held(self, who: str) -> bool:
        """Whether somebody holds a lock alone; those who ask do not disturb each other."""
        try:
            with self._lock_file(who) as stream:
                return not try_lock(stream, shared=True)
        except FileNotFoundError:
            return False


def are_read(descriptors: Sequence[int]) -> bool:
    """Whether what is written to *descriptors* can still be read: no pipe has lost its reader."""
    poll = select.poll()
    for descriptor in descriptors:
        poll.register(descriptor, 0)  # that the other end is gone is told unasked
    return not poll.poll(0)
