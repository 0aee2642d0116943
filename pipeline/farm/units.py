"""What a master decides, without Buildbot: names, who fits which job, what is told to whom. Pure.

A run's units are ``prepare``, one per job, and ``collect``; each is one build on one worker.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import date
from typing import Final, TypeVar

from pydantic import ValidationError

from pipeline.errors import DetachedError, DiskFullError, WorkdirBusyError
from pipeline.model import naming
from pipeline.model.base import Model, canonical_json
from pipeline.model.configs import Channel, Config
from pipeline.model.farm import (
    Claim,
    Claims,
    Collected,
    Facts,
    FailedJob,
    FarmConfig,
    FarmWorker,
    NightlySchedule,
    Prepared,
    PreparedJob,
    Submission,
)
from pipeline.model.platforms import LINUX, Mode, Platform, Worker, ways

M = TypeVar("M", bound=Model)

PREPARE: Final = "prepare"
COLLECT: Final = "collect"
STALE: Final = "stale"
RELEASE: Final = "release"

JOBS_DIRECTORY: Final = "jobs"
"""What a worker's directory has: ``jobs/IDENTIFIER`` and ``jobs/signer`` are work directories."""
SIGNER_DIRECTORY: Final = "signer"

GIB: Final = 2**30
MACHINE_FAULTS: Final = frozenset(
    (*range(20, 30), WorkdirBusyError.exit_code, DiskFullError.exit_code, DetachedError.exit_code)
)
MOST_OF_FACTS: Final = 64 * 1024
MOST_OF_AN_ANSWER: Final = 1024 * 1024
"""Bytes of a worker's standard output that are kept; more is refused."""
LONGEST_REASON: Final = 1000
LONGEST_REQUEST: Final = 80


@dataclass(frozen=True)
class Order:
    """What a worker does: a verb with its arguments, detached under a name, in a directory."""

    name: str
    directory: str
    verb: tuple[str, ...]


@dataclass(frozen=True)
class Candidate:
    """A worker that a job may be given to: whether it is what the plan counts on, and idle."""

    name: str
    row: FarmWorker
    busy: int


@dataclass(frozen=True)
class Outcome:
    """How a job's unit ended: with a claim, or with why not."""

    job: PreparedJob
    claim: Claim | None
    reason: str = ""


def run_name(request: int, submitted_at: int) -> str:
    """Return the name of the run of a request: the same however often it is tried.

    The time is in it so that a run of a restored master is not taken for an earlier one.
    """
    return f"r{request}-{submitted_at}"


def unit_workers(config: Config, farm: FarmConfig) -> dict[str, tuple[str, ...]]:
    """Return the workers that can do each identifier, as their rows say; none is left out."""
    found = {}
    for interpreter in config.interpreters.values():
        for name in interpreter.platforms:
            platform = config.platforms[name]
            able = tuple(
                worker
                for worker, row in farm.builders.items()
                if _modes(platform, config.platforms, row)
            )
            if able:
                found[naming.identifier(interpreter.interpreter, name)] = able
    return found


def _modes(
    platform: Platform, platforms: Mapping[str, Platform], row: FarmWorker
) -> tuple[Mode, ...]:
    machine = Worker(os=row.os, machine=row.machine, containers=row.os == LINUX)
    return tuple(mode for mode in ways(platform, platforms, machine) if mode in row.modes)


def misfit(
    job: PreparedJob,
    platforms: Mapping[str, Platform],
    row: FarmWorker,
    facts: Facts | None,
) -> str | None:
    """Return why a worker is not given *job*, or None if it fits.

    *facts* are what it said when it dialled in; None for one that is not started yet.
    """
    platform = platforms.get(job.platform)
    if platform is None:
        return f"no platform {job.platform}"
    if job.mode not in _modes(platform, platforms, row):
        return f"its row does not do {job.platform} by mode {job.mode}"
    if job.memory > row.memory:
        return f"{job.memory} GiB are needed, its row has {row.memory}"
    return None if facts is None else _announced_misfit(job, platforms, row, facts)


def _announced_misfit(
    job: PreparedJob, platforms: Mapping[str, Platform], row: FarmWorker, facts: Facts
) -> str | None:
    """Compare what a worker says with what its row and *job* ask for."""
    platform = platforms[job.platform]
    machine = Worker(os=facts.os, machine=facts.machine, containers=facts.containers)
    if job.mode not in ways(platform, platforms, machine):
        return f"a {facts.os} {facts.machine} does not do {job.platform} by mode {job.mode}"
    emulates = job.mode is Mode.EMULATED or facts.machine not in platform.runs_on
    if emulates and platform.emulator not in facts.emulators:
        return f"it has no {platform.emulator}"
    for name, row_has, has in (
        ("memory", row.memory, facts.memory),
        ("disk", row.disk, facts.disk),
    ):
        if has < row_has * GIB:
            return f"its row has {row_has} GiB of {name}, itself only {has / GIB:.1f}"
    return None


def is_machines_fault(status: int) -> bool:
    """Whether a verb's exit status says that another machine may do better.

    The machine itself is not fit (20 to 29), its work directory is taken by work that nobody
    follows any more, or its disk is full; see :mod:`pipeline.errors`.
    """
    return status in MACHINE_FAULTS


def best(
    job: PreparedJob | None,
    candidates: Collection[Candidate],
    previous: str | None,
    faulty: str | None = None,
) -> str | None:
    """Return the name of who is asked first: where the work went on, then the planned machine.

    Who was not fit for it comes last. After that the one with the least to do for what it may do
    at a time. A job that the plan gives to a native worker never fits an emulating one, since its
    mode is in its key.
    """

    def rank(candidate: Candidate) -> tuple[bool, bool, bool, float, str]:
        row = candidate.row
        planned = job is None or (row.os, row.machine) == (job.os, job.machine)
        return (
            candidate.name == faulty,
            candidate.name != previous,
            not planned,
            candidate.busy / row.builds,
            candidate.name,
        )

    return min(candidates, key=rank).name if candidates else None


def read_facts(text: object) -> Facts | None:
    """Return what a worker says of itself, or None if that is nothing to go by."""
    if not isinstance(text, str) or len(text) > MOST_OF_FACTS:
        return None
    try:
        return Facts.model_validate_json(text)
    except ValidationError:
        return None


def read_submission(text: object) -> Submission:
    """Return what somebody asks for.

    Raises:
        ValueError: it is not a submission; the message says which key is wrong.
    """
    return _document(text, Submission)


def read_job(text: object) -> PreparedJob:
    """Return one job.

    Raises:
        ValueError: it is not one.
    """
    return _document(text, PreparedJob)


def read_prepared(text: str, run: str) -> Prepared:
    """Return what ``prepare`` said.

    Raises:
        ValueError: it is something else, or is said of another run.
    """
    return _of_run(_document(text, Prepared), run)


def read_claim(text: str, run: str, identifier: str, worker: str) -> Claim:
    """Return what a worker claims.

    Raises:
        ValueError: it is something else, or is said of another run, job or worker.
    """
    claim = _of_run(_document(text, Claim), run)
    if (claim.identifier, claim.worker) != (identifier, worker):
        msg = (
            f"{worker} was given {identifier}, but speaks for {claim.worker} of {claim.identifier}"
        )
        raise ValueError(msg)
    return claim


def read_collected(text: str, run: str) -> Collected:
    """Return what ``release --run`` said.

    Raises:
        ValueError: it is something else, or is said of another run.
    """
    return _of_run(_document(text, Collected), run)


D = TypeVar("D", Prepared, Claim, Collected)


def _of_run(document: D, run: str) -> D:
    if document.run != run:
        msg = f"it is of run {document.run}, not {run}"
        raise ValueError(msg)
    return document


def _document(text: object, model: type[M]) -> M:
    """Return one JSON document as *model*.

    It must have been written in short lines: a Buildbot worker loses what is in a line after the
    first 4096 characters. That is noticed here, since what is left is no JSON.
    """
    if not isinstance(text, str) or not text.strip():
        msg = f"there is no {model.__name__}, but nothing"
        raise ValueError(msg)
    if len(text) > MOST_OF_AN_ANSWER:
        msg = f"more than {MOST_OF_AN_ANSWER} characters are no {model.__name__}"
        raise ValueError(msg)
    try:
        return model.model_validate_json(text)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "the whole"
        msg = one_line(f"this is no {model.__name__}: {where}: {first['msg']}")
        raise ValueError(msg) from error


def job_units(
    prepared: Prepared, builders: Collection[str]
) -> tuple[tuple[PreparedJob, ...], tuple[Outcome, ...]]:
    """Return the jobs to give out, and the outcome of those for which there is no builder."""
    wanted = [job for job in prepared.jobs if not job.is_done]
    known = tuple(job for job in wanted if job.identifier in builders)
    return known, tuple(
        Outcome(job, None, "no worker in farm.toml does this platform, so it has no builder")
        for job in wanted
        if job.identifier not in builders
    )


def claims_of(run: str, outcomes: Iterable[Outcome]) -> Claims:
    """Return what the signer is given."""
    outcomes = tuple(outcomes)
    return Claims(
        run=run,
        claims=tuple(outcome.claim for outcome in outcomes if outcome.claim is not None),
        failed=tuple(
            FailedJob(identifier=outcome.job.identifier, reason=one_line(outcome.reason))
            for outcome in outcomes
            if outcome.claim is None
        ),
    )


def one_line(text: str) -> str:
    """Return *text* on one line that is short enough for a reason."""
    return " ".join(text.split())[:LONGEST_REASON]


def compact(document: Model) -> str:
    """Return *document* as a property's value."""
    return canonical_json(document).decode()


def digests(claim: Claim) -> dict[str, str]:
    """Return the digests that a worker claims, by stage."""
    return {stage.stage: stage.sha256 for stage in claim.stages}


def prepare_order(run: str, submission: str, hand_over: str) -> Order:
    """Return what the signer does first; *submission* is the path of a file there."""
    verb = (PREPARE, "--run", run, "--submission", submission, "--hand-over", hand_over)
    return Order(f"{run}-{PREPARE}", SIGNER_DIRECTORY, verb)


def job_order(run: str, job: PreparedJob, worker: str, hand_over: str) -> Order:
    """Return what a worker does for one job."""
    verb = (job.last, job.identifier, "--run", run, "--worker", worker, "--hand-over", hand_over)
    return Order(f"{run}-{job.identifier}", job.identifier, verb)


def collect_order(run: str, channel: Channel, claims: str, hand_over: str) -> Order:
    """Return what the signer does last; *claims* is the path of a file there."""
    verb = (channel, "--run", run, "--claims", claims, "--hand-over", hand_over)
    return Order(f"{run}-{COLLECT}", SIGNER_DIRECTORY, verb)


def detached_command(python: str, order: Order, work: str, orphan_minutes: int) -> list[str]:
    """Return the command that starts *order* or finds it again.

    What nobody follows of a job has been given to another machine, so it is stopped. On the signer
    it is another run, which is found again or ends, and is waited for.
    """
    takes_over = () if order.directory == SIGNER_DIRECTORY else ("--take-over",)
    return [
        *(python, "-m", "pipeline", "detached", order.name, "--work", work),
        *("--orphan-minutes", str(orphan_minutes), *takes_over, "--", *order.verb),
    ]


def reap_command(python: str, order: Order, work: str) -> list[str]:
    """Return the command that stops *order* with its containers."""
    return [python, "-m", "pipeline", "reap", order.name, "--work", work]


def nightly_request(schedule: NightlySchedule, day: date) -> str:
    """Return the name of what a schedule asks for on a *day*."""
    names = "-".join(schedule.interpreters).replace(".", "-").replace("_", "-")
    name = f"nightly-{day:%Y-%m-%d}-{schedule.hour:02}{schedule.minute:02}-{names}"
    return name[:LONGEST_REQUEST].rstrip("-")


def nightly_submission(schedule: NightlySchedule, day: date) -> Submission:
    """Return what a schedule asks for on a *day*, which is in UTC as in the nightlies' names."""
    return Submission(
        request=nightly_request(schedule, day),
        channel="nightly",
        names=schedule.interpreters,
        day=day,
    )
