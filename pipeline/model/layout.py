"""What an archive must hold and where: the layout that every client depends on. Pure.

Upstream's layouts: ``bin/`` with links and ``lib/pypy3.11`` on POSIX systems, programs at the top
and ``Lib`` on Windows, where zip files hold no links and each name is a copy.
"""

from enum import StrEnum
from typing import Final

from pipeline.model import naming
from pipeline.model.configs import PlainPackage, PyPyPackage
from pipeline.model.platforms import Platform
from pipeline.model.versions import InterpreterVersion

WINDOWS: Final = "windows"
SHARED_LIBRARIES: Final = {"linux": ".so", "darwin": ".dylib", WINDOWS: ".dll"}


class Kind(StrEnum):
    """What a member must be."""

    FILE = "a file"
    PROGRAM = "an executable file"


def link_to(target: str) -> str:
    """Return the kind of a link to *target*."""
    return f"a link to {target}"


def required_members(package: PlainPackage | PyPyPackage, platform: Platform) -> dict[str, str]:
    """Return what must be in an archive, by path below its top directory: a kind or a link."""
    common = {"LICENSE": Kind.FILE, naming.BUILD_INFO_NAME: Kind.FILE}
    if isinstance(package, PlainPackage):
        documents = dict.fromkeys(package.documents, Kind.FILE)
        return {**common, **documents, **_programs(package.executable, package.links, platform)}
    files = package.windows_files if platform.os == WINDOWS else package.files
    return {
        **common,
        **dict.fromkeys(files, Kind.FILE),
        **_programs(package.executable, package.links, platform),
        library_path(package, platform): Kind.FILE,
    }


def program_path(name: str, platform: Platform) -> str:
    """Return where a program is in an archive."""
    return f"{name}.exe" if platform.os == WINDOWS else f"bin/{name}"


def library_path(package: PyPyPackage, platform: Platform) -> str:
    """Return where the shared library that holds the interpreter is in an archive."""
    name = f"{package.library.removesuffix('.so')}{SHARED_LIBRARIES[platform.os]}"
    return name if platform.os == WINDOWS else f"bin/{name}"


def standard_library_path(package: PyPyPackage, platform: Platform) -> str:
    """Return where the standard library and the extension modules are in an archive."""
    return "Lib" if platform.os == WINDOWS else package.standard_library


def patchlevel_path(package: PyPyPackage, platform: Platform) -> str:
    """Return where the header with the version is in an archive."""
    name = package.patchlevel.rsplit("/", 1)[-1]
    return f"include/{name}" if platform.os == WINDOWS else package.patchlevel


def extension_suffix(package: PyPyPackage, version: InterpreterVersion, platform: Platform) -> str:
    """Return how the names of extension modules end: ``.pypy311-pp73-x86_64-linux-gnu.so``."""
    suffix = package.extension_suffix.format(
        major=version.major, minor=version.minor, multiarch=platform.multiarch
    )
    return f"{suffix.removesuffix('.so')}.pyd" if platform.os == WINDOWS else suffix


def _programs(executable: str, links: tuple[str, ...], platform: Platform) -> dict[str, str]:
    """Return an interpreter's names; on Windows each is a program of its own."""
    kind = Kind.FILE if platform.os == WINDOWS else link_to(executable)
    programs = {program_path(link, platform): kind for link in links}
    first = Kind.FILE if platform.os == WINDOWS else Kind.PROGRAM
    return {program_path(executable, platform): first, **programs}
