r"""A proxy that stands before a real HTTP server and spoils chosen requests on their way.

::

    with FaultProxy("127.0.0.1", port) as proxy:
        proxy.spoil(Status(503, {"Retry-After": "1"}), method="PUT", path=r"/ledger\.json$")
        proxy.spoil(Reset(after=True), skip=2)  # the third request: done, but its answer lost
        ...  # use proxy.address instead of the server's
        assert proxy.struck == 2
        assert [seen.method for seen in proxy.seen] == ["HEAD", "PUT", "PUT"]

Requests and answers are passed on whole, with the headers as they came (Host too, which S3
signatures cover), so the server behind notices nothing of a request that is not spoilt.
"""

import http.client
import re
import select
import socket
import struct
import sys
from collections.abc import Callable, Mapping
from contextlib import nullcontext, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Lock, Thread
from types import TracebackType
from typing import Any, Final, Self

HOP_BY_HOP: Final = frozenset({"connection", "expect", "keep-alive", "transfer-encoding"})
NEVER_A_BODY: Final = frozenset({204, 304})
POLL: Final = 0.02
UPSTREAM_TIMEOUT: Final = 60


@dataclass(frozen=True)
class Status:
    """An answer in the server's place; the server is not asked."""

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""

    def __str__(self) -> str:
        return str(self.status)


@dataclass(frozen=True)
class Reset:
    """The connection is reset (TCP RST) before the server is asked, or *after* it has answered."""

    after: bool = False

    def __str__(self) -> str:
        return f"reset {'after' if self.after else 'before'}"


@dataclass(frozen=True)
class Stall:
    """No answer until the client gives up; with *after* the server has done what was asked."""

    after: bool = False

    def __str__(self) -> str:
        return f"stall {'after' if self.after else 'before'}"


@dataclass(frozen=True)
class CutAnswer:
    """The server's answer ends after a *share* of its body, though all of it is announced."""

    share: float = 0.5

    def __str__(self) -> str:
        return "answer cut"


@dataclass(frozen=True)
class CutUpload:
    """The server gets only a *share* of the body that was announced; then both sides are cut."""

    share: float = 0.5

    def __str__(self) -> str:
        return "upload cut"


Fault = Status | Reset | Stall | CutAnswer | CutUpload


@dataclass(frozen=True, kw_only=True)
class Request:
    """What a client sent; *path* has the query, header names are as they came."""

    method: str
    path: str
    headers: tuple[tuple[str, str], ...]
    body: bytes

    def header(self, name: str) -> str | None:
        """Return a header's value; upper and lower case are the same."""
        return next((value for key, value in self.headers if key.lower() == name.lower()), None)


@dataclass(frozen=True, kw_only=True)
class Seen:
    """A request that came through: what spoilt it, and what the server said (None: not asked)."""

    request: Request
    fault: Fault | None
    status: int | None

    @property
    def method(self) -> str:
        """The request's method."""
        return self.request.method

    @property
    def path(self) -> str:
        """The request's path with its query."""
        return self.request.path


@dataclass(frozen=True, kw_only=True)
class _Reply:
    status: int
    reason: str
    headers: tuple[tuple[str, str], ...]
    body: bytes


@dataclass(kw_only=True)
class _Rule:
    fault: Fault
    matches: Callable[[Request], bool]
    skip: int
    times: float


class FaultProxy:
    """Listens on a free port of this machine, from entering the block to leaving it.

    With *one_at_a_time* the server is asked by one client after the other, since some mocks are
    not meant for several.
    """

    def __init__(self, host: str, port: int, *, one_at_a_time: bool = False) -> None:
        self._upstream = (host, port)
        self._turn = Lock() if one_at_a_time else nullcontext()
        self._lock = Lock()
        self._rules: list[_Rule] = []
        self._seen: list[Seen] = []
        self._stopped = Event()
        handler = type("Handler", (_Handler,), {"proxy": self})
        self._server = _Server(("127.0.0.1", 0), handler)

    @property
    def address(self) -> str:
        """What clients are given instead of the server's address."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    @property
    def seen(self) -> list[Seen]:
        """Every request so far, in the order in which they ended."""
        with self._lock:
            return list(self._seen)

    @property
    def struck(self) -> int:
        """How many requests were spoilt."""
        return sum(seen.fault is not None for seen in self.seen)

    def spoil(
        self,
        fault: Fault,
        *,
        method: str | None = None,
        path: str = "",
        skip: int = 0,
        times: float = 1,
        where: Callable[[Request], bool] = lambda _request: True,
    ) -> None:
        """Let *fault* happen to the next requests that match, *times* of them after *skip*.

        *path* is a regular expression that is searched for in path and query, *where* decides
        over the rest. Of several rules the oldest that matches is taken. ``math.inf`` times:
        until :meth:`mend`.
        """
        pattern = re.compile(path)

        def matches(request: Request) -> bool:
            return (
                method in (None, request.method)
                and pattern.search(request.path) is not None
                and where(request)
            )

        with self._lock:
            self._rules.append(_Rule(fault=fault, matches=matches, skip=skip, times=times))

    def mend(self) -> None:
        """Spoil nothing more, and forget what was seen."""
        with self._lock:
            self._rules.clear()
            self._seen.clear()

    def __enter__(self) -> Self:
        self._thread = Thread(target=self._server.serve_forever, args=(POLL,), daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        self._stopped.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def fault_for(self, request: Request) -> Fault | None:
        """Take the fault that is due for *request*."""
        with self._lock:
            for rule in self._rules:
                if rule.times > 0 and rule.matches(request):
                    if rule.skip > 0:
                        rule.skip -= 1
                        continue
                    rule.times -= 1
                    return rule.fault
        return None

    def note(self, request: Request, fault: Fault | None, status: int | None) -> None:
        """Remember a request."""
        with self._lock:
            self._seen.append(Seen(request=request, fault=fault, status=status))

    def ask(self, request: Request, share: float = 1.0) -> _Reply | None:
        """Pass *request* on; with a *share* below 1 its body ends early, and there is no reply."""
        with self._turn:
            return self._asked(request, share)

    def _asked(self, request: Request, share: float) -> _Reply | None:
        connection = http.client.HTTPConnection(*self._upstream, timeout=UPSTREAM_TIMEOUT)
        try:
            _send(connection, request, share)
            if share < 1.0:
                return None
            answer = connection.getresponse()
            return _Reply(
                status=answer.status,
                reason=answer.reason,
                headers=tuple(answer.getheaders()),
                body=answer.read(),
            )
        finally:
            connection.close()

    def wait_for_end_of(self, connection: socket.socket) -> None:
        """Wait until the client has closed its connection, or this proxy is stopped."""
        while not self._stopped.is_set():
            readable, _, _ = select.select([connection], [], [], POLL)
            if readable:
                with suppress(OSError):
                    if connection.recv(1 << 16):
                        continue
                return


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Print no trace of clients that hang up, as they do after a fault."""
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    proxy: FaultProxy

    def log_message(self, *_arguments: object) -> None:
        """Print nothing."""

    def handle_one_request(self) -> None:
        """Read a request, decide what happens to it, and answer or not."""
        self.raw_requestline = self.rfile.readline(1 << 16)
        if not self.raw_requestline or not self.parse_request():
            self.close_connection = True
            return
        request = Request(
            method=self.command,
            path=self.path,
            headers=tuple(self.headers.items()),
            body=self._body(),
        )
        self._deal_with(request, self.proxy.fault_for(request))

    def _deal_with(self, request: Request, fault: Fault | None) -> None:
        if isinstance(fault, Status):
            self.proxy.note(request, fault, None)
            headers = tuple(fault.headers.items())
            self._reply(
                request,
                _Reply(status=fault.status, reason="", headers=headers, body=fault.body),
                own=True,
            )
            return
        reply = None
        if not (isinstance(fault, Reset | Stall) and not fault.after):
            reply = self.proxy.ask(request, fault.share if isinstance(fault, CutUpload) else 1.0)
        self.proxy.note(request, fault, reply.status if reply else None)
        if isinstance(fault, Stall):
            self.proxy.wait_for_end_of(self.connection)
            self.close_connection = True
        elif isinstance(fault, Reset) or reply is None:
            self._reset()
        else:
            self._reply(request, reply, share=fault.share if fault is not None else 1.0)

    def _body(self) -> bytes:
        if "chunked" in self.headers.get("Transfer-Encoding", ""):
            chunks = []
            while size := int(self.rfile.readline().split(b";")[0], 16):
                chunks.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            return b"".join(chunks)
        return self.rfile.read(int(self.headers.get("Content-Length", "0")))

    def _reply(
        self, request: Request, reply: _Reply, *, share: float = 1.0, own: bool = False
    ) -> None:
        self.send_response_only(reply.status, reply.reason or None)
        kept = [(name, value) for name, value in reply.headers if name.lower() not in HOP_BY_HOP]
        lengths = [value for name, value in kept if name.lower() == "content-length"]
        for name, value in kept:
            if name.lower() != "content-length":
                self.send_header(name, value)
        has_body = request.method != "HEAD" and reply.status not in NEVER_A_BODY
        if has_body or own:
            self.send_header("Content-Length", str(len(reply.body)))
        elif lengths:
            self.send_header("Content-Length", lengths[0])
        self.end_headers()
        if has_body:
            self.wfile.write(reply.body[: int(len(reply.body) * share)])
        if share < 1.0:
            self.close_connection = True

    def _reset(self) -> None:
        self.close_connection = True
        # Closed with a linger time of 0 s, a connection ends with RST instead of FIN.
        option = struct.pack("ii", 1, 0)
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, option)
        self.rfile.close()
        self.wfile.close()
        self.connection.close()


def _send(connection: http.client.HTTPConnection, request: Request, share: float) -> None:
    connection.putrequest(request.method, request.path, skip_host=True, skip_accept_encoding=True)
    for name, value in request.headers:
        if name.lower() not in HOP_BY_HOP and name.lower() != "content-length":
            connection.putheader(name, value)
    if request.body or request.method in ("PUT", "POST", "PATCH"):
        connection.putheader("Content-Length", str(len(request.body)))
    connection.endheaders(request.body[: int(len(request.body) * share)])
