"""Reads which packages releases have: from their own files, whose digests the ledger has."""

import hashlib
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

from pydantic import ValidationError

from pipeline.effects.files import write_atomically
from pipeline.effects.store import Store
from pipeline.errors import FetchBackError, LedgerError
from pipeline.model import naming
from pipeline.model.artifacts import Artifact
from pipeline.model.debian import DebianIndex
from pipeline.model.ledger import Published, Release
from pipeline.publish.indexes import PARALLEL
from pipeline.publish.projections.apt import index_artifact


def debian_indexes(
    stores: Sequence[Store], cache: Path, releases: Iterable[Release]
) -> dict[str, DebianIndex]:
    """Return the lists of the packages of *releases*, by the digests of their files.

    Those that are not in the directory *cache* are read from the first of the *stores* that has
    them, and kept there.

    Raises:
        FetchBackError: no store has one as the ledger says it is.
        LedgerError: one is no list of packages, or of other files than its release has.
    """
    pairs = [(event, item) for event in _events(releases) if (item := index_artifact(event))]
    with ThreadPoolExecutor(PARALLEL) as pool:
        found = pool.map(lambda pair: _index(stores, cache, *pair), pairs)
        return {item.sha256: index for (_, item), index in zip(pairs, found, strict=True)}


def _events(releases: Iterable[Release]) -> Iterable[Published]:
    return (item.published for item in releases)


def _index(
    stores: Sequence[Store], cache: Path, event: Published, artifact: Artifact
) -> DebianIndex:
    key = naming.store_key(event.product, event.release, artifact.filename)
    kept = cache / f"{artifact.sha256}.json"
    data = _cached(kept)
    if _digest(data) != artifact.sha256:
        data = _fetched(stores, key, artifact.sha256)
        with suppress(OSError):  # where nothing can be kept, it is read again the next time
            write_atomically(kept, data)
    try:
        index = DebianIndex.model_validate_json(data)
    except ValidationError as error:
        msg = (
            f"{key}: no list of packages that this version can read ({error.error_count()} errors, "
            f"first: {error.errors()[0]['msg']}). Yank the release, or use a newer version."
        )
        raise LedgerError(msg) from error
    _require_own(key, event, index)
    return index


def _cached(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""


def _fetched(stores: Sequence[Store], key: str, sha256: str) -> bytes:
    for store in stores:
        present = store.read(key)
        if present is not None and _digest(present.data) == sha256:
            return present.data
    msg = (
        f"{', '.join(store.address for store in stores)}: {key}: by the ledger it has sha256 "
        f"{sha256}, but it is not there, or other bytes are. So apt's lists stayed as they are. "
        "Restore it, or yank the release."
    )
    raise FetchBackError(msg)


def _require_own(key: str, event: Published, index: DebianIndex) -> None:
    """Refuse a list that would lead clients to files which the release has not."""
    files = {(item.filename, item.size, item.sha256) for item in event.files}
    for package in index.packages:
        if (package.filename, package.size, package.sha256) not in files:
            msg = (
                f"{key}: {package.filename} with sha256 {package.sha256} is no file of "
                f"{event.release} by the ledger. Yank the release."
            )
            raise LedgerError(msg)


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
