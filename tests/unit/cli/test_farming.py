"""Verbs that run a farm's processes: what their options mean, and what is refused first."""

import signal
import stat
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

import pytest

from pipeline.cli import farming, main
from pipeline.config import load_farm
from pipeline.effects.process import ProcessRunner
from pipeline.errors import DialError, FarmStartError
from pipeline.farm.local import LocalFarm
from pipeline.farm.parts import Part
from pipeline.model.farm import Facts
from tests.factories import ROOT

FACTS = Facts(os="linux", machine="x86_64", containers=True, memory=99 << 30, disk=99 << 30)
VARIABLES = ("WORKERNAME", "WORKERPASS", "BUILDMASTER", "BUILDMASTER_PORT", "RPP_FARM_CA")


class Became(Exception):  # noqa: N818 - no error: this process is another program now
    """What would have taken this process's place."""

    def __init__(self, argv: Sequence[str], without: Sequence[str]) -> None:
        super().__init__()
        self.argv, self.without = tuple(argv), tuple(without)


class Machine:
    """Stands for what the verbs do to this machine."""

    def __init__(self) -> None:
        self.dialled: list[tuple[str, int, bool]] = []
        self.events: list[str] = []
        self.called: list[tuple[tuple[str, ...], Mapping[str, str]]] = []
        self.fails_at: str | None = None
        self.ticks = 3

    def event(self, what: str) -> None:
        """Note it, or fail as told."""
        self.events.append(what)
        if what == self.fails_at:
            raise FarmStartError(what)

    def sleep(self, _seconds: float) -> None:
        """Let time pass until Ctrl-C."""
        self.ticks -= 1
        if self.ticks == 0:
            raise KeyboardInterrupt

    def require_master(self, host: str, port: int, context: object) -> None:
        """Note who is dialled."""
        self.dialled.append((host, port, context is not None))
        if self.fails_at == "dial":
            msg = "no master"
            raise DialError(msg)

    def processes(self, farm: LocalFarm, _process: object, _console: object) -> Any:
        """Return what starts and stops the parts."""
        machine = self

        class Processes:
            def stop_left(self, names: Sequence[str]) -> None:
                machine.event(f"stop left {' '.join(names)}")

            def start(self, part: Part) -> None:
                part.prepare()
                machine.event(f"start {part.name}")

            def look_after(self) -> None:
                machine.event("look")

            def stop_all(self) -> None:
                machine.event("stop")

        assert farm.master.is_dir()
        return Processes()


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    machine = Machine()

    def become(_runner: object, argv: Sequence[str], *, without: Sequence[str]) -> NoReturn:
        raise Became(argv, without)

    def call(_runner: object, argv: Sequence[str], *, environment: Mapping[str, str]) -> int:
        machine.called.append((tuple(argv), environment))
        return 30

    monkeypatch.setattr(ProcessRunner, "become", become)
    monkeypatch.setattr(ProcessRunner, "call", call)
    monkeypatch.setattr(farming, "measured_facts", lambda *_ports: FACTS)
    monkeypatch.setattr(farming, "require_master", machine.require_master)
    monkeypatch.setattr(farming, "LocalProcesses", machine.processes)
    monkeypatch.setattr(
        farming,
        "wait_until_ready",
        lambda _url, names, _processes: machine.event(f"ready {' '.join(names)}".strip()),
    )
    monkeypatch.setattr(
        farming, "create_database", lambda *_ports: machine.event("create database")
    )
    monkeypatch.setattr("time.sleep", machine.sleep)
    monkeypatch.setattr("platform.system", lambda: "Linux")
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    monkeypatch.chdir(ROOT)
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    return machine


@pytest.fixture(autouse=True)
def handler() -> Iterator[None]:
    """Put the signal's handler back."""
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


@pytest.fixture
def password(tmp_path: Path) -> Path:
    path = tmp_path / "password"
    path.touch(mode=0o600)
    path.write_text("secret\n")
    return path


def said(capsys: pytest.CaptureFixture[str]) -> str:
    return " ".join(capsys.readouterr().err.split())


def become_worker(tmp_path: Path, *options: str | Path) -> Became:
    """Run a worker; return what this process became."""
    with pytest.raises(Became) as caught:
        farming_main("farm-worker", tmp_path / "worker", *options)
    return caught.value


def farming_main(*words: str | Path) -> int:
    """Run a verb; what took this process's place is raised."""
    from pipeline.cli.main import main_inner  # noqa: PLC0415 - errors are wanted as they are
    from pipeline.effects.console import Console  # noqa: PLC0415

    return main_inner([str(word) for word in words], Console())


def test_a_worker_is_prepared_looks_for_its_master_and_becomes_twistd(
    machine: Machine, tmp_path: Path, password: Path
) -> None:
    options = ("--name", "w", "--master", "farm:1234", "--password-file", password)

    became = become_worker(tmp_path, *options)

    directory = tmp_path / "worker"
    assert machine.dialled == [("farm", 1234, True)]
    assert became.argv[-1] == f"--python={directory / 'worker.tac'}"
    assert "WORKERPASS" in became.without
    assert (directory / "info" / "facts").is_file()
    assert (directory / "info" / "root").read_text().strip() == str(ROOT)


@pytest.mark.parametrize(
    ("master", "expected"),
    [
        ("farm", ("farm", 9989)),
        ("farm:1", ("farm", 1)),
        ("[::1]:1", ("::1", 1)),
        ("[::1]", ("::1", 9989)),
        ("::1", ("::1", 9989)),
        ("192.0.2.1:7", ("192.0.2.1", 7)),
    ],
)
def test_a_master_is_a_host_and_perhaps_a_port(
    machine: Machine, tmp_path: Path, password: Path, master: str, expected: tuple[str, int]
) -> None:
    become_worker(
        tmp_path, "--name", "w", f"--master={master}", "--password-file", password, "--plain"
    )

    assert machine.dialled == [(*expected, False)]


@pytest.mark.parametrize("master", ["", ":1", "farm:", "farm:x"])
def test_what_is_no_master_is_refused(
    machine: Machine,
    tmp_path: Path,
    password: Path,
    master: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    words = ["farm-worker", str(tmp_path / "w"), "--name", "w", f"--master={master}"]

    assert main([*words, "--password-file", str(password)]) == 10
    assert "is not HOST or HOST:PORT" in said(capsys)
    assert machine.dialled == []


def test_a_worker_that_a_master_starts_is_told_all_by_variables(
    machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ca = tmp_path / "absent.pem"
    given = ("w", "secret", "farm", "1234", str(ca))
    for name, value in zip(VARIABLES, given, strict=True):
        monkeypatch.setenv(name, value)

    became = become_worker(tmp_path)

    file = tmp_path / "worker" / "password"
    assert machine.dialled == [("farm", 1234, True)]
    assert file.read_text() == "secret\n"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert "WORKERPASS" in became.without


def test_a_ca_that_an_image_names_is_trusted_where_it_is(
    machine: Machine, tmp_path: Path, password: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "ca.pem").write_text("no certificate")
    monkeypatch.setenv("RPP_FARM_CA", str(tmp_path / "ca.pem"))
    words = ["farm-worker", str(tmp_path / "w"), "--name", "w", "--master", "farm"]

    assert main([*words, "--password-file", str(password)]) == 27
    assert machine.dialled == []


@pytest.mark.parametrize(
    ("left_out", "expected"),
    [("--name", "which row of farm.toml"), ("--password-file", "WORKERPASS is not set")],
)
def test_what_a_worker_must_know_is_asked_for(
    machine: Machine,
    tmp_path: Path,
    password: Path,
    capsys: pytest.CaptureFixture[str],
    left_out: str,
    expected: str,
) -> None:
    given = {"--name": "w", "--master": "farm", "--password-file": str(password)}
    words = [word for name, value in given.items() if name != left_out for word in (name, value)]

    assert main(["farm-worker", str(tmp_path / "w"), *words]) == 10
    assert expected in said(capsys)
    assert machine.dialled == []


def test_a_worker_whose_master_is_not_there_does_not_start(
    machine: Machine, tmp_path: Path, password: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    machine.fails_at = "dial"
    words = ["farm-worker", str(tmp_path / "w"), "--name", "w", "--master", "farm"]

    assert main([*words, "--password-file", str(password)]) == 27
    assert "error: no master" in said(capsys)


def test_prepare_only_makes_a_worker_and_dials_nobody(
    machine: Machine, tmp_path: Path, password: Path
) -> None:
    words = ["farm-worker", str(tmp_path / "w"), "--name", "w", "--master", "farm"]

    assert main([*words, "--password-file", str(password), "--prepare-only"]) == 0
    assert machine.dialled == []
    assert (tmp_path / "w" / "worker.json").is_file()


def test_a_secret_among_a_worker_s_variables_is_told_and_not_passed_on(
    tmp_path: Path,
    password: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    machine: Machine,
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "x")

    became = become_worker(tmp_path, "--name", "w", "--master", "farm", "--password-file", password)

    assert "AWS_SECRET_ACCESS_KEY" in became.without
    assert "AWS_SECRET_ACCESS_KEY: a worker's variables are sent" in said(capsys)
    assert len(machine.dialled) == 1


def farm_words(directory: Path, *options: str) -> list[str]:
    return ["farm", "--directory", str(directory), "--port", "8110", *options]


def test_a_farm_is_started_in_order_looked_after_and_stopped_by_ctrl_c(
    machine: Machine, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status = main(farm_words(tmp_path / "farm"))

    text = said(capsys)
    names = ("signer", "worker-1", "worker-2")
    assert status == 0
    assert machine.events == [
        f"stop left master {' '.join(names)}",
        *("create database", "start master", "ready"),
        *(f"start {name}" for name in names),
        f"ready {' '.join(names)}",
        *("look", "look", "stop"),
    ]
    assert "pages http://127.0.0.1:8110" in text
    assert f"password of admin {tmp_path / 'farm' / 'secrets' / 'admin-admin'}" in text
    assert text.count(" here") >= 3
    assert "it is found again" in text


def test_a_farm_that_was_made_does_not_make_its_tables_again(
    machine: Machine, tmp_path: Path
) -> None:
    main(farm_words(tmp_path / "farm"))
    machine.ticks = 3

    main(farm_words(tmp_path / "farm"))

    assert machine.events.count("create database") == 1
    assert machine.events.count("stop") == 2


def test_a_farm_that_does_not_start_is_stopped(machine: Machine, tmp_path: Path) -> None:
    machine.fails_at = "start worker-1"

    assert main(farm_words(tmp_path / "farm")) == 28
    assert machine.events[-1] == "stop"


def test_a_verb_is_run_with_the_farm_s_address_and_password(
    machine: Machine, tmp_path: Path
) -> None:
    words = ("--run", "--", "release", "demo", "--farm", "URL")

    status = main(farm_words(tmp_path / "farm", *words))

    ((argv, environment),) = machine.called
    assert status == 30
    assert argv[1:] == ("-m", "pipeline", "release", "demo", "--farm", "http://127.0.0.1:8110")
    password = (tmp_path / "farm" / "secrets" / "admin-admin").read_text().strip()
    assert environment == {"RPP_FARM_PASSWORD": password}
    assert machine.events[-1] == "stop"


def test_a_verb_is_run_where_nobody_is_called_admin(
    machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = load_farm
    changes = {"admins": ("alice",)}
    monkeypatch.setattr(farming, "load_farm", lambda root: given(root).model_copy(update=changes))

    status = main(farm_words(tmp_path / "farm", "--run", "--", "status", "--farm", "URL"))

    ((_, environment),) = machine.called
    assert status == 30
    assert environment == {}


@pytest.mark.parametrize("words", [("--run",), ("release",)])
def test_a_verb_and_the_wish_to_run_it_belong_together(
    machine: Machine, tmp_path: Path, words: tuple[str, ...]
) -> None:
    assert main(farm_words(tmp_path / "farm", *words)) == 10
    assert machine.events == []


def test_dry_run_shows_the_farm_and_makes_nothing(
    machine: Machine, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = farm_words(tmp_path / "farm", "--dry-run", "--operations-port", "8111")

    assert main(words) == 0
    text = said(capsys)
    assert "metrics, health 127.0.0.1:8111" in text
    assert "worker-2 builder" in text
    assert list(tmp_path.iterdir()) == []
    assert machine.events == []


def test_prepare_only_makes_the_farm_as_it_is_configured(machine: Machine, tmp_path: Path) -> None:
    directory = tmp_path / "farm"

    assert main(farm_words(directory, "--prepare-only", "--host", "farm.example.org")) == 0

    made = (directory / "project" / "translation_configs" / "farm.toml").read_text()
    assert '"url" = "http://127.0.0.1:8010"' in made
    assert (directory / "tls" / "server.pem").is_file()
    assert '"farm.example.org:9989"' in (directory / "master" / "farm-settings.json").read_text()
    assert machine.events == []


def test_a_database_s_password_is_no_option(
    machine: Machine, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = farm_words(tmp_path / "farm", "--database", "postgresql://farm:word@db/farm")

    assert main(words) == 10
    text = said(capsys)
    assert "secrets/database (mode 0600)" in text
    assert "word@" not in text
    assert machine.events == []


def test_a_port_of_0_is_any_that_is_free(
    machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.setattr(farming, "free_port", lambda _host: 4711)

    main(["farm", "--directory", str(tmp_path / "farm"), "--port", "0"])

    assert "pages http://127.0.0.1:4711" in said(capsys)
    assert machine.events[-1] == "stop"


def test_a_farm_is_copied_and_made_of_its_copy_by_options(
    machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    done: list[tuple[Path, ...]] = []

    def back_up(directory: Path, file: Path, _process: object) -> int:
        done.append((directory, file))
        return 1234

    monkeypatch.setattr(farming, "back_up", back_up)
    monkeypatch.setattr(farming, "restore", lambda *given: done.append(given[:2]))
    directory, file = tmp_path / "farm", tmp_path / "farm.tar"

    statuses = [
        main(farm_words(directory, "--backup", str(file))),
        main(farm_words(directory, "--restore", str(file))),
    ]

    text = said(capsys)
    assert statuses == [0, 0]
    assert done == [(directory, file), (file, directory)]
    assert "1,234 bytes; it holds passwords" in text
    assert "start it with: python -m pipeline farm" in text
    assert machine.events == []


def test_rows_that_are_not_run_here_say_why(
    machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.setattr("platform.machine", lambda: "aarch64")
    monkeypatch.setattr(
        farming, "measured_facts", lambda *_ports: FACTS.model_copy(update={"disk": 0})
    )
    given = load_farm
    latent = {"kind": "docker", "image": "w"}

    def load(root: Path) -> Any:
        rows = given(root).model_dump()
        rows["workers"]["worker-1"]["machine"] = "aarch64"
        rows["workers"]["worker-2"]["latent"] = latent
        return type(given(root)).model_validate(rows)

    monkeypatch.setattr(farming, "load_farm", load)

    main(farm_words(tmp_path / "farm"))

    text = said(capsys)
    assert "signer signer 2 5 not this machine's: linux x86_64" in text
    assert "worker-1 builder 6 10 given no work, it has only disk 0.0 of 10 GiB" in text
    assert "worker-2 builder 6 10 started when there is work" in text
    assert "start worker-1" in machine.events


def test_a_system_that_shuts_down_stops_the_farm() -> None:
    with pytest.raises(KeyboardInterrupt):
        farming._interrupt(15, None)  # noqa: SLF001 - what a signal calls
