"""How long a night takes on a farm, and how many workers it needs, before anybody buys them. Pure.

Tasks are given to workers by the farm's own rule: whatever can start does, by priority and then in
the order of submission, each on the idlest of the workers that fit. Seconds everywhere.
"""

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Annotated, Final

from pydantic import Field

from pipeline.errors import PlatformError
from pipeline.model.base import Model
from pipeline.model.farm import FarmWorker
from pipeline.model.naming import identifier
from pipeline.model.platforms import LINUX, Mode, Platform, Worker, ways

Seconds = Annotated[float, Field(ge=0)]
HOUR: Final = 3600.0
SIGNER: Final = "signer"


class TaskKind(StrEnum):
    """What a task does, in the order of a run."""

    PREPARE = "prepare"  # on the signer
    TRANSLATE = "translate"  # on a worker
    COLLECT = "collect"  # on the signer: package, verify, sign, publish


class WorkerPool(Model):
    """*count* equal workers; each does ``worker.builds`` tasks at a time in its memory."""

    name: str
    worker: FarmWorker
    count: Annotated[int, Field(ge=1)] = 1

    def at_once(self, memory: int) -> int:
        """Return how many tasks of *memory* GiB the pool does at a time."""
        fitting = self.worker.memory // memory if memory else self.worker.builds
        return self.count * min(self.worker.builds, fitting)


class Task(Model):
    """One piece of work: *pools* may do it, when all of *after* are done. ``memory`` is in GiB.

    The higher ``priority`` goes first, then the place in the sequence of tasks.
    """

    name: str
    kind: TaskKind
    seconds: Seconds
    pools: frozenset[str]
    memory: Annotated[int, Field(ge=0)] = 0
    after: frozenset[str] = frozenset()
    priority: int = 0


class Durations(Model):
    """What one job takes, by its mode, and what comes before and after it.

    ``package`` and ``verify`` are of programs that the processor runs there, ``package_emulated``
    and ``verify_emulated`` of those that run under QEMU. ``publish`` is of a release.
    """

    prepare: Seconds
    native: Seconds
    cross: Seconds
    emulated: Seconds
    package: Seconds
    verify: Seconds
    package_emulated: Seconds
    verify_emulated: Seconds
    publish: Seconds

    def translate(self, mode: Mode) -> float:
        """Return what a translation takes in *mode*."""
        return {Mode.NATIVE: self.native, Mode.CROSS: self.cross, Mode.EMULATED: self.emulated}[
            mode
        ]

    def finish(self, *, emulated: bool) -> float:
        """Return what it takes to package and verify one job's products."""
        if emulated:
            return self.package_emulated + self.verify_emulated
        return self.package + self.verify


class Loss(Model):
    """A worker (``POOL-NUMBER``) is gone from *at* on, for *away*.

    Its work goes on meanwhile and is found again if ``rejoined``, else it is repeated from its
    beginning, by any worker that fits.
    """

    at: Seconds
    worker: str
    away: Seconds
    rejoined: bool


class Ran(Model):
    """A task that was done: where, from when to when, at which attempt."""

    task: str
    worker: str
    started: Seconds
    ended: Seconds
    attempts: int


class Outcome(Model):
    """What was simulated. ``used`` is the work done by pool, ``repeated`` what was lost."""

    runs: tuple[Ran, ...]
    used: dict[str, Seconds]
    repeated: Seconds

    @property
    def makespan(self) -> float:
        """When the last task was done."""
        return max((run.ended for run in self.runs), default=0.0)

    def utilisation(self, pool: WorkerPool) -> float:
        """Return which part of the time the builds of *pool* had work, from 0 to 1."""
        whole = self.makespan * pool.count * pool.worker.builds
        return self.used.get(pool.name, 0.0) / whole if whole else 0.0


class Bounds(Model):
    """What no schedule can be shorter than.

    ``critical_path`` is the longest chain of tasks; ``capacity`` for tasks of a kind that the same
    pools may do (``translate on linux``) all their work at once on all of these pools, with what
    must come before the first and after the last of them.
    """

    critical_path: Seconds
    capacity: dict[str, Seconds]

    @property
    def strongest(self) -> float:
        """The highest of them."""
        return max([self.critical_path, *self.capacity.values()])


class Night(Model):
    """What is made in one night: every interpreter for every platform.

    ``memory`` in GiB is that of one translation. ``by_workers`` are packaged and verified where
    they were translated; systems without containers always are.
    """

    interpreters: tuple[str, ...]
    platforms: dict[str, Platform]
    durations: Durations
    memory: int
    by_workers: bool = False


def night_tasks(night: Night, pools: Sequence[WorkerPool]) -> tuple[Task, ...]:
    """Return the tasks of *night* on a farm of *pools*, of which one is called ``signer``.

    Each platform is translated in the best mode that any pool can do, as the plan does it.

    Raises:
        PlatformError: no pool can translate for a platform.
    """
    placed = {name: _placed(night, platform, pools) for name, platform in night.platforms.items()}
    first = [_prepare(night, name) for name in night.interpreters]
    jobs = [
        _translation(night, name, row, placed[platform])
        for name in night.interpreters
        for platform, row in night.platforms.items()
    ]
    last = [_collection(night, name, pools) for name in night.interpreters]
    return (*first, *jobs, *last)


def _prepare(night: Night, interpreter: str) -> Task:
    return Task(
        name=f"prepare {interpreter}",
        kind=TaskKind.PREPARE,
        seconds=night.durations.prepare,
        pools=frozenset({SIGNER}),
    )


def _translation(night: Night, interpreter: str, platform: Platform, placed: "_Placed") -> Task:
    seconds = night.durations.translate(placed.mode)
    if _finished_by_worker(night, platform):
        seconds += night.durations.finish(emulated=placed.emulated)
    return Task(
        name=identifier(interpreter, platform.identifier),
        kind=TaskKind.TRANSLATE,
        seconds=seconds,
        pools=placed.pools,
        memory=night.memory,
        after=frozenset({f"prepare {interpreter}"}),
    )


def _collection(night: Night, interpreter: str, pools: Sequence[WorkerPool]) -> Task:
    (signer,) = (pool.worker for pool in pools if pool.name == SIGNER)
    left = [row for row in night.platforms.values() if not _finished_by_worker(night, row)]
    finish = [
        night.durations.finish(emulated=signer.machine not in platform.runs_on) for platform in left
    ]
    return Task(
        name=f"collect {interpreter}",
        kind=TaskKind.COLLECT,
        seconds=sum(finish) + night.durations.publish,
        pools=frozenset({SIGNER}),
        after=frozenset(identifier(interpreter, name) for name in night.platforms),
    )


def _finished_by_worker(night: Night, platform: Platform) -> bool:
    return night.by_workers or platform.os != LINUX


@dataclass(frozen=True, kw_only=True)
class _Placed:
    """How a platform is translated, by which pools, and whether its programs are emulated there."""

    mode: Mode
    pools: frozenset[str]
    emulated: bool


def _placed(night: Night, platform: Platform, pools: Sequence[WorkerPool]) -> _Placed:
    """Return the best mode for *platform* that a pool can do, with the pools that can do it."""
    able: dict[Mode, list[WorkerPool]] = {}
    for pool in (pool for pool in pools if pool.name != SIGNER and pool.at_once(night.memory)):
        row = pool.worker
        worker = Worker(os=row.os, machine=row.machine, containers=row.os == LINUX)
        for mode in ways(platform, night.platforms, worker).keys() & set(row.modes):
            able.setdefault(mode, []).append(pool)
    best = next((mode for mode in platform.modes if mode in able), None)
    if best is None:
        names = ", ".join(pool.name for pool in pools)
        msg = (
            f"no pool ({names}) can translate for {platform.identifier}. Add one of machine "
            f"{platform.runs_on[0]}, leave the platform out, or give a pool more memory."
        )
        raise PlatformError(msg)
    return _Placed(
        mode=best,
        pools=frozenset(pool.name for pool in able[best]),
        emulated=any(pool.worker.machine not in platform.runs_on for pool in able[best]),
    )


def lower_bounds(tasks: Sequence[Task], pools: Sequence[WorkerPool]) -> Bounds:
    """Return what no schedule of *tasks* on *pools* can be shorter than, whatever its rule."""
    heads, tails = _heads(tasks), _tails(tasks)
    groups: dict[tuple[TaskKind, frozenset[str]], list[Task]] = {}
    for task in tasks:
        groups.setdefault((task.kind, task.pools), []).append(task)
    return Bounds(
        critical_path=max((heads[task.name] + task.seconds for task in tasks), default=0.0),
        capacity={
            f"{kind} on {', '.join(sorted(names))}": min(heads[task.name] for task in group)
            + _shared(group, [pool for pool in pools if pool.name in names])
            + min(tails[task.name] for task in group)
            for (kind, names), group in groups.items()
        },
    )


def _shared(group: Sequence[Task], pools: Sequence[WorkerPool]) -> float:
    """Return how long *group* takes if every build has as much work as every other."""
    builds = sum(pool.at_once(min(task.memory for task in group)) for pool in pools)
    if not builds:
        msg = f"no worker can ever do {group[0].name}"
        raise ValueError(msg)
    by_builds = sum(task.seconds for task in group) / builds
    memory = sum(pool.count * pool.worker.memory for pool in pools)
    return max(by_builds, sum(task.seconds * task.memory for task in group) / memory)


def _heads(tasks: Sequence[Task]) -> dict[str, float]:
    """Return for each task the longest chain of others before it."""
    by_name, heads = {task.name: task for task in tasks}, dict[str, float]()
    for task in _in_order(tasks):
        ends = (heads[name] + by_name[name].seconds for name in task.after)
        heads[task.name] = max(ends, default=0.0)
    return heads


def _tails(tasks: Sequence[Task]) -> dict[str, float]:
    """Return for each task the longest chain of others after it."""
    tails = {task.name: 0.0 for task in tasks}
    for task in reversed(_in_order(tasks)):
        for name in task.after:
            tails[name] = max(tails[name], tails[task.name] + task.seconds)
    return tails


def _in_order(tasks: Sequence[Task]) -> list[Task]:
    """Return *tasks*, each behind all that it comes after."""
    ordered: dict[str, Task] = {}
    while len(ordered) < len(tasks):
        ready = [task for task in tasks if task.name not in ordered and task.after <= set(ordered)]
        if not ready:
            msg = "tasks come after each other in a circle, or after some that are not there"
            raise ValueError(msg)
        ordered.update({task.name: task for task in ready})
    return list(ordered.values())


@dataclass
class _Place:
    """One worker, and what it has in hand."""

    name: str
    pool: WorkerPool
    running: dict[str, tuple[float, float]] = field(default_factory=dict)  # started, ends
    memory: int = 0
    back_at: float = 0.0

    def fits(self, task: Task, now: float) -> bool:
        """Tell whether the worker can begin *task* now."""
        return (
            self.pool.name in task.pools
            and self.back_at <= now
            and len(self.running) < self.pool.worker.builds
            and self.memory + task.memory <= self.pool.worker.memory
        )


class _Farm:
    """The state between two events."""

    def __init__(self, tasks: Sequence[Task], pools: Sequence[WorkerPool]) -> None:
        self.tasks = {task.name: task for task in sorted(tasks, key=lambda task: -task.priority)}
        self.places = [_Place(name, pool) for pool in pools for name in worker_names(pool)]
        self.waiting = dict.fromkeys(self.tasks)
        self.done: dict[str, Ran] = {}
        self.attempts = Counter[str]()
        self.used: dict[str, float] = defaultdict(float)
        self.repeated = 0.0

    def start(self, now: float) -> None:
        """Begin whatever can be begun."""
        for task in [self.tasks[name] for name in self.waiting]:
            if task.after <= self.done.keys():
                fitting = [place for place in self.places if place.fits(task, now)]
                if fitting:
                    self._begin(min(fitting, key=lambda place: len(place.running)), task, now)

    def _begin(self, place: _Place, task: Task, now: float) -> None:
        del self.waiting[task.name]
        place.running[task.name] = (now, now + task.seconds)
        place.memory += task.memory
        self.attempts[task.name] += 1

    def end(self, now: float) -> None:
        """Take back what is finished by now."""
        for place in self.places:
            for name in [name for name, (_, ends) in place.running.items() if ends <= now]:
                started, ends = self._take(place, name)
                self.used[place.pool.name] += ends - started
                self.done[name] = Ran(
                    task=name,
                    worker=place.name,
                    started=started,
                    ended=ends,
                    attempts=self.attempts[name],
                )

    def lose(self, loss: Loss) -> None:
        """Lose one worker, with or without what it has in hand."""
        (place,) = (place for place in self.places if place.name == loss.worker)
        place.back_at = max(place.back_at, loss.at + loss.away)
        for name, (started, ends) in list(place.running.items()):
            if loss.rejoined:
                place.running[name] = (started, max(ends, place.back_at))
                self.attempts[name] += 1
            else:
                self._take(place, name)
                self.used[place.pool.name] += loss.at - started
                self.repeated += loss.at - started
                self.waiting = dict.fromkeys(
                    task for task in self.tasks if task == name or task in self.waiting
                )

    def _take(self, place: _Place, name: str) -> tuple[float, float]:
        place.memory -= self.tasks[name].memory
        return place.running.pop(name)

    def next_event(self, now: float) -> float:
        """Return when something ends or comes back, infinity if nothing does."""
        ends = [ends for place in self.places for _, ends in place.running.values()]
        backs = [place.back_at for place in self.places if place.back_at > now]
        return min([*ends, *backs], default=math.inf)


def simulate(
    tasks: Sequence[Task], pools: Sequence[WorkerPool], losses: Iterable[Loss] = ()
) -> Outcome:
    """Return what comes of *tasks* on *pools* when workers are lost as *losses* say.

    Raises:
        ValueError: there are tasks that nobody can ever do.
    """
    farm, now = _Farm(tasks, pools), 0.0
    ahead = sorted(losses, key=lambda loss: loss.at)
    while True:
        farm.end(now)
        while ahead and ahead[0].at <= now:
            farm.lose(ahead.pop(0))
        farm.start(now)
        following = farm.next_event(now)
        if following == math.inf:
            break
        now = min(following, ahead[0].at) if ahead else following
    if farm.waiting:
        msg = f"no worker can ever do {', '.join(farm.waiting)}"
        raise ValueError(msg)
    return Outcome(runs=tuple(farm.done.values()), used=dict(farm.used), repeated=farm.repeated)


def worker_names(pool: WorkerPool) -> tuple[str, ...]:
    """Return the names of a pool's workers: ``linux-1``, ``linux-2``."""
    return tuple(f"{pool.name}-{number}" for number in range(1, pool.count + 1))


def hourly_losses(
    pools: Sequence[WorkerPool], *, first: int, hours: int, away: float, rejoined: bool
) -> tuple[Loss, ...]:
    """Return the loss of one worker each hour, one after the other from the *first* (of 0) on.

    The signer, which is watched, is not lost.
    """
    names = [name for pool in pools if pool.name != SIGNER for name in worker_names(pool)]
    return tuple(
        Loss(
            at=hour * HOUR,
            worker=names[(first + hour - 1) % len(names)],
            away=away,
            rejoined=rejoined,
        )
        for hour in range(1, hours + 1)
    )


def workers_needed(
    night: Night, pools: Sequence[WorkerPool], seconds: float
) -> tuple[WorkerPool, ...] | None:
    """Return *pools* with as many workers as finish *night* within *seconds*; None: none do.

    The signer stays one. The pool whose last translation ends last gets a worker more until it is
    enough or each translation has one of its own.
    """
    tasks = night_tasks(night, pools)
    most = {pool.name: _most(pool, tasks) for pool in pools}
    if lower_bounds(tasks, [_counted(pool, most[pool.name]) for pool in pools]).strongest > seconds:
        return None
    enough = [_counted(pool, 1) for pool in pools]
    while (outcome := simulate(tasks, enough)).makespan > seconds:
        ended = _last_ends(outcome, tasks)
        able = [pool for pool in enough if pool.count < most[pool.name]]
        late = max(able, key=lambda pool: ended.get(pool.name, 0.0), default=None)
        if late is None:
            return None
        enough[enough.index(late)] = _counted(late, late.count + 1)
    return tuple(enough)


def _most(pool: WorkerPool, tasks: Sequence[Task]) -> int:
    """Return how many of a pool's workers can be of use."""
    own = sum(pool.name in task.pools for task in tasks)
    return 1 if pool.name == SIGNER else max(1, own)


def _counted(pool: WorkerPool, count: int) -> WorkerPool:
    return pool.model_copy(update={"count": count})


def _last_ends(outcome: Outcome, tasks: Sequence[Task]) -> Mapping[str, float]:
    """Return for each pool when the last translation that it may do ended."""
    pools = {task.name: task.pools for task in tasks if task.kind is TaskKind.TRANSLATE}
    ends: dict[str, float] = {}
    for run in (run for run in outcome.runs if run.task in pools):
        for name in pools[run.task]:
            ends[name] = max(ends.get(name, 0.0), run.ended)
    return ends
