"""Verbs about what is published: its indexes, and serving it."""

import argparse
from pathlib import Path

from pipeline.cli.options import Verbs, add_channel, add_dry_run, add_store, add_verb
from pipeline.cli.ports import chosen_channel, make_context, open_channel
from pipeline.effects.console import Console
from pipeline.effects.server import make_server
from pipeline.errors import ConfigError
from pipeline.publish.project import project, stale_indexes


def add_publishing_verbs(verbs: Verbs) -> None:
    """Add reconcile and serve."""
    _add_reconcile(verbs)
    _add_serve(verbs)


def _add_reconcile(verbs: Verbs) -> None:
    summary = "make every index and mirror what the ledger says"
    parser = add_verb(verbs, "reconcile", summary, _run_reconcile)
    add_channel(parser)
    parser.add_argument(
        "--check", action="store_true", help="only say what is wrong; exit status 1 if something is"
    )
    add_dry_run(parser, "name what would change")
    add_store(parser)


def _run_reconcile(arguments: argparse.Namespace, console: Console) -> int:
    ctx = make_context(arguments, console)
    channel = open_channel(ctx, chosen_channel(ctx.config, arguments), arguments)
    if ctx.dry_run or arguments.check:
        found = stale_indexes(ctx.config, channel.sites, channel.notary)
        console.line(f"{len(found)} to be written: {', '.join(found) or 'none'}")
        return 1 if arguments.check and found else 0
    changed = project(ctx.config, channel.sites, channel.notary)
    console.line(f"{len(changed)} written: {', '.join(changed) or 'none'}")
    return 0


def _add_serve(verbs: Verbs) -> None:
    parser = add_verb(verbs, "serve", "serve a store over HTTP, for trying out", _run_serve)
    add_channel(parser)
    parser.add_argument("--host", default="127.0.0.1", help="default: %(default)s")
    parser.add_argument("--port", type=int, default=8377, help="default: %(default)s")
    add_store(parser)


def _run_serve(arguments: argparse.Namespace, console: Console) -> int:
    ctx = make_context(arguments, console)
    config = chosen_channel(ctx.config, arguments)
    if config.is_s3:
        msg = f"{config.store}: a bucket is served by its server. Name a directory with --store."
        raise ConfigError(msg)
    root = (Path.cwd() if arguments.store else ctx.work.root) / config.store
    server = make_server(root, arguments.host, arguments.port)
    address = f"http://{arguments.host}:{server.server_port}"
    if address != config.base_url:
        console.warn(
            f"the indexes hold URLs below {config.base_url}. To make them fit this server: "
            f"python -m pipeline reconcile --store {root} --base-url {address}"
        )
    console.line(f"{root} is served at {address} (Ctrl-C ends it)")
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        console.line("ended")
    finally:
        server.server_close()
    return 0
