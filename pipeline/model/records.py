"""What each stage hands to the next and writes to disk as ``record.json``."""

from typing import Annotated

from pydantic import Field

from pipeline.model.artifacts import Artifact
from pipeline.model.base import FileName, Model, Name, Sha256
from pipeline.model.configs import Channel
from pipeline.model.versions import VersionField


class Revision(Model):
    """Exactly which source: ``number`` orders nightlies, ``epoch`` is in seconds since 1970 UTC."""

    kind: str
    revision: Annotated[str, Field(pattern=r"^[0-9a-f]{40,64}$")]
    number: Annotated[int, Field(ge=0)]
    epoch: Annotated[int, Field(ge=315532800)]


class SourceTree(Model):
    """A tree ready for the translation environment, as one tar file beside the record."""

    revision: Revision
    archive: FileName
    sha256: Sha256
    size: int


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


class Translation(Model):
    """A translated executable, beside the record, and how it came about."""

    executable: FileName
    sha256: Sha256
    size: int
    environment: Sha256
    command: tuple[str, ...]
    phases: tuple[Phase, ...]
    resources: Resources


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
    toolchain: dict[str, str]
    environment: Sha256
    command: tuple[str, ...]
    gc: str
    jit: bool
    translation_key: Sha256


class Package(Model):
    """The archives of one job, beside the record."""

    stem: FileName
    artifacts: tuple[Artifact, ...]


class GateResult(Model):
    """One gate's verdict; ``measured`` is what it found, for the manifest."""

    gate: str
    title: str
    measured: str


class Verification(Model):
    """The gates that an archive's bytes passed. ``glibc_floor`` is measured on its ELF files."""

    stem: FileName
    artifacts: tuple[Artifact, ...]
    gates: tuple[GateResult, ...]
    glibc_floor: str


class PlatformFacts(Model):
    """What the manifest says of one platform of a release."""

    platform: Name
    mode: str
    translation_key: Sha256
    gc: str
    jit: bool
    glibc_floor: str
    gates: tuple[str, ...]


class Manifest(Model):
    """Our list of a release's files. It holds no wall-clock time: equal inputs, equal bytes."""

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
    platforms: tuple[PlatformFacts, ...]
    files: tuple[Artifact, ...]


class SignedRelease(Model):
    """A release's complete set of files, beside the record, and who signed it.

    ``is_throw_away`` marks the quickstart's key, which nobody has a reason to trust.
    """

    release: FileName
    product: Name
    manifest: Artifact
    checksums: Artifact
    signature: Artifact
    public_key: Artifact
    fingerprint: Annotated[str, Field(pattern=r"^[0-9A-F]{40}$")]
    is_throw_away: bool
