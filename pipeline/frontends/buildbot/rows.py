"""Shows what a worker speaks of, while it does it."""

from typing import Any, Final

from buildbot.process.logobserver import LogLineObserver
from buildbot.process.results import FAILURE, SKIPPED, SUCCESS, statusToString
from twisted.internet import defer
from twisted.python import log

from pipeline.farm import units
from pipeline.farm.progress import Begun, Ended, Event, How, Phase, Progress
from pipeline.frontends.buildbot.deferring import deferred

LONGEST_STEP_NAME: Final = 50
"""As Buildbot's table of steps has it."""
MOST_ROWS: Final = 200


class Rows:
    """Shows the stages that a worker speaks of as steps of a build, each in its turn."""

    def __init__(self, build: Any) -> None:
        self._build = build
        self._updates = build.master.data.updates
        self._turn = defer.DeferredLock()
        self._open: dict[str, int] = {}
        self._phases: dict[str, int] = {}
        self._left = MOST_ROWS

    def show(self, event: Event) -> None:
        """Show *event* when those before it are shown."""
        shown = self._turn.run(self._show, event)
        _ = shown.addErrback(lambda failure: log.err(failure, "while showing a stage"))

    @deferred
    async def close(self, results: int) -> None:
        """Wait for what is to be shown, and end with *results* what has not ended."""
        await self._turn.run(self._close, results)

    @deferred
    async def _close(self, results: int) -> None:
        for row in (*self._phases.values(), *self._open.values()):
            await self._updates.finishStep(row, results, False)  # noqa: FBT003 - Buildbot's order

    @deferred
    async def _show(self, event: Event) -> None:
        match event:
            case Begun():
                await self._begin(self._open, event.title, event.title)
            case Phase():
                took = "" if event.seconds is None else f"took {event.seconds} s"
                await self._end(self._phases, event.title, SUCCESS, took)
                stage = event.title.split()[0]
                await self._begin(self._phases, event.title, f"{stage}: {event.phase}")
            case Ended():
                results = {How.DONE: SUCCESS, How.FAILED: FAILURE, How.SKIPPED: SKIPPED}[event.how]
                said = event.reason or f"{event.how} in {event.seconds} s"
                await self._end(self._phases, event.title, min(results, FAILURE), "")
                await self._end(self._open, event.title, results, said)

    async def _begin(self, rows: dict[str, int], title: str, name: str) -> None:
        if self._left <= 0:
            return
        self._left -= 1
        short = name[:LONGEST_STEP_NAME]
        row, _number, _name = await self._updates.addStep(self._build.buildid, short)
        await self._updates.startStep(row, locks_acquired=True)
        await self._updates.setStepStateString(row, "running")
        rows[title] = row

    async def _end(self, rows: dict[str, int], title: str, results: int, said: str) -> None:
        row = rows.pop(title, None)
        if row is not None:
            await self._updates.setStepStateString(row, said or statusToString(results))
            await self._updates.finishStep(row, results, False)  # noqa: FBT003 - Buildbot's order


class Listener(LogLineObserver):
    """Keeps what a worker answers on standard output, and reads progress from standard error."""

    def __init__(self, rows: Rows) -> None:
        super().__init__()
        self.answer: list[str] = []
        self.last = ""
        self._left = units.MOST_OF_AN_ANSWER + 1
        self._rows = rows
        self._progress = Progress()

    def outReceived(self, data: str) -> None:
        """Keep *data*, up to what is refused."""
        self.answer.append(data[: self._left])
        self._left -= len(self.answer[-1])

    def errLineReceived(self, line: str) -> None:
        """Show what a line says of stages."""
        self.last = line.strip() or self.last
        event = self._progress.read(line)
        if event is not None:
            self._rows.show(event)
