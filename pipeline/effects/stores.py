"""Opens the store that a channel's configuration names."""

from pathlib import Path

from pipeline.effects.store import LocalStore, Store
from pipeline.errors import StoreError
from pipeline.model.configs import StoreConfig


def open_store(config: StoreConfig, root: Path) -> Store:
    """Return the store; a directory's relative path starts at *root*. Nothing is asked of it."""
    if config.is_s3:
        msg = f"{config.store}: S3 is not here yet"
        raise StoreError(msg)
    return LocalStore(root / config.store)
