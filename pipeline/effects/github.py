"""GitHub's releases, through its REST API (docs.github.com/rest/releases, version 2022-11-28).

A draft is seen by those who may write only, so it is where files are uploaded; who reads a
release by its tag sees it when the draft becomes public, with all of its files. Requests that can
be repeated are, by the policy. The three that make something (a draft, an asset, a public release)
are sent once: who asked for them looks at what became of it before asking again.
"""

import hashlib
import logging
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final, Protocol, TypeVar
from urllib.parse import quote

import requests
from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError
from requests.auth import AuthBase

from pipeline.effects.files import CHUNK
from pipeline.effects.http import CONNECT_TIMEOUT, READ_TIMEOUT, CountedBody
from pipeline.effects.retry import (
    RETRIED_STATUS,
    GaveUpError,
    RetryableError,
    RetryPolicy,
    asked_wait,
)
from pipeline.effects.store import OnBytes, ignore_bytes
from pipeline.errors import DestinationError
from pipeline.model.configs import GithubConfig

API_VERSION: Final = "2022-11-28"
JSON: Final = "application/vnd.github+json"
BYTES: Final = "application/octet-stream"
UPLOADED: Final = "uploaded"
PAGE: Final = 100
MOST_PAGES: Final = 100  # GitHub lists 10 000 releases at most
LONGEST_TOLD: Final = 366 * 86400.0  # a server that asks for more is not believed
PAUSE: Final = 1.0  # seconds between two writes, as GitHub asks for
SECONDARY_WAIT: Final = 60.0  # seconds, the least when a limit does not say how long
LIMITS: Final = frozenset({HTTPStatus.FORBIDDEN, HTTPStatus.TOO_MANY_REQUESTS})
REDIRECTS: Final = frozenset({301, 302, 307, 308})
ALREADY_EXISTS: Final = "already_exists"
SHA256_PREFIX: Final = "sha256:"

T = TypeVar("T")

logger = logging.getLogger(__name__)


class _Answer(BaseModel):
    """Something of GitHub's; it adds fields at any time, so unknown ones are not read."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class GithubRelease(_Answer):
    """A release, or the draft of one. ``upload_url`` is a template that ends in ``{?name,label}``.

    Of an ``immutable`` one only the title (``name``) and the notes (``body``) can be changed.
    """

    id: int
    tag_name: str
    name: str | None
    body: str | None
    draft: bool
    prerelease: bool
    immutable: bool = False
    upload_url: str
    html_url: str


class GithubAsset(_Answer):
    """A file of a release; size in bytes. It is whole when its state is ``uploaded``.

    ``digest`` is ``sha256:`` and hex digits; old files, and those of older servers, have none.
    """

    id: int
    name: str
    state: str
    size: int
    digest: str | None = None

    @property
    def sha256(self) -> str | None:
        """The digest in hex, where GitHub says one."""
        if self.digest is None or not self.digest.startswith(SHA256_PREFIX):
            return None
        return self.digest.removeprefix(SHA256_PREFIX)


class _Problem(_Answer):
    """What is wrong with a request, by GitHub's account."""

    message: str = ""
    errors: tuple[Any, ...] = ()

    def __str__(self) -> str:
        details = [error.get("message") or error.get("code") for error in self._named()]
        return "; ".join([self.message, *(str(detail) for detail in details if detail)])

    def _named(self) -> Iterator[Mapping[str, Any]]:
        return (error for error in self.errors if isinstance(error, dict))


@dataclass(frozen=True, kw_only=True)
class Announcement:
    """What a release says of itself; ``notes`` are Markdown."""

    title: str
    notes: str
    prerelease: bool


class Releases(Protocol):
    """The releases of one repository.

    Every method raises DestinationError if GitHub refuses, or if a request that can be repeated
    was repeated in vain.
    """

    @property
    def address(self) -> str:
        """Where they are, for people."""

    def find(self, tag: str) -> tuple[GithubRelease, ...]:
        """Return the public release of *tag* alone; if there is none, its drafts, oldest first."""

    def latest(self) -> int | None:
        """Return the id of the release that GitHub shows as the latest, or None."""

    def assets(self, release: GithubRelease) -> tuple[GithubAsset, ...]:
        """Return every asset of a release, finished or not."""

    def sha256(self, asset: GithubAsset) -> str:
        """Return the digest of an asset's bytes, which are downloaded for it."""

    def create_draft(self, tag: str, announcement: Announcement) -> GithubRelease:
        """Return a new draft; the tag comes into being when it becomes public.

        Raises:
            RetryableError: there may be one now, or not.
        """

    def upload(
        self,
        draft: GithubRelease,
        name: str,
        path: Path,
        *,
        content_type: str,
        on_bytes: OnBytes = ignore_bytes,
    ) -> None:
        """Add the file at *path* to a draft under *name*.

        Raises:
            RetryableError: there may be such an asset now: all of it, a part, or none.
        """

    def remove_asset(self, draft: GithubRelease, asset: GithubAsset) -> None:
        """Take an asset out of a draft; one of a public release is never touched."""

    def remove_draft(self, draft: GithubRelease) -> None:
        """Take away a draft; a release that became public meanwhile is never touched."""

    def make_public(
        self, draft: GithubRelease, announcement: Announcement, *, latest: bool
    ) -> GithubRelease:
        """Show a draft to everybody, from which there is no return.

        Raises:
            RetryableError: it may be public now, or not.
        """

    def edit(self, release: GithubRelease, announcement: Announcement, *, latest: bool) -> None:
        """Make a public release say something else; its files stay."""


def insist(retry: RetryPolicy, what: str, action: Callable[[], T]) -> T:
    """Return what *action* returns, called as often as the policy allows.

    Raises:
        DestinationError: it was in vain.
    """
    try:
        return retry.call(what, action)
    except GaveUpError as error:
        msg = f"{what}: {error}. What is done stays done: run again to go on."
        raise DestinationError(msg) from error


class GithubReleases:
    """The releases of a repository on GitHub, or on a server with its API.

    The *token* goes into one header and nowhere else. *timeout* is for connecting and for
    reading, *pause* the least time between two writes, both in seconds. Not for several threads:
    GitHub asks for one request after the other.
    """

    def __init__(
        self,
        config: GithubConfig,
        token: str,
        retry: RetryPolicy | None = None,
        *,
        timeout: tuple[float, float] = (CONNECT_TIMEOUT, READ_TIMEOUT),
        pause: float = PAUSE,
    ) -> None:
        self._config = config
        self._token = _checked(token, config)
        self._retry = retry or RetryPolicy()
        self._timeout = timeout
        self._pause = pause
        self._written = -pause
        self._limits_in_a_row = 0
        self._session = requests.Session()
        # As auth and not as a header: requests would replace a header by what .netrc has.
        self._session.auth = _Bearer(self._token)
        self._session.headers.update(
            {
                "Accept": JSON,
                "Accept-Encoding": "identity",
                "User-Agent": "rpython-pipeline",
                "X-GitHub-Api-Version": API_VERSION,
            }
        )

    @property
    def address(self) -> str:
        """The repository, and the server's API if that is not GitHub's own."""
        return f"{self._config.repository} at {self._config.api}"

    def find(self, tag: str) -> tuple[GithubRelease, ...]:
        """Return the public release of *tag* alone; if there is none, its drafts, oldest first."""
        public = self._get_one(self._url("releases", "tags", tag), GithubRelease)
        if public is not None:
            return (public,)
        listed = [
            release
            for release in self._list(self._url("releases"), GithubRelease)
            if release.tag_name == tag
        ]
        # Right after it became public a release may be in one of the two answers only.
        public_ones = tuple(release for release in listed if not release.draft)
        return public_ones or tuple(sorted(listed, key=lambda release: release.id))

    def latest(self) -> int | None:
        """Return the id of the release that GitHub shows as the latest, or None."""
        release = self._get_one(self._url("releases", "latest"), GithubRelease)
        return None if release is None else release.id

    def assets(self, release: GithubRelease) -> tuple[GithubAsset, ...]:
        """Return every asset of a release, finished or not."""
        return tuple(self._list(self._url("releases", release.id, "assets"), GithubAsset))

    def sha256(self, asset: GithubAsset) -> str:
        """Return the digest of an asset's bytes, which are downloaded for it."""
        return insist(self._retry, f"download {asset.name}", lambda: self._hash(asset))

    def create_draft(self, tag: str, announcement: Announcement) -> GithubRelease:
        """Return a new draft; the tag comes into being when it becomes public."""
        fields = {"tag_name": tag, "draft": True, **_fields(announcement)}
        answer = self._write("POST", self._url("releases"), json=fields)
        return _parsed(answer, GithubRelease)

    def upload(
        self,
        draft: GithubRelease,
        name: str,
        path: Path,
        *,
        content_type: str,
        on_bytes: OnBytes = ignore_bytes,
    ) -> None:
        """Add the file at *path* to a draft under *name*."""
        with path.open("rb") as stream:
            self._write(
                "POST",
                self._upload_url(draft),
                params={"name": name},
                headers={"Content-Type": content_type},
                data=CountedBody(stream, path.stat().st_size, on_bytes),
            )

    def remove_asset(self, draft: GithubRelease, asset: GithubAsset) -> None:
        """Take an asset out of a draft; one of a public release is never touched."""
        if self._still_draft(draft):
            self._delete(self._url("releases", "assets", asset.id))

    def remove_draft(self, draft: GithubRelease) -> None:
        """Take away a draft; a release that became public meanwhile is never touched."""
        if self._still_draft(draft):
            self._delete(self._url("releases", draft.id))

    def make_public(
        self, draft: GithubRelease, announcement: Announcement, *, latest: bool
    ) -> GithubRelease:
        """Show a draft to everybody, from which there is no return."""
        fields = {"draft": False, "make_latest": _made(latest), **_fields(announcement)}
        answer = self._write("PATCH", self._url("releases", draft.id), json=fields)
        return _parsed(answer, GithubRelease)

    def edit(self, release: GithubRelease, announcement: Announcement, *, latest: bool) -> None:
        """Make a public release say something else; its files stay."""
        # Left out, make_latest would be true: an old release would become the latest.
        fields = {"make_latest": _made(latest), **_fields(announcement)}
        if release.immutable:
            del fields["prerelease"]
        url = self._url("releases", release.id)
        insist(
            self._retry,
            f"edit {release.tag_name}",
            lambda: _parsed(self._write("PATCH", url, json=fields), GithubRelease),
        )

    def _url(self, *parts: str | int) -> str:
        path = "/".join(quote(str(part), safe="") for part in parts)
        return f"{self._config.api}/repos/{self._config.repository}/{path}"

    def _upload_url(self, draft: GithubRelease) -> str:
        url = draft.upload_url.partition("{")[0]
        if self._config.api.startswith("https://") and not url.startswith("https://"):
            msg = f"{self.address}: wants uploads at {url}, where the token would be readable."
            raise DestinationError(msg)
        return url

    def _still_draft(self, draft: GithubRelease) -> bool:
        """Whether *draft* is there and one still.

        Raises:
            DestinationError: it is public, so somebody else works on it.
        """
        present = self._get_one(self._url("releases", draft.id), GithubRelease)
        if present is not None and not present.draft:
            msg = (
                f"{draft.tag_name}: became public while this run worked on its draft. "
                "Is another run under way? Run again when it has ended."
            )
            raise DestinationError(msg)
        return present is not None

    def _get_one(self, url: str, model: type[T]) -> T | None:
        """Return what is at *url*, or None if nothing is."""

        def attempt() -> T | None:
            with self._send("GET", url) as answer:
                if answer.status_code == HTTPStatus.NOT_FOUND:
                    return None
                self._check(answer)
                return _parsed(answer, model)

        return insist(self._retry, f"GET {url}", attempt)

    def _list(self, url: str, model: type[T]) -> Iterator[T]:
        for page in range(1, MOST_PAGES + 1):
            items, is_last = insist(
                self._retry,
                f"GET {url}",
                lambda page=page: self._page(url, page, model),  # type: ignore[misc]
            )
            yield from items
            if is_last:
                return

    def _page(self, url: str, page: int, model: type[T]) -> tuple[list[T], bool]:
        with self._send("GET", url, params={"per_page": PAGE, "page": page}) as answer:
            self._check(answer)
            return _parsed(answer, list[model]), "next" not in answer.links  # type: ignore[valid-type]

    def _hash(self, asset: GithubAsset) -> str:
        digest, received = hashlib.sha256(), 0
        url = self._url("releases", "assets", asset.id)
        # GitHub leads to another host, for which requests takes the token off.
        options = {"headers": {"Accept": BYTES}, "stream": True, "allow_redirects": True}
        try:
            with self._send("GET", url, **options) as answer:
                self._check(answer)
                for chunk in answer.iter_content(CHUNK):
                    digest.update(chunk)
                    received += len(chunk)
        except requests.RequestException as error:
            raise RetryableError(self._without_token(error)) from error
        if received != asset.size:
            msg = f"{received} of {asset.size} bytes came"
            raise RetryableError(msg)
        return digest.hexdigest()

    def _delete(self, url: str) -> None:
        def attempt() -> None:
            self._keep_pace()
            with self._send("DELETE", url) as answer:
                if answer.status_code == HTTPStatus.NOT_FOUND:
                    return
                self._check(answer)
                if answer.status_code != HTTPStatus.NO_CONTENT:
                    raise _nonsense(answer)

        insist(self._retry, f"DELETE {url}", attempt)

    def _write(self, method: str, url: str, **options: Any) -> requests.Response:
        """Send a request that changes something, once."""
        self._keep_pace()
        with self._send(method, url, **options) as answer:
            self._check(answer)
            return answer

    def _keep_pace(self) -> None:
        wait = self._written + self._pause - time.monotonic()
        if wait > 0:
            self._retry.sleep(wait)
        self._written = time.monotonic()

    def _send(
        self, method: str, url: str, **options: Any
    ) -> AbstractContextManager[requests.Response]:
        logger.debug("%s %s", method, url)
        options = {"allow_redirects": False, "timeout": self._timeout, **options}
        try:
            return self._session.request(method, url, **options)
        except requests.RequestException as error:
            raise RetryableError(self._without_token(error)) from error

    def _check(self, answer: requests.Response) -> None:
        """Raise what an answer other than success means."""
        if answer.status_code < HTTPStatus.MULTIPLE_CHOICES:
            self._limits_in_a_row = 0
            return
        problem = self._without_token(_problem(answer))
        wait = limit_wait(answer.status_code, answer.headers, problem)
        if wait is not None:
            raise self._limited(wait, answer, problem)
        if answer.status_code in RETRIED_STATUS:
            msg = f"HTTP {answer.status_code} {problem}".strip()
            raise RetryableError(msg, asked_wait(answer.headers.get("Retry-After")))
        if answer.status_code == HTTPStatus.UNPROCESSABLE_ENTITY and ALREADY_EXISTS in problem:
            msg = f"it is there already ({problem})"
            raise RetryableError(msg, 0.0)
        raise DestinationError(self._refusal(answer, problem))

    def _limited(self, wait: float, answer: requests.Response, problem: str) -> Exception:
        """Return what to raise for a rate limit: a wait, or that it is too long for one."""
        if not _says_how_long(answer.headers):
            wait *= 2.0**self._limits_in_a_row
        self._limits_in_a_row += 1
        if wait <= self._retry.longest_wait:
            return RetryableError(f"rate limit: {problem}", wait)
        longest = timedelta(seconds=min(wait, LONGEST_TOLD))
        end = datetime.fromtimestamp(_server_time(answer.headers), UTC) + longest
        return DestinationError(
            f"{self.address}: its rate limit is used up ({problem}). What is done stays done: "
            f"run again after {end:%Y-%m-%d %H:%M:%S} UTC."
        )

    def _refusal(self, answer: requests.Response, problem: str) -> str:
        status, repository = answer.status_code, self._config.repository
        token = f"the token in {self._config.variable}"
        if status in REDIRECTS:
            remedy = "It has another name now: change github.repository in channels.toml."
        elif status == HTTPStatus.UNAUTHORIZED:
            remedy = f"Check {token}: it is wrong or has expired."
        elif status == HTTPStatus.FORBIDDEN:
            remedy = f"Check that {token} has the right contents:write on {repository}."
        elif status == HTTPStatus.NOT_FOUND:
            remedy = (
                f"Check github.repository in channels.toml, and that {token} has the right "
                f"contents:write on {repository}."
            )
        else:
            remedy = "Sending it again would not change that."
        request = f"{answer.request.method} {answer.url.partition('?')[0]}"
        return f"{request}: HTTP {status} {problem}".strip() + f". {remedy}"

    def _without_token(self, text: object) -> str:
        return str(text).replace(self._token, "***")


class _Bearer(AuthBase):
    """Adds the token to a request."""

    def __init__(self, token: str) -> None:
        self._token = token

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers["Authorization"] = f"Bearer {self._token}"
        return request


def limit_wait(status: int, headers: Mapping[str, str], problem: str) -> float | None:
    """Return for how many seconds a rate limit asks to wait, or None if none was met.

    The rules are docs.github.com/rest/using-the-rest-api/best-practices-for-using-the-rest-api's.
    *headers* ignore the case of names.
    """
    if status not in LIMITS:
        return None
    asked = asked_wait(headers.get("Retry-After"), lambda: _server_time(headers))
    if asked is not None:
        return asked
    reset = _reset(headers)
    if reset is not None:
        # Both times are in whole seconds, so one may be missing.
        return max(0.0, reset - _server_time(headers)) + 1.0
    if status == HTTPStatus.TOO_MANY_REQUESTS or "rate limit" in problem.lower():
        return SECONDARY_WAIT
    return None


def _reset(headers: Mapping[str, str]) -> float | None:
    """Return when the primary limit begins anew, in seconds since 1970, if it is used up."""
    reset = headers.get("x-ratelimit-reset", "")
    if headers.get("x-ratelimit-remaining") != "0" or not (reset.isascii() and reset.isdigit()):
        return None
    return float(reset)


def _says_how_long(headers: Mapping[str, str]) -> bool:
    return "Retry-After" in headers or _reset(headers) is not None


def _server_time(headers: Mapping[str, str]) -> float:
    """Return the server's time in seconds since 1970: this machine's clock may be wrong."""
    try:
        return parsedate_to_datetime(headers["Date"]).timestamp()
    except (KeyError, ValueError):
        return time.time()


def _problem(answer: requests.Response) -> str:
    try:
        return str(_Problem.model_validate_json(answer.content))
    except ValidationError:
        return answer.reason or ""


def _parsed(answer: requests.Response, model: type[T]) -> T:
    try:
        return TypeAdapter(model).validate_json(answer.content)
    except ValidationError as error:
        raise _nonsense(answer) from error


def _nonsense(answer: requests.Response) -> RetryableError:
    """Return what to raise for an answer that a proxy gave instead of GitHub, or a part of one."""
    return RetryableError(f"HTTP {answer.status_code} with an answer that is not the API's")


def _fields(announcement: Announcement) -> dict[str, Any]:
    return {
        "name": announcement.title,
        "body": announcement.notes,
        "prerelease": announcement.prerelease,
    }


def _made(latest: bool) -> str:  # noqa: FBT001 - GitHub's name for a boolean
    return "true" if latest else "false"


def _checked(token: str, config: GithubConfig) -> str:
    """Return *token* if it can stand in a header; requests would show it in the error if not."""
    if not token or not token.isascii() or not token.isprintable() or " " in token:
        msg = (
            f"{config.variable}: is not a token (empty, or with blanks, line ends or other "
            "characters that no token has). Set it again."
        )
        raise DestinationError(msg)
    return token
