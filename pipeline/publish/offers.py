"""Which release people mean, and which one clients are led to: pure."""

from typing import NamedTuple

from pipeline.errors import EventError, suggestion
from pipeline.model.configs import Channel
from pipeline.model.ledger import Release, State, newest_final, newest_nightly

CHANNELS: tuple[Channel, ...] = ("release", "nightly")


class Offer(NamedTuple):
    """What clients of one interpreter's channel got ``before``, and what they get ``now``."""

    interpreter: str
    channel: Channel
    before: Release | None
    now: Release | None


def meant(state: State, name: str) -> Release:
    """Return the release that *name* is of: ``pypy3.11-v7.3.23``, or ``pypy/pypy3.11-v7.3.23``.

    Raises:
        EventError: there is none, or several products have one.
    """
    product, _, release = name.rpartition("/")
    found = [
        item
        for item in state.releases
        if item.name == release and product in {"", item.published.product}
    ]
    if not found:
        names = [item.name for item in state.releases if item.pruned is None]
        msg = f"{name} was never published. {suggestion(release, names[-20:])}"
        raise EventError(msg)
    if len(found) > 1:
        choices = ", ".join(f"{item.published.product}/{item.name}" for item in found)
        msg = f"{name} is a release of several products. Say which one: {choices}."
        raise EventError(msg)
    return found[0]


def newest_offered(
    state: State, interpreter: str, channel: Channel, product: str | None = None
) -> Release | None:
    """Return what clients are led to: the newest final release, or the newest nightly, or None.

    Without *product* it may be of any.
    """
    newest = newest_nightly if channel == "nightly" else newest_final
    return newest(
        item
        for item in state.releases
        if item.published.interpreter == interpreter and product in {None, item.published.product}
    )


def interpreters(state: State) -> tuple[str, ...]:
    """Return every interpreter that something was published of, sorted."""
    return tuple(sorted({item.published.interpreter for item in state.releases}))


def offers(before: State, now: State, product: str, interpreter: str) -> tuple[Offer, ...]:
    """Return what clients of *interpreter* got and get, by channel; none where there is nothing."""
    found = (
        Offer(
            interpreter,
            channel,
            newest_offered(before, interpreter, channel, product),
            newest_offered(now, interpreter, channel, product),
        )
        for channel in CHANNELS
    )
    return tuple(offer for offer in found if (offer.before, offer.now) != (None, None))
