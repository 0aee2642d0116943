"""Locks on open files."""

from pathlib import Path

import pytest
from portalocker.exceptions import LockException

from pipeline.effects.locks import lock, try_lock


@pytest.fixture
def path(tmp_path: Path) -> Path:
    made = tmp_path / "lock"
    made.touch()
    return made


def test_what_is_held_alone_is_nobody_elses(path: Path) -> None:
    with path.open("a") as first, path.open("a") as second:
        lock(first)

        assert not try_lock(second)
        assert not try_lock(second, shared=True)


def test_what_is_held_by_several_is_nobodys_alone(path: Path) -> None:
    with path.open("a") as first, path.open("a") as second, path.open("a") as third:
        lock(first, shared=True)

        assert try_lock(second, shared=True)
        assert not try_lock(third)


def test_a_closed_file_is_free_again(path: Path) -> None:
    with path.open("a") as first:
        assert try_lock(first)
    with path.open("a") as second:
        assert try_lock(second)


def test_a_file_that_cannot_be_locked_is_not_taken_for_held(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_args: object) -> None:
        raise LockException from OSError(37, "No locks available")

    monkeypatch.setattr("pipeline.effects.locks.portalocker.lock", broken)

    with path.open("a") as stream, pytest.raises(OSError, match="No locks available"):
        try_lock(stream)
