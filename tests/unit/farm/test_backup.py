"""A copy of a farm, and a farm of a copy."""

import sqlite3
import stat
import tarfile
from contextlib import closing
from pathlib import Path

import pytest

from pipeline.effects.files import write_privately
from pipeline.errors import ConfigError
from pipeline.farm.backup import back_up, restore
from pipeline.farm.local import LocalFarm
from pipeline.model.base import pretty_json
from tests.fakes import Answer, FakeProcess


@pytest.fixture
def farm(tmp_path: Path) -> LocalFarm:
    """A farm with a database of sqlite's that has one table."""
    farm = LocalFarm(directory=tmp_path / "farm", www_port=8010, worker_port=9989)
    write_privately(farm.password("w"), b"secret\n")
    write_privately(farm.tls / "ca.key", b"key")
    write_privately(farm.master / "farm-settings.json", pretty_json(farm.settings))
    write_privately(farm.project / "translation_configs" / "farm.toml", b"# farm\n")
    with closing(sqlite3.connect(farm.master / "state.sqlite")) as database:
        database.execute("CREATE TABLE requests (id)")
        database.commit()
    return farm


@pytest.fixture
def process() -> FakeProcess:
    return FakeProcess()


def test_a_farm_of_a_copy_has_its_database_and_its_secrets(
    farm: LocalFarm, tmp_path: Path, process: FakeProcess
) -> None:
    file, directory = tmp_path / "farm.tar", tmp_path / "restored"

    size = back_up(farm.directory, file, process)
    restore(file, directory, process)

    assert size == file.stat().st_size
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert (directory / "secrets" / "worker-w").read_bytes() == b"secret\n"
    private = ("secrets", "tls", "master")
    assert {stat.S_IMODE((directory / name).stat().st_mode) for name in private} == {0o700}
    assert stat.S_IMODE((directory / "tls" / "ca.key").stat().st_mode) == 0o600
    with closing(sqlite3.connect(directory / "master" / "state.sqlite")) as database:
        assert database.execute("SELECT name FROM sqlite_master").fetchall() == [("requests",)]
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_a_copy_is_restored_by_debian_12_s_python_too(
    farm: LocalFarm, tmp_path: Path, process: FakeProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That is 3.11.2, in the master's image: tarfile has no filters there."""
    file, extractall = tmp_path / "farm.tar", tarfile.TarFile.extractall

    def of_3_11_2(archive: tarfile.TarFile, path: Path) -> None:
        extractall(archive, path, filter="fully_trusted")

    back_up(farm.directory, file, process)
    monkeypatch.delattr(tarfile, "data_filter")
    monkeypatch.setattr(tarfile.TarFile, "extractall", of_3_11_2)
    restore(file, tmp_path / "restored", process)

    assert (tmp_path / "restored" / "secrets" / "worker-w").read_bytes() == b"secret\n"


def test_a_copy_never_replaces_a_file(
    farm: LocalFarm, tmp_path: Path, process: FakeProcess
) -> None:
    (tmp_path / "farm.tar").write_text("other")

    with pytest.raises(ConfigError, match="is there already"):
        back_up(farm.directory, tmp_path / "farm.tar", process)

    assert (tmp_path / "farm.tar").read_text() == "other"


def test_what_is_no_farm_is_not_copied(tmp_path: Path, process: FakeProcess) -> None:
    with pytest.raises(ConfigError, match="no such file"):
        back_up(tmp_path / "farm", tmp_path / "farm.tar", process)

    assert not (tmp_path / "farm.tar").exists()


def test_a_farm_is_never_overwritten(farm: LocalFarm, tmp_path: Path, process: FakeProcess) -> None:
    back_up(farm.directory, tmp_path / "farm.tar", process)

    with pytest.raises(ConfigError, match="is not empty, and a farm may run there"):
        restore(tmp_path / "farm.tar", farm.directory, process)


def test_what_is_no_copy_makes_no_farm(tmp_path: Path, process: FakeProcess) -> None:
    (tmp_path / "farm.tar").write_bytes(b"x" * 2000)

    with pytest.raises(ConfigError, match=r"farm\.tar: cannot be restored"):
        restore(tmp_path / "farm.tar", tmp_path / "restored", process)

    assert not (tmp_path / "restored").exists()


def test_a_copy_that_would_write_elsewhere_is_refused(tmp_path: Path, process: FakeProcess) -> None:
    with tarfile.open(tmp_path / "farm.tar", "w") as archive:
        member = tarfile.TarInfo("../outside")
        archive.addfile(member)

    with pytest.raises(ConfigError, match="cannot be restored"):
        restore(tmp_path / "farm.tar", tmp_path / "restored", process)

    assert not (tmp_path / "outside").exists()


def test_a_database_of_a_server_is_dumped_and_loaded(
    farm: LocalFarm, tmp_path: Path, process: FakeProcess
) -> None:
    def dump(argv: tuple[str, ...]) -> None:
        (target,) = [word.removeprefix("--file=") for word in argv if word.startswith("--file=")]
        Path(target).write_text("CREATE TABLE requests (id int);")

    def load(argv: tuple[str, ...]) -> None:
        (source,) = [word.removeprefix("--file=") for word in argv if word.startswith("--file=")]
        assert Path(source).read_text() == "CREATE TABLE requests (id int);"

    write_privately(farm.secrets / "database", b"postgresql://farm:word@db/state\n")
    process.expect("pg_dump", answer=Answer(effect=dump))
    process.expect("psql", "--tuples-only", answer=Answer(stdout="0\n"))
    process.expect("psql", "--single-transaction", answer=Answer(effect=load))

    back_up(farm.directory, tmp_path / "farm.tar", process)
    restore(tmp_path / "farm.tar", tmp_path / "restored", process)

    assert process.ran("psql", "--single-transaction") == 1
    assert {call.environment["PGPASSWORD"] for call in process.calls} == {"word"}
    assert not (tmp_path / "restored" / "database.sql").exists()
