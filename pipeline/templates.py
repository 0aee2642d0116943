"""The templates of ``packaging/`` and ``dockerfiles/``, filled in: pure but for reading them."""

import shlex
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Final

from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape

ROOT: Final = Path(__file__).parents[1]
TEMPLATES: Final = (ROOT / "packaging", ROOT / "dockerfiles")


def rendered(template: str, values: Mapping[str, object]) -> str:
    """Return a template filled in, by its path below one of the directories.

    A name that it lacks is an error. What a page says is escaped. Other templates have the filter
    ``quoted``, for shells.
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
