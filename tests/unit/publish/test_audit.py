"""The audit finds what stores lack, what was left behind, and sealed events that do not add up.

The repair takes what one site lacks from another, and nothing from thin air.
"""

from datetime import timedelta
from pathlib import Path

import pytest

from pipeline.effects.store import LocalStore, Tagged
from pipeline.errors import ConflictError, LedgerError
from pipeline.model.ledger import (
    SEGMENT,
    Pruned,
    SignedLedger,
    Yanked,
    compacted,
)
from pipeline.model.naming import LEDGER_KEY
from pipeline.publish.audit import Audit, Fault, agrees, audit, listing_faults, whole_state
from pipeline.publish.events import Stamp, pruning, unyank, yank
from pipeline.publish.ledger import append, read_ledger
from pipeline.publish.project import project
from pipeline.publish.repair import repair
from pipeline.publish.sites import OpenChannel, Site
from tests.factories import NOON, later, make_event, make_nightly, make_state
from tests.fakes import FakeNotary, World, make_world, open_channel
from tests.handmade import HandMade, Maker, sign_by_copy

LATER = Stamp(at=NOON + timedelta(days=90), by="tester", reason="old")
ARCHIVE = "demo/demo-v1.0.0/demo-v1.0.0-linux64.tar.gz"


@pytest.fixture
def world(tmp_path: Path) -> World:
    return make_world(tmp_path / "project")


@pytest.fixture
def channel(world: World) -> OpenChannel:
    """A channel with a mirror, and in it a release and two nightlies."""
    one = open_channel(world.ctx, "nightly", FakeNotary())
    mirror = Site(
        store=LocalStore(world.ctx.work.root / "mirror"), base_url="https://mirror.example"
    )
    channel = OpenChannel(config=one.config, sites=(*one.sites, mirror), notary=one.notary)
    maker = Maker(directory=world.ctx.work.root / "made", sign=sign_by_copy)
    publish(channel, maker.release(), 0)
    for day in (1, 2):
        publish(channel, maker.nightly(NOON + timedelta(days=day), 100 + day), day)
    project(world.ctx, channel)
    return channel


def publish(channel: OpenChannel, made: HandMade, day: int) -> None:
    stores = [site.store for site in channel.sites]
    made.publish(stores, channel.notary, NOON + timedelta(days=day))


def roots(channel: OpenChannel) -> list[Path]:
    return [Path(site.store.address) for site in channel.sites]


def faults(done: Audit) -> list[tuple[Fault, str]]:
    return [(found.fault, found.key) for found in done.findings]


def test_where_all_is_well_nothing_is_found(world: World, channel: OpenChannel) -> None:
    done = audit(world.ctx.config, channel)

    assert done.findings == ()
    assert len(done.state.releases) == 3


def test_a_missing_file_is_found_on_its_site_and_comes_from_the_other(
    world: World, channel: OpenChannel
) -> None:
    first, mirror = roots(channel)
    (first / ARCHIVE).unlink()

    found = audit(world.ctx.config, channel)
    done = repair(world.ctx, channel, found.state, found.wrong)

    assert faults(found) == [(Fault.MISSING, ARCHIVE)]
    assert found.findings[0].site is channel.sites[0]
    assert done == found.wrong
    assert (first / ARCHIVE).read_bytes() == (mirror / ARCHIVE).read_bytes()
    assert audit(world.ctx.config, channel).findings == ()


def test_a_file_of_another_size_is_replaced_by_the_right_one(
    world: World, channel: OpenChannel
) -> None:
    first, mirror = roots(channel)
    (mirror / ARCHIVE).write_bytes(b"cut off")

    found = audit(world.ctx.config, channel)
    repair(world.ctx, channel, found.state, found.wrong)

    assert faults(found) == [(Fault.OTHER_SIZE, ARCHIVE)]
    assert (mirror / ARCHIVE).read_bytes() == (first / ARCHIVE).read_bytes()


def test_wrong_bytes_are_never_copied(world: World, channel: OpenChannel) -> None:
    """The other site's file has the size, but not the digest."""
    first, mirror = roots(channel)
    (first / ARCHIVE).unlink()
    size = (mirror / ARCHIVE).stat().st_size
    (mirror / ARCHIVE).write_bytes(b"x" * size)

    found = audit(world.ctx.config, channel)
    done = repair(world.ctx, channel, found.state, found.wrong)

    assert done == ()
    assert not (first / ARCHIVE).exists()


def test_a_wrong_file_stays_where_no_site_has_the_right_one(
    world: World, channel: OpenChannel
) -> None:
    for root in roots(channel):
        (root / ARCHIVE).write_bytes(b"cut off")

    found = audit(world.ctx.config, channel)
    done = repair(world.ctx, channel, found.state, found.wrong)

    assert (done, len(found.wrong)) == ((), 2)
    assert [(root / ARCHIVE).read_bytes() for root in roots(channel)] == [b"cut off"] * 2


def test_files_of_a_pruned_nightly_are_found_and_removed(
    world: World, channel: OpenChannel
) -> None:
    state = read_ledger(channel.store, channel.notary).state
    append(channel.store, channel.notary, pruning("demo", state.releases[1].name, LATER))
    project(world.ctx, channel)
    directory = f"demo/{state.releases[1].name}"

    found = audit(world.ctx.config, channel)
    repair(world.ctx, channel, found.state, found.wrong)

    assert {fault for fault, _ in faults(found)} == {Fault.LEFT_BEHIND}
    assert len(found.wrong) == 12
    assert [site.store.sizes(directory) for site in channel.sites] == [{}, {}]
    assert audit(world.ctx.config, channel).findings == ()


def test_what_no_event_knows_is_reported_and_stays(world: World, channel: OpenChannel) -> None:
    stray = roots(channel)[0] / "demo/demo-v9.0.0/demo-v9.0.0-linux64.tar.gz"
    stray.parent.mkdir()
    stray.write_bytes(b"interrupted")

    found = audit(world.ctx.config, channel)
    repair(world.ctx, channel, found.state, found.findings)

    assert [fault for fault, _ in faults(found)] == [Fault.UNKNOWN]
    assert found.wrong == ()
    assert stray.exists()


def test_a_product_of_which_nothing_was_published_is_looked_at_too(
    world: World, channel: OpenChannel
) -> None:
    stray = roots(channel)[0] / "toy/toy-v1.0.0/SHA256SUMS"
    stray.parent.mkdir(parents=True)
    stray.write_bytes(b"interrupted")

    found = audit(world.ctx.config, channel)

    assert [key for _, key in faults(found)] == ["toy/toy-v1.0.0/SHA256SUMS"]


# --- sealed events ----------------------------------------------------------------------------


@pytest.fixture
def sealed(world: World, channel: OpenChannel) -> Path:
    """The key of a segment, as a path below a site."""
    for _ in range(SEGMENT - 1):
        state = read_ledger(channel.store, channel.notary).state
        decide = unyank if state.releases[0].yanked is not None else yank
        append(channel.store, channel.notary, decide("demo", "demo-v1.0.0", LATER))
    project(world.ctx, channel)
    (segment,) = read_ledger(channel.store, channel.notary).ledger.segments
    return Path(segment.key)


def test_sealed_events_are_replayed(world: World, channel: OpenChannel, sealed: Path) -> None:
    done = audit(world.ctx.config, channel)

    assert done.findings == ()
    assert done.state.sequence == 2 + SEGMENT
    assert len(sealed.parts) == 2


@pytest.mark.parametrize("site", [0, 1])
@pytest.mark.parametrize("damage", ["gone", "changed"])
def test_a_damaged_segment_is_found_and_comes_from_the_other_site(
    world: World, channel: OpenChannel, sealed: Path, site: int, damage: str
) -> None:
    path = roots(channel)[site] / sealed
    good = path.read_bytes()
    path.unlink()
    if damage == "changed":
        path.write_bytes(good.replace(b"tester", b"tamper"))

    found = audit(world.ctx.config, channel)
    repair(world.ctx, channel, found.state, found.wrong)

    fault = Fault.MISSING if damage == "gone" else Fault.DAMAGED
    assert [(item.fault, item.key) for item in found.wrong] == [(fault, sealed.as_posix())]
    assert path.read_bytes() == good
    assert audit(world.ctx.config, channel).findings == ()


def test_a_checkpoint_that_says_something_else_is_an_error(
    channel: OpenChannel, sealed: Path
) -> None:
    read = read_ledger(channel.store, channel.notary)
    forged = read.state.releases[0].model_copy(update={"yanked": None})
    state = read.state.model_copy(update={"releases": (forged, *read.state.releases[1:])})
    changed = type(read)(ledger=read.ledger, state=state, tag=read.tag, data=read.data)

    assert sealed.name.startswith("events-")
    assert read.state.releases[0].yanked is not None
    with pytest.raises(LedgerError, match="add up to something else than the checkpoint"):
        whole_state(channel, changed)


def test_nightlies_whose_files_the_state_has_no_more_are_audited_all_the_same() -> None:
    """Their files stand in the sealed events."""
    events = [make_nightly(number) for number in range(100, 140)]
    whole = make_state(*events)
    newer = (item for item in whole.releases[1:])
    listed = {
        f"pypy/{item.name}/{file.filename}": file.size
        for item in newer
        for file in item.published.files
    }

    found = list(listing_faults(whole, "pypy", listed, ()))

    assert {fault for _, fault in found} == {Fault.MISSING}
    assert {key.split("/")[1] for key, _ in found} == {events[0].release}
    assert compacted(whole) != whole
    assert agrees(whole, compacted(whole))


@pytest.mark.parametrize("lost", ["a release's files", "a release", "a yank"])
def test_a_state_that_lost_something_does_not_agree(lost: str) -> None:
    event, nightly = make_event(), make_nightly()
    whole = make_state(event, nightly, later(Yanked, event))
    first, second = whole.releases
    slim = first.model_copy(update={"published": event.model_copy(update={"files": ()})})
    releases = {
        "a release's files": (slim, second),
        "a release": (first,),
        "a yank": (first.model_copy(update={"yanked": None}), second),
    }

    assert agrees(whole, whole)
    assert not agrees(whole, whole.model_copy(update={"releases": releases[lost]}))
    assert not agrees(whole, whole.model_copy(update={"sequence": 2}))


def test_indexes_and_their_directories_are_not_of_the_audit() -> None:
    event = make_nightly()
    state = make_state(event, later(Pruned, event))
    listed = {"pypy/versions.json": 1, "pypy/latest/x.tar.gz": 1, "pypy/strange.txt": 1}

    found = list(listing_faults(state, "pypy", listed, {"pypy/versions.json"}))

    assert found == [("pypy/strange.txt", Fault.UNKNOWN)]


class _Restless(LocalStore):
    """A store whose ledger is another one every time that it is read."""

    def read(self, key: str) -> Tagged | None:
        """Change the ledger's form after it was read."""
        present = super().read(key)
        if key == LEDGER_KEY and present is not None:
            signed = SignedLedger.model_validate_json(present.data)
            indent = 1 if b"\n  " in present.data else 2
            text = signed.model_dump_json(by_alias=True, indent=indent)
            (self.root / key).write_text(text)
        return present


def test_a_ledger_that_changes_all_the_time_ends_with_a_conflict(
    world: World, channel: OpenChannel
) -> None:
    first = channel.sites[0]
    restless = Site(store=_Restless(Path(first.store.address)), base_url=first.base_url)
    busy = OpenChannel(config=channel.config, sites=(restless,), notary=channel.notary)

    with pytest.raises(ConflictError, match="changed all the time"):
        audit(world.ctx.config, busy)
