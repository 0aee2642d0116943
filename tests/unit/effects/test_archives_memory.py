"""A small archive of very many bytes is refused before they are in memory."""

import gzip
import hashlib
import io
import tarfile
import tracemalloc
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from pipeline.effects import archives
from pipeline.effects.archives import (
    Compression,
    Entry,
    ZstdReader,
    members_of,
    read_files,
    uncompressed_digest,
    unpack,
    unpack_zip,
    write_archive,
    zip_members_of,
)
from pipeline.errors import UnsafeArchiveError

MEGABYTE = 1 << 20
LARGE = 32 * MEGABYTE
LITTLE = 4 * MEGABYTE
"""What reading may take at most; the archives below hold eight times as much."""

READERS = [members_of, uncompressed_digest, lambda path: unpack(path, path.parent / "out")]
Reader = Callable[[Path], object]


@contextmanager
def in_little_memory() -> Iterator[None]:
    """Fail if more than a little of Python's memory was taken at once."""
    tracemalloc.start()
    try:
        yield
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < LITTLE


def header(name: str = "a", **fields: Any) -> bytes:
    """Return one block with a member's header, whatever is in it."""
    info = tarfile.TarInfo(name)
    for field, value in fields.items():
        setattr(info, field, value)
    return info.tobuf(tarfile.USTAR_FORMAT)


def padded(content: bytes) -> bytes:
    """Return *content* in whole blocks."""
    return content + bytes(-len(content) % tarfile.BLOCKSIZE)


def record(key: bytes, size: int) -> bytes:
    """Return one pax record of *size* bytes."""
    start = b"%d %s=" % (size, key)
    return start + b"x" * (size - len(start) - 1) + b"\n"


def extended(kind: bytes, size: int) -> bytes:
    """Return an extended header of *size* bytes."""
    content = record(b"comment", size) if kind in {b"x", b"g"} else b"x" * size
    return header("h", type=kind, size=size) + padded(content)


def gzipped(path: Path, *parts: bytes, level: int = 1) -> Path:
    """Write a gzip file, whatever is in it."""
    with gzip.open(path, "wb", compresslevel=level) as stream:
        for part in parts:
            stream.write(part)
    return path


def zstandard_frame(path: Path, content: bytes, **options: Any) -> Path:
    """Write a zstd file in one of the forms that the format has."""
    parameters = zstandard.ZstdCompressionParameters.from_level(3, **options)
    path.write_bytes(zstandard.ZstdCompressor(compression_params=parameters).compress(content))
    return path


def streamed(path: Path, content: bytes) -> Path:
    """Write a zstd file by a writer that did not know how much would come."""
    with (
        path.open("wb") as raw,
        zstandard.ZstdCompressor(level=19).stream_writer(raw, closefd=False) as stream,
    ):
        stream.write(content)
    return path


def test_a_large_member_of_zeros_is_read_in_little_memory(tmp_path: Path) -> None:
    """It is 3 kB of zstd; one chunk of that must not become all of it."""
    tar = header("zeros", size=LARGE) + bytes(LARGE) + bytes(1024)
    path = streamed(tmp_path / "a.tar.zst", tar)
    assert path.stat().st_size < 1 << 16
    digest = hashlib.sha256(tar).hexdigest()
    del tar

    with in_little_memory():
        members = members_of(path)
        unpack(path, tmp_path / "out")
        assert uncompressed_digest(path) == digest

    assert [(item.name, item.size) for item in members] == [("zeros", LARGE)]
    assert (tmp_path / "out" / "zeros").stat().st_size == LARGE


@pytest.mark.parametrize("size", [1, 10, 1 << 17, (1 << 17) + 1, 1 << 18, 3 * MEGABYTE])
@pytest.mark.parametrize("checksum", [False, True])
@pytest.mark.parametrize("sized", [False, True])
@pytest.mark.parametrize("random", [False, True], ids=["zeros", "incompressible"])
def test_every_form_of_a_frame_is_read(
    tmp_path: Path, size: int, *, checksum: bool, sized: bool, random: bool
) -> None:
    content = hashlib.shake_128(b"seed").digest(size) if random else bytes(size)
    path = zstandard_frame(
        tmp_path / "a.zst", content, write_checksum=checksum, write_content_size=sized
    )

    assert io.BufferedReader(ZstdReader(io.BytesIO(path.read_bytes()))).read() == content


@given(st.lists(st.tuples(st.binary(max_size=9), st.integers(1, 40_000)), max_size=4))
def test_what_was_compressed_is_read(parts: list[tuple[bytes, int]]) -> None:
    content = b"".join(part * count for part, count in parts)
    raw = io.BytesIO(zstandard.compress(content, 3))

    assert io.BufferedReader(ZstdReader(raw)).read() == content


@pytest.mark.parametrize("checksum", [False, True])
def test_a_frame_of_any_form_that_is_cut_off_is_refused(tmp_path: Path, *, checksum: bool) -> None:
    content = hashlib.shake_128(b"seed").digest(300) + bytes(300_000)
    whole = zstandard_frame(tmp_path / "a.zst", content, write_checksum=checksum).read_bytes()
    cut = tmp_path / "cut.tar.zst"

    for size in range(len(whole)):
        cut.write_bytes(whole[:size])
        with pytest.raises(EOFError, match="the zstd frame is cut off"):
            io.BufferedReader(ZstdReader(io.BytesIO(whole[:size]))).read()
        with pytest.raises(UnsafeArchiveError):
            members_of(cut)


def test_a_second_frame_is_refused(tmp_path: Path) -> None:
    path = zstandard_frame(tmp_path / "a.tar.zst", bytes(10240))
    path.write_bytes(path.read_bytes() * 2)

    with pytest.raises(UnsafeArchiveError, match="bytes follow the zstd frame"):
        uncompressed_digest(path)


@pytest.mark.parametrize(
    "magic", [0x184D2A50, 0xFD2FB527, 0xFD2FB528 + 1], ids=["skippable", "legacy", "other"]
)
def test_what_is_no_zstd_frame_is_refused(tmp_path: Path, magic: int) -> None:
    path = tmp_path / "a.tar.zst"
    path.write_bytes(magic.to_bytes(4, "little") + (4).to_bytes(4, "little") + bytes(4))

    with pytest.raises(UnsafeArchiveError, match="not a zstd frame"):
        members_of(path)


def test_a_frame_that_needs_a_large_window_is_refused(tmp_path: Path) -> None:
    """The library takes that much memory before it has decompressed anything."""
    path = zstandard_frame(tmp_path / "a.tar.zst", bytes(2 * archives.ZSTD_WINDOW), window_log=27)

    with pytest.raises(UnsafeArchiveError, match="too much memory"):
        members_of(path)


@pytest.mark.parametrize("kind", [b"x", b"g", b"L", b"K"], ids=["x", "g", "L", "K"])
@pytest.mark.parametrize("reader", READERS[::2], ids=["members", "unpack"])
def test_a_large_extended_header_is_refused_before_it_is_read(
    tmp_path: Path, kind: bytes, reader: Reader
) -> None:
    path = gzipped(tmp_path / "a.tar.gz", extended(kind, LARGE), header(), bytes(1024))

    with in_little_memory(), pytest.raises(UnsafeArchiveError, match=r"^a\.tar\.gz: goes on"):
        reader(path)


@pytest.mark.parametrize("first", [b"x", b"L"], ids=["x", "L"])
def test_many_extended_headers_of_one_member_are_refused(tmp_path: Path, first: bytes) -> None:
    """Each is kept while the next is read."""
    headers = [extended(first, MEGABYTE // 2)] * 60
    path = gzipped(tmp_path / "a.tar.gz", *headers, header(), bytes(1024))

    with in_little_memory(), pytest.raises(UnsafeArchiveError, match="goes on"):
        members_of(path)


@pytest.mark.parametrize("kind", [b"x", b"g", b"L", b"K"], ids=["x", "g", "L", "K"])
def test_large_headers_of_many_members_are_refused(tmp_path: Path, kind: bytes) -> None:
    """What they tell is kept with each member, or for all that follow."""
    parts = [
        part for number in range(100) for part in (extended(kind, 300_000), header(str(number)))
    ]
    path = gzipped(tmp_path / "a.tar.gz", *parts, bytes(1024))

    with in_little_memory(), pytest.raises(UnsafeArchiveError, match="goes on"):
        members_of(path)


def records(count: int) -> bytes:
    """Return a header for all members with *count* records."""
    content = b"".join(record(b"k%06d" % number, 12) for number in range(count))
    return header("h", type=b"g", size=len(content)) + padded(content)


def test_many_records_for_all_members_are_refused(tmp_path: Path) -> None:
    """Python's tarfile copies them for each member."""
    members = [header(str(number)) for number in range(200)]
    path = gzipped(tmp_path / "a.tar.gz", records(archives.MOST_RECORDS), *members, bytes(1024))
    with in_little_memory():
        assert len(members_of(path)) == 200

    path = gzipped(tmp_path / "a.tar.gz", records(archives.MOST_RECORDS + 1), *members, bytes(1024))

    with pytest.raises(UnsafeArchiveError, match=r"a\.tar\.gz: .*: 0: has 1001 pax records"):
        members_of(path)


@pytest.mark.parametrize("kind", [tarfile.DIRTYPE, tarfile.SYMTYPE], ids=["directory", "link"])
def test_a_size_without_content_allows_no_larger_header(tmp_path: Path, kind: bytes) -> None:
    path = gzipped(
        tmp_path / "a.tar.gz",
        header("d", type=kind, linkname="e", size=LARGE),
        extended(b"x", LARGE),
        header(),
        bytes(1024),
    )

    with in_little_memory(), pytest.raises(UnsafeArchiveError):
        members_of(path)


def test_a_map_of_a_sparse_file_is_not_read_without_end(tmp_path: Path) -> None:
    """It goes on as long as each block says that another follows."""
    sparse = bytearray(header("sparse", type=tarfile.GNUTYPE_SPARSE))
    sparse[482] = 1
    sparse[148:156] = b"%06o\0 " % tarfile.calc_chksums(bytes(sparse))[0]  # type: ignore[attr-defined]
    block = bytearray(b"00000000001\0" * 42 + bytes(8))
    block[504] = 1
    path = gzipped(tmp_path / "a.tar.gz", bytes(sparse), bytes(block) * (LARGE // 512))

    with pytest.raises(UnsafeArchiveError, match="goes on"):
        members_of(path)


def test_much_behind_the_last_member_is_refused(tmp_path: Path) -> None:
    path = gzipped(tmp_path / "a.tar.gz", header(), bytes(2 * MEGABYTE))

    with pytest.raises(UnsafeArchiveError, match="goes on"):
        members_of(path)


def test_a_large_extended_header_is_refused_at_exactly_its_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Blocks that are read ahead count too, so the whole record is what must fit."""
    path = tmp_path / "a.tar"
    path.write_bytes(extended(b"x", 9000) + header() + bytes(20480 - 512 * 20))
    size = path.stat().st_size
    assert size == 20480
    monkeypatch.setattr(archives, "USUAL_HEADER", 0)

    monkeypatch.setattr(archives, "LARGEST_HEADER", size)
    assert len(members_of(path)) == 1

    monkeypatch.setattr(archives, "LARGEST_HEADER", size - 1)
    with pytest.raises(UnsafeArchiveError, match=f"goes on behind byte {size - 1},"):
        members_of(path)


def test_a_header_as_large_as_any_release_needs_is_read(tmp_path: Path) -> None:
    """Paths of 4 kB with a target as long, which is as much as Linux takes."""
    name = "/".join(["d" * 250] * 16)
    info = tarfile.TarInfo(name)
    info.type, info.linkname = tarfile.SYMTYPE, name
    with tarfile.open(tmp_path / "a.tar.gz", "w:gz", format=tarfile.PAX_FORMAT) as archive:
        for _ in range(100):
            archive.addfile(info)

    members = members_of(tmp_path / "a.tar.gz")

    assert {(item.name, item.linkname) for item in members} == {(name, name)}


@pytest.mark.parametrize("fmt", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT], ids=["pax", "gnu"])
def test_headers_of_usual_size_are_read_however_many_there_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fmt: int
) -> None:
    monkeypatch.setattr(archives, "LARGEST_HEADER", 1 << 14)
    with tarfile.open(tmp_path / "a.tar.gz", "w:gz", format=fmt) as archive:
        for number in range(500):
            archive.addfile(tarfile.TarInfo(f"{'n' * 200}{number}"))

    assert len(members_of(tmp_path / "a.tar.gz")) == 500


@pytest.mark.parametrize("suffix", [".tar.gz", ".tar.zst"])
def test_more_bytes_than_the_limits_allow_are_not_digested(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str
) -> None:
    path = tmp_path / f"a{suffix}"
    compression = Compression(suffix.rpartition(".")[2])
    entries = [Entry(path="a", content=bytes(20_000))]
    write_archive(path, entries, epoch=0, compression=compression)
    monkeypatch.setattr(archives, "MOST_MEMBERS", 0)
    monkeypatch.setattr(archives, "LARGEST_HEADER", 0)
    monkeypatch.setattr(archives, "LARGEST_UNPACKED", 30_720)
    assert len(uncompressed_digest(path)) == 64

    monkeypatch.setattr(archives, "LARGEST_UNPACKED", 30_719)

    with pytest.raises(UnsafeArchiveError, match="goes on behind byte 30719,"):
        uncompressed_digest(path)


def test_small_files_are_read_within_the_same_limits(tmp_path: Path) -> None:
    path = gzipped(tmp_path / "a.tar.gz", extended(b"x", LARGE), header(), bytes(1024))

    with in_little_memory(), pytest.raises(UnsafeArchiveError, match="goes on"):
        read_files(path, largest=10)


@pytest.mark.parametrize("reader", [zip_members_of, lambda path: unpack_zip(path, path.parent)])
@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA], ids=["bzip2", "lzma"])
def test_a_compression_whose_output_has_no_bound_is_refused(
    tmp_path: Path, reader: Reader, method: int
) -> None:
    """Python's zipfile decompresses a chunk of these whole; no wheel and no release uses them."""
    with zipfile.ZipFile(tmp_path / "a.zip", "w", method) as archive:
        archive.writestr("zeros", bytes(LARGE))

    with in_little_memory(), pytest.raises(UnsafeArchiveError, match="zeros: is compressed by"):
        reader(tmp_path / "a.zip")


def test_the_target_of_a_link_in_a_zip_file_is_not_read_without_end(tmp_path: Path) -> None:
    info = zipfile.ZipInfo("link")
    info.external_attr = 0o120777 << 16
    info.compress_type = zipfile.ZIP_DEFLATED
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr(info, b"x" * LARGE)

    with in_little_memory(), pytest.raises(UnsafeArchiveError, match="link: its target has"):
        zip_members_of(tmp_path / "a.zip")
