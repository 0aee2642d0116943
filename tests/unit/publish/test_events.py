"""Which event comes next: decided for a state, and not once more for what is said already."""

from collections.abc import Callable
from datetime import timedelta
from typing import Final

import pytest

from pipeline.errors import EventError, ImmutableNameError
from pipeline.model.ledger import (
    Promoted,
    Pruned,
    Published,
    PublishedPlatform,
    State,
    Unyanked,
    Yanked,
    replay,
)
from pipeline.publish.events import (
    Stamp,
    existing,
    promotion,
    pruning,
    publication,
    refuse_other_release,
    unyank,
    yank,
)
from pipeline.publish.ledger import Decide
from tests.factories import (
    FINGERPRINT,
    NOON,
    changed,
    digest,
    later,
    make_event,
    make_manifest,
    make_nightly,
    make_platform_facts,
    make_signed,
    make_state,
)

STAMP: Final = Stamp(at=NOON + timedelta(days=1), by="me", reason="because")
EVENT: Final = make_event()
STAGED: Final = make_event(staged=True)
NIGHTLY: Final = make_nightly()

Verb = Callable[[str, str, Stamp], Decide]


def decided(verb: Verb, state: State, about: Published = EVENT) -> object:
    """Return what *verb* decides about a release."""
    return verb(about.product, about.release, STAMP)(state)


# --- publication ----------------------------------------------------------------------------


def test_a_publication_says_all_that_indexes_need() -> None:
    facts = make_platform_facts(jit=False, glibc_floor="2.29", declared_floor="2.31")
    manifest = make_manifest(platforms=(facts,))
    signed = make_signed(manifest)
    files = (*manifest.files, signed.checksums)

    event = publication(manifest, signed, files, STAMP)(make_state(EVENT))

    assert event == Published(
        sequence=2,
        at=STAMP.at,
        by="me",
        reason="because",
        channel="release",
        product="demo",
        release="demo-v1.0.0",
        interpreter="demo",
        implementation="demo",
        interpreter_version=manifest.interpreter_version,
        language_version="1.0",
        stable=True,
        staged=False,
        source=manifest.source,
        input_key=manifest.input_key,
        manifest_sha256=signed.manifest.sha256,
        fingerprint=FINGERPRINT,
        platforms=(PublishedPlatform(platform="linux-x86_64", jit=False, glibc_floor="2.31"),),
        files=files,
    )


def test_a_publication_may_be_staged() -> None:
    manifest = make_manifest()

    event = publication(manifest, make_signed(manifest), manifest.files, STAMP, staged=True)(
        State()
    )

    assert isinstance(event, Published)
    assert event.staged is True


@pytest.mark.parametrize("staged", [True, False])
def test_a_release_that_is_published_is_not_published_again(*, staged: bool) -> None:
    manifest = make_manifest()
    decide = publication(manifest, make_signed(manifest), manifest.files, STAMP, staged=staged)
    event = decide(State())
    assert event is not None

    assert decide(replay(State(), [event])) is None


def test_a_name_that_stands_for_another_manifest_is_not_published() -> None:
    old, new = make_manifest(), make_manifest(language_version="1.1")
    event = publication(old, make_signed(old), old.files, STAMP)(State())
    assert event is not None

    with pytest.raises(ImmutableNameError, match=r"demo/demo-v1\.0\.0 was published on"):
        publication(new, make_signed(new), new.files, STAMP)(replay(State(), [event]))


# --- changes --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("verb", "state", "about", "kind"),
    [
        pytest.param(promotion, make_state(STAGED), STAGED, Promoted, id="promote"),
        pytest.param(yank, make_state(EVENT), EVENT, Yanked, id="yank"),
        pytest.param(yank, make_state(STAGED), STAGED, Yanked, id="yank-staged"),
        pytest.param(unyank, make_state(EVENT, later(Yanked, EVENT)), EVENT, Unyanked, id="unyank"),
        pytest.param(pruning, make_state(NIGHTLY), NIGHTLY, Pruned, id="prune"),
    ],
)
def test_a_change_is_about_its_release_and_says_who_when_and_why(
    verb: Verb,
    state: State,
    about: Published,
    kind: type[Promoted] | type[Yanked] | type[Unyanked] | type[Pruned],
) -> None:
    event = decided(verb, state, about)

    assert event == kind(
        sequence=state.sequence + 1,
        at=STAMP.at,
        by="me",
        reason="because",
        product="pypy",
        release=about.release,
        input_key=about.input_key,
        manifest_sha256=about.manifest_sha256,
    )
    assert isinstance(event, kind)
    assert replay(state, [event]).sequence == event.sequence


@pytest.mark.parametrize(
    ("verb", "state", "about"),
    [
        pytest.param(promotion, make_state(EVENT), EVENT, id="promote-unstaged"),
        pytest.param(
            promotion, make_state(STAGED, later(Promoted, STAGED)), STAGED, id="promote-twice"
        ),
        pytest.param(yank, make_state(EVENT, later(Yanked, EVENT)), EVENT, id="yank-twice"),
        pytest.param(unyank, make_state(EVENT), EVENT, id="unyank-unyanked"),
        pytest.param(
            pruning, make_state(NIGHTLY, later(Pruned, NIGHTLY)), NIGHTLY, id="prune-twice"
        ),
    ],
)
def test_what_is_so_already_is_not_said_again(verb: Verb, state: State, about: Published) -> None:
    assert decided(verb, state, about) is None


@pytest.mark.parametrize("verb", [promotion, yank, unyank, pruning])
def test_what_was_never_published_cannot_change_and_gets_a_near_match(verb: Verb) -> None:
    other = changed(EVENT, release="pypy3.11-v7.3.24")

    with pytest.raises(EventError) as caught:
        decided(verb, make_state(EVENT), other)

    message = str(caught.value)
    assert message.startswith("pypy/pypy3.11-v7.3.24 was never published. ")
    assert "Did you mean 'pypy3.11-v7.3.23'?" in message


@pytest.mark.parametrize("verb", [promotion, yank, unyank])
def test_what_was_pruned_cannot_change(verb: Verb) -> None:
    pruned = make_state(NIGHTLY, later(Pruned, NIGHTLY))

    with pytest.raises(EventError, match="was pruned on 2026-11-21; its files are gone"):
        decided(verb, pruned, NIGHTLY)


def test_a_release_is_never_pruned() -> None:
    with pytest.raises(EventError, match=r"is no nightly\. Releases are never removed"):
        decided(pruning, make_state(EVENT))


def test_a_near_match_is_looked_for_in_the_same_product() -> None:
    with pytest.raises(EventError) as caught:
        existing(make_state(EVENT), "demo", EVENT.release)

    assert str(caught.value).endswith("was never published. Allowed: none.")


# --- other files of the same name -----------------------------------------------------------


def test_a_release_that_was_published_with_the_same_manifest_may_go_on() -> None:
    refuse_other_release(make_state(EVENT), "pypy", EVENT.release, EVENT.manifest_sha256)


def test_a_release_that_was_never_published_may_go_on() -> None:
    refuse_other_release(make_state(EVENT), "pypy", "pypy3.11-v7.3.24", digest("x"))


@pytest.mark.parametrize(
    ("event", "remedy"),
    [
        pytest.param(EVENT, "Release a new version.", id="release"),
        pytest.param(NIGHTLY, "Tomorrow's nightly has another name.", id="nightly"),
    ],
)
def test_a_release_that_was_published_with_other_files_is_refused(
    event: Published, remedy: str
) -> None:
    with pytest.raises(ImmutableNameError) as caught:
        refuse_other_release(make_state(event), "pypy", event.release, digest("other"))

    message = str(caught.value)
    assert message.startswith(
        f"pypy/{event.release} was published on 2026-11-21 by maintainer@example"
    )
    assert event.manifest_sha256 in message
    assert digest("other") in message
    assert message.endswith(remedy)
