"""Homebrew: what the configuration says of formulas and of the tap.

A formula's rules are in Homebrew's Formula Cookbook and its ``brew audit``.
"""

from typing import Annotated

from pydantic import Field, StringConstraints

from pipeline.model.base import FileName, Model, Name


class HomebrewTest(Model):
    """A command of the formula's test block, a program of the archive, and its whole output."""

    program: FileName
    arguments: tuple[str, ...]
    stdout: str


class HomebrewConfig(Model):
    """How an interpreter's archive becomes a formula.

    ``formula`` is its name, ``aliases`` are other names. ``links`` are programs of the archive's
    ``bin`` that are put on PATH, by the name that they have there.
    """

    formula: Name
    aliases: tuple[Name, ...] = ()
    description: Annotated[str, StringConstraints(pattern=r"^[A-Z][^\n]*[^.\n]$", max_length=79)]
    links: Annotated[tuple[FileName, ...], Field(min_length=1)]
    tests: Annotated[tuple[HomebrewTest, ...], Field(min_length=1)]


class TapConfig(Model):
    """The git repository that is the tap; git itself knows how to reach and authenticate to it.

    ``author`` signs the commits: ``Name <address>``.
    """

    repository: Annotated[str, StringConstraints(pattern=r"^(https|ssh|file)://[^\s]+$")]
    branch: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._/-]*$")] = "main"
    author: Annotated[str, StringConstraints(pattern=r"^[^<>\n]+ <[^<>@\s]+@[^<>@\s]+>$")]
