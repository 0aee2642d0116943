"""An image as an OCI image layout in a tar file, which ``docker load`` takes as well.

Engines before Docker 25 know only their own ``manifest.json``; it names the same blobs.
Format: OCI image specification 1.1, ``image-layout.md``.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.distribute import oci
from pipeline.distribute.image.layers import Blob
from pipeline.distribute.image.saved import MANIFEST
from pipeline.effects.archives import Entry, write_archive
from pipeline.model.base import canonical_json
from pipeline.model.images import IMAGE_MANIFEST_TYPE


@dataclass(frozen=True, kw_only=True)
class Image:
    """An image that is ready: its documents as bytes, and its layers, the lowest first."""

    configuration: bytes
    manifest: bytes
    platform: oci.OciPlatform
    layers: tuple[Blob, ...]

    @property
    def size(self) -> int:
        """How many bytes somebody downloads who has none of it."""
        layers = sum(layer.descriptor.size for layer in self.layers)
        return len(self.manifest) + len(self.configuration) + layers


def assembled(
    configuration: oci.ImageConfiguration, layers: Sequence[Blob], annotations: dict[str, str]
) -> Image:
    """Return the image of *layers*. Pure."""
    config = oci.to_bytes(configuration)
    manifest = oci.ImageManifest(
        config=oci.describe_bytes(config, oci.CONFIG_TYPE),
        layers=tuple(layer.descriptor for layer in layers),
        annotations=annotations,
    )
    platform = oci.OciPlatform(
        os=configuration.os,
        architecture=configuration.architecture,
        variant=configuration.variant,
    )
    return Image(
        configuration=config,
        manifest=oci.to_bytes(manifest),
        platform=platform,
        layers=tuple(layers),
    )


def write_layout(path: Path, image: Image, *, epoch: int) -> None:
    """Write *image* to *path*; every member has the time *epoch*."""
    described = oci.describe_bytes(image.manifest, IMAGE_MANIFEST_TYPE, platform=image.platform)
    config = oci.blob_path(oci.digest_of(image.configuration))
    blobs = {oci.blob_path(layer.descriptor.digest): layer.path for layer in image.layers}
    for_docker = [
        {
            "Config": config,
            "RepoTags": None,
            "Layers": [oci.blob_path(layer.descriptor.digest) for layer in image.layers],
        }
    ]
    files: dict[str, bytes | Path] = {
        oci.LAYOUT_FILE: oci.LAYOUT,
        oci.INDEX_FILE: oci.index_of([described]),
        MANIFEST: canonical_json(for_docker),
        config: image.configuration,
        oci.blob_path(described.digest): image.manifest,
        **blobs,
    }
    entries = [Entry(path=name, content=content) for name, content in files.items()]
    write_archive(path, entries, epoch=epoch)
