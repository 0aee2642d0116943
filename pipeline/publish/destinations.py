"""Makes everything that readers see what the ledger says: indexes, and what is elsewhere.

Beside the stores' indexes these are the tags of images in a registry and the formulas of a tap.
All of it may be repeated at any time, and repairs whatever is there.
"""

import time
from collections.abc import Callable, Collection
from typing import Final

from pipeline.effects.context import Context
from pipeline.errors import ConflictError
from pipeline.model.artifacts import Artifact
from pipeline.model.homebrew import TapConfig
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

    *checked* are files that readers were seen to get by now; a tap need not fetch them again.

    Raises:
        PipelineError: one of them cannot be written; those before it are.
    """
    changed = [*project(ctx, channel), *_move_tags(ctx, channel)]
    if channel.config.tap is not None:
        changed += _write_tap(ctx, channel, channel.config.tap, checked)
    return changed


def stale_everywhere(ctx: Context, channel: OpenChannel) -> list[str]:
    """Return the addresses of what is not as the ledger says; changes nothing."""
    stale = stale_indexes(ctx, channel)
    if channel.registry is not None:
        stale += stale_tags(ctx.config, channel.registry, channel.store, channel.notary)
    if channel.config.tap is not None:
        state = read_ledger(channel.store, channel.notary).state
        stale += stale_tap(ctx, channel.config.tap, state, channel.sites[0])
    return stale


def _move_tags(ctx: Context, channel: OpenChannel) -> tuple[str, ...]:
    if channel.registry is None:
        return ()
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
    return tags.changed


def _write_tap(
    ctx: Context,
    channel: OpenChannel,
    tap: TapConfig,
    checked: Collection[Artifact],
    pause: Callable[[float], None] = time.sleep,
) -> list[str]:
    """Write the tap, and again if the ledger has changed meanwhile: it must not stay behind."""
    changed: dict[str, None] = {}
    for attempt in range(ATTEMPTS):
        read = read_ledger(channel.store, channel.notary)
        told = write_tap(ctx, tap, read.state, channel.sites[0], checked=checked)
        changed |= dict.fromkeys(told)
        if is_still(channel.store, read):
            return list(changed)
        pause(pause_before_next(attempt))
    msg = f"{tap.repository}: releases came all the time. Run: python -m pipeline reconcile"
    raise ConflictError(msg)
