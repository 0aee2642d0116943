"""Asking for a run: it is joined if it is there, asked for once if not, and can be stopped."""

import pytest

from pipeline.effects.retry import RetryableError, RetryPolicy
from pipeline.errors import FarmError, UnknownNameError
from pipeline.farm.asking import STOP_LOOKS, Desk, How
from pipeline.model.farm import Submission
from tests.fake_farm import (
    START,
    FakeFarm,
    ended,
    make_build,
    make_request,
    make_submission,
    make_unit,
    said,
)

REASON = "release by me"


def desk_of(farm: FakeFarm) -> Desk:
    return Desk(farm=farm, retry=RetryPolicy(attempts=3, sleep=lambda _seconds: None))


@pytest.mark.parametrize(("channel", "priority"), [("release", 10), ("nightly", 0)])
def test_a_new_run_is_asked_for_with_its_channels_priority(channel: str, priority: int) -> None:
    farm = FakeFarm()

    request, how = desk_of(farm).ask(
        make_submission("demo", channel=channel), again=False, reason=REASON
    )

    assert (request.buildrequestid, how) == (1, How.NEW)
    assert f"submit 1 demo {priority} {REASON}" in farm.asked_for


@pytest.mark.parametrize(
    ("there", "again", "how", "number"),
    [
        (make_request(1), False, How.OPEN, 1),
        (make_request(1), True, How.OPEN, 1),
        (make_request(1, **ended(0)), False, How.MADE, 1),
        (make_request(1, **ended(0)), True, How.NEW, 2),
        (make_request(1, **ended(2)), False, How.NEW, 2),
        (make_request(1, submitted_at=START - 90000, **ended(0)), False, How.NEW, 2),
        (make_request(1, properties=said(submission="no JSON")), False, How.NEW, 2),
    ],
    ids=["open", "open again", "made", "made again", "failed", "long ago", "hostile"],
)
def test_what_is_there_decides_whether_it_is_joined(
    there: object, how: How, number: int, *, again: bool
) -> None:
    farm = FakeFarm()
    assert isinstance(there, type(make_request(1)))
    farm.add(there)

    request, found = desk_of(farm).ask(make_submission(), again=again, reason=REASON)

    assert (request.buildrequestid, found) == (number, how)


def test_a_request_whose_answer_was_lost_is_found_and_not_made_twice() -> None:
    farm = FakeFarm()
    farm.add(make_request(4, **ended(2)))

    def lose_answer(submission: Submission) -> int:
        properties = said(submission=submission.model_dump_json())
        farm.add(make_request(len(farm.rows) + 4, properties=properties))
        msg = "the connection was cut"
        raise RetryableError(msg)

    farm.on_submit = lose_answer

    request, how = desk_of(farm).ask(make_submission(), again=False, reason=REASON)

    assert (request.buildrequestid, how) == (5, How.NEW)
    assert sum(asked.startswith("submit") for asked in farm.asked_for) == 1


def test_a_farm_that_does_not_answer_is_an_error_that_says_where() -> None:
    farm = FakeFarm(broken=99)

    with pytest.raises(FarmError, match=r"https://farm.test: Connection refused \(3 attempts\)"):
        desk_of(farm).ask(make_submission(), again=False, reason=REASON)


def test_a_master_without_our_builder_is_no_farm() -> None:
    farm = FakeFarm(builder_names={1: "runtests"})

    with pytest.raises(FarmError, match="no builder 'release'"):
        desk_of(farm).ask(make_submission(), again=False, reason=REASON)


@pytest.mark.parametrize("name", ["demo", "r7-1800000007"])
def test_a_run_is_found_by_its_requests_name_and_by_its_own(name: str) -> None:
    farm = FakeFarm()
    farm.add(make_request(6), make_request(7, **ended(2)))

    assert desk_of(farm).find(name).buildrequestid == 7


def test_an_unknown_run_is_told_with_those_that_there_are() -> None:
    farm = FakeFarm()
    farm.add(make_request(6))

    with pytest.raises(UnknownNameError, match=r"unknown run 'dmo'\. Did you mean 'demo'"):
        desk_of(farm).find("dmo")


def test_the_newest_run_that_is_under_way_is_found() -> None:
    farm = FakeFarm()
    farm.add(make_request(6), make_request(7), make_request(8, **ended(0)))

    found = desk_of(farm).newest_open()

    assert found is not None
    assert found.buildrequestid == 7
    assert desk_of(FakeFarm()).newest_open() is None


def test_a_run_under_way_is_stopped_once_and_waited_for() -> None:
    farm = FakeFarm()
    farm.add(make_request(6))
    farm.begin(make_build(3, 6, builderid=1))
    slept: list[float] = []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        if len(slept) == 3:
            farm.add(make_request(6, **ended(6)))

    stopped = desk_of(farm).stop("demo", "not wanted", sleep)

    assert stopped is not None
    assert [asked for asked in farm.asked_for if "not wanted" in asked] == [
        "stop build 3: not wanted"
    ]


def test_a_run_that_waits_is_taken_back_and_stopped_if_it_has_begun_meanwhile() -> None:
    farm = FakeFarm()
    farm.add(make_request(6))
    acts = [
        lambda: farm.begin(make_build(3, 6, builderid=1)),
        lambda: farm.add(make_request(6, **ended(6))),
    ]

    desk_of(farm).stop("demo", "not wanted", lambda _seconds: acts.pop(0)())

    assert [asked for asked in farm.asked_for if "not wanted" in asked] == [
        "cancel request 6: not wanted",
        "stop build 3: not wanted",
    ]


def test_what_an_earlier_try_gave_out_is_taken_back_too() -> None:
    """Between two tries nobody but the client is there to stop it."""
    farm = FakeFarm()
    farm.add(make_request(6))
    farm.begin(make_build(3, 6, builderid=1, **ended(5)))
    farm.add(make_unit(7, "prepare", **ended(0)), make_unit(8, "demo-linux-x86_64"), parent=3)
    farm.add(make_unit(9, "demo-linux-i686"), parent=4)

    desk_of(farm).stop("demo", "not wanted", lambda _seconds: farm.add(make_request(6, **ended(6))))

    assert [asked for asked in farm.asked_for if "not wanted" in asked] == [
        "cancel request 6: not wanted",
        "cancel request 8: not wanted",
    ]


def test_a_run_that_does_not_stop_is_told() -> None:
    farm = FakeFarm()
    farm.add(make_request(6))
    slept: list[float] = []

    with pytest.raises(FarmError, match="told to stop, but goes on"):
        desk_of(farm).stop("demo", "not wanted", slept.append)

    assert len(slept) == STOP_LOOKS


def test_there_is_nothing_to_stop_where_nothing_is_under_way() -> None:
    farm = FakeFarm()
    farm.add(make_request(6, **ended(0)))

    assert desk_of(farm).stop("demo", "not wanted", lambda _seconds: None) is None
