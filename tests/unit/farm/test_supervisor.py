"""The supervisor: what it does to the work, with a process and a clock that only pretend."""

import os
import signal
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from pipeline.effects.detached import DetachedWork
from pipeline.effects.process import Completed, Outputs, ProcessRunner
from pipeline.farm import supervisor
from pipeline.farm.detached import GRACE, NEVER


class FakeRunning:
    """A process that ends when it is told to, or by itself after so many looks."""

    pid = 4711

    def __init__(self) -> None:
        self.looks, self.life, self.status = 0, 3, 0
        self.is_stubborn = False
        self.interrupts = 0

    @property
    def has_ended(self) -> bool:
        """Whether it has ended; asking is what lets it live on."""
        self.looks += 1
        return self.looks > self.life

    def interrupt(self) -> None:
        """End, unless it is stubborn."""
        self.interrupts += 1
        if not self.is_stubborn:
            self.looks, self.status = self.life, 130

    def wait(self) -> int:
        """Return its status."""
        return self.status


class FakeRunner(ProcessRunner):
    """Starts the fake process; other programs are only noted."""

    def __init__(self, running: FakeRunning) -> None:
        self.running = running
        self.started: list[tuple[tuple[str, ...], dict[str, Any]]] = []
        self.ran: list[tuple[str, ...]] = []

    def start_apart(self, argv: Sequence[str], outputs: Outputs, **options: Any) -> Any:
        """Start the work."""
        self.started.append((tuple(argv), {**options, "outputs": outputs}))
        return self.running

    def run(self, argv: Sequence[str | Path], **options: Any) -> Completed:
        """Note it."""
        assert not options["check"]
        words = tuple(str(word) for word in argv)
        self.ran.append(words)
        return Completed(argv=words, status=0, stdout=b"", stderr=b"0 containers removed\n")


@pytest.fixture
def running() -> FakeRunning:
    return FakeRunning()


@pytest.fixture
def runner(running: FakeRunning, monkeypatch: pytest.MonkeyPatch) -> FakeRunner:
    runner = FakeRunner(running)
    monkeypatch.setattr(supervisor, "ProcessRunner", lambda: runner)
    return runner


@pytest.fixture
def seconds(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Time passes only where the supervisor waits."""
    now = [0.0]

    def sleep(interval: float) -> None:
        now[0] += interval

    monkeypatch.setattr("time.sleep", sleep)
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    return now


@pytest.fixture(autouse=True)
def handlers() -> Iterator[None]:
    """Put the signal handlers back."""
    numbers = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
    before = {number: signal.getsignal(number) for number in numbers}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture
def work(tmp_path: Path) -> DetachedWork:
    work = DetachedWork(tmp_path, "demo")
    with work.deciding():
        work.begin()
    return work


@pytest.mark.usefixtures("seconds")
def test_it_runs_the_verb_and_records_how_it_ended(
    work: DetachedWork, runner: FakeRunner, running: FakeRunning
) -> None:
    running.status = 30

    status = supervisor.main([str(work.root), "demo", "60", "translate", "x", "--work", "w"])

    ((argv, options),) = runner.started
    assert (status, work.status) == (30, 30)
    assert argv[1:] == ("-m", "pipeline", "translate", "x", "--work", "w")
    assert options["outputs"] == work.outputs
    assert (work.directory / "session").read_text() == str(os.getpid())
    assert (work.directory / "work").read_text() == "4711"
    assert runner.ran == []


@pytest.mark.usefixtures("seconds")
def test_work_that_a_signal_ended_has_the_status_of_a_shell(
    work: DetachedWork, runner: FakeRunner, running: FakeRunning
) -> None:
    running.status = -9

    supervisor.main([str(work.root), "demo", "60", "config"])

    assert work.status == 137
    assert runner.ran == []


def test_work_that_nobody_follows_is_stopped_with_its_containers(
    work: DetachedWork,
    runner: FakeRunner,
    running: FakeRunning,
    seconds: list[float],
    capsys: pytest.CaptureFixture[str],
) -> None:
    running.life = 10**6

    supervisor.main([str(work.root), "demo", "60", "config"])

    (cleaned,) = runner.ran
    assert (running.interrupts, work.status) == (1, 130)
    assert cleaned[2:] == (
        "pipeline",
        "reap",
        "demo",
        "--work",
        str(work.root),
        "--only-containers",
    )
    assert 60 <= seconds[0] < 62
    assert "demo is stopped: nobody follows for 60 s" in capsys.readouterr().err


@pytest.mark.usefixtures("seconds", "runner")
def test_work_that_is_followed_is_left_alone(work: DetachedWork, running: FakeRunning) -> None:
    running.life = 10_000

    with work.followed():
        supervisor.main([str(work.root), "demo", "60", "config"])

    assert (running.interrupts, work.status) == (0, 0)


@pytest.mark.usefixtures("seconds", "runner")
def test_work_without_a_limit_goes_on_alone(work: DetachedWork, running: FakeRunning) -> None:
    running.life = 10_000

    supervisor.main([str(work.root), "demo", NEVER, "config"])

    assert (running.interrupts, work.status) == (0, 0)


def test_work_that_ignores_the_interrupt_is_killed(
    work: DetachedWork,
    runner: FakeRunner,
    running: FakeRunning,
    seconds: list[float],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    running.life, running.is_stubborn = 10**6, True

    def kill(_work: DetachedWork, *, supervisor: bool) -> None:
        assert not supervisor
        running.life, running.status = 0, -9

    monkeypatch.setattr(DetachedWork, "kill", kill)

    supervisor.main([str(work.root), "demo", "60", "config"])

    assert work.status == 137
    assert len(runner.ran) == 1
    assert 60 + GRACE <= seconds[0] < 62 + GRACE


@pytest.mark.usefixtures("seconds", "runner")
def test_a_machine_that_shuts_down_interrupts_the_work(
    work: DetachedWork,
    running: FakeRunning,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    running.life = 10**6
    beginning = DetachedWork.note

    def note(self: DetachedWork, who: str, pid: int) -> None:
        beginning(self, who, pid)
        if who == "work":
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(DetachedWork, "note", note)

    supervisor.main([str(work.root), "demo", NEVER, "config"])

    assert (running.interrupts, work.status) == (1, 130)
    assert "demo is stopped: told to" in capsys.readouterr().err


def test_signals_of_a_terminal_are_for_the_work_and_are_not_ignored_by_it() -> None:
    """An ignored signal stays ignored in what is started; one with a handler does not."""
    told = supervisor.Told()

    told.listen()
    for number in (signal.SIGINT, signal.SIGHUP):
        os.kill(os.getpid(), number)

    assert not told.is_told
    assert signal.SIG_IGN not in {signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGHUP)}
