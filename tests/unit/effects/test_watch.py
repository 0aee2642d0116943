"""The lines of what is being done are passed on whole, and what went wrong with them is raised.

Limits of time are in ``test_docker_engine.py``, whose containers hang.
"""

from collections.abc import Iterator

import pytest

from pipeline.effects.engine import WORKER_IMAGE, ContainerStep
from pipeline.effects.watch import watch

STEP = ContainerStep(
    name="step",
    image_id=WORKER_IMAGE,
    command=("make",),
    directory="/build",
    output="/build/out",
    timeout=600,
    silence=600,
)


def watched(*chunks: bytes) -> list[str]:
    """Return the lines that are passed on of what is written in *chunks*."""
    lines: list[str] = []
    watch(lambda: iter(chunks), STEP, lines.append)
    return lines


@pytest.mark.parametrize(
    ("chunks", "expected"),
    [
        pytest.param((b"one\ntwo\n",), ["one", "two"], id="several"),
        pytest.param((b"one\r\ntwo\r\n",), ["one", "two"], id="of-windows"),
        pytest.param((b"one\r", b"\ntwo"), ["one", "two"], id="of-windows-in-parts"),
        pytest.param((b"10%\r20%\r\n",), ["10%\r20%"], id="progress"),
        pytest.param((b"a\n\n\nb\n",), ["a", "b"], id="empty-lines"),
        pytest.param((b"caf\xc3", b"\xa9\n"), ["caf\u00e9"], id="a-character-in-parts"),
        pytest.param((b"\xff\n",), ["\ufffd"], id="no-character"),
        pytest.param((), [], id="nothing"),
    ],
)
def test_lines_are_passed_on_whole(chunks: tuple[bytes, ...], expected: list[str]) -> None:
    assert watched(*chunks) == expected


def test_what_goes_wrong_while_reading_is_raised_after_the_lines_before_it() -> None:
    def broken() -> Iterator[bytes]:
        yield b"working\n"
        message = "connection reset"
        raise ConnectionResetError(message)

    lines: list[str] = []

    with pytest.raises(ConnectionResetError, match="connection reset"):
        watch(broken, STEP, lines.append)

    assert lines == ["working"]
