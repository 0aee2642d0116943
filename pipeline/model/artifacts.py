"""Files that a release is made of."""

from enum import StrEnum
from typing import Annotated

from pydantic import Field

from pipeline.model.base import FileName, Model, Name, Sha256


class ArtifactKind(StrEnum):
    """What a file of a release is; decides how it is listed and with which type it is served."""

    ARCHIVE_GZ = "archive-tar-gz"
    ARCHIVE_ZST = "archive-tar-zst"
    ARCHIVE_ZIP = "archive-zip"
    DEBUG_ZST = "debug-tar-zst"
    SOURCE_GZ = "source-tar-gz"
    DEB = "debian-package"
    DEBIAN_INDEX = "debian-index"
    PROVENANCE = "provenance"
    MANIFEST = "manifest"
    CHECKSUMS = "checksums"
    SIGNATURE = "signature"
    PUBLIC_KEY = "public-key"


CONTENT_TYPES: dict[ArtifactKind, str] = {
    ArtifactKind.ARCHIVE_GZ: "application/gzip",
    ArtifactKind.ARCHIVE_ZST: "application/zstd",
    ArtifactKind.ARCHIVE_ZIP: "application/zip",
    ArtifactKind.DEBUG_ZST: "application/zstd",
    ArtifactKind.SOURCE_GZ: "application/gzip",
    ArtifactKind.DEB: "application/vnd.debian.binary-package",
    ArtifactKind.DEBIAN_INDEX: "application/json",
    ArtifactKind.PROVENANCE: "application/vnd.in-toto+json",
    ArtifactKind.MANIFEST: "application/json",
    ArtifactKind.CHECKSUMS: "text/plain; charset=utf-8",
    ArtifactKind.SIGNATURE: "application/pgp-signature",
    ArtifactKind.PUBLIC_KEY: "application/pgp-keys",
}

ARCHIVES = frozenset({ArtifactKind.ARCHIVE_GZ, ArtifactKind.ARCHIVE_ZST, ArtifactKind.ARCHIVE_ZIP})

INDEXED = frozenset({ArtifactKind.ARCHIVE_GZ, ArtifactKind.ARCHIVE_ZIP})
"""The archives that indexes list: of each platform the one that every client can read."""


BUILT = ARCHIVES | {ArtifactKind.DEBUG_ZST, ArtifactKind.SOURCE_GZ, ArtifactKind.DEB}
"""What is built; a release's other files speak of these."""


class Artifact(Model):
    """One file, known by name, size in bytes and digest. ``platform`` is None for common files."""

    filename: FileName
    kind: ArtifactKind
    platform: Name | None
    size: Annotated[int, Field(gt=0)]
    sha256: Sha256
