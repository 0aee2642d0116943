"""``versions.json``: what setup-python, docker-library, cibuildwheel and uv's generator read.

It has upstream's schema and rules (an array, newest first; the keys of
downloads.python.org/pypy/versions.json), and more keys, which the readers we know ignore: of each
file ``sha256``, ``size`` and ``glibc_floor``, of each entry ``checksums`` and ``signature``.

These readers take every entry for one that may be installed, whatever a further key says. So a
yanked release is not here at all, but in ``yanked.json``. Platforms that they do not know are left
out too: docker-library's script stops at an architecture that it has no name for.
"""

from collections.abc import Iterator
from typing import Any

from pipeline.model import naming
from pipeline.model.ledger import Published, Release, nightly_order
from pipeline.model.versions import numbers
from pipeline.publish.projections.documents import json_document
from pipeline.publish.projections.selection import (
    announced_on,
    glibc_floors,
    newest_nightlies,
    offered_releases,
    python_version,
)
from pipeline.publish.view import Document, View


def versions_indexes(view: View) -> dict[str, Document]:
    """Return ``versions.json`` of each product."""
    return {
        f"{product}/{naming.VERSIONS_INDEX}": json_document(versions_index(view, product))
        for product in view.products
    }


def versions_index(view: View, product: str) -> list[dict[str, Any]]:
    """Return the entries, nightlies last.

    ``latest_pypy`` is true on the newest final release of each full language version.
    """
    releases = [item for item in offered_releases(view, product) if _is_known(view, item)]
    latest: dict[str, Release] = {}
    for item in releases:
        if item.published.stable:
            latest.setdefault(item.published.language_version, item)
    entries = [
        _entry(view, item, is_latest=latest.get(item.published.language_version) is item)
        for item in releases
    ]
    return entries + [_nightly_entry(view, item) for item in _nightlies(view, product)]


def _is_known(view: View, release: Release) -> bool:
    """Whether there is an archive for a platform that the readers know."""
    return any(platform.versions_json for _, platform in view.archives(release.published))


def _entry(view: View, release: Release, *, is_latest: bool) -> dict[str, Any]:
    event = release.published
    return {
        "pypy_version": str(event.interpreter_version),
        "python_version": event.language_version,
        "stable": event.stable,
        "latest_pypy": is_latest,
        "date": announced_on(release),
        **_common(view, event),
    }


def _nightly_entry(view: View, release: Release) -> dict[str, Any]:
    """Return a nightly's entry; as upstream's it has a short language version and no date."""
    event = release.published
    return {
        "pypy_version": "nightly",
        "python_version": python_version(event),
        "stable": False,
        "latest_pypy": False,
        **_common(view, event),
    }


def _common(view: View, event: Published) -> dict[str, Any]:
    return {
        "checksums": view.url(event, naming.CHECKSUMS_NAME),
        "signature": view.url(event, naming.SIGNATURE_NAME),
        "files": list(_files(view, event)),
    }


def _files(view: View, event: Published) -> Iterator[dict[str, str | int]]:
    floors = glibc_floors(event)
    for artifact, platform in view.archives(event):
        names = platform.versions_json
        if names is None:
            continue
        file: dict[str, str | int] = {
            "filename": artifact.filename,
            "arch": names.arch,
            "platform": names.platform,
            "download_url": view.url(event, artifact.filename),
            "sha256": artifact.sha256,
            "size": artifact.size,
        }
        floor = floors.get(platform.identifier)
        yield file if floor is None else {**file, "glibc_floor": floor}


def _nightlies(view: View, product: str) -> list[Release]:
    """Return the newest nightly of each short language version, newest language first."""
    newest: dict[str, Release] = {}
    found = [item for item in newest_nightlies(view, product).values() if _is_known(view, item)]
    for item in sorted(found, key=lambda item: nightly_order(item.published)):
        newest[python_version(item.published)] = item
    return [newest[version] for version in sorted(newest, key=numbers, reverse=True)]
