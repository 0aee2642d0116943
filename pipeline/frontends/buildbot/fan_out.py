"""Gives the units of a run out, and waits for them."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

from buildbot.data.resultspec import Filter
from buildbot.plugins import schedulers
from buildbot.process.build import Build
from buildbot.process.buildstep import BuildStep, BuildStepFailed
from buildbot.process.properties import Properties
from buildbot.process.results import CANCELLED, RETRY, SUCCESS, WARNINGS, statusToString
from buildbot.reporters.utils import getURLForBuild, getURLForBuildrequest
from twisted.internet import defer
from twisted.python.failure import Failure

from pipeline.farm import units
from pipeline.farm.units import COLLECT, PREPARE, Outcome
from pipeline.frontends.buildbot import pacing
from pipeline.frontends.buildbot.deferring import deferred
from pipeline.frontends.buildbot.workers import Fit
from pipeline.model.farm import Claim, Claims, Prepared, PreparedJob

UNITS: Final = "units"
"""The name of the scheduler by which units are given out."""


class Units(schedulers.Triggerable):
    """Makes requests of units, with the priority of the release that they belong to."""

    @deferred
    async def order(
        self, builder: str, properties: dict[str, str], *, parent: Build, code: str, priority: int
    ) -> int:
        """Return the number of a new request of *builder* for a unit of *parent*."""
        found = Properties()
        found.update(properties, "farm")
        stamp = {"codebase": "", "revision": code or None}
        _, requests = await self.addBuildsetForSourceStampsWithDefaults(
            f"unit {properties['unit']} of {properties['run']}",
            [stamp],
            waited_for=False,  # else the end of the master would cancel it
            priority=priority,
            properties=found,
            builderNames=[builder],
            parent_buildid=parent.buildid,
            parent_relationship="unit of",
        )
        return int(next(iter(requests.values())))


class StoppedError(Exception):
    """The release is stopped, or the master or its coordinator ends."""


@dataclass(frozen=True)
class Child:
    """How a unit's request has ended: its last build, if there was one."""

    results: int
    said: str
    url: str
    properties: dict[str, Any]

    def get(self, name: str) -> str:
        """Return a property of the build, or an empty text."""
        value, _source = self.properties.get(name, ("", ""))
        return str(value)


class FanOut(BuildStep):
    """Gives a run's units out and waits for them: ``prepare``, all jobs, ``collect``.

    Tried again, it finds the requests that earlier builds of its own request made, and waits for
    those. It leaves them alone when the master or its worker ends, and cancels them when a person
    stops it.
    """

    name = "units"
    warnOnWarnings = True

    def __init__(self, fit: Fit, **options: Any) -> None:
        super().__init__(**options)
        self._fit = fit
        self._known: dict[str, int] = {}
        self._mine: dict[str, int] = {}
        self._jobs: dict[str, PreparedJob] = {}
        self._lacking: dict[str, float] = {}
        self._given_up: dict[str, str] = {}
        self._stop: int | None = None
        self._woken: defer.Deferred[None] = defer.Deferred()
        self._code = ""
        self._units_log: Any = None

    def __repr__(self) -> str:
        return self.name

    __str__ = __repr__

    @deferred
    async def run(self) -> int:
        """Do a whole run."""
        consumer = await self.master.mq.startConsuming(
            lambda _key, _message: self._wake(), ("buildrequests", None, "complete")
        )
        try:
            self._units_log = await self.addLog("units")
            self._known = await self._earlier_units()
            return await self._whole_run()
        except StoppedError:
            if self._stop == CANCELLED:
                # Of an earlier attempt, too: one that has ended is not cancelled any more.
                for request in {*self._known.values(), *self._mine.values()}:
                    self._cancel(request, "the release was stopped")
            return RETRY if self._stop is None else self._stop
        finally:
            consumer.stopConsuming()

    async def _whole_run(self) -> int:
        prepared = await self._prepare()
        if not prepared.releases:
            unchanged = ", ".join(prepared.unchanged) or "nothing"
            return self._say(f"skipped: unchanged since {unchanged}"[:300], SUCCESS)
        outcomes = await self._translate(prepared)
        failed = [outcome for outcome in outcomes if outcome.claim is None]
        await self._collect(units.claims_of(prepared.run, outcomes))
        done = f"{len(outcomes) - len(failed)} of {len(outcomes)} jobs, collected"
        return self._say(done, WARNINGS if failed else SUCCESS)

    async def _prepare(self) -> Prepared:
        child = (await self._all_of([PREPARE]))[PREPARE]
        if child.results != SUCCESS:
            raise self._failed(PREPARE, child.said)
        self._code = child.get("got_revision")
        try:
            prepared = units.read_prepared(child.get("prepared"), self.getProperty("run"))
        except ValueError as error:
            raise self._failed(PREPARE, str(error)) from error
        # Messages, badges and the build state name its releases.
        self.setProperty("prepared", child.get("prepared"), "farm")
        return prepared

    async def _translate(self, prepared: Prepared) -> list[Outcome]:
        jobs, without = units.job_units(prepared, self.master.botmaster.builders)
        self._jobs = {job.identifier: job for job in jobs}
        children = await self._all_of([job.identifier for job in jobs])
        return [*without, *(self._outcome(job, children[job.identifier]) for job in jobs)]

    def _outcome(self, job: PreparedJob, child: Child) -> Outcome:
        claim, reason = None, self._given_up.get(job.identifier, child.said)
        if child.results == SUCCESS:
            try:
                claim = Claim.model_validate_json(child.get("claim"))
            except ValueError:
                reason = "its build succeeded, but has no claim"
        return Outcome(job, claim, f"{reason} ({child.url})")

    async def _collect(self, claims: Claims) -> None:
        # The collection reads it from this build, which its request names as parent.
        self.setProperty("claims", units.compact(claims), "farm")
        await self.master.data.updates.setBuildProperties(self.build.buildid, self.build)
        child = (await self._all_of([COLLECT]))[COLLECT]
        if child.results != SUCCESS:
            raise self._failed(COLLECT, child.said)
        self.setProperty("collected", child.get("collected"), "farm")

    def _say(self, said: str, results: int) -> int:
        self.descriptionDone = [said]
        return results

    def _failed(self, unit: str, said: str) -> BuildStepFailed:
        self.descriptionDone = [units.one_line(f"{unit}: {said}")[:300]]
        return BuildStepFailed()

    async def _all_of(self, names: Iterable[str]) -> dict[str, Child]:
        """Give units out that are not yet, and wait until all have ended."""
        waiting = {name: await self._request_of(name) for name in names}
        ended: dict[str, Child] = {}
        while waiting:
            requests = await self._requests(waiting.values())
            for name, request in list(waiting.items()):
                if requests[request]["complete"]:
                    ended[name] = await self._child(waiting.pop(name))
                    await self._tell(f"{name}: {statusToString(ended[name].results)}")
                elif not requests[request]["claimed"]:
                    self._give_up_if_lacking(name, request)
            self.description = [f"{len(ended)} of {len(ended) + len(waiting)} units"]
            self.updateSummary()
            if waiting:
                await self._news()
        return ended

    async def _request_of(self, name: str) -> int:
        """Return the request of a unit, made now if no earlier build has made it."""
        if self._stop is not None:
            raise StoppedError
        how = "found again" if name in self._known else "given out"
        request = self._known[name] if name in self._known else await self._order(name)
        self._mine[name] = request
        await self._tell(f"{name}: {how}, request {request}")
        await self.addURL(name, getURLForBuildrequest(self.master, request))
        return request

    async def _order(self, name: str) -> int:
        properties = {
            "unit": name,
            "run": self.getProperty("run"),
            "submission": self.getProperty("submission"),
            "code": self._code,
        }
        if name in self._jobs:
            properties["job"] = units.compact(self._jobs[name])
        scheduler: Units = self.master.scheduler_manager.namedServices[UNITS]
        asked = await self._requests([self.build.requests[0].id])
        priority = asked[self.build.requests[0].id]["priority"]
        return await scheduler.order(
            name, properties, parent=self.build, code=self._code, priority=priority
        )

    async def _requests(self, numbers: Iterable[int]) -> dict[int, Any]:
        chosen = Filter("buildrequestid", "in", list(numbers))
        found = await self.master.data.get(("buildrequests",), filters=[chosen])
        return {request["buildrequestid"]: request for request in found}

    async def _child(self, request: int) -> Child:
        builds = await self.master.data.get(("buildrequests", request, "builds"))
        results = (await self._requests([request]))[request]["results"]
        if not builds:
            url = getURLForBuildrequest(self.master, request)
            return Child(results, statusToString(results), url, {})
        last = max(builds, key=lambda build: build["buildid"])
        url = getURLForBuild(self.master, last["builderid"], last["number"])
        found = await self.master.data.get(("builds", last["buildid"], "properties"))
        return Child(results, last["state_string"], url, found)

    async def _earlier_units(self) -> dict[str, int]:
        """Return the requests of units that earlier builds of this request have made."""
        own = self.build.requests[0].id
        builds = await self.master.data.get(("buildrequests", own, "builds"))
        parents = [build["buildid"] for build in builds if build["buildid"] != self.build.buildid]
        if not parents:
            return {}
        found = {}
        chosen = Filter("parent_buildid", "in", parents)
        for asked in await self.master.data.get(("buildsets",), filters=[chosen]):
            properties = await self.master.data.get(("buildsets", asked["bsid"], "properties"))
            one = Filter("buildsetid", "eq", [asked["bsid"]])
            for request in await self.master.data.get(("buildrequests",), filters=[one]):
                found[str(properties["unit"][0])] = int(request["buildrequestid"])
        return found

    def _give_up_if_lacking(self, name: str, request: int) -> None:
        """Cancel a unit that no worker which is there could have done for long."""
        # Reading the configuration again may have taken the builder away.
        builder, now = self.master.botmaster.builders.get(name), self.master.reactor.seconds()
        reason = self._fit.lacking(builder, self._jobs.get(name))
        if reason is None:
            self._lacking.pop(name, None)
        elif now - self._lacking.setdefault(name, now) >= self._minutes * pacing.MINUTE:
            said = f"no worker could do it for {self._minutes} minutes: {reason}"
            self._given_up[name] = said
            self._cancel(request, said)

    @property
    def _minutes(self) -> int:
        return self._fit.farm.missing_minutes

    def _cancel(self, request: int, reason: str) -> None:
        self.master.data.control("cancel", {"reason": reason}, ("buildrequests", request))

    async def _news(self) -> None:
        """Wait until a request has ended somewhere, or it is time to look for workers again."""
        timer = self.master.reactor.callLater(pacing.LOOK_SECONDS, self._wake)
        await self._woken
        self._woken = defer.Deferred()
        if timer.active():
            timer.cancel()
        if self._stop is not None:
            raise StoppedError

    def _wake(self) -> None:
        if not self._woken.called:
            self._woken.callback(None)

    async def _tell(self, line: str) -> None:
        await self._units_log.addStdout(f"{line}\n")

    def interrupt(self, reason: Any) -> Any:
        """Stop waiting; the units are cancelled only if it is a person's will."""
        goes_on = isinstance(reason, Failure) or self.build.is_retried
        self._stop = RETRY if goes_on else CANCELLED
        self._wake()
        return super().interrupt(reason)
