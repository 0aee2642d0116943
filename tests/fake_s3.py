"""An S3 server in memory, behind botocore's own client and without a socket.

What the client would send is answered by :class:`FakeS3`, so headers, signatures, parsing of
answers and the absence of botocore's retries are real. Faults are taken in turn.
"""

import functools
import hashlib
import io
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, cast
from urllib.parse import parse_qs, unquote, urlsplit
from xml.etree import ElementTree as ET

from botocore.awsrequest import AWSPreparedRequest, AWSResponse  # noqa: TID251 - built by hand

from pipeline.effects.s3_client import S3Limits, make_client
from pipeline.model.configs import S3Options

if TYPE_CHECKING:
    from botocore.compat import HTTPHeaders  # noqa: TID251 - a type
    from mypy_boto3_s3 import S3Client

BUCKET: Final = "bucket"
KEPT: Final = (
    "content-type",
    "cache-control",
    "content-encoding",
    "x-amz-website-redirect-location",
)


class Body(io.BytesIO):
    """The bytes of an answer as urllib3 gives them."""

    def stream(self, amt: int = 1024, **_options: object) -> Iterator[bytes]:
        """Give them in pieces."""
        while chunk := self.read(amt):
            yield chunk


@dataclass(frozen=True, kw_only=True)
class Request:
    """What the client sent; header names are in lower case."""

    method: str
    name: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes

    @property
    def operation(self) -> str:
        """The method, and what kind of request it is."""
        kinds = ("uploads", "partNumber", "uploadId", "list-type")
        return " ".join([self.method, *(kind for kind in kinds if kind in self.query)][:2])


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What the server says; ``length`` is what it announces, if other than what comes."""

    status: int = 200
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    length: int | None = None


@dataclass(frozen=True, kw_only=True)
class Fault:
    """What goes wrong with the next request of an *operation*; ``done``: after it was obeyed."""

    operation: str
    outcome: Answer | BaseException | Callable[[], None]
    done: bool = False


@dataclass(frozen=True, kw_only=True)
class Object:
    """What is under a name."""

    data: bytes
    headers: Mapping[str, str]
    etag: str


@dataclass
class FakeS3:
    """One bucket. The flags say which conditions it keeps to, as real servers differ."""

    objects: dict[str, Object] = field(default_factory=dict)
    uploads: dict[str, dict[int, bytes]] = field(default_factory=dict)
    begun: dict[str, Mapping[str, str]] = field(default_factory=dict)
    requests: list[Request] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    page: int = 1000
    keeps_none_match: bool = True
    keeps_match: bool = True
    keeps_completion: bool = True

    def client(self, options: S3Options | None = None) -> "S3Client":
        """Return a client that talks to this."""
        _WIRE.server = self
        return _client(options or S3Options(endpoint="http://s3.test", addressing="path"))

    def operations(self) -> list[str]:
        """Return the operations that were asked for, in order."""
        return [request.operation for request in self.requests]

    def bodies(self) -> int:
        """Return how many bytes of objects were sent."""
        return sum(len(item.body) for item in self.requests if item.method == "PUT")

    def send(self, request: AWSPreparedRequest) -> AWSResponse:
        """Answer a request, as it would leave."""
        asked = _request(request)
        self.requests.append(asked)
        fault = next((item for item in self.faults if item.operation == asked.operation), None)
        if fault is None:
            return _response(request.url, asked, self._obey(asked))
        self.faults.remove(fault)
        if callable(fault.outcome):
            fault.outcome()
            return _response(request.url, asked, self._obey(asked))
        if fault.done:
            self._obey(asked)
        if isinstance(fault.outcome, BaseException):
            raise fault.outcome
        return _response(request.url, asked, fault.outcome)

    def _obey(self, asked: Request) -> Answer:
        obey: dict[str, Callable[[Request], Answer]] = {
            "GET list-type": self._list,
            "POST uploads": self._begin,
            "PUT partNumber": self._part,
            "POST uploadId": self._complete,
            "DELETE uploadId": self._abort,
            "PUT": self._put,
            "GET": self._get,
            "HEAD": self._get,
            "DELETE": self._delete,
        }
        return obey[asked.operation](asked)

    def _put(self, asked: Request) -> Answer:
        if (refused := self._refused(asked, keeps_none_match=self.keeps_none_match)) is not None:
            return refused
        etag = f'"{hashlib.md5(asked.body, usedforsecurity=False).hexdigest()}"'
        self.objects[asked.name] = Object(data=asked.body, headers=_kept(asked.headers), etag=etag)
        return Answer(headers={"etag": etag})

    def _refused(self, asked: Request, *, keeps_none_match: bool) -> Answer | None:
        present = self.objects.get(asked.name)
        if keeps_none_match and "if-none-match" in asked.headers and present is not None:
            return error(412, "PreconditionFailed")
        wanted = asked.headers.get("if-match")
        if wanted is None or not self.keeps_match:
            return None
        if present is None:
            return error(404, "NoSuchKey")
        return None if present.etag == wanted else error(412, "PreconditionFailed")

    def _get(self, asked: Request) -> Answer:
        found = self.objects.get(asked.name)
        if found is None:
            return error(404, "NoSuchKey")
        headers = {**found.headers, "etag": found.etag, "content-length": str(len(found.data))}
        return Answer(body=found.data, headers=headers)

    def _delete(self, asked: Request) -> Answer:
        self.objects.pop(asked.name, None)
        return Answer(status=204)

    def _list(self, asked: Request) -> Answer:
        after = asked.query.get("continuation-token", "")
        below = sorted(name for name in self.objects if name.startswith(asked.query["prefix"]))
        names = [name for name in below if name > after]
        shown, cut = names[: self.page], len(names) > self.page
        entries = "".join(
            f"<Contents><Key>{name}</Key><Size>{len(self.objects[name].data)}</Size></Contents>"
            for name in shown
        )
        token = f"<NextContinuationToken>{shown[-1]}</NextContinuationToken>" if cut else ""
        flag = str(cut).lower()
        return xml(f"<R><IsTruncated>{flag}</IsTruncated>{token}{entries}</R>")

    def _begin(self, asked: Request) -> Answer:
        upload = f"upload-{len(self.begun)}"
        self.uploads[upload], self.begun[upload] = {}, _kept(asked.headers)
        return xml(f"<R><UploadId>{upload}</UploadId></R>")

    def _part(self, asked: Request) -> Answer:
        if (parts := self.uploads.get(asked.query["uploadId"])) is None:
            return error(404, "NoSuchUpload")
        parts[int(asked.query["partNumber"])] = asked.body
        return Answer(headers={"etag": f'"part-{asked.query["partNumber"]}"'})

    def _complete(self, asked: Request) -> Answer:
        upload = asked.query["uploadId"]
        if upload not in self.uploads:
            return error(404, "NoSuchUpload")
        if (refused := self._refused(asked, keeps_none_match=self.keeps_completion)) is not None:
            return refused
        parts = self.uploads.pop(upload)
        named = [int(number.text or "") for number in ET.fromstring(asked.body).iter(PART_NUMBER)]  # noqa: S314 - our own
        data = b"".join(parts[number] for number in named)
        etag = f'"{len(named)} parts"'
        self.objects[asked.name] = Object(data=data, headers=self.begun[upload], etag=etag)
        return xml(f"<R><ETag>{etag}</ETag></R>")

    def _abort(self, asked: Request) -> Answer:
        if self.uploads.pop(asked.query["uploadId"], None) is None:
            return error(404, "NoSuchUpload")
        return Answer(status=204)


class Wire:
    """What all clients send on, to the newest server; making a client takes half a second."""

    server: FakeS3 | None = None

    def send(self, request: AWSPreparedRequest, **_event: object) -> AWSResponse:
        """Pass on a request."""
        assert self.server is not None
        return self.server.send(request)


_WIRE: Final = Wire()


@functools.cache
def _client(options: S3Options) -> "S3Client":
    client = make_client("s3://bucket", options, S3Limits())
    client.meta.events.register("before-send.s3", cast("Any", _WIRE.send))
    return client


PART_NUMBER: Final = "{http://s3.amazonaws.com/doc/2006-03-01/}PartNumber"


def error(status: int, code: str, *, more: str = "", **headers: str) -> Answer:
    """Return an answer of S3's form; underscores in header names stand for hyphens."""
    text = f"<Error><Code>{code}</Code><Message>why</Message>{more}</Error>"
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Answer(status=status, body=text.encode(), headers=named)


def xml(text: str) -> Answer:
    """Return an answer with a document."""
    return Answer(body=text.encode(), headers={"content-type": "application/xml"})


def _kept(headers: Mapping[str, str]) -> dict[str, str]:
    return {
        name: value
        for name, value in headers.items()
        if name in KEPT or name.startswith("x-amz-meta-")
    }


def _request(request: AWSPreparedRequest) -> Request:
    address = urlsplit(str(request.url))
    query = parse_qs(address.query, keep_blank_values=True)
    sent = cast("Mapping[str, Any]", request.headers)
    headers = {
        name.lower(): value.decode() if isinstance(value, bytes) else str(value)
        for name, value in sent.items()
    }
    return Request(
        method=str(request.method),
        name=unquote(address.path).removeprefix(f"/{BUCKET}").removeprefix("/"),
        query={name: values[0] for name, values in query.items()},
        headers=headers,
        body=_bytes(request.body),
    )


def _bytes(body: object) -> bytes:
    if isinstance(body, io.BytesIO):
        return body.getvalue()
    return body if isinstance(body, bytes) else b""


def _response(url: str, asked: Request, answer: Answer) -> AWSResponse:
    body = b"" if asked.method == "HEAD" else answer.body
    length = len(answer.body) if answer.length is None else answer.length
    headers = {"content-length": str(length), **answer.headers}
    # Botocore takes any mapping and any stream, which its types do not say.
    return AWSResponse(url, answer.status, cast("HTTPHeaders", headers), cast("Any", Body(body)))
