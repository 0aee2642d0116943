"""Tar archives: written so that equal content gives equal bytes, read as hostile until checked.

Written archives have sorted members, one owner, one time stamp and modes 0755 or 0644, in the
ustar format where names fit and pax where they do not. The gzip header has no name and no time.

Gzip is written by libdeflate: a third of zlib's time for fewer bytes, at the price of holding the
archive in memory, and by a version that the lock file pins, so that its bytes are pinned too.
"""

import gzip
import hashlib
import io
import os
import shutil
import stat
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path, PurePosixPath
from typing import IO, Final, cast

import deflate
import zstandard
from typing_extensions import Buffer

from pipeline.effects.files import CHUNK, new_file
from pipeline.errors import UnsafeArchiveError

GZIP_LEVEL: Final = 9
ZSTD_LEVEL: Final = 19
LARGEST_UNPACKED: Final = 8 << 30
MOST_MEMBERS: Final = 200_000
UNIX_SYSTEM: Final = 3
SPECIAL_TYPES: Final = {
    stat.S_IFIFO: tarfile.FIFOTYPE,
    stat.S_IFCHR: tarfile.CHRTYPE,
    stat.S_IFBLK: tarfile.BLKTYPE,
    stat.S_IFSOCK: tarfile.FIFOTYPE,  # tar has no type for sockets
}
ZSTD_CHUNK: Final = 1 << 16
UNREADABLE: Final = (
    tarfile.TarError,
    zipfile.BadZipFile,
    EOFError,
    OSError,
    zstandard.ZstdError,
    zlib.error,
)


class Compression(StrEnum):
    """How an archive is compressed."""

    NONE = ""
    GZIP = "gz"
    ZSTD = "zst"


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A member of an archive to be written: a file, a symbolic link, or an empty directory."""

    path: str
    content: bytes | Path = b""
    executable: bool = False
    link: str | None = None
    directory: bool = False


@dataclass(frozen=True, kw_only=True)
class Owner:
    """Whom the members belong to; numbers only, since names mean nothing elsewhere."""

    uid: int = 0
    gid: int = 0


def write_archive(
    path: Path,
    entries: Iterable[Entry],
    *,
    epoch: int,
    compression: Compression = Compression.NONE,
    owner: Owner = Owner(),
) -> None:
    """Write *entries* and the directories they need to *path*; see the module for the form.

    ``epoch`` is every member's time, in seconds since 1970.
    """
    by_path = {entry.path: entry for entry in entries}
    with (
        new_file(path) as raw,
        _compressing(raw, compression) as stream,
        tarfile.open(fileobj=stream, mode="w|", format=tarfile.PAX_FORMAT) as archive,
    ):
        for name in sorted(_with_parents(by_path)):
            _add(archive, name, by_path.get(name), epoch, owner)


def _with_parents(paths: Iterable[str]) -> set[str]:
    found = set()
    for path in paths:
        found.add(path)
        found.update(str(parent) for parent in PurePosixPath(path).parents)
    return found - {"."}


def _add(
    archive: tarfile.TarFile, name: str, entry: Entry | None, epoch: int, owner: Owner
) -> None:
    member = tarfile.TarInfo(name)
    member.mtime, member.uid, member.gid = epoch, owner.uid, owner.gid
    if entry is None or entry.directory:
        member.type, member.mode = tarfile.DIRTYPE, 0o755
        archive.addfile(member)
    elif entry.link is not None:
        member.type, member.mode, member.linkname = tarfile.SYMTYPE, 0o777, entry.link
        archive.addfile(member)
    else:
        member.mode = 0o755 if entry.executable else 0o644
        with _opened(entry.content) as content:
            member.size = content.seek(0, io.SEEK_END)
            content.seek(0)
            archive.addfile(member, content)


def _opened(content: bytes | Path) -> IO[bytes]:
    return content.open("rb") if isinstance(content, Path) else io.BytesIO(content)


@contextmanager
def _compressing(raw: IO[bytes], compression: Compression) -> Iterator[IO[bytes]]:
    with ExitStack() as stack:
        match compression:
            case Compression.NONE:
                yield raw
            case Compression.GZIP:
                plain = stack.enter_context(tempfile.TemporaryFile())
                yield plain
                plain.seek(0)
                raw.write(deflate.gzip_compress(plain.read(), GZIP_LEVEL))
            case Compression.ZSTD:
                # With threads the output is the same for any number of them, but not that of none.
                compressor = zstandard.ZstdCompressor(
                    level=ZSTD_LEVEL, threads=os.cpu_count() or 1, write_checksum=True
                )
                yield stack.enter_context(compressor.stream_writer(raw, closefd=False))


def write_zip(path: Path, entries: Iterable[Entry], *, epoch: int) -> None:
    """Write *entries* to *path* as a zip file, for Windows; equal entries give equal bytes.

    ``epoch`` is every member's time, in seconds since 1970, rounded down to the format's two
    seconds. Format: PKWARE's APPNOTE.TXT 6.3.10.

    Raises:
        ValueError: an entry is a link, which Windows' own tools cannot unpack.
    """
    time = datetime.fromtimestamp(epoch, UTC).timetuple()[:6]
    with (
        new_file(path) as raw,
        zipfile.ZipFile(raw, "w", zipfile.ZIP_DEFLATED, compresslevel=GZIP_LEVEL) as archive,
    ):
        for entry in sorted(entries, key=lambda item: item.path):
            if entry.link is not None:
                msg = f"{entry.path}: a zip file for Windows holds no links"
                raise ValueError(msg)
            name = f"{entry.path}/" if entry.directory else entry.path
            member = zipfile.ZipInfo(name, time)
            member.create_system = UNIX_SYSTEM
            member.external_attr = (0o755 if entry.executable or entry.directory else 0o644) << 16
            member.compress_type = zipfile.ZIP_DEFLATED
            with _opened(entry.content) as content:
                archive.writestr(member, content.read(), compresslevel=GZIP_LEVEL)


def entries_of(directory: Path, prefix: str) -> list[Entry]:
    """Return the files and links of *directory*, to be packed below *prefix*.

    A file is executable if its owner may execute it; other bits depend on the umask of whoever
    made it, and are dropped.
    """
    found = []
    for path in sorted(directory.rglob("*")):
        name = f"{prefix}/{path.relative_to(directory).as_posix()}"
        if path.is_symlink():
            found.append(Entry(path=name, link=path.readlink().as_posix()))
        elif path.is_file():
            executable = bool(path.stat().st_mode & 0o100)
            found.append(Entry(path=name, content=path, executable=executable))
    return found


class ZstdReader(io.RawIOBase):
    """Reads one zstd frame to its end; the library's own reader takes a cut-off one for whole."""

    def __init__(self, raw: IO[bytes]) -> None:
        self._raw = raw
        self._frame = zstandard.ZstdDecompressor().decompressobj()
        self._pending = memoryview(b"")

    def readable(self) -> bool:
        """Return True, as a stream to read from does."""
        return True

    def readinto(self, buffer: Buffer, /) -> int:
        """Fill *buffer* as far as possible; 0 at the end of the frame."""
        while not self._pending and not self._frame.eof:
            chunk = self._raw.read(ZSTD_CHUNK)
            if not chunk:
                msg = "the zstd frame is cut off"
                raise EOFError(msg)
            self._pending = memoryview(self._frame.decompress(chunk))
            self._refuse_more()
        target = memoryview(buffer).cast("B")
        size = min(len(target), len(self._pending))
        target[:size] = self._pending[:size]
        self._pending = self._pending[size:]
        return size

    def _refuse_more(self) -> None:
        if self._frame.eof and (self._frame.unused_data or self._raw.read(1)):
            msg = "bytes follow the zstd frame"
            raise OSError(msg)


@contextmanager
def _reading(path: Path) -> Iterator[IO[bytes]]:
    """Give the uncompressed bytes of *path*; what it is decides its name."""
    with ExitStack() as stack:
        raw = stack.enter_context(path.open("rb"))
        if path.suffix in {".gz", ".tgz"}:
            yield cast("IO[bytes]", gzip.GzipFile(fileobj=raw, mode="rb"))
        elif path.suffix == ".zst":
            yield cast("IO[bytes]", io.BufferedReader(ZstdReader(raw), CHUNK))
        else:
            yield raw


def members_of(path: Path) -> tuple[tarfile.TarInfo, ...]:
    """Return the headers of every member, without unpacking anything.

    Raises:
        UnsafeArchiveError: it cannot be read to its end, or holds more than any release does.
    """
    found, total = [], 0
    with (
        _refusing(path, "not a readable tar archive"),
        _reading(path) as stream,
        tarfile.open(fileobj=stream, mode="r|") as archive,
    ):
        for member in archive:
            found.append(member)
            total += member.size
            if total > LARGEST_UNPACKED or len(found) > MOST_MEMBERS:
                msg = f"{path.name}: {member.name}: unpacks to more than the limits allow."
                raise UnsafeArchiveError(msg)
        _read_to_end(stream)
    return tuple(found)


def zip_members_of(path: Path) -> tuple[tarfile.TarInfo, ...]:
    """Return the headers of a zip file's members in tar's terms, without unpacking anything.

    Directories that are only implied are not listed. A member that is neither file nor directory
    by its Unix mode has tar's type of it.

    Raises:
        UnsafeArchiveError: it cannot be read, or holds more than any release does.
    """
    with _refusing(path, "not a readable zip archive"), zipfile.ZipFile(path) as archive:
        members = archive.infolist()
        if len(members) > MOST_MEMBERS or _unpacked_size(archive) > LARGEST_UNPACKED:
            msg = f"{path.name}: unpacks to more than the limits allow."
            raise UnsafeArchiveError(msg)
        if (damaged := archive.testzip()) is not None:
            msg = f"{path.name}: {damaged}: is damaged."
            raise UnsafeArchiveError(msg)
        return tuple(_tar_header(archive, member) for member in members)


def _tar_header(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> tarfile.TarInfo:
    header = tarfile.TarInfo(member.filename.rstrip("/"))
    mode = member.external_attr >> 16
    header.mode, header.size = stat.S_IMODE(mode), member.file_size
    header.mtime = int(datetime(*member.date_time, tzinfo=UTC).timestamp())
    if stat.S_ISLNK(mode):
        header.type, header.linkname = tarfile.SYMTYPE, os.fsdecode(archive.read(member))
    elif (special := SPECIAL_TYPES.get(stat.S_IFMT(mode))) is not None:
        header.type = special
    elif member.is_dir():
        header.type = tarfile.DIRTYPE
    return header


def _read_to_end(stream: IO[bytes]) -> None:
    """Read what follows the last member, so that a checksum at the very end is checked too."""
    while stream.read(CHUNK):
        pass


def uncompressed_digest(path: Path) -> str:
    """Return the sha256 of the tar stream inside a compressed archive."""
    digest = hashlib.sha256()
    with _reading(path) as stream:
        while chunk := stream.read(CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def unpack(path: Path, directory: Path) -> None:
    """Unpack *path* into *directory*, refusing every member that could reach outside it.

    The standard library's own filter came with Python 3.11.4, which Debian 12 does not have; this
    is stricter. Only files, directories and symbolic links are made, with mode 0644 or 0755, and
    links last, so that nothing is written through one.

    Raises:
        UnsafeArchiveError: a member is absolute, climbs out, or is special; it is named.
    """
    members = members_of(path)
    links = {_normal(member.name) for member in members if member.issym()}
    for member in members:
        if (problem := _problem(member, links)) is not None:
            msg = f"{path.name}: {member.name!r} {problem}. Nothing of this archive may be used."
            raise UnsafeArchiveError(msg)
    with (
        _refusing(path, "cannot be unpacked"),
        _reading(path) as stream,
        tarfile.open(fileobj=stream, mode="r|") as archive,
    ):
        for member in archive:
            _extract(archive, member, directory)
    with _refusing(path, "cannot be unpacked"):
        _make_links(path.name, members, directory)


@contextmanager
def _refusing(path: Path, what: str) -> Iterator[None]:
    """Turn everything that the libraries raise for odd bytes into a refusal.

    They raise ValueError for NUL bytes and undecodable names, RuntimeError for loops of links and
    for what zipfile does not support.
    """
    try:
        yield
    except (*UNREADABLE, ValueError, RuntimeError) as error:
        msg = f"{path.name}: {what}: {error}"
        raise UnsafeArchiveError(msg) from error


def _normal(name: str) -> str:
    return PurePosixPath(name).as_posix()


def _problem(member: tarfile.TarInfo, links: AbstractSet[str]) -> str | None:
    if not is_inside(member.name):
        return "would be written outside"
    if not (member.isfile() or member.isdir() or member.issym()):
        return "is neither a file, a directory nor a symbolic link"
    if not links.isdisjoint(parent.as_posix() for parent in PurePosixPath(member.name).parents):
        return "would be written through a link"
    return None


def _extract(archive: tarfile.TarFile, member: tarfile.TarInfo, directory: Path) -> None:
    target = directory / member.name
    if member.isdir():
        target.mkdir(parents=True, exist_ok=True)
    elif member.isfile() and (content := archive.extractfile(member)) is not None:
        target.parent.mkdir(parents=True, exist_ok=True)
        with target.open("xb") as stream:
            shutil.copyfileobj(content, stream)
        target.chmod(0o755 if member.mode & 0o100 else 0o644)


def _make_links(archive: str, members: Iterable[tarfile.TarInfo], directory: Path) -> None:
    """Make the links, and take all away again if one leads outside once all are there."""
    made: list[tuple[Path, str]] = []
    for member in members:
        if member.issym():
            target = directory / member.name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.symlink_to(member.linkname)
            made.append((target, member.linkname))
    outside = [(link, to) for link, to in made if not _leads_inside(link, directory)]
    if outside:
        for link, _ in made:
            link.unlink()
        link, to = outside[0]
        msg = f"{archive}: {link.name!r} links to {to!r}, which is outside or a loop."
        raise UnsafeArchiveError(msg)


def _leads_inside(link: Path, directory: Path) -> bool:
    try:
        return link.resolve().is_relative_to(directory.resolve())
    except (OSError, RuntimeError):
        return False


def unpack_zip(path: Path, directory: Path) -> None:
    """Unpack a zip file (a wheel) into *directory*.

    Raises:
        UnsafeArchiveError: it is damaged, too large, or a member could reach outside.
    """
    with _refusing(path, "not a readable zip archive"), zipfile.ZipFile(path) as archive:
        names = archive.namelist()
        if len(names) > MOST_MEMBERS or _unpacked_size(archive) > LARGEST_UNPACKED:
            msg = f"{path.name}: unpacks to more than the limits allow."
            raise UnsafeArchiveError(msg)
        for name in names:
            if not is_inside(name):
                msg = f"{path.name}: {name!r} would be written outside. Nothing of it is used."
                raise UnsafeArchiveError(msg)
        archive.extractall(directory)  # noqa: S202 - every name was checked


def _unpacked_size(archive: zipfile.ZipFile) -> int:
    return sum(member.file_size for member in archive.infolist())


def is_inside(name: str) -> bool:
    """Whether a member's name stays below the directory it is unpacked into."""
    path = PurePosixPath(name)
    return not path.is_absolute() and ".." not in path.parts and "\\" not in name


def read_files(path: Path, *, largest: int) -> Mapping[str, bytes]:
    """Return the regular files of a small tar file by name; *largest* is in bytes.

    Raises:
        UnsafeArchiveError: it is not a tar file, or its files are larger than expected.
    """
    files: dict[str, bytes] = {}
    members = members_of(path)
    if sum(member.size for member in members) > largest:
        msg = f"{path.name}: holds more than {largest} bytes, which is not expected of it."
        raise UnsafeArchiveError(msg)
    with _reading(path) as stream, tarfile.open(fileobj=stream, mode="r|") as archive:
        for member in archive:
            if member.isfile() and (content := archive.extractfile(member)) is not None:
                files[member.name] = content.read()
    return files
