"""Verbs of a farm's machines: work that outlives its caller, what a worker is, workers, a farm."""

import argparse
import math
import sys
import time
from typing import Final

from pydantic import TypeAdapter, ValidationError

from pipeline.cli.options import Verbs, add_examples, add_verb
from pipeline.effects.console import Console
from pipeline.effects.detached import DetachedWork, are_read
from pipeline.effects.docker_engine import DockerEngine
from pipeline.effects.files import WorkDirectory
from pipeline.effects.process import ProcessRunner
from pipeline.errors import EngineUnavailableError
from pipeline.farm.detached import (
    GRACE,
    Action,
    Replay,
    clear_others,
    follow,
    start_or_find,
    stop,
)
from pipeline.farm.facts import measured_facts
from pipeline.model.base import Name, pretty_json

ORPHAN_MINUTES: Final = 30.0
LEFT: Final = 130
FOLLOWING: Final = "detached"


def add_working_verbs(verbs: Verbs) -> None:
    """Add detached, reap and facts."""
    _add_detached(verbs)
    _add_reap(verbs)
    add_verb(verbs, "facts", "print what this machine can do, as JSON", _run_facts)


def _add_detached(verbs: Verbs) -> None:
    summary = "run a verb that goes on when its caller dies; run again, follow it or get its result"
    parser = add_verb(verbs, FOLLOWING, summary, _run_detached)
    parser.add_argument("name", type=_name, metavar="NAME", help="what the work is found by")
    parser.add_argument(
        "--orphan-minutes",
        type=_duration,
        default=ORPHAN_MINUTES,
        metavar="N",
        help="stop it when nobody follows it for so long; 0: never (default: %(default)g)",
    )
    parser.add_argument(
        "--take-over",
        action="store_true",
        help="first stop and forget what else was detached in this work directory, if nobody "
        "follows it",
    )
    parser.add_argument("verb", nargs="+", metavar="VERB", help="behind --, with its arguments")
    add_examples(parser, "detached demo-1 --work out/demo -- translate demo-linux-x86_64")


def _add_reap(verbs: Verbs) -> None:
    summary = "stop what `detached` runs, with the containers of its work directory"
    parser = add_verb(verbs, "reap", summary, _run_reap)
    parser.add_argument("name", type=_name, metavar="NAME", help="as given to detached")
    parser.add_argument(
        "--grace",
        type=_duration,
        default=GRACE,
        metavar="SECONDS",
        help="kill what is left so long after an interrupt (default: %(default)g)",
    )
    parser.add_argument(
        "--only-containers", action="store_true", help="of work that has ended: stop no process"
    )


def _name(text: str) -> str:
    """Read a name that is safe as a directory's."""
    try:
        return TypeAdapter[str](Name).validate_python(text)
    except ValidationError as error:
        msg = f"{text!r} is no name: a-z, 0-9 and ._- only, at most 100 characters"
        raise argparse.ArgumentTypeError(msg) from error


def _duration(text: str) -> float:
    """Read how long something takes, in the option's unit."""
    number = float(text)
    if not 0 <= number < math.inf:
        msg = f"{text} is no duration"
        raise argparse.ArgumentTypeError(msg)
    return number


def _run_detached(arguments: argparse.Namespace, console: Console) -> int:
    work = DetachedWork(arguments.work.absolute(), arguments.name)
    seconds = arguments.orphan_minutes * 60 or None
    if arguments.take_over:
        for name in clear_others(work, clock=time.monotonic, pause=time.sleep):
            console.line(f"{name}: nobody followed it any more; stopped")
    action = start_or_find(work, ProcessRunner(), _verb(arguments), seconds)
    if action is not Action.START:
        console.line(f"{work.name}: {action}")
    streams = (sys.stdout.buffer, sys.stderr.buffer)
    replays = [
        Replay(path, stream)
        for path, stream in zip((work.stdout, work.stderr), streams, strict=True)
    ]
    descriptors = [stream.fileno() for stream in streams]
    try:
        status = follow(work, replays, pause=time.sleep, is_read=lambda: are_read(descriptors))
    except KeyboardInterrupt:
        console.line(
            f"{work.name} goes on without you. The same command follows it again; to stop it: "
            f"python -m pipeline reap {work.name} --work {arguments.work}"
        )
        return LEFT
    return LEFT if status is None else status


def _verb(arguments: argparse.Namespace) -> tuple[str, ...]:
    """Return the verb with the directories of this one, which its own options may replace."""
    verb, *rest = arguments.verb
    places = (
        "--configs",
        str(arguments.configs.absolute()),
        "--work",
        str(arguments.work.absolute()),
    )
    return (verb, *places, *rest)


def _run_reap(arguments: argparse.Namespace, console: Console) -> int:
    work = DetachedWork(arguments.work.absolute(), arguments.name)
    if not arguments.only_containers:
        stopped = stop(work, clock=time.monotonic, pause=time.sleep, grace=arguments.grace)
        console.line(f"{work.name}: {stopped}")
    engine = DockerEngine(WorkDirectory(work.root).identity())
    try:
        names = engine.remove_containers()
    except EngineUnavailableError as error:
        console.warn(f"no container was looked for: {error}")
    else:
        console.line(f"{len(names)} containers removed{': ' if names else ''}{', '.join(names)}")
    return 0


def _run_facts(arguments: argparse.Namespace, console: Console) -> int:
    del console
    work = WorkDirectory(arguments.work.absolute())
    root = arguments.configs.absolute().parent
    facts = measured_facts(DockerEngine(work.identity()), ProcessRunner(), work.root, root)
    sys.stdout.write(pretty_json(facts).decode())
    return 0
