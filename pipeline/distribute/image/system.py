"""What an image's system has, read from its layers: libraries and packages. Nothing is run."""

import posixpath
import tarfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from email.parser import Parser
from pathlib import Path, PurePosixPath
from typing import Final

from pipeline.distribute.image.layers import WHITEOUT, Layer

OPAQUE: Final = ".wh..wh..opq"
DPKG_STATUS: Final = "var/lib/dpkg/status"
MOST_LINKS: Final = 40
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
class Place:
    """A member of a layer."""

    layer: Path
    member: tarfile.TarInfo


@dataclass(frozen=True, kw_only=True)
class System:
    """Where the libraries are, by file name, and the packages, sorted."""

    libraries: Mapping[str, Place]
    packages: tuple[DebianPackage, ...]

    def content(self, library: str) -> bytes:
        """Return a library's bytes."""
        return _content(self.libraries[library])


def system_of(layers: Iterable[Layer], multiarch: str) -> System:
    """Return what the *layers*, the lowest first, have together.

    ``multiarch`` is Debian's name of the platform, as in ``/usr/lib/x86_64-linux-gnu``.
    """
    places: dict[str, Place] = {}
    for layer in layers:
        with tarfile.open(layer.path, "r:") as archive:
            for member in archive:
                name = PurePosixPath(member.name.lstrip("/")).as_posix()
                _lay_over(places, name, Place(layer=layer.path, member=member))
    status = _content(places[DPKG_STATUS]).decode() if DPKG_STATUS in places else ""
    return System(
        libraries=dict(_libraries(places, multiarch)),
        packages=tuple(sorted(installed_packages(status), key=str)),
    )


def _content(place: Place) -> bytes:
    with tarfile.open(place.layer, "r:") as archive:
        content = archive.extractfile(place.member)
        return b"" if content is None else content.read()


def _lay_over(places: dict[str, Place], name: str, place: Place) -> None:
    """Put a member of an upper layer over those below, or take away what it hides."""
    path = PurePosixPath(name)
    if not path.name.startswith(WHITEOUT):
        places[name] = place
        return
    gone = path.with_name(path.name.removeprefix(WHITEOUT)).as_posix()
    hidden = f"{path.parent.as_posix() if path.name == OPAQUE else gone}/"
    for other in [other for other in places if other == gone or other.startswith(hidden)]:
        del places[other]


def _libraries(places: Mapping[str, Place], multiarch: str) -> Iterator[tuple[str, Place]]:
    """Yield the libraries in the loader's directories, each with the place of its bytes."""
    own = {f"{directory}/{multiarch}" for directory in LIBRARY_DIRECTORIES[:2]}
    directories = own.union(LIBRARY_DIRECTORIES)
    for name in places:
        directory, _, filename = name.rpartition("/")
        if directory in directories and ".so" in filename:
            found = places.get(_followed(places, name))
            if found is not None and (found.member.isfile() or found.member.islnk()):
                yield filename, found


def _followed(places: Mapping[str, Place], name: str) -> str:
    """Return the path that a chain of links leads to; ``lib`` may be a link to ``usr/lib``."""
    for _ in range(MOST_LINKS):
        place = places.get(name)
        if place is None and not name.startswith("usr/"):
            name = f"usr/{name}"
        elif place is None or not place.member.issym():
            break
        else:
            joined = posixpath.join("/", posixpath.dirname(name), place.member.linkname)
            name = posixpath.normpath(joined).lstrip("/")
    return name


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
