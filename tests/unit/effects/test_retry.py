"""The one policy of retries: how often, after which waits, and what is never tried again."""

from collections.abc import Callable
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.effects.retry import GaveUpError, RetryableError, RetryPolicy, asked_wait
from tests.fakes import NOW


def failing(*outcomes: Exception | str) -> Callable[[], str]:
    """Return an action that meets *outcomes* in turn."""
    left = list(outcomes)

    def action() -> str:
        outcome = left.pop(0)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    return action


def test_what_succeeds_is_done_once_and_without_a_wait() -> None:
    slept: list[float] = []

    result = RetryPolicy(sleep=slept.append).call("get x", failing("done"))

    assert (result, slept) == ("done", [])


def test_waits_double_up_to_the_longest() -> None:
    slept: list[float] = []
    policy = RetryPolicy(attempts=5, first_wait=2, longest_wait=10, sleep=slept.append)

    result = policy.call("get x", failing(*[RetryableError("reset")] * 4, "done"))

    assert (result, slept) == ("done", [2, 4, 8, 10])


@pytest.mark.parametrize(
    ("asked", "slept"),
    [
        pytest.param(7, 7, id="as-asked"),
        pytest.param(0, 0, id="at-once"),
        pytest.param(86400, 10, id="no-longer-than-the-longest"),
    ],
)
def test_the_server_says_how_long_to_wait(asked: float, slept: float) -> None:
    waits: list[float] = []
    policy = RetryPolicy(first_wait=2, longest_wait=10, sleep=waits.append)

    policy.call("get x", failing(RetryableError("later", asked), "done"))

    assert waits == [slept]


def test_it_gives_up_with_the_last_cause_and_the_number_of_attempts() -> None:
    slept: list[float] = []
    policy = RetryPolicy(attempts=3, sleep=slept.append)
    last = RetryableError("HTTP 503")

    with pytest.raises(GaveUpError, match=r"^HTTP 503 \(3 attempts\)$") as raised:
        policy.call("get x", failing(RetryableError("reset"), RetryableError("stall"), last))

    assert raised.value.__cause__ is last
    assert len(slept) == 2


def test_any_other_error_is_final() -> None:
    slept: list[float] = []

    with pytest.raises(ValueError, match=r"^wrong$"):
        RetryPolicy(sleep=slept.append).call("get x", failing(ValueError("wrong"), "done"))

    assert slept == []


@given(attempts=st.integers(1, 12), faults=st.integers(0, 15))
def test_there_are_never_more_attempts_than_allowed(attempts: int, faults: int) -> None:
    slept: list[float] = []
    policy = RetryPolicy(attempts=attempts, sleep=slept.append)
    action = failing(*[RetryableError("reset")] * faults, "done")

    try:
        policy.call("get x", action)
        gave_up = False
    except GaveUpError:
        gave_up = True

    assert gave_up == (faults >= attempts)
    assert len(slept) == min(faults, attempts - 1)
    assert all(0 <= wait <= policy.longest_wait for wait in slept)


@pytest.mark.parametrize(
    ("header", "wait"),
    [
        pytest.param(None, None, id="absent"),
        pytest.param("120", 120, id="seconds"),
        pytest.param("0", 0, id="at-once"),
        pytest.param(format_datetime(NOW.replace(minute=1), usegmt=True), 60, id="date"),
        pytest.param(format_datetime(NOW.replace(hour=11), usegmt=True), 0, id="date-that-passed"),
        pytest.param("soon", None, id="word"),
        pytest.param("-5", None, id="negative"),
        pytest.param("1.5", None, id="fraction"),
        pytest.param("٣", None, id="digit-of-another-script"),
        pytest.param("", None, id="empty"),
        pytest.param(f"1 Jan {'9' * 20} 00:00:00 GMT", None, id="year-that-no-clock-has"),
        pytest.param(f"1 Jan 2020 00:00:00 +{'9' * 15}", None, id="zone-that-no-clock-has"),
    ],
)
def test_what_a_server_asks_for_is_understood_or_ignored(
    header: str | None, wait: float | None
) -> None:
    assert asked_wait(header, NOW.timestamp) == wait


@given(st.text() | st.from_regex(r"\A[0-9A-Za-z ,:+-]{0,40}\Z"))
def test_no_header_of_a_server_breaks_the_policy(header: str) -> None:
    wait = asked_wait(header, NOW.timestamp)

    assert wait is None or wait >= 0
