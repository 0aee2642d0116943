"""Definitions for pyenv's python-build, by the names that pyenv gives to versions.

Such a definition is a shell script that calls python-build's functions; python-build reads them
from a directory that ``PYTHON_BUILD_DEFINITIONS`` names. Its names of platforms are what its
function ``pypy_architecture`` says. It checks the digest behind ``#``, and moves the archive's top
directory into place.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from pipeline.model import naming
from pipeline.model.artifacts import Artifact
from pipeline.model.ledger import Published
from pipeline.model.platforms import MachO, Platform
from pipeline.publish.projections.documents import text_document
from pipeline.publish.projections.selection import (
    KNOWN_IMPLEMENTATIONS,
    newest_nightlies,
    offered_finals,
    python_version,
)
from pipeline.publish.view import Document, View
from pipeline.templates import rendered

TEMPLATE: Final = "pyenv/definition.sh.jinja"
# Python 2.7's pip is too old for the options that python-build gives to ensurepip otherwise.
ENSUREPIP: Final = {"2.7": "ensurepip_lt21"}


@dataclass(frozen=True, kw_only=True)
class Archive:
    """What python-build must know of one platform's archive.

    ``architecture`` is its name of the platform, ``minimum_os`` the oldest macOS.
    """

    architecture: str
    directory: str
    url: str
    sha256: str
    minimum_os: str | None


def pyenv_definitions(view: View) -> dict[str, Document]:
    """Return a definition of each offered final release, and of each newest nightly."""
    found = {}
    for product in view.products:
        events = {
            f"{item.published.interpreter}-{item.published.interpreter_version}": item.published
            for item in offered_finals(view, product)
        }
        nightlies = newest_nightlies(view, product)
        events |= {f"{name}-nightly": item.published for name, item in nightlies.items()}
        for name, event in events.items():
            archives = tuple(_archives(view, event))
            if event.implementation in KNOWN_IMPLEMENTATIONS and archives:
                key = f"{product}/definitions/pyenv/{name}"
                found[key] = text_document(definition(event, archives))
    return found


def definition(event: Published, archives: tuple[Archive, ...]) -> str:
    """Return the text of a definition."""
    python, is_nightly = python_version(event), event.channel == "nightly"
    values = {
        "release": event.release,
        "version": f"nightly-{event.source.number}" if is_nightly else event.interpreter_version,
        "python_version": python,
        "archives": archives,
        "ensurepip": ENSUREPIP.get(python, "ensurepip"),
    }
    return rendered(TEMPLATE, values)


def _archives(view: View, event: Published) -> Iterator[Archive]:
    for artifact, platform in view.archives(event):
        architecture = platform.downstream.pyenv
        if architecture is not None:
            yield _archive(view, event, artifact, platform, architecture)


def _archive(
    view: View, event: Published, artifact: Artifact, platform: Platform, architecture: str
) -> Archive:
    binaries = platform.binaries
    return Archive(
        architecture=architecture,
        directory=archive_directory(artifact, platform),
        url=view.url(event, artifact.filename),
        sha256=artifact.sha256,
        minimum_os=binaries.minimum_os if isinstance(binaries, MachO) else None,
    )


def archive_directory(artifact: Artifact, platform: Platform) -> str:
    """Return the one top directory of an archive."""
    return artifact.filename.removesuffix(naming.ARCHIVE_SUFFIXES[platform.os][artifact.kind])
