"""Compares what stores hold with what the ledger says: files, leftovers, sealed events.

Every product's keys are listed once per site and compared by size; nothing is downloaded but the
sealed events, which are replayed from the first one on.
"""

import hashlib
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from pipeline.errors import ConflictError, LedgerError
from pipeline.model import naming
from pipeline.model.artifacts import CONTENT_TYPES
from pipeline.model.configs import Config
from pipeline.model.ledger import Ledger, Release, State, replay, slim
from pipeline.publish.ledger import JSON_TYPE, Read, all_events, read_ledger
from pipeline.publish.project import wanted_indexes
from pipeline.publish.sites import OpenChannel, Site

ATTEMPTS: Final = 5


class Fault(StrEnum):
    """What is wrong with a key."""

    MISSING = "missing"
    OTHER_SIZE = "has another size"
    DAMAGED = "is not what was sealed"
    LEFT_BEHIND = "left behind by a pruned nightly"
    UNKNOWN = "of no event: an interrupted publication, or not ours"

    @property
    def is_wrong(self) -> bool:
        """Whether something has to be done; what no event knows may be under way."""
        return self is not Fault.UNKNOWN


@dataclass(frozen=True, kw_only=True)
class Expected:
    """A file that must be in every store; of sealed events the size is not known."""

    size: int | None
    sha256: str
    content_type: str


@dataclass(frozen=True, kw_only=True)
class Finding:
    """A key of a site with a fault, and what should be there, if anything."""

    site: Site
    fault: Fault
    key: str
    expected: Expected | None = None


@dataclass(frozen=True, kw_only=True)
class Audit:
    """What was found, and the state that it was compared with: every release with its files."""

    state: State
    findings: tuple[Finding, ...]

    @property
    def wrong(self) -> tuple[Finding, ...]:
        """What has to be done something about."""
        return tuple(found for found in self.findings if found.fault.is_wrong)


def audit(config: Config, channel: OpenChannel) -> Audit:
    """Compare every site with the ledger; changes nothing.

    It is done again when the ledger changed meanwhile.

    Raises:
        LedgerError: the sealed events add up to something else than the ledger's checkpoint.
        ConflictError: others kept writing; run again.
    """
    for _ in range(ATTEMPTS):
        read = read_ledger(channel.store, channel.notary)
        done = _audited(config, channel, read)
        if read_ledger(channel.store, channel.notary).tag == read.tag:
            return done
    msg = f"{channel.store.address}: the ledger changed all the time. Run: reconcile again"
    raise ConflictError(msg)


def expected_files(state: State, product: str) -> dict[str, Expected]:
    """Return what a store must hold of a product's releases, by key. Pure."""
    return {
        naming.store_key(product, item.name, artifact.filename): Expected(
            size=artifact.size,
            sha256=artifact.sha256,
            content_type=CONTENT_TYPES[artifact.kind],
        )
        for item in state.releases
        if item.published.product == product and item.pruned is None
        for artifact in item.published.files
    }


def listing_faults(
    state: State, product: str, listed: Mapping[str, int], indexes: Collection[str]
) -> Iterator[tuple[str, Fault]]:
    """Yield each key with a fault in a store's list of a product's keys and sizes. Pure.

    Directories of *indexes* are compared elsewhere.
    """
    expected = expected_files(state, product)
    for key, file in expected.items():
        if key not in listed:
            yield key, Fault.MISSING
        elif listed[key] != file.size:
            yield key, Fault.OTHER_SIZE
    for key in sorted(listed.keys() - expected.keys() - set(indexes)):
        directory = key.split("/")[1]
        if directory not in naming.INDEX_DIRECTORIES:
            release = state.find(product, directory)
            is_pruned = release is not None and release.pruned is not None
            yield key, Fault.LEFT_BEHIND if is_pruned else Fault.UNKNOWN


def agrees(whole: State, kept: State) -> bool:
    """Whether *kept* is what is kept of *whole*: all of it, but for old nightlies' files. Pure."""
    if (whole.sequence, len(whole.releases)) != (kept.sequence, len(kept.releases)):
        return False
    return all(map(_agree, whole.releases, kept.releases))


def _agree(whole: Release, kept: Release) -> bool:
    is_nightly = whole.published.channel == "nightly"
    return kept == whole or (is_nightly and kept == slim(whole))


def sealed_files(ledger: Ledger) -> dict[str, Expected]:
    """Return the files that the ledger names by digest, by key. Pure."""
    sealed = [(item.key, item.sha256) for item in ledger.segments]
    if ledger.checkpoint is not None:
        sealed.append((ledger.checkpoint.key, ledger.checkpoint.sha256))
    return {
        key: Expected(size=None, sha256=digest, content_type=JSON_TYPE) for key, digest in sealed
    }


def _audited(config: Config, channel: OpenChannel, read: Read) -> Audit:
    sealed = tuple(
        found for site in channel.sites for found in _damaged(site, sealed_files(read.ledger))
    )
    broken = any(found.site is channel.sites[0] for found in sealed)
    state = read.state if broken else whole_state(channel, read)
    files = tuple(
        found for site in channel.sites for found in _site_findings(config, site, read, state)
    )
    return Audit(state=state, findings=(*sealed, *files))


def whole_state(channel: OpenChannel, read: Read) -> State:
    """Return what all events add up to, from the first on, with every release's files.

    Raises:
        LedgerError: a segment is damaged, or it is something else than the ledger's state.
    """
    try:
        state = replay(State(), all_events(channel.store, read.ledger))
    except ValueError as error:
        msg = f"{channel.store.address}: the sealed events: {error}. Restore them from a copy."
        raise LedgerError(msg) from error
    if not agrees(state, read.state):
        msg = (
            f"{channel.store.address}: the sealed events add up to something else than the "
            "checkpoint. Nothing was touched; restore both from a mirror or a copy."
        )
        raise LedgerError(msg)
    return state


def _damaged(site: Site, sealed: Mapping[str, Expected]) -> Iterator[Finding]:
    for key, expected in sealed.items():
        present = site.store.read(key)
        if present is None:
            yield Finding(site=site, fault=Fault.MISSING, key=key, expected=expected)
        elif hashlib.sha256(present.data).hexdigest() != expected.sha256:
            yield Finding(site=site, fault=Fault.DAMAGED, key=key, expected=expected)


def _site_findings(config: Config, site: Site, read: Read, state: State) -> Iterator[Finding]:
    indexes = wanted_indexes(config, site, read).indexes
    configured = {item.product for item in config.interpreters.values()}
    published = {item.published.product for item in state.releases}
    for product in sorted(configured | published):
        expected = expected_files(state, product)
        listed = site.store.sizes(product)
        for key, fault in listing_faults(state, product, listed, indexes):
            yield Finding(site=site, fault=fault, key=key, expected=expected.get(key))
