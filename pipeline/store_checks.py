"""Checks that a channel's stores do what publishing relies on; part of ``doctor``."""

import os
from collections.abc import Iterator

from pipeline.effects.context import Context
from pipeline.effects.s3_store import S3Store
from pipeline.effects.stores import open_store
from pipeline.engine_checks import CheckResult, Status
from pipeline.errors import StoreError
from pipeline.model.configs import ChannelConfig, StoreConfig


def check_stores(ctx: Context, channel: ChannelConfig) -> Iterator[CheckResult]:
    """Check the channel's store and its mirrors; into a bucket a probe is put and removed."""
    for config in (channel, *channel.mirrors):
        yield _bucket(ctx, config) if config.is_s3 else _directory(ctx, config)


def _bucket(ctx: Context, config: StoreConfig) -> CheckResult:
    name = f"store {config.store}"
    try:
        store = open_store(config, ctx.work.root)
        kept = store.probe_conditional_puts() if isinstance(store, S3Store) else None
    except StoreError as error:
        return CheckResult(name=name, status=Status.FAILED, found="no use", fix=str(error))
    if kept is not None and not kept.all_kept:
        missing = [
            header
            for header, is_kept in (
                ("If-None-Match", kept.if_none_match),
                ("If-None-Match on multipart uploads", kept.completion),
                ("If-Match", kept.if_match),
            )
            if not is_kept
        ]
        return CheckResult(
            name=name,
            status=Status.FAILED if not kept.if_match else Status.WARNING,
            found=f"does not keep to {', '.join(missing)}",
            fix="Two releasers at once could overwrite each other: use another server, or let one "
            "machine alone publish.",
        )
    return CheckResult(name=name, status=Status.OK, found="takes conditional puts")


def _directory(ctx: Context, config: StoreConfig) -> CheckResult:
    name, path = f"store {config.store}", ctx.work.root / config.store
    there = next(parent for parent in (path, *path.parents) if parent.exists())
    if there.is_dir() and os.access(there, os.W_OK):
        return CheckResult(name=name, status=Status.OK, found=f"{path} can be written")
    fix = f"Give this user the right to write into {there}, or name another store."
    return CheckResult(name=name, status=Status.FAILED, found=f"{there} cannot", fix=fix)
