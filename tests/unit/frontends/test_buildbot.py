"""The master's configuration: who builds what, who may do what, and where workers come from.

How it behaves, tests/integration/test_farm_master.py shows on a running master.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from buildbot.config.errors import capture_config_errors
from buildbot.config.master import MasterConfig
from buildbot.plugins import worker
from buildbot.process.properties import Properties
from buildbot.worker.protocols import pb

from pipeline.errors import ConfigError
from pipeline.farm.settings import MasterSettings
from pipeline.frontends.buildbot.builders import make_builders
from pipeline.frontends.buildbot.configuration import make_schedulers, master_config
from pipeline.frontends.buildbot.process import FileHold, ServerHold, hold_of
from pipeline.frontends.buildbot.workers import COORDINATORS, Fit, make_workers
from pipeline.model.farm import FarmConfig, FarmWorker, NightlySchedule
from tests.factories import CONFIGS, ROOT, make_config

CONFIG = make_config()
Make = Callable[..., MasterSettings]


@pytest.fixture
def make_settings(tmp_path: Path) -> Make:
    """Settings with a secret for each name."""

    def make(*names: str, **changed: Any) -> MasterSettings:
        for name in names:
            path = tmp_path / name
            path.touch(mode=0o600)
            path.write_text("word")
        return MasterSettings.model_validate({"root": ROOT, "secrets": tmp_path, **changed})

    return make


def make_farm(**workers: dict[str, Any]) -> FarmConfig:
    signer = FarmWorker(role="signer", memory=2)
    rows = {name: FarmWorker.model_validate({"memory": 4, **row}) for name, row in workers.items()}
    return FarmConfig(workers={"signer": signer, **rows})


def builders_of(farm: FarmConfig) -> dict[str, Any]:
    return {row.name: row for row in make_builders(CONFIG, farm)}


def test_shipped_farm_is_what_buildbot_takes_for_a_configuration(make_settings: Make) -> None:
    names = ("worker-signer", "worker-worker-1", "worker-worker-2", "admin-admin")

    made = master_config(make_settings(*names))

    with capture_config_errors() as errors:
        config = MasterConfig.loadFromDict(made, "master.cfg")
    assert not errors
    assert "demo-linux-x86_64" in {row.name for row in config.builders}
    assert config.buildbotNetUsageData is None
    assert config.collapseRequests is False
    assert pb.Connection.keepalive_interval == 60


def test_missing_password_names_its_file(make_settings: Make) -> None:
    with pytest.raises(ConfigError, match="worker-signer: no such file"):
        master_config(make_settings("admin-admin"))


def test_only_the_signer_prepares_and_collects_and_it_translates_nothing() -> None:
    found = builders_of(make_farm(one={}, two={"machine": "aarch64"}))

    assert found["prepare"].workernames == ["signer"]
    assert found["collect"].workernames == ["signer"]
    assert found["release"].workernames == list(COORDINATORS)
    assert found["demo-linux-x86_64"].workernames == ["one", "two"]
    assert "signer" not in {
        name for row in found.values() if "job" in row.tags for name in row.workernames
    }


def test_stale_nightlies_are_looked_for_where_there_are_nightlies() -> None:
    farm = make_farm(one={})
    nightly = NightlySchedule(interpreters=("demo",), hour=2)
    with_nightlies = farm.model_copy(update={"nightly": (nightly,)})

    assert "stale" not in builders_of(farm)
    assert builders_of(with_nightlies)["stale"].workernames == ["signer"]
    names = {row.name for row in make_schedulers(CONFIG, with_nightlies)}
    assert names == {"units", "submit", "nightly-0200-demo", "stale"}


def test_job_holds_the_memory_that_it_needs() -> None:
    row = builders_of(make_farm(one={"memory": 8}))["demo-linux-x86_64"]
    job = {
        "identifier": "demo-linux-x86_64",
        "interpreter": "demo",
        "platform": "linux-x86_64",
        "mode": "native",
        "os": "linux",
        "machine": "x86_64",
        "memory": 3,
        "last": "translate",
        "key": None,
        "is_done": False,
    }
    properties = Properties()
    properties.setProperty("job", json.dumps(job), "test")
    found: list[Any] = []

    properties.render(row.locks).addCallback(found.extend)

    assert [access.count for access in found] == [3]
    assert found[0].lockid.maxCountForWorker == {"signer": 2, "one": 8}


def test_a_builder_that_the_configuration_has_no_more_is_lacking() -> None:
    fit = Fit(CONFIG, make_farm(one={}))

    assert fit.lacking(None, None) == "the farm's configuration has no builder for it any more"


def test_latent_workers_are_buildbot_s(make_settings: Make) -> None:
    pods = {"kind": "kubernetes", "image": "worker", "master_url": "https://kube.example"}
    farm = make_farm(
        box={"latent": {"kind": "docker", "image": "worker", "volumes": ["/s:/s"]}, "builds": 3},
        pod={"latent": pods, "idle_minutes": 5},
    )

    found = {row.name: row for row in make_workers(make_settings("worker-signer"), farm)}

    assert isinstance(found["box"], worker.DockerLatentWorker)
    assert isinstance(found["pod"], worker.KubeLatentWorker)
    assert len(found) == 3 + len(COORDINATORS)


@pytest.mark.parametrize(
    ("url", "kind", "place"),
    [
        ("sqlite:///state.sqlite", FileHold, "state.sqlite.lock"),
        ("sqlite:////var/farm.sqlite", FileHold, "/var/farm.sqlite.lock"),
        ("sqlite://", FileHold, "memory.lock"),
        ("postgresql://farm@db/farm", ServerHold, ""),
    ],
)
def test_database_is_held_beside_it_or_by_its_server(
    tmp_path: Path, url: str, kind: type, place: str
) -> None:
    found = hold_of(url, tmp_path)

    assert isinstance(found, kind)
    if isinstance(found, FileHold):
        assert found.path == tmp_path / place


def test_shipped_files_are_few_lines() -> None:
    directory = CONFIGS.parent / "dockerfiles" / "farm"

    for name in ("master.cfg", "buildbot.tac"):
        code = [
            line for line in (directory / name).read_text().splitlines() if line and line[0] != "#"
        ]
        assert len(code) <= 6
    assert "Application('buildmaster')" in (directory / "buildbot.tac").read_text()
