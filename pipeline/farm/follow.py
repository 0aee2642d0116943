"""Follows a run on a farm until it has ended: one table, a log's end for each failure.

The network may go away at any time and the master be started anew: that is said once, and what was
shown stays until there is news again.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, TypeVar

from pydantic import BaseModel

from pipeline.effects.console import Console, Frame, LiveTable
from pipeline.effects.farm_api import Build, BuildRequest, Farm
from pipeline.effects.retry import RetryableError
from pipeline.errors import FarmError, JobsFailedError
from pipeline.farm import client
from pipeline.farm.client import COLUMNS, JobState, Row, Seen
from pipeline.farm.units import COLLECT, PREPARE
from pipeline.model.farm import Claims, Collected, Prepared

TAIL: Final = 50  # lines of a failed job's log
HISTORY: Final = 9  # successes that say how long a job takes
LONGEST_BACK_OFF: Final = 30.0  # seconds
STYLES: Final[Mapping[JobState, str]] = {
    JobState.WAITING: "dim",
    JobState.RUNNING: "cyan",
    JobState.DONE: "green",
    JobState.FAILED: "red",
    JobState.STOPPED: "yellow",
    JobState.UNCHANGED: "dim",
    JobState.UNNEEDED: "dim",
}

T = TypeVar("T")
M = TypeVar("M", bound=BaseModel)


@dataclass(frozen=True, kw_only=True)
class Reader:
    """Reads a run again and again; what never changes is asked for once."""

    farm: Farm
    request: int
    builders: dict[int, str] = field(default_factory=dict)
    workers: dict[int, str] = field(default_factory=dict)
    expected: dict[str, float | None] = field(default_factory=dict)
    documents: dict[int, BaseModel] = field(default_factory=dict)

    def read(self) -> Seen:
        """Return what the run is like now.

        Raises:
            RetryableError: the farm does not answer.
        """
        request = self.farm.request(self.request, ())
        own = self.farm.builds([self.request])
        children = self.farm.children([build.buildid for build in own], (client.UNIT,))
        builds = [*own, *self.farm.builds([child.buildrequestid for child in children])]
        prepared = self._made(Prepared, PREPARE, children, builds)
        self._learn_names(builds)
        self._learn_durations(prepared)
        running = [build.buildid for build in builds if not build.complete]
        return Seen(
            request=request,
            children=tuple(children),
            builds=tuple(builds),
            phases={build: client.running_phase(self.farm.steps(build)) for build in running},
            workers=self.workers,
            expected={job: took for job, took in self.expected.items() if took is not None},
            prepared=prepared,
            claims=self._claims(own, children),
            collected=self._made(Collected, COLLECT, children, builds),
        )

    def _made(
        self,
        model: type[M],
        unit: str,
        children: Sequence[BuildRequest],
        builds: Sequence[Build],
    ) -> M | None:
        """Return the document of the last try of a unit that succeeded."""
        requests = {child.buildrequestid for child in children if child.value(client.UNIT) == unit}
        good = [
            build.buildid
            for build in builds
            if build.buildrequestid in requests and build.results in client.GOOD
        ]
        if not good:
            return None
        return self._document(model, max(good), client.DOCUMENTS[unit])

    def _claims(self, own: Sequence[Build], children: Sequence[BuildRequest]) -> Claims | None:
        """Return what the last unit was given, which is there once it was asked for."""
        if not any(child.value(client.UNIT) == COLLECT for child in children):
            return None
        # A try that began again has them only when it has found its units.
        found = (self._document(Claims, build.buildid, client.CLAIMS) for build in own)
        return next((claims for claims in found if claims is not None), None)

    def _document(self, model: type[M], build: int, name: str) -> M | None:
        """Return the document in a property of a try; one that was found is not asked for again."""
        if build not in self.documents:
            value = self.farm.build(build, (name,)).value(name)
            document = client.read_document(model, value)
            if document is None:
                return None
            self.documents[build] = document
        found = self.documents[build]
        return found if isinstance(found, model) else None

    def _learn_names(self, builds: Sequence[Build]) -> None:
        if not self.builders:
            self.builders.update(self.farm.builders())
        if {build.workerid for build in builds} - {None, *self.workers}:
            self.workers.update({row.workerid: row.name for row in self.farm.workers()})

    def _learn_durations(self, prepared: Prepared | None) -> None:
        planned = [job.identifier for job in prepared.jobs] if prepared else []
        ids = {name: builder for builder, name in self.builders.items()}
        for job in (PREPARE, *planned, COLLECT):
            if job in ids and job not in self.expected:
                done = self.farm.successes(ids[job], limit=HISTORY, properties=(client.CLAIM,))
                self.expected[job] = client.expected_seconds(done)


@dataclass(frozen=True, kw_only=True)
class Ended:
    """A run that has ended well: its jobs, and what it made (None: nothing was to be made)."""

    rows: tuple[Row, ...]
    collected: Collected | None


@dataclass(frozen=True, kw_only=True)
class Follower:
    """Shows the run of one request, whose *name* is in the headline."""

    console: Console
    farm: Farm
    name: str
    request: int
    sleep: Callable[[float], None]
    reasons: dict[int, str] = field(default_factory=dict)

    def follow(self) -> Ended:
        """Show the run until it has ended.

        Raises:
            JobsFailedError: it has not ended well; each failed job is listed.
            FarmError: the farm says that it has, but not what was made.
        """
        with self.console.live_table(COLUMNS) as table:
            seen, rows = self._until_over(table)
        self._show(rows)
        return self._ended(seen, rows)

    def show_once(self) -> tuple[Row, ...]:
        """Show what the run is like now, and return it."""
        rows = client.rows_of(self._patiently(self._reader().read))
        self._show(rows)
        return rows

    def _show(self, rows: Sequence[Row]) -> None:
        lines = [client.cells(row, self.farm.now()) for row in rows]
        self.console.table("Jobs", COLUMNS, lines)
        self.console.line(client.title(self.name, rows))

    def _reader(self) -> Reader:
        return Reader(farm=self.farm, request=self.request)

    def _until_over(self, table: LiveTable) -> tuple[Seen, tuple[Row, ...]]:
        rows: tuple[Row, ...] = ()
        reader, wait = self._reader(), client.FIRST_WAIT
        while True:
            seen = self._patiently(reader.read)
            before, rows = rows, client.rows_of(seen, rows)
            table.show(self._draw(rows), client.news(before, rows))
            for row in rows:
                self._explain(row)
            if seen.is_over:
                return seen, rows
            wait = client.next_wait(wait, changed=rows != before)
            self.sleep(wait)

    def _draw(self, rows: Sequence[Row]) -> Callable[[int], Frame]:
        def draw(lines: int) -> Frame:
            shown, more = client.fitting(rows, lines)
            return Frame(
                title=client.title(self.name, rows),
                rows=[client.cells(row, self.farm.now()) for row in shown],
                styles=[STYLES[row.state] for row in shown],
                more=more,
            )

        return draw

    def _patiently(self, read: Callable[[], T]) -> T:
        """Return what *read* returns, however long the farm does not answer."""
        wait, lost = client.FIRST_WAIT, False
        while True:
            try:
                found = read()
            except RetryableError as error:
                if not lost:
                    self.console.warn(
                        f"{self.farm.address} does not answer ({error}). The run goes on there; "
                        "asking until it answers"
                    )
                lost = True
                self.sleep(min(error.wait or wait, LONGEST_BACK_OFF))
                wait = min(wait * 2, LONGEST_BACK_OFF)
            else:
                if lost:
                    self.console.line(f"{self.farm.address} answers again")
                return found

    def _explain(self, row: Row) -> None:
        """Show the end of a failed job's log, once."""
        request, build = row.request, row.build
        if row.state is not JobState.FAILED or not row.final or request is None or build is None:
            return
        if request in self.reasons:
            return
        try:
            tail = self._patiently(lambda: self._tail(build))
        except FarmError as error:
            self.console.warn(f"{row.job}: its log cannot be shown: {error}")
            tail = ()
        self.reasons[request] = client.reason_of(tail) or row.reason
        if tail:
            self.console.fail(f"{row.job} failed; the end of its log ({self._page(row)}):")
        for line in tail:
            self.console.line(f"  {line}")

    def _tail(self, build: int) -> tuple[str, ...]:
        for step in client.failed_steps(self.farm.steps(build)):
            if tail := self.farm.log_tail(step, TAIL):
                return tail
        return ()

    def _page(self, row: Row) -> str:
        return f"{self.farm.address}/{row.page}"

    def _ended(self, seen: Seen, rows: tuple[Row, ...]) -> Ended:
        failed = [
            client.failure_line(row, self.reasons.get(row.request or 0, ""), self._page(row))
            for row in client.failures(seen, rows)
        ]
        if not seen.is_good:
            listed = "\n".join(failed)
            msg = f"{self.name} has not ended well; what did not fail is kept.\n{listed}"
            raise JobsFailedError(msg)
        for line in failed:
            self.console.warn(f"done without {line}")
        if seen.collected is None and client.needs_result(seen):
            msg = (
                f"{self.farm.address}: says that {self.name} has ended well, but not what it made. "
                f"Look at {self.farm.address}/#/buildrequests/{self.request}."
            )
            raise FarmError(msg)
        return Ended(rows=rows, collected=seen.collected)
