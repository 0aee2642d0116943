"""One builder per identifier, and those of the signer and of the coordinator."""

from collections.abc import Sequence
from typing import Any

from buildbot.plugins import steps, util
from buildbot.process.properties import Properties

from pipeline.farm import units
from pipeline.farm.units import COLLECT, PREPARE, RELEASE, STALE
from pipeline.frontends.buildbot import pacing
from pipeline.frontends.buildbot.builds import SafeBuild
from pipeline.frontends.buildbot.deferring import deferred
from pipeline.frontends.buildbot.fan_out import FanOut
from pipeline.frontends.buildbot.orders import (
    CLAIMS_FILE,
    CODE,
    ENVIRONMENT,
    SUBMISSION_FILE,
    job_of,
    place_of,
    said,
)
from pipeline.frontends.buildbot.steps import Attempt, CheckSubmission, Reap, Work
from pipeline.frontends.buildbot.workers import COORDINATORS, Fit
from pipeline.model.configs import Config
from pipeline.model.farm import Claims, FarmConfig


def make_builders(config: Config, farm: FarmConfig) -> list[Any]:
    """Return one builder per identifier, and those of the signer and of the coordinator."""
    fit = Fit(config, farm)
    memory = util.WorkerLock(
        "memory",
        maxCount=1,
        maxCountForWorker={name: row.memory for name, row in farm.workers.items()},
    )
    found = [
        util.BuilderConfig(
            name=identifier,
            workernames=list(names),
            factory=_factory(_unit_steps(farm)),
            tags=["job"],
            locks=_memory_of_job.withArgs(memory),
            nextWorker=fit.next_worker,
            canStartBuild=fit.can_start,
        )
        for identifier, names in units.unit_workers(config, farm).items()
    ]
    return [*found, *_signer_builders(farm), _release_builder(fit)]


def _signer_builders(farm: FarmConfig) -> list[Any]:
    handed = {PREPARE: (SUBMISSION_FILE, _submission_text), COLLECT: (CLAIMS_FILE, _claims_text)}
    found = [
        util.BuilderConfig(
            name=name,
            workernames=[farm.signer],
            factory=_factory(
                _unit_steps(farm, steps.StringDownload(content, workerdest=file, name=file))
            ),
            tags=["signer"],
        )
        for name, (file, content) in handed.items()
    ]
    if not farm.nightly:
        return found
    stale = util.BuilderConfig(
        name=STALE,
        workernames=[farm.signer],
        factory=_factory([*_code_steps(farm), _stale_step(farm)]),
        tags=["signer"],
    )
    return [*found, stale]


def _release_builder(fit: Fit) -> Any:
    return util.BuilderConfig(
        name=RELEASE,
        workernames=list(COORDINATORS),
        factory=_factory([CheckSubmission(), FanOut(fit)]),
        tags=[RELEASE],
    )


def _factory(found: Sequence[Any]) -> Any:
    factory = util.BuildFactory(found)
    factory.buildClass = SafeBuild
    return factory


def _unit_steps(farm: FarmConfig, *handed: Any) -> list[Any]:
    return [Attempt(farm.attempts), *_code_steps(farm), *handed, Work(farm), Reap(farm)]


@util.renderer
def _memory_of_job(properties: Properties, memory: Any) -> list[Any]:
    job = job_of(properties)
    return [] if job is None else [memory.access("counting", job.memory)]


@util.renderer
def _submission_text(properties: Properties) -> str:
    return units.compact(units.read_submission(properties.getProperty("submission")))


@util.renderer
@deferred
async def _claims_text(properties: Properties) -> str:
    """Return what the release that asked for a collection has been claimed."""
    build = properties.getBuild()
    asked = await build.master.data.get(("buildsets", build.requests[0].bsid))
    path = ("builds", asked["parent_buildid"], "properties")
    value, _source = (await build.master.data.get(path))["claims"]
    return units.compact(Claims.model_validate_json(value))


def _code_steps(farm: FarmConfig) -> list[Any]:
    """Return the steps that bring the pipeline's code, if the worker does not have it already."""
    if farm.repository is None:
        return []
    return [
        steps.Git(
            repourl=farm.repository,
            mode="full",
            method="fresh",
            workdir=CODE,
            retry=(10, 2),
            logEnviron=False,
            haltOnFailure=True,
        ),
        steps.ShellCommand(
            name="environment",
            command=_sync_command,
            workdir=CODE,
            env={"UV_PROJECT_ENVIRONMENT": util.Interpolate(f"%(prop:builddir)s/{ENVIRONMENT}")},
            logEnviron=False,
            haltOnFailure=True,
        ),
    ]


@util.renderer
def _sync_command(properties: Properties) -> list[str]:
    python = said(properties.getBuild().getWorkerInfo(), "python", "python3")
    return ["uv", "sync", "--locked", "--no-install-project", "--python", python]


def _stale_step(farm: FarmConfig) -> Any:
    def command(properties: Properties) -> list[str]:
        python = place_of(properties.getBuild(), farm).python
        return [python, "-m", "pipeline", "status", "--check"]

    def root(properties: Properties) -> str:
        return place_of(properties.getBuild(), farm).root

    return steps.ShellCommand(
        name="status",
        command=util.renderer(command),
        workdir=util.renderer(root),
        timeout=farm.silence_minutes * pacing.MINUTE,
        logEnviron=False,
    )
