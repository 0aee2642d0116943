"""Which event comes next: pure decisions that :func:`pipeline.publish.ledger.append` asks.

Each returns None where the ledger says so already, so that every command may be run again.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeVar

from pipeline.errors import EventError, ImmutableNameError, suggestion
from pipeline.model.artifacts import Artifact
from pipeline.model.ledger import (
    Promoted,
    Pruned,
    Published,
    PublishedPlatform,
    Release,
    State,
    Unyanked,
    Yanked,
)
from pipeline.model.records import Manifest, SignedRelease
from pipeline.publish.ledger import Decide

E = TypeVar("E", Promoted, Yanked, Unyanked, Pruned)


@dataclass(frozen=True, kw_only=True)
class Stamp:
    """When something happened, who did it, and why."""

    at: datetime
    by: str
    reason: str


def publication(
    manifest: Manifest,
    signed: SignedRelease,
    files: tuple[Artifact, ...],
    stamp: Stamp,
    *,
    staged: bool = False,
) -> Callable[[State], Published | None]:
    """Return what publishes a release.

    Deciding raises ImmutableNameError if the release exists with other files.
    """

    def decide(state: State) -> Published | None:
        refuse_other_release(state, manifest.product, manifest.release, signed.manifest.sha256)
        if state.find(manifest.product, manifest.release) is not None:
            return None
        return Published(
            sequence=state.sequence + 1,
            at=stamp.at,
            by=stamp.by,
            reason=stamp.reason,
            channel=manifest.channel,
            product=manifest.product,
            release=manifest.release,
            interpreter=manifest.interpreter,
            implementation=manifest.implementation,
            interpreter_version=manifest.interpreter_version,
            language_version=manifest.language_version,
            stable=manifest.stable,
            staged=staged,
            source=manifest.source,
            input_key=manifest.input_key,
            manifest_sha256=signed.manifest.sha256,
            fingerprint=signed.fingerprint,
            platforms=tuple(
                PublishedPlatform(
                    platform=facts.platform, jit=facts.jit, glibc_floor=facts.declared_floor
                )
                for facts in manifest.platforms
            ),
            files=files,
            images=manifest.images,
        )

    return decide


def promotion(product: str, release: str, stamp: Stamp) -> Decide:
    """Return what offers a staged release from now on; others need no promotion."""

    def decide(state: State) -> Promoted | None:
        found = existing(state, product, release)
        if found.is_announced:
            return None
        return _event(Promoted, state, found, stamp)

    return decide


def yank(product: str, release: str, stamp: Stamp) -> Decide:
    """Return what takes a release from the indexes; nothing to do for one that is yanked."""

    def decide(state: State) -> Yanked | None:
        found = existing(state, product, release)
        return None if found.yanked is not None else _event(Yanked, state, found, stamp)

    return decide


def unyank(product: str, release: str, stamp: Stamp) -> Decide:
    """Return what takes a yank back; nothing to do for a release that is not yanked."""

    def decide(state: State) -> Unyanked | None:
        found = existing(state, product, release)
        return None if found.yanked is None else _event(Unyanked, state, found, stamp)

    return decide


def pruning(product: str, release: str, stamp: Stamp) -> Decide:
    """Return what gives up a nightly's files; nothing to do for one that is pruned.

    Deciding raises EventError for a release of another channel: those stay for ever.
    """

    def decide(state: State) -> Pruned | None:
        found = state.find(product, release)
        if found is not None and found.pruned is not None:
            return None
        found = existing(state, product, release)
        if found.published.channel != "nightly":
            msg = f"{product}/{release} is no nightly. Releases are never removed: yank it instead."
            raise EventError(msg)
        return _event(Pruned, state, found, stamp)

    return decide


def existing(state: State, product: str, release: str) -> Release:
    """Return a release whose files are there.

    Raises:
        EventError: there is none of that name.
    """
    found = state.find(product, release)
    if found is None:
        names = [item.name for item in state.releases if item.published.product == product]
        msg = f"{product}/{release} was never published. {suggestion(release, names[-20:])}"
        raise EventError(msg)
    if found.pruned is not None:
        msg = f"{product}/{release} was pruned on {found.pruned.at:%Y-%m-%d}; its files are gone."
        raise EventError(msg)
    return found


def refuse_other_release(state: State, product: str, release: str, manifest_sha256: str) -> None:
    """Stop before anything is uploaded if *release* is already another set of bytes.

    Raises:
        ImmutableNameError: it is.
    """
    found = state.find(product, release)
    if found is not None and found.published.manifest_sha256 != manifest_sha256:
        event = found.published
        again = (
            "Tomorrow's nightly has another name."
            if event.channel == "nightly"
            else "Release a new version."
        )
        msg = (
            f"{product}/{release} was published on {event.at:%Y-%m-%d} by {event.by} with other "
            f"files (manifest sha256 {event.manifest_sha256}, now {manifest_sha256}). A published "
            f"name never changes. {again}"
        )
        raise ImmutableNameError(msg)


def _event(kind: type[E], state: State, release: Release, stamp: Stamp) -> E:
    fields: dict[str, Any] = {
        "sequence": state.sequence + 1,
        "at": stamp.at,
        "by": stamp.by,
        "reason": stamp.reason,
        "product": release.published.product,
        "release": release.name,
        "input_key": release.published.input_key,
        "manifest_sha256": release.published.manifest_sha256,
    }
    return kind(**fields)
