"""What definitions for conda and Nix are made of: archives, and how to try them. Pure."""

import re
import shlex
from collections.abc import Callable, Iterable, Iterator
from typing import Final, NamedTuple

from pipeline.model.artifacts import Artifact
from pipeline.model.configs import InterpreterConfig, SmokeTest
from pipeline.model.ledger import Published
from pipeline.model.platforms import Platform
from pipeline.publish.projections.selection import newest_finals
from pipeline.publish.view import View

PROGRAM_GATE: Final = "RUN01"
"""The gate whose tests only run the program."""
ROOT: Final = "{root}"
UNSAFE_IN_DOUBLE: Final = re.compile(r'["$`\\!]')


class NamedArchive(NamedTuple):
    """The archive for one platform, under an ecosystem's ``name`` of that platform."""

    name: str
    url: str
    artifact: Artifact
    platform: Platform


class Definable(NamedTuple):
    """An interpreter's newest final release, and its archives for what an ecosystem knows."""

    event: Published
    config: InterpreterConfig
    archives: tuple[NamedArchive, ...]


def definables(
    view: View, product: str, name_of: Callable[[Platform], str | None]
) -> Iterator[Definable]:
    """Yield the releases that can be defined: of configured interpreters, with known platforms."""
    for interpreter, item in newest_finals(view, product).items():
        config = view.interpreters.get(interpreter)
        archives = tuple(_named(view, item.published, name_of))
        if config is not None and archives:
            yield Definable(item.published, config, archives)


def program_checks(config: InterpreterConfig, place: str) -> tuple[str, ...]:
    """Return commands of a shell which fail where the interpreter does not work.

    They are the smoke tests that need nothing but its program, which is at *place*.
    """
    program = f"{ROOT}/bin/{config.package.executable}"
    return tuple(
        f'test "$({place} {shell_words(test.argv[1:])})" = {shlex.quote(test.stdout.rstrip())}'
        for test in config.verify.smoke
        if test.stdout is not None and _is_simple(test, program)
    )


def shell_words(words: Iterable[str]) -> str:
    """Return *words* for a shell, in double quotes where that is enough and single ones are not."""
    return " ".join(
        f'"{word}"' if "'" in word and not UNSAFE_IN_DOUBLE.search(word) else shlex.quote(word)
        for word in words
    )


def _is_simple(test: SmokeTest, program: str) -> bool:
    places = any("{" in word for word in test.argv[1:])
    return (test.gate, test.status, test.argv[0], places) == (PROGRAM_GATE, 0, program, False)


def _named(
    view: View, event: Published, name_of: Callable[[Platform], str | None]
) -> Iterator[NamedArchive]:
    for artifact, platform in view.archives(event):
        if (name := name_of(platform)) is not None:
            yield NamedArchive(name, view.url(event, artifact.filename), artifact, platform)
