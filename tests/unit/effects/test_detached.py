"""The files and locks of work that outlives its caller."""

import os
import signal
from pathlib import Path

import pytest

from pipeline.effects import detached
from pipeline.effects.detached import DetachedWork, are_read


@pytest.fixture
def work(tmp_path: Path) -> DetachedWork:
    work = DetachedWork(tmp_path, "demo")
    with work.deciding():
        work.begin()
    return work


@pytest.fixture
def signals(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """Note signals instead of sending them; 666 has just ended."""
    sent: list[tuple[int, int]] = []

    def kill(pid: int, number: int) -> None:
        if pid == 666:
            raise ProcessLookupError
        sent.append((pid, number))

    monkeypatch.setattr("os.kill", kill)
    return sent


def test_work_that_never_was_is_not_alive(tmp_path: Path) -> None:
    work = DetachedWork(tmp_path, "demo")

    assert (work.is_supervised, work.is_running, work.status) == (False, False, None)


def test_who_holds_a_lock_is_alive_and_nobody_else(work: DetachedWork) -> None:
    with work.alive("supervisor"):
        during = (work.is_supervised, work.is_running)

    assert during == (True, False)
    assert not work.is_supervised


def test_who_inherits_the_lock_is_alive_after_its_giver_has_let_go(work: DetachedWork) -> None:
    with work.alive("work") as descriptor:
        inherited = os.dup(descriptor)

    assert work.is_running
    os.close(inherited)
    assert not work.is_running


def test_several_can_follow_and_the_last_to_leave_ends_it(work: DetachedWork) -> None:
    with work.followed():
        with work.followed():
            both = work.is_followed
        one = work.is_followed

    assert (both, one, work.is_followed) == (True, True, False)


def test_an_end_is_recorded_without_writing_a_byte(work: DetachedWork) -> None:
    work.end(130)

    (found,) = work.directory.glob("exit-*")
    assert work.status == 130
    assert found.stat().st_size == 0
    assert not (work.directory / "pending").exists()


def test_an_end_is_recorded_once(work: DetachedWork) -> None:
    work.end(0)

    with pytest.raises(FileNotFoundError):
        work.end(1)

    assert work.status == 0


def test_a_new_beginning_forgets_the_end_and_what_was_written(work: DetachedWork) -> None:
    work.stdout.write_bytes(b"old")
    work.note("session", 1)
    work.end(1)

    work.begin()

    assert work.status is None
    assert work.stdout.read_bytes() == b""
    assert not (work.directory / "session").exists()


def test_the_work_is_interrupted_while_it_lives(
    work: DetachedWork, signals: list[tuple[int, int]]
) -> None:
    work.note("work", 42)

    with work.alive("work"):
        while_it_lives = work.interrupt()
    afterwards = work.interrupt()

    assert (while_it_lives, afterwards) == (True, False)
    assert signals == [(42, signal.SIGINT)]


@pytest.mark.parametrize(
    ("noted", "expected"),
    [pytest.param("666", True, id="just-ended"), pytest.param("", False, id="half-written")],
)
def test_work_that_cannot_be_interrupted_is_no_error(
    work: DetachedWork, signals: list[tuple[int, int]], noted: str, *, expected: bool
) -> None:
    (work.directory / "work").write_text(noted)

    with work.alive("work"):
        assert work.interrupt() is expected

    assert signals == []


@pytest.mark.parametrize(
    ("supervisor", "expected"),
    [pytest.param(False, [43, 44], id="work"), pytest.param(True, [42, 43, 44], id="all")],
)
def test_the_session_is_killed_with_its_leader_only_if_asked(
    work: DetachedWork,
    signals: list[tuple[int, int]],
    monkeypatch: pytest.MonkeyPatch,
    *,
    supervisor: bool,
    expected: list[int],
) -> None:
    members = {42: (42, 43, 44, 666, os.getpid())}
    monkeypatch.setattr(detached, "session_members", members.__getitem__)
    work.note("session", 42)

    with work.alive("work"):
        work.kill(supervisor=supervisor)

    assert signals == [(pid, signal.SIGKILL) for pid in expected]


def test_the_number_of_a_session_that_is_gone_is_not_trusted(
    work: DetachedWork, signals: list[tuple[int, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(detached, "session_members", lambda _session: (42, 43))
    work.note("session", 42)

    work.kill(supervisor=True)

    assert signals == []


def test_a_pipe_is_read_until_its_reader_is_gone() -> None:
    reader, writer = os.pipe()

    before = are_read([writer])
    os.close(reader)
    after = are_read([writer])
    os.close(writer)

    assert (before, after) == (True, False)


def test_a_file_always_counts_as_read(tmp_path: Path) -> None:
    with (tmp_path / "out").open("wb") as stream:
        assert are_read([stream.fileno()])
