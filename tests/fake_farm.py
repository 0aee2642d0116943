"""A farm in memory: its requests, tries, steps and logs are what a test puts there."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pipeline.effects.farm_api import (
    Build,
    BuildRequest,
    BuildStep,
    MasterState,
    WorkerState,
)
from pipeline.effects.retry import RetryableError
from pipeline.model.farm import Claims, Collected, Prepared, PreparedJob, Submission
from pipeline.model.platforms import Mode
from tests.factories import digest

START = 1_800_000_000.0
BUILDERS = {1: "release", 2: "prepare", 3: "demo-linux-x86_64", 4: "demo-linux-i686", 5: "collect"}
WORKERS = {1: "coordinator", 2: "signer", 3: "worker-1"}


def said(**properties: Any) -> dict[str, Any]:
    """Return properties as Buildbot has them, each with who set it."""
    return {name: [value, "farm"] for name, value in properties.items()}


def make_submission(name: str = "demo", **changed: Any) -> Submission:
    """Return a submission of this name."""
    return Submission.model_validate({"request": name, "channel": "release", **changed})


def make_request(number: int, **changed: Any) -> BuildRequest:
    """Return a request for a run that nobody has begun."""
    fields = {
        "buildrequestid": number,
        "buildsetid": number,
        "builderid": 1,
        "complete": False,
        "submitted_at": START + number,
        "properties": said(submission=make_submission().model_dump_json()),
    }
    return BuildRequest.model_validate({**fields, **changed})


def make_unit(number: int, unit: str, **changed: Any) -> BuildRequest:
    """Return a request for a unit of a run."""
    builder = next(builder for builder, name in BUILDERS.items() if name == unit)
    return make_request(number, builderid=builder, properties=said(unit=unit), **changed)


def make_build(number: int, request: int, **changed: Any) -> Build:
    """Return a try that is under way."""
    fields = {
        "buildid": number,
        "number": number,
        "builderid": 3,
        "buildrequestid": request,
        "workerid": 3,
        "started_at": START + 10 * number,
        "complete": False,
    }
    return Build.model_validate({**fields, **changed})


def ended(results: int, at: float = START + 100) -> dict[str, Any]:
    """Return the fields of what has ended with these results."""
    return {"complete": True, "results": results, "complete_at": at}


def make_step(number: int, name: str, **changed: Any) -> BuildStep:
    """Return a step that is under way."""
    fields = {"stepid": number, "number": number, "name": name, "started_at": START}
    return BuildStep.model_validate({**fields, "complete": False, **changed})


def make_job(identifier: str, *, is_done: bool = False) -> PreparedJob:
    """Return a job of the demo."""
    interpreter, _, platform = identifier.partition("-")
    return PreparedJob(
        identifier=identifier,
        interpreter=interpreter,
        platform=platform,
        mode=Mode.NATIVE,
        os="linux",
        machine="x86_64",
        memory=2,
        last="translate",
        key=None,
        is_done=is_done,
    )


def make_prepared(*jobs: PreparedJob, unchanged: tuple[str, ...] = ()) -> Prepared:
    """Return what a run has prepared."""
    releases = ("demo-v1.0.0",) if jobs else ()
    return Prepared(run="r1-1800000001", releases=releases, jobs=jobs, unchanged=unchanged)


def make_collected() -> Collected:
    """Return what a run has made."""
    file = {
        "filename": "demo-v1.0.0-linux64.tar.gz",
        "kind": "archive-tar-gz",
        "platform": "linux-x86_64",
        "size": 7,
        "sha256": digest("demo"),
    }
    release = {"release": "demo-v1.0.0", "is_new": True, "files": [file]}
    return Collected.model_validate(
        {
            "run": "r1-1800000001",
            "channel": "release",
            "releases": [release],
            "at": "2027-01-15T08:00:00Z",
        }
    )


def make_claims(**failed: str) -> Claims:
    """Return what the last unit was given: the jobs that failed, and why."""
    rows = [{"identifier": name.replace("__", "-"), "reason": why} for name, why in failed.items()]
    return Claims.model_validate({"run": "r1-1800000001", "claims": [], "failed": rows})


@dataclass
class FakeFarm:
    """Answers from what it holds; *broken* questions in a row are not answered."""

    rows: dict[int, BuildRequest] = field(default_factory=dict)
    parents: dict[int, int] = field(default_factory=dict)
    tries: dict[int, Build] = field(default_factory=dict)
    made: dict[int, dict[str, Any]] = field(default_factory=dict)
    under: dict[int, list[BuildStep]] = field(default_factory=dict)
    logs: dict[int, tuple[str, ...]] = field(default_factory=dict)
    history: dict[int, tuple[Build, ...]] = field(default_factory=dict)
    builder_names: Mapping[int, str] = field(default_factory=lambda: BUILDERS)
    broken: int = 0
    asked_for: list[str] = field(default_factory=list)
    at: float = START + 200
    on_submit: Callable[[Submission], int] | None = None
    on_stop: Callable[[int], None] = lambda _number: None

    address: str = "https://farm.test"

    def add(self, *requests: BuildRequest, parent: int | None = None) -> None:
        """Put requests there, made by the try *parent*."""
        for request in requests:
            self.rows[request.buildrequestid] = request
            if parent is not None:
                self.parents[request.buildrequestid] = parent

    def begin(self, *builds: Build) -> None:
        """Put tries there."""
        self.tries |= {build.buildid: build for build in builds}

    def now(self) -> float:
        """Return the time."""
        return self.at

    def login(self, user: str, password: str) -> None:
        """Let everybody in."""
        self._ask(f"login {user} {password}")

    def builders(self) -> Mapping[int, str]:
        """Return the builders."""
        self._ask("builders")
        return self.builder_names

    def requests_of(
        self, builder: int, *, complete: bool, limit: int, properties: Sequence[str]
    ) -> tuple[BuildRequest, ...]:
        """Return requests, the newest first."""
        self._ask(f"requests {builder} {properties}")
        found = [row for row in self.rows.values() if row.builderid == builder]
        chosen = [row for row in found if row.complete == complete]
        return tuple(sorted(chosen, key=lambda row: -row.buildrequestid)[:limit])

    def open_requests(self, limit: int) -> tuple[BuildRequest, ...]:
        """Return what is not complete."""
        self._ask("open")
        return tuple(row for row in self.rows.values() if not row.complete)[:limit]

    def request(self, request: int, properties: Sequence[str]) -> BuildRequest:
        """Return one request."""
        self._ask(f"request {request} {properties}")
        return self.rows[request]

    def children(self, builds: Sequence[int], properties: Sequence[str]) -> list[BuildRequest]:
        """Return what these tries asked for."""
        self._ask(f"children {builds} {properties}")
        return [row for number, row in self.rows.items() if self.parents.get(number) in builds]

    def builds(self, requests: Sequence[int]) -> list[Build]:
        """Return the tries at these requests."""
        self._ask(f"builds {requests}")
        return [build for build in self.tries.values() if build.buildrequestid in requests]

    def running(self) -> tuple[Build, ...]:
        """Return what is under way."""
        self._ask("running")
        return tuple(build for build in self.tries.values() if not build.complete)

    def build(self, build: int, properties: Sequence[str]) -> Build:
        """Return one try with its properties."""
        self._ask(f"build {build}")
        made = self.made.get(build, {})
        return self.tries[build].model_copy(
            update={"properties": said(**{name: made.get(name) for name in properties})}
        )

    def successes(
        self, builder: int, *, limit: int, properties: Sequence[str]
    ) -> tuple[Build, ...]:
        """Return earlier successes."""
        self._ask(f"successes {builder} {properties}")
        return self.history.get(builder, ())[:limit]

    def steps(self, build: int) -> tuple[BuildStep, ...]:
        """Return the steps of a try."""
        self._ask(f"steps {build}")
        return tuple(self.under.get(build, ()))

    def log_tail(self, step: int, lines: int) -> tuple[str, ...]:
        """Return the end of a log."""
        self._ask(f"log {step}")
        return self.logs.get(step, ())[-lines:]

    def workers(self) -> tuple[WorkerState, ...]:
        """Return the workers, all connected."""
        self._ask("workers")
        rows = [
            {"workerid": number, "name": name, "connected_to": [{"masterid": 1}]}
            for number, name in WORKERS.items()
        ]
        return tuple(WorkerState.model_validate(row) for row in rows)

    def masters(self) -> tuple[MasterState, ...]:
        """Return the one master."""
        self._ask("masters")
        return (MasterState(name="master", active=True),)

    def submit(self, builder: int, submission: Submission, *, priority: int, reason: str) -> int:
        """Take a submission."""
        self._ask(f"submit {builder} {submission.request} {priority} {reason}")
        if self.on_submit is not None:
            return self.on_submit(submission)
        number = max(self.rows, default=0) + 1
        properties = said(submission=submission.model_dump_json())
        self.add(make_request(number, properties=properties))
        return number

    def stop_build(self, build: int, reason: str) -> None:
        """Stop a try."""
        self._ask(f"stop build {build}: {reason}")
        self.on_stop(build)

    def cancel_request(self, request: int, reason: str) -> None:
        """Take back a request."""
        self._ask(f"cancel request {request}: {reason}")
        self.on_stop(request)

    def _ask(self, what: str) -> None:
        if self.broken:
            self.broken -= 1
            msg = "Connection refused"
            raise RetryableError(msg)
        self.asked_for.append(what)
