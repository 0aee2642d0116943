"""Kills a publication after each of its remote calls, and finishes it: run by test_crash.py.

Each run is the real command line in a process of its own, forked so that it starts at once. What
counts as a remote call is one method of a directory store, one answer of an S3 server, or one
download by the public's view; the kill (SIGKILL) comes right after it.

Usage: ``python -m tests.integration.crash_driver PLAN``, where PLAN is a JSON file with ``argv``
(the verb and its arguments, with ``{store}`` and ``{base_url}``), ``stores`` and ``base_url``
(patterns with ``{number}``), ``seed`` (argv that fills a store first), ``current`` (a file that
gets the address of the store at work), ``work`` (a directory) and ``now`` (the time that it is).
It writes one JSON line for each number of calls.
"""

import json
import os
import signal
import sys
import threading
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import botocore.httpsession
import requests

import pipeline.cli.ports
from pipeline.cli import main
from pipeline.effects.files import write_atomically
from pipeline.effects.store import LocalStore

METHODS = ("put_new", "stored", "sizes", "read", "replace", "point", "target", "remove")
NEVER = 1 << 30


class Calls:
    """Counts remote calls, and ends the process after one of them; notes what was uploaded."""

    def __init__(self, kill_after: int, notes: Path) -> None:
        self.left = kill_after
        self.count = 0
        self.notes = notes
        self.lock = threading.Lock()

    def behind(self, call: Callable[..., Any]) -> Callable[..., Any]:
        """Return *call*, after which it is counted."""

        def counted(*arguments: Any, **options: Any) -> Any:
            result = call(*arguments, **options)
            self.done()
            return result

        return counted

    def done(self) -> None:
        """Count a call."""
        with self.lock:
            self.count += 1
            self.left -= 1
            self.notes.write_text(str(self.count))
            if self.left == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    def uploaded(self, key: str) -> None:
        """Note that a file's bytes were taken by a store."""
        with self.notes.with_suffix(".uploads").open("a") as file:
            file.write(f"{key}\n")


def watch(calls: Calls) -> None:
    """Put the counter behind every way to the outside."""
    for name in METHODS:
        setattr(LocalStore, name, _method(calls, name))
    session = botocore.httpsession.URLLib3Session
    plain_send = session.send

    def send(self: Any, request: Any) -> Any:
        answer = plain_send(self, request)
        if (
            request.method == "PUT"
            and answer.status_code == 200
            and "partNumber" not in request.url
        ):
            calls.uploaded(request.url)
        calls.done()
        return answer

    session.send = send  # type: ignore[method-assign]
    requests.Session.send = calls.behind(requests.Session.send)  # type: ignore[method-assign]


def _method(calls: Calls, name: str) -> Callable[..., Any]:
    plain = getattr(LocalStore, name)

    def counted(self: LocalStore, key: str, *arguments: Any, **options: Any) -> Any:
        result = plain(self, key, *arguments, **options)
        if name == "put_new" and result:
            calls.uploaded(key)
        calls.done()
        return result

    return counted


def run(argv: list[str], kill_after: int, notes: Path, now: datetime) -> int:
    """Run a command in a process of its own; return its wait status."""
    notes.unlink(missing_ok=True)
    child = os.fork()
    if child == 0:
        output = os.open(notes.with_suffix(".log"), os.O_CREAT | os.O_WRONLY | os.O_APPEND)
        os.dup2(output, 1)
        os.dup2(output, 2)
        vars(pipeline.cli.ports)["utc_now"] = lambda: now
        watch(Calls(kill_after, notes))
        os._exit(main(argv))
    return os.waitpid(child, 0)[1]


def matrix(plan: dict[str, Any], write: Callable[[str], object]) -> None:
    """Kill after 1, 2, 3, ... calls until a run gets through."""
    work, now = Path(plan["work"]), datetime.fromisoformat(plan["now"])
    number, through = 0, False
    while not through:
        number += plan["stride"]
        places = {
            "store": plan["stores"].format(number=number),
            "base_url": plan["base_url"].format(number=number),
        }
        fill = [word.format(**places) for word in plan["seed"]]
        argv = [word.format(**places) for word in plan["argv"]]
        assert run(fill, NEVER, work / "seed", now) == 0, (work / "seed.log").read_text()
        write_atomically(Path(plan["current"]), places["base_url"].encode())
        killed = work / f"killed-{number}"
        through = run(argv, number, killed, now) == 0
        resumed = work / f"resumed-{number}"
        status = run(argv, NEVER, resumed, now)
        write(
            json.dumps(
                {
                    "number": number,
                    "killed": not through,
                    "status": status,
                    "store": places["store"],
                    "first": _uploads(killed),
                    "then": _uploads(resumed),
                }
            )
        )


def _uploads(notes: Path) -> list[str]:
    path = notes.with_suffix(".uploads")
    return path.read_text().splitlines() if path.exists() else []


if __name__ == "__main__":
    matrix(
        json.loads(Path(sys.argv[1]).read_text()),
        lambda line: os.write(1, f"{line}\n".encode()),
    )
