"""Work that goes on when its worker dies: who starts it, who follows it, and when it is stopped.

A follower starts a supervisor in a session of its own, or finds one, and passes on what the work
writes. The supervisor starts the work, waits for it, and records how it ended. Decisions are
functions of what was found; :mod:`pipeline.effects.detached` finds it.
"""

import shutil
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import IO, Final

from pipeline.effects.detached import DetachedWork
from pipeline.effects.process import ProcessRunner
from pipeline.errors import DetachedError

INTERVAL: Final = 0.2
GRACE: Final = 30.0
KILL_GRACE: Final = 10.0
CHUNK: Final = 1 << 16
SIGNALLED: Final = 128
NEVER: Final = "never"
SUPERVISOR: Final = "pipeline.farm.supervisor"

Clock = Callable[[], float]
Pause = Callable[[float], None]


class Action(StrEnum):
    """What a follower does first."""

    START = "started"
    ATTACH = "found running"
    REPLAY = "done before"


def decide(*, is_supervised: bool, status: int | None) -> Action:
    """Return what to do about work of which this is known.

    What failed is tried again: whoever asks once more wants another outcome.
    """
    if is_supervised:
        return Action.ATTACH
    return Action.REPLAY if status == 0 else Action.START


class Order(StrEnum):
    """What a supervisor does to the work."""

    GO_ON = "go on"
    INTERRUPT = "interrupt"
    KILL = "kill"


@dataclass(frozen=True, kw_only=True)
class Watch:
    """What a supervisor remembers from one look to the next; times are a monotonic clock's.

    ``orphan_seconds`` is how long the work goes on when nobody follows it (None: for ever).
    """

    orphan_seconds: float | None
    followed_at: float
    interrupted_at: float | None = None

    def look(self, now: float, *, is_followed: bool, is_told: bool) -> tuple["Watch", Order]:
        """Return what to remember and what to do *now*; *is_told* says that it has to stop."""
        if self.interrupted_at is not None:
            late = now - self.interrupted_at >= GRACE
            return self, Order.KILL if late else Order.GO_ON
        seen = replace(self, followed_at=now) if is_followed else self
        alone = now - seen.followed_at
        is_orphan = self.orphan_seconds is not None and alone >= self.orphan_seconds
        if is_told or is_orphan:
            return replace(seen, interrupted_at=now), Order.INTERRUPT
        return seen, Order.GO_ON


class Stopped(StrEnum):
    """How work was stopped."""

    NOTHING = "nothing ran"
    INTERRUPTED = "interrupted"
    KILLED = "killed"


def start_or_find(
    work: DetachedWork, process: ProcessRunner, argv: Sequence[str], orphan_seconds: float | None
) -> Action:
    """Start the verb and arguments *argv* under a supervisor, unless that is needless.

    Raises:
        DetachedError: the work directory cannot be written.
    """
    try:
        with work.deciding():
            action = decide(is_supervised=work.is_supervised, status=work.status)
            if action is Action.START:
                # Its supervisor is dead; its container goes on, and the new run adopts it.
                work.kill(supervisor=True)
                _start(work, process, argv, orphan_seconds)
    except OSError as error:
        msg = f"{work.directory}: cannot be written: {error}. Is the disk full?"
        raise DetachedError(msg) from error
    return action


def clear_others(work: DetachedWork, *, clock: Clock, pause: Pause) -> list[str]:
    """Stop what else is left in this work directory, and forget what has ended; return its names.

    A worker does one piece of work at a time for one directory, so what nobody follows is of an
    earlier run, which another machine went on with.

    Raises:
        DetachedError: a process cannot be killed.
    """
    cleared = []
    for directory in sorted(work.directory.parent.glob("*/")):
        other = DetachedWork(work.root, directory.name)
        if other.name == work.name or other.is_followed:
            continue
        if stop(other, clock=clock, pause=pause) is not Stopped.NOTHING:
            cleared.append(other.name)
        shutil.rmtree(directory, ignore_errors=True)
    return cleared


def _start(
    work: DetachedWork, process: ProcessRunner, argv: Sequence[str], orphan_seconds: float | None
) -> None:
    patience = NEVER if orphan_seconds is None else str(orphan_seconds)
    place = (str(work.root), work.name)
    with work.alive("work"):
        work.begin()
    with work.alive("supervisor") as lock:
        process.start_apart(
            (sys.executable, "-m", SUPERVISOR, *place, patience, *argv),
            work.outputs,
            keep=(lock,),
            leads=True,
        )


class Replay:
    """Copies a file that grows to a stream."""

    def __init__(self, path: Path, stream: IO[bytes]) -> None:
        self._path = path
        self._stream = stream
        self._offset = 0

    def copy(self) -> None:
        """Pass on what the file has by now."""
        try:
            file = self._path.open("rb")
        except FileNotFoundError:
            return
        with file:
            file.seek(self._offset)
            while chunk := file.read(CHUNK):
                self._stream.write(chunk)
                self._offset += len(chunk)
        self._stream.flush()


def follow(
    work: DetachedWork, replays: Sequence[Replay], *, pause: Pause, is_read: Callable[[], bool]
) -> int | None:
    """Pass on what the work writes until its end; return its exit status.

    It is None when nobody reads any longer what is passed on: the work goes on.

    Raises:
        DetachedError: the supervisor died, so nobody knows how the work ends.
    """
    with work.followed():
        while True:
            # In this order: a supervisor records the status before it lets go of its lock.
            is_supervised = work.is_supervised
            status = work.status
            if not _copied(replays):
                return None
            if status is not None:
                return status
            if not is_supervised:
                msg = (
                    f"{work.directory}: the supervisor died before it could record how the work "
                    "ended (killed, out of memory, or a full disk). Run the same command again: "
                    "it goes on from what is finished."
                )
                raise DetachedError(msg)
            if not is_read():
                return None
            pause(INTERVAL)


def _copied(replays: Sequence[Replay]) -> bool:
    """Pass on what there is; return whether somebody took it."""
    try:
        for replay in replays:
            replay.copy()
    except BrokenPipeError:
        return False
    return True


def stop(work: DetachedWork, *, clock: Clock, pause: Pause, grace: float = GRACE) -> Stopped:
    """Stop the work as Ctrl-C would; kill what is left after *grace* seconds.

    Nobody else can start or stop it meanwhile. The supervisor is killed only if it stays, since it
    records how the work ended.

    Raises:
        DetachedError: a process cannot be killed.
    """
    if not work.directory.is_dir():
        return Stopped.NOTHING
    with work.deciding():
        if not _is_alive(work):
            return Stopped.NOTHING
        if _ends(work, grace, clock=clock, pause=pause, interrupts=True):
            return Stopped.INTERRUPTED
        for supervisor in (False, True):
            work.kill(supervisor=supervisor)
            if _ends(work, KILL_GRACE, clock=clock, pause=pause):
                return Stopped.KILLED
    msg = (
        f"{work.directory}: its processes do not end, though they were killed; restart the machine."
    )
    raise DetachedError(msg)


def _is_alive(work: DetachedWork) -> bool:
    return work.is_supervised or work.is_running


def _ends(
    work: DetachedWork, seconds: float, *, clock: Clock, pause: Pause, interrupts: bool = False
) -> bool:
    """Wait so long for the end of all of it; return whether it came."""
    limit = clock() + seconds
    was_told = not interrupts
    while _is_alive(work):
        if clock() >= limit:
            return False
        # A supervisor that has just begun has no work yet.
        was_told = was_told or work.interrupt()
        pause(INTERVAL)
    return True


def exit_status(code: int) -> int:
    """Return a process's status as a shell gives it: 128 and the signal for one that was killed."""
    return code if code >= 0 else SIGNALLED - code
