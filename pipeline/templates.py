"""The templates of ``packaging/`` and ``dockerfiles/``, filled in: pure but for reading them."""

import json
import re
import shlex
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Final

from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape

ROOT: Final = Path(__file__).parents[1]
TEMPLATES: Final = (ROOT / "packaging", ROOT / "dockerfiles")

WORKFLOWS: Final = "workflows/"
"""Where templates have ``<% %>`` and ``<%= %>``, since braces are GitHub's own in workflows."""


def rendered(template: str, values: Mapping[str, object]) -> str:
    """Return a template filled in, by its path below one of the directories.

    A name that it lacks is an error. What a page says is escaped. Other templates have filters
    that write a string as a literal: ``quoted`` for shells, ``ruby``, ``nix`` and ``recipe``.
    """
    of_workflows = template.startswith(WORKFLOWS)
    environment = _workflow_environment() if of_workflows else _environment()
    return environment.get_template(template).render(values)


def ruby_string(text: str) -> str:
    """Return *text* as a literal of Ruby, in which nothing is interpolated."""
    return f'"{_ruby_escaped(text, quote=True)}"'


def ruby_heredoc_line(text: str) -> str:
    """Return a line as it stands in a heredoc of Ruby that is ended by ``EOS``."""
    line = _ruby_escaped(text, quote=False)
    return line.replace("EOS", "\\x45OS") if line.strip() == "EOS" else line


def _ruby_escaped(text: str, *, quote: bool) -> str:
    # A hash sign interpolates only before these; escaped elsewhere, Homebrew's style complains.
    text = text.replace("\\", "\\\\").replace('"', '\\"' if quote else '"')
    text = re.sub(r"#(?=[{$@])", r"\\#", text)
    return _escaped(text, {"\n": "\\n", "\t": "\\t"}, "\\u{{{:x}}}")


def nix_string(text: str) -> str:
    """Return *text* as a literal of Nix, in which nothing is interpolated.

    Nix has escapes for line feeds, carriage returns and tabs only; all else stands for itself.
    """
    text = text.replace("\\", "\\\\").replace('"', '\\"').replace("${", "\\${")
    for character, escape in (("\n", "\\n"), ("\r", "\\r"), ("\t", "\\t")):
        text = text.replace(character, escape)
    return f'"{text}"'


def recipe_string(text: str) -> str:
    """Return *text* as a string of a conda recipe, whose expressions in ``${{ }}`` are evaluated.

    YAML takes any string of JSON; what is not to be printed must be escaped for it.
    """
    literal = json.dumps(text.replace("${{", "${{ '$' }}{{"), ensure_ascii=False)
    return _escaped(literal, {}, "\\U{:08x}")


def _escaped(text: str, known: Mapping[str, str], form: str) -> str:
    """Return *text* with *known* escapes, and *form* for other characters without a glyph."""
    return "".join(
        known.get(character)
        or (character if character.isprintable() else form.format(ord(character)))
        for character in text
    )


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
    environment.filters |= {
        "quoted": shlex.quote,
        "ruby": ruby_string,
        "heredoc": ruby_heredoc_line,
        "nix": nix_string,
        "recipe": recipe_string,
    }
    return environment


@cache
def _workflow_environment() -> Environment:
    return _environment().overlay(
        block_start_string="<%",
        block_end_string="%>",
        variable_start_string="<%=",
        variable_end_string="%>",
        comment_start_string="<%#",
        comment_end_string="%>",
    )
