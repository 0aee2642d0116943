"""A farm's master, through Buildbot's REST API (docs.buildbot.net/4.3.0/developer/rest.html).

Reading is open to all; who asks for work or stops it logs in first and gets a cookie, which
outlives a restart of the master. What is read was written by workers too: fields are typed and
unknown ones ignored, sizes have limits, and text that people see has no control characters.
"""

import json
import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from ipaddress import ip_address
from typing import Annotated, Any, Final, Protocol, TypeVar
from urllib.parse import quote, urlsplit

import requests
from pydantic import AfterValidator, BaseModel, ConfigDict, TypeAdapter, ValidationError
from requests.auth import AuthBase, HTTPBasicAuth

from pipeline.effects.files import CHUNK
from pipeline.effects.retry import (
    RETRIED_STATUS,
    GaveUpError,
    RetryableError,
    RetryPolicy,
    asked_wait,
)
from pipeline.errors import FarmError, FarmLoginError
from pipeline.model.farm import Submission

TIMEOUTS: Final = (10.0, 30.0)  # seconds, for connecting and for reading
LARGEST_ANSWER: Final = 16 * 1024 * 1024  # bytes
LONGEST_TEXT: Final = 500  # characters of what is shown on one line
MOST_IDS: Final = 100  # in one address
HEADER: Final = "h"  # how Buildbot marks its own lines in a log of a process
STREAMED: Final = "s"  # the kind of log whose lines begin with such a mark
SCHEDULER: Final = "submit"
SAME_CLOCK: Final = 2.0  # seconds: a Date header has whole ones only

T = TypeVar("T")
Query = Sequence[tuple[str, str | int]]

logger = logging.getLogger(__name__)


def as_line(text: str) -> str:
    """Return *text* as one line that a terminal only shows, cut where it gets too long."""
    shown = "".join(char if char.isprintable() else " " for char in text[:LONGEST_TEXT])
    return shown if len(text) <= LONGEST_TEXT else f"{shown} ..."


Line = Annotated[str, AfterValidator(as_line)]


class _Answer(BaseModel):
    """Something of Buildbot's; its versions add fields, so unknown ones are not read.

    Times are in seconds since 1970, by the master's clock.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")


class _WithProperties(_Answer):
    """What has properties; of a request they are those it was asked with."""

    properties: dict[str, Any] | None = None

    def value(self, name: str) -> Any:
        """Return a property's value, or None; whoever made it may have put anything there."""
        match (self.properties or {}).get(name):
            case [value, _source]:
                return value
            case _:
                return None


class BuildRequest(_WithProperties):
    """Work that was asked for. It is tried until one try counts; only then it is ``complete``."""

    buildrequestid: int
    buildsetid: int
    builderid: int
    complete: bool
    claimed: bool = False
    results: int | None = None
    submitted_at: float
    complete_at: float | None = None
    priority: int = 0


class Build(_WithProperties):
    """One try at a request."""

    buildid: int
    number: int
    builderid: int
    buildrequestid: int
    workerid: int | None = None
    started_at: float
    complete_at: float | None = None
    complete: bool
    results: int | None = None
    state_string: Line = ""


class BuildStep(_Answer):
    """One step of a try."""

    stepid: int
    number: int
    name: Line
    started_at: float | None = None
    complete: bool
    results: int | None = None
    state_string: Line = ""
    hidden: bool = False


class Log(_Answer):
    """One log of a step; ``type`` is ``s`` for a process's, ``t`` for text, ``h`` for HTML."""

    logid: int
    name: Line
    num_lines: int
    type: str


class ConnectedTo(_Answer):
    """A master that a worker is connected to."""

    masterid: int


class ConfiguredOn(_Answer):
    """A builder that a worker may work for."""

    builderid: int


class WorkerState(_Answer):
    """A worker, as the master knows it. ``workerinfo`` is what it said when it connected."""

    workerid: int
    name: Line
    connected_to: tuple[ConnectedTo, ...] = ()
    configured_on: tuple[ConfiguredOn, ...] = ()
    paused: bool = False
    graceful: bool = False
    pause_reason: Line | None = None
    workerinfo: dict[str, Any] = {}

    @property
    def connected(self) -> bool:
        """Whether it is there."""
        return bool(self.connected_to)


class MasterState(_Answer):
    """A master process; one that has ended is not ``active``."""

    name: Line
    active: bool


class _Builder(_Answer):
    builderid: int
    name: Line


class _BuildSet(_Answer):
    bsid: int


class _LogChunk(_Answer):
    content: str


class Farm(Protocol):
    """What a master tells and does.

    Every method raises RetryableError for a fault that may pass, and FarmError for another.
    """

    @property
    def address(self) -> str:
        """Where it is, without a slash at the end."""

    def now(self) -> float:
        """Return the time by the master's clock."""

    def login(self, user: str, password: str) -> None:
        """Become a user who may ask for work and stop it.

        Raises:
            FarmLoginError: the master does not let them in.
        """

    def builders(self) -> Mapping[int, str]:
        """Return the name of each builder, by its id."""

    def requests_of(
        self, builder: int, *, complete: bool, limit: int, properties: Sequence[str]
    ) -> tuple[BuildRequest, ...]:
        """Return a builder's requests, the newest first."""

    def open_requests(self, limit: int) -> tuple[BuildRequest, ...]:
        """Return the requests of all builders that are not complete, the oldest first."""

    def request(self, request: int, properties: Sequence[str]) -> BuildRequest:
        """Return one request."""

    def children(self, builds: Sequence[int], properties: Sequence[str]) -> list[BuildRequest]:
        """Return what these builds asked for."""

    def builds(self, requests: Sequence[int]) -> list[Build]:
        """Return every try at these requests."""

    def running(self) -> tuple[Build, ...]:
        """Return the tries that are under way."""

    def build(self, build: int, properties: Sequence[str]) -> Build:
        """Return one try."""

    def successes(
        self, builder: int, *, limit: int, properties: Sequence[str]
    ) -> tuple[Build, ...]:
        """Return a builder's last tries that succeeded."""

    def steps(self, build: int) -> tuple[BuildStep, ...]:
        """Return the steps of a try."""

    def log_tail(self, step: int, lines: int) -> tuple[str, ...]:
        """Return the last lines of a step's log, without those that are Buildbot's own."""

    def workers(self) -> tuple[WorkerState, ...]:
        """Return every worker."""

    def masters(self) -> tuple[MasterState, ...]:
        """Return every master process that the farm has had."""

    def submit(self, builder: int, submission: Submission, *, priority: int, reason: str) -> int:
        """Ask for a run and return its request's id; sent once.

        Raises:
            RetryableError: there may be a request now, or not.
        """

    def stop_build(self, build: int, reason: str) -> None:
        """Stop a try, and with it its request."""

    def cancel_request(self, request: int, reason: str) -> None:
        """Take back a request that nobody works on."""


def insist(retry: RetryPolicy, address: str, action: Callable[[], T]) -> T:
    """Return what *action* returns, called as often as the policy allows.

    Raises:
        FarmError: it was in vain.
    """
    try:
        return retry.call(address, action)
    except GaveUpError as error:
        msg = (
            f"{address}: {error}. Is the farm running, and is that its address? What it was asked "
            "for before goes on there."
        )
        raise FarmError(msg) from error


def farm_address(text: str) -> str:
    """Read the address of a farm.

    Raises:
        ValueError: it is not one of a web server, or has a password in it.
    """
    parts = urlsplit(text)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        msg = f"{text!r} is no address like https://farm.example.org"
        raise ValueError(msg)
    if "@" in parts.netloc:
        msg = "a farm's address has no user and no password in it: everybody can read those here"
        raise ValueError(msg)
    if parts.query or parts.fragment:
        msg = f"{text!r}: leave out what follows the path ({parts.query or parts.fragment!r})"
        raise ValueError(msg)
    return text.rstrip("/")


def is_private(address: str) -> bool:
    """Whether nobody between here and *address* can read what is sent."""
    return urlsplit(address).scheme == "https" or _is_loopback(address)


def _is_loopback(address: str) -> bool:
    host = urlsplit(address).hostname or ""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


class _NoAuth(AuthBase):
    """Says who nobody is: else requests would send what .netrc has for the host."""

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        return request


class BuildbotFarm:
    """A farm whose master is Buildbot 4.3, at *address*. Requests are sent once."""

    def __init__(
        self,
        address: str,
        *,
        timeouts: tuple[float, float] = TIMEOUTS,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._address = address
        self._timeouts = timeouts
        self._clock = clock
        self._ahead = 0.0
        self._session = requests.Session()
        self._session.auth = _NoAuth()
        self._session.headers.update(
            {
                "Accept": "application/json",
                "Accept-Encoding": "identity",
                "User-Agent": "rpython-pipeline",
            }
        )
        if _is_loopback(address):
            # A proxy would be given the password, which is to stay on this machine.
            self._session.trust_env = False

    @property
    def address(self) -> str:
        """Where it is, without a slash at the end."""
        return self._address

    def now(self) -> float:
        """Return the time by the master's clock, as its last answer had it."""
        return self._clock() + self._ahead

    def login(self, user: str, password: str) -> None:
        """Become a user who may ask for work and stop it."""
        given = HTTPBasicAuth(user.encode(), password.encode())
        url = f"{self._address}/auth/login"
        status, body = self._send("GET", url, auth=given)
        if status in {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}:
            msg = f"{self._address}: does not let {user} in: wrong name or password."
            raise FarmLoginError(msg)
        if status not in {HTTPStatus.OK, HTTPStatus.FOUND}:
            raise self._refused(url, status, body)
        if not self._session.cookies:
            msg = f"{self._address}: has no login by name and password, so nobody can log in here."
            raise FarmLoginError(msg)

    def builders(self) -> Mapping[int, str]:
        """Return the name of each builder, by its id."""
        found = self._get(_Builder, "builders")
        return {row.builderid: row.name for row in found}

    def requests_of(
        self, builder: int, *, complete: bool, limit: int, properties: Sequence[str]
    ) -> tuple[BuildRequest, ...]:
        """Return a builder's requests, the newest first."""
        query: Query = (
            ("complete", str(complete).lower()),
            ("order", "-buildrequestid"),
            ("limit", limit),
            *_asked(properties),
        )
        return self._get(BuildRequest, f"builders/{builder}/buildrequests", query)

    def open_requests(self, limit: int) -> tuple[BuildRequest, ...]:
        """Return the requests of all builders that are not complete, the oldest first."""
        query: Query = (
            ("complete", "false"),
            ("order", "buildrequestid"),
            ("limit", limit),
            *_asked(("submission", "run", "unit")),
        )
        return self._get(BuildRequest, "buildrequests", query)

    def request(self, request: int, properties: Sequence[str]) -> BuildRequest:
        """Return one request."""
        return self._one(BuildRequest, f"buildrequests/{request}", _asked(properties))

    def children(self, builds: Sequence[int], properties: Sequence[str]) -> list[BuildRequest]:
        """Return what these builds asked for."""
        sets = [
            row.bsid
            for ids in _parts(builds)
            for row in self._get(_BuildSet, "buildsets", _in("parent_buildid", ids))
        ]
        return [
            row
            for ids in _parts(sets)
            for row in self._get(
                BuildRequest, "buildrequests", (*_in("buildsetid", ids), *_asked(properties))
            )
        ]

    def builds(self, requests: Sequence[int]) -> list[Build]:
        """Return every try at these requests."""
        return [
            row
            for ids in _parts(requests)
            for row in self._get(Build, "builds", _in("buildrequestid", ids))
        ]

    def running(self) -> tuple[Build, ...]:
        """Return the tries that are under way."""
        return self._get(Build, "builds", (("complete", "false"), ("order", "buildid")))

    def build(self, build: int, properties: Sequence[str]) -> Build:
        """Return one try."""
        return self._one(Build, f"builds/{build}", _asked(properties))

    def successes(
        self, builder: int, *, limit: int, properties: Sequence[str]
    ) -> tuple[Build, ...]:
        """Return a builder's last tries that succeeded."""
        query: Query = (
            ("complete", "true"),
            ("results", 0),
            ("order", "-buildid"),
            ("limit", limit),
            *_asked(properties),
        )
        return self._get(Build, f"builders/{builder}/builds", query)

    def steps(self, build: int) -> tuple[BuildStep, ...]:
        """Return the steps of a try."""
        return self._get(BuildStep, f"builds/{build}/steps")

    def log_tail(self, step: int, lines: int) -> tuple[str, ...]:
        """Return the last lines of a step's log, without those that are Buildbot's own."""
        logs = self._get(Log, f"steps/{step}/logs")
        chosen = max(logs, key=_how_telling, default=None)
        if chosen is None or not chosen.num_lines:
            return ()
        # Twice as many, since some may be Buildbot's.
        query: Query = (("offset", max(0, chosen.num_lines - 2 * lines)), ("limit", 2 * lines))
        chunk = self._one(_LogChunk, f"logs/{chosen.logid}/contents", query, "logchunks")
        return tuple(_own_lines(chosen, chunk.content))[-lines:]

    def workers(self) -> tuple[WorkerState, ...]:
        """Return every worker."""
        return self._get(WorkerState, "workers", (("order", "name"),))

    def masters(self) -> tuple[MasterState, ...]:
        """Return every master process that the farm has had."""
        return self._get(MasterState, "masters")

    def submit(self, builder: int, submission: Submission, *, priority: int, reason: str) -> int:
        """Ask for a run and return its request's id; sent once."""
        text = submission.model_dump_json()
        params = {
            "builderid": builder,
            "submission": text,
            "priority": priority,
            "reason": reason,
        }
        result = self._control(f"forceschedulers/{SCHEDULER}", "force", params)
        match result:
            case [int(), {**ids}] if len(ids) == 1 and isinstance(
                made := next(iter(ids.values())), int
            ):
                return made
        msg = f"{self._address}: took the submission, but does not say as which request."
        raise RetryableError(msg)

    def stop_build(self, build: int, reason: str) -> None:
        """Stop a try, and with it its request."""
        self._control(f"builds/{build}", "stop", {"reason": reason})

    def cancel_request(self, request: int, reason: str) -> None:
        """Take back a request that nobody works on."""
        self._control(f"buildrequests/{request}", "cancel", {"reason": reason})

    def _get(self, model: type[T], path: str, query: Query = (), plural: str = "") -> tuple[T, ...]:
        """Return a collection, which is in the answer under its own name."""
        url = f"{self._address}/api/v2/{quote(path)}"
        status, body = self._send("GET", url, params=query)
        if status != HTTPStatus.OK:
            raise self._refused(url, status, body)
        try:
            found = TypeAdapter(dict[str, Any]).validate_json(body)
            rows = found.get(plural or path.rpartition("/")[2])
            return TypeAdapter(tuple[model, ...]).validate_python(rows)  # type: ignore[valid-type]
        except ValidationError as error:
            msg = f"{url}: this is no answer of Buildbot 4.3: {_first(error)}"
            raise FarmError(msg) from error

    def _one(self, model: type[T], path: str, query: Query = (), plural: str = "") -> T:
        found = self._get(model, path, query, plural or path.partition("/")[0])
        if len(found) != 1:
            msg = f"{self._address}: answers with {len(found)} instead of one {path}."
            raise FarmError(msg)
        return found[0]

    def _control(self, path: str, method: str, params: Mapping[str, Any]) -> Any:
        url = f"{self._address}/api/v2/{path}"
        call = {"id": 1, "jsonrpc": "2.0", "method": method, "params": params}
        status, body = self._send("POST", url, json=call)
        if status != HTTPStatus.OK:
            raise self._refused(url, status, body)
        try:
            return TypeAdapter(dict[str, Any]).validate_json(body).get("result")
        except ValidationError as error:
            msg = f"{url}: the answer is no JSON: {_first(error)}"
            raise RetryableError(msg) from error

    def _send(self, method: str, url: str, **options: Any) -> tuple[int, bytes]:
        """Return the status and the body of an answer that is not one to ask again for."""
        logger.debug("%s %s", method, url)
        try:
            with self._session.request(
                method,
                url,
                timeout=self._timeouts,
                stream=True,
                allow_redirects=False,
                **options,
            ) as answer:
                body = self._body(url, answer)
        except requests.RequestException as error:
            raise RetryableError(_cause(error)) from error
        self._set_clock(answer.headers.get("Date"))
        if answer.status_code in RETRIED_STATUS:
            msg = f"HTTP {answer.status_code} {_told(body)}".rstrip()
            raise RetryableError(msg, asked_wait(answer.headers.get("Retry-After")))
        if answer.is_redirect and not url.endswith("/auth/login"):
            msg = f"{url}: leads to {as_line(answer.headers['Location'])}. Give that address."
            raise FarmError(msg)
        return answer.status_code, body

    def _body(self, url: str, answer: requests.Response) -> bytes:
        received = bytearray()
        for chunk in answer.iter_content(CHUNK):
            received += chunk
            if len(received) > LARGEST_ANSWER:
                msg = f"{url}: answers with more than {LARGEST_ANSWER} bytes, which is not read."
                raise FarmError(msg)
        return bytes(received)

    def _set_clock(self, date: str | None) -> None:
        """Keep by how much the master's clock is ahead of ours."""
        try:
            ahead = parsedate_to_datetime(date or "").timestamp() - self._clock()
        except (ValueError, OverflowError):
            return
        self._ahead = ahead if abs(ahead) > SAME_CLOCK else 0.0

    def _refused(self, url: str, status: int, body: bytes) -> FarmError:
        told = f"HTTP {status} {_told(body)}".rstrip()
        if status in {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}:
            msg = f"{url}: {told}. This user may not do that: ask the farm's admins."
            return FarmLoginError(msg)
        msg = f"{url}: {told}. Is that the address of a farm of this pipeline?"
        return FarmError(msg)


def _asked(properties: Sequence[str]) -> Query:
    return tuple(("property", name) for name in properties)


def _in(field: str, ids: Sequence[int]) -> Query:
    return tuple((f"{field}__in", item) for item in ids)


def _parts(ids: Sequence[int]) -> Iterator[Sequence[int]]:
    """Yield all of *ids*, as many at a time as fit into an address."""
    return (ids[start : start + MOST_IDS] for start in range(0, len(ids), MOST_IDS))


def _how_telling(log: Log) -> tuple[bool, bool, int]:
    return log.type != HEADER, log.name == "stdio", log.num_lines


def _own_lines(log: Log, content: str) -> Iterator[str]:
    """Yield a log's lines; those of a process begin with a letter that says whose they are."""
    for line in content.removesuffix("\n").split("\n"):
        if log.type != STREAMED:
            yield as_line(line)
        elif not line.startswith(HEADER):
            yield as_line(line[1:])


def _told(body: bytes) -> str:
    """Return what an answer says is wrong, as one line."""
    try:
        match json.loads(body):
            case {"error": {"message": text}} | {"error": text}:
                return as_line(str(text))
            case _:
                return ""
    except (ValueError, RecursionError):
        return ""


def _cause(error: requests.RequestException) -> str:
    """Return the innermost reason: the outer ones are objects' names."""
    inner: BaseException = error
    while (below := inner.__cause__ or inner.__context__) is not None:
        inner = below
    return as_line(f"{inner}" or type(inner).__name__)


def _first(error: ValidationError) -> str:
    wrong = error.errors(include_input=False)[0]
    return as_line(f"{'.'.join(map(str, wrong['loc']))}: {wrong['msg']}")
