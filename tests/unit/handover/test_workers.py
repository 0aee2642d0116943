"""Which kinds of workers a plan counts on."""

from typing import Any

import pytest

from pipeline.errors import UnknownNameError
from pipeline.handover.prepare import kinds_of, selection_of, workers_of
from pipeline.model.farm import FarmConfig, Submission
from pipeline.model.platforms import Mode, Worker
from tests.factories import make_config

HERE = Worker(os="linux", machine="x86_64")
PLATFORMS = make_config().platforms


def farm_of(**workers: dict[str, Any]) -> FarmConfig:
    rows = {name: {"memory": 8, **row} for name, row in workers.items()}
    return FarmConfig.model_validate(
        {"workers": {"signer": {"role": "signer", "memory": 2}, **rows}}
    )


def test_the_signer_is_no_kind_of_worker() -> None:
    assert kinds_of(farm_of()) == ()


def test_equal_workers_are_one_kind() -> None:
    kinds = kinds_of(farm_of(one={}, two={}, arm={"machine": "aarch64"}))

    assert [kind.machine for kind in kinds] == ["x86_64", "aarch64"]


def test_a_mac_works_without_containers() -> None:
    (kind,) = kinds_of(farm_of(mac={"os": "darwin", "machine": "arm64"}))

    assert not kind.containers


@pytest.mark.parametrize("reverse", [False, True])
def test_a_worker_that_runs_the_platform_itself_goes_before_one_that_crosses(
    reverse: bool,  # noqa: FBT001
) -> None:
    kinds = kinds_of(farm_of(one={}, arm={"machine": "aarch64"}))

    workers = workers_of(kinds[::-1] if reverse else kinds, PLATFORMS, HERE)

    assert workers.of("linux-aarch64").machine == "aarch64"
    assert workers.of("linux-x86_64").machine == "x86_64"


def test_without_such_a_worker_it_is_crossed() -> None:
    workers = workers_of(kinds_of(farm_of(one={})), PLATFORMS, HERE)

    assert workers.of("linux-aarch64").machine == "x86_64"


def test_a_worker_is_used_for_its_modes_only() -> None:
    native = {"modes": (Mode.NATIVE,)}
    kinds = kinds_of(farm_of(one=native, two={"modes": (Mode.CROSS,)}))

    workers = workers_of(kinds, PLATFORMS, HERE)

    assert workers.of("linux-x86_64").modes == (Mode.NATIVE,)
    assert workers.of("linux-aarch64").modes == (Mode.CROSS,)


def test_a_submission_selects_as_a_command_line_does() -> None:
    submission = Submission(
        request="x", channel="nightly", names=("demo-linux-aarch64", "pypy3.11"), staged=True
    )

    selection = selection_of(make_config(), submission)

    assert selection.interpreters == ("pypy3.11",)
    assert selection.identified == (("demo", "linux-aarch64"),)
    assert selection.staged


def test_a_submission_of_an_unknown_interpreter_is_refused() -> None:
    submission = Submission(request="x", channel="release", names=("pypi3.11",))

    with pytest.raises(UnknownNameError, match=r"Did you mean 'pypy3\.11'"):
        selection_of(make_config(), submission)
