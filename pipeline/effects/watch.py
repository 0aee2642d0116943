"""Passes on the lines that a step writes while it runs, and stops what hangs."""

import queue
import threading
import time
from collections.abc import Callable, Iterable
from typing import Final

from pipeline.effects.engine import ContainerStep, OnLine
from pipeline.errors import StepSilentError, StepTimeoutError

POLL: Final = 1.0

Chunks = Callable[[], Iterable[bytes]]


def watch(chunks: Chunks, step: ContainerStep, on_line: OnLine) -> None:
    """Pass on the lines of *chunks*, which block, until they end.

    Raises:
        StepTimeoutError: that took longer than the step may.
        StepSilentError: no line came for longer than the step may be silent.
    """
    lines: queue.Queue[str | BaseException | None] = queue.Queue()
    threading.Thread(target=_read_lines, args=(chunks, lines), daemon=True).start()
    started = last_line = time.monotonic()
    while True:
        try:
            line = lines.get(timeout=POLL)
        except queue.Empty:
            line = ""
        if line is None:
            return
        if isinstance(line, BaseException):
            raise line
        now = time.monotonic()
        if line:
            last_line = now
            on_line(line)
        _check_limits(step, now - started, now - last_line)


def _check_limits(step: ContainerStep, running: float, silent: float) -> None:
    if running > step.timeout:
        msg = (
            f"not finished after {step.timeout:.0f} s, so it was stopped. If this step may take "
            f"longer, raise {step.limits}.timeout in its config."
        )
        raise StepTimeoutError(msg)
    if silent > step.silence:
        msg = (
            f"wrote nothing for {step.silence:.0f} s, so it was stopped. If this step may be "
            f"silent for longer, raise {step.limits}.silence in its config."
        )
        raise StepSilentError(msg)


def _read_lines(chunks: Chunks, lines: queue.Queue[str | BaseException | None]) -> None:
    """Split what is written into lines; ends with None, or with what went wrong."""
    rest = b""
    try:
        for chunk in chunks():
            *whole, rest = (rest + chunk).split(b"\n")
            for line in whole:
                lines.put(line.decode(errors="replace").rstrip("\r"))
        if rest:
            lines.put(rest.decode(errors="replace"))
    except BaseException as error:  # noqa: BLE001 - raised again in the thread that waits
        lines.put(error)
    else:
        lines.put(None)
