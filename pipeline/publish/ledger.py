"""Reads the ledger and appends to it: the one moment at which a release comes into being."""

from collections.abc import Callable
from typing import Final

from pydantic import ValidationError

from pipeline.effects.clock import Now
from pipeline.effects.store import Store
from pipeline.errors import ConflictError, LedgerError
from pipeline.model.artifacts import Artifact
from pipeline.model.base import pretty_json
from pipeline.model.ledger import Event, Ledger
from pipeline.model.naming import LEDGER_KEY
from pipeline.model.records import Manifest, SignedRelease
from pipeline.publish.files import refuse_other_release

ATTEMPTS: Final = 20
JSON_TYPE: Final = "application/json"


def read_ledger(store: Store) -> tuple[Ledger, str | None]:
    """Return the store's ledger and its tag; an empty ledger if there is none.

    Raises:
        LedgerError: what is there is not a ledger; it is left as it is.
    """
    present = store.read(LEDGER_KEY)
    if present is None:
        return Ledger(), None
    try:
        ledger = Ledger.model_validate_json(present.data)
    except ValidationError as error:
        msg = (
            f"{LEDGER_KEY}: not a ledger that this version can read ({error.error_count()} errors, "
            f"first: {error.errors()[0]['msg']}). It was not touched; restore it from a copy."
        )
        raise LedgerError(msg) from error
    numbers = [event.sequence for event in ledger.events]
    if numbers != list(range(1, len(numbers) + 1)):
        msg = f"{LEDGER_KEY}: its events are not numbered 1, 2, 3, ...; it was not touched."
        raise LedgerError(msg)
    return ledger, present.tag


def record_published(
    store: Store,
    manifest: Manifest,
    signed: SignedRelease,
    files: tuple[Artifact, ...],
    *,
    now: Now,
    by: str,
) -> tuple[Event, bool]:
    """Append the event that makes a release exist; return it, and whether it is new.

    Raises:
        ImmutableNameError: the release exists with other files.
        ConflictError: others kept writing; nothing was lost, run again.
    """

    def event(sequence: int) -> Event:
        return Event(
            sequence=sequence,
            event="published",
            at=now(),
            by=by,
            channel=manifest.channel,
            product=manifest.product,
            release=manifest.release,
            interpreter=manifest.interpreter,
            implementation=manifest.implementation,
            interpreter_version=manifest.interpreter_version,
            language_version=manifest.language_version,
            stable=manifest.stable,
            source=manifest.source,
            manifest_sha256=signed.manifest.sha256,
            fingerprint=signed.fingerprint,
            files=files,
        )

    for _ in range(ATTEMPTS):
        try:
            return _append(store, signed, event)
        except ConflictError:
            continue
    msg = f"{LEDGER_KEY}: changed by others {ATTEMPTS} times in a row. Nothing is lost: run again."
    raise ConflictError(msg)


def _append(
    store: Store, signed: SignedRelease, event: Callable[[int], Event]
) -> tuple[Event, bool]:
    ledger, tag = read_ledger(store)
    refuse_other_release(ledger, signed.product, signed.release, signed.manifest.sha256)
    if (present := ledger.published(signed.product, signed.release)) is not None:
        return present, False
    new = event(len(ledger.events) + 1)
    grown = ledger.model_copy(update={"events": (*ledger.events, new)})
    store.replace(LEDGER_KEY, pretty_json(grown), tag=tag, content_type=JSON_TYPE)
    return new, True
