"""What a person sees of a run on a farm, and how it has ended. Pure.

A run is one request of the master's builder ``release``. That one asks for others: ``prepare``, one
for each job, ``collect``; their property ``unit`` says which. A request is tried until a try
counts, so a job's attempts are the tries at its request.
"""

import hashlib
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from enum import StrEnum
from statistics import median
from typing import Any, Final, TypeVar

from pydantic import BaseModel, ValidationError

from pipeline.config import known
from pipeline.effects.farm_api import Build, BuildRequest, BuildStep, as_line
from pipeline.errors import ConfigError, UnknownNameError
from pipeline.farm import units
from pipeline.farm.units import COLLECT, PREPARE, RELEASE
from pipeline.model.base import canonical_json
from pipeline.model.configs import Channel, Config
from pipeline.model.farm import Claim, Claims, Collected, Prepared, Submission
from pipeline.plan import ALL, Selection, selected_interpreters

# The properties that are read.
SUBMISSION: Final = "submission"
UNIT: Final = "unit"
RUN: Final = "run"
PREPARED: Final = "prepared"
COLLECTED: Final = "collected"
CLAIM: Final = "claim"
CLAIMS: Final = "claims"
DOCUMENTS: Final[Mapping[str, str]] = {PREPARE: PREPARED, COLLECT: COLLECTED}
"""The property that has what a unit made, of those whose results are read."""

# What Buildbot calls the ends of a try (buildbot.process.results).
SUCCESS: Final = 0
WARNINGS: Final = 1
SKIPPED: Final = 3
RETRY: Final = 5
CANCELLED: Final = 6
GOOD: Final = frozenset({SUCCESS, WARNINGS})

PRIORITIES: Final[Mapping[Channel, int]] = {"release": 10, "nightly": 0}
OWN_STEPS: Final = frozenset(
    {"worker_preparation", "locks_acquire", "attempt", "work", "units", "submission"}
)
LONGEST_NAME: Final = 80
DIGEST_DIGITS: Final = 8
FIRST_WAIT: Final = 1.0
LONGEST_WAIT: Final = 3.0
MINUTE: Final = 60
HOUR: Final = 3600

M = TypeVar("M", bound=BaseModel)


class JobState(StrEnum):
    """Where a job is."""

    WAITING = "waiting"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    STOPPED = "stopped"
    UNCHANGED = "unchanged"  # it is there already, so nobody works on it
    UNNEEDED = "not needed"


FINAL: Final = frozenset(JobState) - {JobState.WAITING, JobState.RUNNING}
BAD: Final = frozenset({JobState.FAILED, JobState.STOPPED})
# Which rows are left out last where there is no place for all.
URGENCY: Final = (
    JobState.FAILED,
    JobState.STOPPED,
    JobState.RUNNING,
    JobState.WAITING,
    JobState.DONE,
    JobState.UNCHANGED,
    JobState.UNNEEDED,
)


@dataclass(frozen=True, kw_only=True)
class Row:
    """One job as it is shown.

    Times are in seconds since 1970 by the master's clock, ``expected`` in seconds. ``started`` is
    when the first attempt was; ``request`` and ``build`` are the master's numbers, None while there
    are none; ``page`` is where it is among the master's pages. ``final`` means that the master will
    not change it any more.
    """

    job: str
    state: JobState = JobState.WAITING
    phase: str = ""
    worker: str = ""
    started: float | None = None
    ended: float | None = None
    expected: float | None = None
    attempt: int = 0
    request: int | None = None
    build: int | None = None
    page: str = ""
    reason: str = ""
    final: bool = False


@dataclass(frozen=True, kw_only=True)
class Seen:
    """What was read of a run, first its request, then what that asked for, then the tries.

    In this order whatever is below a complete request is complete, too. ``builds`` has the tries
    at all of them, ``phases`` the running step of a try, by its id; ``expected`` is by job.
    """

    request: BuildRequest
    children: tuple[BuildRequest, ...] = ()
    builds: tuple[Build, ...] = ()
    phases: Mapping[int, str]
    workers: Mapping[int, str]
    expected: Mapping[str, float]
    prepared: Prepared | None = None
    claims: Claims | None = None
    collected: Collected | None = None

    @property
    def given_up(self) -> Mapping[str, str]:
        """Why the master has given jobs up, also those that it asked nobody for."""
        failed = self.claims.failed if self.claims else ()
        return {job.identifier: as_line(job.reason) for job in failed}

    @property
    def is_over(self) -> bool:
        """Whether the run has ended."""
        return self.request.complete

    @property
    def is_good(self) -> bool:
        """Whether it has ended well."""
        return self.is_over and self.request.results in GOOD


def default_request(selection: Selection, names: Sequence[str], today: date) -> str:
    """Return the name under which the same command line, given on the same day, finds its run."""
    version = str(selection.version) if selection.version else ""
    words = "-".join(filter(None, (selection.channel, *names, version)))
    decided_by = canonical_json(
        [selection.channel, sorted(names), version, sorted(selection.platforms), selection.staged]
    )
    digest = hashlib.sha256(decided_by).hexdigest()[:DIGEST_DIGITS]
    end = f"-{digest}-{today:%Y%m%d}"
    begin = re.sub(r"[^a-z0-9]+", "-", words.lower()).strip("-")
    return begin[: LONGEST_NAME - len(end)].rstrip("-") + end


def make_submission(
    config: Config, selection: Selection, names: Sequence[str], request: str
) -> Submission:
    """Return what is sent to a farm, if it makes sense by this configuration.

    Raises:
        UnknownNameError: an interpreter or a platform does not exist, or not for the other.
        ConfigError: a name has a form that none of a farm's has.
    """
    for interpreter in selected_interpreters(config, selection):
        for name in selection.platforms:
            known("platform", name, {**config.platforms, ALL: None}, where="command line")
            _check_platform(interpreter.interpreter, name, (*interpreter.platforms, ALL))
    for name, platform in selection.identified:
        _check_platform(name, platform, config.interpreters[name].platforms)
    try:
        return Submission(
            request=request,
            channel=selection.channel,
            names=tuple(dict.fromkeys(names)),
            platforms=tuple(dict.fromkeys(selection.platforms)),
            version=selection.version,
            staged=selection.staged,
        )
    except ValidationError as error:
        wrong = error.errors()[0]
        msg = f"command line: {wrong['loc'][0]} {wrong['input']!r}: {wrong['msg']}"
        raise ConfigError(msg) from error


def _check_platform(interpreter: str, platform: str, allowed: Sequence[str]) -> None:
    if platform not in allowed:
        kind, where = "platform", f"{interpreter}.toml: key platforms"
        raise UnknownNameError(kind, platform, allowed, where=where)


def run_name(request: BuildRequest) -> str:
    """Return the name that the master gives to a run: the same for each try at it."""
    return units.run_name(request.buildrequestid, int(request.submitted_at))


def submission_of(request: BuildRequest) -> Submission | None:
    """Return what a request asks for, None where that makes no sense."""
    return read_document(Submission, request.value(SUBMISSION))


def read_document(model: type[M], value: Any) -> M | None:
    """Return the document that a property holds, as JSON or as its text; None if it is none."""
    try:
        if isinstance(value, str):
            return model.model_validate_json(value)
        return None if value is None else model.model_validate(value)
    except ValidationError:
        return None


def named(requests: Iterable[BuildRequest], name: str) -> list[BuildRequest]:
    """Return the requests, or the one run, of this name, the newest first."""
    found = [
        request
        for request in requests
        if run_name(request) == name
        or ((asked := submission_of(request)) is not None and asked.request == name)
    ]
    return newest_first(found)


def newest_first(requests: Iterable[BuildRequest]) -> list[BuildRequest]:
    """Return requests in the order of their numbers, backwards."""
    return sorted(requests, key=lambda request: -request.buildrequestid)


def joinable(
    requests: Iterable[BuildRequest], name: str, now: float, *, again: bool
) -> BuildRequest | None:
    """Return the request of that name to join: an open one, or one that succeeded today.

    With *again* only an open one. A failed one is not joined: who asks again wants another try.
    """
    found = named(requests, name)
    for request in found:
        if not request.complete:
            return request
    if again:
        return None
    succeeded = (request for request in found if request.results in GOOD)
    return next((item for item in succeeded if _day(item.submitted_at) == _day(now)), None)


def _day(at: float) -> date:
    return datetime.fromtimestamp(at, UTC).date()


def running_phase(steps: Iterable[BuildStep]) -> str:
    """Return the name of the step that is under way: of several the last that began.

    Empty while that is one of the master's own, which say nothing of the work.
    """
    under_way = [
        step
        for step in steps
        if not (step.complete or step.hidden or step.started_at is None)
        and step.name not in OWN_STEPS
    ]
    return max(under_way, key=lambda step: step.number).name if under_way else ""


def failed_steps(steps: Iterable[BuildStep]) -> list[int]:
    """Return the ids of the steps at which a try ended, the last first; not all have logs."""
    bad = [step for step in steps if step.results not in {*GOOD, SKIPPED, None}]
    return [step.stepid for step in sorted(bad, key=lambda step: -step.number)]


def expected_seconds(builds: Iterable[Build]) -> float | None:
    """Return how long a job takes by those that succeeded, without those that found it done."""
    took = [
        build.complete_at - build.started_at
        for build in builds
        if build.complete_at is not None
        and not ((claim := read_document(Claim, build.value(CLAIM))) and claim.cached)
    ]
    return median(took) if took else None


def rows_of(seen: Seen, before: Sequence[Row] = ()) -> tuple[Row, ...]:
    """Return every job of the run in the order of the work; *before* is what was shown last."""
    kept = {row.request: row for row in before if row.final}
    requests = {
        unit: request
        for request in sorted(seen.children, key=lambda child: child.buildrequestid)
        if isinstance(unit := request.value(UNIT), str)
    }
    there = _unchanged(seen.prepared)
    rows = []
    for job in _jobs(seen, requests):
        request = requests.get(job)
        if request is not None:
            rows.append(kept.get(request.buildrequestid) or _row(seen, job, request))
        elif job in there:
            rows.append(Row(job=job, state=JobState.UNCHANGED))
        else:
            rows.append(Row(job=job, expected=seen.expected.get(job)))
    return tuple(_settled(_given_up(row, seen.given_up), seen) for row in rows)


def _jobs(seen: Seen, requests: Mapping[str, BuildRequest]) -> list[str]:
    """Return the units, also those that nothing was asked of yet, and nightlies not to be made."""
    planned = [job.identifier for job in seen.prepared.jobs] if seen.prepared else []
    unchanged = seen.prepared.unchanged if seen.prepared else ()
    asked = [unit for unit in requests if unit not in {PREPARE, COLLECT}]
    return [PREPARE, *dict.fromkeys((*planned, *asked, *unchanged)), COLLECT]


def _unchanged(prepared: Prepared | None) -> set[str]:
    if prepared is None:
        return set()
    return {*prepared.unchanged, *(job.identifier for job in prepared.jobs if job.is_done)}


def _given_up(row: Row, reasons: Mapping[str, str]) -> Row:
    """Return the row with the master's reason, also of a job that waited in vain for a worker."""
    if row.job not in reasons or row.state in {JobState.DONE, JobState.UNCHANGED}:
        return row
    return replace(row, state=JobState.FAILED, phase="", reason=reasons[row.job])


def _settled(row: Row, seen: Seen) -> Row:
    """Return the row, of a run that has ended, too: what was never begun will not be."""
    if row.state in FINAL or not seen.is_over:
        return row
    state = JobState.UNNEEDED if seen.is_good else JobState.STOPPED
    return replace(row, state=state, phase="", expected=None)


def _row(seen: Seen, job: str, request: BuildRequest) -> Row:
    """Return the row of a job that was asked for."""
    tries = sorted(
        (build for build in seen.builds if build.buildrequestid == request.buildrequestid),
        key=lambda build: build.number,
    )
    last = tries[-1] if tries else None
    results = request.results if request.complete else _results(last)
    row = Row(
        job=job,
        state=_state(results, last),
        expected=seen.expected.get(job),
        attempt=len(tries),
        request=request.buildrequestid,
        page=f"#/buildrequests/{request.buildrequestid}",
        final=request.complete,
    )
    if last is None:
        return row
    running = row.state is JobState.RUNNING
    return replace(
        row,
        phase=seen.phases.get(last.buildid, "").removesuffix(f" {job}") if running else "",
        worker="" if row.state is JobState.WAITING else seen.workers.get(last.workerid or 0, ""),
        started=tries[0].started_at,
        ended=(last.complete_at or request.complete_at) if row.state in FINAL else None,
        build=last.buildid,
        page=f"#/builders/{last.builderid}/builds/{last.number}",
        reason=last.state_string if row.state in BAD else "",
    )


def _results(last: Build | None) -> int | None:
    """Return how a job has ended by its last try, whose request will be complete in a moment."""
    if last is None or not last.complete or last.results == RETRY:
        return None
    return last.results


def _state(results: int | None, last: Build | None) -> JobState:
    if results is None:
        return JobState.RUNNING if last and not last.complete else JobState.WAITING
    if results in GOOD:
        return JobState.DONE
    return JobState.STOPPED if results == CANCELLED else JobState.FAILED


def news(before: Sequence[Row], after: Sequence[Row]) -> list[str]:
    """Return a line for each job that is not where it was; where waiting begins is no news."""
    old = {row.job: row for row in before}
    return [
        line
        for row in after
        if (line := _told(row))
        and not _is_between(old.get(row.job), row)
        and line != _told(old.get(row.job, Row(job=row.job)))
    ]


def _is_between(old: Row | None, row: Row) -> bool:
    """Whether a job that runs is between two phases."""
    return (
        old is not None
        and row.state is old.state is JobState.RUNNING
        and (row.build, row.phase) == (old.build, "")
    )


def _told(row: Row) -> str:
    attempt = f", attempt {row.attempt}" if row.attempt > 1 else ""
    took = f" ({as_duration(row.ended - row.started)})" if row.ended and row.started else ""
    worker = f" on {row.worker}" if row.worker else ""
    match row.state:
        case JobState.WAITING:
            return f"{row.job}: waits again, attempt {row.attempt} was lost" if row.attempt else ""
        case JobState.RUNNING:
            return f"{row.job}: {row.phase or 'begun'}{worker}{attempt}"
        case JobState.UNCHANGED:
            return f"{row.job}: unchanged, it is there already"
        case state:
            return f"{row.job}: {state}{worker}{took}{attempt}"


COLUMNS: Final = ("job", "state", "worker", "elapsed", "expected", "attempt")


def cells(row: Row, now: float) -> tuple[str, ...]:
    """Return a row of the table with COLUMNS at the time *now*."""
    end = row.ended if row.ended is not None else now
    running = row.started is not None and row.state is not JobState.WAITING
    return (
        row.job,
        row.phase or row.state,
        row.worker,
        as_duration(end - row.started) if running and row.started is not None else "",
        as_duration(row.expected) if row.expected is not None else "",
        str(row.attempt) if row.attempt else "",
    )


def fitting(rows: Sequence[Row], lines: int) -> tuple[list[Row], str]:
    """Return the rows to show in so many lines, and what to say of the others (may be empty)."""
    if len(rows) <= lines:
        return list(rows), ""
    urgent = sorted(range(len(rows)), key=lambda place: URGENCY.index(rows[place].state))
    shown = set(urgent[: max(0, lines - 1)])
    others = Counter(row.state for place, row in enumerate(rows) if place not in shown)
    counted = ", ".join(f"{others[state]} {state}" for state in URGENCY if others[state])
    return [rows[place] for place in sorted(shown)], f"and {others.total()} more: {counted}"


def title(name: str, rows: Sequence[Row]) -> str:
    """Return the headline of the table."""
    counts = Counter(row.state for row in rows)
    ended = sum(counts[state] for state in FINAL)
    bad = sum(counts[state] for state in BAD)
    running = f", {counts[JobState.RUNNING]} running" if counts[JobState.RUNNING] else ""
    failed = f", {bad} of them failed or stopped" if bad else ""
    return f"{name}: {ended} of {len(rows)} ended{running}{failed}"


def as_duration(seconds: float) -> str:
    """Return a duration for people: ``34 s``, ``12 min 05 s``, ``3 h 07 min``."""
    whole = max(0, round(seconds))
    if whole < MINUTE:
        return f"{whole} s"
    if whole < HOUR:
        return f"{whole // MINUTE} min {whole % MINUTE:02} s"
    return f"{whole // HOUR} h {whole % HOUR // MINUTE:02} min"


def reason_of(tail: Sequence[str]) -> str:
    """Return the line of a failed job's log that says why: our own error, or else the last."""
    ours = [line for line in tail if line.startswith("error: ")]
    said = [line for line in tail if line.strip()]
    return (ours or said or [""])[-1].removeprefix("error: ")


def failures(seen: Seen, rows: Sequence[Row]) -> list[Row]:
    """Return the jobs that failed, or the run itself if it did without them."""
    bad = [row for row in rows if row.state is JobState.FAILED]
    if bad or seen.is_good:
        return bad
    itself = _row(seen, RELEASE, seen.request)
    stopped = "it was stopped" if itself.state is JobState.STOPPED else itself.reason
    return [replace(itself, reason=stopped or "it failed, and the farm does not say why")]


def failure_line(row: Row, said: str, page: str) -> str:
    """Return the line of a list of failures; *page* is where people find more.

    Our own errors name the job already, and the master's reasons have the page.
    """
    reason = said or row.reason
    named = reason if row.job in reason else f"{row.job}: {reason}"
    return named if "://" in reason or not row.page else f"{named} ({page})"


def needs_result(seen: Seen) -> bool:
    """Whether a run that ended well must have made something: not if every nightly is unchanged."""
    return seen.prepared is None or bool(seen.prepared.releases)


def next_wait(last: float, *, changed: bool) -> float:
    """Return after how many seconds to look again: soon after a change, then less often."""
    return FIRST_WAIT if changed else min(last * 1.5, LONGEST_WAIT)
