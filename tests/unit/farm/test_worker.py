"""A worker's directory: what is dialled, with which secret, and what it says of itself."""

import importlib.util
import json
import sys
from pathlib import Path

import pytest

from pipeline.errors import ConfigError, FarmExtraError
from pipeline.farm.worker import (
    Master,
    announce,
    connection,
    require_extra,
    twistd_command,
    write_worker,
)
from pipeline.model.farm import Facts

FACTS = Facts(os="linux", machine="x86_64", containers=True, memory=1, disk=2)


@pytest.fixture
def password(tmp_path: Path) -> Path:
    path = tmp_path / "password"
    path.touch(mode=0o600)
    path.write_text("secret\n")
    return path


@pytest.fixture
def tac(tmp_path: Path) -> Path:
    path = tmp_path / "worker.tac"
    path.write_text("# tac\n")
    return path


@pytest.mark.parametrize(
    ("master", "trust", "expected"),
    [
        (Master(host="farm", port=1), None, "tls:farm:1"),
        (Master(host="farm", port=1), Path("/a:b"), "tls:farm:1:trustRoots=/a\\:b"),
        (Master(host="farm", port=1, is_plain=True), None, "tcp:farm:1"),
        (Master(host="::1", port=1, is_plain=True), None, "tcp:\\:\\:1:1"),
    ],
)
def test_a_master_is_dialled_as_twisted_describes_it(
    master: Master, trust: Path | None, expected: str
) -> None:
    assert connection(master, trust) == expected


def test_a_worker_s_directory_has_no_password(tmp_path: Path, password: Path, tac: Path) -> None:
    ca = tmp_path / "ca.pem"
    ca.write_text("PEM")
    directory = tmp_path / "worker"

    write_worker(directory, "w", Master(host="farm", port=9989, ca=ca), password, tac=tac)

    said = json.loads((directory / "worker.json").read_text())
    assert said["name"] == "w"
    assert said["connection"] == f"tls:farm:9989:trustRoots={directory / 'trust'}"
    assert said["password_file"] == str(password)
    assert (directory / "trust" / "ca.pem").read_text() == "PEM"
    assert (directory / "worker.tac").read_text() == "# tac\n"
    files = [path for path in directory.rglob("*") if path.is_file()]
    assert not any(b"secret" in path.read_bytes() for path in files)


def test_a_password_that_others_can_read_is_refused(
    tmp_path: Path, password: Path, tac: Path
) -> None:
    password.chmod(0o640)

    with pytest.raises(ConfigError, match="others can read this secret"):
        write_worker(tmp_path / "w", "w", Master(host="farm", port=1), password, tac=tac)

    assert not (tmp_path / "w").exists()


def test_a_worker_says_what_it_can_do_and_where_the_pipeline_is(tmp_path: Path) -> None:
    announce(tmp_path, FACTS, Path("/srv/pipeline"))

    info = tmp_path / "info"
    assert Facts.model_validate_json((info / "facts").read_text()) == FACTS
    assert (info / "root").read_text() == "/srv/pipeline\n"
    assert (info / "python").read_text() == f"{sys.executable}\n"


def test_twistd_runs_in_the_foreground_and_writes_no_pid(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.executable", str(tmp_path / "python"))
    monkeypatch.setattr("shutil.which", {"twistd": "/usr/bin/twistd"}.get)

    program, *options = twistd_command(tmp_path, "worker.tac")

    assert program == "/usr/bin/twistd"
    assert options[:2] == ["--nodaemon", "--pidfile="]
    assert options[-1] == f"--python={tmp_path / 'worker.tac'}"


def test_twistd_is_the_one_beside_python(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "twistd").touch()
    monkeypatch.setattr("sys.executable", str(tmp_path / "python"))

    assert twistd_command(tmp_path, "worker.tac")[0] == str(tmp_path / "twistd")


def test_a_missing_extra_is_told_with_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", {"buildbot": object()}.get)

    require_extra("buildbot")
    with pytest.raises(FarmExtraError, match=r"no buildbot_worker.*uv sync --extra farm"):
        require_extra("buildbot_worker")
