"""The schemas of the files in ``translation_configs/``.

Every model here is the schema of one file or of a table in it; ``python -m pipeline schemas``
writes them as JSON Schema for editors.
"""

from datetime import date
from pathlib import PurePosixPath
from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from pipeline.model.base import FileName, Model, Name, RelativePath, Sha256
from pipeline.model.platforms import Platform
from pipeline.model.versions import VersionField

Channel = Literal["release", "nightly"]

GC_CHOICES = Literal[
    "boehm", "ref", "semispace", "statistics", "generation", "hybrid", "minimark", "incminimark"
]


class Pin(Model):
    """A file from outside, fixed by its digest. ``size`` is in bytes."""

    version: str
    filename: FileName
    url: Annotated[str, StringConstraints(pattern="^https://")]
    sha256: Sha256
    size: Annotated[int, Field(gt=0)]


class PinsFile(Model):
    """``pins.toml``: every file that is downloaded."""

    pins: dict[Name, Pin]


class BootstrapBase(Model):
    """A base image made from Debian's packages with mmdebstrap; needs no registry.

    Mirrors are tried in order, so that a suite which has moved to the archive is still found.
    """

    kind: Literal["bootstrap"]
    suite: Name
    mirrors: Annotated[tuple[str, ...], Field(min_length=1)]
    components: tuple[Name, ...] = ("main",)
    include: tuple[str, ...] = ()


class RegistryBase(Model):
    """A base image from a registry, by digest; a tag alone would let the image change."""

    kind: Literal["registry"]
    reference: Annotated[str, StringConstraints(pattern=r"^[^\s@]+@sha256:[0-9a-f]{64}$")]


Base = Annotated[BootstrapBase | RegistryBase, Field(discriminator="kind")]


class EnvironmentConfig(Model):
    """A container environment: a base image and, on top of it, a file of ``dockerfiles/``."""

    base: Name
    dockerfile: FileName | None = None


class EnvironmentsFile(Model):
    """``environments.toml``: the images that steps run in."""

    bases: dict[Name, Base]
    environments: dict[Name, EnvironmentConfig]


class PlatformsFile(Model):
    """``platforms.toml``: the one table of platforms."""

    platforms: dict[Name, Platform]


class DirectorySource(Model):
    """A tree inside this repository. Its revision is the digest of its files.

    ``date`` becomes the time stamp of everything packed, so it is changed with the source:
    a checkout's own times differ from clone to clone.
    """

    kind: Literal["directory"]
    path: RelativePath
    date: date
    toolchain: tuple[Name, ...]


class BootstrapInterpreter(Model):
    """The Python 2.7 that runs the RPython toolchain, and its settings."""

    argv: Annotated[tuple[str, ...], Field(min_length=1)]
    environment: dict[str, str] = Field(default_factory=dict)


class TranslationConfig(Model):
    """What the RPython toolchain is told.

    ``jit = true`` is rendered as ``--opt=jit`` on machines in ``jit_machines`` and as ``--opt=2``
    elsewhere: ``--jit`` is not an RPython switch, optparse reads it as ``--jit-backend``.
    Times are in seconds: ``timeout`` for the whole step, ``silence`` between two lines of output.
    """

    environment: Name
    bootstrap: BootstrapInterpreter
    rpython_target: RelativePath
    gc: GC_CHOICES
    jit: bool
    jit_machines: tuple[str, ...] = ()
    extra_options: tuple[str, ...] = ()
    target_options: tuple[str, ...] = ()
    timeout: Annotated[int, Field(gt=0)] = 4 * 3600
    silence: Annotated[int, Field(gt=0)] = 3600


class PackageConfig(Model):
    """What an archive holds: ``bin/<executable>``, links to it, the licence and documents.

    ``license_file`` and the values of ``documents`` are paths in ``translation_configs/``, the
    keys of ``documents`` paths in the archive.
    """

    executable: FileName
    links: tuple[FileName, ...] = ()
    license_file: RelativePath
    documents: dict[RelativePath, RelativePath] = Field(default_factory=dict)


class SmokeTest(Model):
    """A command that is run in a clean container on the unpacked archive.

    ``{root}`` stands for the unpacked directory, ``{tests}`` for the copied test files,
    ``{scratch}`` for an empty writable directory. ``stdout`` is compared exactly, ``stdout_file``
    is a path among the test files; ``stderr_contains`` must all occur.
    """

    name: Name
    argv: Annotated[tuple[str, ...], Field(min_length=1)]
    status: int = 0
    stdout: str | None = None
    stdout_file: RelativePath | None = None
    stderr_contains: tuple[str, ...] = ()
    timeout: Annotated[int, Field(gt=0)] = 60


class OptionProofs(Model):
    """How the translation options are proved on the finished binary.

    ``info`` prints ``key=value`` lines which name the options that were translated in.
    ``jit`` runs a hot loop: with a JIT its log must show compiled loops, without one none.
    ``gc`` allocates enough for the collector that was asked for to show itself in its log.
    """

    info: tuple[str, ...]
    jit: tuple[str, ...]
    gc: tuple[str, ...]
    timeout: Annotated[int, Field(gt=0)] = 120


class VerifyConfig(Model):
    """What the gates expect of an archive, beyond what they expect of every archive."""

    environments: Annotated[tuple[Name, ...], Field(min_length=1)]
    test_files: RelativePath
    needed: tuple[str, ...]
    smoke: Annotated[tuple[SmokeTest, ...], Field(min_length=1)]
    proofs: OptionProofs


class InterpreterConfig(Model):
    """One interpreter's file: a product line such as ``pypy3.11`` or ``demo``.

    ``product`` groups lines that share a store directory and indexes (all of PyPy's: ``pypy``).
    ``implementation`` is what ``sys.implementation.name`` says, for clients that ask for it.
    """

    interpreter: Name
    product: Name
    implementation: Name
    summary: str
    license: str
    homepage: Annotated[str, StringConstraints(pattern="^https://")]
    interpreter_version: VersionField
    language_version: Annotated[str, StringConstraints(pattern=r"^\d+\.\d+(\.\d+)?$")]
    nightly_prefix: Name
    platforms: Annotated[tuple[Name, ...], Field(min_length=1)]
    source: DirectorySource
    translation: TranslationConfig
    package: PackageConfig
    verify: VerifyConfig


class SigningConfig(Model):
    """Which key signs. ``quickstart`` makes a throw-away key in the work directory.

    ``minimum_days`` is how long the key must stay valid after signing.
    """

    key: Annotated[str, StringConstraints(pattern=r"^(quickstart|[0-9A-F]{40})$")]
    minimum_days: Annotated[int, Field(ge=0)] = 30


class ChannelConfig(Model):
    """What a channel releases, and where to.

    ``store`` is a directory (relative to the work directory), ``base_url`` the address under
    which the public sees that store; indexes hold URLs below it.
    """

    interpreters: Annotated[tuple[Name, ...], Field(min_length=1)]
    platforms: Literal["worker"] | tuple[Name, ...]
    store: str
    base_url: Annotated[str, StringConstraints(pattern=r"^https?://[^\s]+[^/\s]$")]
    signing: SigningConfig


class ChannelsFile(Model):
    """``channels.toml``: the channels a maintainer or CI publishes to."""

    release: ChannelConfig
    nightly: ChannelConfig


class Config(Model):
    """Everything ``translation_configs/`` says, checked against each other."""

    root: PurePosixPath
    platforms: dict[str, Platform]
    bases: dict[str, Base]
    environments: dict[str, EnvironmentConfig]
    pins: dict[str, Pin]
    interpreters: dict[str, InterpreterConfig]
    channels: ChannelsFile
