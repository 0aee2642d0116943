"""Copies of a master's database."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from pipeline.effects.databases import (
    connection_variables,
    copy_sqlite,
    dump_postgresql,
    has_password,
    load_postgresql,
    sqlite_file,
)
from pipeline.errors import ConfigError
from tests.fakes import Answer, FakeProcess

URL = "postgresql+psycopg2://farm:p%40ss@db.example.org:5433/state"


def test_a_database_is_copied_while_somebody_writes(tmp_path: Path) -> None:
    """What is not committed yet is not in the copy."""
    source = tmp_path / "state.sqlite"
    with closing(sqlite3.connect(source)) as master:
        master.execute("PRAGMA journal_mode = WAL")
        master.execute("CREATE TABLE requests (id)")
        master.execute("INSERT INTO requests VALUES (1)")
        master.commit()
        master.execute("INSERT INTO requests VALUES (2)")

        copy_sqlite(source, tmp_path / "copy")

    with closing(sqlite3.connect(tmp_path / "copy")) as copy:
        assert copy.execute("SELECT id FROM requests").fetchall() == [(1,)]


def test_a_database_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such database"):
        copy_sqlite(tmp_path / "state.sqlite", tmp_path / "copy")

    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("sqlite:///state.sqlite", Path("/master/state.sqlite")),
        ("sqlite:////srv/state.sqlite", Path("/srv/state.sqlite")),
        (URL, None),
    ],
)
def test_a_file_is_found_by_its_url(url: str, expected: Path | None) -> None:
    assert sqlite_file(url, Path("/master")) == expected


def test_a_password_is_in_no_argument_list(tmp_path: Path) -> None:
    process = FakeProcess()
    process.expect("pg_dump")
    process.expect("psql", "--tuples-only", answer=Answer(stdout="0\n"))
    process.expect("psql", "--single-transaction", "--set=ON_ERROR_STOP=1")

    dump_postgresql(process, URL, tmp_path / "dump")
    load_postgresql(process, URL, tmp_path / "dump")

    assert [call.argv[0] for call in process.calls] == ["pg_dump", "psql", "psql"]
    assert not any(
        "p@ss" in word or "p%40ss" in word for call in process.calls for word in call.argv
    )
    assert {call.environment["PGPASSWORD"] for call in process.calls} == {"p@ss"}


def test_a_database_with_tables_is_not_overwritten(tmp_path: Path) -> None:
    process = FakeProcess()
    process.expect("psql", "--tuples-only", answer=Answer(stdout="31\n"))

    with pytest.raises(ConfigError, match="has tables already"):
        load_postgresql(process, URL, tmp_path / "dump")

    assert len(process.calls) == 1


def test_a_url_becomes_what_the_programs_are_told_by() -> None:
    assert connection_variables(URL) == {
        "PGHOST": "db.example.org",
        "PGPORT": "5433",
        "PGUSER": "farm",
        "PGPASSWORD": "p@ss",
        "PGDATABASE": "state",
    }
    assert connection_variables("postgresql:///state") == {"PGDATABASE": "state"}


def test_another_kind_of_database_is_refused() -> None:
    with pytest.raises(ConfigError, match="kind mysql"):
        connection_variables("mysql://db/state")


@pytest.mark.parametrize(("url", "expected"), [(URL, True), ("postgresql://farm@db/x", False)])
def test_a_password_in_a_url_is_noticed(url: str, *, expected: bool) -> None:
    assert has_password(url) is expected
