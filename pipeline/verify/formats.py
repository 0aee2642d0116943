"""Gates on programs and libraries of macOS and Windows. Ids ``MAC..`` and ``WIN..``.

Files are found by their magic numbers, never by name, and read with LIEF. The fields are those of
Apple's ``mach-o/loader.h`` and of Microsoft's PE format.
"""

import posixpath
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from pipeline.model.platforms import MachO
from pipeline.verify.gates import Finding, Gate, Verdict
from pipeline.verify.tree import Tree

if TYPE_CHECKING:
    import lief

# What an entry of a search path begins with that is relative to a file of the archive.
OWN_DIRECTORIES: Final = ("@loader_path", "@executable_path")
RPATH: Final = "@rpath/"


def _macho_machine(tree: Tree) -> Verdict:
    expected = tree.job.platform.binaries.machine
    findings = tuple(
        Finding(file=name, found=f"machine {found}", expected=expected)
        for name, binary in tree.machos
        if (found := binary.header.cpu_type.name) != expected
    )
    return Verdict(measured=f"{len(tree.machos)} Mach-O files", findings=findings)


def _minimum_os(tree: Tree) -> Verdict:
    """Nothing needs a newer macOS than the platform declares."""
    binaries = tree.job.platform.binaries
    if not isinstance(binaries, MachO):
        return Verdict(measured="no Mach-O files")
    declared, found = _numbers(binaries.minimum_os), {}
    for name, binary in tree.machos:
        found[name] = _minimum(binary)
    findings = tuple(
        Finding(
            file=name,
            found=f"needs macOS {_text(needed)}" if needed else "does not say which macOS it needs",
            expected=f"at most the declared {binaries.minimum_os}",
        )
        for name, needed in found.items()
        if not needed or needed > declared
    )
    newest = max(found.values(), default=())
    measured = f"macOS {_text(newest)} (declared {binaries.minimum_os})"
    return Verdict(measured=measured, findings=findings)


def _minimum(binary: "lief.MachO.Binary") -> tuple[int, ...]:
    """Return the oldest macOS of a file, as LC_BUILD_VERSION or LC_VERSION_MIN_MACOSX has it."""
    if (build := binary.build_version) is not None:
        return tuple(build.minos[:2])
    if (least := binary.version_min) is not None:
        return tuple(least.version[:2])
    return ()


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("."))


def _text(version: tuple[int, ...]) -> str:
    return ".".join(map(str, version))


def _macho_needed(tree: Tree) -> Verdict:
    """Every library is the system's and allowed, or in the archive and found there."""
    rules = tree.job.interpreter.verify
    system = set(rules.needed_on.get("darwin", ()))
    findings, seen = [], set()
    for name, binary in tree.machos:
        allowed = system | set(rules.needed_by.get(tree.below_top(name), ()))
        for library in _loaded(binary):
            seen.add(library)
            if library not in allowed and not _is_bundled(tree, name, binary, library):
                expected = f"only {', '.join(sorted(allowed))}, or one that it finds in the archive"
                findings.append(Finding(file=name, found=f"needs {library}", expected=expected))
    return Verdict(measured=f"{len(seen)} libraries", findings=tuple(findings))


def _loaded(binary: "lief.MachO.Binary") -> Iterator[str]:
    """Yield the libraries that a file loads; its own name (LC_ID_DYLIB) is among LIEF's list."""
    for library in binary.libraries:
        if library.command.name != "ID_DYLIB":
            yield str(library.name)


def _is_bundled(tree: Tree, name: str, binary: "lief.MachO.Binary", library: str) -> bool:
    places = [library]
    if library.startswith(RPATH):
        rest = library.removeprefix(RPATH)
        places = [f"{rpath.path}/{rest}" for rpath in binary.rpaths]
    meant = (_meant(tree, name, place) for place in places)
    return any(place is not None and (tree.root.parent / place).is_file() for place in meant)


def _meant(tree: Tree, name: str, place: str) -> str | None:
    """Return the path in the archive that a path of a Mach-O file means, or None if it is outside.

    Programs are in ``bin``, so that is what ``@executable_path`` means.
    """
    first, _, rest = place.partition("/")
    if first not in OWN_DIRECTORIES:
        return None
    start = posixpath.dirname(name) if first == "@loader_path" else f"{tree.job.stem}/bin"
    meant = posixpath.normpath(posixpath.join(start, rest))
    return meant if meant.split("/", 1)[0] == tree.job.stem else None


def _macho_paths(tree: Tree) -> Verdict:
    findings = tuple(
        Finding(
            file=name,
            found=f"searches {rpath.path!r}",
            expected="nothing, or @loader_path and directories of the archive",
        )
        for name, binary in tree.machos
        for rpath in binary.rpaths
        if _meant(tree, name, str(rpath.path)) is None
    )
    return Verdict(measured="directories of the archive, or none", findings=findings)


def _pe_machine(tree: Tree) -> Verdict:
    expected = tree.job.platform.binaries.machine
    findings = tuple(
        Finding(file=name, found=f"machine {found}", expected=expected)
        for name, binary in tree.pes
        if (found := binary.header.machine.name) != expected
    )
    return Verdict(measured=f"{len(tree.pes)} PE files", findings=findings)


def _pe_needed(tree: Tree) -> Verdict:
    """Every library is the system's and allowed, or in the archive where Windows looks for it.

    That is the directory of the program, which is the archive's top, and the file's own. Windows
    does not distinguish upper and lower case.
    """
    rules = tree.job.interpreter.verify
    system = {library.lower() for library in rules.needed_on.get("windows", ())}
    bundled = {tree.below_top(tree.name(path)).lower() for path in tree.files}
    findings, seen = [], set()
    for name, binary in tree.pes:
        directory = posixpath.dirname(tree.below_top(name)).lower()
        for library in _imported(binary):
            seen.add(library)
            places = {library, posixpath.join(directory, library)}
            if library not in system and places.isdisjoint(bundled):
                expected = f"only {', '.join(sorted(system))}, or one of the archive's"
                findings.append(Finding(file=name, found=f"needs {library}", expected=expected))
    return Verdict(measured=f"{len(seen)} libraries", findings=tuple(findings))


def _imported(binary: "lief.PE.Binary") -> Iterator[str]:
    for library in (*binary.imports, *binary.delay_imports):
        yield str(library.name).lower()


MACHO_GATES: Final[tuple[Gate[Tree], ...]] = (
    Gate(identifier="MAC01", title="machine of every Mach-O file", check=_macho_machine),
    Gate(identifier="MAC02", title="oldest macOS", check=_minimum_os),
    Gate(identifier="MAC03", title="needed libraries on macOS", check=_macho_needed),
    Gate(identifier="MAC04", title="library search paths on macOS", check=_macho_paths),
)
PE_GATES: Final[tuple[Gate[Tree], ...]] = (
    Gate(identifier="WIN01", title="machine of every PE file", check=_pe_machine),
    Gate(identifier="WIN02", title="needed libraries on Windows", check=_pe_needed),
)
FORMAT_GATES: Final[dict[str, tuple[Gate[Tree], ...]]] = {
    "elf": (),
    "macho": MACHO_GATES,
    "pe": PE_GATES,
}
"""By the format of the platform's programs; those on ELF files are in contents and hardening."""
