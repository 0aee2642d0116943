"""``BuildmasterConfig``: what ``master.cfg`` is, made of the project's configuration."""

import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from buildbot.plugins import schedulers, util
from buildbot.process.properties import Properties
from buildbot.worker.protocols import pb

from pipeline.config import load_config, load_farm
from pipeline.farm import units
from pipeline.farm.settings import (
    ADMIN_FILE,
    SETTINGS_NAME,
    SETTINGS_VARIABLE,
    MasterSettings,
    database_url,
    read_settings,
    secret,
)
from pipeline.farm.units import COLLECT, PREPARE, RELEASE, STALE
from pipeline.frontends.buildbot import pacing
from pipeline.frontends.buildbot.builders import make_builders
from pipeline.frontends.buildbot.fan_out import UNITS, Units
from pipeline.frontends.buildbot.operations import operations
from pipeline.frontends.buildbot.workers import make_workers
from pipeline.model.configs import Config
from pipeline.model.farm import FarmConfig, NightlySchedule

CONFIGS: Final = "translation_configs"
SUBMIT: Final = "submit"
"""The name of the scheduler by which people submit."""
MOST_OF_A_LOG: Final = 64 * 1024 * 1024
TAIL_OF_A_LOG: Final = 1024 * 1024


def config_beside(directory: Path) -> dict[str, Any]:
    """Return ``BuildmasterConfig`` for the settings in *directory*, or where the variable says.

    Raises:
        ConfigError: the settings, a file of ``translation_configs/`` or a secret is wrong.
    """
    return master_config(settings_of(directory))


def settings_of(directory: Path) -> MasterSettings:
    """Read the settings in *directory*, or those that the environment variable names.

    Raises:
        ConfigError: there are none, or they are wrong.
    """
    named = os.environ.get(SETTINGS_VARIABLE)
    return read_settings(Path(named) if named else directory / SETTINGS_NAME)


def master_config(settings: MasterSettings) -> dict[str, Any]:
    """Return ``BuildmasterConfig`` for the farm of the project in ``settings.root``.

    Raises:
        ConfigError: a file of ``translation_configs/`` or a secret is not as it must be.
    """
    config = load_config(settings.root / CONFIGS)
    farm = load_farm(settings.root / CONFIGS)
    # Worker(keepalive_interval=...) is accepted and ignored.
    pb.Connection.keepalive_interval = farm.keepalive_seconds
    made = {
        "title": "rpython-pipeline",
        "titleURL": farm.url,
        "buildbotURL": f"{farm.url}/",
        "buildbotNetUsageData": None,
        "db": {"db_url": database_url(settings)},
        "protocols": {"pb": {"port": settings.workers}},
        "workers": make_workers(settings, farm),
        "builders": make_builders(config, farm),
        "schedulers": make_schedulers(config, farm),
        "collapseRequests": False,
        "logCompressionMethod": "gz",
        "logMaxSize": MOST_OF_A_LOG,
        "logMaxTailSize": TAIL_OF_A_LOG,
        "www": _www(settings, farm),
    }
    return {**made, **operations(settings, farm)}


def _www(settings: MasterSettings, farm: FarmConfig) -> dict[str, Any]:
    """Return the pages: everybody may read, only admins may do something."""
    admins = {name: secret(settings, ADMIN_FILE.format(name)) for name in farm.admins}
    return {
        "port": settings.www,
        "auth": util.UserPasswordAuth(admins),
        "authz": util.Authz(
            allowRules=[util.AnyControlEndpointMatcher(role="admins")],
            roleMatchers=[util.RolesFromUsername(roles=["admins"], usernames=list(admins))],
        ),
        "plugins": {"waterfall_view": {}, "grid_view": {}},
    }


def make_schedulers(config: Config, farm: FarmConfig) -> list[Any]:
    """Return what begins builds: people, the clock, and the fan-out."""
    found = [
        Units(name=UNITS, builderNames=[*units.unit_workers(config, farm), PREPARE, COLLECT]),
        schedulers.ForceScheduler(
            name=SUBMIT,
            builderNames=[RELEASE],
            codebases=[_no_codebase()],
            properties=[
                util.TextParameter(name="submission", required=True, label="submission (JSON)")
            ],
        ),
    ]
    return found + _nightly_schedulers(farm)


def _nightly_schedulers(farm: FarmConfig) -> list[Any]:
    """Return what asks for nightlies, and then for whether one is stale."""
    if not farm.nightly:
        return []
    nightlies = [
        schedulers.Nightly(
            name=f"nightly-{row.hour:02}{row.minute:02}-{'-'.join(row.interpreters)}",
            builderNames=[RELEASE],
            hour=row.hour,
            minute=row.minute,
            properties={"submission": _nightly_submission.withArgs(row)},
        )
        for row in farm.nightly
    ]
    seconds = farm.stale_check_hours * 60 * pacing.MINUTE
    stale = schedulers.Periodic(name=STALE, builderNames=[STALE], periodicBuildTimer=seconds)
    return [*nightlies, stale]


def _no_codebase() -> Any:
    """Return what keeps a form from asking for a revision."""
    fields = ("branch", "revision", "repository", "project")
    fixed = {name: util.FixedParameter(name, default="") for name in fields}
    return util.CodebaseParameter("", **fixed)


@util.renderer
def _nightly_submission(_properties: Properties, row: NightlySchedule) -> str:
    return units.compact(units.nightly_submission(row, datetime.now(UTC).date()))
