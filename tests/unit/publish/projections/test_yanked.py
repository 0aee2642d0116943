"""``yanked.json`` says what was taken back, and why."""

from pipeline.model.ledger import Pruned, Unyanked, Yanked
from pipeline.publish.projections.yanked import yanked_list
from tests.factories import later, make_event, make_nightly, make_view


def test_a_yanked_release_is_listed_with_time_and_reason() -> None:
    bad = make_event(version="7.3.23")
    view = make_view(make_event(version="7.3.22"), bad, later(Yanked, bad, reason="segfaults"))

    (entry,) = yanked_list(view, "pypy").releases

    assert entry.release == "pypy3.11-v7.3.23"
    assert entry.reason == "segfaults"
    assert f"{entry.yanked_at:%Y-%m-%dT%H:%M}" == "2026-11-21T12:03"


def test_a_yank_that_was_taken_back_is_not_listed() -> None:
    bad = make_event()
    view = make_view(bad, later(Yanked, bad), later(Unyanked, bad))

    assert yanked_list(view, "pypy").releases == ()


def test_the_newest_version_comes_first_and_nightlies_last() -> None:
    old, new = make_event(version="7.3.9"), make_event(version="7.3.10")
    nightly = make_nightly()
    published = [nightly, new, old]

    found = yanked_list(make_view(*published, *(later(Yanked, item) for item in published)), "pypy")

    assert [entry.release for entry in found.releases] == [
        new.release,
        old.release,
        nightly.release,
    ]


def test_a_pruned_nightly_is_not_listed() -> None:
    nightly = make_nightly()
    view = make_view(nightly, later(Yanked, nightly), later(Pruned, nightly))

    assert yanked_list(view, "pypy").releases == ()
