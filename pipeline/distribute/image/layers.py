"""Layers of an image: tar files, written so that the same files always give the same bytes.

What an engine says of a layer differs each time it is made: times, the order of members, what the
package manager noted. Here members are sorted, have one time and numeric owners, and what is noise
is left out. Format: OCI image specification 1.1, ``layer.md``; whiteouts stay as they are.
"""

import hashlib
import io
import os
import tarfile
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from fnmatch import fnmatchcase
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import IO, Final

import deflate

from pipeline.distribute.oci import LAYER_TYPE, Descriptor
from pipeline.effects.files import new_file, sha256_of

SYSTEM_EPOCH: Final = 315532800
"""The time of the system's files, 1980-01-01: zip files know none before. It is not the release's,
so that images of all releases share the layers below their own."""

WHITEOUT: Final = ".wh."
CAPABILITY: Final = "SCHILY.xattr.security.capability"
SHADOW: Final = "etc/shadow"
SECONDS_A_DAY: Final = 86400
# Of a layer 9 would save a hundredth for six times the time.
GZIP_LEVEL: Final = 6
# So much is compressed at a time, as a gzip member of its own (RFC 1952, 2.2).
GZIP_CHUNK: Final = 16 << 20

NOISE: Final = (
    ".dockerenv",
    "dev/*",
    "proc/*",
    "sys/*",
    "run/*",
    "tmp/*",
    "var/tmp/*",
    "root/.cache/*",
    "etc/hostname",
    "etc/hosts",
    "etc/resolv.conf",
    "etc/machine-id",
    "var/lib/dbus/machine-id",
    "etc/.pwd.lock",
    "etc/passwd-",
    "etc/group-",
    "etc/shadow-",
    "etc/gshadow-",
    "etc/subuid-",
    "etc/subgid-",
    "var/log/*",
    "var/cache/apt/*",
    "var/cache/debconf/*-old",
    "var/cache/fontconfig/*",
    "var/cache/ldconfig/*",
    "var/cache/man/*",
    "var/lib/apt/lists/*",
    "var/lib/apt/daily_lock",
    "var/lib/dpkg/*-old",
    "var/lib/dpkg/lock*",
    "var/lib/dpkg/triggers/Lock",
    "var/lib/systemd/random-seed",
    "usr/*/__pycache__/*",
    "*/.wh..wh..plnk/*",
)
"""Files, not directories, that are of one machine, one moment or no use; ``*`` matches slashes."""


@dataclass(frozen=True, kw_only=True)
class Layer:
    """A layer as a tar file at *path*; ``diff_id`` is the digest of that."""

    path: Path
    diff_id: str


@dataclass(frozen=True, kw_only=True)
class Blob:
    """A file of an image layout, and what it is."""

    path: Path
    descriptor: Descriptor


def normalised(saved: Path, path: Path) -> Layer:
    """Write the layer *saved*, an uncompressed tar file of an engine, to *path* without noise."""
    with (
        tarfile.open(saved, "r:") as source,
        new_file(path) as raw,
        tarfile.open(fileobj=raw, mode="w|", format=tarfile.PAX_FORMAT) as out,
    ):
        for member, content in _members(source):
            if content is None or not member.isfile():
                out.addfile(member)
            else:
                with content as stream:
                    out.addfile(member, stream)
    return kept(path)


def kept(path: Path) -> Layer:
    """Return a tar file as the layer that it is, byte for byte."""
    return Layer(path=path, diff_id=f"sha256:{sha256_of(path)}")


def _members(source: tarfile.TarFile) -> Iterator[tuple[tarfile.TarInfo, IO[bytes] | None]]:
    """Yield what is written, in order: headers, and the content of files."""
    given = {name: member for member in source if (name := _name(member.name))}
    wanted = {name: member for name, member in given.items() if not is_noise(member, name)}
    first: dict[str, str] = {}
    for name in sorted(wanted, key=_order):
        owner = _content_owner(name, given)
        leader = first.setdefault(owner, name)
        yield _written(name, wanted[name], given.get(owner), leader, source)


def _written(
    name: str,
    member: tarfile.TarInfo,
    owner: tarfile.TarInfo | None,
    leader: str,
    source: tarfile.TarFile,
) -> tuple[tarfile.TarInfo, IO[bytes] | None]:
    """Return a member's header and content; *leader* is the first name of a file with several."""
    if not (member.isfile() or member.islnk()):
        return _header(name, member), None
    if leader != name or owner is None or not owner.isfile():
        header = _header(name, member)
        header.type, header.size = tarfile.LNKTYPE, 0
        header.linkname = leader if leader != name else _name(member.linkname)
        return header, None
    header = _header(name, owner)
    content = source.extractfile(owner)
    if name == SHADOW and content is not None:
        data = _undated(content.read())
        header.size = len(data)
        return header, io.BytesIO(data)
    return header, content


def _name(name: str) -> str:
    path = PurePosixPath(name.lstrip("/")).as_posix()
    return "" if path == "." else path


def _content_owner(name: str, members: dict[str, tarfile.TarInfo]) -> str:
    """Return the name under which a file's content is; a hard link may lead to another one."""
    seen = {name}
    while (member := members.get(name)) is not None and member.islnk():
        name = _name(member.linkname)
        if name in seen:
            break
        seen.add(name)
    return name


def _order(name: str) -> tuple[tuple[bool, str], ...]:
    """Sort by directories; what takes away a file of a lower layer comes before its siblings."""
    return tuple((not part.startswith(WHITEOUT), part) for part in name.split("/"))


def is_noise(member: tarfile.TarInfo, name: str) -> bool:
    """Whether no image needs a member of that name."""
    if member.isdir():
        return name.startswith(("tmp/", "run/", "var/lib/apt/lists/")) or name.endswith(
            "/__pycache__"
        )
    return any(fnmatchcase(name, pattern) for pattern in NOISE)


def _header(name: str, member: tarfile.TarInfo) -> tarfile.TarInfo:
    header = tarfile.TarInfo(name)
    header.type, header.linkname = member.type, member.linkname
    header.mode, header.uid, header.gid = member.mode & 0o7777, member.uid, member.gid
    header.mtime, header.devmajor, header.devminor = SYSTEM_EPOCH, member.devmajor, member.devminor
    header.size = member.size if member.isfile() else 0
    if (capability := member.pax_headers.get(CAPABILITY)) is not None:
        header.pax_headers = {CAPABILITY: capability}
    return header


def _undated(shadow: bytes) -> bytes:
    """Return shadow(5) with one date of every password's last change."""
    day = str(SYSTEM_EPOCH // SECONDS_A_DAY).encode()
    lines = [line.split(b":") for line in shadow.splitlines()]
    return b"".join(
        b":".join([*fields[:2], day, *fields[3:]] if len(fields) > 2 else fields) + b"\n"  # noqa: PLR2004
        for fields in lines
    )


def compressed(layer: Layer, path: Path) -> Blob:
    """Write a layer as gzip to *path*: several members, each made of as much of it."""
    digest, size = hashlib.sha256(), 0
    with layer.path.open("rb") as source, new_file(path) as out:
        for data in _gzip_members(iter(lambda: source.read(GZIP_CHUNK), b"")):
            out.write(data)
            digest.update(data)
            size += len(data)
    descriptor = Descriptor(media_type=LAYER_TYPE, digest=f"sha256:{digest.hexdigest()}", size=size)
    return Blob(path=path, descriptor=descriptor)


def _gzip_members(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Yield each chunk compressed, in order, as many at a time as there are processors."""
    workers = os.cpu_count() or 1
    remaining = iter(chunks)
    with ThreadPoolExecutor(workers) as executor:
        while some := list(islice(remaining, workers)):
            yield from executor.map(_gzip_member, some)


def _gzip_member(data: bytes) -> bytes:
    return bytes(deflate.gzip_compress(data, GZIP_LEVEL))
