"""The steps of builds: attempts are counted, the unit is done, and stopped if unwanted."""

from typing import Any

from buildbot.process.buildstep import BuildStep, ShellMixin
from buildbot.process.results import FAILURE, RETRY, SKIPPED, SUCCESS

from pipeline.farm import units
from pipeline.farm.units import COLLECT, PREPARE
from pipeline.frontends.buildbot import pacing
from pipeline.frontends.buildbot.builds import FAULT, LOST
from pipeline.frontends.buildbot.deferring import deferred
from pipeline.frontends.buildbot.orders import order_of, place_of
from pipeline.frontends.buildbot.rows import Listener, Rows
from pipeline.model.farm import FarmConfig


class Attempt(BuildStep):
    """Gives a unit up whose worker was lost too often; it may be what kills them."""

    name = "attempt"
    haltOnFailure = True

    def __init__(self, most: int, **options: Any) -> None:
        super().__init__(**options)
        self._most = most

    @deferred
    async def run(self) -> int:
        """Count the attempts that lost their worker."""
        request = self.build.requests[0].id
        lost, said = 0, "the worker was lost"
        for build in await self.master.data.get(("buildrequests", request, "builds")):
            found = await self.master.data.get(("builds", build["buildid"], "properties"))
            lost += LOST in found
            said, _source = found.get(FAULT, (said, ""))
        if lost >= self._most:
            self.descriptionDone = [f"given up after {lost} attempts: {said}"]
            self.build.must_reap = True
            return FAILURE
        self.descriptionDone = [f"attempt {lost + 1} of {self._most}"]
        return SUCCESS


class _OrderStep(ShellMixin, BuildStep):
    """A step that runs a command of the pipeline for the unit of its build."""

    logEnviron = False
    usePTY = False

    def __init__(self, farm: FarmConfig, **options: Any) -> None:
        super().__init__(**self.setupShellMixin(options))
        self._farm = farm

    def __repr__(self) -> str:
        return self.name

    __str__ = __repr__


class Work(_OrderStep):
    """Does the unit, detached from the worker's process, and takes what it answers."""

    name = "work"
    haltOnFailure = True

    @deferred
    async def run(self) -> int:
        """Start the unit or find it again; follow it to its end."""
        order, place = order_of(self.build, self._farm), place_of(self.build, self._farm)
        self.description = [f"{order.verb[0]} {self.getProperty('unit')}"]
        rows = Rows(self.build)
        listener = Listener(rows)
        self.addLogObserver("stdio", listener)
        command = await self.makeRemoteShellCommand(
            command=units.detached_command(
                place.python, order, place.work(order), self._farm.orphan_minutes
            ),
            workdir=place.root,
            timeout=self._farm.silence_minutes * pacing.MINUTE,
            maxTime=self._farm.longest_hours * 60 * pacing.MINUTE,
        )
        results = RETRY
        try:
            await self.runCommand(command)
            results = self._results(command, listener)
        finally:
            await rows.close(results)
        return results

    def _results(self, command: Any, listener: Listener) -> int:
        results = int(command.results())
        if self.timed_out:
            self.build.must_reap = True
            self.descriptionDone = ["stopped: it was silent, or took, too long"]
        elif results == FAILURE:
            said = units.one_line(f"exit {command.rc}: {listener.last}")[:300]
            self.descriptionDone = [said]
            if "job" in self.build.getProperties() and units.is_machines_fault(command.rc):
                self._keep(FAULT, said)
                return RETRY
        return self._take(listener) if results == SUCCESS else results

    def _take(self, listener: Listener) -> int:
        """Make properties of the answer, if it is one."""
        answer, unit = "".join(listener.answer), self.getProperty("unit")
        run = self.getProperty("run")
        try:
            if unit == PREPARE:
                self._keep("prepared", units.compact(units.read_prepared(answer, run)))
            elif unit == COLLECT:
                self._keep("collected", units.compact(units.read_collected(answer, run)))
            else:
                claim = units.read_claim(answer, run, unit, self.build.getWorkerName())
                self._keep("claim", units.compact(claim))
                self._keep("digests", units.digests(claim))
        except ValueError as error:
            self.descriptionDone = [units.one_line(f"its answer is refused: {error}")[:300]]
            return FAILURE
        return SUCCESS

    def _keep(self, name: str, value: Any) -> None:
        self.setProperty(name, value, "farm")


class Reap(_OrderStep):
    """Stops the unit's work with its containers, if nobody wants it any more."""

    name = "reap"
    alwaysRun = True
    flunkOnFailure = False
    warnOnFailure = True

    def __init__(self, farm: FarmConfig, **options: Any) -> None:
        options.setdefault("doStepIf", lambda step: step.build.must_reap)
        options.setdefault("hideStepIf", lambda results, _step: results == SKIPPED)
        super().__init__(farm, **options)

    @deferred
    async def run(self) -> int:
        """Stop it."""
        order, place = order_of(self.build, self._farm), place_of(self.build, self._farm)
        command = await self.makeRemoteShellCommand(
            command=units.reap_command(place.python, order, place.work(order)),
            workdir=place.root,
        )
        await self.runCommand(command)
        return int(command.results())


class CheckSubmission(BuildStep):
    """Reads what somebody asks for; nothing of it is used before."""

    name = "submission"
    haltOnFailure = True

    @deferred
    async def run(self) -> int:
        """Validate the property ``submission``, and name the run."""
        try:
            asked = units.read_submission(self.getProperty("submission"))
        except ValueError as error:
            self.descriptionDone = [units.one_line(str(error))[:300]]
            return FAILURE
        request = self.build.requests[0]
        self.setProperty("submission", units.compact(asked), "farm")
        self.setProperty("request", asked.request, "farm")
        self.setProperty("run", units.run_name(request.id, request.submittedAt), "farm")
        self.descriptionDone = [f"{asked.channel} {asked.request}"]
        return SUCCESS
