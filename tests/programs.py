"""Smallest programs of macOS and Windows, for the gates on their headers.

The formats are those of Apple's ``mach-o/loader.h`` and Microsoft's PE format. Nothing in them can
be run: they have load commands and imports, and no code.
"""

import struct
from collections.abc import Sequence
from typing import Final

CPU_TYPES: Final = {"X86_64": 0x01000007, "ARM64": 0x0100000C}
MAGIC_64: Final = 0xFEEDFACF
FILE_TYPES: Final = {"program": 2, "library": 6}
LC_LOAD_DYLIB: Final = 0x0C
LC_ID_DYLIB: Final = 0x0D
LC_SEGMENT_64: Final = 0x19
LC_VERSION_MIN_MACOSX: Final = 0x24
LC_BUILD_VERSION: Final = 0x32
LC_RPATH: Final = 0x8000001C
PLATFORM_MACOS: Final = 1
MACHINES: Final = {"AMD64": 0x8664, "I386": 0x014C, "ARM64": 0xAA64}
SECTION: Final = 0x1000
"""Where the one section of a PE file is in memory."""


def macho(
    machine: str = "ARM64",
    minimum: tuple[int, int] | None = (11, 0),
    libraries: Sequence[str] = ("/usr/lib/libSystem.B.dylib",),
    rpaths: Sequence[str] = (),
    identifier: str | None = None,
    *,
    old_minimum: bool = False,
) -> bytes:
    """Return a program, or with *identifier* (its own name) a library."""
    commands = [_segment()]
    if minimum is not None:
        packed = minimum[0] << 16 | minimum[1] << 8
        version = (
            struct.pack("<4I", LC_VERSION_MIN_MACOSX, 16, packed, packed)
            if old_minimum
            else struct.pack("<6I", LC_BUILD_VERSION, 24, PLATFORM_MACOS, packed, packed, 0)
        )
        commands.append(version)
    if identifier is not None:
        commands.append(_named(LC_ID_DYLIB, struct.pack("<3I", 2, 0, 0), identifier))
    commands += [_named(LC_LOAD_DYLIB, struct.pack("<3I", 2, 0, 0), name) for name in libraries]
    commands += [_named(LC_RPATH, b"", path) for path in rpaths]
    kind = FILE_TYPES["program" if identifier is None else "library"]
    body = b"".join(commands)
    numbers = (MAGIC_64, CPU_TYPES[machine], 0, kind, len(commands), len(body), 0, 0)
    return struct.pack("<8I", *numbers) + body


def _segment() -> bytes:
    name = b"__TEXT".ljust(16, b"\0")
    return struct.pack("<2I16s4Q4I", LC_SEGMENT_64, 72, name, 0, 4096, 0, 0, 5, 5, 0, 0)


def _named(command: int, fields: bytes, name: str) -> bytes:
    """Return a load command that ends with a text; its first field says where that begins."""
    start = 12 + len(fields)
    text = name.encode() + b"\0"
    size = -(-(start + len(text)) // 8) * 8
    return (struct.pack("<3I", command, size, start) + fields + text).ljust(size, b"\0")


def pe(machine: str = "AMD64", libraries: Sequence[str] = ("KERNEL32.dll",)) -> bytes:
    """Return a program for Windows that imports a function of each of *libraries*."""
    imports = _imports(libraries)
    directories = struct.pack("<4I", 0, 0, SECTION, len(imports)) + bytes(14 * 8)
    optional = struct.pack("<HBB5I", 0x20B, 14, 0, 0, 0, 0, SECTION, SECTION)
    optional += struct.pack("<Q2I", 0x140000000, 0x1000, 0x200)
    optional += struct.pack("<6H4I2H", 6, 0, 0, 0, 6, 0, 0, 0x2000, 0x200, 0, 3, 0)
    optional += struct.pack("<4Q2I", 0x100000, 0x1000, 0x100000, 0x1000, 0, 16) + directories
    coff = struct.pack("<2H3I2H", MACHINES[machine], 1, 0, 0, 0, len(optional), 0x22)
    section = struct.pack(
        "<8s6I2HI", b".idata", len(imports), SECTION, 0x200 * 8, 0x200, 0, 0, 0, 0, 0x40000040
    )
    headers = struct.pack("<2s58xI", b"MZ", 64) + b"PE\0\0" + coff + optional + section
    return headers.ljust(0x200, b"\0") + imports.ljust(0x200 * 8, b"\0")


def _imports(libraries: Sequence[str]) -> bytes:
    """Return a section with an import directory: a descriptor each, thunks, names."""
    table = 20 * (len(libraries) + 1)
    names = table + 32 * len(libraries)
    descriptors, thunks, texts = b"", b"", b""
    for number, library in enumerate(libraries):
        function = SECTION + names + len(texts)
        texts += b"\0\0function\0"
        name = SECTION + names + len(texts)
        texts += library.encode() + b"\0"
        first = SECTION + table + 32 * number
        descriptors += struct.pack("<5I", first, 0, 0, name, first + 16)
        thunks += struct.pack("<4Q", function, 0, function, 0)
    return descriptors + bytes(20) + thunks + texts
