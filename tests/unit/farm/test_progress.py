"""What a console writes to a file is read as it was meant."""

import io
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console as RichConsole

from pipeline.effects.console import Console
from pipeline.farm.progress import MOST_OPEN, Begun, Ended, Event, How, Phase, Progress


class Clock:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        """Return the time."""
        return self.now


def make_console(clock: Clock) -> tuple[Console, io.StringIO]:
    written = io.StringIO()
    rich = RichConsole(file=written, highlight=False, soft_wrap=True)
    return Console(rich_console=rich, clock=clock), written


def read(written: io.StringIO) -> list[Event]:
    progress = Progress()
    events = (progress.read(line) for line in written.getvalue().splitlines())
    return [event for event in events if event is not None]


def test_real_console_is_read_back() -> None:
    clock = Clock()
    console, written = make_console(clock)

    with console.step("translate demo-linux-x86_64") as step:
        step.phase("annotate", 0, 9)
        console.line("[translation:info] Annotating... (done) ...")
        clock.now += 61
        step.phase("rtype: low (level)", 1, 9)
        clock.now += 1
        step.phase("pack the products")
    with console.step("package demo-linux-x86_64") as step:
        step.skip("it is there already")
    with suppress(ZeroDivisionError), console.step("verify demo-linux-x86_64"):
        clock.now += 0.25
        _ = 1 / 0

    title = "translate demo-linux-x86_64"
    assert read(written) == [
        Begun(title),
        Phase(title, "annotate"),
        Phase(title, "rtype: low (level)", 61),
        Phase(title, "pack the products"),
        Ended(title, How.DONE, seconds=62.0),
        Begun("package demo-linux-x86_64"),
        Ended("package demo-linux-x86_64", How.SKIPPED, reason="it is there already"),
        Begun("verify demo-linux-x86_64"),
        Ended("verify demo-linux-x86_64", How.FAILED, seconds=0.2),
    ]


def test_stage_within_a_stage_is_told_from_it() -> None:
    console, written = make_console(Clock())

    with console.step("environment translate"), console.step("environment"):
        pass

    assert read(written) == [
        Begun("environment translate"),
        Begun("environment"),
        Ended("environment", How.DONE, seconds=0.0),
        Ended("environment translate", How.DONE, seconds=0.0),
    ]


@pytest.mark.parametrize(
    "line",
    [
        "",
        "done translate (1.0 s)",
        "  translate: annotate (1/9)",
        "translate: skipped",
        "a log ...",
    ],
)
def test_line_of_no_stage_that_is_under_way_is_passed_over(line: str) -> None:
    assert Progress().read(line) in (None, Begun("a log"))


@given(st.lists(st.text()))
def test_any_output_is_read_and_stages_stay_few(lines: list[str]) -> None:
    progress = Progress()

    for line in [*lines, *(f"stage {number} ..." for number in range(2 * MOST_OPEN))]:
        progress.read(line)

    assert len(progress.titles) <= MOST_OPEN
