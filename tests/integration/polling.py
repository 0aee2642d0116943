"""A client that follows the public indexes without a pause, and notes what is not as they say."""

import hashlib
import json
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Seen:
    """What a client has seen: rounds over all indexes, files downloaded, and what was wrong."""

    rounds: int = 0
    files: int = 0
    wrong: list[str] = field(default_factory=list)


class Follower(threading.Thread):
    """Reads the indexes below an address, and downloads every file that they name."""

    def __init__(self, address: Callable[[], str | None], product: str) -> None:
        super().__init__(daemon=True)
        self.seen = Seen()
        self._address = address
        self._product = product
        self._ended = threading.Event()

    def run(self) -> None:
        """Follow until told to end."""
        while not self._ended.is_set():
            address = self._address()
            if address is not None:
                self._follow(address)
                self.seen.rounds += 1

    def end(self) -> Seen:
        """Stop, and return what was seen."""
        self._ended.set()
        self.join()
        return self.seen

    def _follow(self, address: str) -> None:
        base = f"{address}/{self._product}"
        for entry in json.loads(_get(f"{base}/versions.json") or b"[]"):
            for file in entry["files"]:
                self._compare(file["download_url"], file["sha256"], file["size"])
        for entry in json.loads(_get(f"{base}/uv.json") or b"{}").values():
            self._compare(entry["url"], entry["sha256"], None)
        for url, sha256 in _latest(json.loads(_get(f"{base}/latest.json") or b"{}")):
            self._compare(url, sha256, None)

    def _compare(self, url: str, sha256: str, size: int | None) -> None:
        self.seen.files += 1
        data = _get(url)
        if data is None:
            self.seen.wrong.append(f"{url}: missing")
        elif hashlib.sha256(data).hexdigest() != sha256 or size not in (None, len(data)):
            self.seen.wrong.append(f"{url}: other bytes")


def _latest(document: Any) -> Iterator[tuple[str, str]]:
    """Yield every address that stands beside a digest, wherever in the document."""
    if isinstance(document, dict):
        if isinstance(document.get("url"), str) and isinstance(document.get("sha256"), str):
            yield document["url"], document["sha256"]
        for value in document.values():
            yield from _latest(value)
    elif isinstance(document, list):
        for value in document:
            yield from _latest(value)


def _get(url: str) -> bytes | None:
    try:
        with urllib.request.urlopen(url, timeout=30) as answer:
            data: bytes = answer.read()
            return data
    except urllib.error.HTTPError as error:
        error.close()
        return None
