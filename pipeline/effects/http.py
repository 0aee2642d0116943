"""The network: downloads of pinned files, and what the public gets from a store."""

import hashlib
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import IO, Final

import requests
from requests.adapters import HTTPAdapter
from urllib3.exceptions import HTTPError

from pipeline.effects.files import CHUNK, new_file, sha256_of
from pipeline.effects.retry import (
    RETRIED_STATUS,
    GaveUpError,
    RetryableError,
    RetryPolicy,
    asked_wait,
)
from pipeline.errors import DigestMismatchError, DownloadError
from pipeline.model.configs import Pin

logger = logging.getLogger(__name__)

CONNECT_TIMEOUT: Final = 15.0
READ_TIMEOUT: Final = 60.0

CONNECTIONS: Final = 64
# What browsers and clients send: a server that answers with an encoding makes them store other
# bytes than were signed.
ANY_ENCODING: Final = {"Accept-Encoding": "gzip, deflate, br, zstd"}

OnBytes = Callable[[int], None]


@dataclass(frozen=True, kw_only=True)
class Received:
    """What the public gets at an address: size in bytes, digest, and what the headers say."""

    size: int
    sha256: str
    content_type: str | None
    content_encoding: str | None


class CountedBody:
    """A stream's bytes on their way. Since their number is known, requests sends them as they are.

    *size* is in bytes; *on_bytes* is told what was sent.
    """

    def __init__(self, stream: IO[bytes], size: int, on_bytes: OnBytes) -> None:
        self._stream = stream
        self._size = size
        self._on_bytes = on_bytes

    def __len__(self) -> int:
        return self._size

    def __iter__(self) -> Iterator[bytes]:
        while chunk := self._stream.read(CHUNK):
            yield chunk
            self._on_bytes(len(chunk))


class HttpClient:
    """Downloads files whose digest is known. Faults of the network and 5xx are retried."""

    def __init__(
        self, retry: RetryPolicy | None = None, *, read_timeout: float = READ_TIMEOUT
    ) -> None:
        self._timeout = (CONNECT_TIMEOUT, read_timeout)
        self._session = requests.Session()
        # The pinned digest is of the file as it is, not of a transfer encoding's content.
        self._session.headers["Accept-Encoding"] = "identity"
        for scheme in ("http://", "https://"):
            self._session.mount(scheme, HTTPAdapter(pool_maxsize=CONNECTIONS))
        self._retry = retry or RetryPolicy()

    def download(self, pin: Pin, directory: Path, on_bytes: OnBytes = lambda _count: None) -> Path:
        """Return the pinned file in *directory*, fetched if it is not there yet.

        Mirrors are asked in order when the pin's own address does not give it.

        Raises:
            DownloadError: it cannot be had.
            DigestMismatchError: what is there, or what came, is another file.
        """
        final = directory / pin.sha256 / pin.filename
        if final.exists():
            if (actual := sha256_of(final)) == pin.sha256:
                return final
            logger.warning("%s is damaged (sha256 %s): fetched again", final, actual)
        final.parent.mkdir(parents=True, exist_ok=True)
        failures = []
        for url in (pin.url, *pin.mirrors):
            try:
                return self._fetch_repeatedly(pin, url, final, on_bytes)
            except DownloadError as error:
                failures.append(str(error))
                logger.info("%s", error)
        raise DownloadError("\n".join(failures))

    def _fetch_repeatedly(self, pin: Pin, url: str, final: Path, on_bytes: OnBytes) -> Path:
        try:
            return self._retry.call(url, lambda: self._fetch(pin, url, final, on_bytes))
        except GaveUpError as error:
            msg = (
                f"{url}: {error}. Check the network and the proxy settings, or put the file at "
                f"{final} by hand."
            )
            raise DownloadError(msg) from error

    def server_date(self, url: str) -> float | None:
        """Return the time that the server at *url* has, in seconds since 1970, or None."""
        try:
            answer = self._session.head(url, timeout=5)
            return parsedate_to_datetime(answer.headers["Date"]).timestamp()
        except (requests.RequestException, KeyError, ValueError):
            return None

    def receive(self, url: str, save: Path, *, limit: int) -> Received:
        """Save what the public gets at *url*, byte by byte as it was sent, and describe it.

        Raises:
            DownloadError: it cannot be had, or has more than *limit* bytes.
        """
        try:
            return self._retry.call(url, lambda: self._receive(url, save, limit))
        except GaveUpError as error:
            msg = f"{url}: {error}. Check the network, and the server behind that address."
            raise DownloadError(msg) from error

    def _receive(self, url: str, save: Path, limit: int) -> Received:
        try:
            with self._session.get(
                url, stream=True, timeout=self._timeout, headers=ANY_ENCODING
            ) as answer:
                _check_status(url, answer)
                size, sha256 = _saved(url, answer, save, limit)
                headers = answer.headers
        except (requests.RequestException, HTTPError) as error:
            raise RetryableError(str(error)) from error
        except OSError as error:
            msg = f"{save}: {error}. Make room there, or set TMPDIR to a directory that has it."
            raise DownloadError(msg) from error
        return Received(
            size=size,
            sha256=sha256,
            content_type=headers.get("Content-Type"),
            content_encoding=headers.get("Content-Encoding"),
        )

    def _fetch(self, pin: Pin, url: str, final: Path, on_bytes: OnBytes) -> Path:
        with new_file(final) as file:
            actual = self._stream(pin, url, file, on_bytes)
            if actual != pin.sha256:
                raise DigestMismatchError(
                    url,
                    expected=pin.sha256,
                    actual=actual,
                    remedy="If upstream replaced the file on purpose, find out why, then change "
                    "translation_configs/pins.toml.",
                )
        return final

    def _stream(self, pin: Pin, url: str, file: IO[bytes], on_bytes: OnBytes) -> str:
        digest, received = hashlib.sha256(), 0
        try:
            with self._session.get(url, stream=True, timeout=self._timeout) as answer:
                _check_status(url, answer)
                for chunk in answer.iter_content(CHUNK):
                    received += len(chunk)
                    if received > pin.size:
                        msg = f"{url}: more than the pinned {pin.size} bytes came."
                        raise DownloadError(msg)
                    digest.update(chunk)
                    file.write(chunk)
                    on_bytes(len(chunk))
        except requests.RequestException as error:
            raise RetryableError(str(error)) from error
        if received < pin.size:
            msg = f"ended after {received} of {pin.size} bytes"
            raise RetryableError(msg)
        return digest.hexdigest()


def _saved(url: str, answer: requests.Response, save: Path, limit: int) -> tuple[int, str]:
    """Write the body to *save* as it was sent; return its size in bytes and its sha256."""
    digest, received = hashlib.sha256(), 0
    with save.open("wb") as file:
        for chunk in answer.raw.stream(CHUNK, decode_content=False):
            received += len(chunk)
            if received > limit:
                msg = f"{url}: more than {limit} bytes came."
                raise DownloadError(msg)
            digest.update(chunk)
            file.write(chunk)
    return received, digest.hexdigest()


def _check_status(url: str, answer: requests.Response) -> None:
    if answer.status_code in RETRIED_STATUS:
        msg = f"HTTP {answer.status_code}"
        raise RetryableError(msg, asked_wait(answer.headers.get("Retry-After")))
    if answer.status_code != requests.codes.ok:
        msg = f"{url}: HTTP {answer.status_code}, which a retry would not change. Check the URL."
        error = DownloadError(msg)
        error.http_status = answer.status_code
        raise error
