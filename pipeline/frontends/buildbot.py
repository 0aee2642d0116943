"""The plan as a Buildbot master: the only module that builds on Buildbot's classes (GPL-2.0).

Sections: the configuration, workers, builders with their steps, the fan-out, the process, and
operations. What is decided without Buildbot stands in :mod:`pipeline.farm.units`.

Stock Buildbot does not keep ten hours' work through the death of a process, so this has its own
build class, fan-out step and attempts' limit. They use names of Buildbot that are private to it:
the version is pinned, and each has a test that fails with the stock class.
"""

import fcntl
import functools
import os
from collections.abc import Callable, Coroutine, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any, Final, ParamSpec, TypeVar

from buildbot.data.resultspec import Filter
from buildbot.master import BuildMaster
from buildbot.plugins import schedulers, steps, util, worker
from buildbot.process.build import Build
from buildbot.process.buildstep import BuildStep, BuildStepFailed, ShellMixin
from buildbot.process.logobserver import LogLineObserver
from buildbot.process.properties import Properties
from buildbot.process.results import (
    CANCELLED,
    FAILURE,
    RETRY,
    SKIPPED,
    SUCCESS,
    WARNINGS,
    statusToString,
    worst_status,
)
from buildbot.reporters.utils import getURLForBuild, getURLForBuildrequest
from buildbot.util import datetime2epoch
from buildbot.worker.protocols import pb
from sqlalchemy import create_engine, text
from sqlalchemy.engine import make_url
from sqlalchemy.pool import NullPool
from twisted.application import service
from twisted.internet import defer, task, threads
from twisted.python import log
from twisted.python.failure import Failure
from twisted.python.log import FileLogObserver, ILogObserver
from twisted.python.logfile import LogFile

from pipeline.config import load_config, load_farm
from pipeline.errors import WorkdirBusyError
from pipeline.farm import units
from pipeline.farm.progress import Begun, Ended, Event, How, Phase, Progress
from pipeline.farm.settings import (
    ADMIN_FILE,
    SETTINGS_NAME,
    SETTINGS_VARIABLE,
    WORKER_FILE,
    MasterSettings,
    database_url,
    read_settings,
    secret,
)
from pipeline.farm.units import COLLECT, PREPARE, RELEASE, STALE, Order, Outcome
from pipeline.model.configs import Config
from pipeline.model.farm import (
    Claim,
    Claims,
    DockerLatent,
    Ec2Latent,
    FarmConfig,
    FarmWorker,
    KubernetesLatent,
    NightlySchedule,
    Prepared,
    PreparedJob,
    Submission,
)

CONFIGS: Final = "translation_configs"
COORDINATOR: Final = "coordinator"
UNITS: Final = "units"
SUBMIT: Final = "submit"
RELEASES_AT_A_TIME: Final = 8
MOST_OF_A_LOG: Final = 64 * 1024 * 1024
TAIL_OF_A_LOG: Final = 1024 * 1024
LONGEST_STEP_NAME: Final = 50
MOST_ROWS: Final = 200
MINUTE: int = 60
LOOK_SECONDS: float = 15.0
"""How often it is looked whether a unit lacks a worker; ends of units are told at once."""

CODE: Final = "code"
ENVIRONMENT: Final = "environment"
SUBMISSION_FILE: Final = "submission.json"
CLAIMS_FILE: Final = "claims.json"
LOST: Final = "worker_lost"
"""The property of a build that ended without its worker, not by the master's stop."""

P = ParamSpec("P")
R = TypeVar("R")


def deferred(
    function: Callable[P, Coroutine[Any, Any, R]],
) -> Callable[P, "defer.Deferred[R]"]:
    """Make what Twisted waits for of a coroutine function."""

    @functools.wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> "defer.Deferred[R]":
        return defer.Deferred.fromCoroutine(function(*args, **kwargs))

    return call


# --- The configuration -------------------------------------------------------------------------


def config_beside(directory: Path) -> dict[str, Any]:
    """Return ``BuildmasterConfig`` for the settings in *directory*, or where the variable says.

    Raises:
        ConfigError: the settings, a file of ``translation_configs/`` or a secret is wrong.
    """
    return master_config(settings_of(directory))


def settings_of(directory: Path) -> MasterSettings:
    """Read the settings in *directory*, or those that the environment variable names.

    Raises:
        ConfigError: there are none, or they are wrong.
    """
    named = os.environ.get(SETTINGS_VARIABLE)
    return read_settings(Path(named) if named else directory / SETTINGS_NAME)


def master_config(settings: MasterSettings) -> dict[str, Any]:
    """Return ``BuildmasterConfig`` for the farm of the project in ``settings.root``.

    Raises:
        ConfigError: a file of ``translation_configs/`` or a secret is not as it must be.
    """
    config = load_config(settings.root / CONFIGS)
    farm = load_farm(settings.root / CONFIGS)
    # Worker(keepalive_interval=...) is accepted and ignored.
    pb.Connection.keepalive_interval = farm.keepalive_seconds
    made = {
        "title": "rpython-pipeline",
        "titleURL": farm.url,
        "buildbotURL": f"{farm.url}/",
        "buildbotNetUsageData": None,
        "db": {"db_url": database_url(settings)},
        "protocols": {"pb": {"port": settings.workers}},
        "workers": make_workers(settings, farm),
        "builders": make_builders(config, farm),
        "schedulers": make_schedulers(config, farm),
        "collapseRequests": False,
        "logCompressionMethod": "gz",
        "logMaxSize": MOST_OF_A_LOG,
        "logMaxTailSize": TAIL_OF_A_LOG,
        "www": _www(settings, farm),
    }
    return {**made, **operations(settings, farm)}


def _www(settings: MasterSettings, farm: FarmConfig) -> dict[str, Any]:
    """Return the pages: everybody may read, only admins may do something."""
    admins = {name: secret(settings, ADMIN_FILE.format(name)) for name in farm.admins}
    return {
        "port": settings.www,
        "auth": util.UserPasswordAuth(admins),
        "authz": util.Authz(
            allowRules=[util.AnyControlEndpointMatcher(role="admins")],
            roleMatchers=[util.RolesFromUsername(roles=["admins"], usernames=list(admins))],
        ),
        "plugins": {"waterfall_view": {}, "grid_view": {}},
    }


def make_schedulers(config: Config, farm: FarmConfig) -> list[Any]:
    """Return what begins builds: people, the clock, and the fan-out."""
    found = [
        Units(name=UNITS, builderNames=[*units.unit_workers(config, farm), PREPARE, COLLECT]),
        schedulers.ForceScheduler(
            name=SUBMIT,
            builderNames=[RELEASE],
            codebases=[_no_codebase()],
            properties=[
                util.TextParameter(name="submission", required=True, label="submission (JSON)")
            ],
        ),
    ]
    for row in farm.nightly:
        found.append(
            schedulers.Nightly(
                name=f"nightly-{row.hour:02}{row.minute:02}-{'-'.join(row.interpreters)}",
                builderNames=[RELEASE],
                hour=row.hour,
                minute=row.minute,
                properties={"submission": _nightly_submission.withArgs(row)},
            )
        )
    if farm.nightly:
        seconds = farm.stale_check_hours * 60 * MINUTE
        found.append(
            schedulers.Periodic(name=STALE, builderNames=[STALE], periodicBuildTimer=seconds)
        )
    return found


def _no_codebase() -> Any:
    """Return what keeps a form from asking for a revision."""
    fields = ("branch", "revision", "repository", "project")
    fixed = {name: util.FixedParameter(name, default="") for name in fields}
    return util.CodebaseParameter("", **fixed)


@util.renderer
def _nightly_submission(_properties: Properties, row: NightlySchedule) -> str:
    return units.compact(units.nightly_submission(row, datetime.now(UTC).date()))


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


# --- Workers -----------------------------------------------------------------------------------


def make_workers(settings: MasterSettings, farm: FarmConfig) -> list[Any]:
    """Return the workers of ``farm.toml``, and the one in this process that does fan-outs."""
    found = [worker.LocalWorker(COORDINATOR, max_builds=RELEASES_AT_A_TIME)]
    return found + [_worker(settings, name, row) for name, row in farm.workers.items()]


def _worker(settings: MasterSettings, name: str, row: FarmWorker) -> Any:
    options: dict[str, Any] = {"max_builds": row.builds}
    if row.latent is not None:
        options["build_wait_timeout"] = row.idle_minutes * MINUTE
    dials = {"masterFQDN": settings.public_host} if settings.public_host else {}
    match row.latent:
        case None:
            return worker.Worker(name, secret(settings, WORKER_FILE.format(name)), **options)
        case DockerLatent():
            return _docker_worker(name, row.latent, {**options, **dials})
        case KubernetesLatent():
            return _kubernetes_worker(name, row.latent, {**options, **dials})
        case Ec2Latent():
            password = secret(settings, WORKER_FILE.format(name))
            return _ec2_worker(name, password, row.latent, options)


def _docker_worker(name: str, latent: DockerLatent, options: dict[str, Any]) -> Any:
    """Return a worker that is a container; its password is made anew for each."""
    return worker.DockerLatentWorker(
        name,
        None,
        docker_host=latent.docker_host or "unix:///var/run/docker.sock",
        image=latent.image,
        volumes=list(latent.volumes),
        **options,
    )


def _kubernetes_worker(name: str, latent: KubernetesLatent, options: dict[str, Any]) -> Any:
    """Return a worker that is a pod; without an address the master must be one itself."""
    if latent.master_url is None:
        access = util.KubeInClusterConfigLoader()
    else:
        access = util.KubeHardcodedConfig(master_url=latent.master_url, namespace=latent.namespace)
    return worker.KubeLatentWorker(
        name, image=latent.image, namespace=latent.namespace, kube_config=access, **options
    )


def _ec2_worker(name: str, password: str, latent: Ec2Latent, options: dict[str, Any]) -> Any:
    """Return a worker that is a machine of Amazon's; it asks Amazon for the names at once."""
    return worker.EC2LatentWorker(
        name,
        password,
        latent.instance_type,
        ami=latent.image,
        region=latent.region,
        keypair_name=latent.key_name,
        security_name=latent.security_group,
        **options,
    )


@dataclass(frozen=True)
class Fit:
    """Says which worker is given which job."""

    config: Config
    farm: FarmConfig

    def misfit(self, job: PreparedJob | None, found: Any) -> str | None:
        """Return why a worker of Buildbot's is not given *job*, or None if it fits."""
        row = self.farm.workers.get(found.workername)
        if job is None or row is None:
            return "there is no such job" if job is None else "it is not in farm.toml"
        if row.latent is not None and not found.conn:
            return units.misfit(job, self.config.platforms, row, None)
        facts = units.read_facts(found.info.getProperty("facts"))
        if facts is None:
            return "it has not said what it can do (its file info/facts)"
        return units.misfit(job, self.config.platforms, row, facts)

    def can_start(self, _builder: Any, candidate: Any, request: Any) -> bool:
        """Whether a build may go to a worker (``canStartBuild``)."""
        return self.misfit(_job_of(request.properties), candidate.worker) is None

    @deferred
    async def next_worker(self, builder: Any, candidates: list[Any], request: Any) -> Any:
        """Return who is asked first, or None to wait for who had it before (``nextWorker``)."""
        by_name = {candidate.worker.workername: candidate for candidate in candidates}
        previous, ended = await _previous_worker(builder.master, request.id)
        if previous is not None and previous not in by_name:
            there = any(found.worker.workername == previous for found in builder.workers)
            wait = ended + self.farm.rejoin_seconds - builder.master.reactor.seconds()
            if previous in self.farm.workers and not there and wait > 0:
                again = builder.botmaster.maybeStartBuildsForBuilder
                builder.master.reactor.callLater(wait + 0.1, again, builder.name)
                return None
        ranked = [
            units.Candidate(name, self.farm.workers[name], _busy(candidate.worker))
            for name, candidate in by_name.items()
            if name in self.farm.workers
        ]
        best = units.best(_job_of(request.properties), ranked, previous)
        return None if best is None else by_name[best]

    def lacking(self, builder: Any, job: PreparedJob | None) -> str | None:
        """Return why no worker that is there could do a request, or None if one could.

        A *job* of None is a unit of the signer.
        """
        there = {found.worker.workername: found.worker for found in builder.workers}
        reasons = []
        for name in builder.config.workernames:
            reason: str | None = "it is not connected"
            if name in there:
                reason = None if job is None else self.misfit(job, there[name])
            if reason is None:
                return None
            reasons.append(f"{name}: {reason}")
        return "; ".join(reasons)


def _busy(found: Any) -> int:
    return sum(place.isBusy() for place in found.workerforbuilders.values())


def _job_of(properties: Any) -> PreparedJob | None:
    try:
        return units.read_job(properties.getProperty("job"))
    except ValueError:
        return None


@deferred
async def _previous_worker(master: Any, request: int) -> tuple[str | None, float]:
    """Return who had a request last, and when that ended (seconds since 1970)."""
    builds = await master.data.get(("buildrequests", request, "builds"))
    if not builds:
        return None, 0.0
    last = max(builds, key=lambda build: build["buildid"])
    found = await master.data.get(("workers", last["workerid"]))
    ended = last["complete_at"]
    now = master.reactor.seconds()
    return found and found["name"], now if ended is None else datetime2epoch(ended)


# --- Builders and their steps ------------------------------------------------------------------


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
            factory=_factory(_unit_steps(farm, steps.StringDownload(content, workerdest=file))),
            tags=["signer"],
        )
        for name, (file, content) in handed.items()
    ]
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
        workernames=[COORDINATOR],
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
    job = _job_of(properties)
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


@dataclass(frozen=True)
class Place:
    """Where a worker has the pipeline: its interpreter, the code, and the worker's directory."""

    python: str
    root: str
    base: str
    build: str
    path: Any

    def work(self, order: Order) -> str:
        """Return the work directory of *order*: the same in each attempt."""
        return str(self.path.join(self.base, units.JOBS_DIRECTORY, order.directory))

    def handed(self, file: str) -> str:
        """Return the path of a file that the master has put there."""
        return str(self.path.join(self.build, Build.workdir, file))


def place_of(build: Any, farm: FarmConfig) -> Place:
    """Return where the worker of *build* has the pipeline; it decides only what it runs itself."""
    info, path = build.getWorkerInfo(), build.path_module
    base, directory = build.getProperty("basedir"), build.getProperty("builddir")
    python, root = _said(info, "python", "python3"), _said(info, "root", ".")
    if farm.repository is not None:
        windows = path.sep == "\\"
        program = ("Scripts", "python.exe") if windows else ("bin", "python")
        root = path.join(directory, CODE)
        python = path.join(directory, ENVIRONMENT, *program)
    return Place(python=python, root=root, base=base, build=directory, path=path)


def _said(info: Any, name: str, default: str) -> str:
    value = info.getProperty(name)
    return value.strip() if isinstance(value, str) and value.strip() else default


def order_of(build: Any, farm: FarmConfig) -> Order:
    """Return what the worker of *build* is told to do.

    Raises:
        ValueError: a property is not what the fan-out has put there.
    """
    run, unit = build.getProperty("run"), build.getProperty("unit")
    place, store = place_of(build, farm), farm.hand_over.store
    if unit == PREPARE:
        return units.prepare_order(run, place.handed(SUBMISSION_FILE), store)
    if unit == COLLECT:
        asked = units.read_submission(build.getProperty("submission"))
        return units.collect_order(run, asked.channel, place.handed(CLAIMS_FILE), store)
    job = units.read_job(build.getProperty("job"))
    return units.job_order(run, job, build.getWorkerName(), store)


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
    python = _said(properties.getBuild().getWorkerInfo(), "python", "python3")
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
        timeout=farm.silence_minutes * MINUTE,
        logEnviron=False,
    )


class SafeBuild(Build):
    """A build that never keeps its worker's place, and is tried again after the master's stop.

    ``must_reap`` is whether what it has begun is to be stopped with it.
    """

    must_reap = False
    is_retried = False

    @deferred
    async def startBuild(self, workerforbuilder: Any) -> None:  # noqa: N802 - Buildbot's name
        """Begin, and end at once if a cancel came in between: stock leaves such a build open."""
        await super().startBuild(workerforbuilder)
        if self.stopped and not self.finished and self._preparation_step is None:
            await self.buildFinished(["cancelled", "before", "it", "began"], self.results)

    def stopBuild(  # noqa: N802 - Buildbot's name
        self, reason: str = "<no reason given>", results: int = CANCELLED
    ) -> Any:
        """Stop: RETRY is the master's end, and leaves the work alone; else a person wants it."""
        self.is_retried = self.is_retried or results == RETRY
        self.must_reap = not self.is_retried
        return super().stopBuild(reason, results)

    def buildFinished(self, text: list[str], results: int) -> Any:  # noqa: N802 - Buildbot's name
        """End: as RETRY if the master goes; and note whether an attempt was lost otherwise."""
        if self.is_retried:
            self.results = results = RETRY
        elif worst_status(self.results, results) == RETRY:
            updates = self.master.data.updates
            noted = updates.setBuildProperty(self.buildid, LOST, value=True, source="Build")
            noted.addErrback(log.err, "while noting a lost attempt")
        return super().buildFinished(text, results)


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
        lost = 0
        for build in await self.master.data.get(("buildrequests", request, "builds")):
            found = await self.master.data.get(("builds", build["buildid"], "properties"))
            lost += LOST in found
        if lost >= self._most:
            self.descriptionDone = [f"given up: the worker was lost in {lost} attempts"]
            self.build.must_reap = True
            return FAILURE
        self.descriptionDone = [f"attempt {lost + 1} of {self._most}"]
        return SUCCESS


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
        self._turn.run(self._show, event).addErrback(log.err, "while showing a stage")

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
                await self._end(self._phases, event.title, SUCCESS, "")
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

    def outReceived(self, data: str) -> None:  # noqa: N802 - Buildbot's name
        """Keep *data*, up to what is refused."""
        self.answer.append(data[: self._left])
        self._left -= len(self.answer[-1])

    def errLineReceived(self, line: str) -> None:  # noqa: N802 - Buildbot's name
        """Show what a line says of stages."""
        self.last = line.strip() or self.last
        event = self._progress.read(line)
        if event is not None:
            self._rows.show(event)


class _OrderStep(ShellMixin, BuildStep):
    """A step that runs a command of the pipeline for the unit of its build."""

    logEnviron = False
    usePTY = False

    def __init__(self, farm: FarmConfig, **options: Any) -> None:
        super().__init__(**self.setupShellMixin(options))
        self._farm = farm


class Work(_OrderStep):
    """Does the unit, detached from the worker's process, and takes what it answers."""

    name = "work"
    haltOnFailure = True

    @deferred
    async def run(self) -> int:
        """Start the unit or find it again; follow it to its end."""
        order, place = order_of(self.build, self._farm), place_of(self.build, self._farm)
        rows = Rows(self.build)
        listener = Listener(rows)
        self.addLogObserver("stdio", listener)
        command = await self.makeRemoteShellCommand(
            command=units.detached_command(
                place.python, order, place.work(order), self._farm.orphan_minutes
            ),
            workdir=place.root,
            timeout=self._farm.silence_minutes * MINUTE,
            maxTime=self._farm.longest_hours * 60 * MINUTE,
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
            self.descriptionDone = [units.one_line(f"exit {command.rc}: {listener.last}")[:300]]
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


# --- The fan-out -------------------------------------------------------------------------------


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
            raise self._failed(f"prepare: {child.said}")
        self._code = child.get("got_revision")
        try:
            return units.read_prepared(child.get("prepared"), self.getProperty("run"))
        except ValueError as error:
            raise self._failed(f"prepare: {error}") from error

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
            raise self._failed(f"collect: {child.said}")
        self.setProperty("collected", child.get("collected"), "farm")

    def _say(self, said: str, results: int) -> int:
        self.descriptionDone = [said]
        return results

    def _failed(self, said: str) -> BuildStepFailed:
        self.descriptionDone = [units.one_line(said)[:300]]
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
        builder, now = self.master.botmaster.builders[name], self.master.reactor.seconds()
        reason = self._fit.lacking(builder, self._jobs.get(name))
        if reason is None:
            self._lacking.pop(name, None)
        elif now - self._lacking.setdefault(name, now) >= self._minutes * MINUTE:
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
        timer = self.master.reactor.callLater(LOOK_SECONDS, self._wake)
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
        """Stop waiting; cancel the units if it is a person's will."""
        goes_on = isinstance(reason, Failure) or self.build.is_retried
        self._stop = RETRY if goes_on else CANCELLED
        if not goes_on:
            for request in self._mine.values():
                self._cancel(request, "the release was stopped")
        self._wake()
        return super().interrupt(reason)


# --- The process -------------------------------------------------------------------------------

LOCK_NUMBER: Final = 0x7270_7974_686F_6E
"""The advisory lock of PostgreSQL that a living master holds on its database."""
LOCK_SECONDS: Final = 60.0


def application_in(directory: Path) -> Any:
    """Return the application that ``twistd`` runs: one master, its files in *directory*."""
    application = service.Application("buildmaster")
    logfile = LogFile.fromFullPath(
        str(directory / "twistd.log"), rotateLength=10_000_000, maxRotatedFiles=10
    )
    application.setComponent(ILogObserver, FileLogObserver(logfile).emit)
    OneMaster(directory).setServiceParent(application)
    BuildMaster(str(directory), "master.cfg").setServiceParent(application)
    return application


class OneMaster(service.Service):
    """Holds the master's database, before Buildbot touches it and until the process ends.

    A second master on it would mark the builds of the first as lost.
    """

    name = "one-master"

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._held: Any = None
        self._url = ""
        self._look: Any = None

    def privilegedStartService(self) -> None:  # noqa: N802 - Twisted's name
        """Take the database; ends the process if another one has it."""
        self._url = database_url(settings_of(self._directory))
        try:
            self._held = hold_database(self._url, self._directory)
        except WorkdirBusyError as error:
            log.msg(f"refused: {error}")
            raise SystemExit(str(error)) from error
        if not isinstance(self._held, (type(None), IO)) and hasattr(self._held, "execute"):
            self._look = task.LoopingCall(self._hold_on)
            self._look.start(LOCK_SECONDS, now=False)

    @deferred
    async def _hold_on(self) -> None:
        """Take it again if the database was restarted, which drops what is held of it."""
        try:
            await threads.deferToThread(self._ask)
        except WorkdirBusyError as error:
            log.msg(f"another master has taken the database meanwhile: {error}")
            self._reactor().stop()
        except Exception as error:  # noqa: BLE001 - it may be down for a while
            log.msg(f"the database does not answer: {error}")

    def _ask(self) -> None:
        try:
            self._held.execute(text("SELECT 1"))
            self._held.commit()
        except Exception:  # noqa: BLE001 - whatever it is, the connection is of no use
            self._held.close()
            self._held = hold_database(self._url, self._directory)

    @staticmethod
    def _reactor() -> Any:
        from twisted.internet import reactor  # noqa: PLC0415 - it must not be installed earlier

        return reactor


def hold_database(url: str, directory: Path) -> Any:
    """Return what holds the database of a master while it is open: a file, or a connection.

    A file is beside that of sqlite; a relative path is below *directory*, as for Buildbot. A
    database in memory needs none.

    Raises:
        WorkdirBusyError: another master has it.
    """
    parsed = make_url(url)
    if parsed.get_backend_name() == "sqlite":
        return _hold_file(directory / f"{parsed.database}.lock") if parsed.database else None
    connection = create_engine(url, poolclass=NullPool).connect()
    if parsed.get_backend_name() == "postgresql":
        taken = connection.execute(text(f"SELECT pg_try_advisory_lock({LOCK_NUMBER})")).scalar()
        connection.commit()
        if not taken:
            connection.close()
            msg = f"another master uses the database {parsed.database}. Stop it first."
            raise WorkdirBusyError(msg)
    return connection


def _hold_file(path: Path) -> IO[str]:
    file = path.open("a+", encoding="utf-8")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        file.close()
        msg = f"another master uses the database beside {path}. Stop it first."
        raise WorkdirBusyError(msg) from error
    return file


# --- Operations: metrics, health, messages of failures, retention ------------------------------


def operations(settings: MasterSettings, farm: FarmConfig) -> dict[str, Any]:
    """Return what operations add to ``BuildmasterConfig``: ``services`` and ``configurators``."""
    _ = settings, farm
    return {"services": [], "configurators": []}
