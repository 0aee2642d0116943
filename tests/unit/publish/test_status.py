"""What a status says of each channel, and which command it names."""

from datetime import timedelta
from typing import Any

import pytest

from pipeline.model.configs import ChannelConfig
from pipeline.model.ledger import Event, Promoted, Yanked
from pipeline.plan import channel_config
from pipeline.publish.status import Known, SiteStatus, Standing, Status, status_of
from tests.factories import NOON, changed, later, make_config, make_event, make_nightly, make_state

CONFIG = make_config()
FINE = SiteStatus(address="/store", base_url="https://downloads.example", stale_indexes=())
STALE = FINE.model_copy(update={"stale_indexes": ("https://downloads.example/pypy/uv.json",)})


def channels(**changes: Any) -> dict[Any, ChannelConfig]:
    """Return both channels, of pypy3.11 only."""
    return {
        name: changed(channel_config(CONFIG, name), interpreters=("pypy3.11",), **changes)
        for name in ("release", "nightly")
    }


def status(*events: Event, days: int = 0, **fields: Any) -> Status:
    """Return the status so many days after NOON."""
    given = {
        "state": make_state(*events),
        "channels": channels(),
        "sites": (FINE,),
        "now": NOON + timedelta(days=days, hours=1),
        **fields,
    }
    return status_of(Known(**given))


def standing(found: Status, channel: str) -> Standing:
    return next(item for item in found.standings if item.channel == channel)


def test_each_channel_shows_what_clients_are_led_to() -> None:
    found = status(make_event(version="7.3.21"), make_event(), make_nightly(), days=1)

    release, nightly = standing(found, "release"), standing(found, "nightly")
    assert (release.release, release.version) == ("pypy3.11-v7.3.23", "7.3.23")
    assert (nightly.release, nightly.age_days) == (make_nightly().release, 1)
    assert found.ok
    assert found.next.command is None


def test_a_configured_interpreter_of_which_there_is_nothing_is_shown() -> None:
    found = status()

    assert [item.release for item in found.standings] == [None, None]
    assert found.ok
    assert found.next.command == "python -m pipeline release pypy3.11"


def test_an_interpreter_that_left_the_channel_is_shown_and_is_not_stale() -> None:
    found = status(make_event(), make_nightly(interpreter="pypy3.9"), make_nightly(), days=2)

    old = next(item for item in found.standings if item.interpreter == "pypy3.9")
    assert old.release is not None
    assert not status(make_nightly(interpreter="pypy3.9"), days=400).standings[-1].stale


@pytest.mark.parametrize(("days", "stale"), [(2, False), (3, True)])
def test_a_nightly_is_stale_when_it_is_as_old_as_the_channel_says(
    *, days: int, stale: bool
) -> None:
    found = status(make_event(), make_nightly(), days=days)

    assert standing(found, "nightly").stale == stale
    assert found.ok != stale
    assert (found.next.command == "python -m pipeline nightly pypy3.11") == stale


def test_a_release_is_never_stale() -> None:
    assert not standing(status(make_event(), days=3000), "release").stale


def test_a_staged_release_waits_for_promote() -> None:
    found = status(make_event(), make_event(version="7.3.24", staged=True))

    assert [item.release for item in found.staged] == ["pypy3.11-v7.3.24"]
    assert standing(found, "release").release == "pypy3.11-v7.3.23"
    assert found.next.command == "python -m pipeline promote pypy3.11-v7.3.24"
    assert found.ok


def test_a_promoted_release_is_as_old_as_its_promotion() -> None:
    event = make_event(staged=True)
    found = status(event, later(Promoted, event))

    assert found.staged == ()
    assert standing(found, "release").at == NOON + timedelta(minutes=2)


def test_a_yank_in_force_is_shown_with_its_reason() -> None:
    event = make_event()
    found = status(event, later(Yanked, event))

    assert [(item.release, item.reason) for item in found.yanked] == [
        (event.release, "segfaults when it translates")
    ]
    assert standing(found, "release").release is None


def test_indexes_that_are_not_what_the_ledger_says_come_first() -> None:
    found = status(make_event(staged=True), make_nightly(), days=50, sites=(FINE, STALE))

    assert not found.ok
    assert found.next.command == "python -m pipeline reconcile"
    assert found.next.why == "1 indexes are not what the ledger says"


def test_nightlies_that_are_older_than_the_channel_keeps_may_be_pruned() -> None:
    old, new = make_nightly(1, release="old"), make_nightly(2, release="new")
    state = make_state(make_event(), old, new)
    newest = state.releases[2]
    recent = changed(newest.published, at=NOON + timedelta(days=900))
    state = state.model_copy(
        update={
            "releases": (
                *state.releases[:2],
                newest.model_copy(update={"published": recent}),
            )
        }
    )

    found = status(state=state, days=900)

    assert found.next.command == "python -m pipeline prune --dry-run"


def test_the_next_command_has_the_options_that_were_given() -> None:
    found = status(make_event(staged=True), options=("--store", "/my store"))

    assert found.next.command == ("python -m pipeline promote pypy3.11-v7.3.23 --store '/my store'")


def test_a_nightly_channel_of_its_own_is_named_where_a_verb_needs_it() -> None:
    alone = {"nightly": channels()["nightly"]}

    found = status(make_nightly(), channels=alone, sites=(STALE,))

    assert found.next.command == "python -m pipeline reconcile --channel nightly"
    assert {item.channel for item in found.standings} == {"nightly"}
