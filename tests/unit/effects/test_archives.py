"""Archives: equal content gives equal bytes, and hostile ones are refused."""

import gzip
import hashlib
import io
import os
import random
import tarfile
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.effects import archives
from pipeline.effects.archives import (
    Compression,
    Entry,
    Owner,
    entries_of,
    is_inside,
    members_of,
    read_files,
    uncompressed_digest,
    unpack,
    unpack_zip,
    write_archive,
    write_zip,
    zip_members_of,
)
from pipeline.errors import UnsafeArchiveError

EPOCH = 1795219200
COMPRESSIONS = [
    pytest.param(Compression.NONE, ".tar", id="plain"),
    pytest.param(Compression.GZIP, ".tar.gz", id="gzip"),
    pytest.param(Compression.ZSTD, ".tar.zst", id="zstd"),
]
COMPRESSED = COMPRESSIONS[1:]
ENTRIES = (
    Entry(path="demo/bin/demo", content=b"\x7fELF", executable=True),
    Entry(path="demo/bin/demo1", link="demo"),
    Entry(path="demo/README.md", content="ü\n".encode()),
    Entry(path="demo/empty", directory=True),
    Entry(path=f"demo/{'d' * 90}/{'f' * 90}", content=b"long"),
)

Crafted = tuple[tarfile.TarInfo, bytes]


def written(path: Path, entries: Sequence[Entry], **options: Any) -> bytes:
    """Return the bytes of an archive of *entries*."""
    write_archive(path, entries, **{"epoch": EPOCH, **options})
    return path.read_bytes()


def member(name: str, content: bytes = b"", **fields: Any) -> Crafted:
    """Return a member of a crafted archive, whatever the name."""
    info = tarfile.TarInfo(name)
    info.size = len(content)
    for field, value in fields.items():
        setattr(info, field, value)
    return info, content


def link(name: str, target: str) -> Crafted:
    """Return a symbolic link of a crafted archive."""
    return member(name, type=tarfile.SYMTYPE, linkname=target)


def crafted(path: Path, *members: Crafted) -> Path:
    """Write an archive that the pipeline itself would never write."""
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as archive:
        for info, content in members:
            archive.addfile(info, io.BytesIO(content))
    return path


def zipped(path: Path, *names: str) -> Path:
    """Write a zip file with members of any name."""
    with zipfile.ZipFile(path, "w") as archive:
        for name in names:
            archive.writestr(name, b"content")
    return path


def is_read(path: Path, data: bytes) -> bool:
    """Whether *data* is taken for an archive; any error but ours fails the test."""
    path.write_bytes(data)
    try:
        members_of(path)
    except UnsafeArchiveError:
        return False
    return True


@pytest.fixture
def umask() -> Any:
    """Give ``os.umask``; the old one is back afterwards."""
    before = os.umask(0o022)
    yield os.umask
    os.umask(before)


@pytest.mark.parametrize(("compression", "suffix"), COMPRESSIONS)
def test_the_order_of_entries_does_not_matter(
    tmp_path: Path, compression: Compression, suffix: str
) -> None:
    expected = written(tmp_path / f"a{suffix}", ENTRIES, compression=compression)

    for seed in range(5):
        shuffled = random.Random(seed).sample(ENTRIES, len(ENTRIES))  # noqa: S311
        other = written(tmp_path / f"b{suffix}", shuffled, compression=compression)
        assert other == expected


@pytest.mark.parametrize(("compression", "suffix"), COMPRESSIONS)
def test_the_name_of_the_archive_does_not_matter(
    tmp_path: Path, compression: Compression, suffix: str
) -> None:
    first = written(tmp_path / f"a{suffix}", ENTRIES, compression=compression)
    second = written(tmp_path / "deeper" / f"b{suffix}", ENTRIES, compression=compression)

    assert first == second


def test_umask_times_and_working_directory_of_the_source_do_not_matter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, umask: Callable[[int], None]
) -> None:
    packed = []
    for number, mask in enumerate((0o000, 0o077)):
        umask(mask)
        place = tmp_path / f"checkout{number}"
        tree = place / "tree"
        (tree / "bin").mkdir(parents=True)
        (tree / "bin" / "demo").write_bytes(b"\x7fELF")
        (tree / "bin" / "demo").chmod(0o777 & ~mask)
        (tree / "bin" / "link").symlink_to("demo")
        (tree / "README.md").write_text("text")
        os.utime(tree / "README.md", (number, number))
        monkeypatch.chdir(place)
        entries = entries_of(Path("tree"), "demo")
        packed.append(written(tmp_path / f"{number}.tar.gz", entries, compression=Compression.GZIP))

    assert packed[0] == packed[1]


def test_a_tar_stream_is_the_same_on_every_machine_and_in_every_version(tmp_path: Path) -> None:
    """A change here changes every archive: is it meant, and are stage versions raised?"""
    data = written(tmp_path / "a.tar", ENTRIES, owner=Owner(uid=1000, gid=1000))

    assert (
        hashlib.sha256(data).hexdigest()
        == "6a771e13ed3a451d691ac1d599771766b00650924ecae57b0180f47df822606d"
    )


def test_a_gzip_file_is_the_same_on_every_machine(tmp_path: Path) -> None:
    """A change here comes with another version of libdeflate: every .tar.gz has other bytes."""
    data = written(tmp_path / "a.tar.gz", ENTRIES, compression=Compression.GZIP)

    assert (
        hashlib.sha256(data).hexdigest()
        == "72e9ae2b7ed4e8067c88d9e6fe97b97b8d7764e02601bab6ffb55d3dcaade161"
    )


def test_a_zstd_file_is_the_same_for_any_number_of_processors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There is more in it than one thread is given at a time."""
    content = random.Random(0).randbytes(1 << 20) * 40  # noqa: S311
    packed = set()
    for count in (1, 3, None):
        monkeypatch.setattr("os.cpu_count", lambda count=count: count)
        path = tmp_path / f"{count}.tar.zst"
        written(path, [Entry(path="a", content=content)], compression=Compression.ZSTD)
        packed.add(hashlib.sha256(path.read_bytes()).hexdigest())

    assert len(packed) == 1


def test_a_gzip_header_tells_no_name_and_no_time(tmp_path: Path) -> None:
    data = written(tmp_path / "secret.tar.gz", ENTRIES, compression=Compression.GZIP)

    magic, method, flags, time = data[:2], data[2], data[3], data[4:8]
    assert (magic, method) == (b"\x1f\x8b", 8)
    assert (flags, time) == (0, bytes(4))
    assert b"secret" not in data[:32]


def test_both_compressions_hold_the_same_stream(tmp_path: Path) -> None:
    plain = written(tmp_path / "a.tar", ENTRIES)
    for compression in (Compression.GZIP, Compression.ZSTD):
        path = tmp_path / f"a.tar.{compression}"
        written(path, ENTRIES, compression=compression)

        assert uncompressed_digest(path) == hashlib.sha256(plain).hexdigest()
        assert len(path.read_bytes()) < len(plain)


def test_gzip_is_read_by_others(tmp_path: Path) -> None:
    plain = written(tmp_path / "a.tar", ENTRIES)

    compressed = written(tmp_path / "a.tar.gz", ENTRIES, compression=Compression.GZIP)

    assert gzip.decompress(compressed) == plain


def test_members_have_one_owner_one_time_and_two_modes(tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    written(path, ENTRIES, owner=Owner(uid=7, gid=8))

    members = members_of(path)

    assert {(item.uid, item.gid, item.uname, item.gname) for item in members} == {(7, 8, "", "")}
    assert {item.mtime for item in members} == {EPOCH}
    assert {item.name: item.mode for item in members if item.isfile()} == {
        "demo/bin/demo": 0o755,
        "demo/README.md": 0o644,
        f"demo/{'d' * 90}/{'f' * 90}": 0o644,
    }
    assert {item.mode for item in members if item.isdir()} == {0o755}


def test_members_are_sorted_and_directories_come_before_what_they_hold(tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    written(path, [Entry(path="a/b/c"), Entry(path="a/b-c"), Entry(path="a/b/a")])

    names = [item.name for item in members_of(path)]

    assert names == ["a", "a/b", "a/b-c", "a/b/a", "a/b/c"]


def test_a_later_time_gives_other_bytes(tmp_path: Path) -> None:
    first = written(tmp_path / "a.tar", ENTRIES)

    assert written(tmp_path / "b.tar", ENTRIES, epoch=EPOCH + 1) != first


@pytest.mark.parametrize(("compression", "suffix"), COMPRESSIONS)
def test_a_file_that_cannot_be_read_leaves_no_archive(
    tmp_path: Path, compression: Compression, suffix: str
) -> None:
    entries = [Entry(path="a", content=b"x"), Entry(path="b", content=tmp_path / "missing")]

    with pytest.raises(FileNotFoundError):
        written(tmp_path / "out" / f"a{suffix}", entries, compression=compression)

    assert list((tmp_path / "out").iterdir()) == []


@settings(max_examples=20)
@given(
    st.dictionaries(
        st.from_regex(r"[a-c]{1,3}(/[a-cü]{1,3}){0,2}\.f", fullmatch=True),
        st.tuples(st.binary(max_size=20), st.booleans()),
        max_size=6,
    )
)
def test_what_is_packed_is_what_is_unpacked(
    tmp_path_factory: pytest.TempPathFactory,
    files: dict[str, tuple[bytes, bool]],
) -> None:
    directory = tmp_path_factory.mktemp("roundtrip")
    entries = [
        Entry(path=name, content=content, executable=executable)
        for name, (content, executable) in files.items()
    ]

    written(directory / "a.tar.gz", entries, compression=Compression.GZIP)
    unpack(directory / "a.tar.gz", directory / "out")

    found = {
        path.relative_to(directory / "out").as_posix(): (
            path.read_bytes(),
            bool(path.stat().st_mode & 0o100),
        )
        for path in (directory / "out").rglob("*.f")
    }
    assert found == files


def test_of_a_mode_only_the_owners_right_to_execute_stays(tmp_path: Path) -> None:
    modes = {"rwx": 0o700, "suid": 0o4755, "other-x": 0o645, "plain": 0o664, "none": 0o400}
    for name, mode in modes.items():
        (tmp_path / name).write_bytes(b"")
        (tmp_path / name).chmod(mode)

    entries = entries_of(tmp_path, "top")

    assert {entry.path: entry.executable for entry in entries} == {
        "top/rwx": True,
        "top/suid": True,
        "top/other-x": False,
        "top/plain": False,
        "top/none": False,
    }


def test_links_stay_links_and_are_not_followed(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    (tree / "real").mkdir(parents=True)
    (tree / "real" / "file").write_bytes(b"x")
    (tmp_path / "outside").write_bytes(b"secret")
    (tree / "to-directory").symlink_to("real")
    (tree / "to-outside").symlink_to("../outside")
    (tree / "dangling").symlink_to("nowhere")

    entries = entries_of(tree, "top")

    assert {entry.path: entry.link for entry in entries} == {
        "top/real/file": None,
        "top/to-directory": "real",
        "top/to-outside": "../outside",
        "top/dangling": "nowhere",
    }


def test_entries_come_sorted_with_files_only(tmp_path: Path) -> None:
    for name in ("b", "a", "c/d"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "empty").mkdir()

    assert [entry.path for entry in entries_of(tmp_path, "t")] == ["t/a", "t/b", "t/c/d"]


@pytest.mark.parametrize(
    "members",
    [
        pytest.param([member("/etc/passwd", b"x")], id="absolute"),
        pytest.param([member("../x", b"x")], id="climbs"),
        pytest.param([member("a/../../x", b"x")], id="climbs-inside"),
        pytest.param([member("..", type=tarfile.DIRTYPE)], id="climbing-directory"),
        pytest.param([member("null", type=tarfile.CHRTYPE, devmajor=1)], id="device"),
        pytest.param([member("sda", type=tarfile.BLKTYPE, devmajor=8)], id="block-device"),
        pytest.param([member("pipe", type=tarfile.FIFOTYPE)], id="fifo"),
        pytest.param([link("l", "../x")], id="link-climbs"),
        pytest.param([link("a/l", "../../x")], id="link-climbs-from-below"),
        pytest.param([link("l", "/etc/passwd")], id="link-absolute"),
        pytest.param(
            [member("h", type=tarfile.LNKTYPE, linkname="../victim")], id="hard-link-outside"
        ),
        pytest.param([link("d", ".."), member("d/x", b"x")], id="file-through-link"),
        pytest.param([link("d", "e"), link("e", ".."), link("d/x", "y")], id="link-chain"),
        pytest.param(
            [
                member("c", type=tarfile.DIRTYPE),
                link("a", "b/c/../.."),  # b is not there yet: looks harmless
                link("b", "."),
                link("a/x", "out/c"),
            ],
            id="link-that-turns-round-later",
        ),
    ],
)
def test_a_member_that_reaches_outside_is_refused(
    tmp_path: Path, members: Sequence[Crafted]
) -> None:
    victim = tmp_path / "victim"
    victim.write_bytes(b"untouched")
    archive = crafted(tmp_path / "hostile.tar", *members)
    out = tmp_path / "out"
    out.mkdir()

    with pytest.raises(UnsafeArchiveError, match=r"^hostile\.tar: "):
        unpack(archive, out)

    assert {path.name for path in tmp_path.iterdir()} == {"victim", "hostile.tar", "out"}
    assert victim.read_bytes() == b"untouched"
    assert victim.stat().st_nlink == 1


@pytest.mark.parametrize(
    "members",
    [
        pytest.param([member("a", pax_headers={"path": "a\0b"})], id="nul-in-name"),
        pytest.param(
            [member("a", type=tarfile.SYMTYPE, pax_headers={"linkpath": "a\0b"})],
            id="nul-in-link",
        ),
        pytest.param([link("a", "a")], id="link-to-itself"),
    ],
)
def test_a_member_that_no_system_can_make_is_refused_like_others(
    tmp_path: Path, members: Sequence[Crafted]
) -> None:
    archive = crafted(tmp_path / "hostile.tar", *members)

    with pytest.raises(UnsafeArchiveError):
        unpack(archive, tmp_path / "out")


def test_the_refused_member_is_named(tmp_path: Path) -> None:
    archive = crafted(tmp_path / "hostile.tar", member("good"), member("../evil"))

    with pytest.raises(UnsafeArchiveError, match=r"\.\./evil"):
        unpack(archive, tmp_path / "out")


def test_a_second_member_of_a_name_is_refused(tmp_path: Path) -> None:
    """Which of the two a client gets would depend on the client."""
    archive = crafted(tmp_path / "twice.tar", member("a", b"1"), member("a", b"2"))
    (tmp_path / "out").mkdir()

    with pytest.raises(UnsafeArchiveError):
        unpack(archive, tmp_path / "out")


def test_no_right_beyond_executing_is_given(tmp_path: Path) -> None:
    archive = crafted(
        tmp_path / "a.tar",
        member("suid", b"x", mode=0o6755),
        member("world", b"x", mode=0o666),
        member("dir", type=tarfile.DIRTYPE, mode=0o1777),
    )
    out = tmp_path / "out"
    out.mkdir()

    unpack(archive, out)

    assert (out / "suid").stat().st_mode & 0o7777 == 0o755
    assert (out / "world").stat().st_mode & 0o7777 == 0o644
    assert (out / "dir").stat().st_mode & 0o7002 == 0


def test_harmless_links_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    entries = [Entry(path="t/bin/demo", content=b"x"), Entry(path="t/bin/l", link="demo")]
    written(path, [*entries, Entry(path="t/lib/up", link="../bin/demo")])
    (tmp_path / "out").mkdir()

    unpack(path, tmp_path / "out")

    assert (tmp_path / "out/t/bin/l").readlink() == Path("demo")
    assert (tmp_path / "out/t/lib/up").read_bytes() == b"x"


@pytest.mark.parametrize(("compression", "suffix"), COMPRESSED)
def test_a_truncated_archive_is_refused_at_every_length(
    tmp_path: Path,
    compression: Compression,
    suffix: str,
) -> None:
    whole = written(tmp_path / f"a{suffix}", ENTRIES, compression=compression)
    cut = tmp_path / f"cut{suffix}"

    accepted = [size for size in range(len(whole)) if is_read(cut, whole[:size])]

    assert accepted == []


@pytest.mark.parametrize(("compression", "suffix"), COMPRESSED)
def test_a_flipped_bit_is_refused_or_changes_nothing(
    tmp_path: Path, compression: Compression, suffix: str
) -> None:
    whole = written(tmp_path / f"a{suffix}", ENTRIES, compression=compression)
    digest = uncompressed_digest(tmp_path / f"a{suffix}")
    damaged = tmp_path / f"damaged{suffix}"
    accepted = 0

    for position in range(len(whole)):
        data = bytearray(whole)
        data[position] ^= 1 << position % 8
        if is_read(damaged, bytes(data)):
            accepted += 1
            assert uncompressed_digest(damaged) == digest

    assert accepted < len(whole) // 3


@pytest.mark.parametrize("suffix", [".tar", ".tar.gz", ".tar.zst"])
@given(data=st.binary(max_size=1200))
def test_any_other_bytes_are_refused(
    tmp_path_factory: pytest.TempPathFactory, suffix: str, data: bytes
) -> None:
    path = tmp_path_factory.getbasetemp() / f"garbage{suffix}"

    assert not is_read(path, b"garbage" + data)


@pytest.mark.parametrize(
    ("compression", "suffix"),
    [
        COMPRESSED[0],
        COMPRESSED[1],
    ],
)
def test_bytes_behind_the_end_are_refused(
    tmp_path: Path, compression: Compression, suffix: str
) -> None:
    """Other readers take them for a second part of the archive, or for damage."""
    path = tmp_path / f"a{suffix}"
    whole = written(path, ENTRIES, compression=compression)

    assert not is_read(path, whole + b"garbage")


def test_a_pax_header_that_is_not_text_is_refused(tmp_path: Path) -> None:
    path = crafted(tmp_path / "a.tar", member("a", pax_headers={"hdrcharset": "BINARY"}))
    path.write_bytes(path.read_bytes().replace(b"hdrcharset=BINARY", b"hdrcharset=B\xffNARY"))

    assert not is_read(path, path.read_bytes())


def test_too_many_members_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = crafted(tmp_path / "a.tar", member("1"), member("2"), member("3"))
    monkeypatch.setattr(archives, "MOST_MEMBERS", 3)
    assert len(members_of(path)) == 3

    monkeypatch.setattr(archives, "MOST_MEMBERS", 2)

    with pytest.raises(UnsafeArchiveError, match=r"a\.tar: 3: unpacks to more"):
        members_of(path)


def test_too_many_bytes_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = crafted(tmp_path / "a.tar", member("1", b"12345"), member("2", b"12345"))
    monkeypatch.setattr(archives, "LARGEST_UNPACKED", 10)
    assert len(members_of(path)) == 2

    monkeypatch.setattr(archives, "LARGEST_UNPACKED", 9)

    with pytest.raises(UnsafeArchiveError, match="unpacks to more than the limits allow"):
        unpack(path, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_bomb_is_refused_by_what_its_header_says(tmp_path: Path) -> None:
    """Only the header is written: reading the content would be too late."""
    info = tarfile.TarInfo("bomb")
    info.size = archives.LARGEST_UNPACKED + 1
    (tmp_path / "a.tar").write_bytes(info.tobuf())

    with pytest.raises(UnsafeArchiveError, match=r"bomb: unpacks to more"):
        members_of(tmp_path / "a.tar")


def test_small_files_are_read_by_name(tmp_path: Path) -> None:
    path = crafted(
        tmp_path / "a.tar",
        member("d", type=tarfile.DIRTYPE),
        member("d/a", b"12345"),
        link("d/l", "a"),
        member("b", b"12345"),
    )

    assert read_files(path, largest=10) == {"d/a": b"12345", "b": b"12345"}


def test_files_larger_than_expected_are_not_read(tmp_path: Path) -> None:
    path = crafted(tmp_path / "a.tar", member("a", b"12345"), member("b", b"12345"))

    with pytest.raises(UnsafeArchiveError, match="holds more than 9 bytes"):
        read_files(path, largest=9)


def test_a_wheel_is_unpacked(tmp_path: Path) -> None:
    path = zipped(tmp_path / "py.whl", "py/__init__.py", "py-1.dist-info/METADATA")

    unpack_zip(path, tmp_path / "out")

    assert (tmp_path / "out/py/__init__.py").read_bytes() == b"content"
    assert (tmp_path / "out/py-1.dist-info/METADATA").is_file()


@pytest.mark.parametrize(
    "name",
    ["../x", "a/../../x", "/etc/x", "..\\x", "a/.."],
    ids=["climbs", "climbs-inside", "absolute", "backslash", "ends-above"],
)
def test_a_member_that_reaches_outside_is_refused_by_name(tmp_path: Path, name: str) -> None:
    path = zipped(tmp_path / "hostile.whl", "good", name)

    with pytest.raises(UnsafeArchiveError) as caught:
        unpack_zip(path, tmp_path / "out")

    assert f"{name!r} would be written outside" in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_a_truncated_file_is_refused(tmp_path: Path) -> None:
    path = zipped(tmp_path / "a.whl", "a", "b")
    path.write_bytes(path.read_bytes()[:-10])

    with pytest.raises(UnsafeArchiveError, match=r"a\.whl: not a readable zip archive"):
        unpack_zip(path, tmp_path / "out")


def test_a_damaged_member_is_refused(tmp_path: Path) -> None:
    path = zipped(tmp_path / "a.whl", "a")
    path.write_bytes(path.read_bytes().replace(b"content", b"contenT"))

    with pytest.raises(UnsafeArchiveError, match="CRC"):
        unpack_zip(path, tmp_path / "out")


@pytest.mark.parametrize(
    ("offset", "value"), [(8, 1), (10, 99)], ids=["encrypted", "unknown-compression"]
)
def test_a_form_that_cannot_be_read_is_refused(tmp_path: Path, offset: int, value: int) -> None:
    path = zipped(tmp_path / "a.whl", "a")
    data = bytearray(path.read_bytes())
    central = data.index(b"PK\x01\x02")
    data[central + offset] = data[offset - 2] = value
    path.write_bytes(data)

    with pytest.raises(UnsafeArchiveError):
        unpack_zip(path, tmp_path / "out")


@pytest.mark.parametrize(
    ("limit", "value"), [("MOST_MEMBERS", 1), ("LARGEST_UNPACKED", 13)], ids=str
)
def test_more_than_a_wheel_ever_holds_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: str, value: int
) -> None:
    path = zipped(tmp_path / "a.whl", "a", "b")
    monkeypatch.setattr(archives, limit, value)

    with pytest.raises(UnsafeArchiveError, match="unpacks to more than the limits allow"):
        unpack_zip(path, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@given(st.text("ab./\\ü", max_size=12))
def test_a_name_inside_stays_inside_when_it_is_joined(name: str) -> None:
    if not is_inside(name):
        return

    assert os.path.normpath(f"/top/{name}").startswith("/top")
    assert ".." not in name.split("/")


FOR_WINDOWS = (
    Entry(path="demo/demo.exe", content=b"MZ", executable=True),
    Entry(path="demo/README.md", content="ü\n".encode()),
    Entry(path="demo/empty", directory=True),
)


def zip_of(path: Path, entries: Sequence[Entry], epoch: int = EPOCH) -> bytes:
    """Return the bytes of a zip file of *entries*."""
    write_zip(path, entries, epoch=epoch)
    return path.read_bytes()


def test_a_zip_file_is_the_same_for_equal_entries_in_any_order(tmp_path: Path) -> None:
    first = zip_of(tmp_path / "a.zip", FOR_WINDOWS)

    assert zip_of(tmp_path / "b.zip", FOR_WINDOWS[::-1]) == first


def test_umask_and_times_of_the_source_do_not_matter_to_a_zip_file(
    tmp_path: Path, umask: Callable[[int], object]
) -> None:
    found = set()
    for mask in (0o022, 0o077):
        umask(mask)
        content = tmp_path / f"file {mask}"
        content.write_bytes(b"MZ")
        os.utime(content, (mask, mask))
        entry = Entry(path="demo/demo.exe", content=content)
        found.add(zip_of(tmp_path / f"{mask}.zip", [entry]))

    assert len(found) == 1


def test_a_zip_file_is_unpacked_to_what_was_packed(tmp_path: Path) -> None:
    write_zip(tmp_path / "demo.zip", FOR_WINDOWS, epoch=EPOCH)

    unpack_zip(tmp_path / "demo.zip", tmp_path / "out")

    assert (tmp_path / "out/demo/demo.exe").read_bytes() == b"MZ"
    assert (tmp_path / "out/demo/README.md").read_text(encoding="utf-8") == "ü\n"
    assert (tmp_path / "out/demo/empty").is_dir()


def test_members_of_a_zip_file_are_sorted_with_one_time_and_two_modes(tmp_path: Path) -> None:
    write_zip(tmp_path / "demo.zip", FOR_WINDOWS, epoch=EPOCH + 1)

    with zipfile.ZipFile(tmp_path / "demo.zip") as archive:
        members = archive.infolist()
    assert [(item.filename, item.external_attr >> 16 & 0o777) for item in members] == [
        ("demo/README.md", 0o644),
        ("demo/demo.exe", 0o755),
        ("demo/empty/", 0o755),
    ]
    assert {item.create_system for item in members} == {3}
    assert {item.date_time for item in members} == {(2026, 11, 21, 0, 0, 0)}


def test_a_later_time_gives_another_zip_file(tmp_path: Path) -> None:
    first = zip_of(tmp_path / "a.zip", FOR_WINDOWS)

    assert zip_of(tmp_path / "b.zip", FOR_WINDOWS, EPOCH + 2) != first


def test_a_zip_file_is_compressed_as_far_as_possible(tmp_path: Path) -> None:
    content = Path(archives.__file__).read_bytes()
    with zipfile.ZipFile(tmp_path / "best.zip", "w", zipfile.ZIP_DEFLATED) as best:
        best.writestr("demo/file", content, compresslevel=9)

    packed = zip_of(tmp_path / "demo.zip", [Entry(path="demo/file", content=content)])

    assert len(packed) == (tmp_path / "best.zip").stat().st_size


def test_a_link_has_no_place_in_a_zip_file_and_none_is_left(tmp_path: Path) -> None:
    """Windows' own tools unpack a link to a small text file."""
    with pytest.raises(ValueError, match=r"demo/bin/demo1: a zip file for Windows holds no links"):
        write_zip(tmp_path / "demo.zip", ENTRIES, epoch=EPOCH)

    assert list(tmp_path.iterdir()) == []


def told(members: Sequence[tarfile.TarInfo]) -> list[tuple[str, bytes, int, int]]:
    """Return names, types, modes and sizes."""
    return [(item.name, item.type, item.mode, item.size) for item in members]


def test_what_is_packed_into_a_zip_file_is_told_of_it(tmp_path: Path) -> None:
    write_zip(tmp_path / "demo.zip", FOR_WINDOWS, epoch=EPOCH)

    assert told(zip_members_of(tmp_path / "demo.zip")) == [
        ("demo/README.md", tarfile.REGTYPE, 0o644, 3),
        ("demo/demo.exe", tarfile.REGTYPE, 0o755, 2),
        ("demo/empty", tarfile.DIRTYPE, 0o755, 0),
    ]


def test_the_same_is_told_of_a_zip_file_and_of_a_tar_file(tmp_path: Path) -> None:
    """But of a zip file no directories that are only implied."""
    write_zip(tmp_path / "demo.zip", FOR_WINDOWS, epoch=EPOCH)
    write_archive(tmp_path / "demo.tar", FOR_WINDOWS, epoch=EPOCH)

    zipped_members = zip_members_of(tmp_path / "demo.zip")

    packed = [item for item in members_of(tmp_path / "demo.tar") if item.name != "demo"]
    assert told(zipped_members) == told(packed)
    assert {(item.uid, item.gid, item.uname, item.gname) for item in zipped_members} == {
        (0, 0, "", "")
    }


@settings(max_examples=20)
@given(
    st.dictionaries(
        st.from_regex(r"[a-c]{1,3}(/[a-cü]{1,3}){0,2}\.f", fullmatch=True),
        st.tuples(st.binary(max_size=20), st.booleans()),
        max_size=6,
    )
)
def test_names_sizes_and_modes_in_a_zip_file_are_those_of_its_entries(
    tmp_path_factory: pytest.TempPathFactory, files: dict[str, tuple[bytes, bool]]
) -> None:
    path = tmp_path_factory.mktemp("zip") / "a.zip"
    entries = [
        Entry(path=name, content=content, executable=executable)
        for name, (content, executable) in files.items()
    ]

    write_zip(path, entries, epoch=EPOCH)

    assert told(zip_members_of(path)) == [
        (name, tarfile.REGTYPE, 0o755 if executable else 0o644, len(content))
        for name, (content, executable) in sorted(files.items())
    ]


@pytest.mark.parametrize(("seconds", "expected"), [(0, 0), (1, 0), (2, 2), (3, 2)])
def test_the_times_in_a_zip_file_are_told_in_steps_of_two_seconds(
    tmp_path: Path, seconds: int, expected: int
) -> None:
    write_zip(tmp_path / "demo.zip", FOR_WINDOWS, epoch=EPOCH + seconds)

    members = zip_members_of(tmp_path / "demo.zip")

    assert {item.mtime for item in members} == {EPOCH + expected}


def zipped_member(path: Path, content: bytes = b"", **fields: Any) -> Path:
    """Write a zip file with one member that the pipeline itself would never write."""
    info = zipfile.ZipInfo("t/member", (2026, 11, 21, 0, 0, 0))
    for field, value in fields.items():
        setattr(info, field, value)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(info, content)
    return path


def test_a_link_in_a_zip_file_is_told_with_its_target(tmp_path: Path) -> None:
    path = zipped_member(tmp_path / "a.zip", b"../caf\xe9", external_attr=0o120777 << 16)

    (link_member,) = zip_members_of(path)

    assert link_member.issym()
    assert not link_member.isfile()
    assert link_member.linkname == "../caf\udce9"


def test_a_file_that_was_zipped_on_windows_has_no_mode(tmp_path: Path) -> None:
    path = zipped_member(tmp_path / "a.zip", b"x", create_system=0, external_attr=0x20)

    (file,) = zip_members_of(path)

    assert (file.isfile(), file.mode, file.size) == (True, 0, 1)


def test_of_a_mode_in_a_zip_file_the_kind_is_no_part(tmp_path: Path) -> None:
    path = zipped_member(tmp_path / "a.zip", external_attr=0o104755 << 16)

    (file,) = zip_members_of(path)

    assert (file.isfile(), file.mode) == (True, 0o4755)


def test_a_damaged_member_of_a_zip_file_is_named(tmp_path: Path) -> None:
    path = zipped(tmp_path / "a.zip", "good", "bad")
    head, found, tail = path.read_bytes().rpartition(b"content")
    path.write_bytes(head + found.upper() + tail)

    with pytest.raises(UnsafeArchiveError) as caught:
        zip_members_of(path)

    assert str(caught.value) == "a.zip: bad: is damaged."


def test_a_flipped_bit_in_a_member_of_a_zip_file_is_refused_or_changes_nothing(
    tmp_path: Path,
) -> None:
    content = Path(archives.__file__).read_bytes()[:200]
    whole = zip_of(tmp_path / "a.zip", [Entry(path="a", content=content)])
    (packed,) = zipfile.ZipFile(io.BytesIO(whole)).infolist()
    start = len(packed.FileHeader()) + packed.header_offset
    damaged = tmp_path / "damaged.zip"
    accepted = 0

    for position in range(start, start + packed.compress_size):
        data = bytearray(whole)
        data[position] ^= 1 << position % 8
        damaged.write_bytes(data)
        try:
            zip_members_of(damaged)
        except UnsafeArchiveError:
            continue
        accepted += 1
        with zipfile.ZipFile(damaged) as archive:
            assert archive.read("a") == content

    assert accepted <= 1  # bits of the last byte may be of no use


def test_a_zip_file_that_is_cut_off_is_refused_at_every_length(tmp_path: Path) -> None:
    whole = zip_of(tmp_path / "a.zip", FOR_WINDOWS)
    cut = tmp_path / "cut.zip"

    for size in range(len(whole)):
        cut.write_bytes(whole[:size])
        with pytest.raises(UnsafeArchiveError, match=r"^cut\.zip: not a readable zip archive"):
            zip_members_of(cut)


@pytest.mark.parametrize(
    ("offset", "value"), [(8, 1), (10, 99)], ids=["encrypted", "unknown-compression"]
)
def test_a_zip_file_in_a_form_that_cannot_be_read_is_refused(
    tmp_path: Path, offset: int, value: int
) -> None:
    path = zipped(tmp_path / "a.zip", "a")
    data = bytearray(path.read_bytes())
    central = data.index(b"PK\x01\x02")
    data[central + offset] = data[offset - 2] = value
    path.write_bytes(data)

    with pytest.raises(UnsafeArchiveError, match=r"a\.zip: not a readable zip archive"):
        zip_members_of(path)


def test_a_date_that_no_calendar_has_is_refused(tmp_path: Path) -> None:
    path = zipped_member(tmp_path / "a.zip", date_time=(2026, 2, 31, 0, 0, 0))

    with pytest.raises(UnsafeArchiveError, match="day is out of range for month"):
        zip_members_of(path)


@pytest.mark.parametrize(
    ("limit", "enough", "value"),
    [("MOST_MEMBERS", 2, 1), ("LARGEST_UNPACKED", 14, 13)],
    ids=["members", "bytes"],
)
def test_a_zip_file_with_more_than_a_release_ever_holds_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: str, enough: int, value: int
) -> None:
    path = zipped(tmp_path / "a.zip", "a", "b")
    monkeypatch.setattr(archives, limit, enough)
    assert len(zip_members_of(path)) == 2

    monkeypatch.setattr(archives, limit, value)

    with pytest.raises(UnsafeArchiveError, match=r"a\.zip: unpacks to more than the limits allow"):
        zip_members_of(path)


def test_a_zip_file_that_is_too_large_is_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = zipped(tmp_path / "a.zip", "a")
    monkeypatch.setattr(archives, "LARGEST_UNPACKED", 6)
    monkeypatch.setattr(zipfile.ZipFile, "open", lambda *_: pytest.fail("a member was read"))

    with pytest.raises(UnsafeArchiveError, match="unpacks to more than the limits allow"):
        zip_members_of(path)
