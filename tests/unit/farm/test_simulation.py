"""Whatever is simulated keeps to the farm's rules, and to what no schedule can beat."""

from collections.abc import Sequence
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import PlatformError
from pipeline.farm.simulation import (
    HOUR,
    SIGNER,
    Durations,
    Loss,
    Night,
    Outcome,
    Task,
    TaskKind,
    WorkerPool,
    hourly_losses,
    lower_bounds,
    night_tasks,
    simulate,
    worker_names,
    workers_needed,
)
from pipeline.model.farm import FarmWorker, Role
from tests.factories import make_config

LENGTHS = st.integers(min_value=1, max_value=100).map(float)
DURATIONS = Durations(
    prepare=10,
    native=1000,
    cross=1100,
    emulated=14000,
    package=100,
    verify=50,
    package_emulated=150,
    verify_emulated=100,
    publish=5,
)


def make_pool(
    name: str = "linux",
    *,
    count: int = 1,
    builds: int = 1,
    memory: int = 8,
    machine: str = "x86_64",
) -> WorkerPool:
    worker = FarmWorker(machine=machine, memory=memory, builds=builds)
    return WorkerPool(name=name, worker=worker, count=count)


def make_signer(builds: int = 1) -> WorkerPool:
    worker = FarmWorker(memory=4, builds=builds, role=Role.SIGNER)
    return WorkerPool(name=SIGNER, worker=worker)


def make_task(
    name: str,
    seconds: float,
    *,
    pools: frozenset[str] = frozenset({"linux"}),
    memory: int = 0,
    after: Sequence[str] = (),
    priority: int = 0,
) -> Task:
    return Task(
        name=name,
        kind=TaskKind.TRANSLATE,
        seconds=seconds,
        pools=pools,
        memory=memory,
        after=frozenset(after),
        priority=priority,
    )


def independent(lengths: Sequence[float]) -> tuple[Task, ...]:
    return tuple(make_task(f"t{number}", seconds) for number, seconds in enumerate(lengths))


def make_night(*, platforms: Sequence[str] = ("linux-x86_64",), by_workers: bool = False) -> Night:
    rows = make_config().platforms
    return Night(
        interpreters=("a", "b", "c"),
        platforms={name: rows[name] for name in platforms},
        durations=DURATIONS,
        memory=6,
        by_workers=by_workers,
    )


def span(outcome: Outcome, name: str) -> tuple[float, float]:
    (run,) = (run for run in outcome.runs if run.task == name)
    return run.started, run.ended


@st.composite
def task_graphs(draw: st.DrawFn) -> tuple[Task, ...]:
    """Tasks of two kinds of workers, in any order that is no circle."""
    tasks: list[Task] = []
    for number in range(draw(st.integers(min_value=1, max_value=12))):
        earlier = [task.name for task in tasks]
        tasks.append(
            make_task(
                f"t{number}",
                draw(LENGTHS),
                pools=draw(st.sampled_from([frozenset({"a"}), frozenset({"b"}), frozenset("ab")])),
                memory=draw(st.integers(min_value=0, max_value=4)),
                after=draw(st.lists(st.sampled_from(earlier), max_size=3)) if earlier else (),
                priority=draw(st.integers(min_value=0, max_value=2)),
            )
        )
    return tuple(tasks)


@st.composite
def two_pools(draw: st.DrawFn) -> tuple[WorkerPool, ...]:
    sizes = st.integers(min_value=1, max_value=3)
    memories = st.integers(min_value=4, max_value=9)
    return tuple(
        make_pool(name, count=draw(sizes), builds=draw(sizes), memory=draw(memories))
        for name in "ab"
    )


@given(tasks=task_graphs(), pools=two_pools())
def test_every_task_is_done_once_on_a_worker_that_fits_after_what_it_comes_after(
    tasks: tuple[Task, ...], pools: tuple[WorkerPool, ...]
) -> None:
    outcome = simulate(tasks, pools)

    assert sorted(run.task for run in outcome.runs) == sorted(task.name for task in tasks)
    for task in tasks:
        (run,) = (run for run in outcome.runs if run.task == task.name)
        assert run.worker.partition("-")[0] in task.pools
        assert run.ended - run.started == task.seconds
        assert all(span(outcome, name)[1] <= run.started for name in task.after)


@given(tasks=task_graphs(), pools=two_pools())
def test_no_worker_ever_has_more_builds_or_memory_in_use_than_it_has(
    tasks: tuple[Task, ...], pools: tuple[WorkerPool, ...]
) -> None:
    by_name = {task.name: task for task in tasks}

    outcome = simulate(tasks, pools)

    for pool in pools:
        for worker in worker_names(pool):
            runs = [run for run in outcome.runs if run.worker == worker]
            for moment in (run.started for run in runs):
                now = [run.task for run in runs if run.started <= moment < run.ended]
                assert len(now) <= pool.worker.builds
                assert sum(by_name[name].memory for name in now) <= pool.worker.memory


@given(tasks=task_graphs(), pools=two_pools())
def test_no_schedule_is_shorter_than_a_lower_bound(
    tasks: tuple[Task, ...], pools: tuple[WorkerPool, ...]
) -> None:
    bounds = lower_bounds(tasks, pools)

    makespan = simulate(tasks, pools).makespan

    assert makespan >= bounds.critical_path - 1e-6
    assert all(makespan >= bound - 1e-6 for bound in bounds.capacity.values())


@given(tasks=task_graphs(), pools=two_pools(), data=st.data())
def test_lost_workers_do_not_beat_a_lower_bound_and_lose_no_task(
    tasks: tuple[Task, ...], pools: tuple[WorkerPool, ...], data: st.DataObject
) -> None:
    names = [name for pool in pools for name in worker_names(pool)]
    losses = data.draw(
        st.lists(
            st.builds(
                Loss,
                at=LENGTHS,
                worker=st.sampled_from(names),
                away=LENGTHS,
                rejoined=st.booleans(),
            ),
            max_size=5,
        )
    )

    outcome = simulate(tasks, pools, losses)

    assert outcome.makespan >= lower_bounds(tasks, pools).strongest - 1e-6
    assert sorted(run.task for run in outcome.runs) == sorted(task.name for task in tasks)


@given(
    lengths=st.lists(LENGTHS, min_size=1, max_size=20), count=st.integers(min_value=1, max_value=5)
)
def test_equal_workers_without_order_are_within_grahams_bound(
    lengths: list[float], count: int
) -> None:
    """R. L. Graham, 1966: list scheduling takes at most (2 - 1/m) times the shortest."""
    tasks, pools = independent(lengths), (make_pool(count=count),)

    makespan = simulate(tasks, pools).makespan

    assert makespan <= (2 - 1 / count) * lower_bounds(tasks, pools).strongest + 1e-6


@given(lengths=st.lists(LENGTHS, min_size=1, max_size=12))
def test_one_worker_takes_the_sum_and_one_for_each_task_the_longest(lengths: list[float]) -> None:
    tasks = independent(lengths)

    one = simulate(tasks, (make_pool(),)).makespan
    each = simulate(tasks, (make_pool(count=len(lengths)),)).makespan

    assert one == pytest.approx(sum(lengths))
    assert each == max(lengths)


@given(tasks=task_graphs(), more=st.integers(min_value=0, max_value=50))
def test_memory_beyond_what_its_builds_can_use_changes_nothing(
    tasks: tuple[Task, ...], more: int
) -> None:
    """Less than that is another matter: a schedule can get longer by a worker that can do more."""
    enough = 3 * 4

    outcomes = [
        simulate(tasks, [make_pool(name, builds=3, memory=memory) for name in "ab"])
        for memory in (enough, enough + more)
    ]

    assert outcomes[0] == outcomes[1]


@given(lengths=st.lists(LENGTHS, min_size=1, max_size=8), at=LENGTHS, away=LENGTHS)
def test_one_worker_that_is_lost_repeats_its_work_unless_it_is_rejoined(
    lengths: list[float], at: float, away: float
) -> None:
    tasks, pools = independent(lengths), (make_pool(),)
    loss = Loss(at=at, worker="linux-1", away=away, rejoined=False)

    repeated = simulate(tasks, pools, [loss])
    rejoined = simulate(tasks, pools, [loss.model_copy(update={"rejoined": True})])

    if at < sum(lengths):
        assert repeated.makespan == pytest.approx(sum(lengths) + away + repeated.repeated)
        assert sum(lengths) <= rejoined.makespan <= repeated.makespan
    else:
        assert repeated.makespan == rejoined.makespan == sum(lengths)
    assert rejoined.repeated == 0


def test_what_was_lost_is_told_and_counted_as_another_attempt() -> None:
    loss = Loss(at=30, worker="linux-1", away=5, rejoined=False)

    outcome = simulate([make_task("long", 100)], [make_pool()], [loss])

    assert span(outcome, "long") == (35, 135)
    assert outcome.runs[0].attempts == 2
    assert outcome.repeated == 30


def test_work_that_ends_while_its_worker_is_away_is_found_when_it_is_back() -> None:
    loss = Loss(at=90, worker="linux-1", away=60, rejoined=True)

    outcome = simulate([make_task("long", 100)], [make_pool()], [loss])

    assert span(outcome, "long") == (0, 150)
    assert outcome.runs[0].attempts == 2


def test_lost_work_goes_to_another_worker_that_is_free() -> None:
    loss = Loss(at=30, worker="linux-1", away=1000, rejoined=False)

    outcome = simulate([make_task("long", 100)], [make_pool(count=2)], [loss])

    assert outcome.runs[0].worker == "linux-2"
    assert outcome.makespan == 130


def test_the_higher_priority_goes_first_then_the_order_of_submission() -> None:
    tasks = [make_task("a", 1), make_task("b", 1), make_task("c", 1, priority=1)]

    outcome = simulate(tasks, [make_pool()])

    assert [run.task for run in outcome.runs] == ["c", "a", "b"]


def test_a_task_that_fits_is_not_held_up_by_one_that_does_not() -> None:
    tasks = [
        make_task("a", 10, memory=4),
        make_task("too big for now", 10, memory=8),
        make_task("small", 10, memory=4),
    ]

    outcome = simulate(tasks, [make_pool(builds=2, memory=8)])

    assert span(outcome, "small") == (0, 10)
    assert span(outcome, "too big for now") == (10, 20)


def test_a_task_goes_to_the_idlest_worker() -> None:
    outcome = simulate(independent([10, 10]), [make_pool(count=2, builds=2)])

    assert {run.worker for run in outcome.runs} == {"linux-1", "linux-2"}


def test_a_task_that_nobody_can_do_is_refused() -> None:
    tasks = [make_task("huge", 1, memory=9)]

    with pytest.raises(ValueError, match="no worker can ever do huge"):
        simulate(tasks, [make_pool()])
    with pytest.raises(ValueError, match="no worker can ever do huge"):
        lower_bounds(tasks, [make_pool()])


def test_tasks_in_a_circle_are_refused() -> None:
    tasks = [make_task("a", 1, after=["b"]), make_task("b", 1, after=["a"])]

    with pytest.raises(ValueError, match="in a circle"):
        lower_bounds(tasks, [make_pool()])


def test_utilisation_is_the_part_of_the_time_in_which_builds_have_work() -> None:
    pool = make_pool(count=2)

    outcome = simulate(independent([10, 5]), [pool])

    assert outcome.utilisation(pool) == 0.75
    assert simulate([], [pool]).utilisation(pool) == 0


def test_a_night_has_each_interpreter_prepared_translated_for_all_and_collected() -> None:
    night = make_night(platforms=("linux-x86_64", "linux-aarch64"))

    tasks = {task.name: task for task in night_tasks(night, [make_signer(), make_pool()])}

    assert len(tasks) == 3 + 3 * 2 + 3
    assert tasks["a-linux-x86_64"].seconds == 1000
    assert tasks["a-linux-aarch64"].seconds == 1100
    assert tasks["a-linux-aarch64"].after == {"prepare a"}
    assert tasks["collect a"].after == {"a-linux-x86_64", "a-linux-aarch64"}
    assert tasks["collect a"].seconds == 100 + 50 + 150 + 100 + 5
    assert tasks["collect a"].pools == {SIGNER}


def test_what_workers_package_and_verify_is_not_done_by_the_signer_again() -> None:
    night = make_night(platforms=("linux-x86_64", "linux-aarch64"), by_workers=True)

    tasks = {task.name: task for task in night_tasks(night, [make_signer(), make_pool()])}

    assert tasks["a-linux-x86_64"].seconds == 1000 + 100 + 50
    assert tasks["a-linux-aarch64"].seconds == 1100 + 150 + 100
    assert tasks["collect a"].seconds == 5


def test_programs_that_their_worker_runs_are_verified_there_without_an_emulator() -> None:
    """A cross compiler for musl makes programs of the worker's own processor."""
    night = make_night(platforms=("linux-x86_64", "linux-musl-x86_64"), by_workers=True)

    tasks = {task.name: task for task in night_tasks(night, [make_signer(), make_pool()])}

    assert tasks["a-linux-musl-x86_64"].seconds == 1100 + 100 + 50


def test_a_platform_waits_for_a_worker_of_its_own_rather_than_being_emulated() -> None:
    pools = [make_signer(), make_pool(), make_pool("s390x", machine="s390x")]
    night = make_night(platforms=("linux-s390x",))

    native = night_tasks(night, pools)[3]
    emulated = night_tasks(night, pools[:2])[3]

    assert (native.seconds, native.pools) == (1000, frozenset({"s390x"}))
    assert (emulated.seconds, emulated.pools) == (14000, frozenset({"linux"}))


def test_a_platform_that_no_pool_can_translate_for_is_told() -> None:
    night = make_night(platforms=("macos-arm64",))

    with pytest.raises(PlatformError, match="can translate for macos-arm64"):
        night_tasks(night, [make_signer(), make_pool()])


def test_losses_go_round_all_workers_but_the_signer() -> None:
    losses = hourly_losses(
        [make_signer(), make_pool(count=2)], first=1, hours=3, away=60, rejoined=True
    )

    assert [loss.worker for loss in losses] == ["linux-2", "linux-1", "linux-2"]
    assert [loss.at for loss in losses] == [HOUR, 2 * HOUR, 3 * HOUR]


def test_a_worker_lost_each_hour_costs_little_if_its_work_is_rejoined() -> None:
    """On average over which worker is the first; for one alone nothing is sure."""
    night = make_night(platforms=("linux-s390x", "linux-x86_64"))
    pools = [make_signer(builds=3), make_pool(count=3)]
    tasks = night_tasks(night, pools)
    undisturbed = simulate(tasks, pools).makespan

    repeated, rejoined = (
        sum(
            simulate(
                tasks,
                pools,
                hourly_losses(pools, first=first, hours=4, away=60, rejoined=kept),
            ).makespan
            for first in range(3)
        )
        / 3
        for kept in (False, True)
    )

    assert undisturbed <= rejoined <= undisturbed + 5 * 60
    assert rejoined < repeated


def test_the_workers_for_a_night_are_enough_and_one_fewer_is_not() -> None:
    night, pools = make_night(), (make_signer(), make_pool())
    limit = 10 + 2 * 1000 + 3 * 155 + 100

    needed = workers_needed(night, pools, limit)

    assert needed is not None
    assert {pool.name: pool.count for pool in needed} == {SIGNER: 1, "linux": 2}
    tasks = night_tasks(night, pools)
    assert simulate(tasks, needed).makespan <= limit
    assert simulate(tasks, (make_signer(), make_pool(count=1))).makespan > limit


def test_no_number_of_workers_makes_a_night_shorter_than_its_longest_chain() -> None:
    assert workers_needed(make_night(), (make_signer(), make_pool()), 1100) is None


def test_workers_that_cannot_help_end_the_search() -> None:
    """The bound is met by a schedule that list scheduling does not find, if at all."""
    night, pools = make_night(), (make_signer(), make_pool())
    tasks = night_tasks(night, pools)
    most = simulate(tasks, (make_signer(), make_pool(count=3))).makespan

    found = workers_needed(night, pools, most - 1)

    bound = lower_bounds(tasks, (make_signer(), make_pool(count=3))).strongest
    assert found is None
    assert bound <= most


def test_more_time_never_needs_more_workers() -> None:
    night, pools = make_night(), (make_signer(), make_pool())

    counts = [
        sum(pool.count for pool in needed)
        for seconds in range(1600, 4000, 100)
        if (needed := workers_needed(night, pools, seconds)) is not None
    ]

    assert len(counts) > 10
    assert all(before >= after for before, after in pairwise(counts))
