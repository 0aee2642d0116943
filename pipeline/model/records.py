"""What each stage hands to the next and writes to disk as ``record.json``."""

from typing import Annotated

from pydantic import Field

from pipeline.model.artifacts import Artifact
from pipeline.model.base import FileName, Model, Name, Sha256
from pipeline.model.configs import Channel
from pipeline.model.debian import BinaryPackage
from pipeline.model.images import PublishedImage
from pipeline.model.versions import VersionField


class Revision(Model):
    """Exactly which source.

    ``revision`` is a git commit or the digest of a tree. ``number`` orders nightlies and is None
    where no nightly was asked for; ``epoch`` is in seconds since 1970 UTC. ``branch`` and ``tag``
    are git's; a source is ``dirty`` if it is no commit of its repository.
    """

    kind: str
    revision: Annotated[str, Field(pattern=r"^[0-9a-f]{40,64}$")]
    number: Annotated[int, Field(ge=0)] | None
    epoch: Annotated[int, Field(ge=315532800)]
    branch: str | None = None
    tag: str | None = None
    dirty: bool = False

    @property
    def short(self) -> str:
        """The 12 digits that names and ``sys.version`` have; a dirty source's end in ``+``."""
        return f"{self.revision[:12]}{'+' if self.dirty else ''}"


class Resolved(Model):
    """A revision, and which versions its source says it is."""

    revision: Revision
    interpreter_version: VersionField
    language_version: str


class BootstrapRelease(Model):
    """A released interpreter that runs the toolchain: its archive, and its program in ``bin/``."""

    release: FileName
    artifact: Artifact
    executable: FileName


class SourceTree(Model):
    """A tree ready for the translation environment, as one tar file beside the record.

    ``source_archive`` is the source as it is released, where it is.
    """

    revision: Revision
    archive: FileName
    sha256: Sha256
    size: int
    source_archive: Artifact | None = None


class Environment(Model):
    """An image that steps run in.

    ``digest`` says what is in it (base, Dockerfile, packages with versions) and is the same
    wherever the same image is built; ``image_id`` is this engine's copy.
    """

    name: Name
    digest: Sha256
    image_id: str
    packages: tuple[str, ...]


class Phase(Model):
    """One phase of a translation, as the toolchain's own timer has it; in seconds."""

    name: str
    seconds: float


class Resources(Model):
    """What a step used: wall and CPU seconds, and the largest resident size of a process."""

    wall_seconds: float
    cpu_seconds: float
    peak_bytes: int


class CompilerCache(Model):
    """How many compilations ccache answered from its directory, and how many it had to do."""

    hits: int
    misses: int


class Translation(Model):
    """What was translated, as one tar file of the products beside the record, and how.

    ``products`` has the sha256 of each file, by its path in the source tree.
    """

    archive: FileName
    sha256: Sha256
    size: int
    products: dict[str, Sha256]
    environment: Sha256
    command: tuple[str, ...]
    phases: tuple[Phase, ...]
    resources: Resources
    compiler_cache: CompilerCache


class BuildInfo(Model):
    """How an archive was built; packed into it, so it holds nothing that differs between runs."""

    schema_version: int = Field(default=1, alias="schema")
    identifier: Name
    interpreter: Name
    interpreter_version: VersionField
    language_version: str
    platform: Name
    mode: str
    license: str
    homepage: str
    source: Revision
    source_sha256: Sha256
    pins: dict[str, str]
    environment: Sha256
    command: tuple[str, ...]
    gc: str
    jit: bool
    translation_key: Sha256


class Package(Model):
    """The archives of one job, beside the record.

    ``modules`` are the extension modules that were built, ``skipped`` those that were not.
    """

    stem: FileName
    artifacts: tuple[Artifact, ...]
    modules: tuple[str, ...] = ()
    skipped: tuple[str, ...] = ()


class GateResult(Model):
    """One gate's verdict; ``measured`` is what it found, for the manifest."""

    gate: str
    title: str
    measured: str


class Verification(Model):
    """The gates that an archive's bytes passed. ``glibc_floor`` is measured on its ELF files."""

    stem: FileName
    artifacts: tuple[Artifact, ...]
    modules: tuple[str, ...] = ()
    skipped: tuple[str, ...] = ()
    gates: tuple[GateResult, ...]
    glibc_floor: str


class DebianPackages(Model):
    """The Debian packages of one job, beside the record: files, what they are, their verdicts.

    ``gates`` has what lintian said of each suite's.
    """

    artifacts: tuple[Artifact, ...]
    packages: tuple[BinaryPackage, ...]
    gates: tuple[GateResult, ...]


class BuiltImage(Model):
    """One image, as an OCI image layout (specification 1.1) in a tar file beside the record.

    ``packages`` are the distribution's packages in it, each ``name version architecture``. ``sbom``
    is the file beside it that lists all that is in it (SPDX 2.3).
    """

    image: PublishedImage
    archive: FileName
    sha256: Sha256
    packages: tuple[str, ...]
    sbom: FileName | None = None
    sbom_sha256: Sha256 | None = None


class BuiltImages(Model):
    """The images of one job."""

    images: tuple[BuiltImage, ...]


class Installed(Model):
    """One installation by a real client that worked, and what was seen of it."""

    client: str
    where: str
    what: tuple[str, ...]
    seconds: float


class Installation(Model):
    """Every installation of a job's packages that was tried; all worked."""

    installed: tuple[Installed, ...]


class PlatformFacts(Model):
    """What the manifest says of one platform of a release.

    ``glibc_floor`` was measured on its files; ``declared_floor`` is what the platform table
    promises, None where the C library is not glibc.
    """

    platform: Name
    mode: str
    translation_key: Sha256
    gc: str
    jit: bool
    glibc_floor: str
    declared_floor: str | None = None
    modules: tuple[str, ...] = ()
    skipped_modules: tuple[str, ...] = ()
    gates: tuple[str, ...]


class Manifest(Model):
    """Our list of a release's files. It holds no wall-clock time: equal inputs, equal bytes.

    ``input_key`` is the digest of everything that decides the archives' bytes.
    """

    schema_version: int = Field(default=1, alias="schema")
    release: FileName
    product: Name
    channel: Channel
    interpreter: Name
    implementation: Name
    interpreter_version: VersionField
    language_version: str
    stable: bool
    source: Revision
    input_key: Sha256
    platforms: tuple[PlatformFacts, ...]
    files: tuple[Artifact, ...]
    images: tuple[PublishedImage, ...] = ()


class SignedRelease(Model):
    """A release's complete set of files, beside the record, and who signed it.

    ``is_throw_away`` marks the quickstart's key, which nobody has a reason to trust.
    """

    release: FileName
    product: Name
    provenance: Artifact
    manifest: Artifact
    debian_index: Artifact | None = None
    checksums: Artifact
    signature: Artifact
    public_key: Artifact
    fingerprint: Annotated[str, Field(pattern=r"^[0-9A-F]{40}$")]
    is_throw_away: bool
