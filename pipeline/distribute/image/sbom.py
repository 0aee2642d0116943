"""What is in an image, as an SPDX document: equal images, equal bytes. Pure.

Format: SPDX 2.3 in JSON (``spdx.github.io/spdx-spec/v2.3``); package URLs as in
``package-url/purl-spec``.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from pipeline.distribute.image.description import Subject
from pipeline.distribute.image.system import DebianPackage
from pipeline.model.artifacts import Artifact
from pipeline.model.configs import GitSource, Pin
from pipeline.model.images import PublishedImage
from pipeline.model.naming import public_address

DOCUMENT: Final = "SPDXRef-DOCUMENT"
NOT_SAID: Final = "NOASSERTION"
TOOL: Final = "Tool: rpython-pipeline"


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, alias_generator=to_camel, populate_by_name=True)


class Checksum(_Part):
    """A digest in hex."""

    algorithm: str = "SHA256"
    checksum_value: str


class ExternalRef(_Part):
    """A name that a package has elsewhere: its package URL."""

    reference_category: str = "PACKAGE-MANAGER"
    reference_type: str = "purl"
    reference_locator: str


class SpdxPackage(_Part):
    """Something that is in the image, or the image itself."""

    spdx_id: str = Field(alias="SPDXID")
    name: str
    version_info: str | None = None
    download_location: str = NOT_SAID
    files_analyzed: bool = False
    license_concluded: str = NOT_SAID
    license_declared: str = NOT_SAID
    copyright_text: str = NOT_SAID
    primary_package_purpose: str
    source_info: str | None = None
    checksums: tuple[Checksum, ...] | None = None
    external_refs: tuple[ExternalRef, ...] | None = None


class Relationship(_Part):
    """One element's relation to another."""

    spdx_element_id: str
    relationship_type: str
    related_spdx_element: str


class CreationInfo(_Part):
    """When and by what; the time is the source's."""

    created: str
    creators: tuple[str, ...]


class SpdxDocument(_Part):
    """A document about one image."""

    spdx_id: str = Field(default=DOCUMENT, alias="SPDXID")
    spdx_version: str = "SPDX-2.3"
    data_license: str = "CC0-1.0"
    name: str
    document_namespace: str
    creation_info: CreationInfo
    packages: tuple[SpdxPackage, ...]
    relationships: tuple[Relationship, ...]


@dataclass(frozen=True, kw_only=True)
class Contents:
    """What an image holds: the *archive*, linked-in *pins*, bundled *libraries*, packages.

    ``libraries`` are paths below the archive's top, with the file's sha256.
    """

    archive: Artifact
    pins: tuple[tuple[str, Pin], ...]
    libraries: tuple[tuple[str, str], ...]
    packages: tuple[DebianPackage, ...]


def sbom_of(
    subject: Subject, image: PublishedImage, contents: Contents, vendor: str
) -> SpdxDocument:
    """Return the document about *image*."""
    top = _image(subject, image)
    parts = (_interpreter(subject, contents.archive), *_bundled(contents))
    system = tuple(_debian(package, subject.variant.suite) for package in contents.packages)
    interpreter = parts[0].spdx_id
    relations = (
        _relation(DOCUMENT, "DESCRIBES", top.spdx_id),
        _relation(top.spdx_id, "CONTAINS", interpreter),
        *(_relation(interpreter, "CONTAINS", part.spdx_id) for part in parts[1:]),
        *(_relation(top.spdx_id, "CONTAINS", part.spdx_id) for part in system),
    )
    digest = image.digest.removeprefix("sha256:")
    return SpdxDocument(
        name=subject.stem,
        document_namespace=f"{subject.job.interpreter.homepage}/spdx/{subject.stem}-{digest}",
        creation_info=CreationInfo(
            created=subject.created, creators=(TOOL, f"Organization: {vendor}")
        ),
        packages=(top, *parts, *system),
        relationships=relations,
    )


def _image(subject: Subject, image: PublishedImage) -> SpdxPackage:
    architecture = subject.platform.architecture
    digest = percent_encoded(image.digest)
    return SpdxPackage(
        spdx_id="SPDXRef-Image",
        name=image.image,
        version_info=image.digest,
        primary_package_purpose="CONTAINER",
        checksums=(Checksum(checksum_value=image.digest.removeprefix("sha256:")),),
        external_refs=(_purl(f"pkg:oci/{image.image}@{digest}?arch={architecture}"),),
    )


def _interpreter(subject: Subject, archive: Artifact) -> SpdxPackage:
    job = subject.job
    interpreter, source = job.interpreter, job.interpreter.source
    location, version = NOT_SAID, percent_encoded(str(job.version))
    if isinstance(source, GitSource) and not job.revision.dirty:
        location = f"git+{public_address(source.repository)}@{job.revision.revision}"
    return SpdxPackage(
        spdx_id="SPDXRef-Interpreter",
        name=interpreter.interpreter,
        version_info=str(job.version),
        download_location=location,
        license_declared=interpreter.license,
        primary_package_purpose="APPLICATION",
        source_info=f"{archive.filename}, made from revision {job.revision.revision}",
        checksums=(Checksum(checksum_value=archive.sha256),),
        external_refs=(_purl(f"pkg:generic/{interpreter.interpreter}@{version}"),),
    )


def _bundled(contents: Contents) -> Iterator[SpdxPackage]:
    for name, pin in contents.pins:
        yield SpdxPackage(
            spdx_id=_identifier("Pin", name),
            name=name,
            version_info=pin.version,
            download_location=public_address(pin.url),
            primary_package_purpose="LIBRARY",
            checksums=(Checksum(checksum_value=pin.sha256),),
            external_refs=(_purl(f"pkg:generic/{name}@{percent_encoded(pin.version)}"),),
        )
    for path, sha256 in contents.libraries:
        yield SpdxPackage(
            spdx_id=_identifier("Library", path),
            name=path.rpartition("/")[2],
            primary_package_purpose="LIBRARY",
            source_info=f"{path} of the archive, from the system that it was built on",
            checksums=(Checksum(checksum_value=sha256),),
        )


def _debian(package: DebianPackage, suite: str) -> SpdxPackage:
    version = percent_encoded(package.version)
    name = percent_encoded(package.name)
    locator = f"pkg:deb/debian/{name}@{version}?arch={package.architecture}&distro={suite}"
    return SpdxPackage(
        spdx_id=_identifier("Package", f"{package.name}-{package.architecture}"),
        name=package.name,
        version_info=package.version,
        primary_package_purpose="LIBRARY" if package.name.startswith("lib") else "APPLICATION",
        external_refs=(_purl(locator),),
    )


def percent_encoded(text: str) -> str:
    """Return *text* as a part of a package URL, with capital hex digits."""
    return re.sub(
        rb"[^A-Za-z0-9._~-]", lambda found: b"%%%02X" % found.group()[0], text.encode()
    ).decode()


def _purl(locator: str) -> ExternalRef:
    return ExternalRef(reference_locator=locator)


def _relation(element: str, kind: str, related: str) -> Relationship:
    return Relationship(
        spdx_element_id=element, relationship_type=kind, related_spdx_element=related
    )


def _identifier(kind: str, name: str) -> str:
    """Return an identifier, which has letters, digits, dots and hyphens only.

    Others are spelt by their number, so that no two names become one.
    """
    spelt = re.sub(r"[^A-Za-z0-9-]", lambda found: f".{ord(found.group()):x}.", name)
    return f"SPDXRef-{kind}-{spelt}"


def linked_pins(embedded: Iterable[str], pins: dict[str, Pin]) -> tuple[tuple[str, Pin], ...]:
    """Return the pins that are linked in, by name, sorted."""
    return tuple((name, pins[name]) for name in sorted(set(embedded)))
