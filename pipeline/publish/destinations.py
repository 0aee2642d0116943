"""Makes everything that readers see what the ledger says: indexes, and what is elsewhere.

Beside the stores' indexes these are the tags of images in a registry and the formulas of a tap.
All of it may be repeated at any time, and repairs whatever is there.
"""

import time
from collections.abc import Callable, Collection
from functools import partial
from typing import Final

from pipeline.effects.context import Context
from pipeline.errors import ConflictError, PipelineError
from pipeline.model.artifacts import Artifact
from pipeline.publish.ledger import is_still, pause_before_next, read_ledger
from pipeline.publish.project import project, stale_indexes
from pipeline.publish.sites import OpenChannel
from pipeline.publish.tags import move_tags, stale_tags
from pipeline.publish.tap import stale_tap, write_tap

ATTEMPTS: Final = 20


def project_everywhere(
    ctx: Context, channel: OpenChannel, checked: Collection[Artifact] = ()
) -> list[str]:
    """Write all projections, the stores' indexes first; return the addresses of what changed.

    One that cannot be written does not keep the others from being: a yank must reach whom it can.
    *checked* are files that readers were seen to get by now; a tap need not fetch them again.

    Raises:
        PipelineError: the first failure; others were told.
    """
    writers: tuple[Callable[[], list[str]], ...] = (
        partial(project, ctx, channel),
        partial(_move_tags, ctx, channel),
        partial(_write_tap, ctx, channel, checked),
    )
    changed: list[str] = []
    failures: list[PipelineError] = []
    for write in writers:
        try:
            changed += write()
        except PipelineError as error:
            failures.append(error)
    for failure in failures[1:]:
        ctx.console.warn(str(failure))
    if failures:
        raise failures[0]
    return changed


def stale_everywhere(ctx: Context, channel: OpenChannel) -> list[str]:
    """Return the addresses of what is not as the ledger says; changes nothing."""
    stale = stale_indexes(ctx, channel)
    if channel.registry is not None:
        stale += stale_tags(ctx.config, channel.registry, channel.store, channel.notary)
    if channel.config.tap is not None:
        state = read_ledger(channel.store, channel.notary).state
        with ctx.work.alone("tap"):
            stale += stale_tap(ctx, channel.config.tap, state, channel.sites[0])
    return stale


def _move_tags(ctx: Context, channel: OpenChannel) -> list[str]:
    if channel.registry is None:
        return []
    tags = move_tags(ctx.config, channel.registry, channel.store, channel.notary)
    for address in tags.repaired:
        ctx.console.warn(
            f"{address}: led to something else, though it stands for one release for ever. It was "
            "put right; find out who else may push there."
        )
    for address in tags.left:
        ctx.console.warn(
            f"{address}: should be gone, but the registry does not let it be taken away. Allow it "
            "to delete (docker-registry: REGISTRY_STORAGE_DELETE_ENABLED=true) and run: "
            "python -m pipeline reconcile"
        )
    return list(tags.changed)


def _write_tap(
    ctx: Context,
    channel: OpenChannel,
    checked: Collection[Artifact],
    pause: Callable[[float], None] = time.sleep,
) -> list[str]:
    """Write the tap, and again if the ledger has changed meanwhile: it must not stay behind.

    One process of a work directory does it at a time, since all have one copy of the tap.
    """
    tap, changed = channel.config.tap, dict[str, None]()
    if tap is None:
        return []
    with ctx.work.alone("tap"):
        for attempt in range(ATTEMPTS):
            read = read_ledger(channel.store, channel.notary)
            told = write_tap(ctx, tap, read.state, channel.sites[0], checked=checked)
            changed |= dict.fromkeys(told)
            if is_still(channel.store, read):
                return list(changed)
            pause(pause_before_next(attempt))
    msg = f"{tap.repository}: releases came all the time. Run: python -m pipeline reconcile"
    raise ConflictError(msg)
