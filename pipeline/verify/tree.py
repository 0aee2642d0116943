"""The unpacked archive that the gates on contents look at."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Final

from pipeline.model.records import BuildInfo
from pipeline.plan import Job

if TYPE_CHECKING:
    import lief

ELF_MAGIC: Final = b"\x7fELF"
# For 32 and 64 bits in the machine's byte order, and of files for several machines.
MACHO_MAGICS: Final = (
    b"\xce\xfa\xed\xfe",
    b"\xcf\xfa\xed\xfe",
    b"\xca\xfe\xba\xbe",
    b"\xca\xfe\xba\xbf",
)
DOS_MAGIC: Final = b"MZ"
DOS_HEADER: Final = 64
PE_MAGIC: Final = b"PE\0\0"


@dataclass(frozen=True)
class Tree:
    """An unpacked archive, and the description that it should carry.

    ``debug_root`` is the unpacked archive of debug symbols, where there is one. ``embedded`` are
    the versions of the libraries that are linked in, by extension module.
    """

    job: Job
    root: Path
    info: BuildInfo
    debug_root: Path | None = None
    embedded: Mapping[str, str] = field(default_factory=dict)

    @cached_property
    def files(self) -> tuple[Path, ...]:
        """Every regular file, sorted."""
        return tuple(
            path
            for path in sorted(self.root.rglob("*"))
            if path.is_file() and not path.is_symlink()
        )

    @cached_property
    def _elf_files(self) -> tuple[tuple[str, "lief.ELF.Binary | None"], ...]:
        found = (path for path in self.files if _magic(path) == ELF_MAGIC)
        return tuple((self.name(path), parsed(path)) for path in found)

    @cached_property
    def machos(self) -> tuple[tuple[str, "lief.MachO.Binary"], ...]:
        """Every program and library for macOS; of one for several machines each part."""
        return tuple((name, binary) for name, fat in self._fat_files for binary in fat)

    @cached_property
    def _fat_files(self) -> "tuple[tuple[str, lief.MachO.FatBinary], ...]":
        """Every Mach-O file. They are kept, since LIEF's parts do not keep the whole alive."""
        import lief  # noqa: PLC0415 - as in parsed

        found = (path for path in self.files if _magic(path) in MACHO_MAGICS)
        parsed_files = ((self.name(path), lief.MachO.parse(path)) for path in found)
        return tuple((name, fat) for name, fat in parsed_files if fat is not None)

    @cached_property
    def pes(self) -> tuple[tuple[str, "lief.PE.Binary"], ...]:
        """Every program and library for Windows."""
        import lief  # noqa: PLC0415 - as in parsed

        found = (path for path in self.files if is_pe(path))
        parsed_files = ((self.name(path), lief.PE.parse(path)) for path in found)
        return tuple((name, binary) for name, binary in parsed_files if binary is not None)

    @cached_property
    def unreadable(self) -> tuple[str, ...]:
        """ELF files that cannot be parsed, by their path in the archive."""
        return tuple(name for name, binary in self._elf_files if binary is None)

    @cached_property
    def binaries(self) -> tuple[tuple[str, "lief.ELF.Binary"], ...]:
        """Every other ELF file by its path in the archive."""
        return tuple((name, binary) for name, binary in self._elf_files if binary is not None)

    def below_top(self, name: str) -> str:
        """Return a path in the archive without the top directory."""
        return name.removeprefix(f"{self.job.stem}/")

    def name(self, path: Path) -> str:
        """Return a file's path in the archive."""
        return f"{self.job.stem}/{path.relative_to(self.root).as_posix()}"


def is_macho(path: Path) -> bool:
    """Whether a file is there and starts as a program or library for macOS does."""
    return path.is_file() and _magic(path) in MACHO_MAGICS


def _magic(path: Path) -> bytes:
    with path.open("rb") as stream:
        return stream.read(len(ELF_MAGIC))


def is_pe(path: Path) -> bool:
    """Whether a file is there and starts as a program or library for Windows does.

    The last four bytes of the header for MS-DOS say where that for Windows is.
    """
    if not path.is_file():
        return False
    with path.open("rb") as stream:
        header = stream.read(DOS_HEADER)
        stream.seek(int.from_bytes(header[-4:], "little"))
        return header.startswith(DOS_MAGIC) and stream.read(len(PE_MAGIC)) == PE_MAGIC


def parsed(path: Path) -> "lief.ELF.Binary | None":
    """Return a program or library that is whole; LIEF also returns what a cut-off file begins."""
    # LIEF takes half a second to load; a run that finds everything verified does without.
    import lief  # noqa: PLC0415

    # Of files with debug symbols only, it would complain into our output.
    lief.logging.disable()
    binary = lief.ELF.parse(path)
    if binary is None or not list(binary.segments):
        return None
    size = path.stat().st_size
    ends = (segment.file_offset + segment.physical_size for segment in binary.segments)
    return binary if all(end <= size for end in ends) else None
