"""Work apart from its caller: what is decided from what was found."""

import io
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NoReturn

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.effects.detached import DetachedWork
from pipeline.effects.process import Outputs, ProcessRunner
from pipeline.errors import DetachedError
from pipeline.farm.detached import (
    GRACE,
    INTERVAL,
    KILL_GRACE,
    NEVER,
    Action,
    Order,
    Replay,
    Stopped,
    Watch,
    decide,
    exit_status,
    follow,
    start_or_find,
    stop,
)


class Starter(ProcessRunner):
    """Notes what would be started."""

    def __init__(self) -> None:
        self.started: list[tuple[tuple[str, ...], dict[str, Any]]] = []

    def start_apart(self, argv: Sequence[str], outputs: Outputs, **options: Any) -> Any:
        """Note it."""
        self.started.append((tuple(argv), {**options, "outputs": outputs}))
        return SimpleNamespace(pid=1)


class Time:
    """A clock that only waiting moves; *events* happen when it gets to them."""

    def __init__(self, events: dict[float, Callable[[], object]] | None = None) -> None:
        self.now = 0.0
        self.events = events or {}

    def clock(self) -> float:
        """Return the seconds so far."""
        return self.now

    def pause(self, seconds: float) -> None:
        """Let time pass."""
        self.now += seconds
        for moment in [moment for moment in self.events if moment <= self.now]:
            self.events.pop(moment)()


class Work(DetachedWork):
    """Work whose processes are only said to live; signals are noted."""

    def __init__(self, root: Path) -> None:
        super().__init__(root, "demo")
        self.directory.mkdir(parents=True)
        self.supervised = self.running = False
        self.has_begun = True
        self.survives = 0
        self.signals: list[str] = []

    @property
    def is_supervised(self) -> bool:
        """Whether the test says so."""
        return self.supervised

    @property
    def is_running(self) -> bool:
        """Whether the test says so."""
        return self.running

    def interrupt(self) -> bool:
        """Note it."""
        if self.has_begun:
            self.signals.append("interrupt")
        return self.has_begun

    def kill(self, *, supervisor: bool) -> None:
        """Note it; what survives so many of it lives on."""
        self.signals.append(f"kill {'all' if supervisor else 'work'}")
        if self.survives:
            self.survives -= 1
        else:
            self.gone()

    def gone(self) -> None:
        """All of it has ended."""
        self.supervised = self.running = False


@pytest.fixture
def work(tmp_path: Path) -> Work:
    return Work(tmp_path)


@pytest.mark.parametrize(
    ("is_supervised", "status", "expected"),
    [
        pytest.param(False, None, Action.START, id="never-or-died"),
        pytest.param(True, None, Action.ATTACH, id="lives"),
        pytest.param(True, 0, Action.ATTACH, id="about-to-end"),
        pytest.param(False, 0, Action.REPLAY, id="succeeded"),
        pytest.param(False, 30, Action.START, id="failed"),
    ],
)
def test_work_is_started_unless_it_lives_or_has_succeeded(
    *, is_supervised: bool, status: int | None, expected: Action
) -> None:
    assert decide(is_supervised=is_supervised, status=status) is expected


def test_work_is_started_under_a_supervisor_in_a_session_of_its_own(work: Work) -> None:
    starter = Starter()

    action = start_or_find(work, starter, ("translate", "demo-linux-x86_64"), 90.0)

    ((argv, options),) = starter.started
    assert action is Action.START
    assert argv[1:3] == ("-m", "pipeline.farm.supervisor")
    place = (str(work.root), "demo", "90.0")
    assert argv[3:] == (*place, "translate", "demo-linux-x86_64")
    assert options["leads"]
    assert options["outputs"] == work.outputs
    assert len(options["keep"]) == 1


def test_work_that_may_be_alone_for_ever_is_started_so(work: Work) -> None:
    starter = Starter()

    start_or_find(work, starter, ("config",), None)

    assert starter.started[0][0][5] == NEVER


def test_what_a_failed_run_left_is_gone_before_the_next(work: Work) -> None:
    work.begin()
    work.stdout.write_bytes(b"old")
    work.end(30)

    start_or_find(work, Starter(), ("config",), None)

    assert work.status is None
    assert work.stdout.read_bytes() == b""


def test_work_that_lost_its_supervisor_is_killed_before_it_is_started_again(work: Work) -> None:
    work.running = True
    starter = Starter()

    action = start_or_find(work, starter, ("config",), None)

    assert action is Action.START
    assert work.signals == ["kill all"]
    assert len(starter.started) == 1


def test_work_that_lives_is_not_started_again(work: Work) -> None:
    work.supervised = work.running = True
    starter = Starter()

    action = start_or_find(work, starter, ("config",), None)

    assert (action, starter.started, work.signals) == (Action.ATTACH, [], [])


def test_a_full_disk_is_an_error_of_the_work_directory(
    work: Work, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse() -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(work, "begin", refuse)

    with pytest.raises(DetachedError, match=r"cannot be written: .*No space left.*full"):
        start_or_find(work, Starter(), ("config",), None)


def test_a_follower_passes_on_all_that_is_written_until_the_end(work: Work) -> None:
    work.begin()
    work.supervised = True
    written = io.BytesIO()

    def write() -> None:
        work.stdout.write_bytes(b"first\n")

    def end() -> None:
        work.stdout.write_bytes(b"first\nlast\n")
        work.end(3)
        work.gone()

    time = Time({1.0: write, 2.0: end})
    replays = [Replay(work.stdout, written)]

    status = follow(work, replays, pause=time.pause, is_read=lambda: True)

    assert status == 3
    assert written.getvalue() == b"first\nlast\n"
    assert time.now < 2.0 + 2 * INTERVAL


def test_a_follower_whose_reader_is_gone_leaves_the_work_alone(work: Work) -> None:
    work.begin()
    work.supervised = True

    status = follow(work, [], pause=Time().pause, is_read=lambda: False)

    assert status is None
    assert work.signals == []


def test_a_follower_whose_pipe_breaks_leaves_the_work_alone(work: Work) -> None:
    class Broken(io.BytesIO):
        def write(self, _data: object) -> NoReturn:
            raise BrokenPipeError

    work.begin()
    work.stdout.write_bytes(b"x")
    work.end(0)

    replays = [Replay(work.stdout, Broken())]

    assert follow(work, replays, pause=Time().pause, is_read=lambda: True) is None


def test_a_supervisor_that_dies_without_a_record_is_an_error(work: Work) -> None:
    work.begin()
    work.supervised = True
    time = Time({1.0: work.gone})

    with pytest.raises(DetachedError, match=r"died before .* Run the same command again"):
        follow(work, [], pause=time.pause, is_read=lambda: True)


def test_a_file_that_is_not_there_yet_is_replayed_when_it_is(tmp_path: Path) -> None:
    written = io.BytesIO()
    replay = Replay(tmp_path / "stdout", written)

    replay.copy()
    (tmp_path / "stdout").write_bytes(b"x" * 100_000)
    replay.copy()
    replay.copy()

    assert written.getvalue() == b"x" * 100_000


def test_work_is_interrupted_once_when_nobody_follows_it_for_long_enough() -> None:
    watch = Watch(orphan_seconds=60, followed_at=0)

    watch, first = watch.look(59, is_followed=False, is_told=False)
    watch, second = watch.look(60, is_followed=False, is_told=False)
    watch, third = watch.look(61, is_followed=False, is_told=False)

    assert [first, second, third] == [Order.GO_ON, Order.INTERRUPT, Order.GO_ON]


def test_who_follows_again_gives_the_work_all_its_time_again() -> None:
    watch = Watch(orphan_seconds=60, followed_at=0)

    watch, _ = watch.look(59, is_followed=True, is_told=False)
    watch, order = watch.look(118, is_followed=False, is_told=False)

    assert order is Order.GO_ON


def test_work_that_goes_on_after_an_interrupt_is_killed() -> None:
    watch = Watch(orphan_seconds=None, followed_at=0)

    watch, told = watch.look(1, is_followed=True, is_told=True)
    _, early = watch.look(GRACE, is_followed=True, is_told=True)
    _, late = watch.look(1 + GRACE, is_followed=True, is_told=True)

    assert [told, early, late] == [Order.INTERRUPT, Order.GO_ON, Order.KILL]


@given(looks=st.lists(st.booleans(), max_size=50))
def test_work_without_a_limit_is_never_stopped_for_being_alone(looks: list[bool]) -> None:
    watch = Watch(orphan_seconds=None, followed_at=0)

    for number, is_followed in enumerate(looks):
        watch, order = watch.look(number * 1e6, is_followed=is_followed, is_told=False)
        assert order is Order.GO_ON


@given(looks=st.lists(st.booleans(), max_size=50), limit=st.integers(min_value=1, max_value=20))
def test_work_is_stopped_exactly_when_it_was_alone_for_its_limit(
    looks: list[bool], limit: int
) -> None:
    """Looks are a second apart; the reference counts those in a row without a follower."""
    watch, orders = Watch(orphan_seconds=limit, followed_at=0), []

    for number, is_followed in enumerate(looks, start=1):
        watch, order = watch.look(number, is_followed=is_followed, is_told=False)
        orders.append(order)

    longest, alone = 0, 0
    for is_followed in looks:
        alone = 0 if is_followed else alone + 1
        longest = max(longest, alone)
    assert (Order.INTERRUPT in orders) is (longest >= limit)


def test_of_work_that_never_was_nothing_is_stopped(tmp_path: Path) -> None:
    work, time = DetachedWork(tmp_path, "demo"), Time()

    assert stop(work, clock=time.clock, pause=time.pause) is Stopped.NOTHING
    assert list(tmp_path.iterdir()) == []


def test_of_work_that_has_ended_nothing_is_stopped(work: Work) -> None:
    time = Time()

    assert stop(work, clock=time.clock, pause=time.pause) is Stopped.NOTHING
    assert work.signals == []


def test_work_is_interrupted_and_has_time_to_stop_its_container(work: Work) -> None:
    work.supervised = work.running = True
    time = Time({GRACE - 1: work.gone})

    assert stop(work, clock=time.clock, pause=time.pause) is Stopped.INTERRUPTED
    assert work.signals == ["interrupt"]


def test_work_that_has_not_begun_is_interrupted_when_it_does(work: Work) -> None:
    work.supervised, work.has_begun = True, False

    def begin() -> None:
        work.has_begun = True

    time = Time({1.0: begin, 2.0: work.gone})

    assert stop(work, clock=time.clock, pause=time.pause) is Stopped.INTERRUPTED
    assert work.signals == ["interrupt"]


def test_work_that_ignores_an_interrupt_is_killed_and_its_supervisor_records_that(
    work: Work,
) -> None:
    work.supervised = work.running = True
    time = Time()

    assert stop(work, clock=time.clock, pause=time.pause, grace=5) is Stopped.KILLED
    assert work.signals == ["interrupt", "kill work"]
    assert 5 <= time.now <= 5 + INTERVAL


def test_a_supervisor_that_stays_is_killed_too(work: Work) -> None:
    work.supervised = work.running = True
    work.survives = 1
    time = Time()

    assert stop(work, clock=time.clock, pause=time.pause) is Stopped.KILLED
    assert work.signals == ["interrupt", "kill work", "kill all"]


def test_what_cannot_be_killed_is_an_error(work: Work) -> None:
    work.supervised = work.running = True
    work.survives = 2
    time = Time()

    with pytest.raises(DetachedError, match="do not end, though they were killed"):
        stop(work, clock=time.clock, pause=time.pause)

    assert time.now >= GRACE + 2 * KILL_GRACE


@pytest.mark.parametrize(("code", "expected"), [(0, 0), (30, 30), (-9, 137), (-15, 143)])
def test_a_status_is_given_as_a_shell_does(code: int, expected: int) -> None:
    assert exit_status(code) == expected
