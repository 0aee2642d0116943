"""``python -m pipeline.farm.supervisor ROOT NAME SECONDS VERB ARGS...``: starts and watches work.

It is a process of its own, and loads little: one of it lives beside each job, and each job waits
for its start. A follower starts it, see :mod:`pipeline.farm.detached`; nobody else does.
"""

import os
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from pipeline.effects.detached import DetachedWork
from pipeline.effects.process import ProcessRunner, Running, Tool
from pipeline.farm.detached import INTERVAL, NEVER, Order, Watch, exit_status

PIPELINE: Final = (sys.executable, "-m", "pipeline")
PYTHON: Final = Tool(program=sys.executable, purpose="run the pipeline", package="python3")
CLEANING: Final = 120


class Told:
    """Whether the system has told this process to stop."""

    def __init__(self) -> None:
        self.is_told = False

    def listen(self) -> None:
        """Take SIGTERM for the wish to stop; SIGINT and SIGHUP are for others.

        Handlers, since a signal that is ignored would be ignored by the work too.
        """
        signal.signal(signal.SIGTERM, lambda _number, _frame: self._tell())
        for number in (signal.SIGINT, signal.SIGHUP):
            signal.signal(number, lambda _number, _frame: None)

    def _tell(self) -> None:
        self.is_told = True


def main(argv: Sequence[str]) -> int:
    """Run the verb to its end, record how it ended, and return that."""
    root, name, patience, *verb = argv
    work = DetachedWork(Path(root), name)
    work.note("session", os.getpid())
    told = Told()
    told.listen()
    process = ProcessRunner()
    with work.alive("work") as lock:
        running = process.start_apart((*PIPELINE, *verb), work.outputs, keep=(lock,), leads=False)
    work.note("work", running.pid)
    seconds = None if patience == NEVER else float(patience)
    was_stopped = watch(work, running, told, seconds)
    status = exit_status(running.wait())
    if was_stopped:
        _remove_containers(process, work)
    work.end(status)
    return status


def watch(work: DetachedWork, running: Running, told: Told, orphan_seconds: float | None) -> bool:
    """Stop the work when nobody follows it, or when told; return whether it was stopped."""
    remembered = Watch(orphan_seconds=orphan_seconds, followed_at=time.monotonic())
    while not running.has_ended:
        remembered, order = remembered.look(
            time.monotonic(), is_followed=work.is_followed, is_told=told.is_told
        )
        match order:
            case Order.INTERRUPT:
                why = "told to" if told.is_told else f"nobody follows for {orphan_seconds:.0f} s"
                sys.stderr.write(f"{work.name} is stopped: {why}\n")
                sys.stderr.flush()
                running.interrupt()
            case Order.KILL:
                work.kill(supervisor=False)
            case Order.GO_ON:
                pass
        time.sleep(INTERVAL)
    return remembered.interrupted_at is not None


def _remove_containers(process: ProcessRunner, work: DetachedWork) -> None:
    """Remove what a work that was killed left in the engine; failing that, say so."""
    done = process.run(
        (*PIPELINE, "reap", work.name, "--work", work.root, "--only-containers"),
        tool=PYTHON,
        timeout=CLEANING,
        check=False,
    )
    sys.stderr.write(f"{done.last_lines}\n")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
