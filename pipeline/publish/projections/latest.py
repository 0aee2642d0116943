"""``latest``: the newest final release and the newest nightly of each interpreter.

``latest.json`` says everything about them in one document, which is replaced all at once: a client
that reads it sees the files of one release, never of two. The pointers are for those who want an
address that does not change, as ``latest/pypy3.11-linux64.tar.gz`` and, as upstream has it,
``nightly/pypy3.11/pypy-c-jit-latest-linux64.tar.gz``. All of an interpreter's lead to one release.
"""

from collections.abc import Iterator
from typing import Final, Literal

from pydantic import Field

from pipeline.model import naming
from pipeline.model.base import Model, Sha256
from pipeline.model.configs import Fingerprint
from pipeline.model.ledger import Published, Release
from pipeline.model.versions import VersionField
from pipeline.publish.projections.documents import json_document
from pipeline.publish.projections.selection import (
    announced_on,
    glibc_floors,
    newest_finals,
    newest_nightlies,
)
from pipeline.publish.view import Pointer, Projection, View

LATEST: Final = "latest.json"


class RemoteFile(Model):
    """A file of a release, and where the public has it."""

    url: str
    sha256: Sha256


class RemoteArchive(RemoteFile):
    """The archive for one platform; ``size`` in bytes, no floor where libc is not glibc."""

    filename: str
    size: int
    glibc_floor: str | None


class LatestRelease(Model):
    """A release: what it is, when it was announced, and its archives by platform.

    ``number`` is a nightly's; ``revision`` the source's. ``checksums`` and ``signature`` are
    addresses; ``fingerprint`` is the key's.
    """

    release: str
    interpreter_version: VersionField
    language_version: str
    date: str
    number: int | None
    revision: str
    manifest: RemoteFile
    checksums: str
    signature: str
    fingerprint: Fingerprint
    archives: dict[str, RemoteArchive]


class LatestOf(Model):
    """The newest that an interpreter has; None where it has nothing that may be offered."""

    release: LatestRelease | None
    nightly: LatestRelease | None


class Latest(Model):
    """What ``latest.json`` holds, by interpreter."""

    schema_version: Literal[1] = Field(default=1, alias="schema")
    interpreters: dict[str, LatestOf]


def latest(view: View) -> dict[str, Projection]:
    """Return ``latest.json`` and the pointers of each product."""
    found: dict[str, Projection] = {}
    for product in view.products:
        found[f"{product}/{LATEST}"] = json_document(latest_of(view, product))
        found |= latest_pointers(view, product)
    return found


def latest_of(view: View, product: str) -> Latest:
    """Return what ``latest.json`` holds."""
    finals, nightlies = newest_finals(view, product), newest_nightlies(view, product)
    interpreters = {
        name: LatestOf(
            release=_described(view, finals.get(name)),
            nightly=_described(view, nightlies.get(name)),
        )
        for name in sorted({*finals, *nightlies})
    }
    return Latest(interpreters=interpreters)


def latest_pointers(view: View, product: str) -> dict[str, Pointer]:
    """Return the keys that lead to the archives of the newest releases and nightlies."""
    finals, nightlies = newest_finals(view, product), newest_nightlies(view, product)
    return {
        key: pointer
        for item in (*finals.values(), *nightlies.values())
        for key, pointer in _pointers(view, item.published)
    }


def _described(view: View, release: Release | None) -> LatestRelease | None:
    if release is None:
        return None
    event = release.published
    manifest = RemoteFile(
        url=view.url(event, naming.manifest_name(event.release)), sha256=event.manifest_sha256
    )
    return LatestRelease(
        release=event.release,
        interpreter_version=event.interpreter_version,
        language_version=event.language_version,
        date=announced_on(release),
        number=event.source.number if event.channel == "nightly" else None,
        revision=event.source.revision,
        manifest=manifest,
        checksums=view.url(event, naming.CHECKSUMS_NAME),
        signature=view.url(event, naming.SIGNATURE_NAME),
        fingerprint=event.fingerprint,
        archives=_archives(view, event),
    )


def _archives(view: View, event: Published) -> dict[str, RemoteArchive]:
    floors = glibc_floors(event)
    return {
        platform.identifier: RemoteArchive(
            url=view.url(event, artifact.filename),
            sha256=artifact.sha256,
            filename=artifact.filename,
            size=artifact.size,
            glibc_floor=floors.get(platform.identifier),
        )
        for artifact, platform in view.archives(event)
    }


def _pointers(view: View, event: Published) -> Iterator[tuple[str, Pointer]]:
    for artifact, platform in view.archives(event):
        suffix = naming.ARCHIVE_SUFFIXES[platform.os][artifact.kind]
        if event.channel == "nightly":
            stem = f"{_nightly_prefix(event, artifact.filename)}-latest-{platform.nightly_suffix}"
            key = f"{event.product}/nightly/{event.interpreter}/{stem}{suffix}"
        else:
            stem = f"{event.interpreter}-{platform.release_suffix}"
            key = f"{event.product}/latest/{stem}{suffix}"
        target = naming.store_key(event.product, event.release, artifact.filename)
        yield key, Pointer(target=target)


def _nightly_prefix(event: Published, filename: str) -> str:
    """Return what begins the names of a nightly's archives: ``pypy-c-jit``.

    It is taken from the name, since the interpreter's file may be gone or say something else now.
    """
    return filename.partition(f"-{event.source.number}-")[0]
