"""What ``docker save`` writes, of older and newer engines."""

import gzip
import io
import json
import tarfile
from collections.abc import Mapping
from pathlib import Path

import pytest
import zstandard

from pipeline.distribute.image.saved import saved_layers
from pipeline.errors import ImageError


def save(directory: Path, files: Mapping[str, bytes], links: Mapping[str, str]) -> Path:
    path = directory / "saved.tar"
    with tarfile.open(path, "w") as archive:
        for name, data in files.items():
            header = tarfile.TarInfo(name)
            header.size = len(data)
            archive.addfile(header, io.BytesIO(data))
        for name, to in links.items():
            header = tarfile.TarInfo(name)
            header.type, header.linkname = tarfile.SYMTYPE, to
            archive.addfile(header)
    return path


def manifest(*names: str) -> bytes:
    return json.dumps([{"Config": "c.json", "RepoTags": None, "Layers": names}]).encode()


def read(directory: Path, files: Mapping[str, bytes], links: Mapping[str, str]) -> list[bytes]:
    made = saved_layers(save(directory, files, links), directory)
    return [path.read_bytes() for path in made]


def test_layers_come_in_the_manifests_order(tmp_path: Path) -> None:
    files = {"b/layer.tar": b"B", "a/layer.tar": b"A"}
    files["manifest.json"] = manifest("b/layer.tar", "a/layer.tar")

    assert read(tmp_path, files, {}) == [b"B", b"A"]


def test_a_layer_that_is_there_twice_may_be_a_link(tmp_path: Path) -> None:
    files = {"a/layer.tar": b"A", "manifest.json": manifest("a/layer.tar", "b/layer.tar")}

    assert read(tmp_path, files, {"b/layer.tar": "../a/layer.tar"}) == [b"A", b"A"]


def test_compressed_layers_are_decompressed(tmp_path: Path) -> None:
    files = {
        "blobs/sha256/1": gzip.compress(b"one"),
        "blobs/sha256/2": zstandard.compress(b"two"),
        "manifest.json": manifest("blobs/sha256/1", "blobs/sha256/2"),
    }

    assert read(tmp_path, files, {}) == [b"one", b"two"]


@pytest.mark.parametrize(
    "data", [b"", b"{}", b"[]", manifest("gone/layer.tar"), manifest("x")[:-1] + b",{}]"]
)
def test_anything_else_is_refused(tmp_path: Path, data: bytes) -> None:
    with pytest.raises(ImageError, match=r"saved\.tar"):
        read(tmp_path, {"manifest.json": data, "x": b"x"}, {})


def test_what_is_no_tar_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "saved.tar"
    path.write_bytes(b"nothing of the kind")

    with pytest.raises(ImageError, match=r"saved\.tar"):
        saved_layers(path, tmp_path)
