"""A whole farm on this machine, as ``python -m pipeline farm`` makes it, for tests."""

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import requests

from tests.integration.conftest import ROOT

LONGEST = 60.0


def wait_for(condition: Callable[[], object], seconds: float = LONGEST) -> None:
    """Wait until *condition* holds."""
    limit = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < limit, "it does not happen"
        time.sleep(0.1)


@dataclass
class LocalFarm:
    """A farm that was started."""

    directory: Path
    process: "subprocess.Popen[str]"
    said: list[str] = field(default_factory=list)

    @property
    def text(self) -> str:
        """All that it has said so far."""
        return "".join(self.said)

    @property
    def url(self) -> str:
        """Where its pages are."""
        return self._told(r"pages +(http://\S+)")

    @property
    def workers_dial(self) -> str:
        """Where workers dial in."""
        return self._told(r"workers dial +(\S+)")

    @property
    def seconds(self) -> float:
        """How long it took to be ready."""
        return float(self._told(r"ready after (\S+) s"))

    def _told(self, pattern: str) -> str:
        found = re.search(pattern, self.text)
        assert found is not None, self.text
        return found[1]

    def pid(self, name: str) -> int:
        """Return the pid of a part."""
        return int((self.directory / "detached" / name / "work").read_text())

    def get(self, path: str) -> Any:
        """Read from its REST API, as anybody may."""
        answer = requests.get(f"{self.url}/api/v2/{path}", timeout=10)
        answer.raise_for_status()
        return answer.json()

    def connected(self) -> set[str]:
        """Return who has dialled in."""
        return {item["name"] for item in self.get("workers")["workers"] if item["connected_to"]}

    def waiting(self) -> list[Any]:
        """Return the requests that are not done."""
        return list(self.get("buildrequests?complete=false")["buildrequests"])

    def control(self, path: str, method: str, **parameters: object) -> Any:
        """Do something there, as its admin."""
        session = requests.Session()
        password = (self.directory / "secrets" / "admin-admin").read_text().strip()
        session.get(f"{self.url}/auth/login", auth=("admin", password), timeout=10)
        body = {"id": 1, "jsonrpc": "2.0", "method": method, "params": parameters}
        answer = session.post(f"{self.url}/api/v2/{path}", json=body, timeout=10)
        assert answer.ok, answer.text
        return answer.json()["result"]

    def stop(self) -> int:
        """Press Ctrl-C; return its exit status."""
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(LONGEST)


@contextmanager
def running_farm(directory: Path, *options: str) -> Iterator[LocalFarm]:
    """Start a farm in *directory* and wait until it is ready; nothing of it stays."""
    command = [sys.executable, "-m", "pipeline", "farm", "--directory", str(directory)]
    process = subprocess.Popen(
        [*command, "--port", "0", "--worker-port", "0", *options],
        cwd=ROOT,
        env={**os.environ, "CI": "1"},
        stderr=subprocess.PIPE,
        text=True,
    )
    farm = LocalFarm(directory, process)
    stderr = process.stderr
    assert stderr is not None
    reader = threading.Thread(target=lambda: farm.said.extend(stderr), daemon=True)
    reader.start()
    try:
        wait_for(lambda: "ready after" in farm.text or process.poll() is not None)
        assert process.poll() is None, farm.text
        yield farm
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
        process.wait(LONGEST)
        reader.join()
        stderr.close()


def lives(pid: int) -> bool:
    """Whether a process runs; one that has ended may still be in the table."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
