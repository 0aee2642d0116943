"""Does one job of a run on a worker, and hands over what came out."""

import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass

from pipeline.effects.context import Context
from pipeline.effects.files import sha256_of
from pipeline.effects.store import Store
from pipeline.environment import recorded_environment
from pipeline.errors import ClaimError, DigestMismatchError
from pipeline.handover.checks import CHECKS, check_source, check_translation
from pipeline.handover.environments import shared_environment, take_environment
from pipeline.handover.outputs import Output, find_stage, give_stage, is_good, take_stage
from pipeline.handover.places import bootstrap_place, of_worker
from pipeline.handover.runs import Run
from pipeline.model.farm import Claim, PreparedJob, StageClaim
from pipeline.model.platforms import Placement
from pipeline.model.records import BootstrapRelease, Environment
from pipeline.plan import Job
from pipeline.stages import ORDER, Done, JobOutcome, Stage, make_job, planned
from pipeline.translate.bootstrap import bootstrap_path


@dataclass(frozen=True, kw_only=True)
class Unit:
    """One job for one *worker*, up to the stage *last*; *builders* may have done it, too."""

    run: Run
    identifier: str
    worker: str
    last: Stage
    builders: tuple[str, ...] = ()


def run_unit(ctx: Context, store: Store, unit: Unit) -> Claim:
    """Do a job of a run, unless it has been done, and say what is in the store.

    Raises:
        ClaimError: this machine has other code or configuration than the run was prepared with.
        PipelineError: a stage failed, or the store cannot be used.
    """
    job, prepared = unit.run.job(unit.identifier), unit.run.prepared_job(unit.identifier)
    ctx = ctx.for_platform(job.platform.identifier)
    started = time.monotonic()
    found = _found(ctx, store, unit, job, prepared)
    if found is not None and unit.last is Stage.TRANSLATE:
        ctx.console.line(f"{unit.identifier}: {found.place} is there already")
        return _claim(unit, (found,), started, cached=True)
    _take_inputs(ctx, store, unit.run, job)
    _require_same_key(ctx, store, job, prepared)
    if found is not None:
        take_stage(store, found, ctx.work, check_translation)
    outcome = make_job(ctx, job, unit.last)
    with ctx.console.step(f"hand over {unit.identifier}"):
        stages = tuple(
            give_stage(
                store,
                of_worker(unit.worker),
                Output(
                    stage=stage,
                    key=done.key,
                    directory=done.directory,
                    environments=_environments(ctx, job, stage),
                ),
                CHECKS[stage],
            )
            for stage, done in _made(outcome, unit.last)
        )
    _forget_others(ctx, outcome)
    return _claim(unit, stages, started, cached=outcome.cached)


def _claim(unit: Unit, stages: tuple[StageClaim, ...], started: float, *, cached: bool) -> Claim:
    return Claim(
        run=unit.run.run,
        identifier=unit.identifier,
        worker=unit.worker,
        stages=stages,
        seconds=time.monotonic() - started,
        cached=cached,
    )


def _found(
    ctx: Context, store: Store, unit: Unit, job: Job, prepared: PreparedJob
) -> StageClaim | None:
    """Return the translation that is handed over already, by this worker or one like it."""
    if prepared.key is None:
        return None
    shared = shared_environment(ctx, store, job.environment, job.placement)
    if shared is None:
        return None
    for name in dict.fromkeys((unit.worker, *unit.builders)):
        found = find_stage(store, [of_worker(name)], Stage.TRANSLATE, prepared.key, (shared,))
        if found is not None and is_good(store, found, check_translation, ctx.console.warn):
            return found
    return None


def _take_inputs(ctx: Context, store: Store, run: Run, job: Job) -> None:
    take_stage(store, run.sources[job.interpreter.interpreter], ctx.work, check_source)
    if job.bootstrap is not None:
        _take_bootstrap(ctx, store, job.bootstrap)
    take_environment(ctx, store, job.environment, job.placement)


def _take_bootstrap(ctx: Context, store: Store, release: BootstrapRelease) -> None:
    path, expected = bootstrap_path(ctx, release), release.artifact.sha256
    if path.is_file() and sha256_of(path) == expected:
        return
    place = bootstrap_place(expected)
    path.parent.mkdir(parents=True, exist_ok=True)
    found = store.download(place, path)
    if found is None or found.sha256 != expected:
        path.unlink(missing_ok=True)
        actual = "none: it is gone" if found is None else found.sha256
        remedy = "Remove it from the store and submit again."
        raise DigestMismatchError(place, expected=expected, actual=actual, remedy=remedy)


def _require_same_key(ctx: Context, store: Store, job: Job, prepared: PreparedJob) -> None:
    """Refuse to work for hours on what the run did not ask for."""
    if prepared.key is None:
        return
    environment = shared_environment(ctx, store, job.environment, job.placement)
    if environment is not None and planned(ctx, job, environment).translation == prepared.key:
        return
    msg = (
        "this machine would make something else than the run was prepared for: its code, its "
        "configuration or its environment is another one. Give it the revision that the signer "
        "has, and submit again."
    )
    raise ClaimError(msg)


def _made(outcome: JobOutcome, last: Stage) -> Iterator[tuple[Stage, Done]]:  # type: ignore[type-arg]
    """Yield the stages that were done after the source, up to *last*."""
    done = {
        Stage.TRANSLATE: outcome.translation,
        Stage.PACKAGE: outcome.package,
        Stage.VERIFY: outcome.verification,
    }
    for stage, output in done.items():
        if output is not None and ORDER.index(stage) <= ORDER.index(last):
            yield stage, output


def _environments(ctx: Context, job: Job, stage: Stage) -> tuple[Environment, ...]:
    names: tuple[str, ...] = (job.environment,)
    placement = job.placement
    if stage is Stage.VERIFY:
        names, placement = job.verified_in, Placement(host=job.platform)
    found = (recorded_environment(ctx, name, placement) for name in names)
    return tuple(environment for environment in found if environment is not None)


def _forget_others(ctx: Context, outcome: JobOutcome) -> None:
    """Remove outputs of other keys: what was handed over need not fill a worker's disk."""
    kept = {done.directory for done in (outcome.source, *(d for _, d in _made(outcome, ORDER[-1])))}
    for directory in ctx.work.path("stages").glob("*/*"):
        if directory not in kept:
            shutil.rmtree(directory, ignore_errors=True)
