"""Which release people mean, and which one clients are led to."""

from dataclasses import replace

import pytest
from hypothesis import given

from pipeline.errors import EventError
from pipeline.model.ledger import KEPT_WHOLE, State, Yanked, compacted
from pipeline.publish.offers import CHANNELS, interpreters, meant, newest_offered, offers
from pipeline.publish.projections.latest import latest_of
from tests.factories import later, make_event, make_nightly, make_state, make_view
from tests.unit.publish.projections.histories import Drawn, drawn_histories, view_of


def test_a_release_is_found_by_its_name() -> None:
    state = make_state(make_event(version="7.3.21"), make_event(version="7.3.23"))

    assert meant(state, "pypy3.11-v7.3.21").published.interpreter_version.micro == 21


def test_a_name_that_is_not_there_is_answered_with_a_near_one() -> None:
    state = make_state(make_event(version="7.3.21"))

    with pytest.raises(EventError, match=r"Did you mean 'pypy3\.11-v7\.3\.21'"):
        meant(state, "pypy3.11-v7.3.20")


def test_a_name_of_two_products_must_say_which() -> None:
    state = make_state(make_event(), make_event(product="other"))

    with pytest.raises(EventError, match=r"pypy/pypy3\.11-v7\.3\.23, other/pypy3\.11-v7\.3\.23"):
        meant(state, "pypy3.11-v7.3.23")

    assert meant(state, "other/pypy3.11-v7.3.23").published.product == "other"


def test_clients_are_led_to_the_newest_version_not_to_the_last_published() -> None:
    state = make_state(make_event(version="7.3.23"), make_event(version="7.3.22"))

    newest = newest_offered(state, "pypy3.11", "release")

    assert newest is not None
    assert newest.name == "pypy3.11-v7.3.23"


def test_of_one_version_the_newer_language_comes_first() -> None:
    state = make_state(
        make_event(release="pypy3.11-v7.3.23-new", language_version="3.11.15"),
        make_event(release="pypy3.11-v7.3.23-old", language_version="3.11.9"),
    )

    newest = newest_offered(state, "pypy3.11", "release")

    assert newest is not None
    assert newest.name.endswith("new")


@pytest.mark.parametrize(
    "other",
    [
        make_event(version="7.3.24rc1"),
        make_event(version="7.3.24", staged=True),
        make_event("pypy3.12", version="7.3.24"),
    ],
    ids=["a candidate", "a staged release", "another interpreter"],
)
def test_clients_are_not_led_to(other: object) -> None:
    state = make_state(make_event(version="7.3.23"), other)  # type: ignore[arg-type]

    newest = newest_offered(state, "pypy3.11", "release")

    assert newest is not None
    assert newest.name == "pypy3.11-v7.3.23"


def test_nightlies_are_in_the_order_of_their_numbers() -> None:
    state = make_state(make_nightly(20), make_nightly(10))

    newest = newest_offered(state, "pypy3.11", "nightly")

    assert newest is not None
    assert newest.published.source.number == 20


def led_to(state: State, product: str, interpreter: str) -> list[str | None]:
    """Return the release and the nightly that the indexes lead to."""
    view = replace(make_view(), state=state)
    entry = latest_of(view, product).interpreters.get(interpreter)
    found = (None, None) if entry is None else (entry.release, entry.nightly)
    return [None if item is None else item.release for item in found]


def told(state: State, product: str, interpreter: str) -> list[str | None]:
    """Return the release and the nightly that people are told of."""
    found = [newest_offered(state, interpreter, channel, product) for channel in CHANNELS]
    return [None if item is None else item.name for item in found]


@given(drawn_histories)
def test_what_people_are_told_is_what_the_indexes_lead_to(drawn: list[Drawn]) -> None:
    state = view_of(drawn).state

    for name in interpreters(state):
        assert told(state, "pypy", name) == led_to(state, "pypy", name)


def test_of_equal_versions_people_are_told_the_one_that_the_indexes_lead_to() -> None:
    state = make_state(make_event(release="pypy3.11-b"), make_event(release="pypy3.11-a"))

    assert told(state, "pypy", "pypy3.11") == led_to(state, "pypy", "pypy3.11")


def test_people_are_not_told_of_an_old_nightly_that_no_index_leads_to() -> None:
    many = [make_nightly(number) for number in range(KEPT_WHOLE + 1)]
    yanks = [later(Yanked, event) for event in many[1:]]
    state = compacted(make_state(*many, *yanks))

    assert told(state, "pypy", "pypy3.11") == led_to(state, "pypy", "pypy3.11") == [None, None]


def test_a_products_release_is_not_told_of_as_anothers() -> None:
    event, other = make_event(version="7.3.21"), make_event(version="7.3.23", product="other")
    state = make_state(event, other)

    (row,) = offers(state, make_state(event, other, later(Yanked, event)), "pypy", "pypy3.11")

    assert (row.before, row.now) == (state.releases[0], None)


def test_a_yank_leads_clients_to_the_one_before() -> None:
    old, new, nightly = make_event(version="7.3.21"), make_event(version="7.3.23"), make_nightly()
    before = make_state(old, new, nightly)
    now = make_state(old, new, nightly, later(Yanked, new))

    release, of_nightlies = offers(before, now, "pypy", "pypy3.11")

    assert (release.before, release.now) == (before.releases[1], before.releases[0])
    assert of_nightlies.before == of_nightlies.now


def test_a_channel_in_which_there_was_nothing_is_left_out() -> None:
    only = make_event()
    state = make_state(only)

    rows = offers(state, make_state(only, later(Yanked, only)), "pypy", "pypy3.11")

    assert [(row.channel, row.now) for row in rows] == [("release", None)]


def test_interpreters_are_those_of_which_something_was_published() -> None:
    state = make_state(make_nightly(), make_event("pypy2.7", language_version="2.7.18"))

    assert interpreters(state) == ("pypy2.7", "pypy3.11")
