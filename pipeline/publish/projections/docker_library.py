"""``docker-library.json``: what the official images of PyPy are made of.

It has the shape of ``versions.json`` in github.com/docker-library/pypy: by Python version the
archives of its newest release, each under bashbrew's name of its architecture. ``get-pip`` and
``variants`` are missing: those are choices of the images' maintainers.
"""

from typing import Any, Final

from pipeline.model.ledger import Published
from pipeline.publish.projections.documents import json_document
from pipeline.publish.projections.selection import (
    KNOWN_IMPLEMENTATIONS,
    offered_finals,
    products_with,
    python_version,
)
from pipeline.publish.view import Document, View

DOCKER_LIBRARY: Final = "definitions/docker-library.json"


def docker_library_input(view: View) -> dict[str, Document]:
    """Return the file of each product that has an implementation of which there are images."""
    return {
        f"{product}/{DOCKER_LIBRARY}": json_document(docker_library(view, product))
        for product in products_with(view, KNOWN_IMPLEMENTATIONS)
    }


def docker_library(view: View, product: str) -> dict[str, dict[str, Any]]:
    """Return by Python version what its images are made of; all archives are of one release."""
    found: dict[str, dict[str, Any]] = {}
    for item in offered_finals(view, product):
        event = item.published
        if event.implementation in KNOWN_IMPLEMENTATIONS:
            found.setdefault(python_version(event), _entry(view, event))
    return found


def _entry(view: View, event: Published) -> dict[str, Any]:
    return {
        "arches": {
            platform.downstream.bashbrew: {
                "sha256": artifact.sha256,
                "url": view.url(event, artifact.filename),
            }
            for artifact, platform in view.archives(event)
            if platform.downstream.bashbrew is not None
        },
        "python": {"major": python_version(event), "version": event.language_version},
        "version": str(event.interpreter_version),
    }
