"""What may become a release, what is built instead, and what is refused with its reason."""

from typing import Any

import pytest

from pipeline.errors import EventError
from pipeline.model.ledger import Pruned, Published, Yanked
from pipeline.model.versions import InterpreterVersion
from pipeline.publish.promotion import Announce, Build, promotion_of
from tests.factories import (
    later,
    make_config,
    make_event,
    make_git_revision,
    make_nightly,
    make_state,
)

CONFIG = make_config()
FINAL = InterpreterVersion.parse("7.3.23")
PINNED = "194f9f44b50552d75484d67cda6e2b36607dee0c"


def nightly(**overrides: Any) -> Published:
    """Return a nightly of the commit that is pinned for 7.3.23."""
    source = make_git_revision(number=188288, tag=None, **overrides.pop("source", {}))
    return make_nightly(188288, source=source, **overrides)


def test_a_staged_release_is_announced() -> None:
    state = make_state(make_event(staged=True))

    assert promotion_of(state, CONFIG, "pypy3.11-v7.3.23") == Announce(release=state.releases[0])


def test_a_staged_candidate_is_announced_as_what_it_is() -> None:
    state = make_state(make_event(version="7.3.24rc1", staged=True))

    assert isinstance(promotion_of(state, CONFIG, "pypy3.11-v7.3.24rc1"), Announce)


def test_a_nightly_of_the_pinned_commit_is_built_under_the_releases_names() -> None:
    event = nightly()

    decided = promotion_of(make_state(event), CONFIG, event.release)

    assert decided == Build(interpreter="pypy3.11", version=FINAL)


def test_a_nightly_may_be_asked_for_by_the_version_that_it_is() -> None:
    event = nightly()

    assert isinstance(promotion_of(make_state(event), CONFIG, event.release, FINAL), Build)


@pytest.mark.parametrize(
    ("event", "wanted", "reason"),
    [
        (
            nightly(source={"revision": "a" * 40}),
            None,
            rf"of commit a{{40}}, but pypy3\.11\.toml pins {PINNED} for 7\.3\.23",
        ),
        (nightly(version="7.3.24b1"), None, r"is of 7\.3\.24b1, and its binaries say so"),
        (nightly(version="7.3.24"), None, r"pypy3\.11\.toml pins no commit for 7\.3\.24"),
        (nightly(source={"dirty": True}), None, r"pins no commit for 7\.3\.23 that it could be of"),
        (nightly(), "7.3.24", r"says of itself that it is 7\.3\.23, in its binaries too"),
        (make_event(version="7.3.23rc1"), "7.3.23", r"cannot become 7\.3\.23"),
    ],
    ids=["other commit", "beta", "no pin", "dirty", "other version", "candidate"],
)
def test_what_cannot_become_a_release_is_refused_with_the_command_that_makes_it(
    event: Published, wanted: str | None, reason: str
) -> None:
    version = None if wanted is None else InterpreterVersion.parse(wanted)

    with pytest.raises(EventError, match=reason) as caught:
        promotion_of(make_state(event), CONFIG, event.release, version)

    assert "python -m pipeline release pypy3.11 --interpreter-version 7.3.2" in str(caught.value)


def test_an_alpha_is_told_the_final_version_to_set() -> None:
    event = nightly(version="8.0.0a0")

    with pytest.raises(EventError, match=r"Set 8\.0\.0 in the source.*--interpreter-version 8\.0"):
        promotion_of(make_state(event), CONFIG, event.release)


def test_a_source_in_this_repository_pins_nothing() -> None:
    event = make_nightly(
        interpreter="demo", product="demo", language_version="1.0", version="1.0.0"
    )

    with pytest.raises(EventError, match="pins no commit"):
        promotion_of(make_state(event), CONFIG, event.release)


def test_a_yanked_nightly_is_refused() -> None:
    event = nightly()
    state = make_state(event, later(Yanked, event))

    with pytest.raises(EventError, match="was yanked on 2026-11-21: segfaults"):
        promotion_of(state, CONFIG, event.release)


def test_a_pruned_nightly_is_refused() -> None:
    event = nightly()
    state = make_state(event, later(Pruned, event))

    with pytest.raises(EventError, match="its files are gone"):
        promotion_of(state, CONFIG, event.release)


def test_what_was_never_published_is_refused() -> None:
    with pytest.raises(EventError, match="never published"):
        promotion_of(make_state(), CONFIG, "pypy3.11-v7.3.23")


@pytest.mark.parametrize(
    ("staged", "way"),
    [(True, r"python -m pipeline promote pypy3\.11-v7\.3\.23"), (False, "nothing to do")],
    ids=["staged", "announced"],
)
def test_a_release_that_there_is_already_is_not_built_again(*, staged: bool, way: str) -> None:
    event = nightly()
    state = make_state(event, make_event(version="7.3.23", staged=staged))

    with pytest.raises(EventError, match=way):
        promotion_of(state, CONFIG, event.release)
