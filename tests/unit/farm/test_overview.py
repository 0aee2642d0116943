"""What is said of a farm: who is there, what waits, and what somebody must look at."""

from typing import Any

import pytest

from pipeline.effects.farm_api import MasterState, WorkerState
from pipeline.farm.overview import Asked, standing
from pipeline.model.farm import Facts
from tests.fake_farm import BUILDERS, START, ended, make_build, make_request, make_unit, said

FACTS = Facts(os="linux", machine="x86_64", containers=True, memory=8 << 30, disk=50 << 30)


def make_worker(number: int = 3, **changed: Any) -> WorkerState:
    fields = {
        "workerid": number,
        "name": f"worker-{number}",
        "connected_to": [{"masterid": 1}],
        "configured_on": [{"masterid": 1, "builderid": 3}],
        "workerinfo": {"host": FACTS.model_dump_json(), "admin": None},
    }
    return WorkerState.model_validate({**fields, **changed})


def make_asked(**changed: Any) -> Asked:
    fields: dict[str, Any] = {
        "address": "https://farm.test",
        "now": START + 500,
        "builders": BUILDERS,
        "workers": [make_worker()],
        "masters": [MasterState(name="m", active=True), MasterState(name="old", active=False)],
        "running": [],
        "open": [],
        "ended": [],
    }
    return Asked(**{**fields, **changed})


def test_a_worker_is_shown_with_what_it_can_do_and_does() -> None:
    running = [make_build(1, 7), make_build(2, 8, **ended(0)), make_build(3, 9, workerid=4)]

    (worker,) = standing(make_asked(running=running)).workers

    assert worker.facts == FACTS
    assert (worker.name, worker.connected, worker.works_on) == (
        "worker-3",
        True,
        ("demo-linux-x86_64",),
    )


@pytest.mark.parametrize("host", [None, "a big machine", "{}", 7, {"os": "linux"}])
def test_a_worker_that_does_not_say_what_it_can_do_is_shown_without(host: object) -> None:
    asked = make_asked(workers=[make_worker(workerinfo={"host": host})])

    assert standing(asked).workers[0].facts is None


@pytest.mark.parametrize("name", ["__Janitor", "coordinator-1"])
def test_the_masters_own_workers_are_not_shown(name: str) -> None:
    asked = make_asked(workers=[make_worker(), make_worker(9, name=name)])

    assert [worker.name for worker in standing(asked).workers] == ["worker-3"]


def test_requests_have_the_names_by_which_people_find_them() -> None:
    unit = make_unit(8, "prepare")
    unit = unit.model_copy(update={"properties": said(unit="prepare", run="r7-1800000007")})
    asked = make_asked(
        open=[make_request(7), unit],
        running=[make_build(1, 7, builderid=1)],
        ended=[make_request(6, **ended(2)), make_request(5, **ended(0))],
    )

    found = standing(asked)

    assert [(row.job, row.name, row.run, row.state) for row in found.open] == [
        ("release", "demo", "r7-1800000007", "running"),
        ("prepare", "", "r7-1800000007", "waiting"),
    ]
    assert [row.state for row in found.ended] == ["failed", "done"]


def test_a_request_that_no_worker_there_can_do_is_a_problem() -> None:
    unit = make_unit(8, "demo-linux-i686")

    found = standing(make_asked(open=[unit]))

    assert found.problems == (
        "demo-linux-i686 has waited for 8 min 12 s: no worker that can do it is there",
    )


@pytest.mark.parametrize(
    ("worker", "now", "running"),
    [
        ({}, START + 500, []),
        ({"connected_to": []}, START + 40, []),
        ({"connected_to": []}, START + 500, [make_build(1, 8)]),
    ],
    ids=["it can be done", "it has just been asked for", "it is done"],
)
def test_a_request_that_will_be_done_is_none(
    worker: dict[str, Any], now: float, running: list[Any]
) -> None:
    unit = make_unit(8, "demo-linux-x86_64")
    asked = make_asked(open=[unit], now=now, workers=[make_worker(**worker)], running=running)

    assert standing(asked).problems == ()


def test_a_paused_worker_and_a_master_that_has_ended_are_problems() -> None:
    asked = make_asked(
        workers=[make_worker(paused=True, pause_reason="disk"), make_worker(4, paused=True)],
        masters=[MasterState(name="m", active=False)],
    )

    assert standing(asked).problems == (
        "no master process is active, so nothing is begun",
        "worker worker-3 is paused: disk",
        "worker worker-4 is paused: nobody said why",
    )
