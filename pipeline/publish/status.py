"""Where every release and channel stands, and what may safely be done next. Pure."""

import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from pipeline.model.base import Model
from pipeline.model.configs import Channel, ChannelConfig
from pipeline.model.ledger import Release, State
from pipeline.publish.offers import CHANNELS, interpreters, newest_offered
from pipeline.publish.retention import to_prune


class Standing(Model):
    """What clients of an interpreter's channel are led to; ``age_days`` are whole days.

    ``stale`` is a nightly that is older than the channel allows.
    """

    interpreter: str
    channel: Channel
    release: str | None
    version: str | None = None
    at: datetime | None = None
    age_days: int | None = None
    stale: bool = False


class Staged(Model):
    """A release that waits for ``promote``."""

    release: str
    at: datetime
    by: str


class YankInForce(Model):
    """A release that is not offered."""

    release: str
    at: datetime
    by: str
    reason: str


class SiteStatus(Model):
    """A store, and which of its indexes are not what the ledger says."""

    address: str
    base_url: str
    stale_indexes: tuple[str, ...]


class NextStep(Model):
    """A command, and why it is the one to run; None if there is nothing to do."""

    command: str | None
    why: str


class Status(Model):
    """All of it; ``ok`` is False if a nightly or an index is stale."""

    standings: tuple[Standing, ...]
    staged: tuple[Staged, ...]
    yanked: tuple[YankInForce, ...]
    sites: tuple[SiteStatus, ...]
    next: NextStep
    ok: bool


@dataclass(frozen=True, kw_only=True)
class Known:
    """What a status is made from: a ledger, the channels that it is of, and its sites.

    ``options`` are those of the command line that a next command needs too.
    """

    state: State
    channels: Mapping[Channel, ChannelConfig]
    sites: tuple[SiteStatus, ...]
    now: datetime
    options: Sequence[str] = ()


def status_of(known: Known) -> Status:
    """Return where everything stands."""
    standings = tuple(_standings(known))
    staged, yanked = tuple(_staged(known.state)), tuple(_yanked(known.state))
    stale = any(item.stale for item in standings)
    return Status(
        standings=standings,
        staged=staged,
        yanked=yanked,
        sites=known.sites,
        next=_next(known, standings, staged),
        ok=not stale and not any(site.stale_indexes for site in known.sites),
    )


def _standings(known: Known) -> Iterator[Standing]:
    for channel in CHANNELS:
        config = known.channels.get(channel)
        configured = () if config is None else config.interpreters
        for interpreter in sorted({*interpreters(known.state), *configured}):
            found = newest_offered(known.state, interpreter, channel)
            if found is not None or interpreter in configured:
                yield _standing(known, interpreter, channel, found)


def _standing(known: Known, interpreter: str, channel: Channel, found: Release | None) -> Standing:
    if found is None:
        return Standing(interpreter=interpreter, channel=channel, release=None)
    config = known.channels.get(channel)
    at = (found.promoted or found.published).at
    age = (known.now - at).days
    watched = channel == "nightly" and config is not None and interpreter in config.interpreters
    return Standing(
        interpreter=interpreter,
        channel=channel,
        release=found.name,
        version=str(found.published.interpreter_version),
        at=at,
        age_days=age,
        stale=watched and config is not None and age >= config.stale_after_days,
    )


def _staged(state: State) -> Iterator[Staged]:
    for item in state.releases:
        event = item.published
        if event.staged and item.promoted is None and item.yanked is None and item.pruned is None:
            yield Staged(release=item.name, at=event.at, by=event.by)


def _yanked(state: State) -> Iterator[YankInForce]:
    for item in state.releases:
        if item.yanked is not None and item.pruned is None:
            event = item.yanked
            yield YankInForce(release=item.name, at=event.at, by=event.by, reason=event.reason)


def _next(known: Known, standings: Sequence[Standing], staged: Sequence[Staged]) -> NextStep:
    """Return the first step that is due; each can be run at any time, and again."""
    steps = (
        *_repairs(known),
        *(("promote", item.release, "it is staged, and tested by now?") for item in staged),
        *(
            ("nightly", item.interpreter, f"its newest nightly is {item.age_days} days old")
            for item in standings
            if item.stale
        ),
        *(
            ("release", item.interpreter, "it has no release yet")
            for item in standings
            if item.channel == "release" and item.release is None
        ),
        *_prunable(known),
    )
    elsewhere = () if "release" in known.channels else ("--channel", "nightly")
    for verb, argument, why in steps:
        channel = elsewhere if verb in {"reconcile", "promote"} else ()
        words = ("python", "-m", "pipeline", verb, argument, *channel, *known.options)
        return NextStep(command=shlex.join(word for word in words if word), why=why)
    return NextStep(command=None, why="nothing is due")


def _repairs(known: Known) -> Iterator[tuple[str, str, str]]:
    count = sum(len(site.stale_indexes) for site in known.sites)
    if count:
        yield "reconcile", "", f"{count} indexes are not what the ledger says"


def _prunable(known: Known) -> Iterator[tuple[str, str, str]]:
    config = known.channels.get("nightly")
    old = to_prune(known.state, config.retention, known.now) if config is not None else ()
    if old:
        yield "prune", "--dry-run", f"{len(old)} nightlies are older than the channel keeps"
