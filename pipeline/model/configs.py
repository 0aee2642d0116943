"""The schemas of the files in ``translation_configs/``.

Every model here is the schema of one file or of a table in it; ``python -m pipeline schemas``
writes them as JSON Schema for editors.
"""

import re
from datetime import date
from pathlib import PurePosixPath
from typing import Annotated, Final, Literal

from pydantic import (
    AfterValidator,
    Field,
    StrictBool,
    StrictFloat,
    StrictInt,
    StrictStr,
    StringConstraints,
)

from pipeline.model.base import FileName, Model, Name, RelativePath, Sha256
from pipeline.model.debian import AptConfig, DebianConfig, DebianSuite, Vendor
from pipeline.model.homebrew import HomebrewConfig, TapConfig
from pipeline.model.images import ImageConfig, RegistryConfig
from pipeline.model.install import InstallTest
from pipeline.model.platforms import Libc, Os, Platform
from pipeline.model.versions import VersionField

Channel = Literal["release", "nightly"]

GC_CHOICES = Literal[
    "boehm", "ref", "semispace", "statistics", "generation", "hybrid", "minimark", "incminimark"
]


HttpsUrl = Annotated[str, StringConstraints(pattern="^https://")]


class Pin(Model):
    """A file from outside, fixed by its digest. ``size`` is in bytes.

    ``mirrors`` are asked in order when ``url`` does not answer: a distribution's mirror drops a
    file when the next version comes.
    """

    version: str
    filename: FileName
    url: HttpsUrl
    mirrors: tuple[HttpsUrl, ...] = ()
    sha256: Sha256
    size: Annotated[int, Field(gt=0)]


class PinsFile(Model):
    """``pins.toml``: every file that is downloaded."""

    pins: dict[Name, Pin]


SourceLine = Annotated[str, StringConstraints(pattern=r"^deb http[^\n]+$")]
PathPattern = Annotated[str, StringConstraints(pattern=r"^/[^\s]+$")]


class BootstrapBase(Model):
    """A base image made from Debian's or Ubuntu's packages with mmdebstrap; needs no registry.

    Mirrors are tried in order, so that a suite which has moved to the archive is still found.
    ``architectures`` are those of the suite that they have, by Debian's names. ``libc`` are the C
    libraries for whose programs there is a loader: musl's needs its package in ``include``.
    ``keyring`` is a file of ``dockerfiles/keyrings/`` with the suite's key, where it is not one
    that Debian's own keyring has. ``sources`` are further lines of sources.list, as one for
    security updates. Files whose paths match ``path_exclude`` are not unpacked from any package,
    now or later, but for those of ``path_include`` (dpkg's options of these names). With
    ``merged_usr`` ``/bin`` and ``/lib`` are links into ``/usr`` from the beginning: the package
    that does it later brings all of Perl.
    """

    kind: Literal["bootstrap"]
    suite: Name
    architectures: Annotated[tuple[Name, ...], Field(min_length=1)]
    libc: Annotated[tuple[Libc, ...], Field(min_length=1)] = ("glibc",)
    keyring: FileName | None = None
    mirrors: Annotated[tuple[str, ...], Field(min_length=1)]
    components: tuple[Name, ...] = ("main",)
    include: tuple[str, ...] = ()
    sources: tuple[SourceLine, ...] | None = None
    merged_usr: StrictBool | None = None
    path_exclude: tuple[PathPattern, ...] | None = None
    path_include: tuple[PathPattern, ...] | None = None


class RegistryBase(Model):
    """A base image from a registry, by digest; a tag alone would let the image change.

    ``architectures`` (Debian's names) and ``libc`` say which platforms it is for.
    """

    kind: Literal["registry"]
    architectures: Annotated[tuple[Name, ...], Field(min_length=1)]
    libc: Annotated[tuple[Libc, ...], Field(min_length=1)] = ("glibc",)
    reference: Annotated[str, StringConstraints(pattern=r"^[^\s@]+@sha256:[0-9a-f]{64}$")]


Base = Annotated[BootstrapBase | RegistryBase, Field(discriminator="kind")]


class EnvironmentConfig(Model):
    """A container environment: a base image and, on top of it, a file of ``dockerfiles/``.

    It is made on the first of ``bases`` that is there for the platform. ``arguments`` are those of
    the Dockerfile.
    """

    bases: Annotated[tuple[Name, ...], Field(min_length=1)]
    dockerfile: FileName | None = None
    arguments: dict[str, str] = Field(default_factory=dict)


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
    toolchain: Annotated[tuple[Name, ...], Field(min_length=1)]


Commit = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{40}$")]


class GitSource(Model):
    """A git repository that holds the interpreter and the RPython toolchain.

    ``branch`` is what nightlies are made of, ``tag`` the pattern of releases' and candidates' tags
    (``{version}`` stands for ``7.3.23`` or ``7.3.23rc1``). ``commits`` pins each version that may
    be released, since a tag can be moved. ``version_file`` assigns ``PYPY_VERSION`` and
    ``CPYTHON_VERSION``.
    """

    kind: Literal["git"]
    repository: Annotated[str, StringConstraints(pattern=r"^(https|ssh|file)://[^\s]+$")]
    branch: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._/-]*$")]
    tag: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9._/-]*\{version\}[A-Za-z0-9._/-]*$")]
    version_file: RelativePath
    commits: dict[str, Commit] = Field(default_factory=dict)
    toolchain: tuple[Name, ...] = ()


Source = Annotated[DirectorySource | GitSource, Field(discriminator="kind")]


class ImageBootstrap(Model):
    """A Python 2.7 of the environment runs the RPython toolchain: ``pypy`` or ``python2``."""

    kind: Literal["image"] = "image"
    argv: Annotated[tuple[str, ...], Field(min_length=1)]
    environment: dict[str, str] = Field(default_factory=dict)


class ReleaseBootstrap(Model):
    """A final release of an interpreter in the store runs the RPython toolchain.

    Without ``version`` it is the newest; an interpreter that translates itself takes one that is
    older than what it translates. Name the version where a release must be repeatable: the newest
    may be another one the next time. ``options`` are the bootstrap interpreter's own, such as
    ``--jit loop_longevity=300``.
    """

    kind: Literal["release"]
    interpreter: Name
    version: VersionField | None = None
    options: tuple[str, ...] = ()
    environment: dict[str, str] = Field(default_factory=dict)


Bootstrap = Annotated[ImageBootstrap | ReleaseBootstrap, Field(discriminator="kind")]


class PlatformTranslation(Model):
    """What is other on one platform: the environment, the bootstrap interpreter."""

    environment: Name | None = None
    bootstrap: Bootstrap | None = None


class TranslationConfig(Model):
    """What the RPython toolchain is told.

    ``jit = true`` is rendered as ``--opt=jit``: ``--jit`` is not an RPython switch, optparse reads
    it as ``--jit-backend``. The toolchain has JIT backends for ``jit_machines``; on machines in
    ``without_jit`` the interpreter is translated with ``--opt=2`` on purpose.
    It runs in ``environment``, in mode cross in ``cross_environment``, which has compilers for both
    platforms; and in ``directory`` of the source. ``output`` names the executable, where the
    target allows that; ``products`` are the files and directories of the source tree that
    packaging needs. Times are in seconds: ``timeout`` for the whole step, ``silence`` between two
    lines of output; under an emulator they are ``emulation_factor`` times as long.
    ``memory`` is what a translation needs, in GiB. ``platforms`` has what is other on single
    platforms.
    """

    environment: Name
    cross_environment: Name | None = None
    bootstrap: Bootstrap
    directory: RelativePath | None = None
    rpython_target: RelativePath
    gc: GC_CHOICES
    jit: bool
    jit_machines: tuple[str, ...] = ()
    without_jit: tuple[str, ...] = ()
    extra_options: tuple[str, ...] = ()
    target_options: tuple[str, ...] = ()
    output: FileName | None = None
    products: Annotated[tuple[RelativePath, ...], Field(min_length=1)]
    timeout: Annotated[int, Field(gt=0)] = 4 * 3600
    silence: Annotated[int, Field(gt=0)] = 3600
    emulation_factor: Annotated[int, Field(gt=0)] = 20
    memory: Annotated[int, Field(gt=0)] = 2
    platforms: dict[Name, PlatformTranslation] = Field(default_factory=dict)


class PlainPackage(Model):
    """An archive with one program: ``bin/<executable>``, links to it, the licence and documents.

    ``license_file`` and the values of ``documents`` are paths in ``translation_configs/``, the
    keys of ``documents`` paths in the archive.
    """

    kind: Literal["plain"]
    executable: FileName
    links: tuple[FileName, ...] = ()
    license_file: RelativePath
    documents: dict[RelativePath, RelativePath] = Field(default_factory=dict)


class EmbeddedLibrary(Model):
    """A library that is built from a pinned source and linked into one extension module.

    The extension ``module`` (its path in the archive, without its suffix) must hold ``marker``,
    with the pin's version for ``{version}``, where the library leaves such a text. In
    ``commands``, run in the unpacked source, ``{destination}`` stands for the directory that it is
    installed below, ``{jobs}`` for how many jobs make may run, ``{openssl}`` for OpenSSL's name of
    the platform, which looks at the machine that it is built on otherwise.
    """

    pin: Name
    module: RelativePath
    marker: str | None = None
    commands: Annotated[tuple[tuple[str, ...], ...], Field(min_length=1)]


class PyPyPackage(Model):
    """An archive made by upstream's own packager, checked and normalised.

    ``files`` must be in it beside the programs, ``windows_files`` in a zip file for Windows;
    ``patchlevel`` is the header that says which version it is.

    ``modules`` are the cffi modules that must be in it, by the packager's names for them, each
    with the names to import; ``without`` are those left out on purpose. ``embedded`` are the
    libraries that the packager builds from source into a module, by module.
    ``wheels`` are pins that the packager would otherwise ask an index for.
    ``portable`` bundles the shared libraries that modules need. ``extension_suffix`` ends the
    names of extension modules; ``{major}`` and ``{minor}`` stand for the interpreter's version,
    ``{multiarch}`` for the platform.
    """

    kind: Literal["pypy"]
    executable: FileName
    library: FileName
    links: tuple[FileName, ...]
    packager: RelativePath
    standard_library: RelativePath
    patchlevel: RelativePath
    files: Annotated[tuple[RelativePath, ...], Field(min_length=1)]
    windows_files: tuple[RelativePath, ...] = ()
    extension_suffix: Annotated[str, StringConstraints(pattern=r"^\.[a-z0-9_{}.-]+$")]
    modules: Annotated[dict[str, tuple[str, ...]], Field(min_length=1)]
    without: tuple[str, ...] = ()
    embedded: dict[str, EmbeddedLibrary] = Field(default_factory=dict)
    wheels: tuple[Name, ...] = ()
    portable: bool = True
    timeout: Annotated[int, Field(gt=0)] = 3600

    @property
    def pins(self) -> tuple[Name, ...]:
        """Everything that the packager would otherwise download."""
        return (*(library.pin for library in self.embedded.values()), *self.wheels)


PackageConfig = Annotated[PlainPackage | PyPyPackage, Field(discriminator="kind")]


class SmokeTest(Model):
    """A command that is run in a clean container on the unpacked archive.

    ``gate`` is the permanent id of what it shows; tests with one id are one gate. It is run in
    ``environments``, or in all of them. ``{root}`` stands for the unpacked directory, ``{tests}``
    for the copied test files, ``{toolchain}`` for the unpacked pins, ``{scratch}`` for an empty
    writable directory. ``stdout`` is compared
    exactly, ``stdout_file`` is a path among the test files; ``stderr_contains`` must all occur.
    ``timeout`` is in seconds.
    """

    name: Name
    gate: Annotated[str, StringConstraints(pattern=r"^RUN[0-9]{2}$")] = "RUN01"
    environments: tuple[Name, ...] = ()
    argv: Annotated[tuple[str, ...], Field(min_length=1)]
    status: int = 0
    stdout: str | None = None
    stdout_file: RelativePath | None = None
    stderr_contains: tuple[str, ...] = ()
    timeout: Annotated[int, Field(gt=0)] = 60


class OptionProofs(Model):
    """How the translation options are proved on the finished binary.

    ``info`` prints ``sys.pypy_translation_info`` as JSON; a program without one prints two lines
    of it, ``gc=...`` and ``jit=...``.
    ``jit`` runs a hot loop: with a JIT its log must show compiled loops, without one none.
    ``gc`` allocates enough for the collector that was asked for to show itself in its log.
    """

    info: tuple[str, ...]
    jit: tuple[str, ...]
    gc: tuple[str, ...]
    timeout: Annotated[int, Field(gt=0)] = 120


class SymbolRules(Model):
    """What the symbols that binaries export must and must not be; patterns match whole names.

    ``required`` must be exported by the interpreter's library or program. Of its names that speak
    of PyPy or RPython, only ``public`` ones may be exported: any other is a leak of internals.
    ``hidden`` are names of libraries that are linked in, which no program or module may export.
    """

    required: tuple[str, ...] = ()
    public: tuple[str, ...] = ()
    hidden: tuple[str, ...] = ()


class VerifyConfig(Model):
    """What the gates expect of an archive, beyond what they expect of every archive.

    ``test_files`` is a directory of ``translation_configs/`` that is copied beside the archive;
    ``more_files`` are others, copied into it by name. ``toolchain`` are pins that are unpacked
    there, for a test that translates.
    ``needed`` are the libraries that every binary may need of the system on Linux, ``needed_on``
    those on other systems, ``needed_by`` more of them for single files. ``build_paths`` are paths
    of the build environment that a file is known to hold. ``report`` prints what the interpreter
    says of itself, as JSON. ``translation_info`` has what ``sys.pypy_translation_info`` must say
    beyond the collector, the JIT and the modules of ``target_options``. Keys of ``needed_by`` and
    ``build_paths`` are paths below the top directory.
    """

    environments: Annotated[tuple[Name, ...], Field(min_length=1)]
    test_files: RelativePath
    more_files: dict[Name, RelativePath] = Field(default_factory=dict)
    toolchain: tuple[Name, ...] = ()
    needed: tuple[str, ...]
    needed_on: dict[Os, tuple[str, ...]] = Field(default_factory=dict)
    needed_by: dict[RelativePath, tuple[str, ...]] = Field(default_factory=dict)
    build_paths: dict[RelativePath, tuple[str, ...]] = Field(default_factory=dict)
    symbols: SymbolRules = SymbolRules()
    modules_only_in: dict[str, tuple[Name, ...]] = Field(default_factory=dict)
    report: tuple[str, ...] = ()
    translation_info: dict[str, StrictBool | StrictInt | StrictFloat | StrictStr] = Field(
        default_factory=dict
    )
    smoke: Annotated[tuple[SmokeTest, ...], Field(min_length=1)]
    proofs: OptionProofs


class InterpreterConfig(Model):
    """One interpreter's file: a product line such as ``pypy3.11`` or ``demo``.

    ``product`` groups lines that share a store directory and indexes (all of PyPy's: ``pypy``).
    ``implementation`` is what ``sys.implementation.name`` says, for clients that ask for it.
    ``interpreter_version`` is what is released unless the command line says another;
    ``language_version`` may be ``3.11`` where the source itself has the rest.
    ``debian``, ``image`` and ``homebrew`` say how packages are made of its archives, for channels
    that publish such; ``install`` is what must work wherever one was installed.
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
    source: Source
    translation: TranslationConfig
    package: PackageConfig
    verify: VerifyConfig
    debian: DebianConfig | None = None
    image: ImageConfig | None = None
    homebrew: HomebrewConfig | None = None
    install: tuple[InstallTest, ...] = ()


Fingerprint = Annotated[str, StringConstraints(pattern=r"^[0-9A-F]{40}$")]
"""What names a key of OpenPGP: 40 upper-case hex digits."""

S3_SCHEME: Final = "s3://"
S3_ADDRESS: Final = re.compile(
    r"s3://(?P<bucket>[a-z0-9][a-z0-9.-]{1,61}[a-z0-9])"
    r"(/(?P<prefix>[A-Za-z0-9_][A-Za-z0-9._+-]*(/[A-Za-z0-9_][A-Za-z0-9._+-]*)*))?"
)
"""A bucket, and where in it the store begins."""


def _store_address(text: str) -> str:
    if text.startswith(S3_SCHEME) and S3_ADDRESS.fullmatch(text) is None:
        msg = "an S3 store is s3://bucket or s3://bucket/prefix"
        raise ValueError(msg)
    return text


class SigningConfig(Model):
    """Which key signs. ``quickstart`` makes a throw-away key in the work directory.

    ``minimum_days`` is how long the key must stay valid after signing. ``trusted`` are other keys
    whose signatures on the ledger count: of other releasers, or of the time before a new key.
    """

    key: Annotated[str, StringConstraints(pattern=r"^(quickstart|[0-9A-F]{40})$")]
    minimum_days: Annotated[int, Field(ge=0)] = 30
    trusted: tuple[Fingerprint, ...] = ()


class S3Options(Model):
    """How an S3 server is reached; None and ``auto`` leave it to Amazon's rules.

    Credentials are none of this file's: they come from the environment or Amazon's own files.
    """

    endpoint: Annotated[str, StringConstraints(pattern=r"^https?://[^\s]+[^/\s]$")] | None = None
    region: str | None = None
    addressing: Literal["auto", "path", "virtual"] = "auto"


class StoreConfig(Model):
    """A store, and the address under which the public sees it; indexes hold URLs below that.

    ``store`` is a directory (relative to the work directory) or ``s3://bucket/prefix``.
    """

    store: Annotated[str, StringConstraints(min_length=1), AfterValidator(_store_address)]
    base_url: Annotated[str, StringConstraints(pattern=r"^https?://[^\s]+[^/\s]$")]
    s3: S3Options = S3Options()

    @property
    def is_s3(self) -> bool:
        """Whether the store is a bucket."""
        return self.store.startswith(S3_SCHEME)


class GithubConfig(Model):
    """Where on GitHub releases are copied to; the token is in the environment's ``variable``."""

    repository: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9-]+/[A-Za-z0-9._-]+$")]
    api: Annotated[str, StringConstraints(pattern=r"^https?://[^\s]+[^/\s]$")] = (
        "https://api.github.com"
    )
    variable: Annotated[str, StringConstraints(pattern=r"^[A-Z][A-Z0-9_]*$")] = "GITHUB_TOKEN"


class RetentionConfig(Model):
    """Which nightlies stay: all of the last ``days``, then one a week for ``weeks``.

    What an index, a release or ``keep`` (names of nightlies) refers to stays in any case.
    """

    days: Annotated[int, Field(ge=1)] = 30
    weeks: Annotated[int, Field(ge=0)] = 52
    keep: tuple[FileName, ...] = ()


class ChannelConfig(StoreConfig):
    """What a channel releases, and where to.

    A release exists when all of its files can be had from ``base_url`` and from every mirror's.
    ``optional`` are platforms without which a nightly may be published. ``parallel`` is how many
    files are transferred at a time, ``largest_file`` how many bytes a file may have.
    ``stale_after_days`` is the age at which the newest nightly is reported.
    With ``apt`` Debian packages are made, with ``registry`` OCI images, and with ``tap`` formulas
    are written into a tap of Homebrew.
    """

    interpreters: Annotated[tuple[Name, ...], Field(min_length=1)]
    platforms: Literal["worker", "all"] | tuple[Name, ...]
    optional: tuple[Name, ...] = ()
    signing: SigningConfig
    mirrors: tuple[StoreConfig, ...] = ()
    github: GithubConfig | None = None
    apt: AptConfig | None = None
    registry: RegistryConfig | None = None
    tap: TapConfig | None = None
    retention: RetentionConfig = RetentionConfig()
    parallel: Annotated[int, Field(ge=1, le=64)] = 4
    largest_file: Annotated[int, Field(ge=1)] = 1 << 30
    stale_after_days: Annotated[int, Field(ge=1)] = 3


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
    vendor: Vendor
    suites: dict[str, DebianSuite]
    interpreters: dict[str, InterpreterConfig]
    channels: ChannelsFile
