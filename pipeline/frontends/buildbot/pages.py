"""Pages for monitors and the download site, on a port of their own."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any, Final, TypeVar

from buildbot.util.service import BuildbotService
from twisted.internet import defer, endpoints
from twisted.python import log
from twisted.web import resource, server

from pipeline.farm.operations import BADGE_PREFIX, GOOD, Measured, health
from pipeline.frontends.buildbot import pacing
from pipeline.frontends.buildbot.deferring import deferred
from pipeline.frontends.buildbot.gathering import Gatherer, Row, Watched
from pipeline.frontends.buildbot.notices import RESULTS
from pipeline.model.base import canonical_json, pretty_json

T = TypeVar("T")

PUBLIC_SECONDS: Final = 60
JSON: Final = "application/json"
METRICS: Final = "text/plain; version=0.0.4; charset=utf-8"
PLAIN: Final = "text/plain; charset=utf-8"


@dataclass(frozen=True)
class Answer:
    """An answer to a request over HTTP. What is ``public`` may be read by other sites' pages."""

    status: HTTPStatus
    content_type: str
    body: bytes
    public: bool = False


class Pages(resource.Resource):
    """Has every path answered by one function."""

    isLeaf = 1

    def __init__(self, answer: Callable[[str], Awaitable[Answer]]) -> None:
        super().__init__()
        self._answer = answer

    def render_GET(self, request: Any) -> int:
        """Begin to answer; HEAD comes here too."""
        gone = request.notifyFinish()
        gone.addErrback(lambda _lost: None)
        request.answering = self._respond(request, gone)
        return server.NOT_DONE_YET

    @deferred
    async def _respond(self, request: Any, gone: Any) -> None:
        try:
            answer = await self._answer(request.path.decode("utf-8", "replace"))
        except Exception:  # noqa: BLE001 - whatever it is, somebody waits for an answer
            log.err(None, "operations: cannot answer")
            answer = Answer(
                HTTPStatus.INTERNAL_SERVER_ERROR, PLAIN, b"The master's log says why.\n"
            )
        if gone.called:
            return
        request.setResponseCode(answer.status)
        request.setHeader("Content-Type", answer.content_type)
        request.setHeader("X-Content-Type-Options", "nosniff")
        cache = f"public, max-age={PUBLIC_SECONDS}" if answer.public else "no-store"
        request.setHeader("Cache-Control", cache)
        if answer.public:
            request.setHeader("Access-Control-Allow-Origin", "*")
        request.write(answer.body)
        request.finish()


class OperationsService(BuildbotService):
    """Serves ``/metrics``, ``/healthz``, ``/state.json`` and ``/badges/``."""

    name = "operations"

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._measured = Measured()
        self._gatherer: Any = None
        self._port: Any = None
        self._endpoint = ""
        self._consumers: list[Any] = []
        self._fresh: dict[str, tuple[float, Any]] = {}
        self._one_at_a_time = defer.DeferredLock()

    def checkConfig(self, endpoint: str, watched: Watched) -> None:
        """Accept an endpoint as Twisted describes it, and what to watch."""

    @deferred
    async def reconfigService(self, endpoint: str, watched: Watched) -> None:
        """Begin to watch and listen, or watch something else, or listen elsewhere."""
        self._fresh.clear()
        if self._gatherer is None:
            self._gatherer = Gatherer(self.master, watched, datetime.now(UTC))
            await self._consume()
        self._gatherer.watched = watched
        if endpoint != self._endpoint:
            await self._close()
            listening = endpoints.serverFromString(self.master.reactor, endpoint)
            self._port = await listening.listen(server.Site(Pages(self._answer)))
            self._endpoint = endpoint

    @deferred
    async def stopService(self) -> None:
        """Stop watching and listening."""
        for consumer in self._consumers:
            await consumer.stopConsuming()
        self._consumers.clear()
        await self._close()
        await super().stopService()

    async def _consume(self) -> None:
        for kind, event, receive in (
            ("builds", "finished", self._build_finished),
            ("steps", "finished", self._step_finished),
            ("workers", "disconnected", self._worker_left),
        ):
            consumer = await self.master.mq.startConsuming(receive, (kind, None, event))
            self._consumers.append(consumer)

    async def _close(self) -> None:
        port, self._port, self._endpoint = self._port, None, ""
        if port is not None:
            await defer.maybeDeferred(port.stopListening)

    @deferred
    async def _build_finished(self, _key: object, build: Row) -> None:
        builder = await self._gatherer.builder(build["builderid"])
        self._measured.build(builder, RESULTS[build["results"]], _seconds(build))

    def _step_finished(self, _key: object, step: Row) -> None:
        if RESULTS[step["results"]] in GOOD and not step["hidden"]:
            self._measured.phase(step["name"], _seconds(step))

    def _worker_left(self, _key: object, worker: Row) -> None:
        self._gatherer.worker_left(worker["name"])

    async def _answer(self, path: str) -> Answer:
        """Return the answer to one path."""
        match path.split("/")[1:]:
            case ["metrics"]:
                return await self._metrics()
            case ["healthz"]:
                return await self._health()
            case ["state.json"]:
                state = await self._kept("state", self._gatherer.build_state)
                return Answer(HTTPStatus.OK, JSON, pretty_json(state), public=True)
            case [directory, name] if directory == BADGE_PREFIX:
                badge = (await self._kept("badges", self._gatherer.badges)).get(name)
                if badge is not None:
                    return Answer(HTTPStatus.OK, JSON, canonical_json(badge), public=True)
        return Answer(HTTPStatus.NOT_FOUND, PLAIN, b"There is no such page.\n")

    async def _metrics(self) -> Answer:
        state = await self._gatherer.state()
        text = self._measured.render(state, self._gatherer.watched.alarm_seconds)
        return Answer(HTTPStatus.OK, METRICS, text)

    async def _health(self) -> Answer:
        state = await self._gatherer.state()
        found = health(state, self._gatherer.watched.alarm_seconds)
        status = HTTPStatus.OK if found.healthy else HTTPStatus.SERVICE_UNAVAILABLE
        return Answer(status, JSON, pretty_json(found))

    async def _kept(self, name: str, make: Callable[[], Awaitable[T]]) -> T:
        """Return what *make* gives, or gave a moment ago."""
        await self._one_at_a_time.acquire()
        try:
            now = self.master.reactor.seconds()
            if name not in self._fresh or now - self._fresh[name][0] >= pacing.FRESH_SECONDS:
                self._fresh[name] = (now, await make())
            found: T = self._fresh[name][1]
        finally:
            self._one_at_a_time.release()
        return found


def _seconds(row: Row) -> float:
    """Return how long a build or step took."""
    return max(0.0, float((row["complete_at"] - row["started_at"]).total_seconds()))
