"""Gates on the unpacked files: ELF headers, libraries, symbols, leaks, identity.

Ids ``ELF..`` and ``TXT..``. ELF files are found by their magic number, never by name, and read
with LIEF. The fields are those of the System V ABI, symbol versions as in the GNU ABI.
"""

import posixpath
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Final

from pydantic import ValidationError

from pipeline.model import naming
from pipeline.model.base import canonical_json
from pipeline.model.layout import program_path
from pipeline.model.records import BuildInfo
from pipeline.verify.gates import Finding, Gate, Verdict
from pipeline.verify.tree import Tree, is_macho, is_pe

if TYPE_CHECKING:
    import lief

BUILD_PATHS: Final = (
    b"/build/source",
    b"/build/toolchain",
    b"/build/shim",
    b"/build/tmp",
    b"/build/out",
    b"/build/in/",
)
OTHER_FORMATS: Final[dict[str, tuple[str, Callable[[Path], bool]]]] = {
    "macho": ("Mach-O", is_macho),
    "pe": ("PE", is_pe),
}
SHOWN: Final = 8
GLIBC: Final = "GLIBC_"
# musl is one library, and its loader answers to this name wherever it is installed.
MUSL_NAMES: Final = frozenset({"libc.so"})
# A binary with packed relative relocations (DT_RELR) asks for this, which came with glibc 2.36.
LABELS: Final = {"GLIBC_ABI_DT_RELR": "2.36"}


def glibc_floor(tree: Tree) -> str:
    """Return the newest glibc version that any binary needs, like ``2.17``; ``0`` for none."""
    versions = [version for name, _ in tree.binaries for version, _ in _glibc_needs(tree, name)]
    return max(versions, key=_ordered, default="0")


def _glibc_needs(tree: Tree, name: str) -> Iterator[tuple[str, str]]:
    """Yield the glibc versions that a binary needs, each with the library it is from."""
    for requirement in dict(tree.binaries)[name].symbols_version_requirement:
        for auxiliary in requirement.get_auxiliary_symbols():
            label = str(auxiliary.name)
            version = LABELS.get(label, label.removeprefix(GLIBC))
            if label.startswith(GLIBC) and version[:1].isdigit():
                yield version, str(requirement.name)


def _symbols_with(binary: "lief.ELF.Binary", label: str) -> list[str]:
    found = []
    for symbol in binary.dynamic_symbols:
        version = symbol.symbol_version
        auxiliary = version.symbol_version_auxiliary if version is not None else None
        if auxiliary is not None and auxiliary.name == label:
            found.append(str(symbol.name))
    return sorted(found)


def _ordered(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("."))


def _has_binaries(tree: Tree) -> Verdict:
    program = program_path(tree.job.interpreter.package.executable, tree.job.platform)
    interpreter = f"{tree.job.stem}/{program}"
    if (other := OTHER_FORMATS.get(tree.job.platform.binaries.format)) is not None:
        return _is_of_format(interpreter, tree.root / program, *other)
    wrong = set(tree.unreadable)
    if interpreter not in dict(tree.binaries):
        wrong.add(interpreter)
    findings = tuple(
        Finding(file=name, found="not an ELF file that can be read", expected="an ELF file")
        for name in sorted(wrong)
    )
    return Verdict(measured=f"{len(tree.binaries)} ELF files", findings=findings)


def _is_of_format(
    name: str, program: Path, title: str, is_right: Callable[[Path], bool]
) -> Verdict:
    """Elsewhere programs are no ELF files; the other gates on ELF files see nothing there."""
    finding = Finding(file=name, found=f"not a {title} file", expected=f"a {title} file")
    return Verdict(measured=f"a {title} file", findings=() if is_right(program) else (finding,))


def _machine(tree: Tree) -> Verdict:
    expected = tree.job.platform.binaries.machine
    findings = tuple(
        Finding(file=name, found=f"machine {binary.header.machine_type.name}", expected=expected)
        for name, binary in tree.binaries
        if binary.header.machine_type.name != expected
    )
    return Verdict(measured=expected, findings=findings)


def _floor(tree: Tree) -> Verdict:
    """No symbol of a newer glibc than declared is needed; on another C library none of glibc's."""
    declared = tree.job.platform.glibc_floor
    limit = f"the declared floor {declared}" if declared else f"none: {tree.job.platform.libc}"
    findings = []
    for name, binary in tree.binaries:
        for version, library in _glibc_needs(tree, name):
            if _ordered(version) > _ordered(declared or "0"):
                symbols = ", ".join(_symbols_with(binary, f"{GLIBC}{version}")[:5])
                found = f"{symbols} of {library} needs glibc {version}"
                findings.append(Finding(file=name, found=found, expected=f"at most {limit}"))
    measured = f"glibc {glibc_floor(tree)} (declared {declared})" if declared else "no glibc"
    return Verdict(measured=measured, findings=tuple(findings))


def _needed(tree: Tree) -> Verdict:
    """Every library that is needed is the system's and allowed, or in the archive and found."""
    rules, platform = tree.job.interpreter.verify, tree.job.platform
    names = MUSL_NAMES if platform.libc == "musl" else rules.needed
    system = {*names, *filter(None, [platform.loader])}
    findings, seen = [], set()
    for name, binary in tree.binaries:
        allowed = system | set(rules.needed_by.get(tree.below_top(name), ()))
        for library in map(str, binary.libraries):
            seen.add(library)
            if library not in allowed and not _is_bundled(tree, name, binary, library):
                expected = f"only {', '.join(sorted(allowed))}, or one that it finds in the archive"
                findings.append(Finding(file=name, found=f"needs {library}", expected=expected))
    told = ", ".join(sorted(seen)) if len(seen) <= SHOWN else f"{len(seen)} libraries"
    return Verdict(measured=told, findings=tuple(findings))


def _is_bundled(tree: Tree, name: str, binary: "lief.ELF.Binary", library: str) -> bool:
    """Whether *library* is where the binary's own search path leads to in the archive.

    A name with a slash is a path, which the loader does not search for. A module without a search
    path finds what the program that loads it has loaded already.
    """
    if "/" in library:
        return False
    paths = [part for path in _paths_of(binary) for part in path.split(":")]
    places = {_meant(name, part) for part in paths if _stays_inside(tree, name, part)}
    return any((tree.root.parent / place / library).exists() for place in places)


def _meant(name: str, part: str) -> str:
    """Return the directory that an entry ``$ORIGIN/..`` of a search path means."""
    _, slash, rest = part.partition("/")
    return posixpath.normpath(posixpath.join(posixpath.dirname(name), rest if slash else "."))


def _search_paths(tree: Tree) -> Verdict:
    findings = tuple(
        Finding(
            file=name,
            found=f"searches {path!r}",
            expected="nothing, or $ORIGIN and directories of the archive",
        )
        for name, binary in tree.binaries
        for path in _paths_of(binary)
        if not all(_stays_inside(tree, name, part) for part in path.split(":"))
    )
    return Verdict(measured="$ORIGIN or none", findings=findings)


def _paths_of(binary: "lief.ELF.Binary") -> Iterator[str]:
    import lief  # noqa: PLC0415 - as in _parsed

    for entry in binary.dynamic_entries:
        if isinstance(entry, lief.ELF.DynamicEntryRunPath):
            yield str(entry.runpath)
        elif isinstance(entry, lief.ELF.DynamicEntryRpath):
            yield str(entry.rpath)


def _stays_inside(tree: Tree, name: str, part: str) -> bool:
    """Whether an entry of a search path means a directory of the archive."""
    if part.partition("/")[0] != "$ORIGIN":
        return False
    return _meant(name, part).split("/", 1)[0] == tree.job.stem


def _no_build_paths(tree: Tree) -> Verdict:
    findings = []
    known = tree.job.interpreter.verify.build_paths
    for path in tree.files:
        data = path.read_bytes()
        allowed = known.get(tree.below_top(tree.name(path)), ())
        findings += [
            Finding(
                file=tree.name(path),
                found=f"holds {leak.decode()!r} at byte {data.index(leak)}",
                expected="no path of the build environment",
            )
            for leak in BUILD_PATHS
            if leak in data and leak.decode() not in allowed
        ]
    return Verdict(measured=f"{len(tree.files)} files", findings=tuple(findings))


def _identity(tree: Tree) -> Verdict:
    path = tree.root / naming.BUILD_INFO_NAME
    name = f"{tree.job.stem}/{naming.BUILD_INFO_NAME}"
    try:
        found = BuildInfo.model_validate_json(path.read_bytes())
    except (OSError, ValidationError) as error:
        finding = Finding(file=name, found=f"not readable: {error}", expected="a build description")
        return Verdict(measured="", findings=(finding,))
    expected = tree.info.model_dump(mode="json")
    findings = tuple(
        Finding(file=name, found=f"{key} is {value!r}", expected=repr(expected[key]))
        for key, value in found.model_dump(mode="json").items()
        if canonical_json(value) != canonical_json(expected[key])
    )
    return Verdict(measured=f"{found.identifier} {found.interpreter_version}", findings=findings)


CONTENT_GATES: Final[tuple[Gate[Tree], ...]] = (
    Gate(identifier="ELF01", title="the interpreter is a program", check=_has_binaries),
    Gate(identifier="ELF02", title="machine of every binary", check=_machine),
    Gate(identifier="ELF03", title="glibc floor", check=_floor),
    Gate(identifier="ELF04", title="needed libraries", check=_needed),
    Gate(identifier="ELF05", title="library search paths", check=_search_paths),
    Gate(identifier="TXT01", title="no build paths", check=_no_build_paths),
    Gate(identifier="TXT02", title="description matches the plan", check=_identity),
)
