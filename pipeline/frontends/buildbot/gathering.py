"""Gathers from a master what :mod:`pipeline.farm.operations` decides on."""

from collections import Counter
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from buildbot.data.resultspec import Filter
from buildbot.worker.latent import AbstractLatentWorker
from sqlalchemy.exc import SQLAlchemyError
from twisted.internet import defer

from pipeline.farm.operations import (
    DATABASE_SECONDS,
    SAYS_NOTHING,
    Badge,
    BuildState,
    FarmState,
    JobReport,
    RequestState,
    RunReport,
    WorkerState,
    badges,
    lacking_since,
    release_of,
    revision_of,
)
from pipeline.farm.units import RELEASE
from pipeline.frontends.buildbot.notices import RESULTS, report_of, url_of, values_of

RUNS_LOOKED_AT: Final = 200
BUILDS_LOOKED_AT: Final = 10

Row = Mapping[str, Any]
Properties = Mapping[str, object]


@dataclass(frozen=True, kw_only=True)
class Watched:
    """What operations must know of the farm: identifiers, workers, and when to call somebody."""

    jobs: Mapping[str, tuple[str, str]]
    required: frozenset[str]
    alarm_seconds: float
    stale_days: int


class Gatherer:
    """Asks one master."""

    def __init__(self, master: Any, watched: Watched, started_at: datetime) -> None:
        self.watched = watched
        self._master = master
        self._started_at = started_at
        self._seen: dict[str, datetime] = {}
        self._lacking: dict[int, datetime] = {}
        self._names: dict[int, str] = {}
        self._runs: dict[int, tuple[RunReport | None, Properties]] = {}

    def worker_left(self, name: str) -> None:
        """Remember when a worker was last seen."""
        self._seen[name] = datetime.now(UTC)

    async def state(self) -> FarmState:
        """Return what the master knows now, within the time that the database has to answer."""
        state = FarmState(
            at=datetime.now(UTC),
            started_at=self._started_at,
            database=False,
            workers=self._workers({}, {}),
        )
        asked = defer.Deferred.fromCoroutine(self._asked(state))
        _ = asked.addTimeout(DATABASE_SECONDS, self._master.reactor)
        with suppress(SQLAlchemyError, defer.TimeoutError):
            state = await asked
        return state

    async def _asked(self, state: FarmState) -> FarmState:
        """Return *state* with what the database knows."""
        rows = await self._get("workers")
        builds = await self._get("builds", Filter("complete", "eq", [False]))
        builders = [await self.builder(build["builderid"]) for build in builds]
        busy = Counter(build["workerid"] for build in builds)
        workers = self._workers(
            {row["name"]: row["paused"] for row in rows},
            {row["name"]: busy[row["workerid"]] for row in rows},
        )
        update = {
            "database": True,
            "workers": workers,
            "running": dict(Counter(builders)),
            "requests": await self._requests(workers, state.at),
        }
        return state.model_copy(update=update)

    def _workers(
        self, paused: Mapping[str, bool], running: Mapping[str, int]
    ) -> tuple[WorkerState, ...]:
        now = datetime.now(UTC)
        return tuple(
            WorkerState(
                name=name,
                connected=worker.conn is not None,
                paused=paused.get(name, False),
                required=name in self.watched.required,
                last_seen=now if worker.conn is not None else self._seen.get(name),
                running=running.get(name, 0),
            )
            for name, worker in sorted(self._master.workers.workers.items())
        )

    async def _requests(
        self, workers: Iterable[WorkerState], now: datetime
    ) -> tuple[RequestState, ...]:
        """Return the requests that nobody has begun; remember who lacks a worker."""
        open_, unclaimed = (Filter(name, "eq", [False]) for name in ("complete", "claimed"))
        requests = await self._get("buildrequests", open_, unclaimed)
        names = {row["buildrequestid"]: await self.builder(row["builderid"]) for row in requests}
        attempts = await self._attempts(list(names))
        able = {row.name for row in workers if not row.paused and self._may_come(row)}
        lacking = [row for row, builder in names.items() if not able & self._workers_of(builder)]
        self._lacking = lacking_since(self._lacking, lacking, now)
        without = {row: _seconds(since, now) for row, since in self._lacking.items()}
        return tuple(
            RequestState(
                builder=names[request["buildrequestid"]],
                waiting=_seconds(request["submitted_at"], now),
                without=without.get(request["buildrequestid"]),
                attempts=attempts[request["buildrequestid"]],
            )
            for request in requests
        )

    async def _attempts(self, requests: list[int]) -> Counter[int]:
        """Return how many builds each of *requests* has had."""
        if not requests:
            return Counter()
        builds = await self._get("builds", Filter("buildrequestid", "in", requests))
        return Counter(build["buildrequestid"] for build in builds)

    def _may_come(self, worker: WorkerState) -> bool:
        """Tell whether a worker is there, or can be started."""
        found = self._master.workers.workers[worker.name]
        return worker.connected or isinstance(found, AbstractLatentWorker)

    def _workers_of(self, builder: str) -> set[str]:
        """Return the workers that a builder is configured for; none if it is no longer there."""
        found = self._master.botmaster.builders.get(builder)
        config = found.config if found is not None else None
        return set(config.workernames) if config is not None else set()

    async def badges(self) -> dict[str, Badge]:
        """Return every badge by its file's name."""
        reports = [report for report, _ in (await self._last_runs()).values() if report is not None]
        interpreters = dict.fromkeys(name for name, _ in self.watched.jobs.values())
        return badges(reports, interpreters, datetime.now(UTC), self.watched.stale_days)

    async def build_state(self) -> BuildState:
        """Return where every interpreter stands on every platform."""
        runs = (await self._last_runs()).values()
        prepared = {properties.get("run"): properties.get("prepared") for _, properties in runs}
        jobs = [await self._job(name, prepared) for name in self.watched.jobs]
        return BuildState(at=datetime.now(UTC), jobs=tuple(jobs))

    async def _job(self, identifier: str, prepared: Mapping[object, object]) -> JobReport:
        interpreter, platform = self.watched.jobs[identifier]
        found = JobReport(interpreter=interpreter, platform=platform)
        for build in await self._finished(identifier, BUILDS_LOOKED_AT):
            result = RESULTS[build["results"]]
            if result not in SAYS_NOTHING:
                run = (await self._properties(build)).get("run")
                release = release_of(interpreter, prepared.get(run))
                told = {
                    "result": result,
                    "release": release,
                    "revision": revision_of(release),
                    "at": build["complete_at"],
                    "url": url_of(self._master, build),
                }
                return found.model_copy(update=told)
        return found

    async def _last_runs(self) -> Mapping[int, tuple[RunReport | None, Properties]]:
        """Return the last finished runs, the newest first; one that ended does not change."""
        known, self._runs = self._runs, {}
        for build in await self._finished(RELEASE, RUNS_LOOKED_AT):
            number = build["buildid"]
            self._runs[number] = known.get(number) or await self._run(build)
        return self._runs

    async def _run(self, build: Row) -> tuple[RunReport | None, Properties]:
        properties = await self._properties(build)
        report = report_of(self._master, build, properties, self.watched.jobs)
        return report, {name: properties.get(name) for name in ("run", "prepared")}

    async def _finished(self, builder: str, limit: int) -> list[Row]:
        """Return the last finished builds of a builder, the newest first; none if it has none."""
        if builder not in self._master.botmaster.builders:
            return []
        found: list[Row] = await self._master.data.get(
            ("builders", builder, "builds"),
            filters=[Filter("complete", "eq", [True])],
            order=["-number"],
            limit=limit,
        )
        return found

    async def _properties(self, build: Row) -> dict[str, object]:
        return values_of(await self._master.data.get(("builds", build["buildid"], "properties")))

    async def _get(self, kind: str, *filters: Any) -> list[Row]:
        found: list[Row] = await self._master.data.get((kind,), filters=list(filters))
        return found

    async def builder(self, number: int) -> str:
        """Return a builder's name."""
        if number not in self._names:
            row = await self._master.data.get(("builders", number))
            self._names[number] = row["name"]
        return self._names[number]


def _seconds(since: datetime, now: datetime) -> float:
    return max(0.0, (now - since).total_seconds())
