"""Every public file name, store key and URL, as pure functions.

Names are an API: clients are patched by hand when one changes. Release names follow upstream's
``pypy3.11-v7.3.23-linux64.tar.gz``, nightly names ``pypy-c-jit-<number>-<hash12>-linux64.tar.gz``.
"""

import re
from datetime import date
from typing import Final

from pipeline.model.artifacts import ArtifactKind
from pipeline.model.configs import InterpreterConfig
from pipeline.model.platforms import Platform
from pipeline.model.records import Revision
from pipeline.model.versions import InterpreterVersion, Nightly

CHECKSUMS_NAME: Final = "SHA256SUMS"
SIGNATURE_NAME: Final = "SHA256SUMS.asc"
PUBLIC_KEY_NAME: Final = "KEY.asc"
PROVENANCE_SUFFIX: Final = "-provenance.json"
VERSIONS_INDEX: Final = "versions.json"
UV_INDEX: Final = "uv.json"
LEDGER_KEY: Final = "ledger.json"
LEDGER_PREFIX: Final = "ledger"
INDEX_DIRECTORIES: Final = ("definitions", "latest", "nightly")
"""What a product's directory has besides releases: directories that hold indexes only."""
PAGE_NAME: Final = "index.html"
DISTS_PREFIX: Final = "dists"
APT_PREFIX: Final = "apt"
TOP_KEYS: Final = (LEDGER_KEY, LEDGER_PREFIX, PAGE_NAME, DISTS_PREFIX, APT_PREFIX)
"""What a store has at its top besides products."""
BUILD_INFO_NAME: Final = "BUILD-INFO.json"

_KEY: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]*(/[A-Za-z0-9][A-Za-z0-9._+-]*)*")

_NIGHTLY_DAY: Final = re.compile(r"-nightly-([0-9]{4}-[0-9]{2}-[0-9]{2})-[0-9]+-[0-9a-f]{12}$")

_USER: Final = re.compile(r"(?<=://)[^/]*@")

SOURCE_SUFFIX: Final = ".tar.gz"
DEBUG_INFIX: Final = "-debug"

ARCHIVE_SUFFIXES: Final = {
    "linux": {ArtifactKind.ARCHIVE_GZ: ".tar.gz", ArtifactKind.ARCHIVE_ZST: ".tar.zst"},
    "darwin": {ArtifactKind.ARCHIVE_GZ: ".tar.gz", ArtifactKind.ARCHIVE_ZST: ".tar.zst"},
    "windows": {ArtifactKind.ARCHIVE_ZIP: ".zip"},
}


def identifier(interpreter: str, platform: str) -> str:
    """Return the key of everything that is made of one interpreter for one platform."""
    return f"{interpreter}-{platform}"


def release_name(interpreter: str, version: InterpreterVersion) -> str:
    """Return the name of a release: ``pypy3.11-v7.3.23``."""
    return f"{interpreter}-v{version}"


def nightly_name(interpreter: InterpreterConfig, revision: Revision) -> str:
    """Return the name of a nightly: ``pypy-c-jit-<number>-<first 12 digits of the revision>``.

    Raises:
        ValueError: *revision* has no number, so it was not resolved for a nightly.
    """
    if revision.number is None:
        msg = f"{interpreter.interpreter}: revision {revision.revision} has no nightly number"
        raise ValueError(msg)
    return str(Nightly(revision.number, revision.revision[:12], interpreter.nightly_prefix))


def nightly_release(interpreter: str, revision: Revision, day: date) -> str:
    """Return the name of a nightly as a release: ``pypy3.11-nightly-2026-11-25-188288-<hash12>``.

    It has the day, since the same revision may be built again, with another compiler for one; the
    names of its archives do not.
    """
    return f"{interpreter}-nightly-{day:%Y-%m-%d}-{revision.number}-{revision.revision[:12]}"


def nightly_day(release: str) -> date | None:
    """Return the day in the name of a nightly, or None if it is another name."""
    found = _NIGHTLY_DAY.search(release)
    if found is None:
        return None
    try:
        return date.fromisoformat(found[1])
    except ValueError:
        return None


def segment_key(first: int, last: int, sha256: str) -> str:
    """Return where sealed events are in a store."""
    return f"{LEDGER_PREFIX}/events-{first:08}-{last:08}-{sha256[:16]}.json"


def checkpoint_key(last: int, sha256: str) -> str:
    """Return where the state after the sealed event *last* is in a store."""
    return f"{LEDGER_PREFIX}/state-{last:08}-{sha256[:16]}.json"


def source_name(release: str) -> str:
    """Return the file name of a release's source archive: ``pypy3.11-v7.3.23-src.tar.gz``."""
    return f"{release}-src{SOURCE_SUFFIX}"


def archive_stem(release: str, platform: Platform, *, nightly: bool) -> str:
    """Return an archive's name without its suffix, which is also its one top directory."""
    suffix = platform.nightly_suffix if nightly else platform.release_suffix
    return f"{release}-{suffix}"


def archive_names(stem: str, *, os: str, debug: bool) -> dict[ArtifactKind, str]:
    """Return the file names of the archives with the top directory *stem*.

    With *debug* there is another, of separate debug symbols.
    """
    names = {kind: f"{stem}{suffix}" for kind, suffix in ARCHIVE_SUFFIXES[os].items()}
    if debug:
        names[ArtifactKind.DEBUG_ZST] = f"{stem}{DEBUG_INFIX}.tar.zst"
    return names


def provenance_name(release: str) -> str:
    """Return the file name of the statement about how a release was made."""
    return f"{release}{PROVENANCE_SUFFIX}"


def packages_name(release: str) -> str:
    """Return the file name of the list of a release's Debian packages."""
    return f"{release}-packages.json"


def manifest_name(release: str) -> str:
    """Return the file name of a release's manifest."""
    return f"{release}-manifest.json"


def release_prefix(product: str, release: str) -> str:
    """Return the directory of the store that holds a release's files."""
    return f"{product}/{release}"


def is_key(text: str) -> bool:
    """Whether *text* is a key that a store may hold; others' files may have other names."""
    return _KEY.fullmatch(text) is not None


def check_key(key: str) -> str:
    """Return *key* if it is one that a store may hold.

    Raises:
        ValueError: a component starts with a dot, or has a character that URLs or shells dislike.
    """
    if not is_key(key):
        msg = f"{key!r} is not a store key"
        raise ValueError(msg)
    return key


def store_key(product: str, release: str, filename: str) -> str:
    """Return where in the store a file of a release is."""
    return f"{release_prefix(product, release)}/{filename}"


def public_url(base_url: str, key: str) -> str:
    """Return the address under which the public sees the store's *key*."""
    return f"{base_url}/{key}"


def public_address(address: str) -> str:
    """Return *address* without who logs in there, and with which token: that is for nobody else."""
    return _USER.sub("", address)
