"""The platforms that binaries run on, with every ecosystem's name for each.

The table itself is ``translation_configs/platforms.toml``; no other file may hold such names.
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated, Final, Literal, Self

from pydantic import Field, StringConstraints, model_validator

from pipeline.model.base import Model, Name

Os = Literal["linux", "darwin", "windows"]
Libc = Literal["glibc", "musl"]
LINUX: Os = "linux"
FORMATS: Final[dict[Os, str]] = {"linux": "elf", "darwin": "macho", "windows": "pe"}


class Mode(StrEnum):
    """How a platform is translated on a worker of the same or of another architecture."""

    NATIVE = "native"  # toolchain and binaries run on the worker's processor
    CROSS = "cross"  # the toolchain runs there, with a cross compiler; probes run under QEMU
    EMULATED = "emulated"  # everything runs under QEMU


class Elf(Model):
    """Programs of Linux. ``machine`` is LIEF's name of the ELF machine.

    ``loader`` is the file name of the dynamic loader; ``glibc_floor`` the newest glibc whose
    symbols a binary may need, where the C library is glibc (musl does not version its symbols).
    """

    format: Literal["elf"]
    machine: str
    loader: str
    glibc_floor: Annotated[str, StringConstraints(pattern=r"^2\.\d+$")] | None = None


class MachO(Model):
    """Programs of macOS. ``machine`` is LIEF's name; ``minimum_os`` the oldest they run on."""

    format: Literal["macho"]
    machine: str
    minimum_os: Annotated[str, StringConstraints(pattern=r"^1\d\.\d+$")]


class Pe(Model):
    """Programs of Windows. ``machine`` is LIEF's name of the machine type."""

    format: Literal["pe"]
    machine: str


Binaries = Annotated[Elf | MachO | Pe, Field(discriminator="format")]


class CrossToolchain(Model):
    """How a platform's programs are compiled elsewhere.

    ``hosts`` are the platforms whose bootstrap interpreter and compilers do it, in order of
    preference: of the target's word size and byte order, since RPython computes with its own.
    ``prefix`` begins the names of the compiler and its tools: ``aarch64-linux-gnu``.
    """

    hosts: Annotated[tuple[Name, ...], Field(min_length=1)]
    prefix: str


class IndexNames(Model):
    """A platform in upstream's ``versions.json``, by names that its readers know."""

    arch: str
    platform: str


class UvNames(Model):
    """A platform in uv's download metadata."""

    family: str
    os: str
    libc: str


class OciNames(Model):
    """A platform in the OCI image specification, and for Docker's ``--platform``."""

    os: str
    architecture: str
    variant: str | None = None

    def __str__(self) -> str:
        return "/".join(filter(None, (self.os, self.architecture, self.variant)))


class HomebrewNames(Model):
    """A platform in a formula: the blocks ``on_<os>`` and ``on_<processor>`` hold for it."""

    os: Literal["macos", "linux"]
    processor: Literal["arm", "intel"]


class DownstreamNames(Model):
    """A platform by the names of those who install or build with our archives; None: not theirs.

    ``pyenv`` is what python-build's function ``pypy_architecture`` says there, ``wheel`` the
    platform in cibuildwheel's identifiers, ``bashbrew`` the architecture of Docker's official
    images, ``conda`` the subdirectory of a conda channel, ``nix`` the system in Nixpkgs.
    """

    pyenv: str | None = None
    wheel: Annotated[str, StringConstraints(pattern="^(manylinux|macosx|win)_")] | None = None
    bashbrew: str | None = None
    homebrew: HomebrewNames | None = None
    conda: Annotated[str, StringConstraints(pattern="^[a-z0-9]+-[a-z0-9]+$")] | None = None
    nix: Annotated[str, StringConstraints(pattern="^[a-z0-9_]+-[a-z]+$")] | None = None


class Platform(Model):
    """One row of the platform table.

    ``machine`` is what ``uname -m`` says there; ``runs_on`` are the machines whose processors run
    its programs without an emulator. ``modes`` are those allowed, the best first. ``cflags`` are
    options of the C compiler that every translation for it needs, as the oldest processor that
    the binaries are for.
    ``release_suffix`` and ``nightly_suffix`` end the file names of archives. ``openssl`` is the
    target of OpenSSL's Configure.
    ``multiarch`` is what PyPy puts into the names of extension modules: on Linux Debian's name of
    the platform. ``debian_arch``, ``oci`` and ``emulator`` (QEMU's name among the formats of
    programs that the kernel knows) are for Linux only, which has containers.
    """

    identifier: Name
    os: Os
    machine: str
    runs_on: Annotated[tuple[str, ...], Field(min_length=1)]
    libc: Libc | None = None
    word_size: Literal[32, 64]
    byte_order: Literal["little", "big"]
    binaries: Binaries
    modes: Annotated[tuple[Mode, ...], Field(min_length=1)]
    cross: CrossToolchain | None = None
    cflags: tuple[str, ...] = ()
    release_suffix: str
    nightly_suffix: str
    multiarch: str
    openssl: str
    debian_arch: str | None = None
    oci: OciNames | None = None
    emulator: Annotated[str, StringConstraints(pattern="^qemu-")] | None = None
    versions_json: IndexNames | None = None
    uv: UvNames
    downstream: DownstreamNames = DownstreamNames()

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if (Mode.CROSS in self.modes) != (self.cross is not None):
            msg = "mode cross and the table cross belong together"
            raise ValueError(msg)
        linux = (self.libc, self.debian_arch, self.oci, self.emulator)
        if self.os == LINUX and None in linux:
            msg = "a platform of Linux has libc, debian_arch, oci and emulator"
            raise ValueError(msg)
        if self.os != LINUX and (any(linux) or self.modes != (Mode.NATIVE,)):
            msg = "only platforms of Linux have libc, debian_arch, oci, emulator and other modes"
            raise ValueError(msg)
        if FORMATS[self.os] != self.binaries.format:
            msg = f"programs of {self.os} are of format {FORMATS[self.os]}"
            raise ValueError(msg)
        if (self.libc == "glibc") != (self.glibc_floor is not None):
            msg = "libc = glibc and binaries.glibc_floor belong together"
            raise ValueError(msg)
        return self

    @property
    def loader(self) -> str | None:
        """The dynamic loader of ELF programs."""
        return self.binaries.loader if isinstance(self.binaries, Elf) else None

    @property
    def glibc_floor(self) -> str | None:
        """The newest glibc that a binary may need; None where the C library is another."""
        return self.binaries.glibc_floor if isinstance(self.binaries, Elf) else None


class Placement(Model):
    """Where a container's programs run, and which other platform they compile for, if they do."""

    host: Platform
    target: Platform | None = None


class Worker(Model):
    """A machine that does work: ``uname -s`` in lower case, and ``uname -m``.

    Without ``containers`` a step is a process of that machine, so it works for itself alone.
    ``modes`` are those that it is used for.
    """

    os: str
    machine: str
    containers: bool = True
    modes: tuple[Mode, ...] = tuple(Mode)


def ways(
    platform: Platform, platforms: Mapping[str, Platform], worker: Worker
) -> dict[Mode, Platform]:
    """Return how *platform* can be translated on *worker*, the best way first. Pure.

    For Linux a container does it, on whatever system; macOS and Windows have none.

    Returns:
        For each mode that the worker can do the platform on which the toolchain runs.
    """
    contained = platform.os == LINUX and worker.containers
    own = worker.machine in platform.runs_on and (contained or platform.os == worker.os)
    found: dict[Mode, Platform | None] = {
        Mode.NATIVE: platform if own else None,
        Mode.CROSS: _cross_host(platform, platforms, worker) if contained else None,
        Mode.EMULATED: platform if contained and not own else None,
    }
    allowed = (mode for mode in platform.modes if mode in worker.modes)
    return {mode: host for mode in allowed if (host := found[mode]) is not None}


def _cross_host(
    platform: Platform, platforms: Mapping[str, Platform], worker: Worker
) -> Platform | None:
    """Return the first of the platforms with a cross compiler that the worker's processor runs."""
    names = platform.cross.hosts if platform.cross is not None else ()
    hosts = (platforms[name] for name in names)
    return next((row for row in hosts if worker.machine in row.runs_on), None)
