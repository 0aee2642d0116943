"""Prepares a run on the trusted machine: the plan, sources and environments for all workers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from pipeline.bootstrap import with_bootstraps
from pipeline.effects.context import Context
from pipeline.effects.store import Store
from pipeline.errors import ConfigError, PipelineError, RunError, StoreError
from pipeline.handover.checks import CHECKS
from pipeline.handover.environments import share_environment
from pipeline.handover.outputs import Output, find_stage, give_stage, take_stage
from pipeline.handover.places import TRUSTED, bootstrap_place, of_worker
from pipeline.handover.runs import Run, read_run, write_run
from pipeline.model.configs import Config
from pipeline.model.farm import FarmConfig, Prepared, PreparedJob, StageClaim, Submission
from pipeline.model.platforms import LINUX, Platform, Worker, ways
from pipeline.model.records import Environment, Translation
from pipeline.plan import Job, Plan, ReleasePlan, Selection, Workers, split_names
from pipeline.publish.sites import OpenChannel
from pipeline.run import plan_for, unchanged_nightly
from pipeline.stages import PlannedJob, Stage, make_source, planned, release_key
from pipeline.translate.bootstrap import bootstrap_path

ARCHIVE: Final = "application/zstd"


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What is to be prepared: *kinds* of machines do the work.

    *builders* are, by identifier, the workers that may have done a job: who may not do it is not
    believed, though it can put anything under its own place.
    *after* is the last stage that they do where there are containers; elsewhere it is ``verify``,
    since nobody else can run the programs.
    """

    run: str
    submission: Submission
    kinds: tuple[Worker, ...]
    builders: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    after: str = Stage.TRANSLATE


def kinds_of(farm: FarmConfig) -> tuple[Worker, ...]:
    """Return what kinds of workers a farm has; a container is for Linux, on Linux. Pure."""
    rows = farm.builders.values()
    kinds = (
        Worker(os=row.os, machine=row.machine, containers=row.os == LINUX, modes=row.modes)
        for row in rows
    )
    return tuple(dict.fromkeys(kinds))


def workers_of(kinds: Sequence[Worker], platforms: Mapping[str, Platform], here: Worker) -> Workers:
    """Return for each platform the kind of worker that has the best way to do it. Pure.

    What nobody can do is left to the first kind, of which the plan then says why it cannot.
    """

    def rank(platform: Platform, kind: Worker) -> int:
        mode = next(iter(ways(platform, platforms, kind)), None)
        return len(platform.modes) if mode is None else platform.modes.index(mode)

    best = {
        name: min(kinds, key=lambda kind, row=row: rank(row, kind))  # type: ignore[misc]
        for name, row in platforms.items()
    }
    return Workers(here=here, elsewhere=best)


def selection_of(config: Config, submission: Submission) -> Selection:
    """Return what a submission selects. Pure.

    Raises:
        UnknownNameError: it names what the configuration does not have.
    """
    interpreters, identified = split_names(config, submission.names)
    return Selection(
        channel=submission.channel,
        interpreters=interpreters,
        platforms=submission.platforms,
        identified=identified,
        version=submission.version,
        day=submission.day,
        staged=submission.staged,
    )


def prepare_run(
    ctx: Context, store: Store, asked: Asked, here: Worker, channel: OpenChannel
) -> Run:
    """Make the plan, and put all that workers need for it into the store; once for each run.

    Raises:
        RunError: there is a run of that name for something else.
        PipelineError: a source cannot be had, or nobody can build what is asked for.
    """
    known = read_run(store, asked.run)
    if known is not None:
        if known.submission != asked.submission:
            msg = f"run {asked.run}: is there already, for another submission."
            raise RunError(msg)
        return known
    if not asked.kinds:
        msg = "farm.toml: key workers: none of them translates. Add one without role = 'signer'."
        raise ConfigError(msg)
    submission = asked.submission
    if submission.day is None:
        submission = submission.model_copy(update={"day": ctx.now().date()})
    workers = workers_of(asked.kinds, ctx.config.platforms, here)
    plan = plan_for(ctx, selection_of(ctx.config, submission), workers)
    plan = with_bootstraps(ctx, plan, channel)
    return write_run(store, _Preparation(ctx, store, asked, workers, channel).of(plan))


class _Preparation:
    """A run that is being prepared."""

    def __init__(
        self, ctx: Context, store: Store, asked: Asked, workers: Workers, channel: OpenChannel
    ) -> None:
        self._ctx = ctx
        self._store = store
        self._asked = asked
        self._workers = workers
        self._channel = channel
        self._sources: dict[str, StageClaim] = {}

    def of(self, plan: Plan) -> Run:
        """Return the run of *plan*, without the nightlies that would be what the last ones are."""
        jobs: list[PreparedJob] = []
        made: list[ReleasePlan] = []
        unchanged: list[str] = []
        for release in plan.releases:
            found = {job.identifier: self._planned(job) for job in release.jobs}
            last = unchanged_nightly(self._channel, release, lambda found=found: _input(found))  # type: ignore[misc]
            if last is not None:
                self._ctx.console.line(f"{release.release}: its inputs are those of {last.release}")
                unchanged.append(release.release)
                continue
            made.append(release)
            jobs += (self._prepared(job, found[job.identifier]) for job in release.jobs)
        return Run(
            run=self._asked.run,
            submission=self._asked.submission,
            plan=plan.model_copy(update={"releases": tuple(made)}),
            prepared=Prepared(
                run=self._asked.run,
                releases=tuple(release.release for release in made),
                jobs=tuple(jobs),
                unchanged=tuple(unchanged),
            ),
            sources=self._sources,
        )

    def _planned(self, job: Job) -> "_Planned | None":
        """Share a job's source and environment; None if its key cannot be known here."""
        ctx = self._ctx.for_platform(job.platform.identifier)
        source = make_source(ctx, job)
        name = job.interpreter.interpreter
        if name not in self._sources:
            output = Output(stage=Stage.SOURCE, key=source.key, directory=source.directory)
            self._sources[name] = give_stage(self._store, TRUSTED, output)
        self._give_bootstrap(job)
        if not ctx.engine.contained:
            return None
        try:
            environment = share_environment(ctx, self._store, job.environment, job.placement)
        except StoreError:
            raise  # it is the signer's to make, and every worker's to use
        except PipelineError as error:
            self._ctx.console.warn(f"{job.identifier}: its worker has to see to that: {error}")
            return None
        return _Planned(job=planned(ctx, job, environment), environment=environment)

    def _prepared(self, job: Job, known: "_Planned | None") -> PreparedJob:
        kind = self._workers.of(job.platform.identifier)
        last = self._asked.after if job.platform.oci is not None else Stage.VERIFY
        return PreparedJob(
            identifier=job.identifier,
            interpreter=job.interpreter.interpreter,
            platform=job.platform.identifier,
            mode=job.mode,
            os=kind.os,
            machine=kind.machine,
            memory=job.interpreter.translation.memory,
            last=last,
            key=known.job.translation if known is not None else None,
            # Where workers do more than translate, the signer may not be able to do it.
            is_done=known is not None and last == Stage.TRANSLATE and self._is_done(job, known),
        )

    def _is_done(self, job: Job, known: "_Planned") -> bool:
        """Whether the translation is here, or an earlier run's can be taken over."""
        key = known.job.translation
        if self._ctx.work.finished(Stage.TRANSLATE, key, Translation) is not None:
            return True
        owners = [of_worker(name) for name in self._asked.builders.get(job.identifier, ())]
        try:
            claim = find_stage(self._store, owners, Stage.TRANSLATE, key, (known.environment,))
            if claim is None:
                return False
            take_stage(self._store, claim, self._ctx.work, CHECKS[Stage.TRANSLATE])
        except PipelineError as error:
            self._ctx.console.warn(f"{job.identifier}: what is there is not used: {error}")
            return False
        return True

    def _give_bootstrap(self, job: Job) -> None:
        if job.bootstrap is None:
            return
        artifact, path = job.bootstrap.artifact, bootstrap_path(self._ctx, job.bootstrap)
        place = bootstrap_place(artifact.sha256)
        self._store.put_new(place, path, content_type=ARCHIVE, sha256=artifact.sha256)


@dataclass(frozen=True, kw_only=True)
class _Planned:
    job: PlannedJob
    environment: Environment


def _input(found: Mapping[str, _Planned | None]) -> str | None:
    keys = {name: known.job.inputs for name, known in found.items() if known is not None}
    return release_key(keys) if len(keys) == len(found) else None
