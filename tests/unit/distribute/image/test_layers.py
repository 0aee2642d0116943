"""Layers: the same files give the same bytes."""

import gzip
import io
import tarfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.distribute.image import layers
from pipeline.distribute.image.layers import compressed, kept, normalised


@dataclass(frozen=True, kw_only=True)
class Given:
    """A member of a layer as an engine has it."""

    name: str
    content: bytes = b""
    kind: bytes = tarfile.REGTYPE
    link: str = ""
    mode: int = 0o644
    mtime: int = 1_700_000_000
    owner: str = "root"
    pax: tuple[tuple[str, str], ...] = ()


TREE = (
    Given(name="etc", kind=tarfile.DIRTYPE, mode=0o755),
    Given(name="etc/passwd", content=b"root"),
    Given(name="usr/bin/perl", content=b"perl", mode=0o755),
    Given(name="usr/bin/sudo", content=b"s", mode=0o4755),
    Given(name="usr/lib/libz.so.1", kind=tarfile.SYMTYPE, link="libz.so.1.2"),
    Given(name="usr/lib/.wh.old", content=b""),
    Given(name="usr/lib/libz.so.1.2", content=b"z" * 2000),
    Given(name=f"opt/{'long/' * 60}name", content=b"long"),
)


def write(path: Path, members: Sequence[Given]) -> Path:
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as archive:
        for given_member in members:
            header = tarfile.TarInfo(given_member.name)
            header.type, header.linkname = given_member.kind, given_member.link
            header.mode, header.mtime = given_member.mode, given_member.mtime
            header.uname, header.size = given_member.owner, len(given_member.content)
            header.pax_headers = dict(given_member.pax)
            archive.addfile(header, io.BytesIO(given_member.content))
    return path


def members_of(path: Path) -> dict[str, tarfile.TarInfo]:
    with tarfile.open(path) as archive:
        return {member.name: member for member in archive}


def made(directory: Path, members: Sequence[Given]) -> Path:
    return normalised(write(directory / "saved.tar", members), directory / "made.tar").path


@given(st.permutations(TREE), st.lists(st.integers(1, 2**31), min_size=8, max_size=8))
def test_order_times_and_names_of_owners_do_not_matter(
    members: list[Given], times: list[int]
) -> None:
    changed = [
        Given(**{**vars(member), "mtime": time, "owner": str(time)})
        for member, time in zip(members, times, strict=True)
    ]
    with TemporaryDirectory() as first, TemporaryDirectory() as second:
        expected = made(Path(first), TREE).read_bytes()

        assert made(Path(second), changed).read_bytes() == expected


def test_types_modes_links_and_content_stay(tmp_path: Path) -> None:
    path = made(tmp_path, TREE)

    found = members_of(path)
    assert {name.rstrip("/") for name in found} == {member.name for member in TREE}
    assert found["usr/bin/sudo"].mode == 0o4755
    assert found["usr/lib/libz.so.1"].linkname == "libz.so.1.2"
    assert {member.mtime for member in found.values()} == {layers.SYSTEM_EPOCH}
    with tarfile.open(path) as archive:
        content = archive.extractfile("usr/lib/libz.so.1.2")
        assert content is not None
        assert content.read() == b"z" * 2000


def test_a_whiteout_stays_and_comes_before_its_siblings(tmp_path: Path) -> None:
    path = made(tmp_path, [Given(name="a/+x"), Given(name="a/.wh.b"), Given(name="a/.wh..wh..opq")])

    assert list(members_of(path)) == ["a/.wh..wh..opq", "a/.wh.b", "a/+x"]


@pytest.mark.parametrize("first", ["bin/a", "bin/b"])
def test_the_first_name_of_a_file_with_several_has_its_content(tmp_path: Path, first: str) -> None:
    """An engine may write either name first."""
    (other,) = {"bin/a", "bin/b"} - {first}
    path = made(
        tmp_path,
        [Given(name=first, content=b"same"), Given(name=other, kind=tarfile.LNKTYPE, link=first)],
    )

    found = members_of(path)
    assert (found["bin/a"].size, found["bin/b"].type) == (4, tarfile.LNKTYPE)
    assert found["bin/b"].linkname == "bin/a"


def test_a_hard_link_to_what_is_left_out_has_the_content_itself(tmp_path: Path) -> None:
    path = made(
        tmp_path,
        [
            Given(name="var/log/apt.log", content=b"log"),
            Given(name="srv/kept", kind=tarfile.LNKTYPE, link="var/log/apt.log"),
        ],
    )

    found = members_of(path)
    assert list(found) == ["srv/kept"]
    assert found["srv/kept"].size == 3


def test_a_hard_link_into_a_lower_layer_stays_one(tmp_path: Path) -> None:
    path = made(tmp_path, [Given(name="bin/b", kind=tarfile.LNKTYPE, link="bin/below")])

    assert members_of(path)["bin/b"].linkname == "bin/below"


@pytest.mark.parametrize(
    "name",
    [
        "etc/hostname",
        "etc/resolv.conf",
        "etc/shadow-",
        "etc/machine-id",
        "var/log/dpkg.log",
        "var/log/apt/term.log",
        "var/cache/ldconfig/aux-cache",
        "var/cache/debconf/config.dat-old",
        "var/lib/dpkg/status-old",
        "var/lib/apt/lists/deb.debian.org_Packages",
        "tmp/left",
        "dev/null",
        "usr/lib/python3/__pycache__/os.pyc",
        ".dockerenv",
    ],
)
def test_what_differs_each_time_is_left_out(tmp_path: Path, name: str) -> None:
    path = made(tmp_path, [Given(name=name, content=b"x"), Given(name="kept")])

    assert list(members_of(path)) == ["kept"]


@pytest.mark.parametrize(
    "name", ["var/lib/dpkg/status", "var/cache/debconf/config.dat", "etc/passwd", "etc/ld.so.cache"]
)
def test_what_the_system_needs_stays(tmp_path: Path, name: str) -> None:
    assert list(members_of(made(tmp_path, [Given(name=name, content=b"x")]))) == [name]


@pytest.mark.parametrize("day", [b"19700", b"20780"])
def test_passwords_were_all_changed_on_one_day(tmp_path: Path, day: bytes) -> None:
    shadow = b"root:*:%s:0:99999:7:::\napp:!:%s:0:99999:7:::\n" % (day, day)
    path = made(tmp_path, [Given(name="etc/shadow", content=shadow, mode=0o640)])

    with tarfile.open(path) as archive:
        content = archive.extractfile("etc/shadow")
        assert content is not None
        assert content.read() == b"root:*:3652:0:99999:7:::\napp:!:3652:0:99999:7:::\n"


def test_a_capability_stays_and_other_attributes_go(tmp_path: Path) -> None:
    given_pax = ((layers.CAPABILITY, "cap"), ("SCHILY.xattr.user.x", "y"), ("atime", "5.5"))
    path = made(tmp_path, [Given(name="bin/ping", pax=given_pax)])

    assert members_of(path)["bin/ping"].pax_headers == {layers.CAPABILITY: "cap"}


def test_a_kept_layer_is_known_by_the_digest_of_its_bytes(tmp_path: Path) -> None:
    path = tmp_path / "layer.tar"
    path.write_bytes(b"")

    assert kept(path).diff_id == (
        "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    )


def test_a_compressed_layer_is_one_gzip_stream_of_all_its_chunks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(layers, "GZIP_CHUNK", 1000)
    path = tmp_path / "layer.tar"
    path.write_bytes(bytes(range(256)) * 20)

    blob = compressed(kept(path), tmp_path / "layer.tar.gz")

    data = blob.path.read_bytes()
    assert gzip.decompress(data) == path.read_bytes()
    assert data[4:8] == bytes(4)  # no time
    assert blob.descriptor.size == len(data)
    assert blob.descriptor.digest == kept(blob.path).diff_id
