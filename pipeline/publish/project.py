"""Writes what the ledger says into the indexes that clients read, of every site.

Every step may be repeated, and repairs whatever is there: an index is a pure function of the
ledger. Mirrors get a copy of the ledger, and indexes with their own addresses.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

from pipeline.effects.context import Context
from pipeline.effects.store import Store, Tagged
from pipeline.errors import (
    ConflictError,
    FetchBackError,
    LedgerError,
    UncertainError,
)
from pipeline.model import naming
from pipeline.model.configs import Config
from pipeline.model.ledger import Ledger, Published, State, replay
from pipeline.publish.apt import AptSite, known_keys, left_apt, stale_apt, write_apt
from pipeline.publish.debian_indexes import debian_indexes
from pipeline.publish.indexes import each_index, is_there, write
from pipeline.publish.ledger import (
    JSON_TYPE,
    Read,
    claimed_ledger,
    is_still,
    pause_before_next,
    put_sealed,
    read_ledger,
    was_once,
)
from pipeline.publish.projections import projections
from pipeline.publish.projections.apt import AptFacts, apt_repository, listed_releases
from pipeline.publish.sites import OpenChannel, Site
from pipeline.publish.view import Projection, View
from pipeline.sign.notary import Notary

ATTEMPTS: Final = 20


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What a site's indexes should be, by key; and the directories that hold nothing else."""

    site: Site
    indexes: Mapping[str, Projection]
    directories: tuple[str, ...]


def project(
    ctx: Context, channel: OpenChannel, pause: Callable[[float], None] = time.sleep
) -> list[str]:
    """Make every site's indexes what the first one's ledger says; return what had to change.

    The ledger is read again at the end: an event that came meanwhile must not be overwritten by
    indexes that do not know it.

    Raises:
        ConflictError: others kept writing; run again.
        UncertainError: a store kept losing its answers; run again.
        LedgerError: a mirror has events of its own, so it is no copy.
        FetchBackError: a mirror lacks files that it should offer; the other sites are done. Or a
            release's list of Debian packages is nowhere to be had; apt's lists stay as they are.
        SigningKeyError: users of apt would lack a trusted key, as this machine does; the same.
    """
    sites, notary = channel.sites, channel.notary
    changed: dict[str, None] = {}
    lost: UncertainError | None = None
    for attempt in range(ATTEMPTS):
        try:
            read, lost = read_ledger(sites[0].store, notary), None
            lacking = _write_all(ctx, channel, read, changed)
            if is_still(sites[0].store, read):
                return _told(changed, lacking)
        except UncertainError as error:
            lost = error
        except ConflictError:
            pass
        pause(pause_before_next(attempt))
    if lost is not None:
        raise lost
    msg = "the indexes: changed by others all the time. Run: python -m pipeline reconcile"
    raise ConflictError(msg)


def require_mirrors(sites: Sequence[Site], notary: Notary) -> None:
    """Look whether every mirror is one, before anything is written there.

    Raises:
        LedgerError: a mirror has events of its own, so it is no copy.
        ConflictError: another appended just now; run again.
    """
    first, *mirrors = sites
    read = read_ledger(first.store, notary)
    for site in mirrors:
        _known_events(site.store, site.store.read(naming.LEDGER_KEY), first.store, read)


def stale_indexes(ctx: Context, channel: OpenChannel) -> list[str]:
    """Return what of the sites' indexes is not what the ledger says; writes nothing.

    Raises:
        FetchBackError: a release's list of Debian packages is nowhere to be had.
    """
    read = read_ledger(channel.store, channel.notary)
    return [found for site in channel.sites for found in _stale_site(ctx, channel, site, read)]


def wanted_indexes(config: Config, site: Site, read: Read) -> Wanted:
    """Return what a site's indexes should be. Pure."""
    view = _view(config, site, read.state)
    directories = (
        f"{product}/{name}" for product in view.products for name in naming.INDEX_DIRECTORIES
    )
    return Wanted(site=site, indexes=projections(view), directories=tuple(directories))


def require_indexes(config: Config, site: Site, state: State, event: Published) -> None:
    """Look whether indexes can be made once *event* has happened to *state*. Pure.

    A staged release is looked at as one that was promoted.

    Raises:
        UnknownNameError: a release is for a platform that left the table.
        ConfigError: interpreters' files disagree about the ABI of one Python version.
    """
    after = replay(state, (event.model_copy(update={"staged": False}),))
    projections(_view(config, site, after))


def _view(config: Config, site: Site, state: State) -> View:
    return View(
        state=state,
        platforms=config.platforms,
        interpreters=config.interpreters,
        base_url=site.base_url,
    )


def _write_all(
    ctx: Context, channel: OpenChannel, read: Read, changed: dict[str, None]
) -> list[str]:
    """Write what is not as it should be, its addresses into *changed* also if an error comes.

    Return what mirrors lack: such a one would offer what it does not have, so it stays as it is.
    """
    lacking, sites = [], channel.sites
    for site in sites:
        if site.store is not sites[0].store:
            present = site.store.read(naming.LEDGER_KEY)
            known = _known_events(site.store, present, sites[0].store, read)
            if missing := _missing_files(site.store, read.state, known):
                lacking.append(
                    f"{site.base_url}: lacks {len(missing)} files of releases ({missing[0]} ...)"
                )
                continue
            for address in _copy_ledger(site, sites[0].store, read, present):
                changed[address] = None
        for address in _write_site(ctx, channel, site, read):
            changed[address] = None
    return lacking


def _told(changed: Mapping[str, None], lacking: Sequence[str]) -> list[str]:
    """Return what changed, where no mirror lacks files."""
    if lacking:
        msg = (
            "\n".join(lacking) + "\nNo index was written there; the ledger has every release, and "
            "the other sites offer it. Run: python -m pipeline reconcile"
        )
        raise FetchBackError(msg)
    return list(changed)


def _missing_files(store: Store, state: State, known: int) -> list[str]:
    """Return the keys that a mirror lacks of what is offered since the event number *known*.

    What it knew before its indexes name already, so that a yank need not wait for lost files.
    """
    wanted: dict[str, list[str]] = {}
    for item in state.releases:
        event = item.published
        if item.is_offered and event.sequence > known:
            keys = (
                naming.store_key(event.product, item.name, file.filename) for file in event.files
            )
            wanted.setdefault(event.product, []).extend(keys)
    listed = {product: store.sizes(product) for product, keys in wanted.items() if keys}
    return [key for product in listed for key in wanted[product] if key not in listed[product]]


def _write_site(ctx: Context, channel: OpenChannel, site: Site, read: Read) -> Iterator[str]:
    """Write a site's indexes, apt's last: whatever may be wrong with those, the others are done."""
    wanted = wanted_indexes(ctx.config, site, read)
    for key, is_new in each_index(site.store, wanted.indexes, write):
        if is_new:
            yield _named(site, key)
    for key in _superfluous(wanted):
        site.store.remove(key)
        yield _named(site, key)
    for repository in _apt_site(ctx, channel, site, read, channel.notary.public_keys):
        yield from (_named(site, key) for key in write_apt(repository))
    for key in _left_apt(channel, site, read):
        site.store.remove(key)
        yield _named(site, key)


def _stale_site(ctx: Context, channel: OpenChannel, site: Site, read: Read) -> Iterator[str]:
    wanted = wanted_indexes(ctx.config, site, read)
    if site.store is not channel.store:
        present = site.store.read(naming.LEDGER_KEY)
        if read.data and (present is None or present.data != read.data):
            yield _named(site, naming.LEDGER_KEY)
        yield from (_named(site, key) for key in _missing_sealed(site.store, read.ledger))
    there = each_index(site.store, wanted.indexes, is_there)
    yield from (_named(site, key) for key, is_right in there if not is_right)
    yield from (_named(site, key) for key in _superfluous(wanted))
    keys = partial(known_keys, channel.notary)
    for repository in _apt_site(ctx, channel, site, read, keys):
        yield from (_named(site, key) for key in stale_apt(repository))
    yield from (_named(site, key) for key in _left_apt(channel, site, read))


def _left_apt(channel: OpenChannel, site: Site, read: Read) -> Iterator[str]:
    """Yield the keys of a repository that the channel had once: yanks would not reach it."""
    if channel.config.apt is None and read.data:
        yield from left_apt(site.store, channel.notary)


def _apt_site(
    ctx: Context,
    channel: OpenChannel,
    site: Site,
    read: Read,
    public_keys: Callable[[], bytes | None],
) -> Iterator[AptSite]:
    """Yield what the site's apt repository should be, where it has one and there is a ledger."""
    config = channel.config.apt
    if config is None or not read.data:
        return
    view = _view(ctx.config, site, read.state)
    releases = (item for found in listed_releases(view, config.keep).values() for item in found)
    stores = [site.store, *(other.store for other in channel.sites if other is not site)]
    indexes = debian_indexes(stores, ctx.work.path("cache", "debian-indexes"), releases)
    facts = AptFacts(
        config=config,
        origin=ctx.config.vendor.name,
        public_keys=public_keys(),
    )
    yield AptSite(
        store=site.store,
        repository=apt_repository(view, facts, indexes),
        config=config,
        notary=channel.notary,
        now=ctx.now(),
    )


def _named(site: Site, key: str) -> str:
    return naming.public_url(site.base_url, key)


def _superfluous(wanted: Wanted) -> Iterator[str]:
    """Yield the keys of indexes that there should not be, as a yanked release's definition."""
    for directory in wanted.directories:
        there = wanted.site.store.sizes(directory)
        yield from (key for key in there if key not in wanted.indexes)


def _copy_ledger(site: Site, first: Store, read: Read, present: Tagged | None) -> Iterator[str]:
    """Give a mirror the ledger instead of the *present* one, sealed files first."""
    if not read.data:
        return
    for key in _missing_sealed(site.store, read.ledger):
        _copy(first, site.store, key)
        yield _named(site, key)
    if present is None or present.data != read.data:
        tag = None if present is None else present.tag
        site.store.replace(naming.LEDGER_KEY, read.data, tag=tag, content_type=JSON_TYPE)
        yield _named(site, naming.LEDGER_KEY)


def _known_events(mirror: Store, present: Tagged | None, first: Store, read: Read) -> int:
    """Return how many events the mirror's ledger has; refuse one to which somebody published.

    What cannot be read is only damaged. The signature does not matter: it would say who wrote
    the events, and no event may be lost. Another may have appended and copied since *read*.
    """
    if present is None or not read.data:
        return 0
    try:
        ledger = claimed_ledger(present.data)
    except LedgerError:
        return 0
    if was_once(first, read.ledger, ledger):
        return ledger.sequence
    if not is_still(first, read):
        msg = f"{first.address}: {naming.LEDGER_KEY}: another appended to it. Run again."
        raise ConflictError(msg)
    msg = (
        f"{mirror.address}: {naming.LEDGER_KEY}: has events that {first.address} has not, so "
        "it is no mirror of it. Nothing was written there: find out who published to it."
    )
    raise LedgerError(msg)


def _missing_sealed(store: Store, ledger: Ledger) -> Iterator[str]:
    """Yield the keys of the sealed files that a mirror lacks."""
    there = store.sizes(naming.LEDGER_PREFIX) if ledger.segments else {}
    yield from (key for key in _sealed_keys(ledger) if key not in there)


def _sealed_keys(ledger: Ledger) -> Iterator[str]:
    yield from (segment.key for segment in ledger.segments)
    if ledger.checkpoint is not None:
        yield ledger.checkpoint.key


def _copy(source: Store, destination: Store, key: str) -> None:
    present = source.read(key)
    if present is None:
        msg = f"{source.address}: {key}: the ledger names it, but it is not there. Restore it."
        raise LedgerError(msg)
    put_sealed(destination, key, present.data)
