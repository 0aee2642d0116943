"""How documents are written: their types, and the templates of ``packaging/``."""

import shlex
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, Final

from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape

from pipeline.model.base import pretty_json
from pipeline.publish.view import Document

JSON_TYPE: Final = "application/json"
TOML_TYPE: Final = "application/toml"
TEXT_TYPE: Final = "text/plain; charset=utf-8"
HTML_TYPE: Final = "text/html; charset=utf-8"

TEMPLATES: Final = Path(__file__).parents[3] / "packaging"


def json_document(value: Any) -> Document:
    """Return *value* as a document of JSON."""
    return Document(data=pretty_json(value), content_type=JSON_TYPE)


def text_document(text: str, content_type: str = TEXT_TYPE) -> Document:
    """Return *text* as a document."""
    return Document(data=text.encode(), content_type=content_type)


def rendered(template: str, values: Mapping[str, object]) -> str:
    """Return a template of ``packaging/`` filled in; a name that it lacks is an error.

    What a page says is escaped. Other templates have the filter ``quoted``, for shells.
    """
    return _environment().get_template(template).render(values)


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=select_autoescape(["html.jinja"], default=False),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["quoted"] = shlex.quote
    return environment
