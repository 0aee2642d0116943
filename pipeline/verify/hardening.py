"""Gates on how binaries are linked: exported symbols, and what the loader maps how.

The fields are those of the System V ABI and of the GNU extensions to it (``PT_GNU_STACK``,
``PT_GNU_RELRO``). What a JIT maps at run time is no matter of these: they are about files.
"""

import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Final

from pipeline.model.configs import PyPyPackage
from pipeline.model.layout import library_path, program_path
from pipeline.verify.gates import Finding, Gate, Verdict
from pipeline.verify.tree import Tree

if TYPE_CHECKING:
    import lief

OWN_NAMES: Final = re.compile("pypy|rpy", re.IGNORECASE)
SHOWN: Final = 5
UNDEFINED: Final = 0
EXPORTED_BINDINGS: Final = frozenset({"GLOBAL", "WEAK", "GNU_UNIQUE"})
# Of st_other only these bits are the visibility; ppc64le and aarch64 keep other things in the rest.
VISIBILITY: Final = 0b11
STV_INTERNAL, STV_HIDDEN = 1, 2


def _exported(binary: "lief.ELF.Binary") -> list[str]:
    """Return the names that a binary gives to others, of functions, data and thread-local data.

    LIEF's own list leaves out thread-local and untyped symbols, and has hidden ones.
    """
    return sorted(
        {
            str(symbol.name)
            for symbol in binary.dynamic_symbols
            if symbol.name
            and symbol.shndx != UNDEFINED
            and symbol.binding.name in EXPORTED_BINDINGS
            and symbol.other & VISIBILITY not in {STV_INTERNAL, STV_HIDDEN}
        }
    )


def _interpreter(tree: Tree) -> str:
    """Return the file that holds the interpreter: its shared library, or the program itself."""
    package, platform = tree.job.interpreter.package, tree.job.platform
    path = (
        library_path(package, platform)
        if isinstance(package, PyPyPackage)
        else program_path(package.executable, platform)
    )
    return f"{tree.job.stem}/{path}"


def _exports(tree: Tree) -> Verdict:
    """The names that embedders and debuggers look for are there."""
    if tree.job.platform.binaries.format != "elf":
        return Verdict(measured="no ELF files")
    name = _interpreter(tree)
    binary = dict(tree.binaries).get(name)
    found = set() if binary is None else set(_exported(binary))
    required = tree.job.interpreter.verify.symbols.required
    findings = tuple(
        Finding(file=name, found=f"does not export {symbol}", expected="that it does")
        for symbol in required
        if symbol not in found
    )
    return Verdict(measured=f"{len(required)} of {len(found)} exports", findings=findings)


def _own_names(tree: Tree) -> Verdict:
    """RPython keeps its own functions to itself; a name that gets out can clash."""
    name = _interpreter(tree)
    binary = dict(tree.binaries).get(name)
    own = [] if binary is None else [item for item in _exported(binary) if OWN_NAMES.search(item)]
    leaked = _unmatched(own, tree.job.interpreter.verify.symbols.public)
    return Verdict(
        measured=f"{len(own)} of RPython's names",
        findings=tuple(_listed(name, leaked, "only the names in verify.symbols.public")),
    )


def _hidden(tree: Tree) -> Verdict:
    """A library that is linked into a module must not answer for the system's copy of it."""
    hidden = tree.job.interpreter.verify.symbols.hidden
    findings: list[Finding] = []
    bundled = f"{tree.job.stem}/lib/"
    looked_at = [
        (name, binary)
        for name, binary in tree.binaries
        if "/" in name.removeprefix(bundled) or not name.startswith(bundled)
    ]
    for name, binary in looked_at:
        exported = _exported(binary)
        wrong = [symbol for symbol in exported if not _unmatched_one(symbol, hidden)]
        findings += _listed(name, wrong, "no symbol of a library that is linked in")
    return Verdict(measured=f"{len(looked_at)} binaries", findings=tuple(findings))


def _unmatched(names: Sequence[str], patterns: Sequence[str]) -> list[str]:
    return [name for name in names if _unmatched_one(name, patterns)]


def _unmatched_one(name: str, patterns: Sequence[str]) -> bool:
    return not any(re.fullmatch(pattern, name) for pattern in patterns)


def _listed(name: str, symbols: Sequence[str], expected: str) -> Iterator[Finding]:
    if symbols:
        more = f" and {len(symbols) - SHOWN} more" if len(symbols) > SHOWN else ""
        found = f"exports {', '.join(symbols[:SHOWN])}{more}"
        yield Finding(file=name, found=found, expected=expected)


def _segments(binary: "lief.ELF.Binary", kind: str) -> "list[lief.ELF.Segment]":
    return [segment for segment in binary.segments if segment.type.name == kind]


def _flags(segment: "lief.ELF.Segment") -> str:
    """Return a segment's flags as readelf prints them: ``R``, ``W`` and ``E``."""
    return "".join(
        letter for letter, bit in (("R", 4), ("W", 2), ("E", 1)) if segment.flags.value & bit
    )


def _relro(tree: Tree) -> Verdict:
    findings = tuple(
        Finding(file=name, found="no PT_GNU_RELRO", expected="relocations read-only after loading")
        for name, binary in tree.binaries
        if not _segments(binary, "GNU_RELRO")
    )
    return Verdict(measured=f"{len(tree.binaries)} binaries", findings=findings)


def _stack(tree: Tree) -> Verdict:
    findings = []
    for name, binary in tree.binaries:
        found = [_flags(segment) for segment in _segments(binary, "GNU_STACK")]
        if not found or any("E" in flags for flags in found):
            what = f"stack {found[0]}" if found else "no PT_GNU_STACK"
            findings.append(
                Finding(file=name, found=what, expected="a stack that is not executable")
            )
    return Verdict(measured=f"{len(tree.binaries)} binaries", findings=tuple(findings))


def _text_relocations(tree: Tree) -> Verdict:
    findings = tuple(
        Finding(
            file=name, found=f"has {tag}", expected="code that is not changed when it is loaded"
        )
        for name, binary in tree.binaries
        for tag in _text_relocation_tags(binary)
    )
    return Verdict(measured=f"{len(tree.binaries)} binaries", findings=findings)


def _text_relocation_tags(binary: "lief.ELF.Binary") -> Iterator[str]:
    """Yield what says that code is relocated: an entry, or a flag of another (DF_TEXTREL)."""
    import lief  # noqa: PLC0415 - slow to load, as in pipeline.verify.tree

    for entry in binary.dynamic_entries:
        if entry.tag == lief.ELF.DynamicEntry.TAG.TEXTREL:
            yield "DT_TEXTREL"
        elif isinstance(entry, lief.ELF.DynamicEntryFlags) and entry.has(
            lief.ELF.DynamicEntryFlags.FLAG.TEXTREL
        ):
            yield "DF_TEXTREL"


def _writable_code(tree: Tree) -> Verdict:
    findings = tuple(
        Finding(
            file=name,
            found=f"segment at {segment.virtual_address:#x} is {_flags(segment)}",
            expected="no segment that is both writable and executable",
        )
        for name, binary in tree.binaries
        for segment in _segments(binary, "LOAD")
        if {"W", "E"} <= set(_flags(segment))
    )
    return Verdict(measured=f"{len(tree.binaries)} binaries", findings=findings)


HARDENING_GATES: Final[tuple[Gate[Tree], ...]] = (
    Gate(identifier="ELF06", title="required exports", check=_exports),
    Gate(identifier="ELF07", title="RPython's names stay hidden", check=_own_names),
    Gate(identifier="ELF08", title="linked-in libraries stay hidden", check=_hidden),
    Gate(identifier="ELF09", title="relocations read-only", check=_relro),
    Gate(identifier="ELF10", title="no executable stack", check=_stack),
    Gate(identifier="ELF11", title="no text relocations", check=_text_relocations),
    Gate(identifier="ELF12", title="no writable code", check=_writable_code),
)
