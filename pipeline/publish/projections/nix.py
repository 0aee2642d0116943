"""Expressions for Nix: the released archives, for ``callPackage`` of Nixpkgs.

What an archive needs of the system beyond the C library is told to the hook that sets the paths of
libraries: a library that only some module needs may be missing.
"""

import base64
import shlex
from collections.abc import Iterator
from typing import Final, NamedTuple

from pipeline.model.configs import InterpreterConfig
from pipeline.publish.projections.definition_archives import (
    Definable,
    definables,
    program_checks,
)
from pipeline.publish.projections.documents import TEXT_TYPE, text_document
from pipeline.publish.view import Document, View
from pipeline.templates import rendered

EXPRESSIONS: Final = "definitions/nix"
TEMPLATE: Final = "nix/package.nix.jinja"


class SystemArchive(NamedTuple):
    """An archive for one system; ``hash`` as Nix writes it: ``sha256-`` and Base64."""

    system: str
    url: str
    hash: str


def nix_expressions(view: View) -> dict[str, Document]:
    """Return the expression of each interpreter's newest final release."""
    return {
        f"{product}/{EXPRESSIONS}/{item.event.interpreter}.nix": text_document(
            expression(item), TEXT_TYPE
        )
        for product in view.products
        for item in definables(view, product, lambda platform: platform.downstream.nix)
    }


def expression(item: Definable) -> str:
    """Return the text of an expression."""
    event, config = item.event, item.config
    values = {
        "release": event.release,
        "name": event.interpreter,
        "version": str(event.interpreter_version),
        "archives": [
            SystemArchive(archive.name, archive.url, sri(archive.artifact.sha256))
            for archive in sorted(item.archives)
        ],
        "missing": sorted({name for names in config.verify.needed_by.values() for name in names}),
        "install": tuple(_install(event.interpreter, config)),
        "checks": program_checks(config, f"$out/bin/{shlex.quote(config.package.executable)}"),
        "program": config.package.executable,
        "homepage": config.homepage,
        "license": config.license,
        "summary": config.summary,
    }
    return rendered(TEMPLATE, values)


def sri(sha256: str) -> str:
    """Return a digest in hex as Nix and browsers write it."""
    return f"sha256-{base64.b64encode(bytes.fromhex(sha256)).decode()}"


def _install(name: str, config: InterpreterConfig) -> Iterator[str]:
    directory, program = f"$out/opt/{shlex.quote(name)}", shlex.quote(config.package.executable)
    yield f"mkdir -p $out/bin {directory}"
    yield f"cp -R . {directory}"
    yield f"ln -s {directory}/bin/{program} $out/bin/"
