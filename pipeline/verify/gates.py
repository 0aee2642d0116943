"""What a gate is: a permanent id, a title, and a check that measures and finds."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from pipeline.errors import GateError
from pipeline.model.records import GateResult

S = TypeVar("S")


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One thing that is not as expected: in which file, what is there, what should be."""

    file: str
    found: str
    expected: str


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What a gate measured, and what it found wrong; it passes if that is nothing."""

    measured: str
    findings: tuple[Finding, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Gate(Generic[S]):
    """A check of a subject. Its id is permanent: people search for it and tests refer to it."""

    identifier: str
    title: str
    check: Callable[[S], Verdict]


def check_gates(gates: Sequence[Gate[S]], subject: S) -> tuple[list[GateResult], list[str]]:
    """Check all *gates*; return what passed, and a line for each finding."""
    passed, failures = [], []
    for gate in gates:
        verdict = gate.check(subject)
        if not verdict.findings:
            passed.append(
                GateResult(gate=gate.identifier, title=gate.title, measured=verdict.measured)
            )
        failures += [
            f"{gate.identifier} {gate.title}: {item.file}: {item.found}; expected {item.expected}"
            for item in verdict.findings
        ]
    return passed, failures


def stop_on(failures: Iterable[str]) -> None:
    """Raise GateError if there are *failures*; each names gate, file, finding and expectation."""
    if lines := list(failures):
        count = f"{len(lines)} gate finding{'s' if len(lines) > 1 else ''}"
        msg = f"{count}; nothing is signed or published.\n" + "\n".join(lines)
        raise GateError(msg)
