"""Reads the ledger and appends to it: the one moment at which a release comes into being.

The ledger is one signed object that is replaced by compare-and-swap. Of two releasers one is first
and the other reads again; nothing is ever lost. Old events are sealed in files of their own, whose
names hold their digests, so that it does not matter who writes them and how often.
"""

import hashlib
import random
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Final, TypeVar

from pydantic import BaseModel, ValidationError

from pipeline.effects.store import Store
from pipeline.errors import ConflictError, LedgerError, SignatureError, UncertainError
from pipeline.model import naming
from pipeline.model.base import canonical_json, pretty_json
from pipeline.model.ledger import (
    SEGMENT,
    Checkpoint,
    Event,
    Ledger,
    SealedEvents,
    Segment,
    SignedLedger,
    State,
    compacted,
    replay,
)
from pipeline.model.naming import LEDGER_KEY
from pipeline.sign.notary import Notary

ATTEMPTS: Final = 40
LONGEST_PAUSE: Final = 2.0
JSON_TYPE: Final = "application/json"

M = TypeVar("M", bound=BaseModel)

Decide = Callable[[State], Event | None]
"""Says which event a state asks for next, or None if it says so already."""


@dataclass(frozen=True, kw_only=True)
class Read:
    """The ledger as a store has it, checked, and what it adds up to; no ledger has no tag."""

    ledger: Ledger
    state: State
    tag: str | None
    data: bytes


def read_ledger(store: Store, notary: Notary) -> Read:
    """Return the store's ledger; an empty one if there is none.

    Raises:
        LedgerError: what is there is not a ledger; it is left as it is.
        SignatureError: nobody who is trusted signed it.
    """
    present = store.read(LEDGER_KEY)
    if present is None:
        return Read(ledger=Ledger(), state=State(), tag=None, data=b"")
    ledger = _signed_ledger(store, notary, present.data)
    state = replayed(_checkpoint(store, ledger), ledger)
    return Read(ledger=ledger, state=state, tag=present.tag, data=present.data)


def _signed_ledger(store: Store, notary: Notary, data: bytes) -> Ledger:
    """Return the ledger that *data* from the store is, without what it adds up to.

    Raises:
        LedgerError: it is not a ledger.
        SignatureError: nobody who is trusted signed it.
    """
    signed = _parsed(SignedLedger, data, LEDGER_KEY)
    try:
        notary.check(signed)
    except SignatureError as error:
        error.where = error.where or f"{store.address}: {LEDGER_KEY}"
        raise
    return _parsed(Ledger, signed.payload.encode(), LEDGER_KEY)


def claimed_ledger(data: bytes) -> Ledger:
    """Return the ledger that *data* claims to be, whoever signed it: not to be relied on.

    Raises:
        LedgerError: it is not a ledger.
    """
    signed = _parsed(SignedLedger, data, LEDGER_KEY)
    return _parsed(Ledger, signed.payload.encode(), LEDGER_KEY)


def append(
    store: Store,
    notary: Notary,
    decide: Decide,
    pause: Callable[[float], None] = time.sleep,
) -> tuple[Read, Event | None]:
    """Append the event that *decide* asks for; return the ledger after it, and the event if new.

    It is asked again for the newer state when somebody else was first.

    Raises:
        LedgerError: the store has none, but had one; or as it is read.
        ConflictError: others kept writing; nothing was lost, run again.
        UncertainError: the store kept losing its answers; run again, which looks what is there.
    """
    sent: Event | None = None
    for attempt in range(ATTEMPTS):
        read = read_ledger(store, notary)
        if attempt == 0 and read.tag is None:
            _require_new(store)
        if sent is not None and _has(store, read.ledger, sent):
            return read, sent  # the answer was lost, the event was not
        event = decide(read.state)
        if event is None:
            return read, None
        try:
            return _replaced(store, notary, read, event), event
        except UncertainError:
            sent = event
        except ConflictError:
            pass
        pause(pause_before_next(attempt))
    msg = (
        f"{store.address}: {LEDGER_KEY}: could not be replaced {ATTEMPTS} times in a row. Nothing "
        "is lost: run again."
    )
    raise UncertainError(msg) if sent is not None else ConflictError(msg)


def pause_before_next(attempt: int) -> float:
    """Return after how many seconds what others were first to do is tried again.

    It is random, so that two do not meet again, and grows with the *attempt*, counted from 0.
    """
    return random.uniform(0, min(0.05 * 2**attempt, LONGEST_PAUSE))  # noqa: S311 - no secret


def is_still(store: Store, read: Read) -> bool:
    """Whether the store's ledger is the one that was read."""
    present = store.read(LEDGER_KEY)
    return (present.tag if present else None) == read.tag


def all_events(store: Store, ledger: Ledger) -> tuple[Event, ...]:
    """Return every event from the first on, with the sealed ones fetched and checked.

    Raises:
        LedgerError: a segment is gone or was changed.
    """
    sealed = [event for segment in ledger.segments for event in _segment_events(store, segment)]
    return (*sealed, *ledger.events)


def was_once(store: Store, ledger: Ledger, older: Ledger) -> bool:
    """Whether the store's *ledger* was *older* once: whether that has no other events.

    Raises:
        LedgerError: a segment is gone or was changed.
    """
    count = len(older.segments)
    if ledger.segments[:count] != older.segments:
        return False
    following = ledger.events
    if count < len(ledger.segments):
        segment = ledger.segments[count]
        following = _segment_events(store, segment)
    return following[: len(older.events)] == older.events


def replayed(state: State, ledger: Ledger) -> State:
    """Return what *state*, as of the last sealed event, and the ledger's own events add up to.

    Raises:
        LedgerError: they do not fit together.
    """
    try:
        return replay(state, ledger.events)
    except ValueError as error:
        msg = f"{LEDGER_KEY}: {error}; it was not touched. Restore it from a copy."
        raise LedgerError(msg) from error


def _has(store: Store, ledger: Ledger, event: Event) -> bool:
    """Whether *event* is in the ledger, also where it was sealed at once."""
    for segment in ledger.segments:
        if segment.first <= event.sequence <= segment.last:
            return event in _segment_events(store, segment)
    return event in ledger.events


def _require_new(store: Store) -> None:
    """Refuse to begin a ledger where there was one: its releases would be forgotten."""
    left = store.read(naming.PAGE_NAME) is not None or store.sizes(naming.LEDGER_PREFIX)
    # Both come after a ledger, which somebody else may have begun since it was looked for.
    if left and store.read(LEDGER_KEY) is None:
        msg = (
            f"{store.address}: {LEDGER_KEY}: is not there, but the store is not new: it has what "
            f"only comes after a ledger ({naming.PAGE_NAME} or {naming.LEDGER_PREFIX}/). Nothing "
            "was written. Is it the right directory or prefix, and mounted? If the ledger is "
            f"lost, restore {LEDGER_KEY} from a mirror or a copy."
        )
        raise LedgerError(msg)


def _replaced(store: Store, notary: Notary, read: Read, event: Event) -> Read:
    grown = read.ledger.model_copy(update={"events": (*read.ledger.events, event)})
    state = replayed(read.state, grown.model_copy(update={"events": (event,)}))
    if len(grown.events) >= SEGMENT:
        grown, state = _seal(store, grown, state)
    data = pretty_json(notary.signed(canonical_json(grown)))
    store.replace(LEDGER_KEY, data, tag=read.tag, content_type=JSON_TYPE)
    return Read(ledger=grown, state=state, tag=None, data=data)


def _seal(store: Store, ledger: Ledger, state: State) -> tuple[Ledger, State]:
    """Put the ledger's own events, and the state after them, into files that never change."""
    state = compacted(state)
    first, last = ledger.sealed + 1, ledger.sequence
    events = canonical_json(SealedEvents(events=ledger.events))
    segment = Segment(
        first=first,
        last=last,
        key=naming.segment_key(first, last, _digest(events)),
        sha256=_digest(events),
    )
    data = canonical_json(state)
    checkpoint = Checkpoint(key=naming.checkpoint_key(last, _digest(data)), sha256=_digest(data))
    put_sealed(store, segment.key, events)
    put_sealed(store, checkpoint.key, data)
    sealed = Ledger(segments=(*ledger.segments, segment), checkpoint=checkpoint)
    return sealed, state


def put_sealed(store: Store, key: str, data: bytes) -> None:
    """Put sealed events or a checkpoint; what is there under a key with their digest stays."""
    with tempfile.NamedTemporaryFile(prefix="rpp-") as file:
        file.write(data)
        file.flush()
        store.put_new(key, Path(file.name), content_type=JSON_TYPE)


def _checkpoint(store: Store, ledger: Ledger) -> State:
    point = ledger.checkpoint
    state = State() if point is None else _state(_fetched(store, point.key, point.sha256))
    if state.sequence != ledger.sealed:
        msg = f"{LEDGER_KEY}: {ledger.sealed} events are sealed, its checkpoint has another number."
        raise LedgerError(msg)
    return state


def _segment_events(store: Store, segment: Segment) -> tuple[Event, ...]:
    data = _fetched(store, segment.key, segment.sha256)
    return _parsed(SealedEvents, data, segment.key).events


def _fetched(store: Store, key: str, sha256: str) -> bytes:
    """Return a sealed file, whose digest the signed ledger has."""
    present = store.read(key)
    if present is None or _digest(present.data) != sha256:
        found = "nothing" if present is None else f"sha256 {_digest(present.data)}"
        msg = (
            f"{store.address}: {key}: by the ledger it has sha256 {sha256}, but there is {found}. "
            "Nothing was touched; restore it from a mirror or a copy."
        )
        raise LedgerError(msg)
    return present.data


@lru_cache(maxsize=2)
def _state(data: bytes) -> State:
    """Parse a checkpoint; one run reads the same one several times, and it may have megabytes."""
    return _parsed(State, data, "a checkpoint")


def _parsed(model: type[M], data: bytes, key: str) -> M:
    try:
        return model.model_validate_json(data)
    except ValidationError as error:
        msg = (
            f"{key}: not a ledger that this version can read ({error.error_count()} errors, "
            f"first: {error.errors()[0]['msg']}). It was not touched; restore it from a copy."
        )
        raise LedgerError(msg) from error


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
