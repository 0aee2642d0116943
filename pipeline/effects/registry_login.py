"""Who a registry is told to be speaking with, and what its challenges ask for.

Challenges are those of RFC 9110 section 11.6.1; the one called Bearer is described in
distribution.github.io/distribution/spec/auth/token. Credentials are the environment's; where that
has none, docker's own file is looked at, of which helpers ("credsStore") are not asked: they are
programs.
"""

import base64
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from pipeline.errors import ConfigError
from pipeline.model.images import RegistryConfig

DOCKER_HUB: Final = frozenset({"docker.io", "index.docker.io", "registry-1.docker.io"})
AUTH_FILE: Final = "config.json"

_VALUE: Final = r'"(?:[^"\\]|\\.)*"|[^\s,"]*'
_PARAMETER: Final = re.compile(rf"([A-Za-z0-9_-]+)\s*=\s*({_VALUE})")
_CHALLENGE: Final = re.compile(
    rf"([A-Za-z][A-Za-z0-9_-]*)\s+((?:[A-Za-z0-9_-]+\s*=\s*(?:{_VALUE})(?:\s*,\s*)?)+)"
)


@dataclass(frozen=True)
class Credentials:
    """A name and its password, or a token in the password's place."""

    username: str
    password: str = field(repr=False)

    @property
    def basic(self) -> str:
        """What a header of the scheme Basic says (RFC 7617)."""
        return base64.b64encode(f"{self.username}:{self.password}".encode()).decode()


@dataclass(frozen=True, kw_only=True)
class Challenge:
    """What a registry asks for: a scheme in lower case, and its parameters."""

    scheme: str
    parameters: Mapping[str, str]


def challenges_of(header: str) -> tuple[Challenge, ...]:
    """Return what the header ``WWW-Authenticate`` asks for, in its order."""
    return tuple(
        Challenge(
            scheme=found[1].lower(),
            parameters={
                name.lower(): _unquoted(value) for name, value in _PARAMETER.findall(found[2])
            },
        )
        for found in _CHALLENGE.finditer(header)
    )


def credentials_for(
    config: RegistryConfig, environment: Mapping[str, str], home: Path
) -> Credentials | None:
    """Return who to be for a registry, or None for nobody.

    *home* is where docker's directory is, unless the environment says another.

    Raises:
        ConfigError: only one of the two variables is set, or docker's file cannot be read.
    """
    username = environment.get(config.username_variable, "")
    password = environment.get(config.password_variable, "")
    if bool(username) != bool(password):
        missing = config.password_variable if username else config.username_variable
        msg = (
            f"environment: {missing} is not set, but the other of {config.username_variable} and "
            f"{config.password_variable} is. Set both for {config.host}, or none of them."
        )
        raise ConfigError(msg)
    if username:
        return Credentials(username, password)
    directory = environment.get("DOCKER_CONFIG") or home / ".docker"
    return _of_docker(Path(directory) / AUTH_FILE, config.host)


def _of_docker(path: Path, host: str) -> Credentials | None:
    """Return what docker's file has for *host*, or None."""
    try:
        entries = json.loads(path.read_bytes())["auths"]
        found = {_host_of(name): entry for name, entry in entries.items()}
        return _decoded(found.get(_known_as(host), {}))
    except (FileNotFoundError, KeyError):
        return None
    except (OSError, ValueError, AttributeError, TypeError):
        # What was read may hold a password, so it is in no message.
        msg = (
            f"{path}: cannot be read as docker's file with the key auths. Mend it (docker login "
            f"{host}), or set the environment's variables for the registry."
        )
        raise ConfigError(msg) from None


def _decoded(entry: Mapping[str, Any]) -> Credentials | None:
    text = entry.get("auth")
    if not text:
        return None
    username, _, password = base64.b64decode(text, validate=True).decode().partition(":")
    return Credentials(username, password.rstrip("\0")) if username and password else None


def _host_of(name: str) -> str:
    """Return the host of an entry, which may be an address: ``https://index.docker.io/v1/``."""
    return _known_as(re.sub(r"^https?://", "", name).partition("/")[0])


def _known_as(host: str) -> str:
    return "docker.io" if host in DOCKER_HUB else host


def _unquoted(value: str) -> str:
    return re.sub(r"\\(.)", r"\1", value[1:-1]) if value.startswith('"') else value
