"""What is said of a running farm to those who operate it: health, metrics, badges, messages. Pure.

The master's process gathers :class:`FarmState` and the reports; here is decided and rendered.
Nothing of it holds a secret, and of properties only what is shown is taken.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Annotated, Final, Literal, TypeVar

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector
from pydantic import AwareDatetime, Field, ValidationError

from pipeline.model.base import FileName, Model, Name
from pipeline.model.configs import Channel, Config
from pipeline.model.farm import Claims, FailedJob, FarmConfig, Prepared, Submission
from pipeline.model.naming import identifier

M = TypeVar("M", bound=Model)
Seconds = Annotated[float, Field(ge=0)]

DATABASE_SECONDS: Final = 5.0
"""How long the database may take to answer before it is said that it does not."""
BADGE_PREFIX: Final = "badges"
SHIELDS_SCHEMA: Final = 1
REASONS_SHOWN: Final = 20
MINUTE: Final = 60.0
BUCKETS: Final = (
    *(1.0, 10.0, 30.0, 60.0, 300.0, 600.0, 1200.0, 1800.0, 2700.0, 3600.0),
    *(5400.0, 7200.0, 14400.0, 28800.0, 43200.0, 86400.0),
)
"""Seconds: a trivial build takes one, a translation under an emulator half a day."""

MOST_PHASES: Final = 200
OTHER_PHASES: Final = "other"

_REVISION: Final = re.compile(r"-nightly-[0-9-]+-([0-9a-f]{12})$")


class Result(StrEnum):
    """How a build ended; the names are Buildbot's, in the order of its numbers."""

    SUCCESS = "success"
    WARNINGS = "warnings"  # a release that lacks optional platforms
    FAILURE = "failure"
    SKIPPED = "skipped"
    EXCEPTION = "exception"
    RETRY = "retry"
    CANCELLED = "cancelled"


SAYS_NOTHING: Final = (Result.SKIPPED, Result.RETRY, Result.CANCELLED)
"""Results that say nothing of what was to be built."""
GOOD: Final = (Result.SUCCESS, Result.WARNINGS)


class WorkerState(Model):
    """One worker. ``last_seen`` is None if it was not, since the master was started.

    One that is ``required`` should always be there; others are started when there is work.
    """

    name: str
    connected: bool
    paused: bool = False
    required: bool = True
    last_seen: AwareDatetime | None = None
    running: int = 0


class RequestState(Model):
    """One request that waits. ``attempts`` is how often it was tried before.

    ``without`` is for how long no worker that may do it has been there; None if one is, if busy.
    """

    builder: str
    waiting: Seconds
    without: Seconds | None = None
    attempts: int = 0


class FarmState(Model):
    """What a master knows at one moment. ``running`` has the number of builds by builder."""

    at: AwareDatetime
    started_at: AwareDatetime
    database: bool
    workers: tuple[WorkerState, ...] = ()
    requests: tuple[RequestState, ...] = ()
    running: dict[str, int] = Field(default_factory=dict)

    @property
    def uptime(self) -> float:
        """Seconds since the master was started."""
        return max(0.0, (self.at - self.started_at).total_seconds())


class Health(Model):
    """Whether the farm can work, and if not why; at most a few reasons of each kind."""

    healthy: bool
    reasons: tuple[str, ...]
    at: AwareDatetime


class RunReport(Model):
    """A finished run: what was asked for, what came of it, and where its page is.

    ``interpreters`` is empty if the run failed before it was known which they are.
    """

    channel: Channel
    interpreters: tuple[Name, ...]
    releases: tuple[FileName, ...] = ()
    failed: tuple[FailedJob, ...] = ()
    result: Result
    at: AwareDatetime
    url: str


class JobReport(Model):
    """The last build of one interpreter for one platform; None where there was none yet.

    ``release`` is what it was built for, ``revision`` the first digits of its revision.
    """

    interpreter: Name
    platform: Name
    result: Result | None = None
    release: FileName | None = None
    revision: str | None = None
    at: AwareDatetime | None = None
    url: str | None = None


class BuildState(Model):
    """``state.json``: where every interpreter stands on every platform, for the download site."""

    at: AwareDatetime
    jobs: tuple[JobReport, ...]


class Badge(Model):
    """A badge as https://shields.io/badges/endpoint-badge reads it."""

    schema_version: Annotated[Literal[1], Field(alias="schemaVersion")] = SHIELDS_SCHEMA
    label: str
    message: str
    color: str


class Notice(Model):
    """A message that something failed. ``subject`` is one line; ``text`` says all of it."""

    subject: str
    text: str
    url: str


class WebhookBody(Model):
    """What is posted to the webhook. ``text`` is what chat servers show of a message."""

    text: str
    subject: str
    url: str


def health(state: FarmState, alarm_seconds: float) -> Health:
    """Return whether the farm can work, for a monitor that asks.

    It cannot if the database does not answer, if for *alarm_seconds* a worker was away that should
    always be there, or no worker was there that may do what waits.
    """
    reasons = [
        *([] if state.database else ["the database does not answer"]),
        *_absent(state, alarm_seconds),
        *_left_waiting(state.requests, alarm_seconds),
    ]
    return Health(healthy=not reasons, reasons=tuple(reasons[:REASONS_SHOWN]), at=state.at)


def _absent(state: FarmState, alarm_seconds: float) -> Iterable[str]:
    for worker in state.workers:
        since = worker.last_seen or state.started_at
        away = (state.at - since).total_seconds()
        if worker.required and not worker.connected and away > alarm_seconds:
            yield f"worker {worker.name} has been away for {_minutes(away)}"


def _left_waiting(requests: Sequence[RequestState], alarm_seconds: float) -> Iterable[str]:
    for request in requests:
        if request.without is not None and request.without > alarm_seconds:
            waited, without = _minutes(request.waiting), _minutes(request.without)
            yield (
                f"{request.builder} has waited for {waited}, and no worker that fits has been "
                f"there for {without}"
            )


def lacking_since(
    before: Mapping[int, datetime], lacking: Iterable[int], now: datetime
) -> dict[int, datetime]:
    """Return since when each request of *lacking* has had no worker that may do it.

    *before* is what the last look returned; a request that is new or had a worker begins now.
    """
    return {request: before.get(request, now) for request in lacking}


def _minutes(seconds: float) -> str:
    return f"{seconds / MINUTE:.0f} min" if seconds >= MINUTE else f"{seconds:.0f} s"


class StateCollector(Collector):
    """Gives the state of one moment to the Prometheus library."""

    def __init__(self, state: FarmState, alarm_seconds: float) -> None:
        self._state = state
        self._alarm_seconds = alarm_seconds

    def collect(self) -> Iterable[GaugeMetricFamily]:
        """Give every gauge with its values."""
        yield from self._of_master()
        yield from self._of_workers()
        yield from self._of_builders()

    def _of_master(self) -> Iterable[GaugeMetricFamily]:
        state = self._state
        healthy = health(state, self._alarm_seconds).healthy
        yield _gauge("farm_healthy", "Whether /healthz says 200.", float(healthy))
        yield _gauge("farm_database_answers", "Whether the database does.", float(state.database))
        started, uptime = state.started_at.timestamp(), state.uptime
        yield _gauge("farm_master_start_time_seconds", "When the master was started.", started)
        yield _gauge("farm_master_uptime_seconds", "For how long the master has run.", uptime)

    def _of_workers(self) -> Iterable[GaugeMetricFamily]:
        workers = self._state.workers
        seen = {worker.name: worker.last_seen for worker in workers if worker.last_seen}
        rows: tuple[tuple[str, str, dict[str, float]], ...] = (
            ("connected", "Whether it is there.", {row.name: row.connected for row in workers}),
            ("paused", "Whether it is given no work.", {row.name: row.paused for row in workers}),
            ("builds_running", "What it does.", {row.name: row.running for row in workers}),
            (
                "last_seen_timestamp_seconds",
                "When it was there.",
                {name: at.timestamp() for name, at in seen.items()},
            ),
        )
        for name, text, values in rows:
            yield _labelled(f"farm_worker_{name}", text, "worker", values)

    def _of_builders(self) -> Iterable[GaugeMetricFamily]:
        requests = self._state.requests
        waiting: dict[str, float] = {}
        oldest: dict[str, float] = {}
        attempts: dict[str, float] = {}
        for request in requests:
            name = request.builder
            waiting[name] = waiting.get(name, 0) + 1
            oldest[name] = max(oldest.get(name, 0), request.waiting)
            attempts[name] = max(attempts.get(name, 0), request.attempts)
        rows: tuple[tuple[str, str, Mapping[str, float]], ...] = (
            ("farm_builds_running", "Builds under way.", self._state.running),
            ("farm_requests_waiting", "Requests that no worker has begun.", waiting),
            ("farm_requests_oldest_age_seconds", "How long the oldest waits.", oldest),
            ("farm_requests_attempts", "The most tries of one that waits.", attempts),
        )
        for name, text, values in rows:
            yield _labelled(name, text, "builder", values)


def _gauge(name: str, text: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(name, text, value=value)


def _labelled(name: str, text: str, label: str, values: Mapping[str, float]) -> GaugeMetricFamily:
    family = GaugeMetricFamily(name, text, labels=[label])
    for value in sorted(values):
        family.add_metric([value], values[value])
    return family


class Measured:
    """What a master counts since it was started, and how it is told to Prometheus."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._known: set[str] = set()
        self._builds = Counter(
            "farm_builds_finished",
            "Builds that ended, by how; result retry is an attempt that was lost.",
            ["builder", "result"],
            registry=self._registry,
        )
        self._durations = Histogram(
            "farm_build_duration_seconds",
            "How long builds took that ended well.",
            ["builder"],
            buckets=BUCKETS,
            registry=self._registry,
        )
        self._phases = Histogram(
            "farm_phase_duration_seconds",
            "How long steps and phases took that ended well.",
            ["phase"],
            buckets=BUCKETS,
            registry=self._registry,
        )

    def build(self, builder: str, result: Result, seconds: float) -> None:
        """Count a build that ended."""
        self._builds.labels(builder, result).inc()
        if result in GOOD:
            self._durations.labels(builder).observe(seconds)

    def phase(self, step: str, seconds: float) -> None:
        """Count a step that ended well: a stage, or one of its phases.

        ``translate demo-linux-x86_64`` counts as ``translate``, ``translate: annotate`` as it is.
        Workers name them, so that only so many different ones are told apart.
        """
        name = step if ": " in step else step.partition(" ")[0]
        if name not in self._known and len(self._known) >= MOST_PHASES:
            name = OTHER_PHASES
        self._known.add(name)
        self._phases.labels(name).observe(seconds)

    def render(self, state: FarmState, alarm_seconds: float) -> bytes:
        """Return everything in Prometheus' text format."""
        now = CollectorRegistry()
        now.register(StateCollector(state, alarm_seconds))
        return generate_latest(now) + generate_latest(self._registry)


def run_report(
    properties: Mapping[str, object],
    jobs: Mapping[str, tuple[str, str]],
    *,
    result: Result,
    at: datetime,
    url: str,
) -> RunReport | None:
    """Return what is told of a run by the properties of its build; None if it is of no submission.

    The properties are ``submission``, ``prepared`` and ``claims``, each one JSON document; *jobs*
    are those of :func:`job_names`.
    """
    submission = _document(Submission, properties.get("submission"))
    if submission is None:
        return None
    prepared = _document(Prepared, properties.get("prepared"))
    claims = _document(Claims, properties.get("claims"))
    planned = [job.interpreter for job in prepared.jobs] if prepared is not None else []
    asked = [jobs[name][0] if name in jobs else name for name in submission.names]
    return RunReport(
        channel=submission.channel,
        interpreters=tuple(dict.fromkeys(planned or asked)),
        releases=(*prepared.releases, *prepared.unchanged) if prepared is not None else (),
        failed=claims.failed if claims is not None else (),
        result=result,
        at=at,
        url=url,
    )


def _document(model: type[M], text: object) -> M | None:
    if not isinstance(text, str):
        return None
    try:
        return model.model_validate_json(text)
    except ValidationError:
        return None


def notice(report: RunReport) -> Notice | None:
    """Return what is told of a run, None if nobody need be: only of nightlies that failed."""
    if report.channel != "nightly" or report.result not in (Result.FAILURE, Result.EXCEPTION):
        return None
    names = ", ".join(report.interpreters) or "all interpreters"
    lines = [f"The nightly of {names} of {_day(report.at)} failed ({report.result}).", ""]
    if report.releases:
        lines += [f"Releases: {', '.join(report.releases)}", ""]
    if report.failed:
        lines += ["Jobs that failed:"]
        lines += [f"  {job.identifier}: {_one_line(job.reason)}" for job in report.failed]
        lines += [""]
    lines += [f"Its page, with logs: {report.url}", ""]
    return Notice(
        subject=_one_line(f"Nightly of {names} failed"), text="\n".join(lines), url=report.url
    )


def stale_notice(text: str, *, at: datetime, url: str) -> Notice:
    """Return what is told when a nightly is older than its channel allows; *text* says which."""
    return Notice(
        subject="A nightly is stale",
        text=f"On {_day(at)} a nightly is older than channels.toml allows: {_one_line(text)}\n\n"
        f"What was looked at: {url}\n",
        url=url,
    )


def webhook_body(told: Notice) -> WebhookBody:
    """Return what is posted of a notice."""
    return WebhookBody(text=f"{told.subject}: {told.url}", subject=told.subject, url=told.url)


def _day(at: datetime) -> str:
    return f"{at:%Y-%m-%d %H:%M} {at.tzname()}"


def _one_line(text: str) -> str:
    return " ".join(text.split())


def badges(
    reports: Iterable[RunReport], interpreters: Iterable[str], now: datetime, stale_days: int
) -> dict[str, Badge]:
    """Return every badge by its file's name: ``pypy3.11-nightly.json``.

    Args:
        reports: finished runs, the newest first.
        interpreters: all that there are.
        now: a nightly that last succeeded more than *stale_days* before is stale.
        stale_days: as in ``channels.toml``.
    """
    told = [report for report in reports if report.result not in SAYS_NOTHING]
    channels: tuple[Channel, ...] = ("nightly", "release")
    return {
        f"{name}-{channel}.json": _badge(
            f"{name} {channel}",
            [row for row in told if row.channel == channel and _is_about(row, name)],
            now - timedelta(days=stale_days) if channel == "nightly" else None,
        )
        for name in interpreters
        for channel in channels
    }


def _is_about(report: RunReport, interpreter: str) -> bool:
    """Tell whether a run was of *interpreter*; one that names none is taken for all."""
    return not report.interpreters or interpreter in report.interpreters


def _badge(label: str, reports: Sequence[RunReport], oldest: datetime | None) -> Badge:
    if not reports:
        return Badge(label=label, message="no build", color="lightgrey")
    last = reports[0]
    if last.result not in GOOD:
        return Badge(label=label, message=f"failing since {_since(reports)}", color="red")
    if oldest is not None and last.at < oldest:
        return Badge(label=label, message=f"stale: {last.at:%Y-%m-%d}", color="orange")
    if last.result is Result.WARNINGS:
        return Badge(label=label, message=f"incomplete: {last.at:%Y-%m-%d}", color="yellow")
    return Badge(label=label, message=f"{last.at:%Y-%m-%d}", color="brightgreen")


def _since(reports: Sequence[RunReport]) -> str:
    """Return the day of the first of the failures that have gone on until now."""
    first = reports[0]
    for report in reports:
        if report.result in GOOD:
            break
        first = report
    return f"{first.at:%Y-%m-%d}"


def job_names(config: Config) -> dict[str, tuple[str, str]]:
    """Return the interpreter and the platform of every identifier, in the order of the files."""
    return {
        identifier(name, platform): (name, platform)
        for name, interpreter in config.interpreters.items()
        for platform in interpreter.platforms
    }


def release_of(interpreter: str, prepared: object) -> str | None:
    """Return the release of *interpreter* in the property ``prepared`` of a run, if it has one."""
    document = _document(Prepared, prepared)
    if document is None:
        return None
    names = (*document.releases, *document.unchanged)
    prefixes = (f"{interpreter}-v", f"{interpreter}-nightly-")
    return next((name for name in names if name.startswith(prefixes)), None)


def revision_of(release: str | None) -> str | None:
    """Return the revision in the name of a nightly, None if it is another name."""
    found = _REVISION.search(release) if release is not None else None
    return found[1] if found is not None else None


def required_workers(farm: FarmConfig) -> frozenset[str]:
    """Return the workers that should always be there: those that no master starts."""
    return frozenset(name for name, row in farm.workers.items() if row.latent is None)
