"""Verbs about what is published: its indexes, and serving it."""

import argparse
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from pipeline.cli.options import (
    Verbs,
    add_channel,
    add_dry_run,
    add_examples,
    add_store,
    add_verb,
    port,
)
from pipeline.cli.ports import chosen_channel, make_context, open_channel, reading_channel
from pipeline.effects.console import Console
from pipeline.effects.context import Context
from pipeline.effects.server import make_server
from pipeline.errors import ConfigError, FetchBackError
from pipeline.model.naming import public_url
from pipeline.publish.audit import Fault, Finding, audit
from pipeline.publish.copies import copy_releases
from pipeline.publish.destinations import project_everywhere, stale_everywhere
from pipeline.publish.project import require_mirrors
from pipeline.publish.repair import repair
from pipeline.publish.sites import OpenChannel


def add_publishing_verbs(verbs: Verbs) -> None:
    """Add reconcile and serve."""
    _add_reconcile(verbs)
    _add_serve(verbs)


def _add_reconcile(verbs: Verbs) -> None:
    summary = "make every index, mirror and file what the ledger says"
    parser = add_verb(verbs, "reconcile", summary, _run_reconcile)
    add_channel(parser)
    parser.add_argument(
        "--check", action="store_true", help="only say what is wrong; exit status 1 if something is"
    )
    add_dry_run(parser, "name what would change")
    add_store(parser)
    add_examples(parser, "reconcile --check", "reconcile", "reconcile --channel nightly")


def _run_reconcile(arguments: argparse.Namespace, console: Console) -> int:
    ctx = make_context(arguments, console)
    config = chosen_channel(ctx.config, arguments)
    if ctx.dry_run or arguments.check:
        channel = reading_channel(ctx, config, arguments)
        stale = stale_everywhere(ctx, channel)
        found = audit(ctx.config, channel)
        _show_audit(console, stale, "to be written", found.findings)
        return 1 if arguments.check and (stale or found.wrong) else 0
    channel = open_channel(ctx, config, arguments)
    require_mirrors(channel.sites, channel.notary)
    found = audit(ctx.config, channel)
    done = repair(ctx, channel, found.state, found.wrong)
    changed, refused = _projected(ctx, channel)
    _show_audit(console, changed, "written", found.findings, done)
    _require_whole(ctx, channel, done, found.wrong)
    if refused is not None:
        raise refused
    if channel.github is not None:
        copied = copy_releases(ctx, channel, found.state, channel.github)
        changed = [item.release for item in copied if not item.change.is_none]
        console.line(f"{len(changed)} copies on GitHub changed: {', '.join(changed) or 'none'}")
    return 0


def _projected(ctx: Context, channel: OpenChannel) -> tuple[list[str], FetchBackError | None]:
    """Write the indexes when the files are there; return what changed, or why a mirror was not.

    Which files are gone is said better by who looks at all of them.
    """
    try:
        return project_everywhere(ctx, channel), None
    except FetchBackError as error:
        return [], error


def _show_audit(
    console: Console,
    indexes: Sequence[str],
    state: str,
    findings: Sequence[Finding],
    done: Sequence[Finding] = (),
) -> None:
    rows = [(url, state) for url in indexes]
    strange = Counter[str]()
    for found in findings:
        url = public_url(found.site.base_url, found.key)
        if found.fault.is_wrong:
            rows.append((url, f"{found.fault}{' (mended)' if found in done else ''}"))
        else:
            strange[url.rsplit("/", 1)[0]] += 1
    rows += [(f"{url}/", f"{count} files {Fault.UNKNOWN}") for url, count in strange.items()]
    console.table("What is not as the ledger says", ("what", "state"), rows)
    wrong = sum(found.fault.is_wrong for found in findings)
    console.line(f"{len(indexes)} indexes {state}, {wrong} files wrong, {len(done)} of them mended")


def _require_whole(
    ctx: Context, channel: OpenChannel, done: Sequence[Finding], wrong: Sequence[Finding]
) -> None:
    """Look once more where something was wrong.

    Raises:
        FetchBackError: a release lacks files that no other site has.
    """
    left = audit(ctx.config, channel).wrong if done else wrong
    if left:
        listed = "\n".join(
            f"{public_url(found.site.base_url, found.key)}: {found.fault}" for found in left
        )
        msg = f"{len(left)} files cannot be mended from another site; restore them.\n{listed}"
        raise FetchBackError(msg)


def _add_serve(verbs: Verbs) -> None:
    parser = add_verb(verbs, "serve", "serve a store over HTTP, for trying out", _run_serve)
    add_channel(parser)
    parser.add_argument("--host", default="127.0.0.1", help="default: %(default)s")
    parser.add_argument("--port", type=port, default=8377, help="default: %(default)s")
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
