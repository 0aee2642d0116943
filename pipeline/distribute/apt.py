"""The files of an apt repository: what is in them, as text and bytes. Pure.

Their formats are described in https://wiki.debian.org/DebianRepository/Format, deb822(5),
sources.list(5) and apt-secure(8). There is an ``InRelease`` and no pair of ``Release`` and
``Release.gpg``: two files cannot be replaced at once, and between them every client would see a
bad signature. Every apt since 0.8 (2010) takes the one.

When an ``InRelease`` is replaced, clients that have the one before still ask for the lists that it
named. Those stay for a while below ``by-hash``; since when each is not current any more is said by
the ``InRelease`` itself, in a field that apt does not know and so ignores. So it cannot be lost,
and changes with the signed list in one step.
"""

import hashlib
import lzma
import posixpath
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime, parsedate_to_datetime
from functools import lru_cache
from typing import Final

import deflate

from pipeline.model.debian import BinaryPackage

LIST_NAME: Final = "Packages"
IN_RELEASE: Final = "InRelease"
BY_HASH: Final = "by-hash/SHA256"
GZIP_LEVEL: Final = 9
OLDEST_APT: Final = "2.3.10"
"""The first that takes a key inside of a source; older ones (Debian 11) want a path there."""

_DATE: Final = "Date"
_VALID_UNTIL: Final = "Valid-Until"
_SUPERSEDED: Final = "X-Superseded"
_LISTS: Final = "SHA256"
_SECONDS: Final = "%Y-%m-%dT%H:%M:%SZ"


@dataclass(frozen=True, kw_only=True)
class SuiteIndex:
    """A suite of a repository: who made it, and its lists of packages.

    ``lists`` has their bytes by path below the suite's directory:
    ``release/binary-amd64/Packages.xz``.
    """

    origin: str
    suite: str
    description: str
    architectures: Sequence[str]
    components: Sequence[str]
    lists: Mapping[str, bytes]

    @property
    def by_hash(self) -> dict[str, bytes]:
        """The lists by the paths that their digests give them."""
        return {by_hash_path(path, _digest(data)): data for path, data in self.lists.items()}

    @property
    def body(self) -> str:
        """What the suite's ``InRelease`` says, but for its times."""
        fields = {
            "Origin": self.origin,
            "Label": self.origin,
            "Suite": self.suite,
            "Codename": self.suite,
            "Architectures": " ".join(self.architectures),
            "Components": " ".join(self.components),
            "Description": self.description,
            "Acquire-By-Hash": "yes",
        }
        listed = (
            f" {_digest(data)} {len(data)} {path}\n" for path, data in sorted(self.lists.items())
        )
        head = "".join(f"{name}: {value}\n" for name, value in fields.items())
        return f"{head}{_LISTS}:\n{''.join(listed)}"


@dataclass(frozen=True, kw_only=True)
class Times:
    """The times in an ``InRelease``, to the second, in UTC.

    ``superseded`` says since when a list that is still there is not named any more, by its path.
    """

    date: datetime
    valid_until: datetime
    superseded: Mapping[str, datetime] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class ReleaseText:
    """What an ``InRelease`` says, without its signature."""

    body: str
    times: Times

    @property
    def text(self) -> str:
        """The text that is signed."""
        times = (
            f"{_DATE}: {format_datetime(self.times.date)}\n"
            f"{_VALID_UNTIL}: {format_datetime(self.times.valid_until)}\n"
        )
        gone = "".join(
            f" {since:{_SECONDS}} {path}\n" for path, since in sorted(self.times.superseded.items())
        )
        listed = f"{_SUPERSEDED}:\n{gone}" if gone else ""
        return f"{self.body}{times}{listed}"

    @property
    def by_hash(self) -> frozenset[str]:
        """The paths by digest of the lists that it names."""
        _, found = next(item for item in _fields(self.body) if item[0] == _LISTS)
        rows = (line.split() for line in found.splitlines()[1:])
        return frozenset(by_hash_path(path, digest) for digest, _size, path in rows)


def parse_release(text: str) -> ReleaseText:
    """Read what a signed ``InRelease`` says.

    Raises:
        ValueError: it is not one of ours.
    """
    fields = dict(_fields(text))
    body = "".join(
        lines for name, lines in fields.items() if name not in (_DATE, _VALID_UNTIL, _SUPERSEDED)
    )
    try:
        times = Times(
            date=_parsed_date(fields[_DATE]),
            valid_until=_parsed_date(fields[_VALID_UNTIL]),
            superseded=dict(_parsed_superseded(fields.get(_SUPERSEDED, ""))),
        )
        found = ReleaseText(body=body, times=times)
        _ = found.by_hash
    except (KeyError, StopIteration, TypeError) as error:
        msg = f"no field {error}"
        raise ValueError(msg) from error
    return found


def next_times(
    present: ReleaseText | None, now: datetime, valid_days: int, superseded: Mapping[str, datetime]
) -> Times:
    """Return the times of the ``InRelease`` that replaces *present*.

    Apt goes on with the older of two whose date is before that of the one it has, so dates never
    go back, unless to a time that apt would call not yet valid (10 seconds ahead of its own).
    """
    date = now.astimezone(UTC).replace(microsecond=0)
    if present is not None and date < present.times.date <= date + timedelta(seconds=10):
        date = present.times.date
    until = date + timedelta(days=valid_days)
    return Times(date=date, valid_until=until, superseded=superseded)


def is_due(present: ReleaseText | None, body: str, now: datetime, valid_days: int) -> bool:
    """Whether *present* must be replaced by one with *body*.

    It must if it says something else, and when half of the time for which it is good is over.
    """
    if present is None or present.body != body:
        return True
    return present.times.valid_until - now < timedelta(days=valid_days) / 2


@dataclass(frozen=True, kw_only=True)
class Superseded:
    """Lists that are not current: since when those are that stay, and those whose time is over."""

    kept: Mapping[str, datetime]
    expired: frozenset[str]


def superseded(
    present: ReleaseText | None,
    current: Iterable[str],
    there: Iterable[str],
    now: datetime,
    grace: timedelta,
) -> Superseded:
    """Decide what becomes of the lists that are *there*, when those of *present* are replaced.

    A list that nobody names was left by somebody who was killed, or is just being published; its
    time begins now, like that of one which *present* still names. What it calls superseded for
    *grace* or longer may go. All are paths by digest below the suite's directory.
    """
    known = {} if present is None else present.times.superseded
    named = frozenset[str]() if present is None else present.by_hash
    since = {
        path: known[path] if path in known and path not in named else _whole_second(now)
        for path in set(there) - set(current)
    }
    expired = frozenset(path for path, begin in since.items() if now - begin >= grace)
    kept = {path: begin for path, begin in since.items() if path not in expired}
    return Superseded(kept=kept, expired=expired)


def package_stanza(package: BinaryPackage, filename: str) -> str:
    """Return what a list says of a package; *filename* is its path from the repository's root."""
    return (
        f"{package.control}\nFilename: {filename}\nSize: {package.size}\nSHA256: {package.sha256}\n"
    )


def package_lists(directory: str, stanzas: Iterable[str]) -> dict[str, bytes]:
    """Return a list in each of its forms, by path: as it is, and compressed to equal bytes."""
    data = "\n".join(stanzas).encode()
    return {f"{directory}/{LIST_NAME}{ending}": form for ending, form in _forms(data).items()}


def by_hash_path(path: str, sha256: str) -> str:
    """Return the path beside *path* that a list's digest gives it."""
    return f"{posixpath.dirname(path)}/{BY_HASH}/{sha256}"


def sources_text(
    origin: str, base_url: str, suite: str, components: Sequence[str], key: str
) -> str:
    """Return the file for ``/etc/apt/sources.list.d/``, with the armoured public *key* in it."""
    quoted = "".join(f" {line or '.'}\n" for line in key.strip().splitlines())
    return (
        f"# Packages of {origin} for {suite}: for /etc/apt/sources.list.d/.\n"
        f"# An apt older than {OLDEST_APT} does not take a key in here. There, put\n"
        f"# {base_url}/apt/KEY.asc into /etc/apt/keyrings/ and its path behind Signed-By.\n"
        f"Types: deb\nURIs: {base_url}\nSuites: {suite}\nComponents: {' '.join(components)}\n"
        f"Signed-By:\n{quoted}"
    )


@lru_cache(maxsize=256)
def _forms(data: bytes) -> Mapping[str, bytes]:
    packed = bytes(deflate.gzip_compress(data, GZIP_LEVEL))
    return {"": data, ".gz": packed, ".xz": lzma.compress(data, check=lzma.CHECK_CRC64)}


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _fields(text: str) -> Iterator[tuple[str, str]]:
    """Yield each field's name and its lines, of one stanza of deb822."""
    name, lines = "", ""
    for line in text.splitlines(keepends=True):
        if not line.startswith(" "):
            if lines:
                yield name, lines
            name, lines = line.partition(":")[0], ""
        lines += line
    if lines:
        yield name, lines


def _parsed_date(lines: str) -> datetime:
    return parsedate_to_datetime(lines.partition(":")[2].strip())


def _parsed_superseded(lines: str) -> Iterator[tuple[str, datetime]]:
    for line in lines.splitlines()[1:]:
        since, path = line.split()
        yield path, datetime.strptime(since, _SECONDS).replace(tzinfo=UTC)


def _whole_second(moment: datetime) -> datetime:
    """Return the first whole second that is not before *moment*."""
    whole = moment.astimezone(UTC).replace(microsecond=0)
    return whole if whole == moment else whole + timedelta(seconds=1)
