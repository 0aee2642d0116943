"""The plan as a Buildbot master: the only module that builds on Buildbot's classes (GPL-2.0)."""

from typing import Any

from pipeline.farm.settings import MasterSettings
from pipeline.model.farm import FarmConfig


def master_config(settings: MasterSettings) -> dict[str, Any]:
    """Return ``BuildmasterConfig`` for the farm of the project in ``settings.root``.

    Raises:
        ConfigError: a file of ``translation_configs/`` or a secret is not as it must be.
    """
    raise NotImplementedError(settings)


# Operations: metrics, health, messages of failures, retention. Nothing above depends on it.


def operations(settings: MasterSettings, farm: FarmConfig) -> dict[str, Any]:
    """Return what operations add to ``BuildmasterConfig``: ``services`` and ``configurators``."""
    _ = settings, farm
    return {"services": [], "configurators": []}
