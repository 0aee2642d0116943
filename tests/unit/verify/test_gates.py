"""Every gate has a crafted release which it, and no other gate, refuses."""

import tarfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import lief
import pytest

from pipeline.errors import GateError
from pipeline.model.base import pretty_json
from pipeline.verify.contents import CONTENT_GATES
from pipeline.verify.gates import Finding, Gate, Verdict, check_gates, stop_on
from pipeline.verify.members import MEMBER_GATES, SAFETY_GATES
from pipeline.verify.running import PROOF_GATES, SMOKE_GATES
from tests.crafted import Craft, Member, findings, make_craft
from tests.fakes import ELF, Answer, World, make_world

STEM: Final = "toy-v1.2.3-linux64"
GZ: Final = f"{STEM}.tar.gz"
EVERY_GATE: Final = [
    gate.identifier
    for table in (SAFETY_GATES, MEMBER_GATES, CONTENT_GATES, SMOKE_GATES, PROOF_GATES)
    for gate in table
]


@dataclass(frozen=True, kw_only=True)
class Case:
    """A fault, the gate that finds it, and what that gate must say."""

    gate: str
    name: str
    spoil: Callable[[Craft], object]
    file: str
    found: str
    expected: str


def glibc(version: str) -> Callable[[lief.ELF.Binary], None]:
    def spoil(binary: lief.ELF.Binary) -> None:
        (requirement,) = binary.symbols_version_requirement
        requirement.get_auxiliary_symbols()[0].name = f"GLIBC_{version}"

    return spoil


def for_aarch64(binary: lief.ELF.Binary) -> None:
    binary.header.machine_type = lief.ELF.ARCH.AARCH64


def info_with(**changes: object) -> Callable[[Craft], None]:
    def spoil(craft: Craft) -> None:
        changed = craft.info.model_copy(update=changes)
        craft.change("BUILD-INFO.json", content=pretty_json(changed))

    return spoil


def answering(*words: str, answer: Answer) -> Callable[[Craft], None]:
    return lambda craft: craft.answers.update({words: answer})


def unsorted(craft: Craft) -> None:
    craft.members.append(craft.members.pop(1))


def twice(craft: Craft) -> None:
    craft.members.insert(4, craft.members[4])  # bin/, the only kind that can be unpacked twice


def other_zst(craft: Craft) -> None:
    craft.zst_members = [*craft.members, replace(craft.members[2], name=f"{STEM}/zzz")]


def member(name: str, content: bytes = b"", **changes: object) -> Callable[[Craft], None]:
    made = Member(name=name, content=content, **changes)  # type: ignore[arg-type]
    return lambda craft: craft.add(made)


TESTS: Final = "/tmp/verify/tests"  # noqa: S108 - in a container that does not exist
CASES: Final = (
    Case(
        gate="ARC01",
        name="second top directory",
        spoil=member("other/file"),
        file=GZ,
        found=f"top level ['other', '{STEM}']",
        expected=f"['{STEM}']",
    ),
    Case(
        gate="ARC02",
        name="path climbs out",
        spoil=member(f"{STEM}/../../etc/passwd"),
        file=f"{GZ}: {STEM}/../../etc/passwd",
        found="leaves the directory",
        expected="a relative path without '..'",
    ),
    Case(
        gate="ARC03",
        name="device",
        spoil=member(f"{STEM}/zero", type=tarfile.CHRTYPE),
        file=f"{GZ}: {STEM}/zero",
        found="member type b'3'",
        expected="a file, a directory or a symbolic link",
    ),
    Case(
        gate="ARC03",
        name="hard link",
        spoil=member(f"{STEM}/hard", type=tarfile.LNKTYPE, link=f"{STEM}/LICENSE"),
        file=f"{GZ}: {STEM}/hard",
        found="member type b'1'",
        expected="a file, a directory or a symbolic link",
    ),
    Case(
        gate="ARC04",
        name="absolute link",
        spoil=member(f"{STEM}/shell", type=tarfile.SYMTYPE, link="/bin/sh", mode=0o777),
        file=f"{GZ}: {STEM}/shell",
        found="points to '/bin/sh'",
        expected="a relative link to a member of the archive",
    ),
    Case(
        gate="ARC04",
        name="link climbs out",
        spoil=member(f"{STEM}/up", type=tarfile.SYMTYPE, link="../../etc", mode=0o777),
        file=f"{GZ}: {STEM}/up",
        found="points to '../../etc'",
        expected="a relative link to a member of the archive",
    ),
    Case(
        gate="ARC04",
        name="dangling link",
        spoil=member(f"{STEM}/bin/toy2", type=tarfile.SYMTYPE, link="toys", mode=0o777),
        file=f"{GZ}: {STEM}/bin/toy2",
        found="points to 'toys'",
        expected="a relative link to a member of the archive",
    ),
    Case(
        gate="ARC05",
        name="no licence",
        spoil=lambda craft: craft.remove("LICENSE"),
        file=f"{GZ}: {STEM}/LICENSE",
        found="missing",
        expected="a file",
    ),
    Case(
        gate="ARC05",
        name="no document",
        spoil=lambda craft: craft.remove("README.md"),
        file=f"{GZ}: {STEM}/README.md",
        found="missing",
        expected="a file",
    ),
    Case(
        gate="ARC05",
        name="no link",
        spoil=lambda craft: craft.remove("bin/toy1"),
        file=f"{GZ}: {STEM}/bin/toy1",
        found="missing",
        expected="a link to toy",
    ),
    Case(
        gate="ARC05",
        name="link to another member",
        spoil=lambda craft: craft.change("bin/toy1", link="../LICENSE"),
        file=f"{GZ}: {STEM}/bin/toy1",
        found="another kind",
        expected="a link to toy",
    ),
    Case(
        gate="ARC05",
        name="program not executable",
        spoil=lambda craft: craft.change("bin/toy", mode=0o644),
        file=f"{GZ}: {STEM}/bin/toy",
        found="another kind",
        expected="an executable file",
    ),
    Case(
        gate="ARC06",
        name="owner id",
        spoil=lambda craft: craft.change("LICENSE", uid=1000),
        file=f"{GZ}: {STEM}/LICENSE",
        found="owner 1000:0",
        expected="0:0, no name",
    ),
    Case(
        gate="ARC06",
        name="group id",
        spoil=lambda craft: craft.change("LICENSE", gid=1000),
        file=f"{GZ}: {STEM}/LICENSE",
        found="owner 0:1000",
        expected="0:0, no name",
    ),
    Case(
        gate="ARC06",
        name="owner name",
        spoil=lambda craft: craft.change("LICENSE", uname="builder"),
        file=f"{GZ}: {STEM}/LICENSE",
        found="owner 0:0 builder",
        expected="0:0, no name",
    ),
    Case(
        gate="ARC06",
        name="time",
        spoil=lambda craft: craft.change("LICENSE", mtime=1_767_225_601),
        file=f"{GZ}: {STEM}/LICENSE",
        found="time 1767225601",
        expected="1767225600",
    ),
    Case(
        gate="ARC06",
        name="group-writable",
        spoil=lambda craft: craft.change("LICENSE", mode=0o664),
        file=f"{GZ}: {STEM}/LICENSE",
        found="mode 664",
        expected="644 or 755",
    ),
    Case(
        gate="ARC06",
        name="setuid",
        spoil=lambda craft: craft.change("bin/toy", mode=0o4755),
        file=f"{GZ}: {STEM}/bin/toy",
        found="mode 4755",
        expected="644 or 755",
    ),
    Case(
        gate="ARC06",
        name="unsorted",
        spoil=unsorted,
        file=f"{GZ}: members",
        found="not sorted",
        expected="sorted names, each once",
    ),
    Case(
        gate="ARC06",
        name="member twice",
        spoil=twice,
        file=f"{GZ}: members",
        found="one is there twice",
        expected="sorted names, each once",
    ),
    Case(
        gate="ARC07",
        name="other tree in the zst",
        spoil=other_zst,
        file=f"{STEM}.tar.zst",
        found="tar sha256 ",
        expected="",
    ),
    Case(
        gate="ARC08",
        name="name in the gzip header",
        spoil=lambda craft: setattr(craft, "gzip_name", "toy.tar"),
        file=GZ,
        found="1f8b0808",
        expected="1f8b080000000000",
    ),
    Case(
        gate="ARC08",
        name="time in the gzip header",
        spoil=lambda craft: setattr(craft, "gzip_time", 1),
        file=GZ,
        found="1f8b080001000000",
        expected="1f8b080000000000",
    ),
    Case(
        gate="ELF01",
        name="program is a script",
        spoil=lambda craft: craft.change("bin/toy", content=b"#!/bin/sh\n"),
        file=f"{STEM}/bin/toy",
        found="not an ELF file that can be read",
        expected="an ELF file",
    ),
    Case(
        gate="ELF02",
        name="program for another machine",
        spoil=lambda craft: craft.program(for_aarch64),
        file=f"{STEM}/bin/toy",
        found="machine AARCH64",
        expected="X86_64",
    ),
    Case(
        gate="ELF03",
        name="newer glibc than declared",
        spoil=lambda craft: craft.program(glibc("2.99")),
        file=f"{STEM}/bin/toy",
        found="_exit, puts of libc.so.6 needs glibc 2.99",
        expected="at most the declared floor 2.31",
    ),
    Case(
        gate="ELF04",
        name="library that nobody promised",
        spoil=lambda craft: craft.program(lambda binary: binary.add_library("libevil.so.1")),
        file=f"{STEM}/bin/toy",
        found="needs libevil.so.1",
        expected="only ld-linux-x86-64.so.2, libc.so.6",
    ),
    Case(
        gate="ELF05",
        name="absolute RUNPATH",
        spoil=lambda craft: craft.program(
            lambda binary: binary.add(lief.ELF.DynamicEntryRunPath("/opt/lib"))
        ),
        file=f"{STEM}/bin/toy",
        found="searches '/opt/lib'",
        expected="nothing, or $ORIGIN and directories of the archive",
    ),
    Case(
        gate="ELF05",
        name="absolute RPATH behind a good one",
        spoil=lambda craft: craft.program(
            lambda binary: binary.add(lief.ELF.DynamicEntryRpath("$ORIGIN/../lib:/opt/lib"))
        ),
        file=f"{STEM}/bin/toy",
        found="searches '$ORIGIN/../lib:/opt/lib'",
        expected="nothing, or $ORIGIN and directories of the archive",
    ),
    Case(
        gate="TXT01",
        name="build path in a text",
        spoil=lambda craft: craft.change("README.md", content=b"see /build/source/x"),
        file=f"{STEM}/README.md",
        found="holds '/build/source' at byte 4",
        expected="no path of the build environment",
    ),
    Case(
        gate="TXT01",
        name="build path in the program",
        spoil=lambda craft: craft.change("bin/toy", content=ELF.read_bytes() + b"/build/tmp/a.c"),
        file=f"{STEM}/bin/toy",
        found="holds '/build/tmp' at byte 5200",
        expected="no path of the build environment",
    ),
    Case(
        gate="TXT02",
        name="description of another collector",
        spoil=info_with(gc="minimark"),
        file=f"{STEM}/BUILD-INFO.json",
        found="gc is 'minimark'",
        expected="'incminimark'",
    ),
    Case(
        gate="TXT02",
        name="description of another source",
        spoil=info_with(source_sha256="0" * 64),
        file=f"{STEM}/BUILD-INFO.json",
        found=f"source_sha256 is '{'0' * 64}'",
        expected="'41cf6794ba4200b839c53531555f0f3998df4cbb01a4d5cb0b94e3ca5e23947d'",
    ),
    Case(
        gate="TXT02",
        name="description of another form",
        spoil=lambda craft: craft.change("BUILD-INFO.json", content=b"{}"),
        file=f"{STEM}/BUILD-INFO.json",
        found="not readable: ",
        expected="a build description",
    ),
    Case(
        gate="RUN01",
        name="other output",
        spoil=answering("--version", answer=Answer(stdout="toy 1.2.4\n")),
        file=f"{GZ} in clean-old: smoke test version",
        found="output 'toy 1.2.4\\n'",
        expected="'toy 1.2.3\\n'",
    ),
    Case(
        gate="RUN01",
        name="other output than the file's",
        spoil=answering(f"{TESTS}/sum.toy", "/tmp/verify/scratch", answer=Answer(stdout="4\n")),  # noqa: S108
        file=f"{GZ} in clean-old: smoke test program",
        found="output '4\\n'",
        expected="'3\\n'",
    ),
    Case(
        gate="RUN01",
        name="crash",
        spoil=answering(
            "--version",
            answer=Answer(status=139, stdout="toy 1.2.3\n", stderr="Segmentation fault"),
        ),
        file=f"{GZ} in clean-old: smoke test version",
        found="exit status 139: Segmentation fault",
        expected="exit status 0",
    ),
    Case(
        gate="RUN01",
        name="error that is none",
        spoil=answering("--bad", answer=Answer(stderr="no such option")),
        file=f"{GZ} in clean-old: smoke test error",
        found="exit status 0",
        expected="exit status 2",
    ),
    Case(
        gate="RUN01",
        name="other message",
        spoil=answering("--bad", answer=Answer(status=2, stderr="Traceback")),
        file=f"{GZ} in clean-old: smoke test error",
        found="message 'Traceback'",
        expected="one with 'no such option'",
    ),
    Case(
        gate="OPT01",
        name="other collector",
        spoil=answering("--info", answer=Answer(stdout="gc=minimark\njit=True\n")),
        file=f"{GZ}: {{root}}/bin/toy --info",
        found="gc=minimark",
        expected="gc=incminimark",
    ),
    Case(
        gate="OPT01",
        name="no JIT",
        spoil=answering("--info", answer=Answer(stdout="gc=incminimark\njit=False\n")),
        file=f"{GZ}: {{root}}/bin/toy --info",
        found="jit=False",
        expected="jit=True",
    ),
    Case(
        gate="OPT01",
        name="says nothing of its options",
        spoil=answering("--info", answer=Answer(stdout="gc=incminimark\n")),
        file=f"{GZ}: {{root}}/bin/toy --info",
        found="jit=None",
        expected="jit=True",
    ),
    Case(
        gate="OPT02",
        name="no loop compiled",
        spoil=lambda craft: setattr(craft, "jit_log", "[1] {jit-summary\n[2] jit-summary}\n"),
        file=f"{GZ}: jit log",
        found="0 loops compiled",
        expected="at least one, since jit = true",
    ),
    Case(
        gate="OPT02",
        name="hot loop fails",
        spoil=answering(f"{TESTS}/hot.toy", answer=Answer(status=1, stderr="boom")),
        file=f"{GZ}: {{root}}/bin/toy {{tests}}/hot.toy with PYPYLOG=jit-log-opt,jit-summary",
        found="exit status 1: boom",
        expected="success and a log",
    ),
    Case(
        gate="OPT03",
        name="another collector's log",
        spoil=lambda craft: setattr(craft, "gc_log", "[1] {gc-minor\n[2] {gc-collect\n"),
        file=f"{GZ}: gc log",
        found="no section gc-collect-step",
        expected="incminimark's",
    ),
)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return make_world(tmp_path_factory.mktemp("project"))


@pytest.fixture
def craft(world: World) -> Craft:
    return make_craft(world)


def test_a_good_release_passes_every_gate(craft: Craft, tmp_path: Path) -> None:
    found = findings(craft, tmp_path)

    assert found == []


@pytest.mark.parametrize(
    "case", [pytest.param(case, id=f"{case.gate} {case.name}") for case in CASES]
)
def test_one_fault_trips_its_gate_and_no_other(case: Case, craft: Craft, tmp_path: Path) -> None:
    case.spoil(craft)

    found = findings(craft, tmp_path)

    assert {line.split()[0] for line in found} == {case.gate}


@pytest.mark.parametrize(
    "case", [pytest.param(case, id=f"{case.gate} {case.name}") for case in CASES]
)
def test_a_finding_names_gate_file_what_is_there_and_what_should_be(
    case: Case, craft: Craft, tmp_path: Path
) -> None:
    case.spoil(craft)

    line = findings(craft, tmp_path)[0]

    head, found_and_expected = line.split(f": {case.file}: ", 1)
    found, expected = found_and_expected.rsplit("; expected ", 1)
    assert head.startswith(f"{case.gate} ")
    assert case.found in found
    assert expected.startswith(case.expected)
    assert expected


def test_every_gate_has_a_crafted_fault() -> None:
    covered = {case.gate for case in CASES}

    assert covered == set(EVERY_GATE)


def test_gate_ids_are_unique() -> None:
    assert len(EVERY_GATE) == len(set(EVERY_GATE))


def verdict(*findings: str) -> Verdict:
    return Verdict(
        measured="3 files",
        findings=tuple(Finding(file=name, found="bad", expected="good") for name in findings),
    )


def test_a_passed_gate_is_kept_with_its_measurement() -> None:
    gate = Gate[str](identifier="ZZZ01", title="nothing", check=lambda _subject: verdict())

    passed, failures = check_gates([gate], "subject")

    assert [(item.gate, item.title, item.measured) for item in passed] == [
        ("ZZZ01", "nothing", "3 files")
    ]
    assert failures == []


def test_a_failing_gate_does_not_keep_the_next_one_from_being_checked() -> None:
    bad = Gate[str](identifier="ZZZ01", title="one", check=lambda _subject: verdict("a", "b"))
    good = Gate[str](identifier="ZZZ02", title="two", check=lambda _subject: verdict())

    passed, failures = check_gates([bad, good], "subject")

    assert [item.gate for item in passed] == ["ZZZ02"]
    assert failures == [
        "ZZZ01 one: a: bad; expected good",
        "ZZZ01 one: b: bad; expected good",
    ]


def test_no_finding_stops_nothing() -> None:
    stop_on([])


@pytest.mark.parametrize(
    ("lines", "count"),
    [(["ARC01 a"], "1 gate finding;"), (["ARC01 a", "ELF02 b"], "2 gate findings;")],
    ids=["one", "two"],
)
def test_findings_stop_the_release_and_are_all_listed(lines: list[str], count: str) -> None:
    with pytest.raises(GateError) as caught:
        stop_on(lines)

    message = str(caught.value)
    assert message.startswith(count)
    assert message.splitlines()[1:] == lines
