"""What a signer forgets."""

import os
from datetime import timedelta
from pathlib import Path

import pytest

from pipeline.effects.files import WorkDirectory
from pipeline.effects.store import LocalStore
from pipeline.handover.retention import forget_old
from tests.fakes import NOW

FILES = (
    "workers/one/translate/aaaa.tar",
    "trusted/source/bbbb.tar",
    "trusted/runs/r1.json",
    "trusted/environments/c.json",
    "trusted/images/d.tar.zst",
    "trusted/bootstraps/e.tar.zst",
)


@pytest.fixture
def work(tmp_path: Path) -> WorkDirectory:
    return WorkDirectory(tmp_path / "work")


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    store = LocalStore(tmp_path / "store")
    for name in FILES:
        aged(store.root / name, days=15)
    return store


def aged(path: Path, *, days: int) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("something")
    moment = (NOW - timedelta(days=days)).timestamp()
    os.utime(path, (moment, moment))
    return path


def output(work: WorkDirectory, key: str, *, days: int) -> Path:
    directory = work.stage_directory("translate", key)
    aged(directory / "record.json", days=days)
    moment = (NOW - timedelta(days=days)).timestamp()
    os.utime(directory, (moment, moment))
    return directory


def test_old_outputs_are_forgotten_and_new_ones_stay(
    work: WorkDirectory, store: LocalStore
) -> None:
    old, new = output(work, "old", days=15), output(work, "new", days=13)

    forgotten = forget_old(work, store, NOW, days=14)

    assert old in forgotten
    assert not old.exists()
    assert new.is_dir()


def test_of_what_was_handed_over_what_all_runs_share_stays(
    work: WorkDirectory, store: LocalStore
) -> None:
    forget_old(work, store, NOW, days=14)

    left = {path.relative_to(store.root).as_posix() for path in store.root.rglob("*.*")}
    assert left == set(FILES[3:])


def test_nothing_is_forgotten_before_its_time(work: WorkDirectory, store: LocalStore) -> None:
    assert forget_old(work, store, NOW, days=16) == []


def test_what_a_run_that_stays_names_is_not_forgotten(
    work: WorkDirectory, store: LocalStore
) -> None:
    """A run may reuse, today, what was made a month ago."""
    output(work, "old", days=30)
    kept = output(work, "reused", days=30)
    run = aged(store.root / "trusted" / "runs" / "r2.json", days=0)
    run.write_text('{"key": "reused", "source": "trusted/source/bbbb.tar"}')

    forgotten = forget_old(work, store, NOW, days=14)

    assert kept.is_dir()
    assert store.root / "trusted" / "source" / "bbbb.tar" not in forgotten
    assert {path.name for path in forgotten} == {"old", "aaaa.tar", "r1.json"}
