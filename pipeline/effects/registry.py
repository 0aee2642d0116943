"""A registry of images, by the OCI distribution specification 1.1 (github.com/opencontainers).

Blobs and manifests are named by their digests, so putting them again is harmless, and whatever is
interrupted is gone on with by doing it again. A tag is replaced without a condition: registries
have no compare-and-swap, so who moves tags looks afterwards whether that was still right.

Credentials go into one header of requests to the registry itself and to whom it names for tokens,
nowhere else: not to other hosts that it leads to, into no message and no log.
"""

import hashlib
import logging
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import IO, Any, Final, Protocol, TypeVar
from urllib.parse import urlencode, urljoin, urlsplit

import requests
from pydantic import BaseModel, ConfigDict, ValidationError
from requests.adapters import HTTPAdapter
from requests.auth import AuthBase
from requests.structures import CaseInsensitiveDict
from requests.utils import parse_header_links

from pipeline.effects.files import CHUNK
from pipeline.effects.github import insist
from pipeline.effects.http import CONNECT_TIMEOUT, CONNECTIONS, READ_TIMEOUT, CountedBody
from pipeline.effects.registry_login import DOCKER_HUB, Challenge, Credentials, challenges_of
from pipeline.effects.retry import RETRIED_STATUS, RetryableError, RetryPolicy, asked_wait
from pipeline.effects.store import OnBytes, ignore_bytes
from pipeline.errors import DestinationError, FetchBackError
from pipeline.model.images import (
    IMAGE_INDEX_TYPE,
    IMAGE_MANIFEST_TYPE,
    LOOPBACK,
    RegistryConfig,
)

BYTES: Final = "application/octet-stream"
LARGEST_ANSWER: Final = 4 << 20  # bytes; the specification's limit for manifests
PAGE: Final = 1000
MOST_PAGES: Final = 100
MOST_REDIRECTS: Final = 5
REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
DIGEST_HEADER: Final = "Docker-Content-Digest"
SUBJECT_HEADER: Final = "OCI-Subject"
# Those of Docker's own make too: a tag may lead to what others pushed.
ACCEPTED: Final = (
    f"{IMAGE_INDEX_TYPE}, {IMAGE_MANIFEST_TYPE}, "
    "application/vnd.docker.distribution.manifest.list.v2+json, "
    "application/vnd.docker.distribution.manifest.v2+json"
)
PULL: Final = "pull"
PUSH: Final = "pull,push"
DELETE: Final = "pull,push,delete"
# What came was not what was sent, or the upload was forgotten: nothing is wrong with the bytes.
PASSING_CODES: Final = frozenset({"BLOB_UPLOAD_INVALID", "BLOB_UPLOAD_UNKNOWN", "DIGEST_INVALID"})
UNKNOWN_CODES: Final = frozenset({"MANIFEST_BLOB_UNKNOWN", "BLOB_UNKNOWN"})

_QUERY: Final = re.compile(r"\?[^\s'\")>]+")

T = TypeVar("T")

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Blob:
    """Bytes to put: their digest (``sha256:...``), their number, and what opens them anew."""

    digest: str
    size: int
    open: Callable[[], IO[bytes]]


@dataclass(frozen=True, kw_only=True)
class StoredManifest:
    """A manifest or an index as a registry has it."""

    data: bytes
    digest: str


class ImageRegistry(Protocol):
    """The repositories below one place of a registry; *image* is a repository's last component.

    Every method raises DestinationError if the registry refuses, or if it was asked in vain as
    often as the policy allows. Methods may be called by several threads.
    """

    @property
    def address(self) -> str:
        """Where the repositories are, for people and for clients: ``ghcr.io/owner``."""

    def blob_size(self, image: str, digest: str) -> int | None:
        """Return the size in bytes of a blob that is there, or None."""

    def blob(self, image: str, digest: str) -> bytes | None:
        """Return a blob of at most 4 MiB, its digest checked; None if it is not there.

        Raises:
            FetchBackError: what came has another digest than was asked for.
        """

    def put_blob(self, image: str, blob: Blob, on_bytes: OnBytes = ignore_bytes) -> bool:
        """Make a blob be there; return whether it had to be sent."""

    def manifest(self, image: str, reference: str) -> StoredManifest | None:
        """Return what a tag or digest leads to, its digest checked; None if there is nothing.

        Raises:
            FetchBackError: what came has another digest than was asked for or is said.
        """

    def digest_of(self, image: str, reference: str) -> str | None:
        """Return the digest that a tag or digest leads to, or None if there is nothing."""

    def put_manifest(self, image: str, reference: str, data: bytes, media_type: str) -> bool:
        """Make a tag or digest lead to *data*.

        Return whether the registry itself lists it among the referrers of its subject.

        Raises:
            FetchBackError: the registry took something else for it.
        """

    def remove_manifest(self, image: str, reference: str) -> bool:
        """Take away a tag, or by its digest a manifest; return False if the registry cannot."""

    def tags(self, image: str) -> tuple[str, ...]:
        """Return every tag of a repository; none if there is no such repository."""

    def referrers(self, image: str, digest: str) -> tuple[bytes, ...] | None:
        """Return the pages (indexes) of what has *digest* as its subject.

        None: the registry has no such list, which a tag stands in for.
        """


@dataclass(frozen=True, kw_only=True)
class _Answer:
    method: str
    url: str
    status: int
    headers: CaseInsensitiveDict[str]
    data: bytes

    @property
    def following(self) -> str | None:
        """The address of the next page of a list (RFC 8288)."""
        links = parse_header_links(self.headers.get("Link", ""))
        found = (link["url"] for link in links if link.get("rel") == "next")
        url = next(found, None)
        return None if url is None else urljoin(self.url, url)


@dataclass(frozen=True, kw_only=True)
class _Ask:
    """A request; ``body`` makes its body anew each time that it is sent."""

    method: str
    url: str
    image: str
    right: str
    headers: Mapping[str, str]
    body: Callable[[], Any] | None = None


class _Problem(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")

    code: str = ""
    message: str = ""


class _Problems(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")

    errors: tuple[_Problem, ...] = ()


class _Token(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")

    token: str = ""
    access_token: str = ""


class _TagList(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")

    tags: tuple[str, ...] | None = None


class HttpRegistry:
    """A registry over HTTP. *timeout* is for connecting and for reading, in seconds."""

    def __init__(
        self,
        config: RegistryConfig,
        credentials: Credentials | None = None,
        retry: RetryPolicy | None = None,
        *,
        timeout: tuple[float, float] = (CONNECT_TIMEOUT, READ_TIMEOUT),
    ) -> None:
        self._config = config
        self._credentials = credentials
        self._retry = retry or RetryPolicy()
        self._timeout = timeout
        self._known: dict[tuple[str, str], str] = {}
        self._secrets = set() if credentials is None else {credentials.password, credentials.basic}
        self._session = requests.Session()
        self._session.headers.update(
            {"Accept-Encoding": "identity", "User-Agent": "rpython-pipeline"}
        )
        for scheme in ("http://", "https://"):
            self._session.mount(scheme, HTTPAdapter(pool_maxsize=CONNECTIONS))
        host = "registry-1.docker.io" if config.host in DOCKER_HUB else config.host
        self._base = f"{'http' if config.plain_http else 'https'}://{host}"

    @property
    def address(self) -> str:
        """Where the repositories are, for people and for clients: ``ghcr.io/owner``."""
        return self._config.repository

    def blob_size(self, image: str, digest: str) -> int | None:
        """Return the size in bytes of a blob that is there, or None."""
        return self._insist(
            f"look for {digest} in {image}", lambda: self._blob_size(image, digest, PULL)
        )

    def blob(self, image: str, digest: str) -> bytes | None:
        """Return a blob of at most 4 MiB, its digest checked; None if it is not there."""
        answer = self._get_one(self._ask("GET", image, f"blobs/{digest}"))
        if answer is None:
            return None
        self._require_digest(image, digest, answer.data, digest)
        return answer.data

    def put_blob(self, image: str, blob: Blob, on_bytes: OnBytes = ignore_bytes) -> bool:
        """Make a blob be there; return whether it had to be sent."""
        return self._insist(
            f"put {blob.digest} into {image}", lambda: self._put_blob(image, blob, on_bytes)
        )

    def manifest(self, image: str, reference: str) -> StoredManifest | None:
        """Return what a tag or digest leads to, its digest checked; None if there is nothing."""
        answer = self._get_one(self._ask("GET", image, f"manifests/{reference}"))
        if answer is None:
            return None
        digest = _digest(answer.data)
        told = reference if ":" in reference else answer.headers.get(DIGEST_HEADER, digest)
        self._require_digest(image, reference, answer.data, told)
        return StoredManifest(data=answer.data, digest=digest)

    def digest_of(self, image: str, reference: str) -> str | None:
        """Return the digest that a tag or digest leads to, or None if there is nothing."""
        answer = self._get_one(self._ask("HEAD", image, f"manifests/{reference}"))
        if answer is None:
            return None
        if told := answer.headers.get(DIGEST_HEADER):
            return told
        present = self.manifest(image, reference)  # a registry may leave out that header
        return None if present is None else present.digest

    def put_manifest(self, image: str, reference: str, data: bytes, media_type: str) -> bool:
        """Make a tag or digest lead to *data*."""
        ask = self._ask(
            "PUT",
            image,
            f"manifests/{reference}",
            headers={"Content-Type": media_type},
            body=lambda: data,
        )
        answer = self._insist(f"put {self._named(image, reference)}", lambda: self._done(ask))
        told = answer.headers.get(DIGEST_HEADER) or self.digest_of(image, reference)
        if told != _digest(data):
            msg = (
                f"{self._named(image, reference)}: {_digest(data)} was put, but the registry has "
                f"{told}. Run again; if that is still so, the registry changes what it is given."
            )
            raise FetchBackError(msg)
        return SUBJECT_HEADER in answer.headers

    def remove_manifest(self, image: str, reference: str) -> bool:
        """Take away a tag, or by its digest a manifest; return False if the registry cannot."""
        ask = self._ask("DELETE", image, f"manifests/{reference}", right=DELETE)
        return self._insist(
            f"remove {self._named(image, reference)}", lambda: self._was_removed(ask)
        )

    def tags(self, image: str) -> tuple[str, ...]:
        """Return every tag of a repository; none if there is no such repository."""
        pages = self._pages(self._ask("GET", image, f"tags/list?n={PAGE}"))
        return tuple(tag for page in pages or () for tag in self._tags_of(page))

    def referrers(self, image: str, digest: str) -> tuple[bytes, ...] | None:
        """Return the pages (indexes) of what has *digest* as its subject."""
        pages = self._pages(self._ask("GET", image, f"referrers/{digest}"))
        return None if pages is None else tuple(page.data for page in pages)

    # --- one attempt each ---------------------------------------------------------------------

    def _blob_size(self, image: str, digest: str, right: str) -> int | None:
        answer = self._send(self._ask("HEAD", image, f"blobs/{digest}", right=right))
        if answer.status == HTTPStatus.NOT_FOUND:
            return None
        self._check(answer)
        length = answer.headers.get("Content-Length", "")
        if not (length.isascii() and length.isdigit()):
            raise _nonsense(answer)
        return int(length)

    def _put_blob(self, image: str, blob: Blob, on_bytes: OnBytes) -> bool:
        if self._blob_size(image, blob.digest, PUSH) == blob.size:
            return False
        begun = self._done(self._ask("POST", image, "blobs/uploads/"))
        url = self._upload_url(begun, blob.digest)
        with blob.open() as stream:

            def body() -> CountedBody:
                stream.seek(0)
                return CountedBody(stream, blob.size, on_bytes)

            headers = {"Content-Type": BYTES}
            ask = _Ask(method="PUT", url=url, image=image, right=PUSH, headers=headers, body=body)
            self._done(ask)
        return True

    def _upload_url(self, begun: _Answer, digest: str) -> str:
        """Return where a blob's bytes go, which may be another host."""
        location = begun.headers.get("Location")
        if begun.status != HTTPStatus.ACCEPTED or location is None:
            raise _nonsense(begun)
        url = self._not_readable(urljoin(begun.url, location))
        return f"{url}{'&' if urlsplit(url).query else '?'}{urlencode({'digest': digest})}"

    def _was_removed(self, ask: _Ask) -> bool:
        answer = self._send(ask)
        if answer.status == HTTPStatus.NOT_FOUND:
            return True
        unsupported = {HTTPStatus.BAD_REQUEST, HTTPStatus.METHOD_NOT_ALLOWED}
        if answer.status in unsupported:
            logger.debug("DELETE %s: %s", _shown(ask.url), self._problem(answer))
            return False
        self._check(answer)
        return True

    def _get_one(self, ask: _Ask) -> _Answer | None:
        def attempt() -> _Answer | None:
            answer = self._send(ask)
            if answer.status == HTTPStatus.NOT_FOUND:
                return None
            return self._check(answer)

        return self._insist(f"{ask.method} {_shown(ask.url)}", attempt)

    def _pages(self, ask: _Ask) -> list[_Answer] | None:
        """Return the pages of a list, or None if there is no such list."""
        first = self._get_one(ask)
        if first is None:
            return None
        pages = [first]
        while (url := pages[-1].following) is not None and len(pages) < MOST_PAGES:
            if _origin(url) != _origin(self._base):
                msg = f"{_shown(ask.url)}: goes on at {_shown(url)}, which is another host."
                raise DestinationError(msg)
            following = self._get_one(
                _Ask(method="GET", url=url, image=ask.image, right=PULL, headers=ask.headers)
            )
            if following is None:
                break
            pages.append(following)
        return pages

    def _tags_of(self, page: _Answer) -> tuple[str, ...]:
        try:
            return _TagList.model_validate_json(page.data).tags or ()
        except ValidationError:
            msg = f"{_shown(page.url)}: its answer is not a registry's list of tags."
            raise DestinationError(msg) from None

    def _ask(
        self,
        method: str,
        image: str,
        what: str,
        *,
        right: str | None = None,
        headers: Mapping[str, str] | None = None,
        body: Callable[[], Any] | None = None,
    ) -> _Ask:
        reading = method in ("GET", "HEAD")
        return _Ask(
            method=method,
            url=f"{self._base}/v2/{self._repository(image)}/{what}",
            image=image,
            right=right or (PULL if reading else PUSH),
            headers={"Accept": ACCEPTED} if reading else headers or {},
            body=body,
        )

    def _repository(self, image: str) -> str:
        return "/".join(filter(None, (self._config.namespace, image)))

    def _named(self, image: str, reference: str) -> str:
        return f"{self.address}/{image}{'@' if ':' in reference else ':'}{reference}"

    def _require_digest(self, image: str, reference: str, data: bytes, told: str) -> None:
        if (digest := _digest(data)) != told:
            msg = (
                f"{self._named(image, reference)}: the registry gave {digest} for {told}. "
                "Run again; if that is still so, its content is damaged."
            )
            raise FetchBackError(msg)

    def _insist(self, what: str, action: Callable[[], T]) -> T:
        return insist(self._retry, f"{self.address}: {what}", action)

    # --- who asks -----------------------------------------------------------------------------

    def _done(self, ask: _Ask) -> _Answer:
        return self._check(self._send(ask))

    def _send(self, ask: _Ask) -> _Answer:
        """Send a request; when the registry asks who we are, say it and send it again.

        Another host that it leads to may not ask: it would choose to whom the password goes.
        """
        place = (ask.image, ask.right)
        answer = self._followed(ask, self._known.get(place))
        is_registry = _origin(answer.url) == _origin(self._base)
        if answer.status != HTTPStatus.UNAUTHORIZED or not is_registry:
            return answer
        authorization = self._authorization(answer, ask)
        if authorization is None:
            return answer
        self._known[place] = authorization
        return self._followed(ask, authorization)

    def _authorization(self, answer: _Answer, ask: _Ask) -> str | None:
        """Return the header that an answer's challenge asks for, or None if we have nothing."""
        challenges = challenges_of(answer.headers.get("WWW-Authenticate", ""))
        by_scheme = {challenge.scheme: challenge for challenge in challenges}
        if "bearer" in by_scheme:
            return f"Bearer {self._token(by_scheme['bearer'], ask)}"
        if "basic" in by_scheme and self._credentials is not None:
            return f"Basic {self._credentials.basic}"
        return None

    def _token(self, challenge: Challenge, ask: _Ask) -> str:
        """Return a token for what is asked, from where the registry says it is given."""
        parameters = challenge.parameters
        scope = parameters.get("scope") or f"repository:{self._repository(ask.image)}:{ask.right}"
        query = [("service", parameters["service"])] if "service" in parameters else []
        query += [("scope", item) for item in scope.split()]
        realm = self._not_readable(parameters.get("realm", ""))
        url = f"{realm}{'&' if urlsplit(realm).query else '?'}{urlencode(query)}"
        basic = None if self._credentials is None else f"Basic {self._credentials.basic}"
        answer = self._once("GET", url, {}, None, basic)
        if answer.status in {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}:
            raise DestinationError(self._refusal(answer))
        self._check(answer)
        try:
            given = _Token.model_validate_json(answer.data)
        except ValidationError:
            raise _nonsense(answer) from None
        token = given.token or given.access_token
        if not (token and token.isascii() and token.isprintable() and " " not in token):
            raise _nonsense(answer)
        self._secrets.add(token)
        return token

    def _followed(self, ask: _Ask, authorization: str | None) -> _Answer:
        """Send a request, and what only reads also to where it is led; there without a name."""
        url = ask.url
        for _ in range(MOST_REDIRECTS):
            if _origin(url) != _origin(self._base):
                authorization = None
            answer = self._once(
                ask.method, url, ask.headers, ask.body and ask.body(), authorization
            )
            location = answer.headers.get("Location")
            leads_on = answer.status in REDIRECTS and ask.method in ("GET", "HEAD")
            if not leads_on or location is None:
                return answer
            url = self._not_readable(urljoin(url, location))
        msg = f"{_shown(ask.url)}: led on {MOST_REDIRECTS} times. Check registry.repository."
        raise DestinationError(msg)

    def _not_readable(self, url: str) -> str:
        """Return *url*, refused where others on the network could read what goes there."""
        parts = urlsplit(url)
        is_here = self._config.plain_http and LOOPBACK.fullmatch(parts.netloc) is not None
        if parts.scheme != "https" and not is_here:
            msg = (
                f"{self.address}: leads to {_shown(url)!r}, which is not https. Nothing was sent "
                "there; the registry, or a proxy before it, has to be configured for https."
            )
            raise DestinationError(msg)
        return url

    def _once(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        body: Any,
        authorization: str | None,
    ) -> _Answer:
        logger.debug("%s %s", method, _shown(url))
        try:
            with self._session.request(
                method,
                url,
                headers=dict(headers),
                data=body,
                auth=_Header(authorization),
                allow_redirects=False,
                timeout=self._timeout,
                stream=True,
            ) as answer:
                data = b"" if method == "HEAD" else b"".join(self._bounded(answer))
        except requests.RequestException as error:
            raise RetryableError(self._without_secrets(error)) from None
        return _Answer(
            method=method, url=url, status=answer.status_code, headers=answer.headers, data=data
        )

    def _bounded(self, answer: requests.Response) -> Iterator[bytes]:
        received = 0
        for chunk in answer.iter_content(CHUNK):
            received += len(chunk)
            if received > LARGEST_ANSWER:
                msg = f"{_shown(answer.url)}: its answer has more than {LARGEST_ANSWER} bytes."
                raise DestinationError(msg)
            yield chunk

    # --- what answers mean --------------------------------------------------------------------

    def _check(self, answer: _Answer) -> _Answer:
        """Return an answer that says yes; raise what any other means."""
        if answer.status < HTTPStatus.MULTIPLE_CHOICES:
            return answer
        problem = self._problem(answer)
        if answer.status in RETRIED_STATUS or _codes(answer) & PASSING_CODES:
            msg = f"HTTP {answer.status} {problem}".strip()
            raise RetryableError(msg, asked_wait(answer.headers.get("Retry-After")))
        raise DestinationError(self._refusal(answer))

    def _refusal(self, answer: _Answer) -> str:
        remedies: dict[int, str] = {
            HTTPStatus.UNAUTHORIZED: self._who(),
            HTTPStatus.FORBIDDEN: f"It needs the right to {_right(answer.method)} there. "
            + self._who(),
            HTTPStatus.NOT_FOUND: "Check registry.repository in channels.toml; some registries "
            "want a repository to be made before something is pushed. " + self._who(),
            HTTPStatus.REQUEST_ENTITY_TOO_LARGE: "The registry, or a proxy before it, takes no "
            "body of that size: raise its limit.",
        }
        if _codes(answer) & UNKNOWN_CODES:
            remedies[answer.status] = (
                "Images that it names are not in the registry (any more). Run the command again "
                "that released them: it pushes what is missing."
            )
        remedy = remedies.get(answer.status, "Sending it again would not change that.")
        request = f"{answer.method} {_shown(answer.url)}: HTTP {answer.status}"
        return f"{request} {self._problem(answer)}".strip() + f". {remedy}"

    def _who(self) -> str:
        names = f"{self._config.username_variable} and {self._config.password_variable}"
        if self._credentials is None:
            return f"Nobody is logged in: set {names}, or docker login {self._config.host}."
        return f"Check {names} (or docker's own file): they are wrong, too old or lack a right."

    def _problem(self, answer: _Answer) -> str:
        texts = (f"{item.code} {item.message}".strip() for item in _problems(answer))
        return self._without_secrets("; ".join(texts))

    def _without_secrets(self, text: object) -> str:
        """Return *text* without what only we and the registry may know; queries may be such."""
        shown = _QUERY.sub("?***", str(text))
        for secret in sorted(self._secrets, key=len, reverse=True):
            shown = shown.replace(secret, "***")
        return shown


class _Header(AuthBase):
    """Says who asks, or nothing; with any of these requests does not look into .netrc."""

    def __init__(self, authorization: str | None) -> None:
        self._authorization = authorization

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        if self._authorization is not None:
            request.headers["Authorization"] = self._authorization
        return request


def _problems(answer: _Answer) -> tuple[_Problem, ...]:
    try:
        return _Problems.model_validate_json(answer.data).errors
    except ValidationError:
        return ()


def _codes(answer: _Answer) -> set[str]:
    return {problem.code for problem in _problems(answer)}


def _right(method: str) -> str:
    if method in ("GET", "HEAD"):
        return "pull"
    return "delete" if method == "DELETE" else "push"


def _nonsense(answer: _Answer) -> RetryableError:
    """Return what to raise for an answer that is not a registry's, as a proxy gives it."""
    return RetryableError(f"HTTP {answer.status} with an answer that is not a registry's")


def _origin(url: str) -> tuple[str, str]:
    parts = urlsplit(url)
    return parts.scheme, parts.netloc


def _shown(url: str) -> str:
    """Return an address without its query, which may let whoever knows it upload or download."""
    return url.partition("?")[0]


def _digest(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"
