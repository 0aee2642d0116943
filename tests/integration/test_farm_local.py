"""A whole farm on this machine: made, looked after, copied, found again; who dials it in vain."""

import contextlib
import json
import os
import signal
import socket
import ssl
import stat
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text

from pipeline.effects.databases import dump_postgresql, load_postgresql
from pipeline.effects.dialing import free_port, require_master, trusting
from pipeline.effects.process import ProcessRunner
from pipeline.errors import ConfigError, DialError
from pipeline.farm.certificates import Files, ensure_certificates
from tests.integration.conftest import ROOT
from tests.integration.local_farm import LONGEST, LocalFarm, lives, running_farm, wait_for
from tests.integration.postgresql import NO_SERVER, programs, running_postgresql

PARTS = ("master", "signer", "worker-1", "worker-2")
WORKERS = {"signer", "worker-1", "worker-2"}


@pytest.fixture(scope="module")
def farm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalFarm]:
    """A farm that runs while the tests of this file do; the last but one kills it."""
    with running_farm(tmp_path_factory.mktemp("farm") / "farm") as farm:
        yield farm


def pipeline(*arguments: str | Path) -> "subprocess.CompletedProcess[str]":
    """Run a verb to its end."""
    return subprocess.run(
        [sys.executable, "-m", "pipeline", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def modes(directory: Path) -> set[int]:
    return {stat.S_IMODE(path.stat().st_mode) for path in directory.iterdir()}


def test_a_farm_is_ready_with_all_its_workers_and_keeps_its_secrets(farm: LocalFarm) -> None:
    assert farm.connected() >= WORKERS
    for name in ("secrets", "tls"):
        assert stat.S_IMODE((farm.directory / name).stat().st_mode) == 0o700
        assert modes(farm.directory / name) == {0o600}
    passwords = {path.read_text() for path in (farm.directory / "secrets").iterdir()}
    assert len(passwords) == len(WORKERS) + 1
    command_lines = {Path(f"/proc/{farm.pid(name)}/cmdline").read_bytes() for name in PARTS}
    assert not any(word.strip().encode() in line for word in passwords for line in command_lines)


def test_a_part_that_dies_is_started_again(farm: LocalFarm) -> None:
    killed = farm.pid("worker-1")

    os.kill(killed, signal.SIGKILL)
    wait_for(lambda: "worker-1 started again" in farm.text)
    wait_for(lambda: "worker-1" in farm.connected())

    assert "worker-1 ended with status -9; again in 1 s" in farm.text
    assert farm.pid("worker-1") != killed


def test_a_worker_with_another_password_is_not_let_in(farm: LocalFarm, tmp_path: Path) -> None:
    password = tmp_path / "password"
    password.touch(mode=0o600)
    password.write_text("guessed")
    command = ["farm-worker", str(tmp_path / "worker"), "--name", "worker-2"]
    command += ["--master", farm.workers_dial, "--ca", str(farm.directory / "tls" / "ca.pem")]
    process = subprocess.Popen(
        [sys.executable, "-m", "pipeline", *command, "--password-file", password],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None
    lines = iter(process.stdout.readline, "")
    deadline = threading.Timer(LONGEST, os.killpg, (process.pid, signal.SIGKILL))

    deadline.start()
    refused = next((line for line in lines if "unauthorized login" in line), None)
    deadline.cancel()
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.stdout.close()
    process.wait()

    assert refused is not None
    assert "worker-2" in farm.connected()


def test_a_second_farm_in_the_same_directory_is_refused(farm: LocalFarm) -> None:
    done = pipeline("farm", "--directory", farm.directory, "--port", "0", "--worker-port", "0")

    assert done.returncode == 70
    assert f"process {farm.process.pid} is at work here" in " ".join(done.stderr.split())


def test_a_farm_that_was_killed_is_found_again_with_what_was_asked(
    farm: LocalFarm, copied: Path
) -> None:
    farm.process.kill()
    farm.process.wait()
    left = [farm.pid(name) for name in PARTS]
    outlived = [lives(pid) for pid in left]
    refused = pipeline("farm", "--directory", farm.directory, "--restore", copied)

    with running_farm(farm.directory) as again:
        waits = again.waiting()
        connected = again.connected()
        pids = [again.pid(name) for name in PARTS]
        status = again.stop()

    assert refused.returncode == 10
    assert "is not empty, and a farm may run there" in " ".join(refused.stderr.split())
    assert all(outlived)
    assert "master of a farm that was killed: interrupted" in again.text
    assert (len(waits), connected >= WORKERS, status) == (1, True, 0)
    assert not any(lives(pid) for pid in [*left, *pids])


@pytest.fixture(scope="module")
def copied(farm: LocalFarm, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the farm, taken while something that was asked waits for a coordinator."""
    for worker in farm.get("workers")["workers"]:
        if worker["name"].startswith("coordinator"):
            farm.control(f"workers/{worker['workerid']}", "pause", reason="a test")
    builder = farm.get("builders?name=release")["builders"][0]["builderid"]
    farm.control("forceschedulers/submit", "force", builderid=builder, submission="{}")
    file = tmp_path_factory.mktemp("copy") / "farm.tar"
    done = pipeline("farm", "--directory", farm.directory, "--backup", file)
    assert done.returncode == 0, done.stderr
    return file


def test_a_farm_is_made_of_its_copy_and_runs_a_verb(
    farm: LocalFarm, copied: Path, tmp_path: Path
) -> None:
    directory = tmp_path / "restored"

    restored = pipeline("farm", "--directory", directory, "--restore", copied)
    kept = same_secrets(farm.directory, directory)
    done = pipeline(
        *("farm", "--directory", directory, "--port", "0", "--worker-port", "0"),
        *("--run", "--", "status", "--farm", "URL", "--json"),
    )

    assert restored.returncode == 0, restored.stderr
    assert stat.S_IMODE(copied.stat().st_mode) == 0o600
    assert kept
    assert done.returncode == 0, done.stderr
    standing = json.loads(done.stdout)
    assert {worker["name"] for worker in standing["workers"]} >= WORKERS
    assert len(standing["open"]) == 1
    assert "stop master" in done.stderr


def same_secrets(first: Path, second: Path) -> bool:
    paths = [path for name in ("secrets", "tls") for path in (first / name).iterdir()]
    return all(
        path.read_bytes() == (second / path.relative_to(first)).read_bytes() for path in paths
    )


@pytest.mark.skipif(programs() is None, reason=NO_SERVER)
def test_a_server_s_database_is_copied_and_made_again_but_never_overwritten() -> None:
    """Below /tmp, since the server's own user must reach it."""
    process = ProcessRunner()
    with tempfile.TemporaryDirectory(prefix="farm-copy-") as temporary:
        base, copy = Path(temporary), Path(temporary, "copy.sql")
        base.chmod(0o755)
        with running_postgresql(base / "server", free_port("127.0.0.1")) as server:
            engine = create_engine(server.url)
            with engine.begin() as there:
                there.execute(
                    text("CREATE TABLE requests (id int); INSERT INTO requests VALUES (7)")
                )
            dump_postgresql(process, server.url, copy)
            with pytest.raises(ConfigError, match="has tables already"):
                load_postgresql(process, server.url, copy)
            with engine.begin() as there:
                there.execute(text("DROP TABLE requests"))
            load_postgresql(process, server.url, copy)
            with engine.begin() as there:
                found = there.execute(text("SELECT id FROM requests")).scalars().all()
            engine.dispose()

    assert found == [7]


NOW = datetime.now(UTC)


@contextmanager
def listening(files: Files | None) -> Iterator[int]:
    """Answer one caller over TLS, or with what is no TLS; give the port."""
    server = socket.create_server(("127.0.0.1", 0))

    def answer() -> None:
        caller, _ = server.accept()
        with caller:
            if files is None:
                caller.sendall(b"220 this is something else\r\n")
                return
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(files.server, files.server_key)
            try:
                context.wrap_socket(caller, server_side=True).close()
            except OSError:
                return

    thread = threading.Thread(target=answer)
    thread.start()
    yield server.getsockname()[1]
    thread.join()
    server.close()


@pytest.mark.parametrize(
    ("hosts", "made", "expected"),
    [
        pytest.param(["127.0.0.1"], NOW, None, id="good"),
        pytest.param(["127.0.0.1"], NOW + timedelta(days=2), "not valid yet. A clock", id="clock"),
        pytest.param(["127.0.0.1"], NOW - timedelta(days=400), "has expired", id="expired"),
        pytest.param(["farm.example.org"], NOW, "is for another name", id="another-name"),
    ],
)
def test_who_a_worker_dials_is_looked_at_first(
    tmp_path: Path, hosts: list[str], made: datetime, expected: str | None
) -> None:
    files = Files(tmp_path)
    # The CA is good in each case, so that the fault is the certificate's.
    ensure_certificates(files, ["127.0.0.1"], NOW - timedelta(days=500))
    ensure_certificates(files, [*hosts, "renewed.example.org"], made)

    with listening(files) as port:
        if expected is None:
            require_master("127.0.0.1", port, trusting(files.ca))
        else:
            with pytest.raises(DialError, match=expected):
                require_master("127.0.0.1", port, trusting(files.ca))


def test_a_master_of_another_farm_is_not_dialled(tmp_path: Path) -> None:
    ours, others = Files(tmp_path / "ours"), Files(tmp_path / "others")
    for files in (ours, others):
        ensure_certificates(files, ["127.0.0.1"], NOW)

    with (
        listening(others) as port,
        pytest.raises(DialError, match="not of the CA given here"),
    ):
        require_master("127.0.0.1", port, trusting(ours.ca))


def test_what_is_no_master_is_told_from_one(tmp_path: Path) -> None:
    ensure_certificates(Files(tmp_path), ["127.0.0.1"], NOW)
    context = trusting(Files(tmp_path).ca)

    with listening(None) as port, pytest.raises(DialError, match="does not speak TLS"):
        require_master("127.0.0.1", port, context)
    with pytest.raises(DialError, match="no master can be reached"):
        require_master("127.0.0.1", port, context)
