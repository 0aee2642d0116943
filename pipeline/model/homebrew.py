"""Homebrew: what the configuration says of formulas and of the tap.

A formula's rules are in Homebrew's Formula Cookbook and its ``brew audit``.
"""

import re
from typing import Annotated, Final

from pydantic import BeforeValidator, Field, StringConstraints
from pydantic_core import PydanticCustomError

from pipeline.model.base import FileName, Model

_FORMULA: Final = r"[a-z][a-z0-9]*([-_.][a-z0-9]+)*"
FormulaName = Annotated[str, StringConstraints(pattern=rf"^{_FORMULA}$", max_length=100)]
"""The name of a formula; also that of its file, which a store can hold."""
AliasName = Annotated[
    str, StringConstraints(pattern=rf"^{_FORMULA}(@[0-9]+(\.[0-9]+)*)?$", max_length=100)
]
"""Another name of a formula: ``pypy3``, or with a version ``pypy@3.11``."""

NOT_REPEATED: Final = "not_repeated"
"""The type of an error about a value that is a secret."""
_SECRET: Final = re.compile(r"(?!ssh://)[^/]*://[^/]*@|ssh://[^/]*:[^/]*@")


class HomebrewTest(Model):
    """A command of the formula's test block, a program of the archive, and its whole output."""

    program: FileName
    arguments: tuple[str, ...]
    stdout: str


class HomebrewConfig(Model):
    """How an interpreter's archive becomes a formula.

    ``formula`` is its name, ``aliases`` are other names; where several formulas want an alias, the
    one of the newest language version has it. ``links`` are programs of the archive's ``bin`` that
    are put on PATH, by the name that they have there. ``caveats`` are told after installation;
    ``{libexec}`` stands for the directory of the unpacked archive. ``source`` has what Homebrew's
    own repository needs, where the interpreter may be proposed to it.
    """

    formula: FormulaName
    aliases: tuple[AliasName, ...] = ()
    description: Annotated[str, StringConstraints(pattern=r"^[A-Z][^\n]*[^.\n]$", max_length=79)]
    links: Annotated[tuple[FileName, ...], Field(min_length=1)]
    caveats: str | None = None
    tests: Annotated[tuple[HomebrewTest, ...], Field(min_length=1)]
    source: "SourceFormulaConfig | None" = None


class SourceFormulaConfig(Model):
    """How the interpreter is built from its source in Homebrew's own repository.

    ``bootstrap`` is the interpreter of ours that translates it; ``build_depends_on``,
    ``depends_on`` and ``uses_from_macos`` are formulas.
    """

    bootstrap: FormulaName
    build_depends_on: tuple[str, ...] = ()
    depends_on: tuple[str, ...] = ()
    uses_from_macos: tuple[str, ...] = ()


def _without_secret(repository: object) -> object:
    """Refuse an address with a password or token: it would stand in git's arguments and errors."""
    if isinstance(repository, str) and _SECRET.match(repository):
        msg = "has a password or token in it. Take it out; git's credential helper knows it"
        raise PydanticCustomError(NOT_REPEATED, msg)
    return repository


class TapConfig(Model):
    """The git repository that is the tap; git itself knows how to reach and authenticate to it.

    ``repository`` has no password or token; only that of ssh may name a user. ``author`` signs the
    commits: ``Name <address>``.
    """

    repository: Annotated[
        str,
        BeforeValidator(_without_secret),
        StringConstraints(pattern=r"^(https|ssh|file)://[^\s]+$"),
    ]
    branch: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._/-]*$")] = "main"
    author: Annotated[str, StringConstraints(pattern=r"^[^<>\n]+ <[^<>@\s]+@[^<>@\s]+>$")]


def formula_class(name: str) -> str:
    """Return the Ruby class that Homebrew looks for in a formula's file: ``Pypy311``."""
    return re.sub(r"[-_.]([a-z0-9])", lambda found: found[1].upper(), name.capitalize())
