"""The verb that finds the first bad nightly: bisect."""

import argparse
import platform
from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.cli.options import Verbs, add_examples, add_verb
from pipeline.cli.ports import chosen_channel, make_context, reading_channel
from pipeline.cli.standing import add_key, key_notary
from pipeline.config import known
from pipeline.effects.console import Console
from pipeline.effects.context import Context
from pipeline.effects.http_store import HttpStore
from pipeline.effects.public import Receive
from pipeline.effects.store import Store
from pipeline.errors import BisectError, PlatformError
from pipeline.model.configs import InterpreterConfig
from pipeline.model.ledger import Published
from pipeline.model.platforms import Mode, Platform
from pipeline.publish.bisect import Search, pruned_between, row_of, start
from pipeline.publish.download import Downloader
from pipeline.publish.ledger import read_ledger
from pipeline.publish.trial import Trial
from pipeline.sign.notary import KeyFileNotary, KeyringNotary, channel_notary

LONGEST: float = 3600


def add_bisect(verbs: Verbs) -> None:
    """Add bisect."""
    summary = "find the first bad nightly with a script of yours"
    parser = add_verb(verbs, "bisect", summary, _run_bisect)
    parser.add_argument("--interpreter", required=True, metavar="NAME", help="pypy3.11, say")
    for end, meaning in (
        ("good", "a day (the last nightly up to it) or a nightly that is good"),
        ("bad", "a day (the first nightly from it on) or a nightly that is bad"),
    ):
        parser.add_argument(f"--{end}", required=True, help=meaning)
    parser.add_argument("--platform", help="the archives' (default: this machine's)")
    parser.add_argument("--base-url", metavar="URL", help="read over HTTP what is published there")
    parser.add_argument("--store", metavar="DIR", help="instead of the channel's store")
    add_key(parser)
    parser.add_argument(
        "--timeout",
        type=float,
        default=LONGEST,
        metavar="SECONDS",
        help="a script that takes longer says bad (default: %(default).0f)",
    )
    parser.add_argument(
        "script",
        nargs="+",
        metavar="SCRIPT",
        help="a program and its arguments, after --; $PYPY is the nightly's interpreter, "
        "$PIPELINE_NIGHTLY its name; exit status 0 says good, 125 skip, others below 128 bad",
    )
    parser.set_defaults(channel="nightly")
    add_examples(
        parser,
        "bisect --interpreter pypy3.11 --good 2026-09-01 --bad 2026-11-01 -- ./test.sh",
        "bisect --interpreter pypy3.11 --good 2026-09-01 --bad 2026-11-01 \\\n"
        "      --base-url https://downloads.example --key KEY.asc -- sh -c '$PYPY crash.py'",
    )


@dataclass(frozen=True, kw_only=True)
class _Place:
    """Where nightlies are read from, and who is trusted."""

    store: Store
    base_url: str
    verifier: KeyFileNotary | KeyringNotary


def _run_bisect(arguments: argparse.Namespace, console: Console) -> int:
    ctx = make_context(arguments, console)
    place = _place(ctx, arguments)
    with ctx.public.reader(place.store, place.base_url) as receive:
        trial = _trial(ctx, arguments, place, receive)
        trial.require_script()
        state = read_ledger(place.store, place.verifier).state
        row = row_of(state, trial.interpreter.interpreter, trial.platform.identifier)
        search = start(row, arguments.good, arguments.bad)
        if gone := pruned_between(state, row, search):
            console.warn(f"{gone} nightlies between the ends were pruned and cannot be tested")
        search = _searched(console, trial, row, search)
    _show_end(console, row, search)
    return 0


def _place(ctx: Context, arguments: argparse.Namespace) -> _Place:
    config = chosen_channel(ctx.config, arguments)
    store: Store = (
        HttpStore(ctx.http, config.base_url)
        if arguments.base_url and not arguments.store
        else reading_channel(ctx, config, arguments).store
    )
    verifier = (
        channel_notary(ctx, config.signing)
        if arguments.key is None
        else key_notary(ctx, arguments.key)
    )
    return _Place(store=store, base_url=config.base_url, verifier=verifier)


def _trial(ctx: Context, arguments: argparse.Namespace, place: _Place, receive: Receive) -> Trial:
    where = "command line: --interpreter"
    interpreter = known("interpreter", arguments.interpreter, ctx.config.interpreters, where=where)
    return Trial(
        downloader=Downloader(
            receive=receive, verifier=place.verifier, cache=ctx.work.path("cache", "bisect")
        ),
        process=ctx.process,
        interpreter=interpreter,
        platform=_platform(ctx, interpreter, arguments.platform),
        script=tuple(arguments.script),
        timeout=arguments.timeout,
        directory=ctx.work.path("bisect"),
    )


def _platform(ctx: Context, interpreter: InterpreterConfig, name: str | None) -> Platform:
    """Return the platform that is asked for, or the interpreter's first that this machine is."""
    rows = ctx.config.platforms
    if name is not None:
        return known("platform", name, rows, where="command line: --platform")
    system, machine = platform.system().lower(), platform.machine()
    for identifier in interpreter.platforms:
        row = rows[identifier]
        if (row.os, row.runs_on[0]) == (system, machine) and Mode.NATIVE in row.modes:
            return row
    msg = (
        f"{interpreter.interpreter} has no platform that is this machine ({system}, {machine}). "
        f"Name one that runs here with --platform: {', '.join(interpreter.platforms)}."
    )
    raise PlatformError(msg)


def _searched(console: Console, trial: Trial, row: Sequence[Published], search: Search) -> Search:
    console.line(f"good: {row[search.good].release}")
    console.line(f"bad:  {row[search.bad].release}")
    while (place := search.next()) is not None:
        event = row[place]
        left = f"{len(search.untested)} to test, about {search.steps_left} steps"
        with console.step(f"{event.release} ({left})"):
            verdict, how = trial.run(event)
        console.line(f"  {verdict}: {how}")
        search = search.after(place, verdict)
    return search


def _show_end(console: Console, row: Sequence[Published], search: Search) -> None:
    """Show what was found.

    Raises:
        BisectError: what was skipped may be the first bad one.
    """
    good, bad = row[search.good], row[search.bad]
    suspects = [row[place].release for place in search.suspects]
    if len(suspects) > 1:
        msg = (
            f"only nightlies that the script skipped are left. The first bad one is among: "
            f"{', '.join(suspects)}. The last good one is {good.release}."
        )
        raise BisectError(msg)
    console.table(
        "Found",
        ("", "nightly", "revision"),
        [
            ("last good", good.release, good.source.revision),
            ("first bad", bad.release, bad.source.revision),
        ],
    )
    if good.source.revision == bad.source.revision:
        console.line("both are of one revision: what they were built with differs")
    else:
        console.line(f"git log {good.source.revision[:12]}..{bad.source.revision[:12]}")
