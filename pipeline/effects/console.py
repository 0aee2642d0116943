"""What people see: steps with their time, progress, and a table at the end.

On a terminal a running step is one line with its phase and time; elsewhere (CI, a file) every
event is a plain line. Results that programs read go to standard output, all this to standard error.
"""

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from rich.console import Console as RichConsole
from rich.console import Group
from rich.live import Live
from rich.markup import escape
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

Clock = Callable[[], float]

WIDEST: Final = 1000
WORTH_TELLING: Final = 5.0
REFRESHES: Final = 2.0  # a second
AROUND_ROWS: Final = 4  # lines of a moving table beside its rows: title, header, more, the cursor


@dataclass(frozen=True, kw_only=True)
class Frame:
    """What a moving table shows at one time: rows of cells, each with a style of rich's or none.

    ``more`` is a last line, for what has no place.
    """

    title: str
    rows: Sequence[Sequence[str]]
    styles: Sequence[str]
    more: str = ""


Draw = Callable[[int], Frame]
"""Gives what to show now in at most so many rows."""


class LiveTable:
    """A table of what goes on elsewhere. It moves on a terminal; a log has a line per change."""

    def __init__(self, console: "Console", columns: Sequence[str]) -> None:
        self._console = console
        self._columns = columns
        self._draw: Draw | None = None
        self.moves = False

    def show(self, draw: Draw, changes: Sequence[str]) -> None:
        """Show from now on what *draw* gives; *changes* say in words what is new."""
        self._draw = draw
        for text in () if self.moves else changes:
            self._console.line(text)

    def drawn(self, lines: int) -> Group:
        """Return what there is to see now on a terminal with so many lines."""
        if self._draw is None:
            return Group()
        frame = self._draw(max(1, lines - AROUND_ROWS))
        table = Table(box=None, pad_edge=False)
        for column in self._columns:
            table.add_column(escape(column), no_wrap=True)
        for row, style in zip(frame.rows, frame.styles, strict=True):
            table.add_row(*(escape(cell) for cell in row), style=style)
        title, more = _cut(frame.title), _cut(frame.more)
        return Group(title, table, more) if frame.more else Group(title, table)


class Step:
    """A piece of work that is under way."""

    def __init__(
        self, console: "Console", title: str, progress: Progress | None, clock: Clock
    ) -> None:
        self._console = console
        self._title = title
        self._progress = progress
        self._clock = clock
        self._phase: tuple[str, float] | None = None
        self._task = None if progress is None else progress.add_task(escape(title), total=None)
        self.skipped: str | None = None

    def phase(self, name: str, done: int | None = None, total: int | None = None) -> None:
        """Say which part has begun, and how long the last one took if that was a while.

        *done* of *total* parts are behind.
        """
        now, last = self._clock(), self._phase
        self._phase = (name, now)
        if self._progress is None or self._task is None:
            part = "" if done is None or total is None else f" ({done + 1}/{total})"
            took = now - last[1] if last is not None else 0.0
            after = f", after {took:.0f} s of {last[0]}" if last and took >= WORTH_TELLING else ""
            self._console.line(f"  {self._title}: {name}{part}{after}")
        else:
            description = f"{escape(self._title)}: [cyan]{escape(name)}"
            self._progress.update(self._task, description=description, completed=done, total=total)

    def advance(self, amount: int, total: int) -> None:
        """Move the bar on by *amount* of *total*; plain output stays quiet."""
        if self._progress is not None and self._task is not None:
            self._progress.update(self._task, advance=amount, total=total)

    def skip(self, reason: str) -> None:
        """Say that there was nothing to do, and why."""
        self.skipped = reason


class Console:
    """Writes progress to standard error."""

    def __init__(
        self, *, rich_console: RichConsole | None = None, clock: Clock = time.monotonic
    ) -> None:
        self._rich = rich_console or RichConsole(stderr=True, highlight=False, soft_wrap=True)
        self._clock = clock
        self._nested = 0

    def line(self, text: str) -> None:
        """Write one line."""
        self._rich.print(escape(text))

    def warn(self, text: str) -> None:
        """Write one line that should not be overlooked."""
        self._rich.print(f"[yellow]{escape(text)}")

    def fail(self, text: str) -> None:
        """Write what went wrong."""
        self._rich.print(f"[red]{escape(text)}")

    @contextmanager
    def step(self, title: str) -> Iterator[Step]:
        """Show *title* while the block runs, and afterwards how it ended and how long it took."""
        started = self._clock()
        with self._live() as progress:
            step = Step(self, title, progress, self._clock)
            if progress is None:
                self.line(f"{title} ...")
            try:
                yield step
            except BaseException:
                self._ended("[red]failed", title, started, None)
                raise
        self._ended("[green]done", title, started, step.skipped)

    def table(self, title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """Write a table; nothing in it is folded or cut, so that digests can be copied."""
        table = Table(title=escape(title), title_justify="left", box=None, pad_edge=False)
        for column in columns:
            table.add_column(escape(column), no_wrap=True)
        for row in rows:
            table.add_row(*(escape(cell) for cell in row))
        # A table is as wide as its cells, also where the terminal is narrower.
        natural = table.__rich_measure__(self._rich, self._rich.options.update(width=WIDEST))
        wide = RichConsole(
            file=self._rich.file,
            force_terminal=self._rich.is_terminal,
            highlight=False,
            width=max(natural.maximum, self._rich.width),
        )
        wide.print(table)

    @contextmanager
    def live_table(self, columns: Sequence[str]) -> Iterator[LiveTable]:
        """Give a table that moves while the block runs, and is gone afterwards."""
        table = LiveTable(self, columns)
        if not self._may_move:
            yield table
            return
        self._nested += 1
        table.moves = True
        try:
            with Live(
                console=self._rich,
                get_renderable=lambda: table.drawn(self._rich.height),
                refresh_per_second=REFRESHES,
                transient=True,
            ):
                yield table
        finally:
            self._nested -= 1

    @property
    def _may_move(self) -> bool:
        return self._rich.is_terminal and not self._nested and not os.environ.get("CI")

    @contextmanager
    def _live(self) -> Iterator[Progress | None]:
        if not self._may_move:
            yield None
            return
        columns = (
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(),
            TimeElapsedColumn(),
        )
        self._nested += 1
        try:
            with Progress(*columns, console=self._rich, transient=True) as progress:
                yield progress
        finally:
            self._nested -= 1

    def _ended(self, how: str, title: str, started: float, skipped: str | None) -> None:
        seconds = self._clock() - started
        if skipped is not None:
            self._rich.print(f"[dim]{escape(title)}: {escape(skipped)}")
        else:
            self._rich.print(f"{how}[/] {escape(title)} ({seconds:.1f} s)")


def _cut(text: str) -> Text:
    """Return a line that is cut where the terminal ends."""
    return Text(text, no_wrap=True, overflow="ellipsis")
