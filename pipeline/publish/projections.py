"""Indexes: what clients read, as pure functions of the ledger, and the writing of them.

``versions.json`` has upstream's schema and rules (an array, newest first; keys as in
downloads.python.org/pypy/versions.json), with ``sha256`` and ``size`` added to each file; the
readers we know ignore keys they do not know. ``uv.json`` has the form of uv's download metadata.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from pipeline.config import known
from pipeline.model import naming
from pipeline.model.artifacts import Artifact, ArtifactKind
from pipeline.model.base import pretty_json
from pipeline.model.ledger import Published
from pipeline.model.platforms import Platform
from pipeline.publish.view import Document, Projection, View

UV_IMPLEMENTATIONS: Final = frozenset({"pypy"})
FULL_PYTHON_VERSION: Final = 3
# uv installs nothing older, and PyPy 2.7 has no lib/pypy2.7/, which it writes into.
UV_OLDEST: Final = (3, 8)

Platforms = Mapping[str, Platform]


def projections(view: View) -> dict[str, Projection]:
    """Return every index by store key. Pure: the same ledger always gives the same bytes."""
    indexes: dict[str, Projection] = {}
    for product in view.products:
        events = [item.published for item in view.releases(product) if item.is_offered]
        for name, made in (
            (naming.VERSIONS_INDEX, versions_index(events, view.platforms, view.base_url)),
            (naming.UV_INDEX, uv_index(events, view.platforms, view.base_url)),
        ):
            indexes[f"{product}/{name}"] = Document(
                data=pretty_json(made), content_type="application/json"
            )
    return indexes


def versions_index(
    events: Iterable[Published], platforms: Platforms, base_url: str
) -> list[dict[str, Any]]:
    """Return the entries of ``versions.json``, nightlies last.

    ``latest_pypy`` is true on the newest final release of each full language version.
    """
    events = list(events)
    releases = _newest_first(event for event in events if event.channel == "release")
    latest: dict[str, Published] = {}
    for event in releases:
        if event.stable:
            latest.setdefault(event.language_version, event)
    entries = [
        {
            "pypy_version": str(event.interpreter_version),
            "python_version": event.language_version,
            "stable": event.stable,
            "latest_pypy": latest.get(event.language_version) is event,
            "date": event.at.strftime("%Y-%m-%d"),
            "files": list(_index_files(event, platforms, base_url)),
        }
        for event in releases
    ]
    return entries + [
        {
            "pypy_version": "nightly",
            "python_version": _short(event.language_version),
            "stable": False,
            "latest_pypy": False,
            "files": list(_index_files(event, platforms, base_url)),
        }
        for event in _newest_nightlies(events)
    ]


def uv_index(
    events: Iterable[Published], platforms: Platforms, base_url: str
) -> dict[str, dict[str, Any]]:
    """Return uv's metadata: the newest final release of each language version and platform.

    Only implementations and versions that uv knows are listed; a digest is always given, since
    uv installs an entry without one unverified.
    """
    entries: dict[str, dict[str, Any]] = {}
    for event in _newest_first(event for event in events if event.channel == "release"):
        parts = event.language_version.split(".")
        if (
            not event.stable
            or event.implementation not in UV_IMPLEMENTATIONS
            or len(parts) != FULL_PYTHON_VERSION
            or tuple(map(int, parts)) < UV_OLDEST
        ):
            continue
        for artifact, platform in _archives(event, platforms):
            names = platform.uv
            place = f"{names.os}-{names.family}-{names.libc}"
            key = f"{event.implementation}-{event.language_version}-{place}"
            entries.setdefault(
                key,
                {
                    "name": event.implementation,
                    "arch": {"family": names.family, "variant": None},
                    "os": names.os,
                    "libc": names.libc,
                    "major": int(parts[0]),
                    "minor": int(parts[1]),
                    "patch": int(parts[2]),
                    "prerelease": "",
                    "url": _url(event, artifact, base_url),
                    "sha256": artifact.sha256,
                    "variant": None,
                    "build": str(event.interpreter_version),
                },
            )
    return entries


def _newest_first(events: Iterable[Published]) -> list[Published]:
    """Order by version, never by when it was published: a backport is not the newest."""
    return sorted(
        events,
        key=lambda event: (event.interpreter_version, _numbers(event.language_version)),
        reverse=True,
    )


def _newest_nightlies(events: Iterable[Published]) -> Iterator[Published]:
    """Yield the newest nightly of each short language version, newest language first."""
    newest: dict[str, Published] = {}
    for event in events:
        if event.channel != "nightly":
            continue
        short = _short(event.language_version)
        present = newest.get(short)
        if present is None or _nightly_order(event) > _nightly_order(present):
            newest[short] = event
    for short in sorted(newest, key=_numbers, reverse=True):
        yield newest[short]


def _nightly_order(event: Published) -> tuple[int, int]:
    return event.source.number or 0, event.sequence


def _index_files(
    event: Published, platforms: Platforms, base_url: str
) -> Iterator[dict[str, str | int]]:
    for artifact, platform in _archives(event, platforms):
        yield {
            "filename": artifact.filename,
            "arch": platform.versions_json.arch,
            "platform": platform.versions_json.platform,
            "download_url": _url(event, artifact, base_url),
            "sha256": artifact.sha256,
            "size": artifact.size,
        }


def _archives(event: Published, platforms: Platforms) -> Iterator[tuple[Artifact, Platform]]:
    """Yield the archives that indexes list: one a platform, in the format all clients read."""
    for artifact in event.files:
        if artifact.kind is ArtifactKind.ARCHIVE_GZ and artifact.platform is not None:
            where = f"{naming.LEDGER_KEY}: {event.release}"
            yield artifact, known("platform", artifact.platform, platforms, where=where)


def _url(event: Published, artifact: Artifact, base_url: str) -> str:
    key = naming.store_key(event.product, event.release, artifact.filename)
    return naming.public_url(base_url, key)


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("."))


def _short(version: str) -> str:
    return ".".join(version.split(".")[:2])
