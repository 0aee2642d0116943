"""Formulas for Homebrew, as the tap holds them.

Each interpreter that is configured for it has one, of its newest final release, made of the
released archives. Homebrew must find an address in a formula on every system, so where there is
no archive for a system or processor, what the formula depends on says that it is not for that.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final, NamedTuple

from pipeline.errors import ConfigError
from pipeline.model import naming
from pipeline.model.artifacts import Artifact
from pipeline.model.configs import InterpreterConfig
from pipeline.model.homebrew import HomebrewConfig, HomebrewTest, formula_class
from pipeline.model.ledger import Published
from pipeline.model.versions import numbers
from pipeline.publish.projections.definition_archives import shell_words
from pipeline.publish.projections.documents import text_document
from pipeline.publish.projections.formula_sources import (
    Source,
    formula_sources,
    indented,
    stanzas,
)
from pipeline.publish.projections.latest import LATEST
from pipeline.publish.projections.selection import offered_finals
from pipeline.publish.view import Document, View
from pipeline.templates import rendered, ruby_heredoc_line, ruby_string

FORMULAS: Final = "definitions/homebrew/Formula"
TEMPLATE: Final = "homebrew/formula.rb.jinja"
RUBY_TYPE: Final = "text/x-ruby; charset=utf-8"
LONGEST_LINE: Final = 118
MARK: Final = "# rpython-pipeline: "
"""What begins a formula of ours, before the product and the release."""


class Line(NamedTuple):
    """An interpreter's newest final release of which there is a formula, and what is said of it."""

    event: Published
    config: InterpreterConfig
    homebrew: HomebrewConfig
    sources: tuple[Source, ...]


@dataclass(frozen=True, kw_only=True)
class Formula:
    """A formula: its text, its other names, and the files of *event* whose addresses it has."""

    name: str
    text: str
    aliases: tuple[str, ...]
    event: Published
    files: tuple[Artifact, ...]


def homebrew_formulas(view: View) -> dict[str, Document]:
    """Return the formulas of each product."""
    return {
        f"{formula.event.product}/{FORMULAS}/{formula.name}.rb": text_document(
            formula.text, RUBY_TYPE
        )
        for formula in formulas(view)
    }


def formulas(view: View) -> tuple[Formula, ...]:
    """Return the formulas of all products, by name.

    Raises:
        ConfigError: two interpreters have one formula, or an alias is another formula's name.
    """
    lines = [line for product in view.products for line in formula_lines(view, product)]
    aliases = _aliases(lines)
    found = (
        Formula(
            name=line.homebrew.formula,
            text=_text(view, line),
            aliases=tuple(
                sorted(name for name, of in aliases.items() if of == line.homebrew.formula)
            ),
            event=line.event,
            files=tuple(source.artifact for source in line.sources),
        )
        for line in lines
    )
    return tuple(sorted(found, key=lambda formula: formula.name))


def formula_lines(view: View, product: str) -> Iterator[Line]:
    """Yield the newest final release of each interpreter that has a formula."""
    seen = set()
    for item in offered_finals(view, product):
        event = item.published
        config = view.interpreters.get(event.interpreter)
        if config is None or config.homebrew is None or event.interpreter in seen:
            continue
        if sources := formula_sources(view, event):
            seen.add(event.interpreter)
            yield Line(event, config, config.homebrew, sources)


def common_values(view: View, line: Line) -> dict[str, object]:
    """Return what every formula's template is told."""
    return {
        "mark": f"{MARK}{line.event.product}/{line.event.release}",
        "class": formula_class(line.homebrew.formula),
        "description": line.homebrew.description,
        "homepage": line.config.homepage,
        "license": line.config.license,
        "latest": naming.public_url(view.base_url, f"{line.event.product}/{LATEST}"),
        "interpreter": line.event.interpreter,
        "links": line.homebrew.links,
        "tests": tuple(
            text for test in line.homebrew.tests for text in _assertion(line.homebrew, test)
        ),
    }


def _aliases(lines: Iterable[Line]) -> dict[str, str]:
    """Return which formula each alias leads to: that of the newest language version."""
    owners: dict[str, str] = {}
    found: dict[str, str] = {}
    for line in sorted(lines, key=lambda line: numbers(line.event.language_version)):
        name, interpreter = line.homebrew.formula, line.event.interpreter
        if owners.setdefault(name, interpreter) != interpreter:
            msg = (
                f"{interpreter}.toml: key homebrew.formula: {name} is that of {owners[name]}. "
                "Give one of them another."
            )
            raise ConfigError(msg)
        found |= dict.fromkeys(line.homebrew.aliases, name)
    for alias in sorted(found.keys() & owners.keys()):
        msg = (
            f"{owners[found[alias]]}.toml: key homebrew.aliases: {alias} is the formula of "
            f"{owners[alias]}. Remove the alias."
        )
        raise ConfigError(msg)
    return found


def _text(view: View, line: Line) -> str:
    found = stanzas(line.sources)
    values = {
        **common_values(view, line),
        "url": found.top.url,
        "sha256": found.top.artifact.sha256,
        "version": str(line.event.interpreter_version),
        "limits": indented(found.limits),
        "blocks": tuple(indented(block) for block in found.blocks),
        "caveats": _caveats(line.homebrew),
    }
    return rendered(TEMPLATE, values)


def _caveats(homebrew: HomebrewConfig) -> tuple[str, ...]:
    """Return what is told after installation, as lines of a heredoc."""
    lines = (homebrew.caveats or "").strip().splitlines()
    return tuple(
        "#{opt_libexec}".join(ruby_heredoc_line(part) for part in line.split("{libexec}"))
        for line in lines
    )


def _assertion(homebrew: HomebrewConfig, test: HomebrewTest) -> tuple[str, ...]:
    """Return the lines of a test: two where one would be too long for Homebrew's style."""
    place = "#{bin}" if test.program in homebrew.links else "#{libexec}/bin"
    command = ruby_string(shell_words((test.program, *test.arguments))).removeprefix('"')
    expected = f"assert_equal {ruby_string(test.stdout)},"
    actual = f'shell_output("{place}/{command})'
    if len(f"    {expected} {actual}") <= LONGEST_LINE:
        return (f"{expected} {actual}",)
    return (expected, f"{' ' * len('assert_equal ')}{actual}")
