"""How an engine's socket elsewhere is asked for."""

from pathlib import Path

import pytest

from pipeline.effects.ssh import ssh_command

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
