"""Tar archives: written so that equal content gives equal bytes, read as hostile until checked.

Written archives have sorted members, one owner, one time stamp and modes 0755 or 0644, in the
ustar format where names fit and pax where they do not. The gzip header has no name and no time.

Gzip is written by libdeflate: a third of zlib's time for fewer bytes, at the price of holding the
archive in memory, and by a version that the lock file pins, so that its bytes are pinned too.

Reading takes little memory whatever is in an archive: a few kilobytes can stand for gigabytes, so
both what is decompressed at a time and what the headers may take together have bounds.
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
# A header with long names or attributes takes more than one block. All together may take as much
# as is usual for each, and once as much as only a hostile one takes.
USUAL_HEADER: Final = 4 * tarfile.BLOCKSIZE
LARGEST_HEADER: Final = 1 << 20
MOST_RECORDS: Final = 1000  # what pax headers, also those for all members, tell of one
LONGEST_LINK: Final = 4096  # Linux' PATH_MAX
UNIX_SYSTEM: Final = 3
SPECIAL_TYPES: Final = {
    stat.S_IFIFO: tarfile.FIFOTYPE,
    stat.S_IFCHR: tarfile.CHRTYPE,
    stat.S_IFBLK: tarfile.BLKTYPE,
    stat.S_IFSOCK: tarfile.FIFOTYPE,  # tar has no type for sockets
}
ZSTD_WINDOW: Final = 1 << 23  # that of ZSTD_LEVEL; reading takes as much memory
ZSTD_HEADER: Final = 5  # that much of a frame tells how long its header is
ZSTD_BLOCK_HEADER: Final = 3
ZSTD_RLE: Final = 1  # the kind of block that is one byte, repeated
ZSTD_CHECKSUM: Final = 4
NOT_IN_WINDOWS_NAMES: Final = frozenset('<>:"|?*')
# Python's zipfile decompresses a whole chunk of any other at once.
BOUNDED_ZIP: Final = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
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
    """Reads one zstd frame to its end; the library's own reader takes a cut-off one for whole.

    The library decompresses all it is given at once, so it is given one block at a time, of which
    none becomes more than 128 kB. Format: RFC 8878, section 3.1.1.
    """

    def __init__(self, raw: IO[bytes]) -> None:
        self._raw = raw
        self._frame = zstandard.ZstdDecompressor(max_window_size=ZSTD_WINDOW).decompressobj()
        self._parts = _zstd_parts(raw)
        self._pending = memoryview(b"")

    def readable(self) -> bool:
        """Return True, as a stream to read from does."""
        return True

    def readinto(self, buffer: Buffer, /) -> int:
        """Fill *buffer* as far as possible; 0 at the end of the frame."""
        while not self._pending and not self._frame.eof:
            self._pending = memoryview(self._frame.decompress(next(self._parts)))
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


def _zstd_parts(raw: IO[bytes]) -> Iterator[bytes]:
    """Yield a frame's header, each of its blocks, and its checksum if it has one."""
    start = _exactly(raw, ZSTD_HEADER)
    if not start.startswith(zstandard.FRAME_HEADER):
        msg = "not a zstd frame"
        raise OSError(msg)
    yield start + _exactly(raw, zstandard.frame_header_size(start) - len(start))
    last = False
    while not last:
        header = _exactly(raw, ZSTD_BLOCK_HEADER)
        fields = int.from_bytes(header, "little")
        last, kind, size = bool(fields & 1), fields >> 1 & 3, fields >> 3
        yield header + _exactly(raw, 1 if kind == ZSTD_RLE else size)
    yield _exactly(raw, ZSTD_CHECKSUM)


def _exactly(raw: IO[bytes], size: int) -> bytes:
    data = raw.read(size)
    if len(data) < size:
        msg = "the zstd frame is cut off"
        raise EOFError(msg)
    return data


class BoundedReader:
    """Reads what an archive holds, and refuses it when it goes on behind a limit.

    ``limit`` counts from the beginning, and may be raised while what stands before it is read.
    """

    def __init__(self, name: str, source: IO[bytes]) -> None:
        self.limit = LARGEST_UNPACKED + LARGEST_HEADER + MOST_MEMBERS * USUAL_HEADER
        self._name = name
        self._source = source
        self._position = 0

    def read(self, size: int) -> bytes:
        """Return up to *size* bytes, none at the end.

        Raises:
            UnsafeArchiveError: there are more than the limit allows.
        """
        data = self._source.read(size)
        self._position += len(data)
        if self._position > self.limit:
            msg = (
                f"{self._name}: goes on behind byte {self.limit}, where what came before allows "
                "no release to. It is larger than the limits, or a header of it is."
            )
            raise UnsafeArchiveError(msg)
        return data


@contextmanager
def _reading(path: Path) -> Iterator[BoundedReader]:
    """Give the uncompressed bytes of *path*; what it is decides its name."""
    with ExitStack() as stack:
        raw = stack.enter_context(path.open("rb"))
        if path.suffix in {".gz", ".tgz"}:
            plain = cast("IO[bytes]", gzip.GzipFile(fileobj=raw, mode="rb"))
        elif path.suffix == ".zst":
            plain = cast("IO[bytes]", io.BufferedReader(ZstdReader(raw), CHUNK))
        else:
            plain = raw
        yield BoundedReader(path.name, plain)


@contextmanager
def _reading_tar(
    path: Path,
) -> Iterator[tuple[tarfile.TarFile, Iterator[tarfile.TarInfo]]]:
    """Give a tar file and its members, one after the other.

    tarfile reads whatever a header says is part of it, and all headers that come before a member.
    """
    with _reading(path) as stream:
        stream.limit = LARGEST_HEADER
        source = cast("IO[bytes]", stream)
        with tarfile.open(fileobj=source, mode="r|") as archive:
            yield archive, _members(archive, stream)


def _members(archive: tarfile.TarFile, stream: BoundedReader) -> Iterator[tarfile.TarInfo]:
    """Yield the members; what is no content of theirs may only be as large as headers are."""
    content = 0
    for count, member in enumerate(archive, 1):
        content += archive.offset - member.offset_data
        stream.limit = content + LARGEST_HEADER + count * USUAL_HEADER
        _check_records(member)
        member.pax_headers = {}  # tarfile gives each member a copy; nothing looks at them
        yield member
    _read_to_end(stream)


def _check_records(member: tarfile.TarInfo) -> None:
    """Refuse too many pax records, and any that is no text: some tarfiles refuse it, others do not.

    Raises:
        tarfile.ReadError: there are such.
    """
    if len(member.pax_headers) > MOST_RECORDS:
        msg = f"{member.name}: has {len(member.pax_headers)} pax records"
        raise tarfile.ReadError(msg)
    for record in member.pax_headers.items():
        "=".join(record).encode()  # a UnicodeEncodeError, which is refused as well


def members_of(path: Path) -> tuple[tarfile.TarInfo, ...]:
    """Return the headers of every member, without unpacking anything.

    Raises:
        UnsafeArchiveError: it cannot be read to its end, or holds more than any release does.
    """
    found, total = [], 0
    with (
        _refusing(path, "not a readable tar archive"),
        _reading_tar(path) as (_, members),
    ):
        for member in members:
            found.append(member)
            total += member.size
            if total > LARGEST_UNPACKED or len(found) > MOST_MEMBERS:
                msg = f"{path.name}: {member.name}: unpacks to more than the limits allow."
                raise UnsafeArchiveError(msg)
    return tuple(found)


def zip_members_of(path: Path) -> tuple[tarfile.TarInfo, ...]:
    """Return the headers of a zip file's members in tar's terms, without unpacking anything.

    It is one for Windows, so no two names may be one there. Directories that are only implied are
    not listed. A member that is neither file nor directory by its Unix mode has tar's type of it.

    Raises:
        UnsafeArchiveError: it cannot be read, or holds more than any release does.
    """
    with _refusing(path, "not a readable zip archive"), zipfile.ZipFile(path) as archive:
        _refuse_large(path, archive)
        _refuse_ambiguous(archive.namelist())
        if (damaged := archive.testzip()) is not None:
            msg = f"{path.name}: {damaged}: is damaged."
            raise UnsafeArchiveError(msg)
        return tuple(_tar_header(archive, member) for member in archive.infolist())


def _refuse_large(path: Path, archive: zipfile.ZipFile) -> None:
    """Refuse what unpacks to more than any release or wheel, or could without saying so."""
    members = archive.infolist()
    total = sum(member.file_size for member in members)
    if len(members) > MOST_MEMBERS or total > LARGEST_UNPACKED:
        msg = f"{path.name}: unpacks to more than the limits allow."
        raise UnsafeArchiveError(msg)
    for member in members:
        if member.compress_type not in BOUNDED_ZIP:
            msg = f"{member.filename}: is compressed by method {member.compress_type}"
            raise zipfile.BadZipFile(msg)


def _refuse_ambiguous(names: Iterable[str]) -> None:
    """Refuse names that Windows takes for another one's, or for more than a name.

    It ignores case, and a colon stands behind a drive or before a second stream of a file. A name
    that is spelt the same twice is no matter of Windows, so a gate finds it.
    """
    spellings: dict[str, str] = {}
    for name in sorted(_with_parents(name.rstrip("/") for name in names)):
        if not NOT_IN_WINDOWS_NAMES.isdisjoint(name):
            msg = f"{name}: has a character that no name has on Windows"
            raise zipfile.BadZipFile(msg)
        other = spellings.setdefault(name.casefold(), name)
        if other != name:
            msg = f"{name}: is the same as {other} on Windows"
            raise zipfile.BadZipFile(msg)


def _tar_header(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> tarfile.TarInfo:
    header = tarfile.TarInfo(member.filename.rstrip("/"))
    mode = member.external_attr >> 16
    header.mode, header.size = stat.S_IMODE(mode), member.file_size
    header.mtime = int(datetime(*member.date_time, tzinfo=UTC).timestamp())
    if stat.S_ISLNK(mode):
        header.type, header.linkname = tarfile.SYMTYPE, _link_target(archive, member)
    elif (special := SPECIAL_TYPES.get(stat.S_IFMT(mode))) is not None:
        header.type = special
    elif member.is_dir():
        header.type = tarfile.DIRTYPE
    return header


def _link_target(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> str:
    if member.file_size > LONGEST_LINK:
        msg = f"{member.filename}: its target has {member.file_size} bytes"
        raise zipfile.BadZipFile(msg)
    with archive.open(member) as content:
        return os.fsdecode(content.read(member.file_size))


def _read_to_end(stream: BoundedReader) -> None:
    """Read what follows the last member, so that a checksum at the very end is checked too."""
    while stream.read(CHUNK):
        pass


def uncompressed_digest(path: Path) -> str:
    """Return the sha256 of the tar stream inside a compressed archive.

    Raises:
        UnsafeArchiveError: it cannot be read to its end, or holds more than any release does.
    """
    digest = hashlib.sha256()
    with _refusing(path, "not a readable archive"), _reading(path) as stream:
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
        _reading_tar(path) as (archive, headers),
    ):
        for member in headers:
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
        _refuse_large(path, archive)
        for name in archive.namelist():
            if not is_inside(name):
                msg = f"{path.name}: {name!r} would be written outside. Nothing of it is used."
                raise UnsafeArchiveError(msg)
        archive.extractall(directory)  # noqa: S202 - every name was checked


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
    with _reading_tar(path) as (archive, headers):
        for member in headers:
            if member.isfile() and (content := archive.extractfile(member)) is not None:
                files[member.name] = content.read()
    return files
