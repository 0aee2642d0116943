"""The gates on programs of macOS and Windows: each is tripped by its crafted file alone."""

from collections.abc import Mapping
from pathlib import Path
from typing import Final

import pytest

from pipeline.plan import Job
from pipeline.verify.formats import FORMAT_GATES
from pipeline.verify.gates import check_gates
from pipeline.verify.tree import Tree
from tests.factories import changed, make_build_info, make_interpreter, make_job, make_platform
from tests.programs import macho, pe

STEM: Final = "demo-v1.0.0-there"
SYSTEM: Final = "/usr/lib/libSystem.B.dylib"
BUNDLED: Final = "@rpath/libffi.8.dylib"
MACOS: Final = {
    "bin/demo": macho(libraries=(SYSTEM, BUNDLED), rpaths=("@executable_path/../lib",)),
    "bin/libdemo.dylib": macho(identifier="@rpath/libdemo.dylib", minimum=(10, 15)),
    "lib/libffi.8.dylib": macho(identifier=BUNDLED, rpaths=("@loader_path",)),
    "lib/module.so": macho(libraries=(SYSTEM, "@loader_path/../bin/libdemo.dylib")),
    "lib/text": b"#!/bin/sh\n",
}
WINDOWS: Final = {
    "demo.exe": pe(libraries=("KERNEL32.dll", "libdemo.dll")),
    "libdemo.dll": pe(libraries=("kernel32.DLL",)),
    "Lib/_tkinter/module.pyd": pe(libraries=("tcl86t.dll", "LIBDEMO.dll")),
    "Lib/_tkinter/tcl86t.dll": pe(libraries=()),
}
FILES: Final = {"macos-arm64": MACOS, "windows-x86_64": WINDOWS}


def job_for(platform: str) -> Job:
    line = make_interpreter()
    needed = {"darwin": (SYSTEM,), "windows": ("kernel32.dll",)}
    line = changed(line, verify=changed(line.verify, needed_on=needed))
    return changed(make_job(), platform=make_platform(platform), interpreter=line, stem=STEM)


def checked(
    directory: Path, platform: str, files: Mapping[str, bytes]
) -> tuple[dict[str, str], list[str]]:
    """Return what the gates measured, by id, and their findings."""
    root = directory / STEM
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)
    job = job_for(platform)
    tree = Tree(job=job, root=root, info=make_build_info())
    passed, failures = check_gates(FORMAT_GATES[job.platform.binaries.format], tree)
    return {result.gate: result.measured for result in passed}, failures


def test_good_programs_of_macos_pass(tmp_path: Path) -> None:
    measured, failures = checked(tmp_path, "macos-arm64", MACOS)

    assert failures == []
    assert measured == {
        "MAC01": "4 Mach-O files",
        "MAC02": "macOS 11.0 (declared 11.0)",
        "MAC03": "3 libraries",
        "MAC04": "directories of the archive, or none",
    }


def test_good_programs_of_windows_pass(tmp_path: Path) -> None:
    measured, failures = checked(tmp_path, "windows-x86_64", WINDOWS)

    assert failures == []
    assert measured == {"WIN01": "4 PE files", "WIN02": "3 libraries"}


FAULTS: Final = {
    "another-machine": (
        "macos-arm64",
        {"lib/module.so": macho("X86_64")},
        "MAC01 machine of every Mach-O file: lib/module.so: machine X86_64; expected ARM64",
    ),
    "newer-macos": (
        "macos-arm64",
        {"lib/module.so": macho(minimum=(11, 3))},
        "MAC02 oldest macOS: lib/module.so: needs macOS 11.3; expected at most the declared 11.0",
    ),
    "newer-macos-in-the-old-way": (
        "macos-arm64",
        {"lib/module.so": macho(minimum=(12, 0), old_minimum=True)},
        "MAC02 oldest macOS: lib/module.so: needs macOS 12.0; expected at most the declared 11.0",
    ),
    "no-macos": (
        "macos-arm64",
        {"lib/module.so": macho(minimum=None)},
        (
            "MAC02 oldest macOS: lib/module.so: does not say which macOS it needs; "
            "expected at most the declared 11.0"
        ),
    ),
    "library-of-a-package-manager": (
        "macos-arm64",
        {"lib/module.so": macho(libraries=("/opt/homebrew/lib/libssl.3.dylib",))},
        (
            "MAC03 needed libraries on macOS: lib/module.so: needs "
            "/opt/homebrew/lib/libssl.3.dylib; "
            f"expected only {SYSTEM}, or one that it finds in the archive"
        ),
    ),
    "library-that-is-not-bundled": (
        "macos-arm64",
        {"lib/module.so": macho(libraries=("@loader_path/libssl.3.dylib",))},
        (
            "MAC03 needed libraries on macOS: lib/module.so: needs @loader_path/libssl.3.dylib; "
            f"expected only {SYSTEM}, or one that it finds in the archive"
        ),
    ),
    "library-without-a-search-path": (
        "macos-arm64",
        {"lib/module.so": macho(libraries=(BUNDLED,))},
        (
            f"MAC03 needed libraries on macOS: lib/module.so: needs {BUNDLED}; "
            f"expected only {SYSTEM}, or one that it finds in the archive"
        ),
    ),
    "search-path-outside": (
        "macos-arm64",
        {"lib/module.so": macho(rpaths=("/opt/homebrew/lib",))},
        (
            "MAC04 library search paths on macOS: lib/module.so: searches '/opt/homebrew/lib'; "
            "expected nothing, or @loader_path and directories of the archive"
        ),
    ),
    "search-path-that-climbs": (
        "macos-arm64",
        {"lib/module.so": macho(rpaths=("@loader_path/../../lib",))},
        (
            "MAC04 library search paths on macOS: lib/module.so: searches "
            "'@loader_path/../../lib'; "
            "expected nothing, or @loader_path and directories of the archive"
        ),
    ),
    "another-machine-on-windows": (
        "windows-x86_64",
        {"libdemo.dll": pe("I386")},
        "WIN01 machine of every PE file: libdemo.dll: machine I386; expected AMD64",
    ),
    "library-that-windows-lacks": (
        "windows-x86_64",
        {"libdemo.dll": pe(libraries=("libffi-8.dll",))},
        (
            "WIN02 needed libraries on Windows: libdemo.dll: needs libffi-8.dll; "
            "expected only kernel32.dll, or one of the archive's"
        ),
    ),
    "library-in-another-directory": (
        "windows-x86_64",
        {"libdemo.dll": pe(libraries=("tcl86t.dll",))},
        (
            "WIN02 needed libraries on Windows: libdemo.dll: needs tcl86t.dll; "
            "expected only kernel32.dll, or one of the archive's"
        ),
    ),
}


@pytest.mark.parametrize(("platform", "files", "expected"), FAULTS.values(), ids=FAULTS)
def test_a_gate_on_programs_is_tripped_by_its_crafted_file_alone(
    platform: str, files: Mapping[str, bytes], expected: str, tmp_path: Path
) -> None:
    _, failures = checked(tmp_path, platform, {**FILES[platform], **files})

    assert [failure.replace(f"{STEM}/", "") for failure in failures] == [expected]


def test_every_gate_on_programs_has_a_crafted_file() -> None:
    gates = {gate.identifier for group in FORMAT_GATES.values() for gate in group}

    assert {expected.split()[0] for _, _, expected in FAULTS.values()} == gates
