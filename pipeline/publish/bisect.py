"""Finds the first bad nightly: the search, as ``git bisect`` does it. Pure.

Both ends are believed, as git believes them. What a test cannot judge is skipped, and the nearest
to the middle that was not is tried instead.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date
from enum import StrEnum
from typing import Final

from pipeline.errors import BisectError, suggestion
from pipeline.model.ledger import Published, State, nightly_order
from pipeline.model.naming import nightly_day

SKIP_STATUS: Final = 125
ABORT_STATUS: Final = 128
_DATE: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")


class Verdict(StrEnum):
    """What a test says of a nightly."""

    GOOD = "good"
    BAD = "bad"
    SKIP = "skip"


@dataclass(frozen=True, kw_only=True)
class Search:
    """What is known of a row of nightlies: positions of the last good and the first bad one."""

    good: int
    bad: int
    skipped: frozenset[int] = frozenset()

    @property
    def untested(self) -> tuple[int, ...]:
        """The positions between that may still be tested."""
        between = range(self.good + 1, self.bad)
        return tuple(place for place in between if place not in self.skipped)

    @property
    def suspects(self) -> tuple[int, ...]:
        """The positions of which one is the first bad: a single one when the search is over."""
        return tuple(range(self.good + 1, self.bad + 1))

    @property
    def steps_left(self) -> int:
        """How many tests are left, if none is skipped."""
        return len(self.untested).bit_length()

    def next(self) -> int | None:
        """Return the position to test, or None if no test can tell more."""
        middle = (self.good + self.bad) / 2
        return min(self.untested, key=lambda place: (abs(place - middle), place), default=None)

    def after(self, place: int, verdict: Verdict) -> "Search":
        """Return what is known when the test of *place* ended with *verdict*."""
        match verdict:
            case Verdict.GOOD:
                return replace(self, good=place)
            case Verdict.BAD:
                return replace(self, bad=place)
            case Verdict.SKIP:
                return replace(self, skipped=self.skipped | {place})


def verdict_of(status: int) -> Verdict | None:
    """Return what an exit status says: 0 good, 125 skip, other ones below 128 bad.

    None is for 128 and above, and for a signal (negative): the test itself failed.
    """
    if status == 0:
        return Verdict.GOOD
    if status == SKIP_STATUS:
        return Verdict.SKIP
    return Verdict.BAD if 0 < status < ABORT_STATUS else None


def row_of(state: State, interpreter: str, platform: str) -> tuple[Published, ...]:
    """Return the nightlies that can be tested on *platform*, oldest first.

    Pruned ones are gone; yanked ones are there and are tested, since a test judges itself. Of old
    ones only the manifest says which platforms they are for, so all of those are in the row.

    Raises:
        BisectError: there are none.
    """
    found = [
        item.published
        for item in state.releases
        if item.published.channel == "nightly"
        and item.published.interpreter == interpreter
        and item.pruned is None
        and _may_be_for(item.published, platform)
    ]
    if not found:
        names = sorted({item.published.interpreter for item in state.releases})
        msg = (
            f"{interpreter}: no nightly for {platform} that could be tested. "
            f"{suggestion(interpreter, names)}"
        )
        raise BisectError(msg)
    return tuple(sorted(found, key=nightly_order))


def _may_be_for(event: Published, platform: str) -> bool:
    return not event.platforms or platform in {row.platform for row in event.platforms}


def pruned_between(state: State, row: Sequence[Published], search: Search) -> int:
    """Return how many nightlies between the ends are gone."""
    first, last = nightly_order(row[search.good]), nightly_order(row[search.bad])
    return sum(
        item.pruned is not None
        and item.published.channel == "nightly"
        and item.published.interpreter == row[0].interpreter
        and first < nightly_order(item.published) < last
        for item in state.releases
    )


def start(row: Sequence[Published], good: str, bad: str) -> Search:
    """Return the search between two ends, each a day (``2026-09-01``) or a nightly's name.

    A day means the last nightly up to its end for *good*, the first from its beginning on for
    *bad*.

    Raises:
        BisectError: there is no such nightly, or *good* is not older than *bad*.
    """
    search = Search(good=_good_place(row, good), bad=_bad_place(row, bad))
    if search.good >= search.bad:
        msg = (
            f"--good {good} is {row[search.good].release} and --bad {bad} is "
            f"{row[search.bad].release}, which is not newer. To find what mended something, let "
            "the script say good where it is broken."
        )
        raise BisectError(msg)
    return search


def day_of(event: Published) -> date:
    """Return the day that a nightly is of: that of its name, or else of its publication, in UTC."""
    return nightly_day(event.release) or event.at.astimezone(UTC).date()


def _good_place(row: Sequence[Published], end: str) -> int:
    day = _day(end)
    if day is None:
        return _named(row, end)
    places = [place for place, event in enumerate(row) if day_of(event) <= day]
    if not places:
        msg = f"--good {end}: the oldest nightly that can be tested is {row[0].release}."
        raise BisectError(msg)
    return places[-1]


def _bad_place(row: Sequence[Published], end: str) -> int:
    day = _day(end)
    if day is None:
        return _named(row, end)
    places = [place for place, event in enumerate(row) if day_of(event) >= day]
    if not places:
        msg = f"--bad {end}: the newest nightly that can be tested is {row[-1].release}."
        raise BisectError(msg)
    return places[0]


def _day(end: str) -> date | None:
    if _DATE.fullmatch(end) is None:
        return None
    try:
        return date.fromisoformat(end)
    except ValueError as error:
        msg = f"{end}: there is no such day."
        raise BisectError(msg) from error


def _named(row: Sequence[Published], name: str) -> int:
    places = [place for place, event in enumerate(row) if event.release == name]
    if not places:
        names = [event.release for event in row[-20:]]
        msg = (
            f"{name}: neither a day (2026-09-01) nor a nightly that can be tested. "
            f"{suggestion(name, names)}"
        )
        raise BisectError(msg)
    return places[0]
