"""Reads an image out of its OCI image layout in a tar file, which is hostile until it is checked.

Nothing is unpacked. A blob is a part of the tar file that has the digest of its name; what has
another is refused before anything is sent.
"""

import hashlib
import io
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, Final

from typing_extensions import Buffer

from pipeline.distribute.oci import (
    ImageConfiguration,
    ImageManifest,
    OciPlatform,
    blob_path,
    read_document,
)
from pipeline.effects.files import sha256_of
from pipeline.effects.registry import Blob
from pipeline.errors import DigestMismatchError, ImageError, UnsafeArchiveError
from pipeline.model.images import PublishedImage
from pipeline.model.records import BuiltImage

MOST_MEMBERS: Final = 1000
LARGEST_DOCUMENT: Final = 4 << 20  # bytes; registries take no larger manifest
REMEDY: Final = "Nothing was sent. Remove the stage's directory and run again."


@dataclass(frozen=True, kw_only=True)
class ImageBlobs:
    """A checked image: its manifest's bytes, and the blobs that the manifest names."""

    image: PublishedImage
    manifest: bytes
    blobs: tuple[Blob, ...]


def read_layout(directory: Path, built: BuiltImage, platform: OciPlatform) -> ImageBlobs:
    """Return an image out of its layout in *directory*, every digest checked.

    Raises:
        DigestMismatchError: the file or something in it has another digest.
        UnsafeArchiveError: it is no layout.
        ImageError: the image is another one than the record says, or for another platform.
    """
    path, image = directory / built.archive, built.image
    if (actual := sha256_of(path)) != built.sha256:
        raise DigestMismatchError(str(path), expected=built.sha256, actual=actual, remedy=REMEDY)
    layout = _Layout(path)
    manifest = layout.document(image.digest)
    parsed = read_document(ImageManifest, manifest, where=f"{path}: {image.digest}")
    named = {item.digest: item for item in (parsed.config, *parsed.layers)}
    blobs = tuple(layout.blob(digest) for digest in named)
    wrong = [blob.digest for blob in blobs if blob.size != named[blob.digest].size]
    if wrong or len(manifest) != image.manifest_size:
        msg = f"{path}: sizes are not those that are stated ({wrong or 'manifest'}). {REMEDY}"
        raise ImageError(msg)
    where = f"{path}: {parsed.config.digest}"
    config = read_document(ImageConfiguration, layout.document(parsed.config.digest), where=where)
    found = OciPlatform(architecture=config.architecture, os=config.os, variant=config.variant)
    # Not every image says its variant, but what it says must be right.
    stated = platform if found.variant else platform.model_copy(update={"variant": None})
    if found != stated:
        msg = f"{path}: is an image for {found}, not for {platform}. {REMEDY}"
        raise ImageError(msg)
    return ImageBlobs(image=image, manifest=manifest, blobs=blobs)


class _Layout:
    """The regular files of a tar file by name, each a range of its bytes."""

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            with tarfile.open(path, "r:") as tar:
                self._ranges = dict(self._members(tar))
        except (tarfile.TarError, OSError, ValueError) as error:
            msg = f"{path}: is no tar file that can be read: {error}. {REMEDY}"
            raise UnsafeArchiveError(msg) from error

    def _members(self, tar: tarfile.TarFile) -> Iterator[tuple[str, tuple[int, int]]]:
        seen: set[str] = set()
        for member in tar:
            is_plain = member.type in (tarfile.REGTYPE, tarfile.AREGTYPE)
            sparse = getattr(member, "sparse", None) is not None
            if member.isdir() and not member.name.startswith(("/", "..")):
                continue
            if not is_plain or sparse or member.name in seen or len(seen) >= MOST_MEMBERS:
                msg = f"{self._path}: {member.name!r} has no place in an image layout. {REMEDY}"
                raise UnsafeArchiveError(msg)
            seen.add(member.name)
            yield member.name, (member.offset_data, member.size)

    def blob(self, digest: str) -> Blob:
        """Return the blob of that digest, which was looked at byte by byte."""
        name = blob_path(digest)
        if name not in self._ranges:
            msg = f"{self._path}: {name} is missing. {REMEDY}"
            raise ImageError(msg)
        start, size = self._ranges[name]
        blob = Blob(digest=digest, size=size, open=partial(_opened, self._path, start, size))
        with blob.open() as stream:
            actual = hashlib.file_digest(stream, "sha256").hexdigest()  # type: ignore[arg-type]
        expected = digest.removeprefix("sha256:")
        if actual != expected:
            where = f"{self._path}: {name}"
            raise DigestMismatchError(where, expected=expected, actual=actual, remedy=REMEDY)
        return blob

    def document(self, digest: str) -> bytes:
        """Return a small blob's bytes."""
        blob = self.blob(digest)
        if blob.size > LARGEST_DOCUMENT:
            msg = f"{self._path}: {digest} has {blob.size} bytes, too many. {REMEDY}"
            raise ImageError(msg)
        with blob.open() as stream:
            return stream.read()


class _Part(io.RawIOBase):
    """A range of a file's bytes, as a file."""

    def __init__(self, path: Path, start: int, size: int) -> None:
        super().__init__()
        self._file = path.open("rb")
        self._start, self._size, self._at = start, size, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        self._at = max(0, base + offset)
        return self._at

    def readinto(self, buffer: Buffer, /) -> int:
        view = memoryview(buffer).cast("B")
        count = min(len(view), max(0, self._size - self._at))
        self._file.seek(self._start + self._at)
        data = self._file.read(count)
        view[: len(data)] = data
        self._at += len(data)
        return len(data)

    def close(self) -> None:
        self._file.close()
        super().close()


def _opened(path: Path, start: int, size: int) -> IO[bytes]:
    return io.BufferedReader(_Part(path, start, size))
