"""Takes over what workers claim, checked, and makes the releases of it on the trusted machine."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from functools import partial

from pipeline.effects.context import Claimed, Context
from pipeline.effects.store import Store
from pipeline.errors import ClaimError, PipelineError, RunError, UnitFailedError
from pipeline.handover.checks import CHECKS, check_source
from pipeline.handover.environments import take_environment
from pipeline.handover.outputs import take_stage
from pipeline.handover.places import is_workers
from pipeline.handover.runs import Run
from pipeline.model.farm import Claim, Claims, PreparedJob, StageClaim
from pipeline.model.records import Translation
from pipeline.publish.sites import OpenChannel
from pipeline.run import Outcome, run_plan
from pipeline.stages import ORDER, Stage, make_job

Taken = Mapping[str, Claimed]


def collect(
    ctx: Context, store: Store, run: Run, claims: Claims, channel: OpenChannel, last: Stage
) -> Outcome:
    """Make the releases of *run* from what workers claim to have made.

    A claim that is wrong counts as a failed job; the channel says which it can do without.

    Raises:
        PipelineError: as :func:`pipeline.run.run_plan` does.
    """
    if claims.run != run.run:
        msg = f"the claims are of run {claims.run}, but run {run.run} is to be collected."
        raise RunError(msg)
    for source in run.sources.values():
        take_stage(store, source, ctx.work, check_source)
    _take_environments(ctx, store, run)
    claimed, failed = take_claims(ctx, store, run, claims)
    given = replace(ctx, claimed=claimed)
    return run_plan(given, run.plan, channel, last, failed)


def take_claims(
    ctx: Context, store: Store, run: Run, claims: Claims
) -> tuple[dict[str, Taken], dict[str, PipelineError]]:
    """Take over what is claimed; return what was, and why others were not."""
    claimed: dict[str, Taken] = {}
    failed: dict[str, PipelineError] = {
        job.identifier: UnitFailedError(job.reason) for job in claims.failed
    }
    for claim in claims.claims:
        try:
            with ctx.console.step(f"take over {claim.identifier}") as step:
                step.phase(f"check what {claim.worker} claims")
                claimed[claim.identifier] = _take(ctx, store, run, claim)
        except PipelineError as error:
            error.where = f"claim of {claim.worker} for {claim.identifier}"
            failed[claim.identifier] = error
    missing = [job for job in run.prepared.jobs if job.identifier not in {*claimed, *failed}]
    return claimed, failed | dict(_missing(ctx, missing))


def _missing(ctx: Context, jobs: Iterable[PreparedJob]) -> Iterator[tuple[str, PipelineError]]:
    """Yield those of *jobs*, which nobody claims, that are not done: the signer does not build."""
    for job in jobs:
        name = job.identifier
        if not job.is_done:
            yield name, UnitFailedError(f"{name}: no worker has claimed it.")
        elif ctx.work.finished(Stage.TRANSLATE, str(job.key), Translation) is None:
            msg = (
                f"{name}: its translation was here when the run was prepared, and is gone from "
                f"{ctx.work.root}. Submit again: a worker makes it then."
            )
            yield name, UnitFailedError(msg)


def _take(ctx: Context, store: Store, run: Run, claim: Claim) -> Taken:
    job, prepared = run.job(claim.identifier), run.prepared_job(claim.identifier)
    _require_asked(run, claim, prepared)
    taken = {stage.stage: _claimed(ctx, store, stage) for stage in claim.stages}
    # Every stage up to the last is claimed, so that none is run.
    make_job(replace(ctx, claimed={claim.identifier: taken}), job, Stage(prepared.last))
    return taken


def _claimed(ctx: Context, store: Store, stage: StageClaim) -> Claimed:
    take = partial(take_stage, store, stage, ctx.work, CHECKS[stage.stage])
    return Claimed(key=stage.key, environments=stage.environments, take=take)


def _require_asked(run: Run, claim: Claim, prepared: PreparedJob) -> None:
    """Refuse a claim of anything but the stages that were asked for, from a worker's own place."""
    first, last = ORDER.index(Stage.TRANSLATE), ORDER.index(Stage(prepared.last))
    wanted = [str(stage) for stage in ORDER[first : last + 1]]
    named = [stage.stage for stage in claim.stages]
    foreign = [item for item in claim.stages if not is_workers(item.place, item.stage, item.key)]
    wrong = {
        "it is of another run": claim.run != run.run,
        f"it has the stages {named}, asked for are {wanted}": named != wanted,
        "what it names is in no worker's place": bool(foreign),
        "its translation has another key than was asked for": (
            prepared.key is not None and claim.stages[0].key != prepared.key
        ),
    }
    problems = [text for text, is_wrong in wrong.items() if is_wrong]
    if problems:
        msg = f"{claim.identifier}: {claim.worker} claims what cannot be: {problems[0]}."
        raise ClaimError(msg)


def _take_environments(ctx: Context, store: Store, run: Run) -> None:
    """Use what the workers used, also on a machine that did not prepare the run."""
    for job in run.plan.jobs:
        its = ctx.for_platform(job.platform.identifier)
        take_environment(its, store, job.environment, job.placement)
