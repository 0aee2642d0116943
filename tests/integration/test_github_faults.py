"""Every fault at every call of a copy to GitHub, and a kill at every call, against a real server.

``pytest tests/integration/test_github_faults.py -p no:randomly -s`` prints what was measured.
"""

import os
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

import pytest
import requests

from pipeline.effects.console import Console
from pipeline.errors import DestinationError
from pipeline.publish.github import PageChange
from tests.integration.conftest import ROOT
from tests.integration.github_publication import (
    CONTENTS,
    TAG,
    TOKEN_VARIABLE,
    make_page,
    publish,
    quick,
    write_files,
)
from tests.integration.github_server import (
    DONE_FIRST,
    REPOSITORY,
    TOKEN,
    Fault,
    FaultPlan,
    Github,
    Kind,
    broken,
    github_server,
    status,
)

OFTEN: Final = ("once", "always there", "from then on")

FAULTS: Final = {
    "401": status(401),
    "403": status(403),
    "404": status(404),
    "409": status(409),
    "412": status(412),
    "422": status(422),
    "408": status(408),
    "429, Retry-After": status(429, Retry_After="2"),
    "403, secondary limit": status(403, Retry_After="1", message="You have exceeded a secondary"),
    "500": status(500),
    "502": status(502),
    "503": status(503),
    **{kind.value: broken(kind) for kind in Kind if kind is not Kind.STATUS},
}
KILLS: Final = (Kind.KILL_BEFORE, Kind.KILL_MIDDLE, Kind.KILL_AFTER)
FINAL: Final = {"401", "403", "404", "409", "412", "422"}
STALLS: Final = {Kind.STALL_BEFORE, Kind.STALL_AFTER}
NEEDS_PATIENCE: Final = 20.0


@dataclass
class Row:
    """What was measured of one fault."""

    tried: Counter[str] = field(default_factory=Counter)
    finished: Counter[str] = field(default_factory=Counter)
    healed: int = 0
    twice: int = 0
    incomplete: int = 0


@dataclass
class Report:
    """Rows of a table, by title and fault."""

    columns: tuple[str, ...]
    rows: dict[str, list[str]] = field(default_factory=dict)


@pytest.fixture(scope="module")
def reports() -> Iterator[dict[str, Report]]:
    """Collect tables, and print them at the end."""
    collected: dict[str, Report] = {}
    yield collected
    for title, report in collected.items():
        rows = [[name, *cells] for name, cells in report.rows.items()]
        Console().table(title, report.columns, rows)


# --- where a copy begins ----------------------------------------------------------------------


def nothing(_github: Github) -> None:
    """Begin where GitHub has nothing."""


def leftovers(github: Github) -> None:
    """Begin where killed runs left all that they can leave, and where a person has a draft."""
    github.digests, github.page = False, 2
    own = make_page(()).mark
    names = list(CONTENTS)
    first = github.add(TAG, {}, draft=True, body=own)
    github.add_asset(first, names[0], b"", "starter")
    github.add_asset(first, names[1], b"other bytes")
    github.add_asset(first, names[2], b"x" * len(CONTENTS[names[2]]))
    github.add_asset(first, names[3], CONTENTS[names[3]])
    github.add_asset(first, "of-another-time.tar.gz", b"foreign")
    github.finished[names[3]] += 1  # so that sending it again would be seen
    github.add(TAG, {names[0]: CONTENTS[names[0]]}, draft=True, body=own)
    github.add(TAG, {}, draft=True, body="what a person wrote")
    for number in range(3):
        github.add(f"older-{number}", {})


def published(github: Github) -> None:
    """Begin where the release is public, before it was yanked."""
    announcement = make_page(()).announcement
    github.add(TAG, CONTENTS, name=announcement.title, body=announcement.notes)


BEGINNINGS: Final[dict[str, Callable[[Github], None]]] = {
    "new": nothing,
    "leftovers": leftovers,
    "yank": published,
}
YANKED: Final = "Crashes."


def run(github: Github, directory: Path, beginning: str, fault: Fault | None) -> PageChange:
    """Run a copy, not waiting long where the server does not answer."""
    stalls = fault is not None and fault.kind in STALLS
    return publish(
        github.urls["api"],
        directory,
        quick(attempts=2 if stalls else 3),
        timeout=0.4 if stalls else NEEDS_PATIENCE,
        yanked=YANKED if beginning == "yank" else None,
    )


def calls_of(beginning: str, directory: Path) -> list[str]:
    """Return the calls of a copy that meets no fault."""
    with github_server() as github:
        BEGINNINGS[beginning](github)
        run(github, directory, beginning, None)
        return list(github.calls)


@dataclass(frozen=True)
class Case:
    """A fault at the call *number*, whose request is *label*, and at others as *often* says."""

    beginning: str
    name: str
    often: str
    number: int
    label: str

    @property
    def fault(self) -> Fault:
        """What goes wrong."""
        return FAULTS[self.name]

    def plan(self, github: Github) -> FaultPlan:
        """Return when it goes wrong."""

        def plan(current: int) -> Fault | None:
            hit = {
                "once": current == self.number,
                "always there": github.calls[-1] == self.label,
                "from then on": current >= self.number,
            }
            return self.fault if hit[self.often] else None

        return plan


def cases_of(beginning: str, name: str, calls: list[str]) -> list[Case]:
    """Return every call once, every kind of request always, and everything from every call on."""
    once = [Case(beginning, name, "once", *call) for call in enumerate(calls, start=1)]
    first = {label: calls.index(label) + 1 for label in calls}
    always = [Case(beginning, name, "always there", at, label) for label, at in first.items()]
    if beginning != "new" or FAULTS[name].kind in STALLS:
        return once + always
    return once + always + [replace(case, often="from then on") for case in once]


def finishes(case: Case) -> bool:
    """Whether the policy is to finish a new copy at once in spite of a fault."""
    if case.name == "404" and "/tags/" in case.label:
        return case.often != "from then on"  # it says that the release is not there: that is so
    if case.often == "once":
        return case.name not in FINAL
    is_write = not case.label.startswith("GET")
    return case.often == "always there" and is_write and case.fault.kind in DONE_FIRST


def require_right(github: Github, *, drafts: int) -> None:
    """Check what everybody sees in the end."""
    public = [release for release in github.releases.values() if not release.draft]
    (release,) = [release for release in public if release.tag == TAG]
    assert github.contents(release) == CONTENTS
    assert len(release.assets) == len(CONTENTS)
    assert len(github.releases) - len(public) == drafts
    assert github.leaked == []


def require_nothing_to_do(github: Github, directory: Path, beginning: str) -> None:
    """Check that another run only reads."""
    github.reset_faults()
    assert run(github, directory, beginning, None).is_none
    assert {call.split()[0] for call in github.calls} == {"GET"}


def measure(row: Row, directory: Path, case: Case) -> bool:
    """Run a copy that meets a fault, then one that does not; return whether the first finished."""
    with github_server() as github:
        BEGINNINGS[case.beginning](github)
        github.reset_faults(case.plan(github))
        row.tried[case.often] += 1
        try:
            run(github, directory, case.beginning, case.fault)
            finished = True
        except DestinationError:
            finished = False
        row.finished[case.often] += finished

        github.reset_faults()
        run(github, directory, case.beginning, None)

        # Who is told that a draft is gone does not delete it; nobody but us sees it.
        kept = sum(release.draft for release in github.releases.values())
        theirs = 1 if case.beginning == "leftovers" else 0
        require_right(github, drafts=kept if case.name == "404" else theirs)
        require_nothing_to_do(github, directory, case.beginning)
        row.healed += 1
        row.twice += uploaded_twice(github)
        row.incomplete += sum(tag == TAG and names != set(CONTENTS) for tag, names in github.views)
    return finished


def uploaded_twice(github: Github) -> int:
    """Return how many uploads were of what was there, complete."""
    return sum(count - 1 for count in github.finished.values())


@pytest.mark.slow
@pytest.mark.parametrize("beginning", BEGINNINGS)
@pytest.mark.parametrize("name", [name for name in FAULTS if name not in KILLS])
def test_every_fault_at_every_call_is_met_by_the_policy_and_healed_by_running_again(
    tmp_path: Path, reports: dict[str, Report], name: str, beginning: str
) -> None:
    write_files(tmp_path)
    calls, row = calls_of(beginning, tmp_path), Row()

    outcomes = {case: measure(row, tmp_path, case) for case in cases_of(beginning, name, calls)}

    columns = ("fault", "calls", *OFTEN, "healed by a run", "uploaded twice", "readers saw less")
    report = reports.setdefault(f"{beginning}: copies that finished at once", Report(columns))
    counts = [f"{row.finished[often]}/{row.tried[often]}" for often in OFTEN]
    healed = f"{row.healed}/{row.tried.total()}"
    report.rows[name] = [str(len(calls)), *counts, healed, str(row.twice), str(row.incomplete)]
    assert (row.healed, row.twice, row.incomplete) == (row.tried.total(), 0, 0)
    # From leftovers other requests lead to the same end, so there only what is sure is asked for.
    for case, finished in outcomes.items():
        if beginning == "new" or (case.often == "once" and finishes(case)):
            assert (case, finished) == (case, finishes(case))


# --- kills --------------------------------------------------------------------------------------


@contextmanager
def reader(github: Github) -> Iterator[list[set[str]]]:
    """Read the release by its tag all the time, as the public does."""
    seen: list[set[str]] = []
    done = threading.Event()
    url = f"{github.urls['api']}/repos/{REPOSITORY}/releases/tags/{TAG}"

    def read() -> None:
        while not done.wait(0.002):
            answer = requests.get(url, timeout=NEEDS_PATIENCE)
            if answer.ok:
                seen.append({asset["name"] for asset in answer.json()["assets"]})

    thread = threading.Thread(target=read)
    thread.start()
    try:
        yield seen
    finally:
        done.set()
        thread.join()


def run_killed(github: Github, directory: Path) -> None:
    """Run a copy as a process of its own, which the server kills."""
    command = [sys.executable, "-m", "tests.integration.github_publication"]
    github.victim = None
    with subprocess.Popen(
        [*command, github.urls["api"], str(directory)],
        cwd=ROOT,
        env={**os.environ, TOKEN_VARIABLE: TOKEN},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    ) as process:
        github.victim = process.pid
        _, errors = process.communicate(timeout=60)
    assert process.returncode == -signal.SIGKILL, errors.decode()


@pytest.mark.slow
@pytest.mark.parametrize("kind", KILLS)
def test_a_kill_at_every_call_is_healed_by_running_again(
    tmp_path: Path, reports: dict[str, Report], kind: Kind
) -> None:
    write_files(tmp_path)
    calls = calls_of("new", tmp_path)
    views: list[set[str] | frozenset[str]] = []
    healed = twice = 0

    for number in range(1, len(calls) + 1):
        with github_server() as github, reader(github) as seen:
            case = Case("new", kind, "once", number, calls[number - 1])
            github.reset_faults(case.plan(github))
            run_killed(github, tmp_path)

            github.reset_faults()
            run(github, tmp_path, "new", None)

            require_right(github, drafts=0)
            require_nothing_to_do(github, tmp_path, "new")
            healed += 1
            twice += uploaded_twice(github)
        views += [*seen, *(names for _tag, names in github.views)]

    incomplete = sum(names != set(CONTENTS) for names in views)
    columns = ("kill", "calls", "healed by a run", "uploaded twice", "views", "readers saw less")
    report = reports.setdefault("kill -9 of the program at every call", Report(columns))
    cells = (len(calls), f"{healed}/{len(calls)}", twice, len(views), incomplete)
    report.rows[kind.value] = [str(cell) for cell in cells]
    assert (healed, twice, incomplete) == (len(calls), 0, 0)
    assert len(views) > len(calls)
