"""The ledger: the append-only list of events that says which releases exist.

A release exists when its event is here; every index is a pure function of the events. The newest
events stand in the ledger itself; older ones in sealed segments, files that never change and whose
digests the ledger has. What the sealed events add up to is kept beside them as a checkpoint, so
that appending costs the same after ten years as on the first day.
"""

from collections.abc import Iterable
from datetime import datetime
from typing import Annotated, Final, Literal

from pydantic import Field, StringConstraints

from pipeline.model.artifacts import Artifact
from pipeline.model.base import FileName, Model, Name, RelativePath, Sha256
from pipeline.model.configs import Channel, Fingerprint
from pipeline.model.images import PublishedImage
from pipeline.model.records import Revision
from pipeline.model.versions import InterpreterVersion, VersionField, numbers

SEGMENT: Final = 64
"""After so many events the ledger's own list is sealed."""

KEPT_WHOLE: Final = 30
"""Of so many nightlies of an interpreter a checkpoint keeps the files; of older ones the name."""


class _Event(Model):
    """Something happened to a release: who did it, when and why.

    ``sequence`` counts events from 1 without a gap. ``input_key`` is the digest of everything that
    decided the release's bytes, ``manifest_sha256`` that of its manifest.
    """

    sequence: Annotated[int, Field(ge=1)]
    at: datetime
    by: str
    reason: Annotated[str, StringConstraints(min_length=1, max_length=1000)]
    product: Name
    release: FileName
    input_key: Sha256
    manifest_sha256: Sha256


class PublishedPlatform(Model):
    """What indexes say of one platform of a release; the floor is None where libc is not glibc."""

    platform: Name
    jit: bool
    glibc_floor: str | None = None


class Published(_Event):
    """A release came into being: what it is, and its files with their digests.

    A ``staged`` release is complete and public, but no index offers it until it is promoted.
    ``images`` are in the order of the configuration: the first suite of each variant is the one
    that tags without a suite lead to.
    """

    event: Literal["published"] = "published"
    channel: Channel
    interpreter: Name
    implementation: Name
    interpreter_version: VersionField
    language_version: str
    stable: bool
    staged: bool = False
    source: Revision
    fingerprint: Fingerprint
    platforms: tuple[PublishedPlatform, ...]
    files: tuple[Artifact, ...]
    images: tuple[PublishedImage, ...] = ()


class Promoted(_Event):
    """A staged release is offered from now on: the same bytes under the same names."""

    event: Literal["promoted"] = "promoted"


class Yanked(_Event):
    """A release is no longer offered; its files stay."""

    event: Literal["yanked"] = "yanked"


class Unyanked(_Event):
    """A yank is taken back."""

    event: Literal["unyanked"] = "unyanked"


class Pruned(_Event):
    """A nightly's files are taken away; its name stays taken."""

    event: Literal["pruned"] = "pruned"


Event = Annotated[Published | Promoted | Yanked | Unyanked | Pruned, Field(discriminator="event")]


class Release(Model):
    """What the events add up to for one release; ``yanked`` is the yank that is in force."""

    published: Published
    promoted: Promoted | None = None
    yanked: Yanked | None = None
    pruned: Pruned | None = None

    @property
    def name(self) -> str:
        """The release's name."""
        return self.published.release

    @property
    def is_announced(self) -> bool:
        """Whether indexes know it: it is not staged, or was promoted, and its files are there."""
        return (not self.published.staged or self.promoted is not None) and self.pruned is None

    @property
    def is_offered(self) -> bool:
        """Whether clients may be led to it."""
        return self.is_announced and self.yanked is None


class State(Model):
    """What all events up to ``sequence`` add up to; releases in the order of their publication."""

    sequence: Annotated[int, Field(ge=0)] = 0
    releases: tuple[Release, ...] = ()

    def find(self, product: str, release: str) -> Release | None:
        """Return the release of that name, or None."""
        for item in self.releases:
            if (item.published.product, item.published.release) == (product, release):
                return item
        return None


class Segment(Model):
    """Sealed events ``first`` to ``last``, in the store under ``key``."""

    first: Annotated[int, Field(ge=1)]
    last: Annotated[int, Field(ge=1)]
    key: RelativePath
    sha256: Sha256


class Checkpoint(Model):
    """The state after the last sealed event, in the store under ``key``."""

    key: RelativePath
    sha256: Sha256


class SealedEvents(Model):
    """What a segment's file holds."""

    schema_version: Literal[2] = Field(default=2, alias="schema")
    events: tuple[Event, ...]


class Ledger(Model):
    """The ledger's own file, without its signature."""

    schema_version: Literal[2] = Field(default=2, alias="schema")
    segments: tuple[Segment, ...] = ()
    checkpoint: Checkpoint | None = None
    events: tuple[Event, ...] = ()

    @property
    def sealed(self) -> int:
        """How many events are in segments."""
        return self.segments[-1].last if self.segments else 0

    @property
    def sequence(self) -> int:
        """How many events there are."""
        return self.sealed + len(self.events)


class SignedLedger(Model):
    """What the store holds as ``ledger.json``: one object, so that it is replaced all at once.

    ``payload`` is the canonical JSON of a :class:`Ledger`, ``signature`` a detached signature of
    these bytes in OpenPGP's ASCII armour (RFC 4880), made by the key ``fingerprint``.
    """

    schema_version: Literal[2] = Field(default=2, alias="schema")
    fingerprint: Fingerprint
    signature: str
    payload: str


def replay(state: State, events: Iterable[Event]) -> State:
    """Return what *state* and then *events* add up to. Pure.

    Raises:
        ValueError: an event does not follow the last, or cannot happen to its release.
    """
    releases = {(item.published.product, item.name): item for item in state.releases}
    sequence = state.sequence
    for event in events:
        if event.sequence != sequence + 1:
            msg = f"event {event.sequence} follows {sequence}"
            raise ValueError(msg)
        sequence = event.sequence
        place = (event.product, event.release)
        releases[place] = _changed(releases.get(place), event)
    return State(sequence=sequence, releases=tuple(releases.values()))


def _changed(release: Release | None, event: Event) -> Release:
    if isinstance(event, Published):
        if release is not None:
            msg = f"event {event.sequence}: {event.release} was published already"
            raise ValueError(msg)
        return Release(published=event)
    if release is None or release.pruned is not None:
        state = "was never published" if release is None else "was pruned"
        msg = f"event {event.sequence}: {event.event}, but {event.release} {state}"
        raise ValueError(msg)
    return release.model_copy(update=_change(release, event))


def _change(release: Release, event: Promoted | Yanked | Unyanked | Pruned) -> dict[str, object]:
    if isinstance(event, Unyanked):
        return {"yanked": None}
    if isinstance(event, Pruned) and release.published.channel != "nightly":
        msg = f"event {event.sequence}: {event.release} is no nightly, so it cannot be pruned"
        raise ValueError(msg)
    return {event.event: event}


def compacted(state: State) -> State:
    """Return *state* with files and platforms of the newest nightlies only. Pure.

    Releases keep theirs. Of the older nightlies the manifests say it.
    """
    return state.model_copy(update={"releases": tuple(_compacted(state.releases))})


def _compacted(releases: tuple[Release, ...]) -> Iterable[Release]:
    whole = _newest_nightlies(releases)
    for item in releases:
        event = item.published
        if event.channel == "nightly" and id(event) not in whole and event.files:
            yield slim(item)
        else:
            yield item


def slim(release: Release) -> Release:
    """Return a nightly as it is kept when it is old: without what its manifest says."""
    event = release.published.model_copy(update={"files": (), "platforms": (), "images": ()})
    return release.model_copy(update={"published": event})


def _newest_nightlies(releases: tuple[Release, ...]) -> frozenset[int]:
    """Return the identities of the nightlies that keep their files."""
    by_interpreter: dict[str, list[Published]] = {}
    for item in releases:
        event = item.published
        if event.channel == "nightly" and item.pruned is None:
            by_interpreter.setdefault(event.interpreter, []).append(event)
    newest = (sorted(found, key=nightly_order)[-KEPT_WHOLE:] for found in by_interpreter.values())
    return frozenset(id(event) for found in newest for event in found)


def nightly_order(event: Published) -> tuple[int, int]:
    """Return what nightlies of one interpreter are ordered by: their number, then their event."""
    return event.source.number or 0, event.sequence


def version_order(event: Published) -> tuple[InterpreterVersion, tuple[int, ...], str]:
    """Return what releases are ordered by: never by time, so a backport is not the newest."""
    return event.interpreter_version, numbers(event.language_version), event.release


def newest_final(releases: Iterable[Release]) -> Release | None:
    """Return the newest final one of *releases* that clients are led to, or None."""
    found = (item for item in releases if item.is_offered and item.published.channel == "release")
    finals = (item for item in found if item.published.stable)
    return max(finals, key=lambda item: version_order(item.published), default=None)


def newest_nightly(releases: Iterable[Release]) -> Release | None:
    """Return the newest nightly of *releases* that clients are led to, or None.

    Of old nightlies the state has no files; nobody is led to those.
    """
    found = (item for item in releases if item.is_offered and item.published.channel == "nightly")
    whole = (item for item in found if item.published.files)
    return max(whole, key=lambda item: nightly_order(item.published), default=None)


def last_nightly(state: State, interpreter: str) -> Published | None:
    """Return the newest nightly of *interpreter* whose files are there, also a yanked one."""
    kept = (
        item.published
        for item in state.releases
        if (item.published.channel, item.published.interpreter) == ("nightly", interpreter)
        and item.pruned is None
    )
    return max(kept, key=nightly_order, default=None)
