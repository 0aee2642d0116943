"""Images made by hand, and a registry in memory: nothing here needs a container or a socket."""

import gzip
import hashlib
import io
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from pydantic import BaseModel

from pipeline.distribute.oci import (
    CONFIG_TYPE,
    INDEX_FILE,
    LAYER_TYPE,
    LAYOUT,
    LAYOUT_FILE,
    Descriptor,
    ImageConfiguration,
    ImageManifest,
    OciPlatform,
    RootFs,
    RunConfig,
    blob_path,
    describe_bytes,
    digest_of,
    index_of,
    to_bytes,
)
from pipeline.effects.archives import Compression, Entry, write_archive
from pipeline.effects.registry import Blob, StoredManifest
from pipeline.effects.store import OnBytes, ignore_bytes
from pipeline.errors import DestinationError, FetchBackError
from pipeline.model.images import IMAGE_MANIFEST_TYPE, ImageConfig, PublishedImage
from pipeline.model.platforms import OciNames
from pipeline.model.records import BuiltImage
from pipeline.publish.images import ImagePush, ImageUpload
from tests.factories import digest, make_platform
from tests.handmade import Maker, sign_by_copy

EPOCH: Final = 1_779_753_600
SUITES: Final = ("trixie", "bookworm")
VARIANTS: Final = ("", "slim")
PLATFORMS: Final = ("linux-x86_64", "linux-aarch64", "linux-i686")


def make_published_images(
    what: str = "7.3.23",
    line: str = "3.11",
    *,
    suites: Sequence[str] = SUITES,
    variants: Sequence[str] = VARIANTS,
    platforms: Sequence[str] = ("linux-x86_64", "linux-aarch64"),
) -> tuple[PublishedImage, ...]:
    """Return what the ledger says of a release's images, in the order of the configuration."""
    return tuple(
        PublishedImage(
            image="pypy",
            line=line,
            variant=variant,
            suite=suite,
            platform=platform,
            digest=f"sha256:{digest(f'{what} {line} {suite} {variant} {platform}')}",
            manifest_size=500,
            size=1000,
        )
        for suite in suites
        for variant in variants
        for platform in platforms
    )


def make_image_config(**overrides: Any) -> ImageConfig:
    """Return how an interpreter's archive becomes images, for one suite."""
    fields: dict[str, Any] = {
        "image": "pypy",
        "line": "3.11",
        "directory": "opt/pypy",
        "command": ["pypy3"],
        "variants": [{"suite": "trixie", "environment": "debian-trixie"}],
    }
    return ImageConfig.model_validate({**fields, **overrides})


def make_image(
    directory: Path,
    program: Path | bytes,
    *,
    platform: str = "linux-x86_64",
    suite: str = "bookworm",
    variant: str = "",
    image: str = "demo",
) -> BuiltImage:
    """Write the layout of an image that holds one program, and its SBOM, into *directory*."""
    directory.mkdir(parents=True, exist_ok=True)
    layer_path = directory / f"layer-{platform}-{suite}-{variant}.tar.gz"
    content = program if isinstance(program, bytes) else program.read_bytes()
    entry = Entry(path="program", content=content, executable=True)
    write_archive(layer_path, [entry], compression=Compression.GZIP, epoch=EPOCH)
    layer = layer_path.read_bytes()
    oci = make_platform(platform).oci
    assert oci is not None
    labels = {"suite": suite, "variant": variant}
    config = _configuration(oci, digest_of(_plain(layer_path)), labels)
    parsed = ImageManifest(
        config=describe_bytes(config, CONFIG_TYPE), layers=(describe_bytes(layer, LAYER_TYPE),)
    )
    manifest = to_bytes(parsed)
    described = describe_bytes(manifest, IMAGE_MANIFEST_TYPE, platform=OciPlatform.of(oci))
    archive = directory / f"{image}-{platform}-{suite}-{variant}.tar"
    write_layout(archive, index_of([described]), manifest, config, layer)
    sbom = directory / f"{archive.name}.spdx.json"
    sbom.write_bytes(b'{"spdxVersion":"SPDX-2.3"}' + archive.name.encode())
    return BuiltImage(
        image=PublishedImage(
            image=image,
            line="1",
            variant=variant,
            suite=suite,
            platform=platform,
            digest=described.digest,
            manifest_size=len(manifest),
            size=len(manifest) + len(config) + len(layer),
        ),
        archive=archive.name,
        sha256=hashlib.sha256(archive.read_bytes()).hexdigest(),
        packages=(),
        sbom=sbom.name,
        sbom_sha256=hashlib.sha256(sbom.read_bytes()).hexdigest(),
    )


def _configuration(oci: OciNames, layer: str, labels: dict[str, str]) -> bytes:
    return to_bytes(
        ImageConfiguration(
            created="2026-11-21T00:00:00Z",
            architecture=oci.architecture,
            os=oci.os,
            variant=oci.variant,
            config=RunConfig(cmd=("/program",), labels=labels),
            rootfs=RootFs(diff_ids=(layer,)),
        )
    )


def make_push(
    directory: Path,
    platforms: Sequence[str] = ("linux-x86_64",),
    variants: Sequence[str] = ("",),
    programs: Mapping[str, Path | bytes] | None = None,
    maker: Maker | None = None,
    version: str = "1.0.0",
) -> ImagePush:
    """Make a release of the demo with images, whose program is the platform's of *programs*."""
    found = programs or {name: f"for {name}, {version}".encode() for name in platforms}
    images = directory / f"images-{version}"
    uploads = tuple(
        ImageUpload(
            built=make_image(images, found[platform], platform=platform, variant=variant),
            directory=images,
        )
        for variant in variants
        for platform in platforms
    )
    published = tuple(upload.built.image for upload in uploads)
    maker = maker or Maker(directory=directory, sign=sign_by_copy)
    made = maker.release(version, images=published)
    return ImagePush(
        manifest=made.manifest, uploads=uploads, signed=made.signed, directory=made.directory
    )


def write_layout(path: Path, index: bytes, *blobs: bytes) -> None:
    """Write an image layout as a tar file."""
    named = {blob_path(digest_of(blob)): blob for blob in blobs}
    files = {LAYOUT_FILE: LAYOUT, INDEX_FILE: index, **named}
    with tarfile.open(path, "w") as tar:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))


def _plain(path: Path) -> bytes:
    return gzip.decompress(path.read_bytes())


class _Any(BaseModel):
    """A manifest or an index."""

    layers: tuple[Descriptor, ...] = ()
    manifests: tuple[Descriptor, ...] = ()
    config: Descriptor | None = None
    subject: Descriptor | None = None


@dataclass
class FakeRegistry:
    """A registry in memory, as strict as a real one: what an index names must be there.

    ``requests`` has what changed something. *deletes_tags* and *deletes_manifests* say what can be
    taken away, *lists_referrers* whether it knows subjects.
    """

    deletes_tags: bool = True
    deletes_manifests: bool = True
    lists_referrers: bool = False
    blobs: dict[tuple[str, str], bytes] = field(default_factory=dict)
    manifests: dict[tuple[str, str], tuple[bytes, str]] = field(default_factory=dict)
    named: dict[tuple[str, str], str] = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)

    @property
    def address(self) -> str:
        """Where it is."""
        return "registry.test/owner"

    def tagged(self, image: str = "pypy") -> Mapping[str, str]:
        """Return the digests of a repository's tags."""
        return {tag: found for (name, tag), found in self.named.items() if name == image}

    def blob_size(self, image: str, digest: str) -> int | None:
        """Look for a blob."""
        found = self.blobs.get((image, digest))
        return None if found is None else len(found)

    def blob(self, image: str, digest: str) -> bytes | None:
        """Give a blob whose digest is right."""
        found = self.blobs.get((image, digest))
        if found is not None and digest_of(found) != digest:
            msg = f"the registry gave {digest_of(found)} for {digest}"
            raise FetchBackError(msg)
        return found

    def put_blob(self, image: str, blob: Blob, on_bytes: OnBytes = ignore_bytes) -> bool:
        """Take a blob whose digest is right."""
        if (image, blob.digest) in self.blobs:
            return False
        with blob.open() as stream:
            data = stream.read()
        assert (digest_of(data), len(data)) == (blob.digest, blob.size)
        on_bytes(len(data))
        self.blobs[image, blob.digest] = data
        self.requests.append(f"blob {blob.digest}")
        return True

    def manifest(self, image: str, reference: str) -> StoredManifest | None:
        """Give what a tag or digest leads to."""
        found = self.digest_of(image, reference)
        if found is None:
            return None
        return StoredManifest(data=self.manifests[image, found][0], digest=found)

    def digest_of(self, image: str, reference: str) -> str | None:
        """Give the digest that a tag or digest leads to."""
        digest = self.named.get((image, reference), reference)
        return digest if (image, digest) in self.manifests else None

    def put_manifest(self, image: str, reference: str, data: bytes, media_type: str) -> bool:
        """Take a manifest or an index."""
        for needed in _references(data):
            if (image, needed) not in self.blobs and (image, needed) not in self.manifests:
                msg = f"HTTP 400 MANIFEST_BLOB_UNKNOWN {needed}"
                raise DestinationError(msg)
        digest = digest_of(data)
        self.manifests[image, digest] = (data, media_type)
        if ":" not in reference:
            self.named[image, reference] = digest
        self.requests.append(f"put {reference}")
        return self.lists_referrers

    def remove_manifest(self, image: str, reference: str) -> bool:
        """Take away a tag, or a manifest with its tags."""
        is_tag = ":" not in reference
        if not (self.deletes_tags if is_tag else self.deletes_manifests):
            return False
        self.requests.append(f"remove {reference}")
        if is_tag:
            self.named.pop((image, reference), None)
        else:
            self.manifests.pop((image, reference), None)
            leads = [place for place, found in self.named.items() if found == reference]
            for place in leads:
                del self.named[place]
        return True

    def tags(self, image: str) -> tuple[str, ...]:
        """List a repository's tags."""
        return tuple(self.tagged(image))

    def referrers(self, image: str, digest: str) -> tuple[bytes, ...] | None:
        """List what has that subject, in two pages."""
        if not self.lists_referrers:
            return None
        found = [
            describe_bytes(data, media_type)
            for (name, _), (data, media_type) in self.manifests.items()
            if name == image and _subject(data) == digest
        ]
        return index_of(found[:1]), index_of(found[1:])


def _references(data: bytes) -> Iterator[str]:
    parsed = _Any.model_validate_json(data)
    yield from (item.digest for item in (*parsed.layers, *parsed.manifests))
    if parsed.config is not None:
        yield parsed.config.digest


def _subject(data: bytes) -> str | None:
    subject = _Any.model_validate_json(data).subject
    return None if subject is None else subject.digest
