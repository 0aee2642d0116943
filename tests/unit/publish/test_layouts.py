"""Image layouts: read as hostile until every digest was checked."""

import hashlib
import io
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pipeline.distribute.oci import OciPlatform
from pipeline.errors import DigestMismatchError, ImageError, UnsafeArchiveError
from pipeline.model.records import BuiltImage
from pipeline.publish.layouts import read_layout
from tests.factories import changed, digest
from tests.images import make_image

AMD64 = OciPlatform(os="linux", architecture="amd64")
Members = list[tuple[tarfile.TarInfo, bytes]]


@pytest.fixture
def built(tmp_path: Path) -> BuiltImage:
    """An image in a directory."""
    return make_image(tmp_path, b"program")


def rewritten(
    tmp_path: Path, built: BuiltImage, change: Callable[[Members], Members]
) -> BuiltImage:
    """Change the members of a layout; the record has the new file's digest."""
    path = tmp_path / built.archive
    with tarfile.open(path) as tar:
        members = [(item, _content(tar, item)) for item in tar]
    with tarfile.open(path, "w") as tar:
        for member, data in change(members):
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return changed(built, sha256=hashlib.sha256(path.read_bytes()).hexdigest())


def _content(tar: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    file = tar.extractfile(member)
    return b"" if file is None else file.read()


def blobs(members: Members) -> Iterator[tuple[int, tarfile.TarInfo, bytes]]:
    """Yield the blobs among the members."""
    for place, (member, data) in enumerate(members):
        if member.name.startswith("blobs/"):
            yield place, member, data


def test_an_image_is_read_with_its_blobs(tmp_path: Path, built: BuiltImage) -> None:
    read = read_layout(tmp_path, built, AMD64)

    assert f"sha256:{hashlib.sha256(read.manifest).hexdigest()}" == built.image.digest
    assert len(read.blobs) == 2
    for blob in read.blobs:
        with blob.open() as stream:
            data = stream.read()
            stream.seek(0)
            assert stream.read(3) == data[:3]
        assert (f"sha256:{hashlib.sha256(data).hexdigest()}", len(data)) == (blob.digest, blob.size)


def test_a_file_that_changed_is_refused(tmp_path: Path, built: BuiltImage) -> None:
    with (tmp_path / built.archive).open("ab") as file:
        file.write(b"more")

    with pytest.raises(DigestMismatchError, match="Nothing was sent"):
        read_layout(tmp_path, built, AMD64)


def test_a_blob_that_has_another_digest_is_refused(tmp_path: Path, built: BuiltImage) -> None:
    def change(members: Members) -> Members:
        for place, member, data in list(blobs(members)):
            if data[:2] == b"\x1f\x8b":
                members[place] = (member, data[:-1] + b"x")
        return members

    with pytest.raises(DigestMismatchError, match="blobs/sha256/"):
        read_layout(tmp_path, rewritten(tmp_path, built, change), AMD64)


def test_a_blob_that_is_missing_is_named(tmp_path: Path, built: BuiltImage) -> None:
    def change(members: Members) -> Members:
        return [item for item in members if item[1][:2] != b"\x1f\x8b"]

    with pytest.raises(ImageError, match="is missing"):
        read_layout(tmp_path, rewritten(tmp_path, built, change), AMD64)


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE])
def test_only_plain_files_have_a_place(tmp_path: Path, built: BuiltImage, kind: bytes) -> None:
    def change(members: Members) -> Members:
        link = tarfile.TarInfo("blobs/sha256/link")
        link.type, link.linkname = kind, "/etc/passwd"
        return [*members, (link, b"")]

    with pytest.raises(UnsafeArchiveError, match="has no place"):
        read_layout(tmp_path, rewritten(tmp_path, built, change), AMD64)


def test_a_name_that_is_there_twice_is_refused(tmp_path: Path, built: BuiltImage) -> None:
    with pytest.raises(UnsafeArchiveError, match="has no place"):
        read_layout(tmp_path, rewritten(tmp_path, built, lambda found: found + found[:1]), AMD64)


def test_more_members_than_any_layout_has_are_refused(tmp_path: Path, built: BuiltImage) -> None:
    def change(members: Members) -> Members:
        return members + [(tarfile.TarInfo(f"f{number}"), b"") for number in range(1000)]

    with pytest.raises(UnsafeArchiveError, match="has no place"):
        read_layout(tmp_path, rewritten(tmp_path, built, change), AMD64)


def test_what_is_no_tar_file_is_refused(tmp_path: Path, built: BuiltImage) -> None:
    path = tmp_path / built.archive
    path.write_bytes(b"no tar file" * 100)
    built = changed(built, sha256=hashlib.sha256(path.read_bytes()).hexdigest())

    with pytest.raises(UnsafeArchiveError, match="no tar file"):
        read_layout(tmp_path, built, AMD64)


def test_directories_do_not_matter(tmp_path: Path, built: BuiltImage) -> None:
    def change(members: Members) -> Members:
        directory = tarfile.TarInfo("blobs")
        directory.type = tarfile.DIRTYPE
        return [(directory, b""), *members]

    assert read_layout(tmp_path, rewritten(tmp_path, built, change), AMD64).blobs


def test_an_image_for_another_platform_is_refused(tmp_path: Path, built: BuiltImage) -> None:
    with pytest.raises(ImageError, match="is an image for linux/amd64, not for linux/arm64"):
        read_layout(tmp_path, built, OciPlatform(os="linux", architecture="arm64"))


def test_an_image_that_says_no_variant_may_be_of_any(tmp_path: Path, built: BuiltImage) -> None:
    v2 = AMD64.model_copy(update={"variant": "v2"})

    assert read_layout(tmp_path, built, v2).image == built.image


def test_an_image_that_the_record_does_not_name_is_missing(
    tmp_path: Path, built: BuiltImage
) -> None:
    other = changed(built, image=changed(built.image, digest=f"sha256:{digest('other')}"))

    with pytest.raises(ImageError, match="is missing"):
        read_layout(tmp_path, other, AMD64)


def test_a_manifest_of_another_size_is_refused(tmp_path: Path, built: BuiltImage) -> None:
    other = changed(built, image=changed(built.image, manifest_size=1))

    with pytest.raises(ImageError, match="sizes are not those"):
        read_layout(tmp_path, other, AMD64)
