"""Gates on which interpreter an archive holds, as its files say.

Ids ``IDN..``, ``LIB..`` and ``DBG..``.

What the running interpreter says of itself is in :mod:`pipeline.verify.running`.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Final

from pipeline.model.configs import EmbeddedLibrary, PyPyPackage
from pipeline.model.layout import (
    WINDOWS,
    extension_suffix,
    library_path,
    patchlevel_path,
    standard_library_path,
)
from pipeline.plan import Job
from pipeline.verify.gates import Finding, Gate, Verdict
from pipeline.verify.tree import Tree, parsed

if TYPE_CHECKING:
    import lief

DEBUG_SUFFIX: Final = ".debug"
NOT_LOOKED_UP: Final = "not looked up"
_DEFINED: Final = re.compile(r'#define[ \t]+(\w+)[ \t]+("[^"\n]*"|\S+)')


def _package(tree: Tree) -> PyPyPackage | None:
    package = tree.job.interpreter.package
    return package if isinstance(package, PyPyPackage) else None


def _patchlevel(tree: Tree) -> Verdict:
    """A final release has final headers and a candidate those of that very candidate.

    The numbers are what extension modules compile against; they are written beside the texts by
    hand, so each must say the same.
    """
    package = _package(tree)
    if package is None:
        return Verdict(measured="no C headers")
    path = patchlevel_path(package, tree.job.platform)
    name = f"{tree.job.stem}/{path}"
    try:
        text = (tree.root / path).read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        finding = Finding(file=name, found=str(error.strerror), expected="the header")
        return Verdict(measured="", findings=(finding,))
    defined = {key: _normal(value) for key, value in _DEFINED.findall(text)}
    numbers = _numbers(tree.job)
    findings = tuple(
        Finding(file=name, found=f"{key} is {defined.get(key)}", expected=value)
        for key, value in {**_texts(tree.job), **numbers}.items()
        if defined.get(key) != value
    )
    measured = f"PYPY_VERSION {defined.get('PYPY_VERSION')}, {len(numbers)} numbers"
    return Verdict(measured=measured, findings=findings)


def _normal(value: str) -> str:
    """Return a value as it is compared: a text to the letter, a number in any case."""
    return value if value.startswith('"') else value.lower()


def _texts(job: Job) -> dict[str, str]:
    """Return the versions that the header must have as texts."""
    return {
        "PYPY_VERSION": f'"{job.version.in_headers}"',
        "PY_VERSION": f'"{job.language_version}"',
    }


def _numbers(job: Job) -> dict[str, str]:
    """Return the versions that the header has as numbers, as upstream writes them.

    A candidate has the number of its release: ``0x07031700`` is any 7.3.23.
    """
    major, minor, micro = job.version[:3]
    names = ("PY_MAJOR_VERSION", "PY_MINOR_VERSION", "PY_MICRO_VERSION")
    return {
        "PYPY_VERSION_NUM": f"0x{major:02x}{minor:02x}{micro:02x}00",
        **dict(zip(names, job.language_version.split("."), strict=False)),
    }


def _extension_names(tree: Tree) -> Verdict:
    """Every extension module carries the ABI tag, or this interpreter would not import it."""
    package = _package(tree)
    if package is None:
        return Verdict(measured="no extension modules")
    platform = tree.job.platform
    suffix = extension_suffix(package, tree.job.version, platform)
    library = tree.root / standard_library_path(package, platform)
    names = [tree.name(path) for path in sorted(library.rglob(f"*{Path(suffix).suffix}"))]
    findings = tuple(
        Finding(file=name, found="another suffix", expected=f"...{suffix}")
        for name in names
        if not name.endswith(suffix)
    )
    return Verdict(measured=f"{len(names)} modules {suffix}", findings=findings)


def _embedded(tree: Tree) -> Verdict:
    """The libraries that are linked in are the pinned ones, where they leave a text to look for."""
    package = _package(tree)
    if package is None or tree.job.platform.os == WINDOWS:  # it has them as libraries of their own
        return Verdict(measured="none")
    suffix = extension_suffix(package, tree.job.version, tree.job.platform)
    findings, seen = [], []
    for module, library in package.embedded.items():
        wanted = _marker(library, tree.embedded.get(module, "?"))
        path = tree.root / f"{library.module}{suffix}"
        if not path.is_file():
            finding = Finding(file=tree.name(path), found="no such file", expected="the module")
            findings.append(finding)
        elif wanted is not None and wanted.encode() not in path.read_bytes():
            finding = Finding(file=tree.name(path), found="another version", expected=repr(wanted))
            findings.append(finding)
        version = NOT_LOOKED_UP if wanted is None else tree.embedded.get(module, "?")
        seen.append(f"{library.pin} {version}")
    return Verdict(measured=", ".join(seen), findings=tuple(findings))


def _marker(library: EmbeddedLibrary, version: str) -> str | None:
    return None if library.marker is None else library.marker.format(version=version)


def _debug(tree: Tree) -> Verdict:
    """Every file of debug symbols belongs to the program beside which it would be unpacked."""
    if tree.debug_root is None:
        return Verdict(measured="no debug archive")
    top = tree.debug_root
    files = sorted(path for path in top.rglob("*") if path.is_file())
    findings = [finding for path in files for finding in _debug_findings(tree, top, path)]
    if (package := _package(tree)) is not None:
        wanted = top / f"{library_path(package, tree.job.platform)}{DEBUG_SUFFIX}"
        if wanted not in files:
            name = f"{top.name}/{wanted.relative_to(top).as_posix()}"
            findings.append(Finding(file=name, found="no such file", expected="debug symbols"))
    return Verdict(measured=f"{len(files)} files of debug symbols", findings=tuple(findings))


def _debug_findings(tree: Tree, top: Path, path: Path) -> Iterator[Finding]:
    name = f"{top.name}/{path.relative_to(top).as_posix()}"
    program = tree.root / path.relative_to(top).with_suffix("")
    if path.suffix != DEBUG_SUFFIX or not program.is_file():
        yield Finding(file=name, found="no such program in the archive", expected="one beside it")
        return
    found, expected = build_id(parsed(path)), build_id(parsed(program))
    if expected is None or found != expected:
        yield Finding(file=name, found=f"build-id {found}", expected=f"build-id {expected}")


def build_id(binary: "lief.ELF.Binary | None") -> str | None:
    """Return the id in the note ``NT_GNU_BUILD_ID``, in hex."""
    if binary is None:
        return None
    ids = (note for note in binary.notes if note.type.name == "GNU_BUILD_ID")
    return next((bytes(note.description).hex() for note in ids), None)


IDENTITY_GATES: Final[tuple[Gate[Tree], ...]] = (
    Gate(identifier="IDN01", title="version in the C headers", check=_patchlevel),
    Gate(identifier="IDN02", title="ABI tag of extension modules", check=_extension_names),
    Gate(identifier="LIB01", title="versions of linked-in libraries", check=_embedded),
    Gate(identifier="DBG01", title="debug symbols match", check=_debug),
)
