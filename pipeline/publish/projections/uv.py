"""``uv.json``: uv's download metadata, for ``UV_PYTHON_DOWNLOADS_JSON_URL``.

Keys and values are those of uv's own ``download-metadata.json``.
"""

from collections.abc import Iterator
from typing import Any, Final

from pipeline.model import naming
from pipeline.model.ledger import Published
from pipeline.model.versions import numbers
from pipeline.publish.projections.documents import json_document
from pipeline.publish.projections.selection import KNOWN_IMPLEMENTATIONS, offered_finals
from pipeline.publish.view import Document, View

FULL_PYTHON_VERSION: Final = 3
# uv installs nothing older, and PyPy 2.7 has no lib/pypy2.7/, which it writes into.
UV_OLDEST: Final = (3, 8)


def uv_indexes(view: View) -> dict[str, Document]:
    """Return ``uv.json`` of each product."""
    return {
        f"{product}/{naming.UV_INDEX}": json_document(uv_index(view, product))
        for product in view.products
    }


def uv_index(view: View, product: str) -> dict[str, dict[str, Any]]:
    """Return the newest final release of each language version and platform.

    Only implementations and versions that uv knows are listed; a digest is always given, since
    uv installs an entry without one unverified.
    """
    entries: dict[str, dict[str, Any]] = {}
    for item in offered_finals(view, product):
        if _is_known(item.published):
            for key, entry in _entries(view, item.published):
                entries.setdefault(key, entry)
    return entries


def _is_known(event: Published) -> bool:
    version = numbers(event.language_version)
    return (
        event.implementation in KNOWN_IMPLEMENTATIONS
        and len(version) == FULL_PYTHON_VERSION
        and version >= UV_OLDEST
    )


def _entries(view: View, event: Published) -> Iterator[tuple[str, dict[str, Any]]]:
    major, minor, patch = numbers(event.language_version)
    for artifact, platform in view.archives(event):
        names = platform.uv
        place = f"{names.os}-{names.family}-{names.libc}"
        yield (
            f"{event.implementation}-{event.language_version}-{place}",
            {
                "name": event.implementation,
                "arch": {"family": names.family, "variant": None},
                "os": names.os,
                "libc": names.libc,
                "major": major,
                "minor": minor,
                "patch": patch,
                "prerelease": "",
                "url": view.url(event, artifact.filename),
                "sha256": artifact.sha256,
                "variant": None,
                "build": str(event.interpreter_version),
            },
        )
