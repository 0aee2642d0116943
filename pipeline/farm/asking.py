"""Asks a farm for a run: joins the one that is there already, or makes one; and stops one."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, TypeVar

from pipeline.config import known
from pipeline.effects.farm_api import BuildRequest, Farm, insist
from pipeline.effects.retry import RetryPolicy
from pipeline.errors import FarmError
from pipeline.farm import client
from pipeline.farm.units import RELEASE
from pipeline.model.farm import Submission

MOST_OPEN: Final = 200
MOST_ENDED: Final = 50
STOP_LOOKS: Final = 30
STOP_WAIT: Final = 2.0  # seconds

T = TypeVar("T")


class How(StrEnum):
    """How there came to be a run of that name."""

    NEW = "submitted"
    OPEN = "is under way already: joined"
    MADE = "was made today: nothing is built again"


@dataclass(frozen=True, kw_only=True)
class Desk:
    """Where a farm takes requests. Each question is asked as often as *retry* allows."""

    farm: Farm
    retry: RetryPolicy

    def ask(self, submission: Submission, *, again: bool, reason: str) -> tuple[BuildRequest, How]:
        """Return the request of this name that is there, or a new one.

        With *again* one that has succeeded already does not count.

        Raises:
            FarmError: the farm does not answer, or does not take it.
        """
        builder = self._insist(self._builder)
        there = self._insist(lambda: self._recent(builder))
        found = client.joinable(there, submission.request, self.farm.now(), again=again)
        if found is not None:
            return found, How.MADE if found.complete else How.OPEN
        before = {request.buildrequestid for request in there}

        def submit() -> int:
            # The answer to the try before this one may have been lost.
            for request in client.named(self._recent(builder), submission.request):
                if request.buildrequestid not in before:
                    return request.buildrequestid
            priority = client.PRIORITIES[submission.channel]
            return self.farm.submit(builder, submission, priority=priority, reason=reason)

        made = self._insist(submit)
        return self._insist(lambda: self.farm.request(made, (client.SUBMISSION,))), How.NEW

    def find(self, name: str) -> BuildRequest:
        """Return the newest request of that name, or the one of the run of that name.

        Raises:
            UnknownNameError: there is none.
            FarmError: the farm does not answer.
        """
        there = self._insist(lambda: self._recent(self._builder()))
        names = {client.run_name(request): request for request in there}
        asked = {
            submission.request: request
            for request in reversed(client.newest_first(there))
            if (submission := client.submission_of(request)) is not None
        }
        return known("run", name, {**names, **asked}, where=self.farm.address)

    def newest_open(self) -> BuildRequest | None:
        """Return the newest request that is not complete, or None."""
        there = self._insist(lambda: self._recent(self._builder()))
        return next((item for item in client.newest_first(there) if not item.complete), None)

    def stop(self, name: str, reason: str, sleep: Callable[[float], None]) -> BuildRequest | None:
        """Stop the open run of that name; return its request, or None if there is none.

        What it has given out is stopped too: the master does so only while a try is under way.

        Raises:
            FarmError: it has not stopped in a while, or the farm does not answer.
        """
        there = self._insist(lambda: self._recent(self._builder()))
        request = next((item for item in client.named(there, name) if not item.complete), None)
        if request is None:
            return None
        told: set[tuple[str, int]] = set()
        for _ in range(STOP_LOOKS):
            if self._insist(lambda: self._stopped(request.buildrequestid, told, reason)):
                self._insist(lambda: self._stop_units(request.buildrequestid, reason))
                return request
            sleep(STOP_WAIT)
        msg = f"{self.farm.address}: {name} has been told to stop, but goes on. Look at its page."
        raise FarmError(msg)

    def _stopped(self, request: int, told: set[tuple[str, int]], reason: str) -> bool:
        """Whether a request has ended; what goes on is told to stop, each try once."""
        if self.farm.request(request, ()).complete:
            return True
        running = [build for build in self.farm.builds([request]) if not build.complete]
        for build in running:
            if ("build", build.buildid) not in told:
                self.farm.stop_build(build.buildid, reason)
                told.add(("build", build.buildid))
        if not running and ("request", request) not in told:
            self.farm.cancel_request(request, reason)
            told.add(("request", request))
        return False

    def _stop_units(self, request: int, reason: str) -> None:
        """Take back what the tries at a request have given out and has not ended."""
        tries = [build.buildid for build in self.farm.builds([request])]
        for unit in self.farm.children(tries, ()):
            if not unit.complete:
                self.farm.cancel_request(unit.buildrequestid, reason)

    def _builder(self) -> int:
        builders = {name: builder for builder, name in self.farm.builders().items()}
        if RELEASE not in builders:
            msg = (
                f"{self.farm.address}: has no builder {RELEASE!r}, so it is no farm of this "
                "pipeline, or not one that is configured."
            )
            raise FarmError(msg)
        return builders[RELEASE]

    def _recent(self, builder: int) -> Sequence[BuildRequest]:
        """Return all open requests for runs, and the last that ended."""
        # First those that are open: one that ends between the two questions is in both.
        asked = (client.SUBMISSION,)
        rows = {
            request.buildrequestid: request
            for complete, limit in ((False, MOST_OPEN), (True, MOST_ENDED))
            for request in self.farm.requests_of(
                builder, complete=complete, limit=limit, properties=asked
            )
        }
        return tuple(rows.values())

    def _insist(self, action: Callable[[], T]) -> T:
        return insist(self.retry, self.farm.address, action)
