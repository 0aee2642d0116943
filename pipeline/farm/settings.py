"""What a master is told besides ``farm.toml``: where it listens, where its data and secrets are.

A JSON file beside ``master.cfg``, written by ``nox -s farm`` or by the machine's owner. It holds
no secret: those are files in a directory that only the master's user may read.
"""

import os
from pathlib import Path
from typing import Annotated, Final, Self

from pydantic import Field, ValidationError, model_validator

from pipeline.errors import ConfigError
from pipeline.model.base import Model

SETTINGS_NAME: Final = "farm-settings.json"
SETTINGS_VARIABLE: Final = "RPYTHON_PIPELINE_FARM_SETTINGS"
"""The environment variable that names the file, where it is not beside ``master.cfg``."""

WORKER_FILE: Final = "worker-{}"
ADMIN_FILE: Final = "admin-{}"
DATABASE_FILE: Final = "database"
MOST_OF_A_SECRET: Final = 4096

Port = Annotated[int, Field(ge=1, le=65535)]


class MasterSettings(Model):
    """The settings of one master.

    ``root`` is the project's directory, with ``translation_configs/``; ``secrets`` the directory
    with ``worker-NAME`` and ``admin-NAME``, one password each, and ``database``, a URL that is used
    instead of ``database`` here. Workers dial in at ``bind``; pages, metrics and health
    (``operations_port``) are served at ``www_bind``, in the clear: a proxy with TLS stands before
    them. Workers dial in over TLS if there are ``certificate`` and ``private_key`` (PEM
    files), else in the clear, which is for one machine only. ``public_host`` is the name by which
    workers that the master starts itself dial in.
    """

    root: Path
    secrets: Path
    database: str = "sqlite:///state.sqlite"
    bind: str = "127.0.0.1"
    www_bind: str = "127.0.0.1"
    www_port: Port = 8010
    worker_port: Port = 9989
    operations_port: Port | None = None
    certificate: Path | None = None
    private_key: Path | None = None
    public_host: str | None = None

    @model_validator(mode="after")
    def _both_or_none(self) -> Self:
        if (self.certificate is None) != (self.private_key is None):
            msg = "certificate and private_key belong together"
            raise ValueError(msg)
        return self

    @property
    def www(self) -> str:
        """Where people and clients are served, as Twisted describes an endpoint."""
        return _tcp(self.www_bind, self.www_port)

    @property
    def workers(self) -> str:
        """Where workers dial in, as Twisted describes an endpoint."""
        if self.certificate is None or self.private_key is None:
            return _tcp(self.bind, self.worker_port)
        key, certificate = escaped(self.private_key), escaped(self.certificate)
        bind = escaped(self.bind)
        return (
            f"ssl:port={self.worker_port}:privateKey={key}:certKey={certificate}:interface={bind}"
        )

    @property
    def operations(self) -> str | None:
        """Where metrics and health are served, as Twisted describes an endpoint."""
        port = self.operations_port
        return None if port is None else _tcp(self.www_bind, port)


def _tcp(bind: str, port: int) -> str:
    return f"tcp:port={port}:interface={escaped(bind)}"


def read_settings(path: Path) -> MasterSettings:
    """Read the settings of a master.

    Raises:
        ConfigError: there is no such file, or it does not say what a master needs.
    """
    try:
        return MasterSettings.model_validate_json(path.read_bytes())
    except FileNotFoundError as error:
        msg = (
            f"{path}: no such file. A master needs its settings; nox -s farm writes them, "
            f"and {SETTINGS_VARIABLE} may name another file."
        )
        raise ConfigError(msg) from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the file"
        msg = f"{path}: {where}: {first['msg']}."
        raise ConfigError(msg) from error


def secret(settings: MasterSettings, name: str) -> str:
    """Return the secret *name*, without the newline at its end.

    Raises:
        ConfigError: there is none, it is empty, or somebody else can read it.
    """
    return read_secret(settings.secrets / name)


def read_secret(path: Path) -> str:
    """Return the secret in the file at *path*, without the newline at its end.

    Raises:
        ConfigError: there is none, it is empty, it cannot be read, or somebody else can read it.
    """
    try:
        mode, data = path.stat().st_mode, path.read_bytes()[:MOST_OF_A_SECRET]
    except FileNotFoundError as error:
        msg = f"{path}: no such file. Write the secret into it, with mode 0600."
        raise ConfigError(msg) from error
    except OSError as error:
        msg = f"{path}: cannot be read: {error.strerror}. Write the secret into a file of yours."
        raise ConfigError(msg) from error
    if os.name == "posix" and mode & 0o077:  # on Windows the mode does not say who can read it
        msg = f"{path}: others can read this secret. Change it, then: chmod 600 {path}"
        raise ConfigError(msg)
    found = data.decode("utf-8", "replace").strip()
    if not found:
        msg = f"{path}: is empty. Write the secret into it."
        raise ConfigError(msg)
    return found


def database_url(settings: MasterSettings) -> str:
    """Return the URL of the master's database, which may hold a password."""
    if (settings.secrets / DATABASE_FILE).exists():
        return secret(settings, DATABASE_FILE)
    return settings.database


def escaped(value: Path | str) -> str:
    """Return *value* as it is written in the description of an endpoint."""
    return str(value).replace("\\", r"\\").replace(":", r"\:")
