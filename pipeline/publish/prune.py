"""Takes pruned nightlies' files away: events first, then indexes, then the files of every site.

After the events no index leads to them, so a client that followed one is never left without a
file. A run that was killed is finished by the next: what the last run pruned is looked at again
before anything else is.
"""

from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

from pipeline.effects.store import Store
from pipeline.errors import EventError, StoreError
from pipeline.model import naming
from pipeline.model.ledger import Event, Release, State
from pipeline.publish.events import Stamp, pruning
from pipeline.publish.ledger import Decide, append, read_ledger
from pipeline.publish.retention import NIGHTLY, to_prune
from pipeline.publish.sites import OpenChannel


def record_pruned(channel: OpenChannel, releases: Iterable[Release], stamp: Stamp) -> State:
    """Append the events that give the releases' files up; return the state after them.

    One that is to stay by now is left out: that a newer one was yanked meanwhile may make it the
    newest that is offered.
    """
    state = read_ledger(channel.store, channel.notary).state
    for release in releases:
        read, _ = append(channel.store, channel.notary, _pruning(channel, release, stamp))
        state = read.state
    return state


def _pruning(channel: OpenChannel, release: Release, stamp: Stamp) -> Decide:
    decide_anyway = pruning(release.published.product, release.name, stamp)

    def decide(state: State) -> Event | None:
        event = decide_anyway(state)
        going = to_prune(state, channel.config.retention, stamp.at)
        place = release.published.sequence
        return event if any(item.published.sequence == place for item in going) else None

    return decide


def last_pruned(state: State) -> tuple[Release, ...]:
    """Return what the last run pruned: all events of one run have one time. Pure.

    The last is that of the newest event, whatever other machines' clocks said.
    """
    pruned = [(item, item.pruned) for item in state.releases if item.pruned is not None]
    last = max((event for _, event in pruned), key=lambda event: event.sequence, default=None)
    return tuple(item for item, event in pruned if last is not None and event.at == last.at)


def remove_files(channel: OpenChannel, state: State, releases: Iterable[Release]) -> int:
    """Take the releases' files away from every site; return how many went.

    *state* must say of each that it is pruned; a release of another channel is never touched.
    """
    removed = 0
    for release in releases:
        known = state.find(release.published.product, release.name)
        for site in channel.sites:
            keys = removable_keys(known, release_files(site.store, release))
            remove_keys(site.store, keys, channel.config.parallel)
            removed += len(keys)
    return removed


def release_files(store: Store, release: Release) -> dict[str, int]:
    """Return the keys below a release's directory, with their sizes in bytes."""
    return store.sizes(naming.release_prefix(release.published.product, release.name))


def removable_keys(release: Release | None, keys: Mapping[str, int]) -> tuple[str, ...]:
    """Return *keys*, all of which must be a pruned nightly's. Pure.

    Raises:
        EventError: it is no nightly, or not pruned.
        StoreError: a key is not below the nightly's own directory.
    """
    if release is None or release.pruned is None or release.published.channel != NIGHTLY:
        name = release.name if release is not None else "a release of no event"
        msg = f"{name}: only files of pruned nightlies are ever removed; nothing was."
        raise EventError(msg)
    directory = naming.release_prefix(release.published.product, release.name)
    for key in keys:
        if not key.startswith(f"{directory}/") or ".." in key.split("/"):
            msg = f"{key}: is not below {directory}/, so it is not removed; nothing was."
            raise StoreError(msg)
    return tuple(keys)


def remove_keys(store: Store, keys: Sequence[str], parallel: int) -> None:
    """Remove *keys*, so many at a time."""
    with ThreadPoolExecutor(parallel) as pool:
        for _ in pool.map(store.remove, keys):
            pass
