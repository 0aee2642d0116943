"""Which of an archive's files an image has, and whether they find their libraries in it.

ELF files are read, not run, so that it does not matter for which machine they are.
"""

import posixpath
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Final

from pipeline.errors import ImageError
from pipeline.verify.tree import ELF_MAGIC, parsed

ORIGIN: Final = ("$ORIGIN", "${ORIGIN}")


@dataclass(frozen=True, kw_only=True)
class Selection:
    """What is left out: *dropped* files, and *private* libraries that the system has too.

    Both are patterns of paths below the top directory, where ``*`` also matches slashes.
    """

    dropped: tuple[str, ...]
    private: tuple[str, ...]


def select(root: Path, selection: Selection, system: frozenset[str]) -> tuple[str, ...]:
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


def require_libraries(root: Path, system: frozenset[str], *, where: str) -> None:
    """Check that each program and library below *root* finds what it needs.

    *system* are the libraries by the names under which the dynamic loader looks for them.

    Raises:
        ImageError: one finds a library neither there nor in the system.
    """
    missing = list(_missing(root, system))
    if missing:
        listed = "\n".join(f"  {name} needs {library}" for name, library in missing)
        msg = (
            f"{where}: libraries are neither in the archive nor in the image:\n{listed}\n"
            "Name Debian's packages that have them in packages of image.variants, or what needs "
            "them in dropped."
        )
        raise ImageError(msg)


def _missing(root: Path, system: frozenset[str]) -> Iterator[tuple[str, str]]:
    for path in sorted(root.rglob("*")):
        if path.is_file() and not path.is_symlink() and _is_elf(path):
            name = path.relative_to(root).as_posix()
            for library, places in _needed(path, name):
                own = any((root / place / library).exists() for place in places)
                if not (own or library in system):
                    yield name, library


def _needed(path: Path, name: str) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Yield each library that an ELF file names, and where below the top it looks for that."""
    binary = parsed(path)
    if binary is None:
        return
    import lief  # noqa: PLC0415 - slow to load, as in pipeline.verify.tree

    paths = [
        place
        for entry in binary.dynamic_entries
        if isinstance(entry, lief.ELF.DynamicEntryRpath | lief.ELF.DynamicEntryRunPath)
        for place in entry.paths
    ]
    places = tuple(_below_top(place, posixpath.dirname(name)) for place in paths)
    inside = tuple(place for place in places if not place.startswith(".."))
    for library in binary.libraries:
        yield str(library), inside


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
