"""What a unit of the small farm does: prints, takes its time, and says what it would have made."""

import json
import sys
import time

JOB = "demo-linux-x86_64"
DIGEST = "5" * 64


def work(unit: str, request: str) -> int:
    """Be one unit's work; return its exit status."""
    if unit != JOB:
        return 0
    for number in range(120):
        sys.stdout.write(f"line {number}\n")
    sys.stdout.flush()
    time.sleep(3 if "slow" in request else 0.1)
    if "fails" in request:
        sys.stderr.write(f"error: translate {JOB}: the C compiler \x1b[31mfailed\n")
        return 30
    return 0


def document(unit: str, run: str) -> dict[str, object]:
    """Return what the unit says that it made."""
    if unit == "prepare":
        job = {
            "identifier": JOB,
            "interpreter": "demo",
            "platform": "linux-x86_64",
            "mode": "native",
            "os": "linux",
            "machine": "x86_64",
            "memory": 2,
            "last": "translate",
            "key": DIGEST,
            "is_done": False,
        }
        done = {**job, "identifier": "demo-linux-i686", "platform": "linux-i686", "is_done": True}
        return {"run": run, "releases": ["demo-v1.0.0"], "jobs": [job, done]}
    if unit == "collect":
        file = {
            "filename": "demo-v1.0.0-linux64.tar.gz",
            "kind": "archive-tar-gz",
            "platform": "linux-x86_64",
            "size": 7,
            "sha256": DIGEST,
        }
        release = {"release": "demo-v1.0.0", "is_new": True, "files": [file]}
        at = "2026-01-01T00:00:00Z"
        return {"run": run, "channel": "release", "releases": [release], "at": at}
    return {}


def main(unit: str, what: str, submission: str, run: str) -> int:
    """Do what the command line says."""
    if what == "work":
        return work(unit, json.loads(submission)["request"])
    sys.stdout.write(json.dumps(document(unit, run)))
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
