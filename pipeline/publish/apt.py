"""Writes the apt repository of a store, so that whoever reads it meanwhile has a whole one.

What clients follow is a suite's ``InRelease``, one object that is replaced by compare-and-swap.
Every list that it names is put under its digest first, and under its plain name. Lists that are
named no more stay for a time of grace. They are removed only after an ``InRelease`` was written
that has forgotten them, by who wrote it. Whoever is killed leaves a repository that works, and at
most lists too many, which the next one finds.

Two meet only if one takes back into use (by ``unyank``) what the other is removing right then.
So each looks again afterwards: who removes, whether the ``InRelease`` is still its own; who writes,
whether all of its lists are there.
"""

from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from pipeline.distribute.apt import (
    BY_HASH,
    IN_RELEASE,
    ReleaseText,
    SuiteIndex,
    is_due,
    next_times,
    parse_release,
    superseded,
)
from pipeline.effects.store import Store, Tagged
from pipeline.errors import ConflictError, SignatureError, SigningKeyError
from pipeline.model import naming
from pipeline.model.debian import AptConfig
from pipeline.publish.indexes import each_index, is_there, write
from pipeline.publish.projections.apt import AptRepository, suite_key
from pipeline.publish.projections.documents import TEXT_TYPE
from pipeline.publish.view import Document, Projection
from pipeline.sign.notary import Notary

Sizes = Mapping[str, int]
"""Sizes in bytes by store key."""


@dataclass(frozen=True, kw_only=True)
class AptSite:
    """A store that has, or is to have, the *repository*; who signs it; and what time it is."""

    store: Store
    repository: AptRepository
    config: AptConfig
    notary: Notary
    now: datetime


def write_apt(site: AptSite) -> Iterator[str]:
    """Make the repository as it should be; yield the keys that were not.

    Raises:
        ConflictError: another writes it right now.
        UncertainError: an answer was lost.
    """
    there = site.store.sizes(naming.DISTS_PREFIX)
    yield from _put_lists(site, there)
    documents = each_index(site.store, site.repository.documents, write)
    yield from (key for key, is_new in documents if is_new)
    written = [name for name in site.repository.suites if _write_release(site, name, there)]
    yield from (suite_key(name, IN_RELEASE) for name in written)
    for key in _superfluous(site, there):
        site.store.remove(key)
        yield key
    if written:
        yield from _put_lists(site, site.store.sizes(naming.DISTS_PREFIX))


def stale_apt(site: AptSite) -> Iterator[str]:
    """Yield the keys that are not as they should be; writes nothing.

    Lists whose time of grace is over are none: they go when the suite is written the next time.
    """
    there = site.store.sizes(naming.DISTS_PREFIX)
    yield from _missing(site, there)
    documents = each_index(site.store, site.repository.documents, is_there)
    yield from (key for key, is_right in documents if not is_right)
    for name, suite in site.repository.suites.items():
        key = suite_key(name, IN_RELEASE)
        present = _believed(site.notary, site.store.read(key))
        if is_due(present, suite.body, site.now, site.config.valid_days):
            yield key
    yield from _superfluous(site, there)


def left_apt(store: Store, notary: Notary) -> Iterator[str]:
    """Yield the keys of a repository that the channel has no more, in the order to remove them.

    It is the channel's if trusted keys signed every ``InRelease``; or, where somebody was killed
    after these were removed, if the keys for users are the trusted ones. Another's is left alone.
    """
    key_file = f"{naming.APT_PREFIX}/{naming.PUBLIC_KEY_NAME}"
    present = store.read(key_file)
    if present is None:
        return
    lists = sorted(store.sizes(naming.DISTS_PREFIX))
    releases = [key for key in lists if key.rpartition("/")[2] == IN_RELEASE]
    is_ours = (
        all(_believed(notary, store.read(key)) for key in releases)
        if releases
        else present.data == known_keys(notary)
    )
    if is_ours:
        files = sorted(store.sizes(naming.APT_PREFIX), key=lambda key: (key == key_file, key))
        yield from dict.fromkeys((*releases, *lists, *files))


def known_keys(notary: Notary) -> bytes | None:
    """Return the trusted keys, None where not all are here: to look takes none of them."""
    try:
        return notary.public_keys()
    except SigningKeyError:
        return None


def _put_lists(site: AptSite, there: Sizes) -> Iterator[str]:
    """Put the lists under their digests that are not there; yield their keys."""
    missing = _missing(site, there)

    def put(store: Store, key: str, projection: Projection) -> bool:
        if key in there or not isinstance(projection, Document):
            return write(store, key, projection)  # it has another size
        with suppress(ConflictError):  # another put it: its name says that it is the same
            data, content_type = projection.data, projection.content_type
            store.replace(key, data, tag=None, content_type=content_type)
        return True

    yield from (key for key, _ in each_index(site.store, missing, put))


def _missing(site: AptSite, there: Sizes) -> dict[str, Document]:
    wanted = site.repository.by_hash
    return {key: item for key, item in wanted.items() if there.get(key) != len(item.data)}


def _write_release(site: AptSite, name: str, there: Sizes) -> bool:
    """Replace a suite's ``InRelease`` if it has to be; return whether it was.

    Raises:
        ConflictError: another replaced it meanwhile.
    """
    suite, key = site.repository.suites[name], suite_key(name, IN_RELEASE)
    present = site.store.read(key)
    known = _believed(site.notary, present)
    if not is_due(known, suite.body, site.now, site.config.valid_days):
        return False
    text, expired = _next_release(site, suite, known, there)
    data = site.notary.clearsigned(text.encode())
    tag = None if present is None else present.tag
    site.store.replace(key, data, tag=tag, content_type=TEXT_TYPE)
    if expired:
        _remove(site.store, [suite_key(name, path) for path in sorted(expired)], key, data)
    return True


def _next_release(
    site: AptSite, suite: SuiteIndex, known: ReleaseText | None, there: Sizes
) -> tuple[str, frozenset[str]]:
    """Return what the next ``InRelease`` says, and which lists it forgets. Pure."""
    begin = suite_key(suite.suite, "")
    paths = {key.removeprefix(begin) for key in there if key.startswith(begin)}
    old = superseded(
        known,
        suite.by_hash,
        {path for path in paths if _is_by_hash(path)},
        site.now,
        timedelta(hours=site.config.grace_hours),
    )
    times = next_times(known, site.now, site.config.valid_days, old.kept)
    return ReleaseText(body=suite.body, times=times).text, old.expired


def _remove(store: Store, keys: list[str], release: str, data: bytes) -> None:
    """Remove lists that the ``InRelease`` with these bytes does not name, while it is there.

    Raises:
        ConflictError: another replaced it, and may have meant to use them again.
    """
    _require_own(store, release, data)
    for key in keys:
        store.remove(key)
    _require_own(store, release, data)


def _require_own(store: Store, key: str, data: bytes) -> None:
    present = store.read(key)
    if present is None or present.data != data:
        msg = f"{store.address}: {key}: changed by another while old lists were removed. Run again."
        raise ConflictError(msg)


def _believed(notary: Notary, present: Tagged | None) -> ReleaseText | None:
    """Return what an ``InRelease`` says; None if it is not one that a trusted key signed."""
    if present is None:
        return None
    try:
        return parse_release(notary.signed_text(present.data).decode())
    except (SignatureError, ValueError):
        return None


def _superfluous(site: AptSite, there: Sizes) -> Iterator[str]:
    """Yield the keys of what does not belong to the repository, as a suite that is gone.

    The ``InRelease`` of such a one is the first of its keys. Lists under digests are none, where
    there is an ``InRelease`` that says how long they stay.
    """
    repository = site.repository
    wanted = {
        *repository.documents,
        *(suite_key(name, IN_RELEASE) for name in repository.suites),
    }
    kept = tuple(suite_key(name, "") for name in repository.suites)
    for key in sorted(there):
        if key not in wanted and not (_is_by_hash(key) and key.startswith(kept)):
            yield key
    if repository.sources:
        listed: Final = site.store.sizes(naming.APT_PREFIX)
        yield from (key for key in sorted(listed) if key not in wanted)


def _is_by_hash(path: str) -> bool:
    return path.rpartition("/")[0].endswith(BY_HASH)
