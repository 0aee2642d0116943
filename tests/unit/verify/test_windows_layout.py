"""Upstream's layout on Windows: a tree is packed, read back and held to the gates.

Nothing here runs on Windows. What is tested is what is packed and verified there: a zip file with
programs at the top, ``Lib``, ``include`` and ``libs``, and a copy where other systems have a link.
"""

import tarfile
import zipfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

import pytest

from pipeline.effects.archives import Entry, entries_of, unpack_zip, write_zip
from pipeline.errors import UnsafeArchiveError
from pipeline.model.artifacts import ArtifactKind
from pipeline.model.base import pretty_json
from pipeline.model.records import BuildInfo
from pipeline.plan import Job
from pipeline.verify.formats import FORMAT_GATES
from pipeline.verify.gates import check_gates
from pipeline.verify.members import MEMBER_GATES, SAFETY_GATES, Archives, read_archives
from pipeline.verify.runner import TREE_GATES
from pipeline.verify.tree import Tree
from tests.crafted import patchlevel
from tests.factories import changed, make_build_info_of, make_platform, make_pypy_job
from tests.programs import pe

STEM: Final = "pypy3.11-v7.3.23-win64"
PROGRAM: Final = "pypy3.11.exe"
LIBRARY: Final = "libpypy3.11-c.dll"
COPIES: Final = ("pypy.exe", "pypy3.exe", "python.exe", "python3.exe", "python3.11.exe")
WINDOWED: Final = ("pypyw.exe", "pypy3.11w.exe", "pythonw.exe")
REQUIRED: Final = (
    PROGRAM,
    *COPIES,
    LIBRARY,
    "BUILD-INFO.json",
    "LICENSE",
    "README.rst",
    "Lib/os.py",
    "Lib/site-packages/README.txt",
    "include/Python.h",
    "include/patchlevel.h",
    "libs/python311.lib",
)
SUFFIX: Final = ".pypy311-pp73-win_amd64.pyd"

PE: Final = pe()


@pytest.fixture(scope="module")
def job() -> Job:
    """Return PyPy's release for Windows on x86_64."""
    platform, job = make_platform("windows-x86_64"), make_pypy_job()
    rules = changed(job.interpreter.verify, needed_on={"windows": ("kernel32.dll",)})
    return changed(
        job,
        identifier="pypy3.11-windows-x86_64",
        platform=platform,
        host=platform,
        stem=STEM,
        interpreter=changed(job.interpreter, verify=rules),
    )


@pytest.fixture(scope="module")
def info(job: Job) -> BuildInfo:
    return make_build_info_of(job)


@pytest.fixture
def tree(tmp_path: Path, info: BuildInfo) -> Path:
    """Return a directory as upstream's packager leaves it on Windows."""
    top = tmp_path / "tree"
    files = {
        **dict.fromkeys((PROGRAM, *COPIES, *WINDOWED, LIBRARY, "libffi-8.dll"), PE),
        "BUILD-INFO.json": pretty_json(info),
        "LICENSE": b"MIT License\r\n",
        "README.rst": b"PyPy\r\n",
        "DLLs/sqlite3.dll": PE,
        "Lib/os.py": b"import sys\r\n",
        "Lib/site-packages/README.txt": b"For packages\r\n",
        f"Lib/_pypy_openssl{SUFFIX}": PE,
        "include/Python.h": b"#include <patchlevel.h>\r\n",
        "include/patchlevel.h": patchlevel("7.3.23").replace(b"\n", b"\r\n"),
        "libs/python311.lib": b"!<arch>\n",
        "tcl/tcl8.6/init.tcl": b"# Tcl\r\n",
    }
    for name, content in files.items():
        (top / name).parent.mkdir(parents=True, exist_ok=True)
        (top / name).write_bytes(content)
    for name in (PROGRAM, *COPIES, *WINDOWED):
        (top / name).chmod(0o755)
    return top


@pytest.fixture
def entries(tree: Path) -> list[Entry]:
    return entries_of(tree, STEM)


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """Return where the zip file is written."""
    return tmp_path / f"{STEM}.zip"


def read(job: Job, path: Path) -> Archives:
    """Read an archive as the verify stage does."""
    return read_archives(job, {ArtifactKind.ARCHIVE_ZIP: path})


def packed(job: Job, path: Path, entries: Iterable[Entry]) -> Archives:
    """Write an archive as the package stage does and read it."""
    write_zip(path, entries, epoch=job.revision.epoch)
    return read(job, path)


def findings(archives: Archives) -> list[str]:
    """Return what the gates on member headers find."""
    return check_gates(SAFETY_GATES, archives)[1] + check_gates(MEMBER_GATES, archives)[1]


def tripped(archives: Archives) -> list[str]:
    """Return the ids of the gates that find something."""
    return sorted({line.split()[0] for line in findings(archives)})


def respelt(entries: Sequence[Entry], name: str, other: str) -> list[Entry]:
    """Give one entry another path."""
    return [
        replace(item, path=other) if item.path == f"{STEM}/{name}" else item for item in entries
    ]


def rewritten(path: Path, change: Callable[[zipfile.ZipInfo], object]) -> None:
    """Write an archive again after *change* to each member's header."""
    with zipfile.ZipFile(path) as archive:
        members = [(member, archive.read(member)) for member in archive.infolist()]
    with zipfile.ZipFile(path, "w") as archive:
        for member, content in members:
            change(member)
            archive.writestr(member, content)


def only(name: str, **fields: object) -> Callable[[zipfile.ZipInfo], None]:
    """Return a change of the header of one member."""

    def change(member: zipfile.ZipInfo) -> None:
        if member.filename == f"{STEM}/{name}":
            for field, value in fields.items():
                setattr(member, field, value)

    return change


def test_a_good_tree_passes_every_gate_on_members(
    job: Job, archive: Path, entries: list[Entry]
) -> None:
    archives = packed(job, archive, entries)

    assert findings(archives) == []
    assert {member.name.partition("/")[2]: member.mode for member in archives.members}[
        PROGRAM
    ] == 0o755
    assert len(archives.members) == len(entries)


def test_gates_measure_what_they_saw_of_it(job: Job, archive: Path, entries: list[Entry]) -> None:
    archives = packed(job, archive, entries)

    results = check_gates(SAFETY_GATES, archives)[0] + check_gates(MEMBER_GATES, archives)[0]

    epoch = job.revision.epoch
    assert {result.gate: result.measured for result in results} == {
        "ARC01": STEM,
        "ARC02": "22 members",
        "ARC03": "files, directories and symbolic links",
        "ARC04": "0 links",
        "ARC05": f"{len(REQUIRED)} members",
        "ARC06": f"uid 0, gid 0, time {epoch - epoch % 2}, sorted",
        "ARC07": "tar sha256 none",
        "ARC08": "no gzip archive",
        "DBG02": "no debug archive",
    }


@pytest.mark.parametrize("seconds", [0, 1])
def test_an_odd_time_is_one_that_zip_files_can_tell(
    seconds: int, job: Job, archive: Path, entries: list[Entry]
) -> None:
    epoch = job.revision.epoch // 2 * 2 + seconds
    other = changed(job, revision=changed(job.revision, epoch=epoch))

    assert tripped(packed(other, archive, entries)) == []


def test_the_same_tree_gives_the_same_bytes(job: Job, archive: Path, entries: list[Entry]) -> None:
    packed(job, archive, entries)
    first = archive.read_bytes()

    packed(job, archive, reversed(entries))

    assert archive.read_bytes() == first


def test_no_program_has_to_be_executable(job: Job, archive: Path, entries: list[Entry]) -> None:
    """Windows tells programs by their names, and a tree that was made there has no such modes."""
    plain = [replace(entry, executable=False) for entry in entries]

    assert tripped(packed(job, archive, plain)) == []


@pytest.mark.parametrize("name", REQUIRED)
def test_a_missing_file_is_named(name: str, job: Job, archive: Path, entries: list[Entry]) -> None:
    left = [entry for entry in entries if entry.path != f"{STEM}/{name}"]

    lines = findings(packed(job, archive, left))

    told = f"{STEM}/{name}: missing or of another kind; expected a file"
    assert lines == [f"ARC05 required members: {STEM}.zip: {told}"]


def test_every_required_file_is_tried_above(job: Job, archive: Path) -> None:
    lines = findings(packed(job, archive, [Entry(path=f"{STEM}/other")]))

    assert [line.split()[0] for line in lines] == ["ARC05"] * len(REQUIRED)


def test_a_directory_is_no_file(job: Job, archive: Path, entries: list[Entry]) -> None:
    others = [entry for entry in entries if entry.path != f"{STEM}/{LIBRARY}"]

    archives = packed(job, archive, [*others, Entry(path=f"{STEM}/{LIBRARY}", directory=True)])

    assert tripped(archives) == ["ARC05"]


def test_the_layout_of_other_systems_is_refused(
    job: Job, archive: Path, entries: list[Entry]
) -> None:
    moved = respelt(entries, PROGRAM, f"{STEM}/bin/pypy3.11")
    moved = respelt(moved, "Lib/os.py", f"{STEM}/lib/pypy3.11/os.py")
    moved = [entry for entry in moved if "/Lib/" not in entry.path]

    assert tripped(packed(job, archive, moved)) == ["ARC05"]


@pytest.mark.parametrize(
    ("name", "gates"),
    [
        pytest.param("other/file", ["ARC01"], id="second-top-directory"),
        pytest.param("file", ["ARC01"], id="beside-the-top-directory"),
        pytest.param("/Windows/file", ["ARC01", "ARC02"], id="absolute"),
        pytest.param(f"{STEM}/../../file", ["ARC02"], id="climbs"),
        pytest.param(f"{STEM}/..", ["ARC02"], id="ends-above"),
        pytest.param(f"{STEM}/Lib\\file", ["ARC02"], id="backslash"),
        pytest.param(f"{STEM}/..\\..\\file", ["ARC02"], id="climbs-with-backslashes"),
        pytest.param("\\\\server\\share", ["ARC01", "ARC02"], id="of-a-server"),
    ],
)
def test_a_name_that_belongs_elsewhere_is_found(
    name: str, gates: list[str], job: Job, archive: Path, entries: list[Entry]
) -> None:
    archives = packed(job, archive, [*entries, Entry(path=name)])

    assert tripped(archives) == gates


@pytest.mark.parametrize("name", ["C:/Windows/file", "C:file", f"{STEM}/Lib/os.py:hidden", "a?"])
def test_a_name_of_a_drive_or_a_second_stream_is_refused(
    name: str, job: Job, archive: Path, entries: list[Entry]
) -> None:
    with pytest.raises(UnsafeArchiveError, match="has a character that no name has on Windows"):
        packed(job, archive, [*entries, Entry(path=name)])


@pytest.mark.parametrize(
    ("name", "message"),
    [
        pytest.param("README.RST", "README.rst: is the same as {}/README.RST", id="file"),
        pytest.param("lib/other.py", "lib: is the same as {}/Lib", id="directory"),
        pytest.param("PYPY3.11.EXE/x", "pypy3.11.exe: is the same as {}/PYPY3.11.EXE", id="both"),
    ],
)
def test_names_that_differ_in_case_only_are_refused(
    name: str, message: str, job: Job, archive: Path, entries: list[Entry]
) -> None:
    """Windows would unpack one over the other."""
    with pytest.raises(UnsafeArchiveError) as caught:
        packed(job, archive, [*entries, Entry(path=f"{STEM}/{name}")])

    told = f"{STEM}.zip: not a readable zip archive: {STEM}/{message.format(STEM)} on Windows"
    assert str(caught.value) == told


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_name_that_is_there_twice_is_found(job: Job, archive: Path, entries: list[Entry]) -> None:
    archives = packed(job, archive, [*entries, Entry(path=f"{STEM}/README.rst", content=b"other")])

    assert tripped(archives) == ["ARC06"]


def test_members_in_another_order_are_found(job: Job, archive: Path, entries: list[Entry]) -> None:
    packed(job, archive, entries)
    with zipfile.ZipFile(archive) as old:
        members = [(member, old.read(member)) for member in reversed(old.infolist())]
    with zipfile.ZipFile(archive, "w") as new:
        for member, content in members:
            new.writestr(member, content)

    assert tripped(read(job, archive)) == ["ARC06"]


@pytest.mark.parametrize(
    "fields",
    [
        pytest.param({"date_time": (2026, 11, 21, 12, 0, 0)}, id="time"),
        pytest.param({"date_time": (1980, 1, 1, 0, 0, 0)}, id="no-time"),
        pytest.param({"external_attr": 0o777 << 16}, id="everybody-may-write"),
        pytest.param({"external_attr": 0o4755 << 16}, id="set-user-id"),
        pytest.param({"external_attr": 0o664 << 16}, id="group-may-write"),
        pytest.param({"create_system": 0, "external_attr": 0x20}, id="zipped-on-windows"),
    ],
)
def test_a_header_of_the_machine_that_packed_is_found(
    fields: dict[str, object], job: Job, archive: Path, entries: list[Entry]
) -> None:
    packed(job, archive, entries)
    rewritten(archive, only(PROGRAM, **fields))

    lines = findings(read(job, archive))

    assert [line.partition(f"{STEM}/")[0] for line in lines] == [
        f"ARC06 normalised headers: {STEM}.zip: "
    ]


@pytest.mark.parametrize(
    ("target", "gates"),
    [(PROGRAM, ["ARC05"]), ("no-program.exe", ["ARC04", "ARC05"])],
    ids=["to-the-program", "to-nothing"],
)
def test_a_link_is_found(
    target: str, gates: list[str], job: Job, archive: Path, entries: list[Entry]
) -> None:
    """Windows would unpack it to a text file; the pipeline's own writer refuses it."""
    others = [entry for entry in entries if entry.path != f"{STEM}/python.exe"]
    packed(job, archive, [*others, Entry(path=f"{STEM}/python.exe", content=target.encode())])
    rewritten(archive, only("python.exe", external_attr=0o120777 << 16))

    assert tripped(read(job, archive)) == gates
    with pytest.raises(ValueError, match="holds no links"):
        packed(job, archive, [*entries, Entry(path=f"{STEM}/python4.exe", link=target)])


def test_a_special_member_is_found(job: Job, archive: Path, entries: list[Entry]) -> None:
    packed(job, archive, entries)
    rewritten(archive, only("tcl/tcl8.6/init.tcl", external_attr=0o010644 << 16))

    archives = read(job, archive)

    assert tripped(archives) == ["ARC03"]
    assert tarfile.FIFOTYPE in {member.type for member in archives.members}


def contents(job: Job, info: BuildInfo, archive: Path) -> list[str]:
    """Unpack an archive as the verify stage does; return what the gates on contents find."""
    directory = archive.parent / "unpacked"
    unpack_zip(archive, directory)
    gates = (*TREE_GATES, *FORMAT_GATES["pe"])
    return check_gates(gates, Tree(job=job, root=directory / STEM, info=info))[1]


def test_a_good_tree_passes_every_gate_on_contents(
    job: Job, info: BuildInfo, archive: Path, entries: list[Entry]
) -> None:
    packed(job, archive, entries)

    assert contents(job, info, archive) == []


@pytest.mark.parametrize(
    ("content", "gate"),
    [
        pytest.param(b"", "ELF01", id="empty"),
        pytest.param(b"#!/bin/sh\n", "ELF01", id="script"),
        pytest.param(b"MZ" + bytes(100), "ELF01", id="program-for-dos"),
        pytest.param(PE[:40], "ELF01", id="cut-off"),
        pytest.param(b"\x7fELF" + bytes(100), "ELF01", id="program-for-linux"),
        pytest.param(PE + b"/build/source/pypy\0", "TXT01", id="build-path"),
    ],
)
def test_a_program_that_is_none_for_windows_is_found(
    content: bytes, gate: str, job: Job, info: BuildInfo, archive: Path, entries: list[Entry]
) -> None:
    others = [entry for entry in entries if entry.path != f"{STEM}/{PROGRAM}"]
    packed(job, archive, [*others, Entry(path=f"{STEM}/{PROGRAM}", content=content)])

    (line,) = contents(job, info, archive)

    assert line.startswith(f"{gate} ")
    assert f"{STEM}/{PROGRAM}: " in line


def test_a_description_of_another_platform_is_found(
    job: Job, info: BuildInfo, archive: Path, entries: list[Entry]
) -> None:
    other = changed(info, platform="linux-x86_64")
    others = [entry for entry in entries if entry.path != f"{STEM}/BUILD-INFO.json"]
    described = Entry(path=f"{STEM}/BUILD-INFO.json", content=pretty_json(other))
    packed(job, archive, [*others, described])

    lines = contents(job, info, archive)

    told = "platform is 'linux-x86_64'; expected 'windows-x86_64'"
    assert lines == [f"TXT02 description matches the plan: {STEM}/BUILD-INFO.json: {told}"]


def test_a_missing_program_is_found_in_the_contents_too(
    job: Job, info: BuildInfo, archive: Path, entries: list[Entry]
) -> None:
    packed(job, archive, [entry for entry in entries if entry.path != f"{STEM}/{PROGRAM}"])

    assert contents(job, info, archive) == [
        f"ELF01 the interpreter is a program: {STEM}/{PROGRAM}: not a PE file; expected a PE file"
    ]


@pytest.mark.parametrize(
    "fault",
    [
        (
            "include/patchlevel.h",
            patchlevel("7.3.22"),
            'IDN01 version in the C headers: {}: PYPY_VERSION is "7.3.22"; expected "7.3.23"',
        ),
        (
            "Lib/_lzma_cffi.pyd",
            PE,
            f"IDN02 ABI tag of extension modules: {{}}: another suffix; expected ...{SUFFIX}",
        ),
        (
            "Lib/helper.dll",
            pe(libraries=("libssl-3.dll",)),
            (
                "WIN02 needed libraries on Windows: {}: needs libssl-3.dll; "
                "expected only kernel32.dll, or one of the archive's"
            ),
        ),
    ],
    ids=["header", "module", "library"],
)
def test_a_fault_is_found_where_windows_has_it(
    fault: tuple[str, bytes, str], job: Job, info: BuildInfo, archive: Path, entries: list[Entry]
) -> None:
    path, content, expected = fault
    name = f"{STEM}/{path}"
    others = [entry for entry in entries if entry.path != name]
    packed(job, archive, [*others, Entry(path=name, content=content)])

    assert expected.format(name) in contents(job, info, archive)
