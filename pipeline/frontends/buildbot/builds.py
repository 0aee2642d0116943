"""A build that keeps no worker from work, and is tried again when the master ends."""

from typing import Any, Final

from buildbot.process.build import Build
from buildbot.process.results import CANCELLED, RETRY, worst_status
from twisted.python import log

from pipeline.frontends.buildbot.deferring import deferred

LOST: Final = "worker_lost"
"""The property of a build that ended without its worker, not by the master's stop."""
FAULT: Final = "machine_fault"
"""The property of a build whose machine was not fit for it, with what it said."""


class SafeBuild(Build):
    """A build that never keeps its worker's place, and is tried again after the master's stop.

    ``must_reap`` is whether what it has begun is to be stopped with it.
    """

    must_reap = False
    is_retried = False

    @deferred
    async def startBuild(self, workerforbuilder: Any) -> None:
        """Begin, and end at once if a cancel came in between: stock leaves such a build open."""
        await super().startBuild(workerforbuilder)
        if self.stopped and not self.finished and self._preparation_step is None:
            await self.buildFinished(["cancelled", "before", "it", "began"], self.results)

    def stopBuild(self, reason: str = "<no reason given>", results: int = CANCELLED) -> Any:
        """Stop: RETRY is the master's end, and leaves the work alone; else a person wants it."""
        self.is_retried = self.is_retried or results == RETRY
        self.must_reap = not self.is_retried
        return super().stopBuild(reason, results)

    def buildFinished(self, text: list[str], results: int) -> Any:
        """End: as RETRY if the master goes; and note whether an attempt was lost otherwise."""
        if self.is_retried:
            self.results = results = RETRY
        elif worst_status(self.results, results) == RETRY:
            updates = self.master.data.updates
            noted = updates.setBuildProperty(self.buildid, LOST, value=True, source="Build")
            noted.addErrback(log.err, "while noting a lost attempt")
        return super().buildFinished(text, results)
