"""How an engine's socket elsewhere is asked for, and what happens when the way there fails."""

import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace

import pytest

from pipeline.effects import ssh
from pipeline.effects.process import Tool
from pipeline.effects.ssh import forwarded, ssh_command
from pipeline.errors import EngineUnavailableError

LOCAL = Path("local.sock")


@pytest.mark.parametrize(
    ("address", "told"),
    [
        ("ssh://host", ("-L", "local.sock:/var/run/docker.sock", "--", "host", "cat")),
        (
            "ssh://me@host:2222/",
            ("-p", "2222", "-L", "local.sock:/var/run/docker.sock", "--", "me@host", "cat"),
        ),
        (
            "ssh://me@host/run/user/1000/podman/podman.sock",
            ("-L", "local.sock:/run/user/1000/podman/podman.sock", "--", "me@host", "cat"),
        ),
    ],
)
def test_an_address_says_host_port_and_socket(address: str, told: tuple[str, ...]) -> None:
    assert ssh_command(address, LOCAL)[-len(told) :] == told


def test_ssh_asks_nothing_and_fails_where_it_cannot_forward() -> None:
    command = ssh_command("ssh://host", LOCAL)

    assert "BatchMode=yes" in command
    assert "ExitOnForwardFailure=yes" in command


def test_a_host_is_never_an_option() -> None:
    command = ssh_command("ssh://-oProxyCommand=evil", LOCAL)

    assert command[command.index("--") + 1].startswith("-o")
    assert command[-1] == "cat"


class Tunnels:
    """Stands for ssh: whether its socket appears, how long that takes, and whether it ends."""

    def __init__(self, temporary: Path) -> None:
        self.temporary = temporary
        self.commands: list[tuple[str, ...]] = []
        self.stopped = 0
        self.at_exit: list[Callable[..., object]] = []
        self.now = 0.0
        self.appears_at: float | None = 0.2
        self.ends_at = 1000.0
        self.says = ""

    @property
    def has_ended(self) -> bool:
        """Whether ssh has given up."""
        return self.now >= self.ends_at

    def stop(self) -> None:
        """Note that it was stopped."""
        self.stopped += 1

    def start_tied(self, argv: Sequence[str], *, tool: Tool, log: Path) -> "Tunnels":
        """Note what was started, and say something."""
        assert tool.program == "ssh"
        self.commands.append(tuple(argv))
        log.write_text(self.says)
        return self

    def sleep(self, seconds: float) -> None:
        """Let time pass, and the socket appear."""
        self.now += seconds
        if self.appears_at is not None and self.now >= self.appears_at:
            (local,) = (word for word in self.commands[-1] if word.startswith(str(self.temporary)))
            Path(local.split(":")[0]).touch()


@pytest.fixture
def tunnels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Tunnels]:
    made = Tunnels(tmp_path)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(ssh, "ProcessRunner", lambda: made)
    monkeypatch.setattr(ssh, "time", SimpleNamespace(monotonic=lambda: made.now, sleep=made.sleep))
    monkeypatch.setattr(
        ssh,
        "atexit",
        SimpleNamespace(register=lambda what, *_args, **_kw: made.at_exit.append(what)),
    )
    forwarded.cache_clear()
    yield made
    forwarded.cache_clear()


def test_a_socket_that_appears_is_the_engines(tunnels: Tunnels) -> None:
    address = forwarded("ssh://me@farm")

    assert address.startswith(f"unix://{tunnels.temporary}/")
    assert Path(address.removeprefix("unix://")).exists()
    assert tunnels.stopped == 0


def test_one_way_leads_to_each_machine(tunnels: Tunnels) -> None:
    first, again, other = (forwarded(f"ssh://{name}") for name in ("farm", "farm", "barn"))

    assert first == again != other
    assert [command[-2] for command in tunnels.commands] == ["farm", "barn"]


def test_nothing_of_it_is_left_at_the_end(tunnels: Tunnels) -> None:
    forwarded("ssh://farm")

    assert tunnels.stop in tunnels.at_exit
    assert shutil.rmtree in tunnels.at_exit


def test_what_ssh_says_is_told(tunnels: Tunnels) -> None:
    tunnels.appears_at, tunnels.ends_at = None, 1.0
    tunnels.says = "Host key verification failed.\n"

    with pytest.raises(EngineUnavailableError) as caught:
        forwarded("ssh://me@farm")

    message = str(caught.value)
    assert message.startswith(
        "no container engine answers at ssh://me@farm: Host key verification failed.. Check that"
    )
    assert tunnels.now < 2
    assert tunnels.stopped == 1


def test_an_ssh_that_hangs_is_given_up(tunnels: Tunnels) -> None:
    tunnels.appears_at = None

    with pytest.raises(EngineUnavailableError, match="ssh made no connection"):
        forwarded("ssh://me@farm")

    assert tunnels.now == pytest.approx(ssh.CONNECT_TIMEOUT, abs=1)
    assert tunnels.stopped == 1


def test_after_a_failure_the_way_is_tried_again(tunnels: Tunnels) -> None:
    tunnels.appears_at, tunnels.ends_at = None, 0.0
    with pytest.raises(EngineUnavailableError):
        forwarded("ssh://farm")
    tunnels.appears_at, tunnels.ends_at = tunnels.now + 0.2, 1000.0

    assert forwarded("ssh://farm").startswith("unix://")
