"""Which package has which file of the archive. Pure."""

from collections.abc import Collection, Iterable, Mapping
from fnmatch import fnmatchcase

from pipeline.errors import DebianPackageError
from pipeline.model.debian import DebianConfig
from pipeline.model.naming import part_name


def bundled_libraries(config: DebianConfig, paths: Iterable[str]) -> tuple[str, ...]:
    """Return the paths of the libraries that the suite may have itself."""
    return tuple(path for path in paths if _matches(path, config.private))


def left_out(
    config: DebianConfig, paths: Collection[str], provided: Collection[str]
) -> frozenset[str]:
    """Return the files that no package gets.

    *provided* are the bundled libraries (their paths) that the suite has itself. Two copies of one
    library in a process clash, so these are left out, with what belongs to them.
    """
    patterns = [*config.dropped]
    for library in provided:
        patterns += config.companions.get(library, ())
    return frozenset(path for path in paths if path in provided or _matches(path, patterns))


def split(config: DebianConfig, paths: Collection[str]) -> Mapping[str, tuple[str, ...]]:
    """Return the files of each package of the archive, sorted; each file is in exactly one.

    Raises:
        DebianPackageError: a part's patterns match no file, so its package would be empty.
    """
    parts = [part for part in config.parts if not part.debug_symbols]
    names = [config.package, *(part_name(config, part) for part in parts)]
    found: dict[str, list[str]] = {name: [] for name in names}
    for path in sorted(paths):
        fitting = (part_name(config, part) for part in parts if _matches(path, part.files))
        found[next(fitting, config.package)].append(path)
    for name, files in found.items():
        if not files:
            msg = (
                f"package {name}: the archive has no file for it. Check the patterns of its part "
                "in the interpreter's table debian."
            )
            raise DebianPackageError(msg)
    return {name: tuple(files) for name, files in found.items()}


def _matches(path: str, patterns: Iterable[str]) -> bool:
    return any(fnmatchcase(path, pattern) for pattern in patterns)
