"""Reads what ``docker save`` writes: a tar file with ``manifest.json`` that names the layers.

Engines differ in where the layers lie (``<id>/layer.tar``, ``blobs/sha256/...``), in whether one
that is there twice is a link, and in whether it is compressed. Format: Docker's image
specification 1.2, "Combined Image JSON + Filesystem Changeset Format".
"""

import gzip
import json
import posixpath
import shutil
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Final

import zstandard
from pydantic import BaseModel, Field, TypeAdapter, ValidationError

from pipeline.errors import ImageError

MANIFEST: Final = "manifest.json"
GZIP_MAGIC: Final = b"\x1f\x8b"
ZSTD_MAGIC: Final = b"\x28\xb5\x2f\xfd"


class _Saved(BaseModel):
    layers: tuple[str, ...] = Field(alias="Layers")


_MANIFEST: Final = TypeAdapter(tuple[_Saved, ...])


def saved_layers(saved: Path, directory: Path) -> tuple[Path, ...]:
    """Write the layers of a saved image into *directory*, uncompressed; the lowest is first.

    Raises:
        ImageError: the engine wrote something else.
    """
    try:
        with tarfile.open(saved, "r:") as archive:
            members = {member.name: member for member in archive}
            names = _layer_names(archive)
            paths = tuple(directory / f"{number}.saved.tar" for number in range(len(names)))
            for name, path in zip(names, paths, strict=True):
                _extract(archive, members[_followed(members, name)], path)
    except (KeyError, tarfile.TarError, ValidationError, json.JSONDecodeError) as error:
        msg = f"{saved.name}: not what an engine saves an image as: {error!r}"
        raise ImageError(msg) from error
    return paths


def _layer_names(archive: tarfile.TarFile) -> tuple[str, ...]:
    content = archive.extractfile(MANIFEST)
    images = _MANIFEST.validate_json(b"" if content is None else content.read())
    if len(images) != 1:
        msg = f"{MANIFEST} names {len(images)} images"
        raise KeyError(msg)
    return images[0].layers


def _followed(members: dict[str, tarfile.TarInfo], name: str) -> str:
    """Return where a layer's bytes are; older engines link to one that is there already."""
    member = members[name]
    if not member.issym():
        return name
    return posixpath.normpath(posixpath.join(posixpath.dirname(name), member.linkname))


def _extract(archive: tarfile.TarFile, member: tarfile.TarInfo, path: Path) -> None:
    content = archive.extractfile(member)
    if content is None:
        raise KeyError(member.name)
    with content, _plain(content) as plain, path.open("xb") as out:
        shutil.copyfileobj(plain, out)


@contextmanager
def _plain(content: IO[bytes]) -> Iterator[IO[bytes]]:
    magic = content.read(len(ZSTD_MAGIC))
    content.seek(0)
    if magic.startswith(GZIP_MAGIC):
        with gzip.open(content) as stream:
            yield stream  # type: ignore[misc]
    elif magic == ZSTD_MAGIC:
        with zstandard.ZstdDecompressor().stream_reader(content) as stream:
            yield stream
    else:
        yield content
