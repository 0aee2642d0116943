"""The plan as a Buildbot master: the only module that builds on Buildbot's classes (GPL-2.0)."""

from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from typing import Any, Final, TypeVar
from urllib.parse import urlsplit, urlunsplit

from buildbot.configurators import janitor
from buildbot.data.resultspec import Filter
from buildbot.process.results import EXCEPTION, FAILURE
from buildbot.reporters.base import ReporterBase
from buildbot.reporters.generators.build import BuildStatusGenerator
from buildbot.reporters.mail import MailNotifier
from buildbot.reporters.message import MessageFormatterBase
from buildbot.reporters.utils import getURLForBuild
from buildbot.util import service
from buildbot.util.httpclientservice import HTTPSession
from sqlalchemy.exc import SQLAlchemyError
from twisted.internet import defer, endpoints, task
from twisted.internet.error import ConnectError, ConnectionClosed, DNSLookupError
from twisted.python import log
from twisted.web import resource, server
from twisted.web.client import ResponseFailed

from pipeline.config import load_config
from pipeline.farm import operations as told
from pipeline.farm.operations import Notice, Result
from pipeline.farm.settings import MasterSettings, secret
from pipeline.farm.units import RELEASE, STALE
from pipeline.model.base import canonical_json, pretty_json
from pipeline.model.farm import FarmConfig


def master_config(settings: MasterSettings) -> dict[str, Any]:
    """Return ``BuildmasterConfig`` for the farm of the project in ``settings.root``.

    Raises:
        ConfigError: a file of ``translation_configs/`` or a secret is not as it must be.
    """
    raise NotImplementedError(settings)


# Operations: metrics, health, messages of failures, retention. Nothing above depends on it.

T = TypeVar("T")

RESULTS: Final = tuple(Result)
JANITOR_HOUR: Final = 5
RUNS_LOOKED_AT: Final = 200
BUILDS_LOOKED_AT: Final = 10
FRESH_SECONDS: Final = 15.0
"""For how long what the public may ask for is not asked of the database again."""
PUBLIC_SECONDS: Final = 60
WEBHOOK_SECONDS: Final = 30
WEBHOOK_PAUSES: Final = (0, 5, 30)
NOT_DELIVERED: Final = (
    ConnectError,
    ConnectionClosed,
    DNSLookupError,
    ResponseFailed,
    defer.CancelledError,
    OSError,
)


def operations(settings: MasterSettings, farm: FarmConfig) -> dict[str, Any]:
    """Return what operations add to ``BuildmasterConfig``: ``services`` and ``configurators``.

    Raises:
        ConfigError: a file of ``translation_configs/`` or the webhook's secret is not as it must be.
    """
    config = load_config(settings.root / "translation_configs")
    watched = Watched(
        jobs=told.job_names(config),
        required=told.required_workers(farm),
        alarm_seconds=farm.alarm_seconds,
        stale_days=config.channels.nightly.stale_after_days,
    )
    services: list[Any] = []
    if settings.operations is not None:
        services.append(OperationsService(endpoint=settings.operations, watched=watched))
    if farm.mail is not None:
        services.append(
            MailNotifier(
                farm.mail.sender,
                relayhost=farm.mail.server,
                smtpPort=farm.mail.port,
                sendToInterestedUsers=False,
                extraRecipients=list(farm.mail.recipients),
                generators=[FailureGenerator(watched.jobs)],
            )
        )
    if farm.webhook is not None:
        services.append(
            WebhookReporter(
                url=secret(settings, farm.webhook), generators=[FailureGenerator(watched.jobs)]
            )
        )
    horizon = timedelta(days=farm.log_days)
    keeper = janitor.JanitorConfigurator(
        logHorizon=horizon, build_data_horizon=horizon, hour=JANITOR_HOUR
    )
    return {"services": services, "configurators": [keeper]}


@dataclass(frozen=True, kw_only=True)
class Watched:
    """What operations must know of the farm: identifiers, workers, and when to call somebody."""

    jobs: Mapping[str, tuple[str, str]]
    required: frozenset[str]
    alarm_seconds: float
    stale_days: int


@dataclass(frozen=True)
class Answer:
    """An answer to a request over HTTP. What is ``public`` may be read by other sites' pages."""

    status: HTTPStatus
    content_type: str
    body: bytes
    public: bool = False


class OperationsPages(resource.Resource):
    """Gives every path to one function."""

    isLeaf = True

    def __init__(self, answer: Callable[[str], Awaitable[Answer]]) -> None:
        super().__init__()
        self._answer = answer

    def render_GET(self, request: server.Request) -> int:
        """Begin to answer; HEAD comes here too."""
        gone = request.notifyFinish()
        gone.addErrback(lambda _: None)
        defer.ensureDeferred(self._respond(request)).addErrback(log.err)
        return server.NOT_DONE_YET

    async def _respond(self, request: server.Request) -> None:
        try:
            answer = await self._answer(request.path.decode("utf-8", "replace"))
        except Exception:  # noqa: BLE001 - whatever it is, somebody waits for an answer
            log.err(None, "operations: cannot answer")
            answer = Answer(HTTPStatus.INTERNAL_SERVER_ERROR, "text/plain", b"See the log.\n")
        if request.finished or request._disconnected:  # noqa: SLF001 - no public name tells it
            return
        request.setResponseCode(answer.status)
        request.setHeader("Content-Type", answer.content_type)
        cache = f"public, max-age={PUBLIC_SECONDS}" if answer.public else "no-store"
        request.setHeader("Cache-Control", cache)
        request.setHeader("X-Content-Type-Options", "nosniff")
        if answer.public:
            request.setHeader("Access-Control-Allow-Origin", "*")
        request.write(answer.body)
        request.finish()


class OperationsService(service.BuildbotService):
    """Serves ``/metrics``, ``/healthz``, ``/state.json`` and ``/badges/`` on a port of its own."""

    name = "operations"

    def checkConfig(self, endpoint: str, watched: Watched) -> None:
        """Accept what :func:`operations` gives."""

    def reconfigService(self, endpoint: str, watched: Watched) -> defer.Deferred[None]:
        """Listen, or listen elsewhere."""
        return defer.ensureDeferred(self._reconfigure(endpoint, watched))

    def stopService(self) -> defer.Deferred[None]:
        """Stop listening."""
        return defer.ensureDeferred(self._stop())

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self._port: Any = None
        self._endpoint = ""
        self._consumers: list[Any] = []
        self._measured = told.Measured()
        self._started_at = datetime.now(UTC)
        self._seen: dict[str, datetime] = {}
        self._names: dict[int, str] = {}
        self._reports: dict[int, tuple[told.RunReport | None, Mapping[str, object]]] = {}
        self._fresh: dict[str, tuple[float, Any]] = {}
        self._one_at_a_time = defer.DeferredLock()

    async def _reconfigure(self, endpoint: str, watched: Watched) -> None:
        self._watched = watched
        self._fresh, self._reports = {}, {}
        if not self._consumers:
            for kind, event, receive in (
                ("builds", "finished", self._build_finished),
                ("steps", "finished", self._step_finished),
                ("workers", "disconnected", self._worker_left),
            ):
                consumer = await self.master.mq.startConsuming(receive, (kind, None, event))
                self._consumers.append(consumer)
        if endpoint != self._endpoint:
            await self._close()
            site = server.Site(OperationsPages(self._answer))
            listening = endpoints.serverFromString(self.master.reactor, endpoint)
            self._port, self._endpoint = await listening.listen(site), endpoint

    async def _stop(self) -> None:
        for consumer in self._consumers:
            await consumer.stopConsuming()
        self._consumers = []
        await self._close()
        await super().stopService()

    async def _close(self) -> None:
        port, self._port, self._endpoint = self._port, None, ""
        if port is not None:
            await defer.maybeDeferred(port.stopListening)

    # What happens meanwhile

    def _build_finished(self, _key: object, build: Mapping[str, Any]) -> Any:
        return defer.ensureDeferred(self._count(build))

    async def _count(self, build: Mapping[str, Any]) -> None:
        builder = await self._builder(build["builderid"])
        seconds = (build["complete_at"] - build["started_at"]).total_seconds()
        self._measured.build(builder, RESULTS[build["results"]], max(0.0, seconds))

    def _step_finished(self, _key: object, step: Mapping[str, Any]) -> None:
        if RESULTS[step["results"]] in told.GOOD and not step["hidden"]:
            seconds = (step["complete_at"] - step["started_at"]).total_seconds()
            self._measured.phase(step["name"], max(0.0, seconds))

    def _worker_left(self, _key: object, worker: Mapping[str, Any]) -> None:
        self._seen[worker["name"]] = datetime.now(UTC)

    # What is asked for

    async def _answer(self, path: str) -> Answer:
        """Return the answer to one path."""
        if path == "/metrics":
            text = self._measured.render(await self._state(), self._watched.alarm_seconds)
            return Answer(HTTPStatus.OK, "text/plain; version=0.0.4; charset=utf-8", text)
        if path == "/healthz":
            found = told.health(await self._state(), self._watched.alarm_seconds)
            status = HTTPStatus.OK if found.healthy else HTTPStatus.SERVICE_UNAVAILABLE
            return Answer(status, "application/json", pretty_json(found))
        if path == "/state.json":
            state = await self._kept("state", self._build_state)
            return Answer(HTTPStatus.OK, "application/json", pretty_json(state), public=True)
        if path.startswith(f"/{told.BADGE_PREFIX}/"):
            all_badges = await self._kept("badges", self._badges)
            badge = all_badges.get(path.removeprefix(f"/{told.BADGE_PREFIX}/"))
            if badge is not None:
                return Answer(HTTPStatus.OK, "application/json", canonical_json(badge), public=True)
        return Answer(HTTPStatus.NOT_FOUND, "text/plain", b"There is no such page.\n")

    async def _kept(self, name: str, make: Callable[[], Awaitable[T]]) -> T:
        """Return what *make* gives, or gave a moment ago."""
        await self._one_at_a_time.acquire()
        try:
            now = self.master.reactor.seconds()
            made_at, value = self._fresh.get(name, (-FRESH_SECONDS, None))
            if now - made_at >= FRESH_SECONDS:
                value = await make()
                self._fresh[name] = (now, value)
        finally:
            self._one_at_a_time.release()
        found: T = value
        return found

    async def _state(self) -> told.FarmState:
        state = told.FarmState(
            at=datetime.now(UTC),
            started_at=self._started_at,
            database=False,
            workers=self._workers({}, {}),
        )
        asking = defer.ensureDeferred(self._asked(state))
        asking.addTimeout(told.DATABASE_SECONDS, self.master.reactor)
        with suppress(SQLAlchemyError, defer.TimeoutError):
            state = await asking
        return state

    async def _asked(self, state: told.FarmState) -> told.FarmState:
        """Return *state* with what the database knows."""
        get = self.master.data.get
        rows = await get(("workers",))
        builds = await get(("builds",), filters=[Filter("complete", "eq", [False])])
        requests = await get(
            ("buildrequests",),
            filters=[Filter("complete", "eq", [False]), Filter("claimed", "eq", [False])],
        )
        running: dict[str, int] = {}
        busy: dict[int, int] = {}
        for build in builds:
            builder = await self._builder(build["builderid"])
            running[builder] = running.get(builder, 0) + 1
            busy[build["workerid"]] = busy.get(build["workerid"], 0) + 1
        workers = self._workers(
            {row["name"]: row["paused"] for row in rows},
            {row["name"]: busy.get(row["workerid"], 0) for row in rows},
        )
        update = {
            "database": True,
            "workers": workers,
            "running": running,
            "requests": await self._requests(requests, workers, state.at),
        }
        return state.model_copy(update=update)

    def _workers(
        self, paused: Mapping[str, bool], running: Mapping[str, int]
    ) -> tuple[told.WorkerState, ...]:
        now = datetime.now(UTC)
        return tuple(
            told.WorkerState(
                name=name,
                connected=worker.conn is not None,
                paused=paused.get(name, False),
                required=name in self._watched.required,
                last_seen=now if worker.conn is not None else self._seen.get(name),
                running=running.get(name, 0),
            )
            for name, worker in sorted(self.master.workers.workers.items())
        )

    async def _requests(
        self,
        requests: list[Mapping[str, Any]],
        workers: tuple[told.WorkerState, ...],
        now: datetime,
    ) -> tuple[told.RequestState, ...]:
        names = [request["buildrequestid"] for request in requests]
        filters = [Filter("buildrequestid", "eq", names)]
        tried = await self.master.data.get(("builds",), filters=filters) if names else []
        attempts: dict[int, int] = {}
        for build in tried:
            attempts[build["buildrequestid"]] = attempts.get(build["buildrequestid"], 0) + 1
        able = {row.name for row in workers if not row.paused and _may_come(self.master, row)}
        found = []
        for request in requests:
            builder = await self._builder(request["builderid"])
            found.append(
                told.RequestState(
                    builder=builder,
                    waiting=max(0.0, (now - request["submitted_at"]).total_seconds()),
                    has_worker=bool(able & _workers_of(self.master, builder)),
                    attempts=attempts.get(request["buildrequestid"], 0),
                )
            )
        return tuple(found)

    async def _badges(self) -> dict[str, told.Badge]:
        reports = [report for report, _ in (await self._runs()).values() if report is not None]
        interpreters = dict.fromkeys(name for name, _ in self._watched.jobs.values())
        return told.badges(reports, interpreters, datetime.now(UTC), self._watched.stale_days)

    async def _build_state(self) -> told.BuildState:
        prepared = {
            properties["run"]: properties.get("prepared")
            for _, properties in (await self._runs()).values()
            if "run" in properties
        }
        jobs = []
        for builder, (interpreter, platform) in self._watched.jobs.items():
            row = told.JobReport(interpreter=interpreter, platform=platform)
            for build in await self._finished(builder, BUILDS_LOOKED_AT):
                if (result := RESULTS[build["results"]]) in told.SAYS_NOTHING:
                    continue
                run = (await self._properties(build)).get("run")
                release = told.release_of(interpreter, prepared.get(run))
                row = told.JobReport(
                    interpreter=interpreter,
                    platform=platform,
                    result=result,
                    release=release,
                    revision=told.revision_of(release),
                    at=build["complete_at"],
                    url=getURLForBuild(self.master, build["builderid"], build["number"]),
                )
                break
            jobs.append(row)
        return told.BuildState(at=datetime.now(UTC), jobs=tuple(jobs))

    async def _runs(self) -> Mapping[int, tuple[told.RunReport | None, Mapping[str, object]]]:
        """Return the last finished runs, the newest first, each with its properties."""
        known, self._reports = self._reports, {}
        for build in await self._finished(RELEASE, RUNS_LOOKED_AT):
            number = build["buildid"]
            self._reports[number] = known.get(number) or await self._run(build)
        return self._reports

    async def _run(
        self, build: Mapping[str, Any]
    ) -> tuple[told.RunReport | None, Mapping[str, object]]:
        properties = await self._properties(build)
        report = _report(self.master, build, properties, self._watched.jobs)
        return report, {name: properties.get(name) for name in ("run", "prepared")}

    async def _finished(self, builder: str, limit: int) -> list[Mapping[str, Any]]:
        found: list[Mapping[str, Any]] = await self.master.data.get(
            ("builders", builder, "builds"),
            filters=[Filter("complete", "eq", [True])],
            order=["-number"],
            limit=limit,
        )
        return found

    async def _properties(self, build: Mapping[str, Any]) -> Mapping[str, object]:
        rows = await self.master.data.get(("builds", build["buildid"], "properties"))
        return {name: value for name, (value, _source) in rows.items()}

    async def _builder(self, number: int) -> str:
        if number not in self._names:
            row = await self.master.data.get(("builders", number))
            self._names[number] = row["name"]
        return self._names[number]


def _may_come(master: Any, worker: told.WorkerState) -> bool:
    """Tell whether a worker is there, or can be started."""
    return worker.connected or hasattr(master.workers.workers[worker.name], "substantiate")


def _workers_of(master: Any, builder: str) -> set[str]:
    """Return the workers that a builder is configured for; none if it is no longer there."""
    found = master.botmaster.builders.get(builder)
    return (
        set(found.config.workernames) if found is not None and found.config is not None else set()
    )


def _report(
    master: Any,
    build: Mapping[str, Any],
    properties: Mapping[str, object],
    jobs: Mapping[str, tuple[str, str]],
) -> told.RunReport | None:
    """Return what is told of a finished build of builder ``release``."""
    return told.run_report(
        properties,
        jobs,
        result=RESULTS[build["results"]],
        at=build["complete_at"],
        url=getURLForBuild(master, build["builderid"], build["number"]),
    )


class NoticeFormatter(MessageFormatterBase):
    """Says what :mod:`pipeline.farm.operations` says of a failure."""

    def __init__(self, jobs: Mapping[str, tuple[str, str]]) -> None:
        super().__init__(want_properties=True)
        self._jobs = jobs

    def notice(self, master: Any, build: Mapping[str, Any]) -> Notice | None:
        """Return what is told of a finished build, None if it is nobody's concern."""
        if build["builder"]["name"] == STALE:
            url = getURLForBuild(master, build["builderid"], build["number"])
            return told.stale_notice(build["state_string"], at=build["complete_at"], url=url)
        properties = {name: value for name, (value, _source) in build["properties"].items()}
        report = _report(master, build, properties, self._jobs)
        return told.notice(report) if report is not None else None

    def format_message_for_build(
        self, master: Any, build: Mapping[str, Any], **_kwargs: Any
    ) -> dict[str, Any]:
        """Return the message as reporters take it."""
        found = self.notice(master, build)
        return {
            "body": found.text if found is not None else None,
            "type": "plain",
            "subject": found.subject if found is not None else None,
            "extra_info": {"notice": {"url": found.url}} if found is not None else None,
        }


class FailureGenerator(BuildStatusGenerator):
    """Reports nightlies that failed, each once, and when a nightly becomes stale."""

    def __init__(self, jobs: Mapping[str, tuple[str, str]]) -> None:
        self._notices = NoticeFormatter(jobs)
        super().__init__(
            mode=("failing", "exception"),
            builders=[RELEASE, STALE],
            message_formatter=self._notices,
        )

    def _want_previous_build(self) -> bool:
        return True

    def is_message_needed_by_results(self, build: Mapping[str, Any]) -> bool:
        """Tell whether to report: failures, of builder ``stale`` the first of several."""
        if build["results"] not in (FAILURE, EXCEPTION):
            return False
        previous = build["prev_build"]
        if build["builder"]["name"] == STALE and previous is not None:
            return previous["results"] != build["results"]
        return self._notices.notice(self._master, build) is not None

    @defer.inlineCallbacks
    def generate(self, master: Any, reporter: Any, key: Any, build: Any) -> Any:
        """Report one build, or nothing."""
        self._master = master
        report = yield super().generate(master, reporter, key, build)
        return report


class WebhookReporter(ReporterBase):
    """Posts failures as JSON to a URL, which is a secret: it is not logged."""

    name = "webhook"

    def checkConfig(self, url: str, generators: list[Any]) -> None:
        """Accept a URL of HTTP."""
        super().checkConfig(generators=generators)

    def reconfigService(self, url: str, generators: list[Any]) -> defer.Deferred[None]:
        """Take another URL."""
        parts = urlsplit(url)
        self._path = urlunsplit(("", "", parts.path or "/", parts.query, ""))
        self._session = HTTPSession(self.master.httpservice, f"{parts.scheme}://{parts.netloc}")
        return super().reconfigService(generators=generators)

    def sendMessage(self, reports: list[Mapping[str, Any]]) -> defer.Deferred[None]:
        """Post each report, a few times if it is not taken."""
        return defer.ensureDeferred(self._post_all(reports))

    async def _post_all(self, reports: list[Mapping[str, Any]]) -> None:
        for report in reports:
            url = report["extra_info"]["notice"]["url"]
            notice = Notice(subject=report["subject"], text=report["body"], url=url)
            await self._post(told.webhook_body(notice).model_dump())

    async def _post(self, body: dict[str, str]) -> None:
        problem = ""
        for pause in WEBHOOK_PAUSES:
            await task.deferLater(self.master.reactor, pause)
            try:
                response = await self._session.post(self._path, json=body, timeout=WEBHOOK_SECONDS)
            except NOT_DELIVERED as error:
                problem = type(error).__name__
                continue
            if HTTPStatus.OK <= response.code < HTTPStatus.MULTIPLE_CHOICES:
                return
            problem = f"status {response.code}"
        log.msg(f"webhook: not delivered ({problem}): {body['subject']}")
