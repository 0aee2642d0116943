"""The platforms that binaries run on, with every ecosystem's name for each.

The table itself is ``translation_configs/platforms.toml``; no other file may hold such names.
"""

from enum import StrEnum
from typing import Annotated

from pydantic import StringConstraints

from pipeline.model.base import Model, Name


class Mode(StrEnum):
    """How a platform is translated on a worker of another or of the same architecture."""

    NATIVE = "native"


class IndexNames(Model):
    """A platform in upstream's ``versions.json``."""

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


class Platform(Model):
    """One row of the platform table.

    ``release_suffix`` and ``nightly_suffix`` end the file names of archives.
    ``multiarch`` is Debian's name of the platform, which PyPy puts into module names.
    ``machine`` is what ``uname -m`` says there, ``elf_machine`` LIEF's name of its ELF machine.
    ``glibc_floor`` is the newest glibc whose symbols a binary may need.
    """

    identifier: Name
    os: Annotated[str, StringConstraints(pattern="^(linux|darwin|windows)$")]
    machine: str
    libc: Annotated[str, StringConstraints(pattern="^glibc$")]
    word_size: int
    elf_machine: str
    loader: str
    glibc_floor: Annotated[str, StringConstraints(pattern=r"^2\.\d+$")]
    modes: tuple[Mode, ...]
    release_suffix: str
    nightly_suffix: str
    debian_arch: str
    multiarch: str
    oci: OciNames
    versions_json: IndexNames
    uv: UvNames
