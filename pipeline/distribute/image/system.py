"""What an image's system has, read from its layers: libraries and packages. Nothing is run."""

import tarfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from email.parser import Parser
from pathlib import PurePosixPath
from typing import Final

from pipeline.distribute.image.layers import WHITEOUT, Layer

OPAQUE: Final = ".wh..wh..opq"
DPKG_STATUS: Final = "var/lib/dpkg/status"
INSTALLED: Final = "install ok installed"
LIBRARY_DIRECTORIES: Final = ("lib", "usr/lib", "lib64", "usr/lib64", "usr/local/lib", "lib32")
"""Where the dynamic loader looks without being told; the architecture's own are below the first
two."""


@dataclass(frozen=True, kw_only=True)
class DebianPackage:
    """An installed package of the distribution."""

    name: str
    version: str
    architecture: str

    def __str__(self) -> str:
        return f"{self.name} {self.version} {self.architecture}"


@dataclass(frozen=True, kw_only=True)
class System:
    """The libraries by file name, and the packages, sorted."""

    libraries: frozenset[str]
    packages: tuple[DebianPackage, ...]


def system_of(layers: Iterable[Layer], multiarch: str) -> System:
    """Return what the *layers*, the lowest first, have together.

    ``multiarch`` is Debian's name of the platform, as in ``/usr/lib/x86_64-linux-gnu``.
    """
    paths: set[str] = set()
    status = b""
    for layer in layers:
        with tarfile.open(layer.path, "r:") as archive:
            for member in archive:
                name = PurePosixPath(member.name.lstrip("/")).as_posix()
                _lay_over(paths, name)
                if name == DPKG_STATUS and (content := archive.extractfile(member)) is not None:
                    status = content.read()
    return System(
        libraries=frozenset(_libraries(paths, multiarch)),
        packages=tuple(sorted(installed_packages(status.decode()), key=str)),
    )


def _lay_over(paths: set[str], name: str) -> None:
    """Add a member of an upper layer to the *paths* of those below, or take away what it hides."""
    path = PurePosixPath(name)
    if path.name == OPAQUE:
        hidden = f"{path.parent.as_posix()}/"
        paths.difference_update([other for other in paths if other.startswith(hidden)])
    elif path.name.startswith(WHITEOUT):
        gone = path.with_name(path.name.removeprefix(WHITEOUT)).as_posix()
        below = [other for other in paths if other.startswith(f"{gone}/")]
        paths.difference_update([gone, *below])
    else:
        paths.add(name)


def _libraries(paths: Iterable[str], multiarch: str) -> Iterator[str]:
    own = {f"{directory}/{multiarch}" for directory in LIBRARY_DIRECTORIES[:2]}
    directories = own.union(LIBRARY_DIRECTORIES)
    for name in paths:
        directory, _, filename = name.rpartition("/")
        if directory in directories and ".so" in filename:
            yield filename


def installed_packages(status: str) -> Iterator[DebianPackage]:
    """Yield the packages that dpkg's status file has as installed. Format: dpkg(1), deb822(5)."""
    for stanza in filter(None, (part.strip() for part in status.split("\n\n"))):
        fields = Parser().parsestr(stanza, headersonly=True)
        if fields["Status"] == INSTALLED:
            yield DebianPackage(
                name=fields["Package"],
                version=fields["Version"],
                architecture=fields["Architecture"],
            )
