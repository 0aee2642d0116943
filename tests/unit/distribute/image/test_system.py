"""What a system has, read from its layers."""

import io
import tarfile
from collections.abc import Mapping
from pathlib import Path

from pipeline.distribute.image.layers import Layer, kept
from pipeline.distribute.image.system import installed_packages, system_of

MULTIARCH = "x86_64-linux-gnu"
STATUS = """Package: zlib1g
Status: install ok installed
Architecture: amd64
Version: 1:1.2.13.dfsg-1
Description: a library
 of several lines

Package: gone
Status: deinstall ok config-files
Architecture: amd64
Version: 1.0

Package: adduser
Status: install ok installed
Architecture: all
Version: 3.134
"""


def layer(path: Path, files: Mapping[str, bytes], links: Mapping[str, str] | None = None) -> Layer:
    with tarfile.open(path, "w") as archive:
        for name, data in files.items():
            header = tarfile.TarInfo(name)
            header.size = len(data)
            archive.addfile(header, io.BytesIO(data))
        for name, to in (links or {}).items():
            header = tarfile.TarInfo(name)
            header.type, header.linkname = tarfile.SYMTYPE, to
            archive.addfile(header)
    return kept(path)


def test_only_installed_packages_count() -> None:
    packages = [str(package) for package in installed_packages(STATUS)]

    assert packages == ["zlib1g 1:1.2.13.dfsg-1 amd64", "adduser 3.134 all"]


def test_the_uppermost_status_file_counts_and_packages_are_sorted(tmp_path: Path) -> None:
    below = layer(tmp_path / "0.tar", {"var/lib/dpkg/status": b""})
    above = layer(tmp_path / "1.tar", {"var/lib/dpkg/status": STATUS.encode()})

    names = [package.name for package in system_of([below, above], MULTIARCH).packages]

    assert names == ["adduser", "zlib1g"]


def test_libraries_are_those_in_the_loaders_directories(tmp_path: Path) -> None:
    files = {
        f"usr/lib/{MULTIARCH}/libz.so.1.2": b"z",
        "usr/lib/libown.so.3": b"own",
        "usr/lib/aarch64-linux-gnu/libother.so.1": b"",
        "usr/lib/git-core/libgit.so.1": b"",
        f"usr/lib/{MULTIARCH}/notes.txt": b"",
    }
    links = {f"usr/lib/{MULTIARCH}/libz.so.1": "libz.so.1.2", "lib": "usr/lib"}

    system = system_of([layer(tmp_path / "0.tar", files, links)], MULTIARCH)

    assert set(system.libraries) == {"libz.so.1", "libz.so.1.2", "libown.so.3"}
    assert system.content("libz.so.1") == b"z"


def test_a_link_may_lead_through_the_merged_directory(tmp_path: Path) -> None:
    files = {f"usr/lib/{MULTIARCH}/libtinfo.so.6.4": b"t"}
    links = {f"usr/lib/{MULTIARCH}/libtinfo.so.6": f"/lib/{MULTIARCH}/libtinfo.so.6.4"}

    system = system_of([layer(tmp_path / "0.tar", files, links)], MULTIARCH)

    assert system.content("libtinfo.so.6") == b"t"


def test_what_an_upper_layer_takes_away_is_gone(tmp_path: Path) -> None:
    below = layer(
        tmp_path / "0.tar", {"lib/liba.so.1": b"", "usr/lib/libb.so.1": b"", "lib64/libc.so": b""}
    )
    above = layer(
        tmp_path / "1.tar",
        {"lib/.wh.liba.so.1": b"", "usr/.wh.lib": b"", "lib64/.wh..wh..opq": b""},
    )

    assert system_of([below, above], MULTIARCH).libraries == {}


def test_a_library_whose_link_leads_nowhere_is_none(tmp_path: Path) -> None:
    links = {"lib/liba.so.1": "liba.so.1.0", "lib/loop.so": "loop.so"}

    assert system_of([layer(tmp_path / "0.tar", {}, links)], MULTIARCH).libraries == {}
