"""The verb that takes old nightlies' files away: prune."""

import argparse
from collections import Counter
from collections.abc import Sequence

from pipeline.cli.options import Verbs, add_dry_run, add_examples, add_store, add_verb
from pipeline.cli.ports import chosen_channel, make_context, reading_channel
from pipeline.effects.console import Console
from pipeline.effects.context import Context
from pipeline.model.configs import RetentionConfig
from pipeline.model.ledger import Release
from pipeline.publish.destinations import project_everywhere
from pipeline.publish.events import Stamp
from pipeline.publish.ledger import read_ledger
from pipeline.publish.prune import last_pruned, record_pruned, release_files, remove_files
from pipeline.publish.retention import judgements, require_known
from pipeline.publish.sites import OpenChannel


def add_prune(verbs: Verbs) -> None:
    """Add prune."""
    summary = "take away the files of nightlies that are older than the channel keeps"
    parser = add_verb(verbs, "prune", summary, _run_prune)
    parser.set_defaults(channel="nightly")
    add_dry_run(parser, "list what would go, and change nothing")
    add_store(parser)
    add_examples(parser, "prune --dry-run", "prune")


def _run_prune(arguments: argparse.Namespace, console: Console) -> int:
    ctx = make_context(arguments, console)
    channel = reading_channel(ctx, chosen_channel(ctx.config, arguments), arguments)
    policy = channel.config.retention
    state = read_ledger(channel.store, channel.notary).state
    require_known(state, policy)
    judged = judgements(state, policy, ctx.now())
    old = tuple(item.release for item in judged if item.reason is None)
    _show_going(ctx, channel, old)
    kept = Counter(item.reason for item in judged if item.reason is not None)
    rows = [(reason, str(count)) for reason, count in kept.most_common()]
    console.table("Nightlies that stay", ("why", "how many"), rows)
    if not ctx.dry_run:
        _prune(ctx, channel, old, policy)
    return 0


def _show_going(ctx: Context, channel: OpenChannel, old: Sequence[Release]) -> None:
    listed = [(item, release_files(channel.store, item)) for item in old]
    rows = [
        (
            item.name,
            f"{(ctx.now() - item.published.at).days} days",
            str(len(files)),
            f"{sum(files.values()):,}",
        )
        for item, files in listed
    ]
    if len(rows) > 1:
        files = [size for _, sizes in listed for size in sizes.values()]
        rows.append((f"{len(listed)} nightlies", "", str(len(files)), f"{sum(files):,}"))
    title = "Nightlies that would go" if ctx.dry_run else "Nightlies that go"
    ctx.console.table(title, ("nightly", "age", "files", "bytes"), rows)


def _prune(
    ctx: Context, channel: OpenChannel, old: Sequence[Release], policy: RetentionConfig
) -> None:
    """Finish what the last run may have left, then give the old ones up and remove their files."""
    _remove(ctx, channel)
    if not old:
        ctx.console.line("nothing to prune")
        return
    reason = f"older than {policy.days} days and not the one of its week for {policy.weeks} weeks"
    stamp = Stamp(at=ctx.now(), by=ctx.releaser, reason=reason)
    with ctx.console.step(f"ledger: {len(old)} nightlies are given up"):
        record_pruned(channel, old, stamp)
    _remove(ctx, channel)


def _remove(ctx: Context, channel: OpenChannel) -> None:
    """Remove what the ledger's newest prune gave up, after the indexes that may lead there."""
    state = read_ledger(channel.store, channel.notary).state
    gone = last_pruned(state)
    if any(release_files(site.store, item) for item in gone for site in channel.sites):
        with ctx.console.step(f"remove the files of {len(gone)} nightlies") as step:
            step.phase("indexes")
            project_everywhere(ctx, channel)
            step.phase("files")
            removed = remove_files(channel, state, gone)
        ctx.console.line(f"{removed} files removed")
