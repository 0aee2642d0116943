"""The ledger's form: what an event may say, and how a release is found."""

import pytest
from pydantic import ValidationError

from pipeline.model.base import pretty_json
from pipeline.model.ledger import Event, Ledger
from tests.factories import make_event, make_ledger, make_nightly


def test_a_published_release_is_found_by_product_and_name() -> None:
    ledger = make_ledger(make_event(version="7.3.22"), make_event(version="7.3.23"))

    event = ledger.published("pypy", "pypy3.11-v7.3.23")

    assert event == ledger.events[1]


@pytest.mark.parametrize(
    ("product", "release"),
    [
        pytest.param("demo", "pypy3.11-v7.3.23", id="other-product"),
        pytest.param("pypy", "pypy3.11-v7.3.2", id="other-release"),
    ],
)
def test_another_release_is_not_found(product: str, release: str) -> None:
    ledger = make_ledger(make_event())

    assert ledger.published(product, release) is None


def test_a_ledger_is_read_as_it_was_written() -> None:
    ledger = make_ledger(make_event(), make_event(version="7.3.24rc1"), make_nightly())

    assert Ledger.model_validate_json(pretty_json(ledger)) == ledger


def test_a_time_is_written_in_utc() -> None:
    event = make_event()

    assert event.model_dump(mode="json")["at"] == "2026-11-21T12:01:00Z"


def test_a_ledger_of_another_schema_is_refused() -> None:
    with pytest.raises(ValidationError, match="Input should be 1"):
        Ledger.model_validate({"schema": 2, "events": []})


@pytest.mark.parametrize(
    "override",
    [
        pytest.param({"sequence": 0}, id="sequence-zero"),
        pytest.param({"event": "yanked"}, id="unknown-event"),
        pytest.param({"channel": "weekly"}, id="unknown-channel"),
        pytest.param({"product": "../demo"}, id="product-climbs"),
        pytest.param({"release": "../demo"}, id="release-climbs"),
        pytest.param({"manifest_sha256": "0"}, id="not-a-digest"),
        pytest.param({"interpreter_version": "7.3"}, id="not-a-version"),
    ],
)
def test_an_event_that_means_nothing_is_refused(override: dict[str, object]) -> None:
    fields = make_event().model_dump()

    with pytest.raises(ValidationError):
        Event.model_validate({**fields, **override})
