"""Every gate has a crafted release which it, and no other gate, refuses.

``pytest -v -k tripped -p no:randomly tests/unit/verify/test_gates.py`` prints the table.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

import pytest

from pipeline.errors import GateError
from pipeline.model.configs import SmokeTest
from pipeline.verify.gates import Finding, Gate, Verdict, check_gates, stop_on
from pipeline.verify.running import smoke_gates
from tests.crafted import (
    Craft,
    filled,
    gate_ids,
    make_craft,
    running,
    smoke_answers,
)
from tests.factories import (
    CONFIGS,
    make_build_info,
    make_config,
    make_git_revision,
    make_plan_for,
)
from tests.fakes import Answer, World, make_world
from tests.unit.verify.faults import FAULTS, Fault, all_findings, all_gate_ids, make_pypy

RELEASES: Final[Mapping[str, Callable[[World], Craft]]] = {
    "toy": make_craft,
    "pypy3.11": lambda _world: make_pypy(),
    "pypy3.11rc1": lambda _world: make_pypy("7.3.23rc1"),
}
NOT_OF_PLAIN_PROGRAMS: Final = {"ELF06", "ELF08", "IDN01", "IDN02", "LIB01", "DBG01", "DBG02"}
"""A plain program has no headers, modules and debug archive, and the toy promises no symbols."""

TABLE: Final = [
    pytest.param(fault, release, id=f"{fault.gate}-{fault.name.replace(' ', '-')}-{release}")
    for fault, release in sorted(
        ((fault, release) for release, faults in FAULTS.items() for fault in faults),
        key=lambda row: row[0].gate,
    )
]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return make_world(tmp_path_factory.mktemp("project"))


@pytest.fixture
def craft(release: str, world: World) -> Craft:
    return RELEASES[release](world)


@pytest.mark.parametrize("release", RELEASES)
def test_a_good_release_passes_every_gate(craft: Craft, tmp_path: Path) -> None:
    found = all_findings(craft, tmp_path)

    assert found == []


@pytest.fixture(scope="module")
def known() -> dict[tuple[str, Fault], list[str]]:
    """What was found of each fault: it is asked for twice."""
    return {}


@pytest.fixture
def found(
    fault: Fault,
    release: str,
    craft: Craft,
    tmp_path: Path,
    known: dict[tuple[str, Fault], list[str]],
) -> list[str]:
    if (release, fault) not in known:
        fault.spoil(craft)
        known[release, fault] = all_findings(craft, tmp_path)
    return known[release, fault]


@pytest.mark.parametrize(("fault", "release"), TABLE)
def test_every_gate_is_tripped_by_its_crafted_fault_and_by_nothing_else(
    fault: Fault, found: list[str]
) -> None:
    assert {line.split()[0] for line in found} == {fault.gate}


@pytest.mark.parametrize(("fault", "release"), TABLE)
def test_a_finding_names_gate_file_what_is_there_and_what_should_be(
    fault: Fault, craft: Craft, found: list[str]
) -> None:
    line = found[0]

    head, found_and_expected = line.split(f": {told(fault.file, craft)}: ", 1)
    what, expected = found_and_expected.rsplit("; expected ", 1)
    assert head.startswith(f"{fault.gate} ")
    assert told(fault.found, craft) in what
    assert expected.startswith(told(fault.expected, craft))
    assert expected


SMOKE_TESTS: Final = [
    pytest.param(name, test, id=f"{test.gate}-{test.name}-{name}")
    for name, interpreter in make_config().interpreters.items()
    for test in interpreter.verify.smoke
]


@pytest.mark.parametrize(("interpreter", "test"), SMOKE_TESTS)
def test_every_shipped_smoke_test_is_tripped_by_its_failure_and_by_nothing_else(
    interpreter: str, test: SmokeTest
) -> None:
    (job,) = make_plan_for(interpreters=(interpreter,), revision=make_git_revision()).jobs
    failing = Answer(status=test.status + 1, stderr="it failed")
    answers = {**smoke_answers(job), filled(job, test.argv): failing}
    craft = Craft(job=job, info=make_build_info(), members=[], answers=answers)
    rules = job.interpreter.verify

    failed = set()
    for environment in rules.environments:
        subject = running(craft, CONFIGS / rules.test_files, environment)
        _, lines = check_gates(smoke_gates(rules.smoke, environment), subject)
        failed |= {line.split()[0] for line in lines}

    assert failed == {test.gate}


def told(text: str, craft: Craft) -> str:
    return text.replace("{stem}", craft.job.stem).replace("{epoch}", str(craft.epoch))


@pytest.mark.parametrize(
    ("release", "untouched"),
    [("pypy3.11", set[str]()), ("toy", NOT_OF_PLAIN_PROGRAMS)],
    ids=["pypy3.11", "toy"],
)
def test_the_table_has_a_fault_for_every_gate(
    release: str, untouched: set[str], craft: Craft
) -> None:
    covered = {fault.gate for fault in FAULTS[release]}

    assert covered == all_gate_ids(craft) - untouched


@pytest.mark.parametrize("release", RELEASES)
def test_gate_ids_are_unique(craft: Craft) -> None:
    for ids in gate_ids(craft.job).values():
        assert len(ids) == len(set(ids))


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
