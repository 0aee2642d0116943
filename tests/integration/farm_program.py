"""Stands where a worker's interpreter would: answers ``-m pipeline ...`` as the pipeline does.

``detached`` starts its verb in a session of its own, or finds it again; ``reap`` stops it. What
verbs do says ``plan.json`` in a directory; what they did is in the file ``events`` there.
"""
# ruff: noqa: T201 - it is a program, run without the project's packages

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

HERE = Path(os.environ["FARM_PROGRAM_HOME"])


def note(*words: str) -> None:
    with (HERE / "events").open("a") as file:
        file.write(" ".join(words) + "\n")


def behaviour(unit: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((HERE / "plan.json").read_text())["units"].get(unit, {})
    return found


def is_alive(place: Path) -> bool:
    try:
        os.kill(int((place / "pid").read_text()), 0)
    except (OSError, ValueError):
        return False
    return not (place / "status").exists()


def detached(name: str, work: str, verb: list[str]) -> int:
    place = Path(work, name)
    place.mkdir(parents=True, exist_ok=True)
    status = place / "status"
    if not is_alive(place) and not (status.exists() and status.read_text() == "0"):
        for file in place.iterdir():
            file.unlink()
        with (place / "out").open("wb") as out, (place / "err").open("wb") as err:
            started = subprocess.Popen(
                [
                    *sys.orig_argv[: sys.orig_argv.index("detached")],
                    "do",
                    str(place),
                    name,
                    work,
                    *verb,
                ],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                start_new_session=True,
            )
        (place / "pid").write_text(str(started.pid))
    with (place / "err").open() as err:
        while True:
            over = status.exists() or not is_alive(place)
            sys.stderr.write(err.read())
            sys.stderr.flush()
            if over:
                break
            time.sleep(0.05)
    if not status.exists():
        return 1
    sys.stdout.write((place / "out").read_text())
    return int(status.read_text())


def say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def do(place: str, name: str, work: str, verb: list[str]) -> int:
    unit = "prepare" if verb[0] == "prepare" else "collect" if "--claims" in verb else verb[1]
    how = behaviour(unit)
    note("start", name, str(os.getpid()))
    if how.get("kills"):
        os.kill(int((Path(work).parent.parent / "pid").read_text()), signal.SIGKILL)
        Path(place, "status").write_text("1")
        return 1
    step = f"{verb[0]} {unit}"
    say(f"{step} ...")
    for number, phase in enumerate(("annotate", "rtype")):
        if not how.get("silent"):
            after = ", after 6 s of annotate" if number else ""
            say(f"  {step}: {phase} ({number + 1}/2){after}")
        end = time.monotonic() + how.get("seconds", 0.1) / 2
        while time.monotonic() < end or not (HERE / how.get("until", "")).exists():
            time.sleep(0.1)
            if not how.get("silent"):
                say("[a line of a log]")
    code = int(how.get("exit", 0))
    if "fit" in how and argument(verb, "--worker") not in how["fit"]:
        code = 73
    say(f"{'failed' if code else 'done'} {step} ({how.get('seconds', 0.1):.1f} s)")
    if code:
        say("error: it did not work")
    else:
        print(how.get("stdout") or answer(unit, verb), flush=True)
    note("end", name)
    Path(place, "status").write_text(str(code))
    return code


def argument(verb: list[str], name: str) -> str:
    return verb[verb.index(name) + 1]


def answer(unit: str, verb: list[str]) -> str:
    run, plan = argument(verb, "--run"), json.loads((HERE / "plan.json").read_text())
    if unit == "prepare":
        json.loads(Path(argument(verb, "--submission")).read_text())
        releases = [] if plan["unchanged"] else ["demo-v1.0.0"]
        made = {"releases": releases, "jobs": plan["jobs"], "unchanged": plan["unchanged"]}
        return json.dumps({"run": run, **made}, indent=1)
    if unit == "collect":
        (HERE / "claims.json").write_text(Path(argument(verb, "--claims")).read_text())
        made = {"channel": verb[0], "releases": [], "at": "2026-11-25T12:00:00Z"}
        return json.dumps({"run": run, **made}, indent=1)
    stage = {"stage": verb[0], "key": "1" * 64, "sha256": "2" * 64, "size": 5}
    stage["place"] = f"workers/{argument(verb, '--worker')}/translate.tar"
    claim = {
        "identifier": unit,
        "worker": argument(verb, "--worker"),
        "stages": [stage],
    }
    return json.dumps({"run": run, **claim, "seconds": 1.0, "cached": False}, indent=1)


def reap(name: str, work: str) -> int:
    note("reap", name)
    place = Path(work, name)
    try:
        os.killpg(int((place / "pid").read_text()), signal.SIGKILL)
    except (OSError, ValueError):
        return 0
    return 0


def main(arguments: list[str]) -> int:
    if arguments[0] == "do":
        return do(arguments[1], arguments[2], arguments[3], arguments[4:])
    if arguments[0] == "reap":
        return reap(arguments[1], argument(arguments, "--work"))
    assert arguments[0] == "detached", arguments
    mark = arguments.index("--")
    return detached(arguments[1], argument(arguments, "--work"), arguments[mark + 1 :])


sys.exit(main(sys.argv[3:] if sys.argv[1] == "-m" else sys.argv[1:]))
