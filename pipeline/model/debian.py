"""Debian packages: what the configuration says of them, their names and versions, their list.

Names and versions follow Debian's policy (chapters 3.2 and 5.6). The tilde in a version sorts
before everything, so a candidate is older than its release, and a package for an older suite older
than the same one for a newer suite: an upgrade of the system also upgrades the package.
"""

from collections.abc import Iterable
from datetime import date
from typing import Annotated, Final, Literal, NamedTuple

from pydantic import AfterValidator, Field, StringConstraints

from pipeline.model.base import FileName, Model, Name, RelativePath, Sha256
from pipeline.model.versions import InterpreterVersion, Nightly

DEBIAN_REVISION: Final = 1
"""Counts changes of the packages of one and the same interpreter version."""

PackageName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9.+-]+$", max_length=60)]
OwnPackageName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9.-]+$", max_length=60)]
"""The name of a package of ours: also in file names, which have no plus sign."""
SuffixName = Annotated[str, StringConstraints(pattern=r"^-[a-z0-9][a-z0-9.-]*$")]
Pattern = Annotated[str, StringConstraints(min_length=1, max_length=200)]

_IN_FILENAMES: Final = str.maketrans("~+", "..")
_FIELDS_OF_LISTS: Final = frozenset({"filename", "size", "sha256"})


class DebianSuite(Model):
    """A suite of Debian or Ubuntu that packages are made for.

    ``number`` ends their versions (``12`` gives ``~deb12``). Packages are made and judged in
    ``environment``, which has the suite's libraries and tools, and tried in ``clean``, a minimal
    system.
    """

    number: Annotated[str, StringConstraints(pattern=r"^[0-9][0-9.]*$")]
    environment: Name
    clean: Name


class Vendor(Model):
    """Who packages: in package fields, in the labels of images and of the apt repository.

    ``prefix`` is the directory below which all of an interpreter's files lie, so that they are
    never those of the distribution's own packages.
    """

    name: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9 ._-]*$")]
    maintainer: Annotated[str, StringConstraints(pattern=r"^[^<>\n]+ <[^<>@\s]+@[^<>@\s]+>$")]
    prefix: RelativePath


class DistributionsFile(Model):
    """``distributions.toml``: who packages, and for which suites."""

    vendor: Vendor
    suites: dict[Name, DebianSuite]


class Alternative(Model):
    """A command that ``update-alternatives`` leads to a program of the package.

    ``path`` is below the archive's top directory; the highest ``priority`` wins.
    """

    command: FileName
    path: RelativePath
    priority: Annotated[int, Field(ge=1)]


class DebianPart(Model):
    """One binary package that holds a part of the archive.

    ``suffix`` follows the name of the main package, which alone has none. ``files`` are patterns
    of paths below the top directory (``*`` also matches slashes); a file is in the first part that
    has a pattern for it, and in the main package if none has. ``needs`` are further packages that
    it depends on, beside the main package and the libraries that its programs need.
    ``debug_symbols`` marks the part that is made of the archive of debug symbols instead, with
    ``documents`` files are in the package's directory below ``/usr/share/doc``.
    """

    suffix: SuffixName
    summary: Annotated[str, StringConstraints(pattern=r"^[^\n]+$", max_length=80)]
    files: tuple[Pattern, ...] = ()
    needs: tuple[str, ...] = ()
    section: Name | None = None
    debug_symbols: bool = False
    documents: bool = False


class LintianOverride(Model):
    """A tag of lintian that is right as it is in one package, and why.

    ``context`` is what follows the tag, where ``*`` stands for anything.
    """

    package: PackageName
    tag: Annotated[str, StringConstraints(pattern=r"^[a-z0-9-]+$")]
    context: Annotated[str, StringConstraints(pattern=r"^[^\n]*$")] = "*"
    reason: Annotated[str, StringConstraints(pattern=r"^[^\n]+$")]


class DebianConfig(Model):
    """How an interpreter's archive becomes Debian packages.

    ``dropped`` are patterns of files that no package has. ``private`` are the bundled libraries'
    patterns: such a library is dropped where the suite has one of the same name, else kept; with
    it the files of the patterns that ``companions`` has for it, as a library's scripts.
    ``alternatives`` are commands that other packages may have too, ``commands`` those that are
    this package's own, with the program that each is.
    ``byte_compiled`` are directories of Python modules that are compiled when they are installed,
    by ``python``, a program of the archive, which also runs the scripts among them.
    ``externally_managed`` is where the file of PEP 668 is put. ``recommends`` are parts,
    ``recommended`` other packages that the main one recommends.
    """

    package: OwnPackageName
    section: Name = "python"
    parts: tuple[DebianPart, ...] = ()
    dropped: tuple[Pattern, ...] = ()
    private: tuple[Pattern, ...] = ()
    companions: dict[RelativePath, tuple[Pattern, ...]] = Field(default_factory=dict)
    commands: dict[FileName, RelativePath] = Field(default_factory=dict)
    alternatives: tuple[Alternative, ...] = ()
    python: RelativePath | None = None
    byte_compiled: tuple[RelativePath, ...] = ()
    externally_managed: RelativePath | None = None
    recommends: tuple[SuffixName, ...] = ()
    recommended: tuple[PackageName, ...] = ()
    overrides: tuple[LintianOverride, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """The names of all binary packages, the main one first."""
        return (self.package, *(self.part_name(part) for part in self.parts))

    def part_name(self, part: DebianPart) -> str:
        """Return the name of the package that holds a part of the archive."""
        return f"{self.package}{part.suffix}"


class AptConfig(Model):
    """The apt repository in a channel's store.

    ``suites`` are those of ``distributions.toml`` that packages are made for. A signed index is
    good for ``valid_days`` and made anew when half of them are over; ``grace_hours`` long the
    lists that an index named stay there after it was replaced; of each interpreter the ``keep``
    newest versions are listed.
    """

    suites: Annotated[tuple[Name, ...], Field(min_length=1)]
    valid_days: Annotated[int, Field(ge=1)] = 14
    grace_hours: Annotated[int, Field(ge=1)] = 48
    keep: Annotated[int, Field(ge=1)] = 5


def _stanza(text: str) -> str:
    lines = text.split("\n")
    fields = {line.partition(":")[0].lower() for line in lines if line and line[0] not in " \t#"}
    if not all(line.strip() for line in lines) or fields & _FIELDS_OF_LISTS:
        msg = (
            "a control stanza has no empty line, no newline at its end, and none of the fields "
            "Filename, Size and SHA256, which apt's lists add"
        )
        raise ValueError(msg)
    return text


class BinaryPackage(Model):
    """One ``.deb`` file of a release; ``control`` is its control stanza, without a last newline."""

    filename: FileName
    suite: Name
    platform: Name
    architecture: Name
    name: PackageName
    package_version: str
    control: Annotated[str, AfterValidator(_stanza)]
    size: Annotated[int, Field(gt=0)]
    sha256: Sha256


class DebianIndex(Model):
    """Every Debian package of a release: a file of it, from which apt's lists are made."""

    schema_version: Literal[1] = Field(default=1, alias="schema")
    packages: tuple[BinaryPackage, ...]


class NightlyBuild(NamedTuple):
    """A nightly as its packages know it: with the day in its release's name.

    The same revision may be built again on another day, in another environment for one.
    """

    nightly: Nightly
    day: date


def package_version(
    interpreter_version: InterpreterVersion, suite: DebianSuite, build: NightlyBuild | None = None
) -> str:
    """Return the version of an interpreter's packages for *suite*: ``7.3.23-1~deb12``.

    A candidate's is ``8.0.0~rc1-1~deb12``. That of a nightly's *build* is older than the release
    that its source is on its way to (``8.0.0~nightly188288.20261125.194f9f44b505-1~deb12``), but
    newer than one that its source still says it is (``7.3.23+nightly...``). Its number decides
    first, then its day.
    """
    version = interpreter_version
    upstream = f"{version.major}.{version.minor}.{version.micro}"
    if build is not None:
        sign, (nightly, day) = "+" if version.final else "~", build
        upstream += f"{sign}nightly{nightly.number}.{day:%Y%m%d}.{nightly.revision}"
    elif not version.final:
        upstream += f"~{str(version).removeprefix(upstream)}"
    return f"{upstream}-{DEBIAN_REVISION}~deb{suite.number}"


def package_filename(name: str, version: str, architecture: str) -> str:
    """Return the file name of a package, which has dots for what its version alone may have.

    A tilde is no character of store keys, and GitHub would rename the file. Amazon's S3 takes the
    plus sign in an address for a blank. Within a release names stay apart, since its versions
    differ by the suite only.
    """
    return f"{name}_{version.translate(_IN_FILENAMES)}_{architecture}.deb"


def package_filenames(
    config: DebianConfig,
    architecture: str,
    suites: Iterable[DebianSuite],
    interpreter_version: InterpreterVersion,
    build: NightlyBuild | None = None,
) -> tuple[str, ...]:
    """Return the file names of all packages of an interpreter for one of Debian's architectures."""
    return tuple(
        package_filename(name, package_version(interpreter_version, suite, build), architecture)
        for suite in suites
        for name in config.names
    )
