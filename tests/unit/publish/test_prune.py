"""Pruning: events first, then files; only files of pruned nightlies, on every site."""

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from pipeline.effects.store import LocalStore
from pipeline.errors import EventError, StoreError
from pipeline.model.configs import RetentionConfig
from pipeline.model.ledger import Event, Pruned, State, replay
from pipeline.plan import channel_config
from pipeline.publish.events import Stamp, yank
from pipeline.publish.ledger import append, read_ledger
from pipeline.publish.prune import last_pruned, record_pruned, removable_keys, remove_files
from pipeline.publish.retention import to_prune
from pipeline.publish.sites import OpenChannel, Site
from tests.factories import BASE_URL, NOON, later, make_config, make_event, make_nightly, make_state
from tests.fakes import FakeNotary
from tests.handmade import HandMade, Maker, sign_by_copy

LATER = Stamp(at=NOON + timedelta(days=90), by="tester", reason="old")


@pytest.fixture
def channel(tmp_path: Path) -> OpenChannel:
    sites = tuple(
        Site(store=LocalStore(tmp_path / name), base_url=f"{BASE_URL}/{name}")
        for name in ("first", "mirror")
    )
    config = channel_config(make_config(), "nightly")
    config = config.model_copy(update={"retention": RetentionConfig(days=30, weeks=0)})
    return OpenChannel(config=config, sites=sites, notary=FakeNotary())


@pytest.fixture
def nightlies(channel: OpenChannel, tmp_path: Path) -> list[HandMade]:
    """Three published nightlies."""
    maker = Maker(directory=tmp_path / "made", sign=sign_by_copy)
    made = [maker.nightly(NOON + timedelta(days=day), 100 + day) for day in range(3)]
    for day, item in enumerate(made):
        stores = [site.store for site in channel.sites]
        item.publish(stores, channel.notary, NOON + timedelta(days=day))
    return made


def in_order(*events: Event) -> list[Event]:
    """Return *events* numbered as they come, with their own times."""
    return [
        event.model_copy(update={"sequence": place}) for place, event in enumerate(events, start=1)
    ]


def files(channel: OpenChannel, made: HandMade) -> list[int]:
    """Return how many files of a release each site has."""
    directory = f"demo/{made.manifest.release}"
    return [len(site.store.sizes(directory)) for site in channel.sites]


def test_a_pruned_nightlys_files_go_from_every_site_and_no_others(
    channel: OpenChannel, nightlies: list[HandMade]
) -> None:
    state = read_ledger(channel.store, channel.notary).state

    after = record_pruned(channel, state.releases[:1], LATER)
    removed = remove_files(channel, after, after.releases[:1])

    assert removed == 12
    assert [files(channel, made) for made in nightlies] == [[0, 0], [6, 6], [6, 6]]


def test_the_events_come_before_any_file_goes(
    channel: OpenChannel, nightlies: list[HandMade]
) -> None:
    state = read_ledger(channel.store, channel.notary).state

    record_pruned(channel, state.releases[:2], LATER)

    after = read_ledger(channel.store, channel.notary).state
    assert [item.pruned is not None for item in after.releases] == [True, True, False]
    assert [files(channel, made) for made in nightlies] == [[6, 6]] * 3


def test_pruning_again_appends_nothing(
    channel: OpenChannel,
    nightlies: list[HandMade],
) -> None:
    state = read_ledger(channel.store, channel.notary).state
    first = record_pruned(channel, state.releases[:1], LATER)

    again = record_pruned(channel, state.releases[:1], LATER)

    assert len(nightlies) == 3
    assert again == first


def test_a_yank_that_comes_meanwhile_saves_the_nightly_that_is_then_the_newest(
    channel: OpenChannel, nightlies: list[HandMade]
) -> None:
    newest = nightlies[-1].manifest.release

    class Busy(LocalStore):
        """A store in which the newest is yanked just before the first event of the pruning."""

        def replace(self, key: str, data: bytes, *, tag: str | None, content_type: str) -> None:
            other = LocalStore(self.root)
            append(other, channel.notary, yank("demo", newest, LATER))
            super().replace(key, data, tag=tag, content_type=content_type)

    state = read_ledger(channel.store, channel.notary).state
    chosen = to_prune(state, channel.config.retention, LATER.at)
    site = replace(channel.sites[0], store=Busy(Path(channel.store.address)))

    after = record_pruned(replace(channel, sites=(site,)), chosen, LATER)

    assert [item.name for item in chosen] == [made.manifest.release for made in nightlies[:2]]
    assert [item.pruned is not None for item in after.releases] == [True, False, False]


def test_files_of_a_nightly_that_is_not_pruned_stay(
    channel: OpenChannel, nightlies: list[HandMade]
) -> None:
    state = read_ledger(channel.store, channel.notary).state

    with pytest.raises(EventError, match="only files of pruned nightlies are ever removed"):
        remove_files(channel, state, state.releases[:1])

    assert files(channel, nightlies[0]) == [6, 6]


def test_a_releases_event_is_refused(channel: OpenChannel, tmp_path: Path) -> None:
    made = Maker(directory=tmp_path / "made", sign=sign_by_copy).release()
    made.publish([site.store for site in channel.sites], channel.notary, NOON)
    state = read_ledger(channel.store, channel.notary).state

    with pytest.raises(EventError, match=r"is no nightly\. Releases are never removed"):
        record_pruned(channel, state.releases, LATER)

    assert files(channel, made) == [6, 6]


def test_no_key_of_a_release_is_removable() -> None:
    """Not even if the ledger said that it is pruned."""
    event = make_event()
    (item,) = make_state(event).releases
    forged = item.model_copy(update={"pruned": later(Pruned, event)})

    with pytest.raises(EventError, match=r"pypy3\.11-v7\.3\.23: only files of pruned"):
        removable_keys(forged, {f"pypy/{event.release}/x": 1})


def test_no_key_of_what_no_event_knows_is_removable() -> None:
    with pytest.raises(EventError, match="a release of no event"):
        removable_keys(None, {"pypy/what/x": 1})


@pytest.mark.parametrize(
    "key",
    [
        "pypy/pypy3.11-v7.3.23/x",
        "pypy/{name}2/x",
        "pypy/{name}",
        "other/{name}/x",
        "pypy/{name}/../x",
    ],
)
def test_no_key_outside_the_nightlys_own_directory_is_removable(key: str) -> None:
    event = make_nightly()
    (item,) = make_state(event, later(Pruned, event)).releases
    wrong = key.format(name=event.release)

    with pytest.raises(StoreError, match="is not below"):
        removable_keys(item, {f"pypy/{event.release}/good": 1, wrong: 1})


def test_what_the_last_run_pruned_has_one_time() -> None:
    events = [make_nightly(number, release=f"n{number}") for number in range(3)]
    times = (NOON, LATER.at, LATER.at)
    pruned = (later(Pruned, event, at=at) for event, at in zip(events, times, strict=True))

    state = replay(State(), in_order(*events, *pruned))

    assert [item.name for item in last_pruned(state)] == ["n1", "n2"]


@pytest.mark.parametrize("days", [-1, 1])
def test_the_newest_event_decides_whatever_the_clocks_said(days: int) -> None:
    first, second = (make_nightly(number, release=f"n{number}") for number in range(2))
    events = (
        *(first, second),
        later(Pruned, first, at=NOON),
        later(Pruned, second, at=NOON + timedelta(days=days)),
    )

    state = replay(State(), in_order(*events))

    assert [item.name for item in last_pruned(state)] == ["n1"]


def test_where_nothing_was_pruned_there_is_no_last_run() -> None:
    assert last_pruned(make_state(make_nightly())) == ()
