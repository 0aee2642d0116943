"""Every public file name, store key and URL, as pure functions.

Names are an API: clients are patched by hand when one changes. Release names follow upstream's
``pypy3.11-v7.3.23-linux64.tar.gz``, nightly names ``pypy-c-jit-<number>-<hash12>-linux64.tar.gz``.
"""

import re
from typing import Final

from pipeline.model.artifacts import ArtifactKind
from pipeline.model.configs import InterpreterConfig
from pipeline.model.platforms import Platform
from pipeline.model.versions import InterpreterVersion

CHECKSUMS_NAME: Final = "SHA256SUMS"
SIGNATURE_NAME: Final = "SHA256SUMS.asc"
PUBLIC_KEY_NAME: Final = "KEY.asc"
VERSIONS_INDEX: Final = "versions.json"
UV_INDEX: Final = "uv.json"
LEDGER_KEY: Final = "ledger.json"
BUILD_INFO_NAME: Final = "BUILD-INFO.json"

_KEY: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]*(/[A-Za-z0-9][A-Za-z0-9._+-]*)*")

ARCHIVE_SUFFIXES: Final = {
    ArtifactKind.ARCHIVE_GZ: ".tar.gz",
    ArtifactKind.ARCHIVE_ZST: ".tar.zst",
}


def identifier(interpreter: str, platform: str) -> str:
    """Return the key of everything that is made of one interpreter for one platform."""
    return f"{interpreter}-{platform}"


def release_name(interpreter: str, version: InterpreterVersion) -> str:
    """Return the name of a release: ``pypy3.11-v7.3.23``."""
    return f"{interpreter}-v{version}"


def nightly_name(interpreter: InterpreterConfig, number: int, revision: str) -> str:
    """Return the name of a nightly: ``pypy-c-jit-<number>-<first 12 digits of the revision>``."""
    return f"{interpreter.nightly_prefix}-{number}-{revision[:12]}"


def archive_stem(release: str, platform: Platform, *, nightly: bool) -> str:
    """Return an archive's name without its suffix, which is also its one top directory."""
    suffix = platform.nightly_suffix if nightly else platform.release_suffix
    return f"{release}-{suffix}"


def archive_names(stem: str) -> dict[ArtifactKind, str]:
    """Return the file names of the archives with the top directory *stem*."""
    return {kind: f"{stem}{suffix}" for kind, suffix in ARCHIVE_SUFFIXES.items()}


def manifest_name(release: str) -> str:
    """Return the file name of a release's manifest."""
    return f"{release}-manifest.json"


def release_prefix(product: str, release: str) -> str:
    """Return the directory of the store that holds a release's files."""
    return f"{product}/{release}"


def check_key(key: str) -> str:
    """Return *key* if it is one that a store may hold.

    Raises:
        ValueError: a component starts with a dot, or has a character that URLs or shells dislike.
    """
    if _KEY.fullmatch(key) is None:
        msg = f"{key!r} is not a store key"
        raise ValueError(msg)
    return key


def store_key(product: str, release: str, filename: str) -> str:
    """Return where in the store a file of a release is."""
    return f"{release_prefix(product, release)}/{filename}"


def public_url(base_url: str, key: str) -> str:
    """Return the address under which the public sees the store's *key*."""
    return f"{base_url}/{key}"
