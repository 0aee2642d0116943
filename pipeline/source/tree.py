"""Directories of source files: what of them counts, and their digest."""

import hashlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

from pipeline.effects.archives import Entry, entries_of
from pipeline.effects.files import sha256_of
from pipeline.effects.git import Checkout
from pipeline.errors import SourceError
from pipeline.model.base import canonical_json

SHOWN: Final = 100
IGNORED: Final = frozenset(
    {"__pycache__", ".pytest_cache", ".mypy_cache", ".hypothesis", ".git", ".hg"}
)


def kept_entries(directory: Path, prefix: str) -> Iterator[Entry]:
    """Yield a directory's entries without what programs leave behind in it."""
    for entry in entries_of(directory, prefix):
        if not entry.path.endswith(".pyc") and IGNORED.isdisjoint(entry.path.split("/")):
            yield entry


def checkout_entries(checkout: Checkout, prefix: str) -> Iterator[Entry]:
    """Yield the entries of a work tree's files that git tracks or would add."""
    tracked = {f"{prefix}/{name}" for name in checkout.files()}
    return (entry for entry in entries_of(checkout.directory, prefix) if entry.path in tracked)


def tree_digest(directory: Path, entries: Iterable[Entry] | None = None) -> str:
    """Return the digest of a directory's *entries*: names, contents, links and executable bits.

    Raises:
        SourceError: there are none, or a name cannot be told.
    """
    described = [
        [entry.path, entry.link, entry.executable, _content_digest(entry)]
        for entry in (kept_entries(directory, ".") if entries is None else entries)
    ]
    if not described:
        msg = (
            f"{directory}: no source files. Check source.path in the config, and that "
            "the checkout is whole."
        )
        raise SourceError(msg)
    try:
        return hashlib.sha256(canonical_json(described)).hexdigest()
    except UnicodeEncodeError as error:
        name = error.object[max(error.start - SHOWN, 0) : error.end + SHOWN]
        msg = f"{directory}: a file's name is not UTF-8: ...{name!r}... Rename the file."
        raise SourceError(msg) from error


def check_unchanged(directory: Path, digest: str, actual: str) -> None:
    """Raise SourceError if a directory changed between two looks at it."""
    if actual != digest:
        msg = f"{directory}: changed while it was packed. Run again."
        raise SourceError(msg)


def _content_digest(entry: Entry) -> str | None:
    return sha256_of(entry.content) if isinstance(entry.content, Path) else None
