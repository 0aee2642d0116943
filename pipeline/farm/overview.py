"""What a farm is doing: its workers, what waits, what has ended, and what is wrong. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from pydantic import AwareDatetime

from pipeline.effects.farm_api import Build, BuildRequest, MasterState, WorkerState, as_line
from pipeline.farm import client, units
from pipeline.model.base import Model
from pipeline.model.farm import MASTERS_OWN, Facts

# Of a worker's info files the master tells others this one; it has what info/facts has.
FACTS_IN: Final = "host"
OWN_WORKERS: Final = ("__", MASTERS_OWN)
"""What the names of the master's own workers begin with: of Buildbot's, and of ours."""
LONG_WAIT: Final = 60.0  # seconds for which a request may wait for a worker that is just starting
STATES: Final[Mapping[int, str]] = {
    0: "done",
    1: "done",
    2: "failed",
    3: "skipped",
    4: "failed",
    5: "lost",
    6: "stopped",
}


class WorkerStanding(Model):
    """A worker; ``works_on`` are the jobs it has, ``facts`` what it said it can do."""

    name: str
    connected: bool
    paused: bool
    reason: str = ""
    works_on: tuple[str, ...] = ()
    facts: Facts | None = None


class RequestStanding(Model):
    """A request for a run, or for one job of it.

    ``job`` is the name of the builder, ``name`` what the run was asked for by; ``ended`` is None
    while it has not.
    """

    number: int
    job: str
    name: str
    run: str
    state: str
    submitted: AwareDatetime
    ended: AwareDatetime | None = None


class FarmStanding(Model):
    """A farm at one time; ``problems`` has a line for each thing that somebody must look at."""

    address: str
    at: AwareDatetime
    workers: tuple[WorkerStanding, ...]
    open: tuple[RequestStanding, ...]
    ended: tuple[RequestStanding, ...]
    problems: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What was read of a farm; ``now`` is in seconds since 1970 by the master's clock."""

    address: str
    now: float
    builders: Mapping[int, str]
    workers: Sequence[WorkerState]
    masters: Sequence[MasterState]
    running: Sequence[Build]
    open: Sequence[BuildRequest]
    ended: Sequence[BuildRequest]


def standing(asked: Asked) -> FarmStanding:
    """Return what there is to say of a farm."""
    return FarmStanding(
        address=asked.address,
        at=_time(asked.now),
        workers=tuple(
            _worker(asked, worker)
            for worker in asked.workers
            if not worker.name.startswith(OWN_WORKERS)
        ),
        open=tuple(_request(asked, request) for request in asked.open),
        ended=tuple(_request(asked, request) for request in asked.ended),
        problems=tuple(_problems(asked)),
    )


def _worker(asked: Asked, worker: WorkerState) -> WorkerStanding:
    works_on = [
        _builder(asked, build.builderid)
        for build in asked.running
        if build.workerid == worker.workerid and not build.complete
    ]
    return WorkerStanding(
        name=worker.name,
        connected=worker.connected,
        paused=worker.paused or worker.graceful,
        reason=worker.pause_reason or "",
        works_on=tuple(works_on),
        facts=units.read_facts(worker.workerinfo.get(FACTS_IN)),
    )


def _request(asked: Asked, request: BuildRequest) -> RequestStanding:
    submission = client.submission_of(request)
    run = request.value(client.RUN)
    tries = {build.buildrequestid for build in asked.running if not build.complete}
    state = "running" if request.buildrequestid in tries else "waiting"
    if request.complete:
        state = STATES.get(request.results if request.results is not None else 2, "failed")
    return RequestStanding(
        number=request.buildrequestid,
        job=_builder(asked, request.builderid),
        name=submission.request if submission else "",
        run=as_line(run) if isinstance(run, str) else client.run_name(request),
        state=state,
        submitted=_time(request.submitted_at),
        ended=None if request.complete_at is None else _time(request.complete_at),
    )


def _problems(asked: Asked) -> list[str]:
    problems = []
    if not any(master.active for master in asked.masters):
        problems.append("no master process is active, so nothing is begun")
    problems += [
        f"worker {worker.name} is paused: {worker.pause_reason or 'nobody said why'}"
        for worker in asked.workers
        if worker.paused
    ]
    return problems + [
        f"{_builder(asked, request.builderid)} has waited for "
        f"{client.as_duration(asked.now - request.submitted_at)}: no worker that can do it is there"
        for request in _stranded(asked)
    ]


def _stranded(asked: Asked) -> list[BuildRequest]:
    """Return the requests that have waited for a while and that no worker there can do."""
    running = {build.buildrequestid for build in asked.running if not build.complete}
    able = {
        row.builderid
        for worker in asked.workers
        if worker.connected and not worker.paused
        for row in worker.configured_on
    }
    return [
        request
        for request in asked.open
        if request.buildrequestid not in running
        and request.builderid not in able
        and asked.now - request.submitted_at > LONG_WAIT
    ]


def _builder(asked: Asked, number: int) -> str:
    return asked.builders.get(number, str(number))


def _time(at: float) -> datetime:
    return datetime.fromtimestamp(at, UTC)
