"""An imitation of GitHub's releases API as a real HTTP server, which also has every fault.

What it imitates is what docs.github.com/rest/releases says: a draft is not found by its tag and
listed for writers only, lists have pages, uploads go to another host whose address is a template,
an upload that breaks off leaves an asset in state ``starter`` whose name is taken, a digest may be
given or not, a release has 1000 assets at most, an immutable one keeps them when it is public,
downloads lead to a third host, and only one public release has a tag.

A fault is chosen by the number of a call of the program under test (readers without a token are
not counted).
"""

import hashlib
import json
import os
import re
import signal
import socket
import struct
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.utils import formatdate
from enum import StrEnum
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final
from urllib.parse import parse_qs, quote, urlsplit

TOKEN: Final = "canary-3f9c1e7ab2d84650"  # noqa: S105 - of the imitation
READ_ONLY: Final = "read-only-token"
REPOSITORY: Final = "octo/interpreters"
CAP: Final = 1000
RST: Final = struct.pack("ii", 1, 0)


class Kind(StrEnum):
    """What goes wrong with a call."""

    STATUS = "status"  # an error instead of the work
    RESET_BEFORE = "reset before"  # nothing was done
    RESET_AFTER = "reset after"  # all was done, the answer is lost
    STALL_BEFORE = "stall before"
    STALL_AFTER = "stall after"
    CUT_REQUEST = "cut request"  # the connection breaks in the middle of what is sent
    CUT_ANSWER = "cut answer"  # ... and of what comes back
    NONSENSE = "nonsense"  # all was done, but a proxy answers with a page
    KILL_BEFORE = "kill before"  # the program is killed
    KILL_MIDDLE = "kill in the middle"
    KILL_AFTER = "kill after"


@dataclass(frozen=True, kw_only=True)
class Fault:
    """What goes wrong, and for a status with which headers and message."""

    kind: Kind
    status: int = 0
    headers: tuple[tuple[str, str], ...] = ()
    message: str = "injected"


FaultPlan = Callable[[int], Fault | None]
"""Gives the fault of the n-th call, counted from 1."""

DONE_FIRST: Final = {Kind.RESET_AFTER, Kind.STALL_AFTER, Kind.CUT_ANSWER, Kind.NONSENSE}
DONE_FIRST_OR_KILLED: Final = DONE_FIRST | {Kind.KILL_AFTER}


@dataclass
class Asset:
    """A file of a release."""

    id: int
    name: str
    content_type: str
    data: bytes
    state: str


@dataclass
class Release:
    """A release or a draft."""

    id: int
    tag: str
    name: str | None
    body: str | None
    draft: bool
    prerelease: bool
    immutable: bool = False
    assets: dict[int, Asset] = field(default_factory=dict)


class ApiError(Exception):
    """An answer other than success."""

    def __init__(self, status: int, message: str, *errors: dict[str, str]) -> None:
        super().__init__(message)
        self.status = status
        self.body = {"message": message, "errors": list(errors), "documentation_url": "https://d"}


@dataclass(frozen=True)
class Request:
    """What a client asks for."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: bytes
    writer: bool

    def json(self) -> dict[str, Any]:
        """Return the fields of the body."""
        fields: dict[str, Any] = json.loads(self.body)
        return fields


@dataclass(frozen=True)
class Answer:
    """What a client gets."""

    status: int
    body: bytes = b""
    headers: tuple[tuple[str, str], ...] = ()


Route = Callable[[Request, re.Match[str]], Answer]


class Github:
    """The state of one repository, and what readers could see of it at every moment."""

    def __init__(self, *, digests: bool = True, immutable: bool = False, page: int = 100) -> None:
        self.digests = digests
        self.immutable = immutable
        self.page = page
        self.releases: dict[int, Release] = {}
        self.latest_id: int | None = None
        self.finished: Counter[str] = Counter()
        self.calls: list[str] = []
        self.leaked: list[str] = []
        self.views: list[tuple[str, frozenset[str]]] = []
        self.plan: FaultPlan = lambda _number: None
        self.victim: int | None = None
        self.closing = threading.Event()
        self.urls = {"api": "", "uploads": "", "objects": ""}
        self.lock = threading.RLock()
        self._number = 0
        self._routes: tuple[tuple[str, str, Route], ...] = (
            ("GET", r"/releases/tags/(?P<tag>[^/]+)", self._by_tag),
            ("GET", r"/releases/latest", self._latest),
            ("GET", r"/releases", self._list),
            ("POST", r"/releases", self._create),
            ("GET", r"/releases/assets/(?P<asset>\d+)", self._asset),
            ("DELETE", r"/releases/assets/(?P<asset>\d+)", self._delete_asset),
            ("GET", r"/releases/(?P<release>\d+)", self._get),
            ("PATCH", r"/releases/(?P<release>\d+)", self._edit),
            ("DELETE", r"/releases/(?P<release>\d+)", self._delete),
            ("GET", r"/releases/(?P<release>\d+)/assets", self._assets),
            ("POST", r"/releases/(?P<release>\d+)/assets", self._upload),
        )

    # --- for tests --------------------------------------------------------------------------

    def reset_faults(self, plan: FaultPlan = lambda _number: None) -> None:
        """Count calls anew, and inject the faults of *plan*."""
        self.calls.clear()
        self.plan = plan

    def add(self, tag: str, files: dict[str, bytes], **fields: Any) -> Release:
        """Put a release there, as if it had been made earlier."""
        release = Release(
            id=self._next(),
            tag=tag,
            **{"name": tag, "body": "", "draft": False, "prerelease": False, **fields},
        )
        self.releases[release.id] = release
        for name, data in files.items():
            self.add_asset(release, name, data)
        return release

    def add_asset(self, release: Release, name: str, data: bytes, state: str = "uploaded") -> Asset:
        """Put an asset there."""
        asset = Asset(self._next(), name, "application/octet-stream", data, state)
        release.assets[asset.id] = asset
        return asset

    def published(self, tag: str) -> Release | None:
        """Return what readers find under *tag*."""
        for release in self.releases.values():
            if release.tag == tag and not release.draft:
                return release
        return None

    def latest(self) -> Release | None:
        """Return what readers get who ask for the latest: the chosen one, or the newest."""
        final = [r for r in self.releases.values() if not r.draft and not r.prerelease]
        chosen = [release for release in final if release.id == self.latest_id]
        return max(chosen or final, key=lambda release: release.id, default=None)

    def contents(self, release: Release) -> dict[str, bytes]:
        """Return the finished assets' bytes."""
        return {
            asset.name: asset.data for asset in release.assets.values() if asset.state == "uploaded"
        }

    # --- the API ----------------------------------------------------------------------------

    def handle(self, role: str, request: Request) -> Answer:
        """Answer a request, and note what readers see from now on."""
        with self.lock:
            try:
                return self._route(role, request)
            except ApiError as error:
                return Answer(error.status, json.dumps(error.body).encode())
            finally:
                self._look()

    def begin_upload(self, request: Request) -> None:
        """Leave what an upload leaves that breaks off: an unfinished asset."""
        with self.lock:
            match = re.fullmatch(rf"{self._prefix('uploads')}/releases/(\d+)/assets", request.path)
            if request.method == "POST" and match is not None:
                release = self._writable(request, int(match[1]))
                self._new_asset(release, request, b"", "starter")

    def _look(self) -> None:
        for release in self.releases.values():
            if not release.draft:
                self.views.append((release.tag, frozenset(self.contents(release))))

    def _route(self, role: str, request: Request) -> Answer:
        if role == "objects":
            return self._object(request)
        prefix = self._prefix(role)
        if not request.path.startswith(prefix):
            raise ApiError(404, "Not Found")
        rest = request.path.removeprefix(prefix)
        for method, pattern, route in self._routes:
            is_upload = route == self._upload
            match = re.fullmatch(pattern, rest)
            if match and method == request.method and is_upload == (role == "uploads"):
                return route(request, match)
        raise ApiError(404, "Not Found")

    def _prefix(self, role: str) -> str:
        return f"/api/uploads/repos/{REPOSITORY}" if role == "uploads" else f"/repos/{REPOSITORY}"

    def _by_tag(self, _request: Request, match: re.Match[str]) -> Answer:
        release = self.published(match["tag"])
        if release is None:
            raise ApiError(404, "Not Found")
        return self._json(200, self._shown(release))

    def _latest(self, _request: Request, _match: re.Match[str]) -> Answer:
        release = self.latest()
        if release is None:
            raise ApiError(404, "Not Found")
        return self._json(200, self._shown(release))

    def _list(self, request: Request, _match: re.Match[str]) -> Answer:
        seen = [r for r in self.releases.values() if request.writer or not r.draft]
        newest_first = sorted(seen, key=lambda release: -release.id)
        return self._paged(request, [self._shown(release) for release in newest_first])

    def _get(self, request: Request, match: re.Match[str]) -> Answer:
        return self._json(200, self._shown(self._found(request, int(match["release"]))))

    def _create(self, request: Request, _match: re.Match[str]) -> Answer:
        self._require_writer(request)
        fields = request.json()
        if not fields["draft"]:
            self._require_free(fields["tag_name"])
        release = Release(
            id=self._next(),
            tag=fields["tag_name"],
            name=fields["name"],
            body=fields["body"],
            draft=fields["draft"],
            prerelease=fields["prerelease"],
        )
        self.releases[release.id] = release
        return self._json(201, self._shown(release))

    def _edit(self, request: Request, match: re.Match[str]) -> Answer:
        release = self._writable(request, int(match["release"]))
        fields = request.json()
        if release.immutable and not fields.keys() <= {"name", "body", "make_latest"}:
            raise ApiError(422, "Only release title and notes can be modified")
        becomes_public = release.draft and fields.get("draft") is False
        if becomes_public:
            self._require_free(release.tag)
        prerelease = fields.get("prerelease", release.prerelease)
        # GitHub's default, which would make an old release the latest one.
        latest = fields.get("make_latest", "true") == "true"
        if latest and prerelease and "make_latest" in fields:
            raise ApiError(422, "Latest release cannot be draft or prerelease")
        release.name, release.body = fields["name"], fields["body"]
        release.prerelease = prerelease
        release.draft = fields.get("draft", release.draft)
        if not release.draft and not prerelease:
            if latest:
                self.latest_id = release.id
            elif self.latest_id == release.id:
                self.latest_id = None
        release.immutable = release.immutable or (becomes_public and self.immutable)
        return self._json(200, self._shown(release))

    def _delete(self, request: Request, match: re.Match[str]) -> Answer:
        release = self._writable(request, int(match["release"]))
        del self.releases[release.id]
        return Answer(204)

    def _assets(self, request: Request, match: re.Match[str]) -> Answer:
        release = self._found(request, int(match["release"]))
        return self._paged(request, [self._shown_asset(a) for a in release.assets.values()])

    def _upload(self, request: Request, match: re.Match[str]) -> Answer:
        release = self._writable(request, int(match["release"]))
        asset = self._new_asset(release, request, request.body, "uploaded")
        self.finished[asset.name] += 1
        return self._json(201, self._shown_asset(asset))

    def _new_asset(self, release: Release, request: Request, data: bytes, state: str) -> Asset:
        if release.immutable:
            raise ApiError(422, "Cannot upload assets to an immutable release.")
        # GitHub renames files with other characters.
        name = re.sub(r"[^A-Za-z0-9._+-]", ".", request.query["name"])
        if any(asset.name == name for asset in release.assets.values()):
            error = {"resource": "ReleaseAsset", "code": "already_exists", "field": "name"}
            raise ApiError(422, "Validation Failed", error)
        if len(release.assets) >= CAP:
            raise ApiError(422, "Validation Failed", {"message": "file_count too large"})
        asset = self.add_asset(release, name, data, state)
        asset.content_type = request.headers["content-type"]
        return asset

    def _asset(self, request: Request, match: re.Match[str]) -> Answer:
        release, asset = self._owner(int(match["asset"]))
        self._found(request, release.id)
        if request.headers.get("accept") != "application/octet-stream":
            return self._json(200, self._shown_asset(asset))
        return Answer(302, b"", (("Location", f"{self.urls['objects']}/{asset.id}?signed=1"),))

    def _object(self, request: Request) -> Answer:
        if "authorization" in request.headers:
            self.leaked.append(request.path)
        _, asset = self._owner(int(request.path.strip("/")))
        return Answer(200, asset.data, (("Content-Type", asset.content_type),))

    def _delete_asset(self, request: Request, match: re.Match[str]) -> Answer:
        release, asset = self._owner(int(match["asset"]))
        self._writable(request, release.id)
        if release.immutable:
            raise ApiError(422, "Cannot delete asset from an immutable release")
        del release.assets[asset.id]
        return Answer(204)

    def _owner(self, identity: int) -> tuple[Release, Asset]:
        for release in self.releases.values():
            if identity in release.assets:
                return release, release.assets[identity]
        raise ApiError(404, "Not Found")

    def _found(self, request: Request, identity: int) -> Release:
        release = self.releases.get(identity)
        if release is None or (release.draft and not request.writer):
            raise ApiError(404, "Not Found")
        return release

    def _writable(self, request: Request, identity: int) -> Release:
        self._require_writer(request)
        return self._found(request, identity)

    def _require_writer(self, request: Request) -> None:
        if "authorization" not in request.headers:
            raise ApiError(401, "Requires authentication")
        if not request.writer:
            raise ApiError(403, "Resource not accessible by personal access token")

    def _require_free(self, tag: str) -> None:
        if self.published(tag) is not None:
            error = {"resource": "Release", "code": "already_exists", "field": "tag_name"}
            raise ApiError(422, "Validation Failed", error)

    def _shown(self, release: Release) -> dict[str, Any]:
        upload = f"{self.urls['uploads']}{self._prefix('uploads')}/releases/{release.id}/assets"
        return {
            "id": release.id,
            "tag_name": release.tag,
            "name": release.name,
            "body": release.body,
            "draft": release.draft,
            "prerelease": release.prerelease,
            "immutable": release.immutable,
            "upload_url": f"{upload}{{?name,label}}",
            "html_url": f"https://github.test/{REPOSITORY}/releases/{quote(release.tag)}",
            "assets": [self._shown_asset(asset) for asset in release.assets.values()],
        }

    def _shown_asset(self, asset: Asset) -> dict[str, Any]:
        digest = f"sha256:{hashlib.sha256(asset.data).hexdigest()}"
        return {
            "id": asset.id,
            "name": asset.name,
            "content_type": asset.content_type,
            "state": asset.state,
            "size": len(asset.data),
            "digest": digest if self.digests and asset.state == "uploaded" else None,
        }

    def _paged(self, request: Request, items: list[dict[str, Any]]) -> Answer:
        size = min(int(request.query.get("per_page", "30")), self.page)
        number = int(request.query.get("page", "1"))
        page = items[(number - 1) * size : number * size]
        links: tuple[tuple[str, str], ...] = ()
        if number * size < len(items):
            following = f"{self.urls['api']}{request.path}?per_page={size}&page={number + 1}"
            links = (("Link", f'<{following}>; rel="next"'),)
        return Answer(200, json.dumps(page).encode(), links)

    def _json(self, status: int, value: dict[str, Any]) -> Answer:
        return Answer(status, json.dumps(value).encode())

    def _next(self) -> int:
        self._number += 1
        return self._number

    # --- calls and faults -------------------------------------------------------------------

    def numbered(self, request: Request, role: str) -> Fault | None:
        """Count a call of the program under test; return what goes wrong with it."""
        if role != "objects" and "authorization" not in request.headers:
            return None
        with self.lock:
            shown = re.sub(r"\d+", "N", request.path.rpartition("/releases")[2])
            self.calls.append(f"{request.method} {role} releases{shown}")
            return self.plan(len(self.calls))

    def kill_victim(self) -> None:
        """Kill the program under test, as a power cut would."""
        while self.victim is None:
            self.closing.wait(0.01)
        os.kill(self.victim, signal.SIGKILL)


class Handler(BaseHTTPRequestHandler):
    """Speaks HTTP for one of the three hosts."""

    protocol_version = "HTTP/1.1"
    github: Github
    role: str

    def setup(self) -> None:
        """Send an answer's head and body without waiting for each other."""
        super().setup()
        self.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Stay quiet."""

    def serve(self) -> None:
        """Answer a request, or do to it what the plan says."""
        head = self._request(b"")
        fault = self.github.numbered(head, self.role)
        length = int(self.headers.get("Content-Length", "0"))
        if fault is not None and fault.kind in {Kind.CUT_REQUEST, Kind.KILL_MIDDLE}:
            self.rfile.read(length // 2)
            self.github.begin_upload(head)
            self._break(fault)
            return
        request = self._request(self.rfile.read(length))
        if request.headers.get("authorization") not in {
            None,
            f"Bearer {TOKEN}",
            f"Bearer {READ_ONLY}",
        }:
            self._answer(Answer(401, b'{"message": "Bad credentials"}'))
        elif fault is None:
            self._answer(self.github.handle(self.role, request))
        elif fault.kind is Kind.STATUS:
            body = json.dumps({"message": fault.message}).encode()
            self._answer(Answer(fault.status, body, fault.headers))
        else:
            self._fail(fault, request)

    do_GET = do_POST = do_PATCH = do_DELETE = serve  # noqa: N815 - the library's names

    def _fail(self, fault: Fault, request: Request) -> None:
        if fault.kind not in DONE_FIRST_OR_KILLED:
            self._break(fault)
            return
        answer = self.github.handle(self.role, request)
        if fault.kind is Kind.CUT_ANSWER:
            self._answer(answer, part=len(answer.body) // 2)
            self._break(fault)
        elif fault.kind is Kind.NONSENSE:
            self._answer(Answer(200, b"<html>Please sign in to the network</html>"))
        else:
            self._break(fault)

    def _break(self, fault: Fault) -> None:
        """End the connection, after what else the fault is."""
        if fault.kind in {Kind.KILL_BEFORE, Kind.KILL_MIDDLE, Kind.KILL_AFTER}:
            self.github.kill_victim()
        if fault.kind in {Kind.STALL_BEFORE, Kind.STALL_AFTER}:
            self.github.closing.wait(5)
        if fault.kind is not Kind.CUT_ANSWER:
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RST)
        self.close_connection = True

    def _request(self, body: bytes) -> Request:
        url = urlsplit(self.path)
        headers = {name.lower(): value for name, value in self.headers.items()}
        return Request(
            method=self.command,
            path=url.path,
            query={name: values[0] for name, values in parse_qs(url.query).items()},
            headers=headers,
            body=body,
            writer=headers.get("authorization") == f"Bearer {TOKEN}",
        )

    def _answer(self, answer: Answer, part: int | None = None) -> None:
        self.send_response_only(answer.status)
        sent = {"Date": self.date_time_string(), "Content-Length": str(len(answer.body))}
        for name, value in (sent | dict(answer.headers)).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(answer.body if part is None else answer.body[:part])


class Server(ThreadingHTTPServer):
    """One of the hosts; a client that breaks off is nothing to report."""

    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Stay quiet about connections that a test breaks."""


@contextmanager
def github_server(**options: Any) -> Iterator[Github]:
    """Serve a new repository; ``urls["api"]`` is where its API is."""
    github = Github(**options)
    servers = []
    for role in github.urls:
        handler = type("RoleHandler", (Handler,), {"github": github, "role": role})
        server = Server(("127.0.0.1", 0), handler)
        github.urls[role] = f"http://127.0.0.1:{server.server_address[1]}"
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        servers.append(server)
    try:
        yield github
    finally:
        github.closing.set()
        for server in servers:
            server.shutdown()
            server.server_close()


def status(code: int, *, message: str = "injected", **headers: str) -> Fault:
    """Return the fault that is an answer with an error; ``_`` in names of headers is ``-``."""
    named = tuple((name.replace("_", "-"), value) for name, value in headers.items())
    return Fault(kind=Kind.STATUS, status=code, headers=named, message=message)


def broken(kind: Kind) -> Fault:
    """Return the fault that is a broken connection of some kind."""
    return Fault(kind=kind)


def http_date(seconds: float) -> str:
    """Return a time, in seconds since 1970, as a header has it."""
    return formatdate(seconds, usegmt=True)
