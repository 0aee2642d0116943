"""``<release>-provenance.json``: what a release was made from, and by whom. Pure.

It is an in-toto Statement v1 (https://in-toto.io/Statement/v1) with the predicate SLSA Provenance
v1 (https://slsa.dev/spec/v1.0/provenance). It holds no time of its own, since equal inputs give
equal bytes; when a release was announced is in the ledger.

It is not signed once more. ``SHA256SUMS`` lists it, so the one OpenPGP signature covers it as it
covers the archives, and stock ``gpg`` and ``sha256sum`` check both. A second signature by the same
key would prove nothing more; and of a DSSE envelope, the usual form, the tools read keys of other
kinds than OpenPGP's, so it would be one that nobody checks.

The build type, for those who read statements by it:

- ``externalParameters``: what was asked for. ``source`` is the address of the git repository and
  the tag or branch, and the ``uri`` of the first dependency; it is missing where the source is a
  directory, of this project or of whoever made a nightly of it.
- ``internalParameters``: by platform, how its archives were made. ``command`` is RPython's;
  ``translationKey`` the digest of everything that decides the translated files.
- ``resolvedDependencies``: the source first, then pinned downloads, environments, and released
  interpreters that ran the toolchain. What is no file has digests of our own, in lower-case hex:
  ``treeSha256`` is of the names, contents, links and executable bits of a source tree,
  ``environmentSha256`` of an environment's recipe and of its packages with their versions.
- ``builder.id``: whoever holds the key with that fingerprint, and the machines they chose. The
  program cannot vouch for these, so it is not the builder.
- ``invocationId``: the manifest's ``input_key``.

Subjects are the release's files, by their names, and its images by their digests: each image as
``pypy:3.11-7.3.23-bookworm@linux-x86_64``, the index of all platforms without the last part.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Annotated, Literal, TypeVar

from pydantic import ConfigDict, Field, StringConstraints
from pydantic.alias_generators import to_camel

from pipeline.distribute.image_index import exact_tag, release_indexes
from pipeline.distribute.oci import digest_of
from pipeline.model.base import FileName, Model, Name, Sha256, pretty_json
from pipeline.model.configs import Channel, GitSource, Pin
from pipeline.model.naming import public_address
from pipeline.model.records import BuildInfo, Manifest, Revision
from pipeline.model.versions import VersionField
from pipeline.plan import Job, ReleasePlan

T = TypeVar("T")


class _CamelModel(Model):
    """A table of the statement; in JSON its keys are in camel case."""

    model_config = ConfigDict(alias_generator=to_camel)


class FileDigest(Model):
    """The digest of a file's bytes."""

    sha256: Sha256


ImageName = Annotated[
    str, StringConstraints(pattern=r"^[a-z0-9._-]+:[A-Za-z0-9._-]+(@[a-z0-9._-]+)?$")
]
"""An index of images, or with a platform one image: its exact tag is in it."""


class Subject(Model):
    """A file or an image that the statement is about."""

    name: FileName | ImageName
    digest: FileDigest

    @property
    def is_image(self) -> bool:
        """Whether it is in a registry, not among the release's files."""
        return ":" in self.name


class Dependency(_CamelModel):
    """Something that went into the build: a name, its address if it has one, and digests."""

    name: str
    uri: str | None = None
    digest: Annotated[dict[str, str], Field(min_length=1)]


class ExternalParameters(_CamelModel):
    """What was asked for."""

    interpreter: Name
    version: VersionField
    channel: Channel
    platforms: tuple[Name, ...]
    source: str | None = None


class PlatformBuild(_CamelModel):
    """How the archives for one platform were made."""

    mode: str
    gc: str
    jit: bool
    command: tuple[str, ...]
    environment: Name
    translation_key: Sha256


class InternalParameters(_CamelModel):
    """How it was made, by platform."""

    builds: dict[Name, PlatformBuild]


class BuildDefinition(_CamelModel):
    """Everything that went into the build.

    ``build_type`` is a name, no address: it means the same wherever this description is read.
    """

    build_type: Literal["rpython-pipeline:release/v1"] = "rpython-pipeline:release/v1"
    external_parameters: ExternalParameters
    internal_parameters: InternalParameters
    resolved_dependencies: tuple[Dependency, ...]


class Builder(_CamelModel):
    """Who vouches for the build."""

    id: str


class BuildMetadata(_CamelModel):
    """Which build it was."""

    invocation_id: str


class RunDetails(_CamelModel):
    """Who built it, and which build it was."""

    builder: Builder
    metadata: BuildMetadata


class Provenance(_CamelModel):
    """The predicate: how the subjects were made."""

    build_definition: BuildDefinition
    run_details: RunDetails


class Statement(_CamelModel):
    """A statement, as it is in the file."""

    type: Literal["https://in-toto.io/Statement/v1"] = Field(
        default="https://in-toto.io/Statement/v1", alias="_type"
    )
    subject: Annotated[tuple[Subject, ...], Field(min_length=1)]
    predicate_type: Literal["https://slsa.dev/provenance/v1"] = "https://slsa.dev/provenance/v1"
    predicate: Provenance


def make_statement(
    release: ReleasePlan,
    manifest: Manifest,
    infos: Mapping[str, BuildInfo],
    pins: Mapping[str, Pin],
    fingerprint: str,
) -> Statement:
    """Return the statement about every archive and image of *manifest*.

    *infos* says by job how its archives were built; *pins* has the addresses of what was
    downloaded; *fingerprint* is of the key that signs.
    """
    definition = BuildDefinition(
        external_parameters=ExternalParameters(
            interpreter=manifest.interpreter,
            version=manifest.interpreter_version,
            channel=manifest.channel,
            platforms=tuple(job.platform.identifier for job in release.jobs),
            source=_source_uri(release),
        ),
        internal_parameters=InternalParameters(
            builds={
                job.platform.identifier: _platform_build(job, infos[job.identifier])
                for job in release.jobs
            }
        ),
        resolved_dependencies=tuple(_dependencies(release, infos, pins)),
    )
    details = RunDetails(
        builder=Builder(id=builder_id(fingerprint)),
        metadata=BuildMetadata(invocation_id=manifest.input_key),
    )
    return Statement(
        subject=(
            *(_subject(item.filename, item.sha256) for item in manifest.files),
            *_image_subjects(release, manifest),
        ),
        predicate=Provenance(build_definition=definition, run_details=details),
    )


def statement_json(statement: Statement) -> bytes:
    """Return the file's bytes; what is not there has no key."""
    return pretty_json(statement.model_dump(mode="json", by_alias=True, exclude_none=True))


def builder_id(fingerprint: str) -> str:
    """Return the URI of whoever holds a key, in the scheme that IANA lists for fingerprints."""
    return f"openpgp4fpr:{fingerprint}"


def faults_of(data: bytes, digests: Mapping[str, str], fingerprint: str) -> list[str]:
    """Return what keeps *data* from being a statement about exactly these files, by that key.

    *digests* are the files' sha256, by name; *fingerprint* is the key's.

    Raises:
        ValueError: it is no statement of this form.
    """
    statement = Statement.model_validate_json(data)
    files = (item for item in statement.subject if not item.is_image)
    stated = [(item.name, item.digest.sha256) for item in files]
    wanted = digests.items()
    faults = [f"{name} is stated twice" for name in _repeated(name for name, _ in stated)]
    faults += [f"{name} with {sha256} is not stated" for name, sha256 in _without(wanted, stated)]
    faults += [f"{name} is stated with {sha256}" for name, sha256 in _without(stated, wanted)]
    found = statement.predicate.run_details.builder.id
    if found != builder_id(fingerprint):
        faults.append(f"the builder is {found}, not {builder_id(fingerprint)}")
    return faults


def stated_images(data: bytes) -> frozenset[str]:
    """Return the digests (``sha256:...``) of the images and their indexes that *data* is about.

    Raises:
        ValueError: it is no statement of this form.
    """
    subjects = Statement.model_validate_json(data).subject
    return frozenset(f"sha256:{item.digest.sha256}" for item in subjects if item.is_image)


def _subject(name: str, sha256: str) -> Subject:
    return Subject(name=name, digest=FileDigest(sha256=sha256.removeprefix("sha256:")))


def _image_subjects(release: ReleasePlan, manifest: Manifest) -> Iterator[Subject]:
    platforms = {job.platform.identifier: job.platform for job in release.jobs}
    for group, index in release_indexes(manifest, platforms).items():
        name = f"{group.image}:{exact_tag(manifest, group)}"
        yield _subject(name, digest_of(index))
        for image in group.of(manifest):
            yield _subject(f"{name}@{image.platform}", image.digest)


def _repeated(names: Iterable[str]) -> list[str]:
    given = list(names)
    return sorted({name for name in given if given.count(name) > 1})


def _without(pairs: Iterable[T], others: Iterable[T]) -> list[T]:
    known = set(others)
    return [pair for pair in pairs if pair not in known]


def _source_uri(release: ReleasePlan) -> str | None:
    """Return where the source is, in the form of SPDX; None if not everybody can have it."""
    source, revision = release.interpreter.source, release.revision
    if not isinstance(source, GitSource) or revision.kind != source.kind:
        return None
    ref = f"refs/tags/{revision.tag}" if revision.tag else f"refs/heads/{revision.branch}"
    return f"git+{public_address(source.repository)}@{ref}"


def _platform_build(job: Job, info: BuildInfo) -> PlatformBuild:
    return PlatformBuild(
        mode=info.mode,
        gc=info.gc,
        jit=info.jit,
        command=info.command,
        environment=job.environment,
        translation_key=info.translation_key,
    )


def _dependencies(
    release: ReleasePlan, infos: Mapping[str, BuildInfo], pins: Mapping[str, Pin]
) -> Iterator[Dependency]:
    yield Dependency(
        name="source", uri=_source_uri(release), digest=_revision_digest(release.revision)
    )
    pinned = {name: sha256 for info in infos.values() for name, sha256 in info.pins.items()}
    for name, sha256 in sorted(pinned.items()):
        pin = pins[name]
        yield Dependency(name=pin.filename, uri=public_address(pin.url), digest={"sha256": sha256})
    for job in release.jobs:
        name = f"{job.environment}-{job.platform.identifier}"
        digest = infos[job.identifier].environment
        yield Dependency(name=name, digest={"environmentSha256": digest})
    archives = {job.bootstrap.artifact for job in release.jobs if job.bootstrap is not None}
    for artifact in sorted(archives, key=lambda item: item.filename):
        yield Dependency(name=artifact.filename, digest={"sha256": artifact.sha256})


def _revision_digest(revision: Revision) -> dict[str, str]:
    is_commit = revision.kind != "directory" and not revision.dirty
    return {"gitCommit" if is_commit else "treeSha256": revision.revision}
