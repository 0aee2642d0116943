"""Opens the store that a channel's configuration names."""

from pathlib import Path

from pipeline.effects.retry import RetryPolicy
from pipeline.effects.s3_store import S3Store
from pipeline.effects.store import LocalStore, Store
from pipeline.model.configs import StoreConfig


def open_store(config: StoreConfig, root: Path, retry: RetryPolicy | None = None) -> Store:
    """Return the store; a directory's relative path starts at *root*. Nothing is asked of it."""
    if config.is_s3:
        return S3Store(config.store, config.s3, retry)
    return LocalStore(root / config.store)
