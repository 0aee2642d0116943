"""Recipes for conda, in rattler-build's form: the released archives, packed anew.

The whole archive goes into a directory of its own, with the program in ``bin``, so that it clashes
with no package of Python's. Its libraries find each other there, and no path is replaced in it.
"""

from typing import Final, NamedTuple

from pipeline.publish.projections.definition_archives import (
    Definable,
    NamedArchive,
    definables,
    program_checks,
)
from pipeline.publish.projections.documents import text_document
from pipeline.publish.projections.selection import glibc_floors
from pipeline.publish.view import Document, View
from pipeline.templates import rendered

RECIPES: Final = "definitions/conda"
TEMPLATE: Final = "conda/recipe.yaml.jinja"
YAML_TYPE: Final = "application/yaml"


class SubdirArchive(NamedTuple):
    """An archive for one subdirectory of a channel; ``needs`` is what it asks of the system."""

    subdir: str
    url: str
    sha256: str
    needs: str | None


def conda_recipes(view: View) -> dict[str, Document]:
    """Return the recipe of each interpreter's newest final release."""
    return {
        f"{product}/{RECIPES}/{item.event.interpreter}/recipe.yaml": text_document(
            recipe(item), YAML_TYPE
        )
        for product in view.products
        for item in definables(view, product, lambda platform: platform.downstream.conda)
    }


def recipe(item: Definable) -> str:
    """Return the text of a recipe."""
    event, config = item.event, item.config
    floors = glibc_floors(event)
    values = {
        "release": event.release,
        "name": event.interpreter,
        "version": str(event.interpreter_version),
        "archives": [
            _subdir(archive, floors.get(archive.platform.identifier)) for archive in item.archives
        ],
        "subdirs": [archive.name for archive in item.archives],
        "program": config.package.executable,
        "checks": program_checks(config, config.package.executable),
        "homepage": config.homepage,
        "license": config.license,
        "summary": config.summary,
    }
    return rendered(TEMPLATE, values)


def _subdir(archive: NamedArchive, floor: str | None) -> SubdirArchive:
    needs = None if floor is None else f"__glibc >={floor}"
    return SubdirArchive(archive.name, archive.url, archive.artifact.sha256, needs)
