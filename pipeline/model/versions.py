"""Versions of interpreters: parsed once, ordered once.

Forms, as upstream PyPy names its releases: ``7.3.23`` (final) and ``7.3.23rc2`` (candidate).
"""

import re
from typing import Annotated, Any, Final, NamedTuple

from pydantic import PlainSerializer, PlainValidator, WithJsonSchema

_FORM: Final = re.compile(r"(0|[1-9][0-9]*)\.(0|[1-9][0-9]*)\.(0|[1-9][0-9]*)(?:rc([1-9][0-9]*))?")


class InterpreterVersion(NamedTuple):
    """The version of an interpreter; tuples order as versions do, a candidate before its final."""

    major: int
    minor: int
    micro: int
    final: bool = True
    candidate: int = 0

    @classmethod
    def parse(cls, text: str) -> "InterpreterVersion":
        """Read ``A.B.C`` or ``A.B.CrcN``.

        Raises:
            ValueError: if *text* has another form.
        """
        found = _FORM.fullmatch(text)
        if found is None:
            msg = f"{text!r} is not a version like '7.3.23' or '7.3.23rc1'"
            raise ValueError(msg)
        major, minor, micro, candidate = found.groups()
        return cls(int(major), int(minor), int(micro), candidate is None, int(candidate or 0))

    def __str__(self) -> str:
        suffix = "" if self.final else f"rc{self.candidate}"
        return f"{self.major}.{self.minor}.{self.micro}{suffix}"


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
