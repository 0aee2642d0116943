"""Metrics, health, messages of failures, retention."""

from typing import Any

from pipeline.farm.settings import MasterSettings
from pipeline.model.farm import FarmConfig


def operations(settings: MasterSettings, farm: FarmConfig) -> dict[str, Any]:
    """Return what operations add to ``BuildmasterConfig``: ``services`` and ``configurators``."""
    _ = settings, farm
    return {"services": [], "configurators": []}
