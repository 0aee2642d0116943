"""Versions of interpreters, their tags and their nightlies: parsed once, ordered once.

Forms, as upstream PyPy names them: ``7.3.23`` (final), ``7.3.23rc2`` (candidate) and, for a source
that is on its way to a release, ``8.0.0a0`` (alpha) and ``8.0.0b1`` (beta). In the source the
same version is a tuple ``(7, 3, 23, "candidate", 2)`` and in its C headers ``7.3.23-candidate2``.
"""

import re
from enum import IntEnum
from typing import Annotated, Any, Final, NamedTuple

from pydantic import PlainSerializer, PlainValidator, WithJsonSchema

_NUMBER: Final = r"(0|[1-9][0-9]*)"
_FORM: Final = re.compile(rf"{_NUMBER}\.{_NUMBER}\.{_NUMBER}(?:(a|b|rc){_NUMBER})?")
_NIGHTLY: Final = re.compile(r"(?P<prefix>.+)-(?P<number>[0-9]+)-(?P<revision>[0-9a-f]{12})")


class Level(IntEnum):
    """How far a version is from its release, in the source's words; orders as versions do."""

    ALPHA = 0
    BETA = 1
    CANDIDATE = 2
    FINAL = 3


_SHORT: Final = {Level.ALPHA: "a", Level.BETA: "b", Level.CANDIDATE: "rc", Level.FINAL: ""}


class InterpreterVersion(NamedTuple):
    """The version of an interpreter; tuples order as versions do, a candidate before its final."""

    major: int
    minor: int
    micro: int
    level: Level = Level.FINAL
    serial: int = 0

    @classmethod
    def parse(cls, text: str) -> "InterpreterVersion":
        """Read ``A.B.C``, ``A.B.CrcN``, ``A.B.CbN`` or ``A.B.CaN``.

        Raises:
            ValueError: if *text* has another form; there is no candidate 0.
        """
        found = _FORM.fullmatch(text)
        if found is None or (found[4], found[5]) == ("rc", "0"):
            msg = f"{text!r} is not a version like '7.3.23' or '7.3.23rc1'"
            raise ValueError(msg)
        level = next(level for level, short in _SHORT.items() if short == (found[4] or ""))
        return cls(int(found[1]), int(found[2]), int(found[3]), level, int(found[5] or 0))

    @classmethod
    def from_source(cls, value: object) -> "InterpreterVersion":
        """Read the tuple that a source has: ``(7, 3, 23, "final", 0)``.

        A final version's serial number means nothing (PyPy 2.7 has written 42) and becomes 0.

        Raises:
            ValueError: if *value* is no such tuple.
        """
        match value:
            case (int(major), int(minor), int(micro), str(word), int(serial)) if (
                word.upper() in Level.__members__
                and min(major, minor, micro, serial) >= 0
                and (word.upper(), serial) != (Level.CANDIDATE.name, 0)
            ):
                level = Level[word.upper()]
                return cls(major, minor, micro, level, 0 if level is Level.FINAL else serial)
        msg = f"{value!r} is not a version tuple like (7, 3, 23, 'final', 0)"
        raise ValueError(msg)

    @property
    def final(self) -> bool:
        """Whether this is no candidate, beta or alpha."""
        return self.level is Level.FINAL

    @property
    def in_headers(self) -> str:
        """The same version as C headers and ``sys.version`` spell it: ``7.3.23-candidate2``."""
        suffix = "" if self.final else f"-{self.level.name.lower()}{self.serial}"
        return f"{self.major}.{self.minor}.{self.micro}{suffix}"

    def __str__(self) -> str:
        suffix = "" if self.final else f"{_SHORT[self.level]}{self.serial}"
        return f"{self.major}.{self.minor}.{self.micro}{suffix}"


class Nightly(NamedTuple):
    """The name of a nightly, ``<prefix>-<number>-<first 12 digits>``; orders by its number.

    Upstream's number is the digit 1 and then the count of the revision's ancestors: the digit
    puts them behind the numbers of the time before git.
    """

    number: int
    revision: str
    prefix: str

    @classmethod
    def parse(cls, name: str) -> "Nightly":
        """Read a nightly's name.

        Raises:
            ValueError: if *name* has another form.
        """
        found = _NIGHTLY.fullmatch(name)
        if found is None:
            msg = f"{name!r} is not the name of a nightly like 'pypy-c-jit-187671-194f9f44b505'"
            raise ValueError(msg)
        return cls(int(found["number"]), found["revision"], found["prefix"])

    def __str__(self) -> str:
        return f"{self.prefix}-{self.number}-{self.revision}"


def nightly_number(ancestors: int) -> int:
    """Return the number of a nightly whose revision has so many *ancestors* (itself counted)."""
    return int(f"1{ancestors}")


def tag_for(pattern: str, version: InterpreterVersion) -> str:
    """Return the tag of *version*: *pattern* with its ``{version}`` filled in."""
    return pattern.replace("{version}", str(version))


def version_of_tag(pattern: str, tag: str) -> InterpreterVersion | None:
    """Return the version that *tag* is of, or None if *pattern* does not make that tag."""
    before, _, after = pattern.partition("{version}")
    if not (tag.startswith(before) and tag.endswith(after)):
        return None
    try:
        return InterpreterVersion.parse(tag[len(before) : len(tag) - len(after)])
    except ValueError:
        return None


def numbers(version: str) -> tuple[int, ...]:
    """Return what language versions, as ``3.11.15``, are ordered by."""
    return tuple(int(part) for part in version.split("."))


def _validated(value: Any) -> InterpreterVersion:
    if isinstance(value, InterpreterVersion):
        return value
    if not isinstance(value, str):
        msg = "a version is written as a string, like '7.3.23'"
        raise ValueError(msg)  # noqa: TRY004 - pydantic reports ValueError as a validation error
    return InterpreterVersion.parse(value)


VersionField = Annotated[
    InterpreterVersion,
    PlainValidator(_validated),
    PlainSerializer(str, return_type=str),
    WithJsonSchema({"type": "string", "pattern": f"^{_FORM.pattern}$"}),
]
"""A version as a field of a model; a string in TOML and JSON."""
