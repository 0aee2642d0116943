"""Pushes a release's images to a registry by digest, before the release is announced.

Blobs come first, then what names them: manifests, the index of each group over all platforms, and
what speaks of these. At last all is looked at. No tag is touched by it: tags are a projection of
the ledger (:mod:`pipeline.publish.tags`).

To each image and each index are attached, as referrers (OCI image specification 1.1): the SBOM of
an image (SPDX), the release's provenance (an in-toto statement whose subjects the images and the
indexes are), and ``SHA256SUMS`` with its signature. The statement is the very file that
``SHA256SUMS`` lists, so stock ``gpg`` and ``sha256sum`` check it as they check archives; why there
is no second signature is said in :mod:`pipeline.sign.provenance`.
"""

import hashlib
import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

from pipeline.config import known
from pipeline.distribute.image_index import exact_name, joined, release_indexes, suffixes
from pipeline.distribute.oci import (
    EMPTY,
    Descriptor,
    ImageIndex,
    OciPlatform,
    artifact_manifest,
    describe_bytes,
    digest_of,
    index_of,
    read_document,
    to_bytes,
)
from pipeline.effects.console import Step
from pipeline.effects.registry import Blob, ImageRegistry
from pipeline.errors import (
    ConfigError,
    ConflictError,
    DigestMismatchError,
    FetchBackError,
    ImageError,
    ImmutableNameError,
)
from pipeline.model.configs import Config
from pipeline.model.images import IMAGE_INDEX_TYPE, IMAGE_MANIFEST_TYPE, OciDigest
from pipeline.model.platforms import Platform
from pipeline.model.records import BuiltImage, Manifest, SignedRelease
from pipeline.publish.layouts import REMEDY, ImageBlobs, read_layout
from pipeline.publish.parallel import each
from pipeline.sign.provenance import stated_images

ATTEMPTS: Final = 20
PARALLEL: Final = 8
READ_BACK: Final = 1 << 20  # bytes; below that blobs are read back, not only looked for
SPDX_TYPE: Final = "application/spdx+json"
STATEMENT_TYPE: Final = "application/vnd.in-toto+json"
CHECKSUMS_TYPE: Final = "application/vnd.rpython-pipeline.checksums"
SIGNATURE_TYPE: Final = "application/pgp-signature"
TITLE: Final = "org.opencontainers.image.title"


@dataclass(frozen=True, kw_only=True)
class ImageUpload:
    """An image whose layout and SBOM are in *directory*."""

    built: BuiltImage
    directory: Path


@dataclass(frozen=True, kw_only=True)
class AttachedFile:
    """A file of an attachment, by name and media type."""

    name: str
    media_type: str
    data: bytes


@dataclass(frozen=True, kw_only=True)
class Attachment:
    """What is attached to an image: files of one kind (a media type), which speak of it."""

    artifact_type: str
    files: tuple[AttachedFile, ...]


@dataclass(frozen=True, kw_only=True)
class ImagePush:
    """The images of a release, and the signed release in *directory*, which has been signed.

    Of one that *is_announced* the exact tags are put right afterwards, whatever they stand for.
    """

    manifest: Manifest
    uploads: tuple[ImageUpload, ...]
    signed: SignedRelease
    directory: Path
    is_announced: bool = False


@dataclass(frozen=True, kw_only=True)
class _Document:
    """Something that is put by its digest: a manifest or an index of a repository."""

    image: str
    data: bytes
    media_type: str
    blobs: tuple[Blob, ...] = ()

    @property
    def descriptor(self) -> Descriptor:
        return describe_bytes(self.data, self.media_type)


@dataclass(frozen=True, kw_only=True)
class _Subject:
    """An image or an index with what is attached to it, by the descriptors in its list."""

    document: _Document
    attached: tuple[tuple[_Document, Descriptor], ...]


def push_images(
    config: Config, registry: ImageRegistry, push: ImagePush, step: Step, parallel: int = PARALLEL
) -> tuple[str, ...]:
    """Put a release's images by digest, and look whether all is there; return what was put.

    What is there already is not sent again. No tag changes. At last manifests, indexes,
    configurations, SBOMs and whatever else is smaller than READ_BACK are read back and their
    digests compared. Of layers the registry is asked for the length only: that it takes none with
    another digest is what the specification asks of it, and whoever pulls one checks it.

    Raises:
        ImmutableNameError: an exact tag of the release stands for something else.
        DigestMismatchError: a layout was changed since it was made.
        DestinationError: the registry refuses.
        FetchBackError: the registry does not give back what was put.
    """
    step.phase("check images")
    subjects = _subjects(config, push, parallel)
    indexes = release_indexes(push.manifest, config.platforms)
    if not push.is_announced:
        _require_free(registry, push.manifest, config.platforms)
    _require_stated(push, [subject.document for subject in subjects])
    documents = [*_attached(subjects), *(subject.document for subject in subjects)]
    step.phase(f"push images to {registry.address}", 0, len(push.uploads) + len(indexes))
    put = [
        *_put_blobs(registry, documents, step, parallel),
        *_put_documents(registry, _sorted(subjects), parallel),
        *_put_documents(registry, _attached(subjects), parallel),
    ]
    each(parallel, partial(_list_attached, registry), subjects)
    step.phase(f"fetch images back from {registry.address}")
    _fetch_back(registry, documents, parallel)
    return tuple(sorted(put))


def hold_images(
    config: Config, registry: ImageRegistry, push: ImagePush, parallel: int = PARALLEL
) -> bool:
    """Whether a registry has a release's images and indexes; puts nothing and reads no blob.

    Manifests are looked for by digest and blobs by size. Each image and each index must list what
    is attached, of every kind; signed again, that may be other bytes than are there.

    Raises:
        DigestMismatchError: a layout was changed since it was made.
        DestinationError: the registry refuses.
    """
    subjects = _subjects(config, push, parallel)
    documents = [subject.document for subject in subjects]
    blobs = _blobs_of(documents)

    def has_blob(place: tuple[str, str]) -> bool:
        return registry.blob_size(*place) == blobs[place].size

    return (
        all(each(parallel, partial(_has_document, registry), documents))
        and all(each(parallel, has_blob, blobs))
        and all(each(parallel, partial(_has_attached, registry), subjects))
    )


def _subjects(config: Config, push: ImagePush, parallel: int) -> list[_Subject]:
    """Return the images and the indexes of a release with what is attached to each."""
    built = [upload.built.image for upload in push.uploads]
    if sorted(built, key=str) != sorted(push.manifest.images, key=str):
        msg = f"{push.manifest.release}: the manifest lists other images than were made. {REMEDY}"
        raise ImageError(msg)
    common = release_attachments(push)
    images = each(parallel, partial(_image_subject, config, common), push.uploads)
    indexes = [
        _subject(_Document(image=group.image, data=data, media_type=IMAGE_INDEX_TYPE), common)
        for group, data in release_indexes(push.manifest, config.platforms).items()
    ]
    return [*images, *indexes]


def _image_subject(config: Config, common: tuple[Attachment, ...], upload: ImageUpload) -> _Subject:
    image = upload.built.image
    row = known("platform", image.platform, config.platforms, where="the manifest")
    if row.oci is None:
        msg = f"platforms.toml: platforms.{image.platform}: has images, but no names for OCI."
        raise ConfigError(msg)
    content: ImageBlobs = read_layout(upload.directory, upload.built, OciPlatform.of(row.oci))
    document = _Document(
        image=image.image,
        data=content.manifest,
        media_type=IMAGE_MANIFEST_TYPE,
        blobs=content.blobs,
    )
    return _subject(document, (*_sbom(upload), *common))


def _subject(document: _Document, attachments: Iterable[Attachment]) -> _Subject:
    attached = tuple(_attachment(document, attachment) for attachment in attachments)
    return _Subject(document=document, attached=attached)


def _attachment(subject: _Document, attachment: Attachment) -> tuple[_Document, Descriptor]:
    """Return the manifest of what is attached, and how it stands in the list of referrers."""
    layers = tuple(
        describe_bytes(file.data, file.media_type, annotations={TITLE: file.name})
        for file in attachment.files
    )
    data = to_bytes(artifact_manifest(attachment.artifact_type, layers, subject=subject.descriptor))
    document = _Document(
        image=subject.image,
        data=data,
        media_type=IMAGE_MANIFEST_TYPE,
        blobs=tuple(_blob(item) for item in (EMPTY, *(file.data for file in attachment.files))),
    )
    listed = describe_bytes(data, IMAGE_MANIFEST_TYPE, artifact_type=attachment.artifact_type)
    return document, listed


def release_attachments(push: ImagePush) -> tuple[Attachment, ...]:
    """Return what speaks of all images of a release: its provenance, and what signs that.

    Raises:
        DigestMismatchError: a file is not the one that was signed.
    """
    signed = push.signed

    def file(name: str, sha256: str, media_type: str) -> AttachedFile:
        data = _unchanged(push.directory / name, sha256)
        return AttachedFile(name=name, media_type=media_type, data=data)

    statement = file(signed.provenance.filename, signed.provenance.sha256, STATEMENT_TYPE)
    checksums = file(signed.checksums.filename, signed.checksums.sha256, "text/plain")
    signature = file(signed.signature.filename, signed.signature.sha256, SIGNATURE_TYPE)
    return (
        Attachment(artifact_type=STATEMENT_TYPE, files=(statement,)),
        Attachment(artifact_type=CHECKSUMS_TYPE, files=(checksums, signature)),
    )


def _sbom(upload: ImageUpload) -> Iterator[Attachment]:
    name, sha256 = upload.built.sbom, upload.built.sbom_sha256
    if name is not None and sha256 is not None:
        data = _unchanged(upload.directory / name, sha256)
        file = AttachedFile(name=name, media_type=SPDX_TYPE, data=data)
        yield Attachment(artifact_type=SPDX_TYPE, files=(file,))


def _unchanged(path: Path, sha256: str) -> bytes:
    data = path.read_bytes()
    actual = hashlib.sha256(data).hexdigest()
    if actual != sha256:
        raise DigestMismatchError(str(path), expected=sha256, actual=actual, remedy=REMEDY)
    return data


def _require_free(
    registry: ImageRegistry, manifest: Manifest, platforms: Mapping[str, Platform]
) -> None:
    """Look whether the exact tags of a release stand for nothing, or for this release."""
    for group, data in release_indexes(manifest, platforms).items():
        for suffix in suffixes(manifest, group):
            tag = joined(group.line, exact_name(manifest), suffix)
            present = registry.digest_of(group.image, tag)
            if present not in (None, digest_of(data)):
                msg = (
                    f"{registry.address}/{group.image}:{tag}: stands for {present} already, not "
                    f"for {digest_of(data)}. Nothing was pushed: find out who pushed that. If it "
                    "is a release that the ledger has, run: python -m pipeline reconcile"
                )
                raise ImmutableNameError(msg)


def _require_stated(push: ImagePush, documents: Sequence[_Document]) -> None:
    """Look whether the release's signed statement is about these very images."""
    path = push.directory / push.signed.provenance.filename
    try:
        stated = stated_images(path.read_bytes())
    except ValueError as error:
        msg = f"{path}: is not a statement that can be read. {REMEDY}"
        raise ImageError(msg) from error
    missing = {item.descriptor.digest for item in documents} - stated
    if missing:
        msg = f"{path}: does not speak of {min(missing)} and others. {REMEDY}"
        raise ImageError(msg)


def _attached(subjects: Iterable[_Subject]) -> list[_Document]:
    return [document for subject in subjects for document, _ in subject.attached]


def _sorted(subjects: Iterable[_Subject]) -> list[_Document]:
    """Return images before indexes, since a registry takes no index of what it has not."""
    documents = (subject.document for subject in subjects)
    return sorted(documents, key=lambda document: document.media_type == IMAGE_INDEX_TYPE)


def _put_blobs(
    registry: ImageRegistry, documents: Iterable[_Document], step: Step, parallel: int
) -> Iterator[str]:
    """Put each blob once, though several images have it; yield the addresses of new ones."""
    blobs = _blobs_of(documents)
    total = sum(blob.size for blob in blobs.values())

    def put(place: tuple[str, str]) -> bool:
        image, _ = place
        return registry.put_blob(image, blobs[place], lambda count: step.advance(count, total))

    for (image, digest), is_new in zip(blobs, each(parallel, put, blobs), strict=True):
        if is_new:
            yield f"{registry.address}/{image}@{digest}"


def _blobs_of(documents: Iterable[_Document]) -> dict[tuple[str, str], Blob]:
    """Return each blob once, by its repository and digest."""
    return {(item.image, blob.digest): blob for item in documents for blob in item.blobs}


def _put_documents(
    registry: ImageRegistry, documents: Sequence[_Document], parallel: int
) -> Iterator[str]:
    for media_types in ({IMAGE_MANIFEST_TYPE}, {IMAGE_INDEX_TYPE}):
        chosen = [item for item in documents if item.media_type in media_types]
        news = each(parallel, partial(_put_document, registry), chosen)
        for document, is_new in zip(chosen, news, strict=True):
            if is_new:
                yield f"{registry.address}/{document.image}@{document.descriptor.digest}"


def _put_document(registry: ImageRegistry, document: _Document) -> bool:
    if _has_document(registry, document):
        return False
    digest = document.descriptor.digest
    registry.put_manifest(document.image, digest, document.data, document.media_type)
    return True


def _has_document(registry: ImageRegistry, document: _Document) -> bool:
    digest = document.descriptor.digest
    return registry.digest_of(document.image, digest) == digest


def _has_attached(registry: ImageRegistry, subject: _Subject) -> bool:
    """Whether a registry lists, and has, something of every kind that is to be attached."""
    image, digest = subject.document.image, subject.document.descriptor.digest
    pages = registry.referrers(image, digest)
    if pages is None:
        present = registry.manifest(image, _list_tag(digest))
        pages = () if present is None else (present.data,)
    listed = {item.artifact_type: item.digest for page in pages for item in _entries(page)}
    kinds = {entry.artifact_type for _, entry in subject.attached}
    return kinds <= listed.keys() and all(
        registry.digest_of(image, listed[kind]) is not None for kind in kinds
    )


def _list_attached(registry: ImageRegistry, subject: _Subject) -> None:
    """Make what is attached be listed: by the registry itself, or else under the subject's tag.

    Raises:
        FetchBackError: a registry that lists referrers does not list these.
    """
    image, digest = subject.document.image, subject.document.descriptor.digest
    pages = registry.referrers(image, digest)
    if pages is None:
        _list_by_tag(registry, image, digest, subject)
        return
    unlisted = _unlisted(subject, pages)
    for document in unlisted:
        # Put before the registry knew referrers, it is listed when it is put again.
        registry.put_manifest(image, document.descriptor.digest, document.data, document.media_type)
    if unlisted and _unlisted(subject, registry.referrers(image, digest) or ()):
        msg = (
            f"{registry.address}/{image}@{digest}: the registry does not list what is attached to "
            "it. Run again; if that is still so, its list of referrers is broken."
        )
        raise FetchBackError(msg)


def _unlisted(subject: _Subject, pages: Iterable[bytes]) -> list[_Document]:
    listed = {item.digest for page in pages for item in _entries(page)}
    return [document for document, entry in subject.attached if entry.digest not in listed]


def _list_by_tag(registry: ImageRegistry, image: str, digest: OciDigest, subject: _Subject) -> None:
    """Keep the list of referrers under a tag (the specification's "Referrers Tag Schema").

    Others may write it at the same time, so it is looked at again.

    Raises:
        ConflictError: others kept writing it.
    """
    tag = _list_tag(digest)
    for _ in range(ATTEMPTS):
        present = registry.manifest(image, tag)
        entries = {item.digest: item for item in _entries(present.data if present else b"")}
        wanted = {**entries, **{entry.digest: entry for _, entry in subject.attached}}
        if wanted.keys() == entries.keys():
            return
        registry.put_manifest(image, tag, index_of(wanted.values()), IMAGE_INDEX_TYPE)
    msg = f"{registry.address}/{image}:{tag}: changed by others all the time. Run again."
    raise ConflictError(msg)


def _list_tag(digest: OciDigest) -> str:
    """Return the tag that stands for the list of a digest's referrers."""
    return digest.replace(":", "-")


def _entries(data: bytes) -> tuple[Descriptor, ...]:
    where = "a registry's list of referrers"
    return read_document(ImageIndex, data, where=where).manifests if data else ()


def _fetch_back(registry: ImageRegistry, documents: Sequence[_Document], parallel: int) -> None:
    """Look whether a registry has manifests, indexes and their blobs as they were put.

    Raises:
        FetchBackError: it has not.
    """
    blobs = _blobs_of(documents)

    def has_blob(place: tuple[str, str]) -> bool:
        image, digest = place
        if blobs[place].size < READ_BACK:
            return registry.blob(image, digest) is not None  # its digest is compared there
        return registry.blob_size(image, digest) == blobs[place].size

    def has_document(document: _Document) -> bool:
        present = registry.manifest(document.image, document.descriptor.digest)
        return present is not None and present.data == document.data

    places = [
        *((item.image, item.descriptor.digest) for item in documents),
        *blobs,
    ]
    verdicts = [*each(parallel, has_document, documents), *each(parallel, has_blob, blobs)]
    lacking = [
        f"{image}@{digest}"
        for (image, digest), is_there in zip(places, verdicts, strict=True)
        if not is_there
    ]
    if lacking:
        msg = (
            f"{registry.address}: {', '.join(lacking)}: was put, but is not there as it was put. "
            "The release was not announced by this run: run again."
        )
        raise FetchBackError(msg)


def _blob(data: bytes) -> Blob:
    return Blob(digest=digest_of(data), size=len(data), open=lambda: io.BytesIO(data))
