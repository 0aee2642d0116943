"""When something is tried again, how often, and how long is waited."""

import pytest

from pipeline.effects.retry import GaveUpError, RetryableError, RetryPolicy, asked_wait


class Action:
    """Fails as often as there are faults, then gives its result."""

    def __init__(self, *faults: Exception) -> None:
        self.faults = list(faults)
        self.calls = 0

    def __call__(self) -> str:
        """Try it."""
        self.calls += 1
        if self.faults:
            raise self.faults.pop(0)
        return "done"


@pytest.fixture
def slept() -> list[float]:
    return []


def policy(slept: list[float], attempts: int = 5) -> RetryPolicy:
    """Return a policy that only notes how long it would wait."""
    return RetryPolicy(attempts=attempts, sleep=slept.append)


def test_what_works_is_tried_once(slept: list[float]) -> None:
    action = Action()

    assert policy(slept).call("it", action) == "done"
    assert (action.calls, slept) == (1, [])


def test_waits_double_up_to_a_limit(slept: list[float]) -> None:
    action = Action(*(RetryableError("busy") for _ in range(7)))

    assert policy(slept, attempts=8).call("it", action) == "done"
    assert slept == [2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0]


@pytest.mark.parametrize(("asked", "waited"), [(0.0, 0.0), (7.5, 7.5), (3600.0, 60.0)])
def test_a_server_is_waited_for_as_long_as_it_asks_within_limits(
    slept: list[float], asked: float, waited: float
) -> None:
    policy(slept).call("it", Action(RetryableError("busy", asked)))

    assert slept == [waited]


def test_what_keeps_failing_is_given_up_with_the_last_fault(slept: list[float]) -> None:
    action = Action(RetryableError("first"), RetryableError("second"), RetryableError("third"))

    with pytest.raises(GaveUpError, match=r"^third \(3 attempts\)$") as caught:
        policy(slept, attempts=3).call("it", action)

    assert str(caught.value.__cause__) == "third"
    assert (action.calls, len(slept)) == (3, 2)


def test_a_fault_that_will_not_pass_is_not_tried_again(slept: list[float]) -> None:
    action = Action(ValueError("wrong"))

    with pytest.raises(ValueError, match="wrong"):
        policy(slept).call("it", action)

    assert (action.calls, slept) == (1, [])


@pytest.mark.parametrize(
    ("header", "wait"),
    [
        pytest.param(None, None, id="nothing"),
        pytest.param("120", 120.0, id="seconds"),
        pytest.param("Sat, 21 Nov 2026 12:00:30 GMT", 30.0, id="date"),
        pytest.param("Sat, 21 Nov 2026 11:00:00 GMT", 0.0, id="past"),
        pytest.param("soon", None, id="nonsense"),
        pytest.param("-5", None, id="negative"),
        pytest.param("\u00b2", None, id="digit-that-is-no-number"),
    ],
)
def test_how_long_a_server_asks_to_wait(header: str | None, wait: float | None) -> None:
    assert asked_wait(header, now=lambda: 1795262400.0) == wait
