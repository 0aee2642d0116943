"""Which of an archive's files an image has, and whether they find their libraries in it.

ELF files are read, not run, so that it does not matter for which machine they are.
"""

import posixpath
from collections.abc import Container, Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Final

from pipeline.distribute.image.system import System
from pipeline.errors import ImageError
from pipeline.verify.tree import ELF_MAGIC, parsed

if TYPE_CHECKING:
    import lief

ORIGIN: Final = ("$ORIGIN", "${ORIGIN}")


@dataclass(frozen=True, kw_only=True)
class Selection:
    """What is left out: *dropped* files, and *private* libraries that the system has too.

    Both are patterns of paths below the top directory, where ``*`` also matches slashes.
    """

    dropped: tuple[str, ...]
    private: tuple[str, ...]


def select(root: Path, selection: Selection, system: Container[str]) -> tuple[str, ...]:
    """Remove from *root* what an image does not have; return the libraries left to the system.

    A bundled library whose name is one of the *system*'s would be a second copy of it in a process
    that loads others of the system's libraries, which need that one.
    """
    replaced = []
    for path in sorted(root.rglob("*"), reverse=True):
        name = path.relative_to(root).as_posix()
        if path.is_dir() and not path.is_symlink():
            if not any(path.iterdir()):
                path.rmdir()
        elif _matches(name, selection.dropped):
            path.unlink()
        elif path.name in system and _matches(name, selection.private):
            path.unlink()
            replaced.append(name)
    return tuple(sorted(replaced))


def bundled_libraries(root: Path, selection: Selection) -> tuple[str, ...]:
    """Return the bundled libraries that are left, by path."""
    names = (path.relative_to(root).as_posix() for path in sorted(root.rglob("*")))
    return tuple(name for name in names if _matches(name, selection.private))


def require_libraries(root: Path, system: System, *, where: str) -> None:
    """Check that each program and library below *root* finds what it needs.

    A library of the *system* must also have the versions of symbols that are needed of it: one
    that is older or otherwise built has not, though it has the same name.

    Raises:
        ImageError: one finds a library neither there nor in the system, or another than it needs.
    """
    missing = list(_missing(root, system))
    if missing:
        listed = "\n".join(f"  {line}" for line in missing)
        msg = (
            f"{where}: libraries are neither in the archive nor in the image:\n{listed}\n"
            "Name Debian's packages that have them in packages of image.variants, or what needs "
            "them in dropped."
        )
        raise ImageError(msg)


def _missing(root: Path, system: System) -> Iterator[str]:
    provided = _Provided(system)
    for path in sorted(root.rglob("*")):
        if path.is_file() and not path.is_symlink() and _is_elf(path):
            binary = parsed(path)
            if binary is not None:
                yield from _missing_of(binary, root, path, provided)


def _missing_of(
    binary: "lief.ELF.Binary", root: Path, path: Path, provided: "_Provided"
) -> Iterator[str]:
    name = path.relative_to(root).as_posix()
    places = _places(binary, posixpath.dirname(name))
    needed = needed_versions(binary)
    for library in map(str, binary.libraries):
        if any((root / place / library).exists() for place in places):
            continue
        if library not in provided:
            yield f"{name} needs {library}"
            continue
        for version in sorted(needed.get(library, frozenset()) - provided.versions(library)):
            yield f"{name} needs {version} of {library}, which is another one there"


class _Provided:
    """The system's libraries, and which versions of symbols they have; each is read once."""

    def __init__(self, system: System) -> None:
        self._system = system
        self._versions: dict[str, frozenset[str]] = {}

    def __contains__(self, library: str) -> bool:
        return library in self._system.libraries

    def versions(self, library: str) -> frozenset[str]:
        """Return the versions of symbols that a library has."""
        if library not in self._versions:
            self._versions[library] = defined_versions(self._system.content(library))
        return self._versions[library]


def _places(binary: "lief.ELF.Binary", directory: str) -> tuple[str, ...]:
    """Return where below the top an ELF file in *directory* looks for libraries."""
    import lief  # noqa: PLC0415 - slow to load, as in pipeline.verify.tree

    places = (
        _below_top(place, directory)
        for entry in binary.dynamic_entries
        if isinstance(entry, lief.ELF.DynamicEntryRpath | lief.ELF.DynamicEntryRunPath)
        for place in entry.paths
    )
    return tuple(place for place in places if not place.startswith(".."))


def needed_versions(binary: "lief.ELF.Binary") -> dict[str, frozenset[str]]:
    """Return the versions of symbols that a file needs, by library."""
    return {
        str(needed.name): frozenset(str(item.name) for item in needed.get_auxiliary_symbols())
        for needed in binary.symbols_version_requirement
    }


def defined_versions(library: bytes) -> frozenset[str]:
    """Return the versions of symbols that a library has."""
    import lief  # noqa: PLC0415 - slow to load, as in pipeline.verify.tree

    binary = lief.ELF.parse(list(library))
    if binary is None:
        return frozenset()
    return frozenset(
        str(item.name)
        for definition in binary.symbols_version_definition
        for item in definition.auxiliary_symbols
    )


def _below_top(place: str, directory: str) -> str:
    for word in ORIGIN:
        if place.startswith(word):
            return posixpath.normpath(
                posixpath.join(directory, place.removeprefix(word).lstrip("/"))
            )
    return ".."


def _is_elf(path: Path) -> bool:
    with path.open("rb") as stream:
        return stream.read(len(ELF_MAGIC)) == ELF_MAGIC


def _matches(name: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)
