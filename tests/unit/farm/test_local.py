"""A whole farm on this machine: its files, its configuration, and when a part is started again."""

import stat
import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.config import load_farm
from pipeline.farm.local import (
    FIRST_WAIT,
    LONGEST_WAIT,
    STEADY,
    LocalFarm,
    Restarts,
    as_toml,
    lay_out,
    local_config,
    shortage,
    workers_here,
)
from pipeline.farm.settings import MasterSettings, database_url, read_settings, secret
from pipeline.model.farm import Facts, FarmConfig
from tests.factories import ROOT

GIB = 1 << 30
SIGNER: dict[str, Any] = {"role": "signer", "memory": 2}
DOCKER: dict[str, Any] = {"kind": "docker", "image": "w", "volumes": ["a:/b"]}


def config_of(**workers: dict[str, Any]) -> FarmConfig:
    return FarmConfig.model_validate({"workers": {"signer": SIGNER, **workers}})


def farm_in(directory: Path, **changes: Any) -> LocalFarm:
    given: dict[str, Any] = {"www_port": 8010, "worker_port": 9989}
    return LocalFarm(directory=directory, **{**given, **changes})


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A project's directory, with what a farm copies of it."""
    root = tmp_path / "root"
    (root / "translation_configs").mkdir(parents=True)
    (root / "translation_configs" / "demo.toml").write_text("# demo\n")
    (root / "packaging").mkdir()
    (root / "dockerfiles" / "farm").mkdir(parents=True)
    for name in ("master.cfg", "buildbot.tac"):
        (root / "dockerfiles" / "farm" / name).write_text(f"# {name}\n")
    return root


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_farm_here_runs_this_code_and_hands_over_in_one_place(tmp_path: Path) -> None:
    config = FarmConfig.model_validate(
        {
            "url": "https://farm.example.org",
            "repository": "https://git.example.org/p",
            "workers": {"signer": SIGNER},
            "orphan_minutes": 7,
        }
    )

    local = local_config(config, farm_in(tmp_path))

    assert local.url == "http://127.0.0.1:8010"
    assert local.repository is None
    assert local.hand_over.store == str(tmp_path / "handover")
    assert local.orphan_minutes == 7


@pytest.mark.parametrize("store", ["s3://bucket/prefix", "/srv/handover"])
def test_a_hand_over_store_that_is_one_for_all_stays(tmp_path: Path, store: str) -> None:
    given = {"hand_over": {"store": store}, "workers": {"signer": SIGNER}}

    local = local_config(FarmConfig.model_validate(given), farm_in(tmp_path))

    assert local.hand_over.store == store


@pytest.mark.parametrize(
    ("bind", "url", "host"),
    [
        ("127.0.0.1", "http://127.0.0.1:8010", "127.0.0.1"),
        ("0.0.0.0", "http://127.0.0.1:8010", "127.0.0.1"),  # noqa: S104 - binds nothing
        ("::", "http://127.0.0.1:8010", "127.0.0.1"),
        ("::1", "http://[::1]:8010", "::1"),
        ("192.0.2.7", "http://192.0.2.7:8010", "192.0.2.7"),
    ],
)
def test_a_farm_is_found_where_it_listens(tmp_path: Path, bind: str, url: str, host: str) -> None:
    farm = farm_in(tmp_path, bind=bind, www_bind=bind)

    assert (farm.url, farm.dialled) == (url, host)
    assert (farm.settings.bind, farm.settings.www_bind) == (bind, bind)


def test_pages_stay_on_this_machine_when_workers_come_from_elsewhere(tmp_path: Path) -> None:
    farm = farm_in(tmp_path, bind="0.0.0.0", operations_port=8011)  # noqa: S104 - binds nothing

    assert farm.settings.www == "tcp:port=8010:interface=127.0.0.1"
    assert farm.settings.operations == "tcp:port=8011:interface=127.0.0.1"


def test_workers_elsewhere_dial_the_public_name(tmp_path: Path) -> None:
    assert farm_in(tmp_path).settings.public_host == "127.0.0.1:9989"
    assert farm_in(tmp_path, public_host="farm").settings.public_host == "farm:9989"


def test_rows_of_another_kind_of_machine_or_that_the_master_starts_are_not_run_here() -> None:
    rows: dict[str, dict[str, Any]] = {
        "arm-1": {"memory": 6, "machine": "aarch64"},
        "mac-1": {"memory": 6, "os": "darwin"},
        "worker-1": {"memory": 6},
        "cloud-1": {"memory": 6, "latent": DOCKER},
    }
    config = config_of(**rows)

    assert list(workers_here(config, "linux", "x86_64")) == ["signer", "worker-1"]
    assert list(workers_here(config, "linux", "aarch64")) == ["arm-1"]


def test_what_a_machine_lacks_of_its_row_is_told() -> None:
    row = config_of().workers["signer"].model_copy(update={"memory": 6, "disk": 10})
    facts = Facts(os="linux", machine="x86_64", containers=True, memory=4 * GIB, disk=10 * GIB)

    assert shortage(row, facts) == "memory 4.0 of 6 GiB"
    assert shortage(row, facts.model_copy(update={"memory": 6 * GIB})) == ""
    assert shortage(row, facts.model_copy(update={"disk": 0})).endswith("disk 0.0 of 10 GiB")


def test_the_shipped_configuration_is_the_same_after_it_was_written() -> None:
    config = load_farm(ROOT / "translation_configs")

    assert FarmConfig.model_validate(tomllib.loads(as_toml(config))) == config


@given(
    name=st.from_regex(r"[a-z0-9][a-z0-9._-]{0,20}", fullmatch=True),
    image=st.text(st.characters(exclude_categories=["Cs"]), max_size=30),
    minutes=st.integers(min_value=1, max_value=10**6),
)
def test_every_configuration_is_the_same_after_it_was_written(
    name: str, image: str, minutes: int
) -> None:
    row = {"memory": 6, "latent": {**DOCKER, "image": image}}
    config = config_of(**{f"w{name}": row}).model_copy(update={"orphan_minutes": minutes})

    assert FarmConfig.model_validate(tomllib.loads(as_toml(config))) == config


def test_a_farm_is_made_with_a_password_for_each_worker_and_person(
    tmp_path: Path, root: Path
) -> None:
    farm = farm_in(tmp_path / "farm", operations_port=8011)
    config = config_of(**{"worker-1": {"memory": 6}})

    lay_out(farm, config, root, None)

    settings = read_settings(farm.master / "farm-settings.json")
    assert settings == farm.settings
    names = {path.name for path in farm.secrets.iterdir()}
    assert names == {"worker-signer", "worker-worker-1", "admin-admin"}
    passwords = {secret(settings, name) for name in names}
    assert len(passwords) == 3
    assert min(len(word) for word in passwords) >= 32
    assert mode(farm.secrets) == mode(farm.directory) == 0o700
    assert {mode(path) for path in farm.secrets.iterdir()} == {0o600}
    assert (farm.master / "master.cfg").read_text() == "# master.cfg\n"
    assert load_farm(farm.project / "translation_configs") == config
    assert (farm.project / "dockerfiles").resolve() == (root / "dockerfiles").resolve()


def test_a_farm_that_is_made_again_keeps_its_passwords_and_takes_the_new_configuration(
    tmp_path: Path, root: Path
) -> None:
    farm = farm_in(tmp_path / "farm")
    lay_out(farm, config_of(), root, None)
    before = farm.password("signer").read_text()
    (root / "translation_configs" / "demo.toml").unlink()

    lay_out(farm, config_of(**{"worker-1": {"memory": 6}}), root, None)

    assert farm.password("signer").read_text() == before
    assert farm.password("worker-1").is_file()
    assert not (farm.project / "translation_configs" / "demo.toml").exists()


def test_a_database_that_is_named_is_a_secret(tmp_path: Path, root: Path) -> None:
    farm = farm_in(tmp_path / "farm")

    lay_out(farm, config_of(), root, "postgresql://farm@db/farm")
    lay_out(farm, config_of(), root, None)

    settings: MasterSettings = read_settings(farm.master / "farm-settings.json")
    assert database_url(settings) == "postgresql://farm@db/farm"
    assert mode(farm.secrets / "database") == 0o600


def test_a_part_that_never_lives_for_long_is_started_ever_later() -> None:
    restarts, now, waits = Restarts(started_at=0), 0.0, []

    for _ in range(9):
        restarts = restarts.ended(now)
        assert restarts.due is not None
        waits.append(restarts.due - now)
        assert not restarts.is_due(restarts.due - 0.01)
        now = restarts.due
        assert restarts.is_due(now)
        restarts = restarts.started(now)

    assert waits == [1, 2, 4, 8, 16, 32, LONGEST_WAIT, LONGEST_WAIT, LONGEST_WAIT]


def test_a_part_that_lived_for_long_is_started_soon() -> None:
    restarts = Restarts(started_at=0, wait=LONGEST_WAIT)

    assert restarts.ended(STEADY).due == STEADY + FIRST_WAIT
    assert not restarts.is_due(STEADY)
