"""Which nightlies stay, and why: a pure decision. Releases are no matter of it.

All of the last days stay, then one of each week and interpreter, for some weeks. A week is that of
ISO 8601, in UTC. Its one is the newest that clients may be led to, or if all were yanked (a yank
may be taken back) the newest of those. While a week is not over all of it stays, so that the choice
is made once: pruning every night leaves the same nightlies as pruning once.

In any case stay: the newest that is offered of each interpreter, to which indexes and pointers
lead; what the channel names in ``keep``; and what was ever staged or promoted.
"""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from difflib import get_close_matches
from enum import StrEnum
from typing import Final, NamedTuple

from pipeline.errors import EventError, suggestion
from pipeline.model.configs import RetentionConfig
from pipeline.model.ledger import Release, State, nightly_order

NIGHTLY = "nightly"
NEAR: Final = 5
"""So many names are shown to who misspelt one."""


class Reason(StrEnum):
    """Why a nightly stays."""

    NEWEST = "the newest that is offered: indexes lead to it"
    KEEP = "named in keep"
    STAGED = "was staged or promoted"
    RECENT = "not old enough"
    THIS_WEEK = "its week is not over"
    WEEKLY = "the one of its week"


class Judgement(NamedTuple):
    """A nightly, and why it stays; None if it goes."""

    release: Release
    reason: Reason | None


def to_prune(state: State, policy: RetentionConfig, now: datetime) -> tuple[Release, ...]:
    """Return the nightlies whose files go, in the order of their publication."""
    judged = judgements(state, policy, now)
    return tuple(item.release for item in judged if item.reason is None)


def judgements(state: State, policy: RetentionConfig, now: datetime) -> tuple[Judgement, ...]:
    """Return each nightly whose files are there, with the first reason for which it stays."""
    nightlies = [
        item for item in state.releases if item.published.channel == NIGHTLY and item.pruned is None
    ]
    newest, weekly = _newest(nightlies), _of_their_weeks(nightlies)

    def reason(item: Release) -> Reason | None:
        event = item.published
        reasons = {
            Reason.NEWEST: event.sequence in newest,
            Reason.KEEP: event.release in policy.keep,
            Reason.STAGED: event.staged or item.promoted is not None,
            Reason.RECENT: now - event.at < timedelta(days=policy.days),
            Reason.THIS_WEEK: _week(event.at) >= _week(now),
            Reason.WEEKLY: event.sequence in weekly
            and now - event.at < timedelta(days=policy.days, weeks=policy.weeks),
        }
        return next((why for why, holds in reasons.items() if holds), None)

    return tuple(Judgement(item, reason(item)) for item in nightlies)


def require_known(state: State, policy: RetentionConfig) -> None:
    """Refuse a name in ``keep`` that nothing was published under: what it means would go.

    Raises:
        EventError: there is one.
    """
    known = {item.name for item in state.releases}
    for name in policy.keep:
        if name not in known:
            near = get_close_matches(name, sorted(known), n=NEAR, cutoff=0)
            msg = (
                f"channels.toml: key nightly.retention.keep: {name} was never published, so "
                f"nothing is pruned. {suggestion(name, near)}"
            )
            raise EventError(msg)


def _newest(nightlies: Iterable[Release]) -> frozenset[int]:
    """Return the events of those that indexes lead to, by their numbers.

    Indexes need files, which the state has of newer nightlies only: where the newest that is
    offered has none there, the newest that has some stays too.
    """
    newest: dict[tuple[str, bool], Release] = {}
    for item in nightlies:
        for of_files in (True, False) if item.published.files else (False,):
            if item.is_offered:
                place = (item.published.interpreter, of_files)
                newest[place] = max(newest.get(place, item), item, key=_order)
    return frozenset(item.published.sequence for item in newest.values())


def _of_their_weeks(nightlies: Iterable[Release]) -> frozenset[int]:
    """Return the events of those that stand for their weeks."""
    chosen: dict[tuple[str, tuple[int, int]], Release] = {}
    for item in nightlies:
        place = (item.published.interpreter, _week(item.published.at))
        chosen[place] = max(chosen.get(place, item), item, key=_worth)
    return frozenset(item.published.sequence for item in chosen.values())


def _week(moment: datetime) -> tuple[int, int]:
    year, week, _ = moment.astimezone(UTC).isocalendar()
    return year, week


def _order(release: Release) -> tuple[int, int]:
    return nightly_order(release.published)


def _worth(release: Release) -> tuple[bool, int, int]:
    return (release.is_offered, *_order(release))
