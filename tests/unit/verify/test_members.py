"""The gates on member headers; their faults are in test_gates.py, here is what they let pass."""

import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.errors import UnsafeArchiveError
from pipeline.model.artifacts import ArtifactKind
from pipeline.verify.gates import check_gates
from pipeline.verify.members import MEMBER_GATES, SAFETY_GATES, Archives, read_archives
from tests.crafted import (
    PYPY,
    Craft,
    Member,
    make_craft,
    make_elf,
    make_members,
    make_pypy_craft,
    write_archives,
)
from tests.fakes import World, make_world


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return make_world(tmp_path_factory.mktemp("project"))


@pytest.fixture
def craft(world: World) -> Craft:
    return make_craft(world)


def archives_of(craft: Craft, directory: Path) -> Archives:
    return read_archives(craft.job, write_archives(craft, directory))


def found(craft: Craft, directory: Path) -> list[str]:
    archives = archives_of(craft, directory)
    return check_gates(SAFETY_GATES, archives)[1] + check_gates(MEMBER_GATES, archives)[1]


def test_gates_measure_what_they_saw(craft: Craft, tmp_path: Path) -> None:
    archives = archives_of(craft, tmp_path)

    results = check_gates(SAFETY_GATES, archives)[0] + check_gates(MEMBER_GATES, archives)[0]

    measured = {result.gate: result.measured for result in results}
    digest = measured.pop("ARC07")
    assert digest.startswith("tar sha256 ")
    assert measured == {
        "ARC01": "toy-v1.2.3-linux64",
        "ARC02": "7 members",
        "ARC03": "files, directories and symbolic links",
        "ARC04": "1 links",
        "ARC05": "5 members",
        "ARC06": "uid 0, gid 0, time 1767225600, sorted",
        "ARC08": "no name, no time",
        "DBG02": "no debug archive",
    }


@pytest.mark.parametrize(
    "link",
    ["../LICENSE", "./toy", "../bin/toy", ".."],
    ids=["up and down", "dot", "detour", "a directory"],
)
def test_a_link_may_point_to_any_member(link: str, craft: Craft, tmp_path: Path) -> None:
    name = f"{craft.job.stem}/bin/zzz"
    craft.add(Member(name=name, type=tarfile.SYMTYPE, link=link, mode=0o777))

    lines = found(craft, tmp_path)

    assert lines == []


def test_dots_inside_a_name_do_not_leave_the_directory(craft: Craft, tmp_path: Path) -> None:
    craft.add(Member(name=f"{craft.job.stem}/..hidden..", content=b"x"))

    lines = found(craft, tmp_path)

    assert lines == []


@pytest.mark.parametrize(
    "name",
    ["/etc/passwd", "{stem}/..", "..", "{stem}\\..\\evil"],
    ids=["absolute", "up", "only up", "backslash"],
)
def test_a_name_that_leaves_is_found(name: str, craft: Craft, tmp_path: Path) -> None:
    craft.add(Member(name=name.format(stem=craft.job.stem), content=b"x"))

    lines = found(craft, tmp_path)

    assert any(line.startswith("ARC02 paths stay inside: ") for line in lines)


@pytest.mark.parametrize(
    "kind",
    [tarfile.FIFOTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.LNKTYPE],
    ids=["fifo", "character device", "block device", "hard link"],
)
def test_every_special_member_is_found(kind: bytes, craft: Craft, tmp_path: Path) -> None:
    name = f"{craft.job.stem}/special"
    craft.add(Member(name=name, type=kind, link=f"{craft.job.stem}/LICENSE"))

    lines = found(craft, tmp_path)

    assert [line.split()[0] for line in lines] == ["ARC03"]


def test_an_archive_without_members_is_no_release(craft: Craft, tmp_path: Path) -> None:
    craft.members = []

    lines = found(craft, tmp_path)

    assert lines[0].startswith("ARC01 one top directory: toy-v1.2.3-linux64.tar.gz: top level []")


def test_every_missing_member_is_listed(craft: Craft, tmp_path: Path) -> None:
    for name in ("LICENSE", "BUILD-INFO.json", "bin/toy1"):
        craft.remove(name)

    lines = found(craft, tmp_path)

    assert [line.split(": ")[2] for line in lines] == [
        "toy-v1.2.3-linux64/LICENSE",
        "toy-v1.2.3-linux64/BUILD-INFO.json",
        "toy-v1.2.3-linux64/bin/toy1",
    ]


@pytest.mark.parametrize(
    "damage",
    [lambda data: data[: len(data) // 2], lambda data: data[:-1] + b"!", lambda _data: b"no tar"],
    ids=["cut off", "checksum", "another file"],
)
def test_an_archive_that_cannot_be_read_to_its_end_is_refused(
    damage: Callable[[bytes], bytes], craft: Craft, tmp_path: Path
) -> None:
    paths = write_archives(craft, tmp_path)
    path = paths[ArtifactKind.ARCHIVE_GZ]
    path.write_bytes(damage(path.read_bytes()))

    with pytest.raises(UnsafeArchiveError, match=r"toy-v1\.2\.3-linux64\.tar\.gz: not a readable"):
        read_archives(craft.job, paths)


def formats(archives: Archives) -> tuple[list[str], list[str]]:
    """Return what ARC07 measured, and what it found."""
    (gate,) = (item for item in MEMBER_GATES if item.identifier == "ARC07")
    results, failures = check_gates((gate,), archives)
    return [result.measured for result in results], failures


@pytest.fixture
def pypy() -> Craft:
    return make_pypy_craft()


def test_debug_symbols_are_another_tree_and_not_another_format(pypy: Craft, tmp_path: Path) -> None:
    archives = archives_of(pypy, tmp_path)

    assert ArtifactKind.DEBUG_ZST in archives.paths
    assert found(pypy, tmp_path) == []


def test_what_the_formats_hold_does_not_depend_on_debug_symbols(
    pypy: Craft, tmp_path: Path
) -> None:
    with_symbols = formats(archives_of(pypy, tmp_path / "with"))
    pypy.debug_members = make_members(pypy.job, "anything", {f"{PYPY}.debug": make_elf("other")})
    with_others = formats(archives_of(pypy, tmp_path / "others"))
    pypy.debug_members = None
    without_symbols = formats(archives_of(pypy, tmp_path / "without"))

    assert with_symbols == with_others == without_symbols


def test_formats_are_compared_whatever_comes_first(pypy: Craft, tmp_path: Path) -> None:
    paths = write_archives(pypy, tmp_path)
    debug = paths.pop(ArtifactKind.DEBUG_ZST)
    archives = read_archives(pypy.job, {ArtifactKind.DEBUG_ZST: debug, **paths})

    _, failures = formats(archives)

    assert failures == []


def test_other_formats_are_found_beside_debug_symbols(pypy: Craft, tmp_path: Path) -> None:
    pypy.zst_members = pypy.debug_members

    _, failures = formats(archives_of(pypy, tmp_path))

    assert [line.split(": ")[1] for line in failures] == ["pypy3.11-v7.3.23-linux64.tar.zst"]


def test_a_zip_file_has_no_other_format_and_no_gzip_header(craft: Craft) -> None:
    paths = {ArtifactKind.ARCHIVE_ZIP: Path(f"{craft.job.stem}.zip")}
    gates = [item for item in MEMBER_GATES if item.identifier in {"ARC07", "ARC08"}]

    results, failures = check_gates(gates, Archives(job=craft.job, paths=paths, members=()))

    assert failures == []
    assert [result.measured for result in results] == ["tar sha256 none", "no gzip archive"]
