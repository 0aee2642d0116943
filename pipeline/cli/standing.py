"""The verb that says where everything stands: status."""

import argparse
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from pipeline.cli.options import Verbs, add_examples, add_store, add_verb
from pipeline.cli.ports import chosen_channel, make_context, reading_channel
from pipeline.cli.submitting import add_farm_status, on_farm, show_farm
from pipeline.effects.console import Console
from pipeline.effects.context import Context
from pipeline.errors import ConfigError
from pipeline.model.base import pretty_json
from pipeline.model.configs import Channel, ChannelConfig, StoreConfig
from pipeline.publish.ledger import read_ledger
from pipeline.publish.offers import CHANNELS
from pipeline.publish.project import stale_indexes
from pipeline.publish.sites import OpenChannel
from pipeline.publish.status import Known, SiteStatus, Standing, Status, status_of
from pipeline.sign.notary import KeyFileNotary


def add_status(verbs: Verbs) -> None:
    """Add status."""
    summary = "show where every release and channel stands, and the next safe command"
    parser = add_verb(verbs, "status", summary, _run_status)
    parser.add_argument("--json", action="store_true", help="for programs")
    parser.add_argument(
        "--check", action="store_true", help="exit status 1 if a nightly or an index is stale"
    )
    add_key(parser)
    add_store(parser)
    add_farm_status(parser)
    add_examples(
        parser,
        "status",
        "status --json --check",
        "status --key KEY.asc",
        "status --farm https://farm.example.org --follow",
    )


def add_key(parser: argparse.ArgumentParser) -> None:
    """Add the option that says who is trusted, for who has no secret key."""
    parser.add_argument(
        "--key",
        type=Path,
        metavar="FILE",
        help="trust the public keys in this file, instead of the channel's in the keyring",
    )


def key_notary(ctx: Context, path: Path) -> KeyFileNotary:
    """Return who checks with the keys of a file."""
    if not path.is_file():
        msg = f"command line: --key {path}: there is no such file."
        raise ConfigError(msg)
    return KeyFileNotary(path=path, process=ctx.process)


def _run_status(arguments: argparse.Namespace, console: Console) -> int:
    if on_farm(arguments):
        return show_farm(arguments, console)
    ctx = make_context(arguments, console)
    found = [_status(ctx, arguments, channels) for channels in _by_store(_channels(ctx, arguments))]
    if arguments.json:
        sys.stdout.write(pretty_json(found).decode())
    else:
        for status in found:
            _show(console, status)
    return 1 if arguments.check and not all(status.ok for status in found) else 0


def _channels(ctx: Context, arguments: argparse.Namespace) -> dict[Channel, ChannelConfig]:
    options = vars(arguments)
    return {
        channel: chosen_channel(ctx.config, argparse.Namespace(**options, channel=channel))
        for channel in CHANNELS
    }


def _by_store(
    channels: dict[Channel, ChannelConfig],
) -> Iterator[dict[Channel, ChannelConfig]]:
    """Yield the channels of each ledger: those that are published to the same stores."""
    release, nightly = channels["release"], channels["nightly"]
    if _places(release) == _places(nightly):
        yield channels
    else:
        yield {"release": release}
        yield {"nightly": nightly}


def _places(config: ChannelConfig) -> list[tuple[str, str]]:
    sites: tuple[StoreConfig, ...] = (config, *config.mirrors)
    return [(site.store, site.base_url) for site in sites]


def _status(
    ctx: Context, arguments: argparse.Namespace, channels: dict[Channel, ChannelConfig]
) -> Status:
    channel = reading_channel(ctx, next(iter(channels.values())), arguments)
    notary = channel.notary if arguments.key is None else key_notary(ctx, arguments.key)
    options = ("--store", arguments.store) if arguments.store else ()
    if arguments.base_url:
        options = (*options, "--base-url", arguments.base_url)
    known = Known(
        state=read_ledger(channel.store, notary).state,
        channels=channels,
        sites=tuple(_sites(ctx, replace(channel, notary=notary))),
        now=ctx.now(),
        options=options,
    )
    return status_of(known)


def _sites(ctx: Context, channel: OpenChannel) -> Iterator[SiteStatus]:
    stale = stale_indexes(ctx, channel)
    for site in channel.sites:
        own = tuple(url for url in stale if url.startswith(f"{site.base_url}/"))
        yield SiteStatus(address=site.store.address, base_url=site.base_url, stale_indexes=own)


def _show(console: Console, status: Status) -> None:
    columns = ("interpreter", "channel", "newest", "version", "date", "age", "state")
    console.table("Channels", columns, [_row(item) for item in status.standings])
    if status.staged:
        rows = [(item.release, f"{item.at:%Y-%m-%d}", item.by) for item in status.staged]
        console.table("Staged, for promote", ("release", "since", "by"), rows)
    if status.yanked:
        rows = [
            (item.release, f"{item.at:%Y-%m-%d}", f"{item.by}: {item.reason}")
            for item in status.yanked
        ]
        console.table("Yanked", ("release", "since", "why"), rows)
    sites = [
        (
            item.address,
            item.base_url,
            f"{len(item.stale_indexes)} stale" if item.stale_indexes else "as the ledger says",
        )
        for item in status.sites
    ]
    console.table("Sites", ("store", "address", "indexes"), sites)
    step = status.next
    console.line(f"next: {step.command or 'nothing'} ({step.why})")


def _row(item: Standing) -> tuple[str, ...]:
    if item.release is None or item.at is None:
        return (item.interpreter, item.channel, "none yet", "", "", "", "")
    return (
        item.interpreter,
        item.channel,
        item.release,
        item.version or "",
        f"{item.at:%Y-%m-%d}",
        f"{item.age_days} days",
        "STALE" if item.stale else "ok",
    )
