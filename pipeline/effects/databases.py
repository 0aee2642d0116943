"""Copies of a master's database, taken while it runs: by sqlite's library, or by pg_dump."""

import sqlite3
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Final
from urllib.parse import unquote, urlsplit

from pipeline.effects.process import ProcessRunner, Tool
from pipeline.errors import ConfigError

SQLITE: Final = "sqlite:///"
POSTGRESQL: Final = "postgresql"
DUMP: Final = Tool(program="pg_dump", purpose="copy a database", package="postgresql-client")
LOAD: Final = Tool(program="psql", purpose="restore a database", package="postgresql-client")
SECONDS: Final = 3600
TABLES: Final = "SELECT count(*) FROM information_schema.tables WHERE table_schema = 'public'"


def sqlite_file(url: str, directory: Path) -> Path | None:
    """Return the file of a database of sqlite's, relative ones below *directory*; else None."""
    return directory / url.removeprefix(SQLITE) if url.startswith(SQLITE) else None


def copy_sqlite(source: Path, copy: Path) -> None:
    """Copy a database that is in use, as it is at one moment.

    Raises:
        ConfigError: there is none.
    """
    if not source.is_file():
        msg = f"{source}: no such database. Has this farm ever been started?"
        raise ConfigError(msg)
    with closing(sqlite3.connect(source)) as there, closing(sqlite3.connect(copy)) as here:
        there.backup(here)


def dump_postgresql(process: ProcessRunner, url: str, copy: Path) -> None:
    """Write what makes the database again, as it is at one moment."""
    process.run(
        ("pg_dump", "--no-owner", "--no-privileges", f"--file={copy}"),
        tool=DUMP,
        timeout=SECONDS,
        environment=connection_variables(url),
    )


def load_postgresql(process: ProcessRunner, url: str, copy: Path) -> None:
    """Make a database again, all or nothing.

    Raises:
        ConfigError: it has tables already.
    """
    variables = connection_variables(url)
    asked = process.run(
        ("psql", "--no-psqlrc", "--tuples-only", "--no-align", f"--command={TABLES}"),
        tool=LOAD,
        environment=variables,
    )
    if asked.text.strip() != "0":
        msg = "the database has tables already. Name an empty one, so that nothing is overwritten."
        raise ConfigError(msg)
    process.run(
        (
            *("psql", "--no-psqlrc", "--quiet", "--single-transaction"),
            *("--set=ON_ERROR_STOP=1", f"--file={copy}"),
        ),
        tool=LOAD,
        timeout=SECONDS,
        environment=variables,
    )


def connection_variables(url: str) -> Mapping[str, str]:
    """Return what libpq's programs are told by; argument lists would show the password."""
    parts = urlsplit(url)
    if not parts.scheme.startswith(POSTGRESQL):
        msg = f"a database of kind {parts.scheme} is copied by its own tools, not by this."
        raise ConfigError(msg)
    given = {
        "PGHOST": parts.hostname,
        "PGPORT": None if parts.port is None else str(parts.port),
        "PGUSER": parts.username and unquote(parts.username),
        "PGPASSWORD": parts.password and unquote(parts.password),
        "PGDATABASE": unquote(parts.path.removeprefix("/")),
    }
    return {name: value for name, value in given.items() if value}


def has_password(url: str) -> bool:
    """Whether a URL holds a password, so that it must not be in an argument list."""
    return urlsplit(url).password is not None
