"""OCI's formats: descriptors, manifests, indexes, configurations, the image layout. Pure.

Format: OCI image specification 1.1 (``descriptor.md``, ``manifest.md``, ``image-index.md``,
``config.md``, ``image-layout.md``, ``annotations.md``). Properties that are not known here are
ignored when something is read, as the specification asks. A document's digest is of its bytes, so
what others wrote is handed on as the bytes it was, never written anew from a model.
"""

import hashlib
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Final, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic.alias_generators import to_camel, to_pascal

from pipeline.errors import ImageError
from pipeline.model.base import canonical_json
from pipeline.model.images import IMAGE_INDEX_TYPE, IMAGE_MANIFEST_TYPE, OciDigest
from pipeline.model.platforms import OciNames

CONFIG_TYPE: Final = "application/vnd.oci.image.config.v1+json"
LAYER_TYPE: Final = "application/vnd.oci.image.layer.v1.tar+gzip"
EMPTY_TYPE: Final = "application/vnd.oci.empty.v1+json"
EMPTY: Final = b"{}"
"""What stands where something must and nothing is needed, as an artifact's configuration."""

LAYOUT_FILE: Final = "oci-layout"
LAYOUT: Final = canonical_json({"imageLayoutVersion": "1.0.0"})
INDEX_FILE: Final = "index.json"
REF_NAME: Final = "org.opencontainers.image.ref.name"


class _Document(BaseModel):
    """A part of a document whose properties are spelt ``likeThis``."""

    model_config = ConfigDict(
        frozen=True, extra="ignore", alias_generator=to_camel, populate_by_name=True
    )


D = TypeVar("D", bound=BaseModel)


class OciPlatform(_Document):
    """What an image runs on; names are Go's."""

    architecture: str
    os: str
    variant: str | None = None

    @classmethod
    def of(cls, names: OciNames) -> "OciPlatform":
        """Return a platform of the table."""
        return cls(architecture=names.architecture, os=names.os, variant=names.variant)

    def __str__(self) -> str:
        return "/".join(filter(None, (self.os, self.architecture, self.variant)))


class Descriptor(_Document):
    """A blob or document by its digest and its size in bytes.

    ``data`` is its content in base64, for something very small.
    """

    media_type: str
    digest: OciDigest
    size: Annotated[int, Field(ge=0)]
    platform: OciPlatform | None = None
    annotations: dict[str, str] | None = None
    artifact_type: str | None = None
    data: str | None = None


class ImageManifest(_Document):
    """One image for one platform; or any artifact, which then has an ``artifact_type``.

    ``layers`` are in the order in which they are laid one over the other. ``subject`` is what
    an artifact speaks of: registries list it among that one's referrers.
    """

    schema_version: Literal[2] = 2
    media_type: Literal["application/vnd.oci.image.manifest.v1+json"] = IMAGE_MANIFEST_TYPE
    artifact_type: str | None = None
    config: Descriptor
    layers: tuple[Descriptor, ...]
    subject: Descriptor | None = None
    annotations: dict[str, str] | None = None


class ImageIndex(_Document):
    """One name for the images of several platforms."""

    schema_version: Literal[2] = 2
    media_type: Literal["application/vnd.oci.image.index.v1+json"] = IMAGE_INDEX_TYPE
    artifact_type: str | None = None
    manifests: tuple[Descriptor, ...]
    subject: Descriptor | None = None
    annotations: dict[str, str] | None = None


class RunConfig(BaseModel):
    """How a container of an image is run; what is empty is not said."""

    model_config = ConfigDict(
        frozen=True, extra="ignore", alias_generator=to_pascal, populate_by_name=True
    )

    user: str | None = None
    env: tuple[str, ...] | None = None
    entrypoint: tuple[str, ...] | None = None
    cmd: tuple[str, ...] | None = None
    working_dir: str | None = None
    labels: dict[str, str] | None = None


class RootFs(BaseModel):
    """The layers' digests before compression, the lowest first."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    type: Literal["layers"] = "layers"
    diff_ids: tuple[OciDigest, ...]


class History(BaseModel):
    """How a layer came about; an ``empty_layer`` changed no file."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    created: str | None = None
    created_by: str | None = None
    comment: str | None = None
    empty_layer: bool | None = None


class ImageConfiguration(BaseModel):
    """An image's configuration; ``created`` is a time of RFC 3339."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    created: str
    architecture: str
    os: str
    variant: str | None = None
    config: RunConfig
    rootfs: RootFs
    history: tuple[History, ...] = ()


def to_bytes(document: BaseModel) -> bytes:
    """Return a document's canonical JSON: keys sorted, no spaces, without what is None."""
    return canonical_json(document.model_dump(mode="json", by_alias=True, exclude_none=True))


def read_document(model: type[D], data: bytes, *, where: str) -> D:
    """Return what somebody wrote as a model; *where* it is from is for the message.

    Raises:
        ImageError: it is no such document.
    """
    try:
        return model.model_validate_json(data)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        msg = (
            f"{where}: is not what the OCI image specification calls one: {place}: {first['msg']}."
        )
        raise ImageError(msg) from error


def digest_of(data: bytes) -> str:
    """Return the digest of bytes as OCI spells it: ``sha256:...``."""
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def describe_bytes(content: bytes, media_type: str, **properties: Any) -> Descriptor:
    """Return the descriptor of *content*; *properties* are others of its fields."""
    return Descriptor(
        media_type=media_type, digest=digest_of(content), size=len(content), **properties
    )


EMPTY_DESCRIPTOR: Final = describe_bytes(EMPTY, EMPTY_TYPE, data="e30=")


def artifact_manifest(
    artifact_type: str,
    layers: tuple[Descriptor, ...],
    *,
    subject: Descriptor | None = None,
    annotations: Mapping[str, str] | None = None,
) -> ImageManifest:
    """Return the manifest of an artifact (an SBOM, a statement) that speaks of *subject*.

    Its configuration is the blob :data:`EMPTY`, which is to be pushed as well. Format: the
    specification's "Guidelines for Artifact Usage".
    """
    return ImageManifest(
        artifact_type=artifact_type,
        config=EMPTY_DESCRIPTOR,
        layers=layers,
        subject=None if subject is None else referred(subject),
        annotations=None if annotations is None else dict(annotations),
    )


def referred(subject: Descriptor) -> Descriptor:
    """Return a subject's descriptor with only what identifies it."""
    return Descriptor(media_type=subject.media_type, digest=subject.digest, size=subject.size)


def index_of(
    entries: Iterable[Descriptor], *, annotations: Mapping[str, str] | None = None
) -> bytes:
    """Return the image index of *entries* as bytes, in the order of their platforms and digests.

    Whatever the order in which they come, the bytes are the same.
    """
    manifests = sorted(entries, key=lambda entry: (str(entry.platform or ""), entry.digest))
    return to_bytes(
        ImageIndex(
            manifests=tuple(manifests),
            annotations=None if annotations is None else dict(annotations),
        )
    )


def blob_path(digest: str) -> str:
    """Return where a blob is in an image layout: ``blobs/sha256/...``."""
    algorithm, _, encoded = digest.partition(":")
    return f"blobs/{algorithm}/{encoded}"
