"""The processes of a farm here: started under a lock, watched, started again, stopped in order."""

import io
import signal
import sys
from collections.abc import Collection, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pipeline.effects.console import Console
from pipeline.effects.detached import DetachedWork
from pipeline.effects.process import Outputs, ProcessRunner
from pipeline.effects.retry import RetryableError
from pipeline.errors import FarmError, FarmStartError
from pipeline.farm import parts
from pipeline.farm.detached import Stopped
from pipeline.farm.local import LocalFarm
from pipeline.farm.parts import (
    LocalProcesses,
    Part,
    create_database,
    last_lines,
    master_part,
    missing_workers,
    wait_until_ready,
)
from tests.fakes import FakeProcess, recorded_console


class Process:
    """One that was started; the test ends it."""

    def __init__(self, pid: int) -> None:
        self.pid, self.has_ended = pid, False

    def wait(self) -> int:
        """Return its status."""
        return 7


class Starter(ProcessRunner):
    """Notes what is started."""

    def __init__(self) -> None:
        self.started: list[tuple[tuple[str, ...], Outputs]] = []
        self.made: list[Process] = []

    def start_apart(
        self, argv: Sequence[str], outputs: Outputs, *, keep: Collection[int] = (), leads: bool
    ) -> Any:
        """Start it."""
        assert leads
        assert len(keep) == 1
        self.started.append((tuple(argv), outputs))
        self.made.append(Process(100 + len(self.made)))
        return self.made[-1]


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Time that passes where somebody waits."""
    now = [0.0]

    def sleep(seconds: float) -> None:
        now[0] += seconds

    monkeypatch.setattr("time.sleep", sleep)
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    return now


@pytest.fixture
def farm(tmp_path: Path) -> LocalFarm:
    return LocalFarm(directory=tmp_path, www_port=8010, worker_port=9989)


@pytest.fixture
def starter() -> Starter:
    return Starter()


@pytest.fixture
def told() -> tuple[Console, io.StringIO]:
    return recorded_console()


@pytest.fixture
def processes(
    farm: LocalFarm, starter: Starter, told: tuple[Console, io.StringIO]
) -> LocalProcesses:
    return LocalProcesses(farm, starter, told[0])


def part(tmp_path: Path, name: str = "worker-1") -> Part:
    return Part(name=name, command=("twistd", name), log=tmp_path / f"{name}.log")


def workers_of(monkeypatch: pytest.MonkeyPatch, *answers: Any) -> None:
    """Let the master give these answers, the last one for ever."""
    left = list(answers)

    def farm_at(_url: str) -> Any:
        answer = left.pop(0) if len(left) > 1 else left[0]

        def workers() -> Any:
            if isinstance(answer, Exception):
                raise answer
            return [SimpleNamespace(name=name, connected=there) for name, there in answer.items()]

        return SimpleNamespace(workers=workers)

    monkeypatch.setattr(parts, "BuildbotFarm", farm_at)


def test_a_part_is_prepared_and_known_by_its_lock_and_pid(
    tmp_path: Path, processes: LocalProcesses, starter: Starter, now: list[float]
) -> None:
    done: list[str] = []
    made = Part(
        name="worker-1",
        command=("twistd",),
        log=tmp_path / "log",
        environment={"PYTHONPATH": "code"},
        prepare=lambda: done.append("prepared"),
    )

    processes.start(made)

    ((argv, outputs),) = starter.started
    assert (argv, done, now) == (("twistd",), ["prepared"], [0.0])
    assert outputs.stdout == outputs.stderr == tmp_path / "log"
    assert outputs.environment == {"PYTHONPATH": "code"}
    noted = tmp_path / "detached" / "worker-1"
    assert (noted / "session").read_text() == (noted / "work").read_text() == "100"


@pytest.mark.usefixtures("now")
def test_a_part_that_ends_before_the_farm_is_ready_is_an_error_with_its_last_lines(
    tmp_path: Path, processes: LocalProcesses, starter: Starter
) -> None:
    processes.start(part(tmp_path))
    processes.require_alive()
    (tmp_path / "worker-1.log").write_text("first\nport is taken\n")
    starter.made[0].has_ended = True

    with pytest.raises(FarmStartError, match=r"worker-1 does not start(.|\n)*port is taken"):
        processes.require_alive()


def test_a_part_that_ends_later_is_started_again_after_a_while(
    tmp_path: Path,
    processes: LocalProcesses,
    starter: Starter,
    told: tuple[Console, io.StringIO],
    now: list[float],
) -> None:
    processes.start(part(tmp_path))
    processes.look_after()
    starter.made[0].has_ended = True

    counts = []
    for moment in (10.0, 10.5, 11.0, 11.5):
        now[0] = moment
        processes.look_after()
        counts.append(len(starter.made))

    assert counts == [1, 1, 2, 2]
    text = told[1].getvalue()
    assert text.count("worker-1 ended with status 7; again in 1 s") == 1
    assert "worker-1 started again" in text


@pytest.mark.usefixtures("now")
def test_the_master_is_stopped_before_the_workers(
    tmp_path: Path,
    processes: LocalProcesses,
    told: tuple[Console, io.StringIO],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Else it would count each of their jobs as lost."""
    stopped: list[str] = []

    def stop(place: DetachedWork, **_options: object) -> Stopped:
        stopped.append(place.name)
        return Stopped.KILLED if place.name == "worker-1" else Stopped.INTERRUPTED

    monkeypatch.setattr(parts, "stop", stop)
    for name in ("master", "signer", "worker-1"):
        processes.start(part(tmp_path, name))

    processes.stop_all()

    assert stopped == ["master", "signer", "worker-1"]
    assert "stop worker-1: killed" in told[1].getvalue()


def test_what_a_killed_farm_left_is_stopped_first(
    farm: LocalFarm,
    processes: LocalProcesses,
    told: tuple[Console, io.StringIO],
    monkeypatch: pytest.MonkeyPatch,
    now: list[float],
) -> None:
    left = DetachedWork(farm.directory, "master")
    with left.deciding():
        left.note("work", 4711)
    held = left.alive("work")
    held.__enter__()
    signals: list[tuple[int, int]] = []

    def kill(pid: int, number: int) -> None:
        signals.append((pid, number))
        held.__exit__(None, None, None)

    monkeypatch.setattr("os.kill", kill)

    processes.stop_left(["master", "signer"])

    assert signals == [(4711, signal.SIGINT)]
    assert "master of a farm that was killed: interrupted" in told[1].getvalue()
    assert "signer" not in told[1].getvalue()
    assert now[0] < 1


def test_the_database_is_made_by_buildbot(farm: LocalFarm) -> None:
    process = FakeProcess()
    beside = str(Path(sys.executable).parent / "buildbot")
    process.expect(beside, "upgrade-master", str(farm.master))

    create_database(farm, process, {"PYTHONPATH": "code"})

    assert process.calls[0].environment == {"PYTHONPATH": "code"}


def test_the_master_runs_its_own_file(farm: LocalFarm) -> None:
    made = master_part(farm, {})

    assert made.name == "master"
    assert made.command[-1] == f"--python={farm.master / 'buildbot.tac'}"


def test_a_farm_is_ready_when_all_its_workers_are_there(
    monkeypatch: pytest.MonkeyPatch, processes: LocalProcesses, now: list[float]
) -> None:
    some, all_of_them = {"a": True, "b": False}, {"a": True, "b": True, "c": False}
    workers_of(monkeypatch, RetryableError("refused"), FarmError("503"), some, all_of_them)

    wait_until_ready("http://farm", ("a", "b"), processes)

    assert now[0] == pytest.approx(3 * parts.INTERVAL)


@pytest.mark.usefixtures("now")
@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (FarmError("503"), "after 5 s the master does not answer"),
        ({"a": True, "b": False}, "after 5 s b did not dial in"),
    ],
)
def test_a_farm_that_is_not_ready_in_time_is_an_error(
    monkeypatch: pytest.MonkeyPatch, processes: LocalProcesses, answer: Any, expected: str
) -> None:
    workers_of(monkeypatch, answer)

    with pytest.raises(FarmStartError, match=expected):
        wait_until_ready("http://farm", ("a", "b"), processes, seconds=5)


def test_a_master_without_workers_is_ready_when_it_answers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    workers_of(monkeypatch, {})

    assert missing_workers("http://farm", ()) == ()


def test_a_log_that_is_not_there_is_no_error(tmp_path: Path) -> None:
    assert "No such file" in last_lines(tmp_path / "log")
