"""The processes of a farm on this machine: started, watched, started again, stopped in order."""

import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from pipeline.effects.console import Console
from pipeline.effects.detached import DetachedWork
from pipeline.effects.farm_api import BuildbotFarm
from pipeline.effects.process import Outputs, ProcessRunner, Running, Tool
from pipeline.effects.retry import RetryableError
from pipeline.errors import FarmError, FarmStartError
from pipeline.farm.detached import Stopped, stop
from pipeline.farm.local import LocalFarm, Restarts
from pipeline.farm.worker import twistd_command

MASTER: Final = "master"
INTERVAL: Final = 0.2
STOP_SECONDS: Final = 30.0
READY_SECONDS: Final = 90.0
UPGRADE_SECONDS: Final = 600
LAST_LINES: Final = 15
BUILDBOT: Final = Tool(program="buildbot", purpose="run a farm's master", package="buildbot")


@dataclass(frozen=True, kw_only=True)
class Part:
    """One process of the farm: what it runs, and before each start what is to be made anew."""

    name: str
    command: tuple[str, ...]
    log: Path
    environment: Mapping[str, str] = field(default_factory=dict)
    prepare: Callable[[], None] = lambda: None


class LocalProcesses:
    """The farm's processes; each holds a lock for its life, so that a later farm finds it."""

    def __init__(self, farm: LocalFarm, process: ProcessRunner, console: Console) -> None:
        self._farm = farm
        self._process = process
        self._console = console
        self._parts: dict[str, tuple[Part, Running, Restarts]] = {}

    def stop_left(self, names: Sequence[str]) -> None:
        """Stop what a farm left that was killed itself: its database must have one master."""
        for name in names:
            place = self._place(name)
            if place.is_running:
                stopped = self._stop(name)
                self._console.warn(f"{name} of a farm that was killed: {stopped}")

    def start(self, part: Part) -> None:
        """Start a part of the farm."""
        self._parts[part.name] = (
            part,
            self._started(part),
            Restarts(started_at=time.monotonic()),
        )

    def _started(self, part: Part) -> Running:
        part.prepare()
        place = self._place(part.name)
        with place.deciding(), place.alive("work") as lock:
            running = self._process.start_apart(
                part.command,
                Outputs(stdout=part.log, stderr=part.log, environment=part.environment),
                keep=(lock,),
                leads=True,
            )
            for who in ("session", "work"):
                place.note(who, running.pid)
        return running

    def require_alive(self) -> None:
        """Look at all parts before the farm is ready.

        Raises:
            FarmStartError: one has ended.
        """
        for part, running, _ in self._parts.values():
            if running.has_ended:
                said = last_lines(part.log)
                msg = f"{part.name} does not start. The end of {part.log}:\n{said}"
                raise FarmStartError(msg)

    def look_after(self) -> None:
        """Start again what has ended, later and later if it does not stay."""
        now = time.monotonic()
        for name, (part, running, restarts) in self._parts.items():
            if restarts.due is None and running.has_ended:
                later = restarts.ended(now)
                self._parts[name] = (part, running, later)
                wait = (later.due or now) - now
                self._console.warn(
                    f"{name} ended with status {running.wait()}; again in {wait:.0f} s. {part.log}"
                )
            elif restarts.is_due(now):
                self._parts[name] = (part, self._started(part), restarts.started(now))
                self._console.line(f"{name} started again")

    def stop_all(self) -> None:
        """Stop the master, which then knows that no worker is lost, and after it the workers."""
        for name in self._parts:
            with self._console.step(f"stop {name}") as step:
                stopped = self._stop(name)
                if stopped is not Stopped.INTERRUPTED:
                    step.phase(stopped)

    def _stop(self, name: str) -> Stopped:
        place = self._place(name)
        return stop(place, clock=time.monotonic, pause=self._pause, grace=STOP_SECONDS)

    def _pause(self, seconds: float) -> None:
        for _, running, _ in self._parts.values():
            _ = running.has_ended  # or it would stay as a zombie
        time.sleep(seconds)

    def _place(self, name: str) -> DetachedWork:
        return DetachedWork(self._farm.directory, name)


def create_database(farm: LocalFarm, process: ProcessRunner, code: Mapping[str, str]) -> None:
    """Make the master's tables, or bring them up to what this Buildbot has.

    Raises:
        CommandError: Buildbot refuses; its message says why.
    """
    program = Path(sys.executable).parent / "buildbot"
    process.run(
        (program, "upgrade-master", "--quiet", farm.master),
        tool=BUILDBOT,
        timeout=UPGRADE_SECONDS,
        environment=code,
    )


def master_part(farm: LocalFarm, code: Mapping[str, str]) -> Part:
    """Return the master; it writes to a file of its own once it runs."""
    return Part(
        name=MASTER,
        command=twistd_command(farm.master, "buildbot.tac"),
        log=farm.master / "twistd.log",
        environment=code,
    )


def wait_until_ready(
    url: str, workers: Sequence[str], processes: LocalProcesses, *, seconds: float = READY_SECONDS
) -> None:
    """Wait until the master answers and these workers are there.

    Raises:
        FarmStartError: that takes too long, or a process has ended.
    """
    limit = time.monotonic() + seconds
    missing = missing_workers(url, workers)
    while missing is None or missing:
        processes.require_alive()
        if time.monotonic() >= limit:
            what = (
                "the master does not answer"
                if missing is None
                else f"{', '.join(missing)} did not dial in"
            )
            msg = f"{url}: after {seconds:.0f} s {what}. Look at the logs in the farm's directory."
            raise FarmStartError(msg)
        time.sleep(INTERVAL)
        missing = missing_workers(url, workers)


def missing_workers(url: str, names: Sequence[str]) -> tuple[str, ...] | None:
    """Return which workers are not connected, or None if the master does not answer."""
    try:
        found = {worker.name for worker in BuildbotFarm(url).workers() if worker.connected}
    except (FarmError, RetryableError):
        return None
    return tuple(name for name in names if name not in found)


def last_lines(log: Path) -> str:
    """Return the end of a log."""
    try:
        lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError as error:
        return str(error)
    return "\n".join(lines[-LAST_LINES:])
