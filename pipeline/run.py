"""Runs a plan: every job, then every release whose jobs all passed; failures are gathered."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import MappingProxyType

from pipeline.effects.context import Context
from pipeline.errors import JobsFailedError, PipelineError
from pipeline.model.ledger import Published, last_nightly
from pipeline.plan import (
    Job,
    Plan,
    ReleasePlan,
    Selection,
    Workers,
    make_plan,
    selected_interpreters,
    with_jobs,
)
from pipeline.publish.ledger import read_ledger
from pipeline.publish.sites import OpenChannel
from pipeline.source.resolve import resolve
from pipeline.stages import (
    ORDER,
    JobOutcome,
    NotFinished,
    ReleaseOutcome,
    Stage,
    input_key,
    make_job,
    make_release,
    write_projections,
)


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a run has finished; with a dry run ``unfinished`` says which stages it would run.

    ``unchanged`` has the nightlies that were not made, since their inputs are those of another,
    which is named.
    """

    jobs: tuple[JobOutcome, ...]
    releases: tuple[ReleaseOutcome, ...]
    unfinished: tuple[tuple[str, str], ...] = ()
    unchanged: tuple[tuple[str, Published], ...] = ()


def plan_for(ctx: Context, selection: Selection, workers: Workers) -> Plan:
    """Resolve the sources that *selection* means now, and plan for them."""
    sources = {
        interpreter.interpreter: resolve(ctx, interpreter, selection)
        for interpreter in selected_interpreters(ctx.config, selection)
    }
    return make_plan(ctx.config, selection, sources, workers)


def run_plan(
    ctx: Context,
    plan: Plan,
    channel: OpenChannel,
    last: Stage,
    failed: Mapping[str, PipelineError] = MappingProxyType({}),
) -> Outcome:
    """Run *plan* up to the stage *last*.

    Independent jobs all run, also when one fails. A release with a failed job is not signed,
    unless that is of a platform which the channel can do without. Jobs that have *failed*
    elsewhere, by identifier, are not run here.

    Raises:
        PipelineError: the one failure, or a JobsFailedError that lists them all.
    """
    run = _Run(ctx=ctx, channel=channel, last=last, failed=failed)
    for release in plan.releases:
        with run.gathered():
            run.release(release)
    _stop_on(run.failures)
    return Outcome(
        jobs=tuple(run.jobs),
        releases=tuple(run.releases),
        unfinished=tuple(run.unfinished),
        unchanged=tuple(run.unchanged),
    )


def unchanged_nightly(
    channel: OpenChannel, release: ReleasePlan, input_key: Callable[[], str | None]
) -> Published | None:
    """Return the last nightly if it was made from the same inputs, which *input_key* tells.

    Also where that was yanked: what is wrong must not come back under another name.
    """
    if release.channel != "nightly":
        return None
    state = read_ledger(channel.store, channel.notary).state
    last = last_nightly(state, release.interpreter.interpreter)
    return None if last is None or last.input_key != input_key() else last


@dataclass(kw_only=True)
class _Run:
    """What a run has come to so far."""

    ctx: Context
    channel: OpenChannel
    last: Stage
    failed: Mapping[str, PipelineError]
    jobs: list[JobOutcome] = field(default_factory=list)
    releases: list[ReleaseOutcome] = field(default_factory=list)
    failures: list[PipelineError] = field(default_factory=list)
    unfinished: list[tuple[str, str]] = field(default_factory=list)
    unchanged: list[tuple[str, Published]] = field(default_factory=list)

    @contextmanager
    def gathered(self, identifier: str = "") -> Iterator[None]:
        """Keep what goes wrong in the block for the end."""
        try:
            yield
        except NotFinished as stop:
            self.unfinished.append((identifier, str(stop)))
        except PipelineError as error:
            self.failures.append(error)

    def release(self, release: ReleasePlan) -> None:
        """Run a release's jobs, and then what makes it one."""
        if self._is_unchanged(release):
            return
        finished: list[JobOutcome] = []
        for job in release.jobs:
            with self.gathered(job.identifier):
                finished.append(self._job(job))
        self.jobs += finished
        if not _signs(self.last):
            return
        whole = self._without_failed(release, {item.job.identifier for item in finished})
        if whole is None:
            return
        with self.gathered(release.release):
            made = make_release(self.ctx, whole, tuple(finished), self.channel, self.last)
            self.releases.append(made)

    def _job(self, job: Job) -> JobOutcome:
        failure = self.failed.get(job.identifier)
        if failure is not None:
            raise failure
        return make_job(self.ctx, job, self.last)

    def _is_unchanged(self, release: ReleasePlan) -> bool:
        """Whether the last nightly was made from the same inputs; that is noted then."""
        if not _signs(self.last):
            return False
        last = unchanged_nightly(self.channel, release, lambda: self._input_key(release))
        if last is None:
            return False
        self.unchanged.append((release.release, last))
        if self.last is Stage.PROJECTIONS:
            # The run that published it may have been killed before the indexes knew it.
            with self.gathered(release.release):
                write_projections(self.ctx, self.channel)
        return True

    def _input_key(self, release: ReleasePlan) -> str | None:
        """Return the digest of a release's inputs; None if a job cannot even begin."""
        try:
            return input_key(self.ctx, release)
        except PipelineError:
            return None  # the job meets the same and says so, and others go on

    def _without_failed(self, release: ReleasePlan, finished: set[str]) -> ReleasePlan | None:
        """Return *release* with the *finished* jobs only, or None if it must not be made so."""
        missing = [job for job in release.jobs if job.identifier not in finished]
        if not missing:
            return release
        if self.ctx.dry_run:
            return None  # what is to be done will be there when the release is made
        optional = self.channel.config.optional if release.channel == "nightly" else ()
        required = [job.identifier for job in missing if job.platform.identifier not in optional]
        if required or not finished:
            names = ", ".join(required or [job.identifier for job in missing])
            self._warn(release, f"not published, for want of {names}; the last whole set stays")
            return None
        names = ", ".join(job.identifier for job in missing)
        smaller = with_jobs(release, finished)
        if self._is_unchanged(smaller):
            _, known = self.unchanged[-1]
            self._warn(
                release, f"without {names}, not made, its inputs are those of {known.release}"
            )
            return None
        self._warn(release, f"published without {names}, which failed")
        return smaller

    def _warn(self, release: ReleasePlan, text: str) -> None:
        self.ctx.console.warn(f"{release.release}: {text}")


def _signs(last: Stage) -> bool:
    return ORDER.index(last) >= ORDER.index(Stage.SIGN)


def _stop_on(failures: Sequence[PipelineError]) -> None:
    if len(failures) == 1:
        raise failures[0]
    if failures:
        listed = "\n".join(f"{failure.where}: {failure}" for failure in failures)
        msg = f"{len(failures)} jobs failed; what did not fail is kept.\n{listed}"
        raise JobsFailedError(msg)
