"""The gates on member headers; their faults are in test_gates.py, here is what they let pass."""

import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.errors import UnsafeArchiveError
from pipeline.model.artifacts import ArtifactKind
from pipeline.verify.gates import check_gates
from pipeline.verify.members import MEMBER_GATES, SAFETY_GATES, Archives, read_archives
from tests.crafted import Craft, Member, make_craft, write_archives
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
