"""Runs a plan: every job, then every release whose jobs all passed; failures are gathered."""

from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.effects.context import Context
from pipeline.effects.store import Store
from pipeline.errors import JobsFailedError, PipelineError
from pipeline.plan import Plan, Selection, Workers, make_plan, selected_interpreters
from pipeline.source.resolve import resolve
from pipeline.stages import (
    ORDER,
    JobOutcome,
    NotFinished,
    ReleaseOutcome,
    Stage,
    make_job,
    make_release,
)


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a run has finished; with a dry run ``unfinished`` says which stages it would run."""

    jobs: tuple[JobOutcome, ...]
    releases: tuple[ReleaseOutcome, ...]
    unfinished: tuple[tuple[str, str], ...] = ()


def plan_for(ctx: Context, selection: Selection, workers: Workers) -> Plan:
    """Resolve the sources that *selection* means now, and plan for them."""
    sources = {
        interpreter.interpreter: resolve(ctx, interpreter, selection)
        for interpreter in selected_interpreters(ctx.config, selection)
    }
    return make_plan(ctx.config, selection, sources, workers)


def run_plan(ctx: Context, plan: Plan, store: Store, last: Stage) -> Outcome:
    """Run *plan* up to the stage *last*.

    Independent jobs all run, also when one fails; a release with a failed job is not signed.

    Raises:
        PipelineError: the one failure, or a JobsFailedError that lists them all.
    """
    jobs: list[JobOutcome] = []
    releases: list[ReleaseOutcome] = []
    failures: list[PipelineError] = []
    unfinished: list[tuple[str, str]] = []
    for release in plan.releases:
        finished = []
        for job in release.jobs:
            try:
                finished.append(make_job(ctx, job, last))
            except NotFinished as stop:
                unfinished.append((job.identifier, str(stop)))
            except PipelineError as error:
                failures.append(error)
        jobs += finished
        if len(finished) < len(release.jobs) or not _signs(last):
            continue
        try:
            releases.append(make_release(ctx, release, tuple(finished), plan, store, last))
        except NotFinished as stop:
            unfinished.append((release.release, str(stop)))
        except PipelineError as error:
            failures.append(error)
    _stop_on(failures)
    return Outcome(jobs=tuple(jobs), releases=tuple(releases), unfinished=tuple(unfinished))


def _signs(last: Stage) -> bool:
    return ORDER.index(last) >= ORDER.index(Stage.SIGN)


def _stop_on(failures: Sequence[PipelineError]) -> None:
    if len(failures) == 1:
        raise failures[0]
    if failures:
        listed = "\n".join(f"{failure.where}: {failure}" for failure in failures)
        msg = f"{len(failures)} jobs failed; what did not fail is kept.\n{listed}"
        raise JobsFailedError(msg)
