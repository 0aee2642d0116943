"""What people see: plain lines in CI, a moving line on a terminal, and nothing on stdout."""

import io
import re
from collections.abc import Callable, Iterator
from itertools import count

import pytest
from rich.console import Console as RichConsole

from pipeline.effects.console import Console, Frame

MARKUP = "[bold]not markup[/bold] [/] [red"


@pytest.fixture(autouse=True)
def outside_ci(monkeypatch: pytest.MonkeyPatch) -> None:
    """Show as on a person's machine, whoever runs the tests."""
    monkeypatch.delenv("CI", raising=False)


@pytest.fixture
def shown() -> io.StringIO:
    """What was written."""
    return io.StringIO()


@pytest.fixture
def make(shown: io.StringIO) -> Callable[..., Console]:
    """Give a function that makes a console; its clock moves by 1.5 s each time it is read."""

    def build(*, terminal: bool = False, width: int = 40) -> Console:
        rich = RichConsole(
            file=shown, force_terminal=terminal, width=width, highlight=False, soft_wrap=True
        )
        return Console(rich_console=rich, clock=ticks())

    return build


def ticks() -> Callable[[], float]:
    """Return a clock."""
    times: Iterator[float] = (number * 1.5 for number in count())
    return lambda: next(times)


def test_a_step_is_shown_when_it_begins_and_when_it_is_done(
    make: Callable[..., Console], shown: io.StringIO
) -> None:
    with make().step("translate demo"):
        pass

    assert shown.getvalue() == "translate demo ...\ndone translate demo (1.5 s)\n"


def test_a_step_that_fails_says_so_and_passes_the_error_on(
    make: Callable[..., Console], shown: io.StringIO
) -> None:
    with pytest.raises(KeyboardInterrupt), make().step("translate demo"):
        raise KeyboardInterrupt

    assert shown.getvalue().endswith("failed translate demo (1.5 s)\n")
    assert "done" not in shown.getvalue()


def test_a_step_that_had_nothing_to_do_says_why(
    make: Callable[..., Console], shown: io.StringIO
) -> None:
    with make().step("ledger demo") as step:
        step.skip("event 1 says so already")

    assert shown.getvalue().endswith("ledger demo: event 1 says so already\n")
    assert "done" not in shown.getvalue()


def test_a_skipped_step_that_fails_is_a_failure(
    make: Callable[..., Console], shown: io.StringIO
) -> None:
    with pytest.raises(KeyboardInterrupt), make().step("ledger demo") as step:  # noqa: PT012 - the order matters
        step.skip("nothing to do")
        raise KeyboardInterrupt

    assert shown.getvalue().endswith("failed ledger demo (1.5 s)\n")


@pytest.mark.parametrize(
    ("done", "total", "expected"),
    [(None, None, "  sign: fetch"), (0, 3, "  sign: fetch (1/3)"), (2, 3, "  sign: fetch (3/3)")],
    ids=["uncounted", "first", "last"],
)
def test_a_phase_is_one_line_with_its_number(
    make: Callable[..., Console],
    shown: io.StringIO,
    done: int | None,
    total: int | None,
    expected: str,
) -> None:
    with make().step("sign") as step:
        step.phase("fetch", done, total)

    assert expected in shown.getvalue().splitlines()


def test_a_phase_that_took_a_while_is_told_with_its_time(shown: io.StringIO) -> None:
    ticks = iter([0.0, 1.0, 215.4, 216.0, 217.0])
    plain = RichConsole(file=shown, width=100, force_terminal=False)
    with Console(rich_console=plain, clock=lambda: next(ticks)).step("translate") as step:
        step.phase("annotate", 0, 3)
        step.phase("rtype", 1, 3)
        step.phase("pyjitpl", 2, 3)

    assert shown.getvalue().splitlines()[1:4] == [
        "  translate: annotate (1/3)",
        "  translate: rtype (2/3), after 214 s of annotate",
        "  translate: pyjitpl (3/3)",
    ]


def test_bytes_that_arrive_write_no_lines_in_a_log(
    make: Callable[..., Console], shown: io.StringIO
) -> None:
    with make().step("source") as step:
        for _ in range(1000):
            step.advance(1, 1000)

    assert len(shown.getvalue().splitlines()) == 2


def test_on_a_terminal_a_running_step_shows_its_phase_in_place(
    make: Callable[..., Console], shown: io.StringIO
) -> None:
    with make(terminal=True, width=80).step("source") as step:
        step.phase("fetch rpython", 0, 2)
        step.advance(1, 2)

    text = shown.getvalue()
    assert "fetch rpython" in text
    assert "source ..." not in text
    assert "\x1b[" in text
    assert "(3.0 s)" in text


def test_on_a_terminal_a_step_inside_a_step_is_a_line(
    make: Callable[..., Console], shown: io.StringIO
) -> None:
    """Two moving displays at once are an error of rich."""
    console = make(terminal=True, width=80)

    with console.step("verify"), console.step("gate"):
        pass
    with console.step("again"):
        pass

    text = shown.getvalue()
    assert "gate ..." in text
    assert "again ..." not in text


def test_in_ci_even_a_terminal_gets_plain_lines(
    make: Callable[..., Console], shown: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CI", "1")

    with make(terminal=True).step("sign"):
        pass

    assert shown.getvalue().startswith("sign ...\n")


@pytest.mark.parametrize("way", ["line", "warn", "fail"])
def test_text_is_never_taken_for_markup(
    make: Callable[..., Console], shown: io.StringIO, way: str
) -> None:
    getattr(make(), way)(MARKUP)

    assert shown.getvalue() == f"{MARKUP}\n"


@pytest.mark.parametrize("terminal", [False, True], ids=["plain", "terminal"])
def test_titles_phases_and_reasons_are_never_taken_for_markup(
    make: Callable[..., Console], shown: io.StringIO, *, terminal: bool
) -> None:
    with make(terminal=terminal, width=200).step(MARKUP) as step:
        step.phase(MARKUP)
        step.skip(MARKUP)

    assert shown.getvalue().count(MARKUP) >= 2


@pytest.mark.parametrize("terminal", [False, True], ids=["plain", "terminal"])
def test_the_title_of_a_finished_step_is_never_taken_for_markup(
    make: Callable[..., Console], shown: io.StringIO, *, terminal: bool
) -> None:
    with make(terminal=terminal, width=200).step(MARKUP):
        pass

    assert f"{MARKUP} (1.5 s)" in re.sub(r"\x1b\[[0-9;]*m", "", shown.getvalue())


def test_a_table_is_never_folded_or_cut_so_that_digests_can_be_copied(
    make: Callable[..., Console], shown: io.StringIO
) -> None:
    digest = "0123456789abcdef" * 4

    make(width=20).table("Files", ("file", "sha256"), [("a", digest), (MARKUP, digest)])

    title, *lines = shown.getvalue().splitlines()
    assert title.strip() == "Files"
    assert len(lines) == 3
    assert [line.split()[-1] for line in lines] == ["sha256", digest, digest]
    assert MARKUP in lines[2]


def test_a_table_without_rows_shows_its_columns(
    make: Callable[..., Console], shown: io.StringIO
) -> None:
    make().table("Jobs", ("identifier", "mode"), [])

    assert "identifier" in shown.getvalue()


def test_by_default_everything_goes_to_standard_error(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Standard output is for results that programs read."""
    console = Console(clock=ticks())

    console.line("a line")
    console.table("t", ("c",), [("x",)])

    captured = capsys.readouterr()
    assert captured.out == ""
    assert "a line" in captured.err


def frame(lines: int, *, title: str = "Jobs", more: str = "") -> Frame:
    """Return a table of two jobs, with the number of rows that there is place for."""
    rows = [(MARKUP, "done"), (f"place for {lines}", "waiting")]
    return Frame(title=title, rows=rows, styles=("green", ""), more=more)


def test_in_a_log_a_moving_table_is_a_line_for_each_change(
    make: Callable[..., Console], shown: io.StringIO
) -> None:
    with make().live_table(("job", "state")) as table:
        table.show(frame, [f"{MARKUP}: begun"])
        table.show(frame, [])
        table.show(frame, [f"{MARKUP}: done"])

    assert shown.getvalue() == f"{MARKUP}: begun\n{MARKUP}: done\n"


def test_on_a_terminal_a_moving_table_is_drawn_in_place_of_lines(
    make: Callable[..., Console], shown: io.StringIO
) -> None:
    with make(terminal=True, width=60).live_table(("job", "state")) as table:
        table.show(lambda lines: frame(lines, title="T" * 99, more="and 7 more"), ["a change"])

    text = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", shown.getvalue())
    assert "a change" not in text
    assert MARKUP in text
    assert re.search(r"place for \d+ +waiting", text)
    assert "T" * 59 + "\N{HORIZONTAL ELLIPSIS}" in text
    assert "and 7 more" in text


def test_a_moving_table_may_be_shown_before_there_is_anything_in_it(
    make: Callable[..., Console], shown: io.StringIO
) -> None:
    with make(terminal=True, width=60).live_table(("job", "state")):
        pass

    assert "job" not in shown.getvalue()


def test_lines_are_written_while_a_table_moves(
    make: Callable[..., Console], shown: io.StringIO
) -> None:
    console = make(terminal=True, width=60)

    with console.live_table(("job", "state")) as table:
        table.show(frame, [])
        console.line("the farm answers again")
        with console.step("inside"):
            pass

    assert "the farm answers again" in shown.getvalue()
    assert "inside ..." in shown.getvalue()
