"""Reads what a console writes to a file: stages that begin and end, and their phases. Pure.

The lines are those of :mod:`pipeline.effects.console` where there is no terminal. A line that is
none of them, as a log's, is passed over; what a worker writes decides nothing but what is shown.
"""

import re
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

_BEGUN: Final = re.compile(r"(?P<title>[a-z][\w .:/+()-]{0,199}) \.\.\.", re.ASCII)
_ENDED: Final = re.compile(r"(?P<how>done|failed) (?P<title>\S.*) \((?P<seconds>\d+\.\d) s\)")
_PHASE: Final = re.compile(
    r"(?P<phase>.*?)(?: \(\d+/\d+\))?(?:, after (?P<seconds>\d+) s of .*)?", re.ASCII
)
MOST_OPEN: Final = 50


class How(StrEnum):
    """How a stage ended."""

    DONE = "done"
    FAILED = "failed"
    SKIPPED = "skipped"


@dataclass(frozen=True)
class Begun:
    """A stage has begun."""

    title: str


@dataclass(frozen=True)
class Phase:
    """A phase of a stage has begun; the one before it took *seconds*, where that was a while."""

    title: str
    phase: str
    seconds: int | None = None


@dataclass(frozen=True)
class Ended:
    """A stage has ended: after how many seconds, or for which *reason* it was skipped."""

    title: str
    how: How
    seconds: float | None = None
    reason: str = ""


Event = Begun | Phase | Ended


@dataclass
class Progress:
    """The stages that are under way, as the lines told so far."""

    titles: list[str] = field(default_factory=list)

    def read(self, line: str) -> Event | None:
        """Take the next line; return what it says, if it says something."""
        line = line.rstrip()
        if (begun := _BEGUN.fullmatch(line)) is not None and len(self.titles) < MOST_OPEN:
            self.titles.append(begun["title"])
            return Begun(begun["title"])
        for title in reversed(self.titles):
            event = _said_of(title, line)
            if isinstance(event, Ended):
                self.titles.remove(title)
            if event is not None:
                return event
        return None


def _said_of(title: str, line: str) -> Phase | Ended | None:
    """Return what *line* says of the stage *title*."""
    if line.startswith(f"  {title}: "):
        found = _PHASE.fullmatch(line.removeprefix(f"  {title}: "))
        if found is None:
            return None
        seconds = found["seconds"]
        return Phase(title, found["phase"], None if seconds is None else int(seconds))
    if line.startswith(f"{title}: "):
        return Ended(title, How.SKIPPED, reason=line.removeprefix(f"{title}: "))
    ended = _ENDED.fullmatch(line)
    if ended is not None and ended["title"] == title:
        return Ended(title, How(ended["how"]), seconds=float(ended["seconds"]))
    return None
