"""Releases and nightlies on a farm: what the verbs do that were given ``--farm URL``."""

import argparse
import dataclasses
import getpass
import os
import platform
import sys
import time
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Final

from pipeline.cli.options import INTERRUPTED
from pipeline.effects.clock import utc_now
from pipeline.effects.console import Console
from pipeline.effects.farm_api import (
    BuildbotFarm,
    BuildRequest,
    Farm,
    farm_address,
    insist,
    is_private,
)
from pipeline.effects.retry import RetryPolicy
from pipeline.errors import ConfigError, FarmLoginError
from pipeline.farm.asking import Desk
from pipeline.farm.client import (
    SUBMISSION,
    as_duration,
    default_request,
    make_submission,
    run_name,
    submission_of,
)
from pipeline.farm.follow import Follower
from pipeline.farm.overview import (
    Asked,
    FarmStanding,
    RequestStanding,
    WorkerStanding,
    standing,
)
from pipeline.farm.settings import read_secret
from pipeline.farm.units import RELEASE
from pipeline.model.base import pretty_json
from pipeline.model.configs import Config
from pipeline.model.farm import Collected, Submission
from pipeline.plan import Selection

VARIABLE: Final = "RPP_FARM_PASSWORD"
FIRST_CONTACT: Final = RetryPolicy(attempts=4, first_wait=1.0)
MOST_SHOWN: Final = 10
MOST_OPEN: Final = 500
GIBIBYTE: Final = 2**30
WORKER_COLUMNS: Final = ("worker", "state", "works on", "machine", "memory", "free disk")
REQUEST_COLUMNS: Final = ("number", "job", "request", "run", "state", "asked at (UTC)", "for")
# What is for work on this machine, and is decided by the farm's own configuration there.
HERE_ONLY: Final = ("source", "mode", "engine", "store", "base_url", "provision")


def add_farm_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that send the work to a farm."""
    group = parser.add_argument_group("on a farm, instead of on this machine")
    _add_farm(group)
    group.add_argument(
        "--farm-user", default="admin", metavar="NAME", help="log in as (default: %(default)s)"
    )
    group.add_argument(
        "--farm-password-file",
        type=Path,
        metavar="FILE",
        help="where the password is, readable for nobody else; without it, it is in "
        f"{VARIABLE}, or asked for on a terminal",
    )
    group.add_argument(
        "--farm-insecure",
        action="store_true",
        help="send the password over http to another machine, where anybody between can read it",
    )
    group.add_argument(
        "--request",
        metavar="NAME",
        help="the run's name, by which it is joined (default: made of the selection and the day)",
    )
    group.add_argument(
        "--again", action="store_true", help="also if it was made today; one under way is joined"
    )
    group.add_argument("--detach", action="store_true", help="do not wait for its end")
    group.add_argument("--cancel", action="store_true", help="stop the run of that name")
    group.add_argument("--json", action="store_true", help="print what the farm made, for programs")
    parser.set_defaults(can_farm=True)


def add_farm_status(parser: argparse.ArgumentParser) -> None:
    """Add the options that ask a farm for its status."""
    group = parser.add_argument_group("of a farm, instead of what is published")
    _add_farm(group)
    group.add_argument(
        "run_or_request",
        nargs="?",
        metavar="RUN",
        help="one run: its name (r12-1767225600), or that of its request",
    )
    group.add_argument(
        "--follow", action="store_true", help="wait for its end (default: of the newest run)"
    )


def _add_farm(group: "argparse._ArgumentGroup") -> None:
    group.add_argument(
        "--farm", type=_address, metavar="URL", help="the farm's pages (https://farm.example.org)"
    )


def _address(text: str) -> str:
    try:
        return farm_address(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def on_farm(arguments: argparse.Namespace) -> bool:
    """Whether the command is for a farm.

    Raises:
        ConfigError: it has options of both, or those of a farm and no farm.
    """
    given = vars(arguments)
    if given.get("farm") is None:
        if not given.get("can_farm"):
            return False
        options = ("request", "again", "detach", "cancel", "json", "farm_password_file")
        wrong, why = options, "says nothing without --farm URL"
    else:
        wrong, why = HERE_ONLY, "is for work on this machine, not for --farm"
    for name in wrong:
        if given.get(name):
            msg = f"command line: --{name.replace('_', '-')} {why}. Leave one of them out."
            raise ConfigError(msg)
    return given.get("farm") is not None


def submit(
    arguments: argparse.Namespace, config: Config, selection: Selection, console: Console
) -> int:
    """Have a farm do what the command line selects, and show it until it has ended."""
    name = arguments.request or default_request(selection, arguments.names, utc_now().date())
    submission = make_submission(config, selection, arguments.names, name)
    if arguments.dry_run:
        sys.stdout.write(pretty_json(submission).decode())
        return 0
    farm = _logged_in(arguments)
    desk = Desk(farm=farm, retry=FIRST_CONTACT)
    if arguments.cancel:
        return _stop(desk, submission, console)
    reason = f"{selection.channel} by {arguments.farm_user} from {platform.node()}"
    request, how = desk.ask(submission, again=arguments.again, reason=reason)
    page = f"{farm.address}/#/buildrequests/{request.buildrequestid}"
    console.line(f"{name} ({run_name(request)}): {how}; {page}")
    if arguments.detach:
        console.line(f"to follow it: {_rejoin(farm, name)}")
        return 0
    return _follow(_follower(console, farm, request), name, as_json=arguments.json)


def show_farm(arguments: argparse.Namespace, console: Console) -> int:
    """Show what a farm is doing, or one of its runs. Nobody has to log in for it."""
    farm = BuildbotFarm(arguments.farm)
    if arguments.run_or_request is None and not arguments.follow:
        return _show_all(arguments, farm, console)
    desk = Desk(farm=farm, retry=FIRST_CONTACT)
    if arguments.run_or_request is None:
        request = desk.newest_open()
        if request is None:
            console.line(f"{farm.address}: nothing is under way")
            return 0
    else:
        request = desk.find(arguments.run_or_request)
    follower = _follower(console, farm, request)
    if not arguments.follow:
        rows = follower.show_once()
        if arguments.json:
            sys.stdout.write(pretty_json([dataclasses.asdict(row) for row in rows]).decode())
        return 0
    return _follow(follower, run_name(request), as_json=arguments.json)


def _logged_in(arguments: argparse.Namespace) -> Farm:
    """Return the farm after logging in.

    Raises:
        FarmLoginError: the password would be readable on its way, is not known, or is wrong.
        FarmError: the farm does not answer.
    """
    if not (is_private(arguments.farm) or arguments.farm_insecure):
        msg = (
            f"{arguments.farm}: over http everybody between here and there can read the password. "
            "Use https, a tunnel to this machine (ssh -L), or --farm-insecure in a network of "
            "your own."
        )
        raise FarmLoginError(msg)
    farm = BuildbotFarm(arguments.farm)
    password = _password(arguments, os.environ)
    insist(FIRST_CONTACT, farm.address, lambda: farm.login(arguments.farm_user, password))
    return farm


def _password(arguments: argparse.Namespace, environment: Mapping[str, str]) -> str:
    path: Path | None = arguments.farm_password_file
    if path is not None:
        return read_secret(path)
    if VARIABLE in environment:
        return environment[VARIABLE]
    if not sys.stdin.isatty():
        msg = (
            f"{arguments.farm}: no password for {arguments.farm_user}. Put it into {VARIABLE}, or "
            "into a file for --farm-password-file."
        )
        raise FarmLoginError(msg)
    return getpass.getpass(f"Password of {arguments.farm_user} at {arguments.farm}: ")


def _follower(console: Console, farm: Farm, request: BuildRequest) -> Follower:
    asked = submission_of(request)
    name = f"{asked.request} ({run_name(request)})" if asked else run_name(request)
    number = request.buildrequestid
    return Follower(console=console, farm=farm, name=name, request=number, sleep=time.sleep)


def _rejoin(farm: Farm, name: str) -> str:
    return f"python -m pipeline status --farm {farm.address} {name} --follow"


def _follow(follower: Follower, name: str, *, as_json: bool) -> int:
    console = follower.console
    try:
        ended = follower.follow()
    except KeyboardInterrupt:
        console.line(
            f"left; {follower.name} goes on at the farm. To follow it again, run the same command, "
            f"or: {_rejoin(follower.farm, name)}"
        )
        return INTERRUPTED
    if ended.collected is None:
        console.line(f"{follower.name}: there was nothing new to make")
        return 0
    _show_collected(console, ended.collected)
    if as_json:
        sys.stdout.write(pretty_json(ended.collected).decode())
    return 0


def _show_collected(console: Console, collected: Collected) -> None:
    files = [
        (release.release, file.filename, str(file.size), file.sha256)
        for release in collected.releases
        for file in release.files
    ]
    console.table("Files", ("release", "file", "size", "sha256"), files)
    for release in collected.releases:
        told = "published" if release.is_new else "was published already"
        console.line(f"{release.release}: {told}")
    for name in collected.unchanged:
        console.line(f"{name}: not made, its inputs are those of the last one")


def _stop(desk: Desk, submission: Submission, console: Console) -> int:
    stopped = desk.stop(submission.request, "asked for with --cancel", time.sleep)
    if stopped is None:
        console.line(f"{submission.request}: no such run is under way, so there is none to stop")
    else:
        console.line(f"{submission.request} ({run_name(stopped)}): stopped")
    return 0


def _show_all(arguments: argparse.Namespace, farm: Farm, console: Console) -> int:
    found = insist(FIRST_CONTACT, farm.address, lambda: _read_all(farm))
    if arguments.json:
        sys.stdout.write(pretty_json(found).decode())
    else:
        _show_standing(console, found)
    return 1 if arguments.check and found.problems else 0


def _read_all(farm: Farm) -> FarmStanding:
    builders = farm.builders()
    release = next((number for number, name in builders.items() if name == RELEASE), None)
    ended = (
        ()
        if release is None
        else farm.requests_of(release, complete=True, limit=MOST_SHOWN, properties=(SUBMISSION,))
    )
    # Open requests before what runs: one that is begun between the two is not called late.
    waiting = farm.open_requests(MOST_OPEN)
    return standing(
        Asked(
            address=farm.address,
            builders=builders,
            workers=farm.workers(),
            masters=farm.masters(),
            running=farm.running(),
            open=waiting,
            ended=ended,
            now=farm.now(),
        )
    )


def _show_standing(console: Console, found: FarmStanding) -> None:
    console.table("Workers", WORKER_COLUMNS, [_worker_cells(row) for row in found.workers])
    console.table(
        "Open requests", REQUEST_COLUMNS, [_request_cells(row, found.at) for row in found.open]
    )
    console.table(
        "Last runs", REQUEST_COLUMNS, [_request_cells(row, found.at) for row in found.ended]
    )
    for problem in found.problems:
        console.warn(problem)
    if not found.problems:
        console.line("health: ok")


def _worker_cells(row: WorkerStanding) -> tuple[str, ...]:
    state = "paused" if row.paused else "ready" if row.connected else "away"
    facts = row.facts
    if facts is None:
        return (row.name, state, ", ".join(row.works_on), "", "", "")
    memory, disk = (f"{size / GIBIBYTE:.1f} GiB" for size in (facts.memory, facts.disk))
    return (row.name, state, ", ".join(row.works_on), f"{facts.os} {facts.machine}", memory, disk)


def _request_cells(row: RequestStanding, at: datetime) -> tuple[str, ...]:
    end = row.ended or at
    age = as_duration((end - row.submitted).total_seconds())
    return (str(row.number), row.job, row.name, row.run, row.state, f"{row.submitted:%F %T}", age)
