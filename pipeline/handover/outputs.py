"""Hands a stage's output over, and takes it over again where its bytes are what was said."""

import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pipeline.effects.archives import entries_of, unpack, write_archive
from pipeline.effects.files import WorkDirectory, new_directory, sha256_of
from pipeline.effects.store import LARGEST_FILE, Store, Stored
from pipeline.errors import (
    DigestMismatchError,
    PipelineError,
    StoreError,
    UnsafeArchiveError,
)
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


@dataclass(frozen=True, kw_only=True)
class Output:
    """A finished stage's *directory*, under which key, and what it ran in."""

    stage: str
    key: str
    directory: Path
    environments: tuple[Environment, ...] = ()


def give_stage(store: Store, owner: str, output: Output, check: Check | None = None) -> StageClaim:
    """Put a finished stage's output into the store, unless *owner* has done so before.

    Returns:
        What is in the store, which is an earlier attempt's output if that was there.

    Raises:
        PipelineError: what was there is no output, by *check*; it is named, to be removed.
    """
    stage, key, environments = output.stage, output.key, output.environments
    place = stage_place(owner, stage, key)
    with tempfile.TemporaryDirectory(prefix="rpp-") as temporary:
        tar = Path(temporary, "output.tar")
        write_archive(tar, entries_of(output.directory, TOP), epoch=EPOCH)
        digest, size = sha256_of(tar), tar.stat().st_size
        if not store.put_new(place, tar, content_type=TAR, sha256=digest):
            present = _present(store, stage, key, place, environments)
            if check is not None and present.sha256 != digest:
                _require_good(store, present, check)
            return present
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
    with _checked(store, claim, check) as top, new_directory(final) as directory:
        _move(top, directory)
    return True


@contextmanager
def _checked(store: Store, claim: StageClaim, check: Check) -> Iterator[Path]:
    """Give the directory of what is claimed, when it has been found to be that."""
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
        yield top


def is_good(store: Store, claim: StageClaim, check: Check, on_bad: Callable[[str], object]) -> bool:
    """Whether what is claimed is an output of its stage; *on_bad* is told why it is not."""
    try:
        with _checked(store, claim, check):
            return True
    except PipelineError as error:
        on_bad(f"{claim.place}: not used: {error}")
        return False


def _require_good(store: Store, claim: StageClaim, check: Check) -> None:
    """Refuse to name what is in the store if it is no output of the stage."""
    try:
        with _checked(store, claim, check):
            pass
    except PipelineError as error:
        msg = (
            f"{claim.place}: is in {store.address} already, and is no output of {claim.stage}: "
            f"{error} Remove it from the store, and run again."
        )
        raise StoreError(msg) from error


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
