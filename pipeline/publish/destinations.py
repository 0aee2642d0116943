"""Makes everything that readers see what the ledger says: indexes, and what is elsewhere.

Beside the stores' indexes these are the tags of images in a registry. All of it may be
repeated at any time, and repairs whatever is there.
"""

from pipeline.effects.context import Context
from pipeline.publish.project import project, stale_indexes
from pipeline.publish.sites import OpenChannel
from pipeline.publish.tags import move_tags, stale_tags


def project_everywhere(ctx: Context, channel: OpenChannel) -> list[str]:
    """Write all projections, the stores' indexes first; return the addresses of what changed."""
    changed = project(ctx, channel)
    if channel.registry is not None:
        tags = move_tags(ctx.config, channel.registry, channel.store, channel.notary)
        changed += tags.changed
        for address in tags.left:
            ctx.console.warn(
                f"{address}: should be gone, but the registry does not let it be taken away. "
                "Allow it to delete (docker-registry: REGISTRY_STORAGE_DELETE_ENABLED=true) and "
                "run: python -m pipeline reconcile"
            )
    return changed


def stale_everywhere(ctx: Context, channel: OpenChannel) -> list[str]:
    """Return the addresses of what is not as the ledger says; changes nothing."""
    stale = stale_indexes(ctx, channel)
    if channel.registry is not None:
        stale += stale_tags(ctx.config, channel.registry, channel.store, channel.notary)
    return stale
