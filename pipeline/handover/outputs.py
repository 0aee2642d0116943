"""Hands a stage's output over, and takes it over again where its bytes are what was said."""

import shutil
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final

from pipeline.effects.archives import entries_of, unpack, write_archive
from pipeline.effects.files import WorkDirectory, new_directory, sha256_of
from pipeline.effects.store import LARGEST_FILE, Store, Stored
from pipeline.errors import DigestMismatchError, StoreError, UnsafeArchiveError
from pipeline.handover.places import stage_place
from pipeline.model.farm import StageClaim
from pipeline.model.records import Environment

TOP: Final = "output"
# One time for all members, so that the same output is the same file.
EPOCH: Final = 315532800
TAR: Final = "application/x-tar"
REMEDY: Final = (
    "It was changed after it was handed over, or the worker said what is not so: look at that "
    "worker before it is given work again."
)

Check = Callable[[Path], None]
"""Raises a PipelineError if the stage output in a directory is not what its record says."""


def give_stage(
    store: Store,
    owner: str,
    stage: str,
    key: str,
    directory: Path,
    environments: tuple[Environment, ...] = (),
) -> StageClaim:
    """Put a finished stage's *directory* into the store, unless *owner* has done so before.

    Returns:
        What is in the store, which is an earlier attempt's output if that was there.
    """
    place = stage_place(owner, stage, key)
    with tempfile.TemporaryDirectory(prefix="rpp-") as temporary:
        tar = Path(temporary, "output.tar")
        write_archive(tar, entries_of(directory, TOP), epoch=EPOCH)
        digest, size = sha256_of(tar), tar.stat().st_size
        if not store.put_new(place, tar, content_type=TAR, sha256=digest):
            return _present(store, stage, key, place, environments)
    return _claim(stage, key, place, Stored(size=size, sha256=digest), environments)


def find_stage(
    store: Store,
    owners: Iterable[str],
    stage: str,
    key: str,
    environments: tuple[Environment, ...] = (),
) -> StageClaim | None:
    """Return what the first of *owners* who has handed over this output has; all of it is read."""
    for owner in owners:
        place = stage_place(owner, stage, key)
        if (stored := store.stored(place)) is not None:
            return _claim(stage, key, place, stored, environments)
    return None


def take_stage(store: Store, claim: StageClaim, work: WorkDirectory, check: Check) -> bool:
    """Make what is claimed a finished stage of *work*; return whether it was none before.

    Raises:
        DigestMismatchError: the store's bytes are not those of the claim.
        StoreError: there are none.
        PipelineError: what is in them is not what its own record says.
    """
    final = work.stage_directory(claim.stage, claim.key)
    if final.is_dir():
        return False
    with tempfile.TemporaryDirectory(prefix="rpp-") as temporary:
        tar, unpacked = Path(temporary, "output.tar"), Path(temporary, "unpacked")
        _fetch(store, claim, tar)
        unpack(tar, unpacked)
        tar.unlink()
        top = unpacked / TOP
        if [path.name for path in unpacked.iterdir()] != [TOP] or not top.is_dir():
            msg = f"{claim.place}: does not hold one directory {TOP}/. {REMEDY}"
            raise UnsafeArchiveError(msg)
        check(top)
        with new_directory(final) as directory:
            _move(top, directory)
    return True


def _fetch(store: Store, claim: StageClaim, tar: Path) -> None:
    found = store.download(claim.place, tar, largest=min(claim.size, LARGEST_FILE))
    if found is None:
        msg = f"{claim.place}: is not in {store.address}, but is claimed. {REMEDY}"
        raise StoreError(msg)
    if found.sha256 != claim.sha256:
        raise DigestMismatchError(
            claim.place, expected=claim.sha256, actual=found.sha256, remedy=REMEDY
        )


def _move(source: Path, directory: Path) -> None:
    """Move what is in *source* into *directory*, which may be on another file system."""
    for path in source.iterdir():
        shutil.move(path, directory / path.name)


def _present(
    store: Store, stage: str, key: str, place: str, environments: tuple[Environment, ...]
) -> StageClaim:
    stored = store.stored(place)
    if stored is None:
        msg = f"{place}: was in {store.address} a moment ago, and is gone. Run again."
        raise StoreError(msg)
    return _claim(stage, key, place, stored, environments)


def _claim(
    stage: str, key: str, place: str, stored: Stored, environments: tuple[Environment, ...]
) -> StageClaim:
    return StageClaim(
        stage=stage,
        key=key,
        place=place,
        sha256=stored.sha256,
        size=stored.size,
        environments=environments,
    )
