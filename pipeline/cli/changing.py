"""Verbs that change what is offered: yank, unyank and promote."""

import argparse
from collections.abc import Callable
from dataclasses import dataclass

from pipeline.cli.building import run_release
from pipeline.cli.options import (
    Verbs,
    add_channel,
    add_dry_run,
    add_engines,
    add_examples,
    add_release,
    add_store,
    add_verb,
    interpreter_version,
    named_release,
    reason,
)
from pipeline.cli.ports import chosen_channel, make_context, open_channel, reading_channel
from pipeline.effects.console import Console
from pipeline.effects.context import Context
from pipeline.model.ledger import Event, Release, State, replay
from pipeline.publish import events
from pipeline.publish.copies import copy_releases
from pipeline.publish.destinations import project_everywhere
from pipeline.publish.events import Stamp, existing
from pipeline.publish.ledger import Decide, append, read_ledger
from pipeline.publish.offers import meant, offers
from pipeline.publish.promotion import Announce, Build, promotion_of
from pipeline.publish.sites import OpenChannel

MakeDecide = Callable[[str, str, Stamp], Decide]
"""Makes a decision from a product, a release and a stamp."""


def add_changing_verbs(verbs: Verbs) -> None:
    """Add yank, unyank and promote."""
    _add_yank(verbs)
    _add_unyank(verbs)
    _add_promote(verbs)


def _add_yank(verbs: Verbs) -> None:
    summary = "take a release back: clients get the one before, its files stay"
    parser = add_verb(verbs, "yank", summary, _run_yank)
    add_release(parser)
    parser.add_argument(
        "--reason", type=reason, required=True, help="why; it is public and stays in the ledger"
    )
    _add_common(parser)
    add_examples(
        parser,
        'yank pypy3.11 7.3.21 --reason "segfaults when it translates"',
        'yank pypy3.11-nightly-2026-11-25-188288-194f9f44b505 --reason "wrong compiler"',
    )


def _add_unyank(verbs: Verbs) -> None:
    parser = add_verb(verbs, "unyank", "offer a yanked release again", _run_unyank)
    add_release(parser)
    parser.add_argument(
        "--reason", type=reason, default="the yank is taken back", help="default: %(default)s"
    )
    _add_common(parser)
    add_examples(parser, 'unyank pypy3.11 7.3.21 --reason "it was the machine"')


def _add_promote(verbs: Verbs) -> None:
    summary = "offer a staged release, or make a release of what a nightly was made of"
    parser = add_verb(verbs, "promote", summary, _run_promote)
    add_release(parser)
    parser.add_argument("--reason", type=reason, default="promoted", help="default: %(default)s")
    parser.add_argument(
        "--as",
        dest="wanted",
        type=interpreter_version,
        metavar="A.B.C",
        help="the version that it should become; its source must say the same",
    )
    parser.add_argument(
        "--platform",
        action="append",
        default=[],
        help="of a release that is made of a nightly: only this one; repeatable",
    )
    add_engines(parser)
    _add_common(parser)
    add_examples(
        parser,
        "promote pypy3.11 7.3.24",
        "promote pypy3.11-nightly-2026-11-25-188288-194f9f44b505",
    )


def _add_common(parser: argparse.ArgumentParser) -> None:
    add_channel(parser)
    add_dry_run(parser, "say what would change, and change nothing")
    add_store(parser)


def _run_yank(arguments: argparse.Namespace, console: Console) -> int:
    return _run_change(arguments, console, events.yank)


def _run_unyank(arguments: argparse.Namespace, console: Console) -> int:
    return _run_change(arguments, console, events.unyank)


def _run_change(arguments: argparse.Namespace, console: Console, make: MakeDecide) -> int:
    change = _opened(arguments, console)
    _apply(change, meant(change.state, named_release(arguments)), make)
    return 0


def _run_promote(arguments: argparse.Namespace, console: Console) -> int:
    change = _opened(arguments, console)
    name = named_release(arguments)
    match promotion_of(change.state, change.ctx.config, name, arguments.wanted):
        case Announce(release=release):
            _apply(change, release, events.promotion)
            if change.channel.config.apt or change.channel.config.registry:
                console.line(
                    "to install it as users do: python -m pipeline install-check --published "
                    f"{release.name}"
                )
            return 0
        case Build(interpreter=interpreter, version=version):
            console.line(
                f"{name} is of the commit that is pinned for {interpreter} {version}: the release "
                "is made under its own names, from the same translation"
            )
            return run_release(arguments, console, interpreter, version)


@dataclass(frozen=True, kw_only=True)
class _Change:
    """What a change is made to: the channel as it is, and what the command line says of it."""

    ctx: Context
    channel: OpenChannel
    state: State
    reason: str


def _opened(arguments: argparse.Namespace, console: Console) -> _Change:
    ctx = make_context(arguments, console)
    opened = reading_channel if ctx.dry_run else open_channel
    channel = opened(ctx, chosen_channel(ctx.config, arguments), arguments)
    state = read_ledger(channel.store, channel.notary).state
    return _Change(ctx=ctx, channel=channel, state=state, reason=arguments.reason)


def _apply(change: _Change, release: Release, make: MakeDecide) -> None:
    """Append the event, write the indexes, and say what clients get; or only say it."""
    ctx, channel = change.ctx, change.channel
    stamp = Stamp(at=ctx.now(), by=ctx.releaser, reason=change.reason)
    decide = make(release.published.product, release.name, stamp)
    if ctx.dry_run:
        event = decide(change.state)
        now = change.state if event is None else replay(change.state, (event,))
    else:
        read, event = append(channel.store, channel.notary, decide)
        now = read.state
        project_everywhere(ctx, channel)
    _show(change, existing(now, release.published.product, release.name), event, now)
    if channel.github is not None and not ctx.dry_run:
        tuple(copy_releases(ctx, channel, now, channel.github, _touched(change, release, now)))


def _touched(change: _Change, release: Release, now: State) -> set[str]:
    """Return the releases whose copies may have to change: which one is the newest changes too."""
    event = release.published
    rows = offers(change.state, now, event.product, event.interpreter)
    newest = {item.name for row in rows for item in (row.before, row.now) if item is not None}
    return {release.name, *newest}


def _show(change: _Change, release: Release, event: Event | None, now: State) -> None:
    console = change.ctx.console
    if event is None:
        console.line(f"{release.name}: {_said(release)}; nothing to do")
    else:
        would = "would be " if change.ctx.dry_run else ""
        console.line(f"{release.name} {would}{event.event}: {event.reason}")
    published = release.published
    rows = offers(change.state, now, published.product, published.interpreter)
    console.table(
        "What clients get",
        ("interpreter", "channel", "before", "would get" if change.ctx.dry_run else "now"),
        [(row.interpreter, row.channel, _name(row.before), _name(row.now)) for row in rows],
    )
    for row in rows:
        if row.now is None:
            console.warn(f"{row.interpreter}: there is no {row.channel} to offer instead")


def _said(release: Release) -> str:
    """Say how a release stands, for a command that has nothing to do."""
    if release.yanked is not None:
        event = release.yanked
        return f"was yanked on {event.at:%Y-%m-%d} by {event.by} ({event.reason})"
    return "is offered" if release.is_announced else "is staged"


def _name(release: Release | None) -> str:
    return "nothing" if release is None else release.name
