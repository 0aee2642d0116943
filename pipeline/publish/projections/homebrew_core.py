"""Formulas to propose to Homebrew's own repository, which takes no binaries of others.

They build the interpreter from our source archive, with a released interpreter of ours to
translate it. A person reads and proposes them; no client does. Where one of the two is missing,
there is none.
"""

from collections.abc import Iterator
from typing import Final

from pipeline.model.artifacts import Artifact, ArtifactKind
from pipeline.model.configs import PyPyPackage
from pipeline.model.homebrew import SourceFormulaConfig
from pipeline.model.ledger import Published
from pipeline.publish.projections.documents import text_document
from pipeline.publish.projections.formula_sources import (
    Source,
    formula_sources,
    indented,
    resource_limits,
    resource_lines,
)
from pipeline.publish.projections.homebrew import RUBY_TYPE, Line, common_values, formula_lines
from pipeline.publish.projections.selection import newest_finals
from pipeline.publish.view import Document, View
from pipeline.templates import rendered, ruby_string

SOURCE_FORMULAS: Final = "definitions/homebrew-core"
TEMPLATE: Final = "homebrew/source_formula.rb.jinja"
LINUX_ONLY: Final = "depends_on :linux"
UNQUOTED: Final = str.maketrans("", "", '":')


def source_formulas(view: View) -> dict[str, Document]:
    """Return the formulas of each product."""
    return {
        f"{product}/{SOURCE_FORMULAS}/{line.homebrew.formula}.rb": text_document(text, RUBY_TYPE)
        for product in view.products
        for line in formula_lines(view, product)
        for text in _texts(view, line)
    }


def _texts(view: View, line: Line) -> Iterator[str]:
    """Yield the formula, if the ledger has all that it needs."""
    config, package = line.homebrew.source, line.config.package
    archive = source_archive(line.event)
    if config is None or archive is None or not isinstance(package, PyPyPackage):
        return
    bootstrap = _bootstrap(view, line.event.product, config)
    if bootstrap:
        yield _text(view, line, archive, package, config, bootstrap)


def source_archive(event: Published) -> Artifact | None:
    """Return a release's archive of its source."""
    return next((item for item in event.files if item.kind is ArtifactKind.SOURCE_GZ), None)


def dependencies(config: SourceFormulaConfig, limits: tuple[str, ...]) -> tuple[str, ...]:
    """Return what the formula depends on, in the order of Homebrew's style.

    What macOS has is a dependency like others where the formula is for Linux only.
    """
    is_for_linux = LINUX_ONLY in limits
    names = (*config.depends_on, *(config.uses_from_macos if is_for_linux else ()))
    lines = (*(f"depends_on {ruby_string(name)}" for name in names), *limits)
    uses = () if is_for_linux else config.uses_from_macos
    return (
        *(f"depends_on {ruby_string(name)} => :build" for name in sorted(config.build_depends_on)),
        *sorted(lines, key=lambda line: line.translate(UNQUOTED)),
        *(f"uses_from_macos {ruby_string(name)}" for name in sorted(uses)),
    )


def _bootstrap(view: View, product: str, config: SourceFormulaConfig) -> tuple[Source, ...]:
    """Return the archives of the newest release of what translates."""
    release = newest_finals(view, product).get(config.bootstrap)
    return () if release is None else formula_sources(view, release.published)


def _text(
    view: View,
    line: Line,
    archive: Artifact,
    package: PyPyPackage,
    config: SourceFormulaConfig,
    bootstrap: tuple[Source, ...],
) -> str:
    translation = line.config.translation
    found = resource_limits(bootstrap)
    values = {
        **common_values(view, line),
        "url": view.url(line.event, archive.filename),
        "sha256": archive.sha256,
        "dependencies": dependencies(config, found.limits),
        "blocks": tuple(indented(block) for block in found.blocks),
        "bootstrap": indented(resource_lines(bootstrap), 2),
        "bootstrap_program": view.interpreters[config.bootstrap].package.executable,
        "directory": translation.directory,
        "options": (
            "--batch",
            f"--gc={translation.gc}",
            f"--opt={'jit' if translation.jit else 2}",
        ),
        "rpython_target": translation.rpython_target,
        "packager": package.packager,
    }
    return rendered(TEMPLATE, values)
