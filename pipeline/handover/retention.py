"""Forgets what a farm no longer needs: old outputs of the signer, and what was handed over."""

import shutil
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

from pipeline.effects.files import WorkDirectory
from pipeline.effects.store import LocalStore, Store
from pipeline.handover.places import TRUSTED, WORKERS

STAGES: Final = "stages/*/*"
HANDED_OVER: Final = (f"{WORKERS}/*/*/*.tar", f"{TRUSTED}/source/*.tar", f"{TRUSTED}/runs/*.json")
"""What is handed over for a run or two. Environments stay: all machines use the same."""


def forget_old(work: WorkDirectory, store: Store, now: datetime, days: int) -> list[Path]:
    """Remove what is older than *days*; return what was.

    What is removed can be made again: a job whose translation is gone is given to a worker. What
    a run names stays as long as that run, which may be under way. In a bucket its lifecycle does
    it, since nobody here may take anything away there.
    """
    limit = (now - timedelta(days=days)).timestamp()
    found = [path for path in _kept(work, store) if path.stat().st_mtime < limit]
    named = _named(store, {path.name for path in found})
    old = [path for path in found if path.name.partition(".")[0] not in named]
    for path in old:
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    return old


def _named(store: Store, old: set[str]) -> str:
    """Return the documents of all runs that stay, in which the keys of their outputs are."""
    texts = []
    for key in store.sizes(f"{TRUSTED}/runs"):
        read = store.read(key) if key.rpartition("/")[2] not in old else None
        texts.append("" if read is None else read.data.decode(errors="replace"))
    return "\n".join(texts)


def _kept(work: WorkDirectory, store: Store) -> Iterator[Path]:
    yield from work.root.glob(STAGES)
    if isinstance(store, LocalStore):
        for pattern in HANDED_OVER:
            yield from store.root.glob(pattern)
