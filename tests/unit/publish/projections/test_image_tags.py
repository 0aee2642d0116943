"""Tags of images: which there are, what each leads to, and that none ever goes backwards."""

import json
from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.distribute.image_index import REVISION, VERSION
from pipeline.errors import UnknownNameError
from pipeline.model.ledger import Published, State, Unyanked, Yanked, slim
from pipeline.model.versions import InterpreterVersion, numbers
from pipeline.publish.projections.image_tags import ImageTags, wanted_tags
from tests.factories import changed, later, make_config, make_event, make_nightly, make_state
from tests.images import make_image_config, make_published_images

CONFIG = make_config()
VERSIONS = ("7.3.21", "7.3.22", "7.3.23rc1", "7.3.23", "7.4.0", "8.0.0")
LINES = ("2.7", "3.9", "3.11")


def released(version: str = "7.3.23", line: str = "3.11", **options: Any) -> Published:
    """Return what published a version of a line, with its images."""
    images = make_published_images(version, line, **options)
    return make_event(f"pypy{line}", version, images=images)


def nightly(number: int, **overrides: Any) -> Published:
    """Return what published a nightly with its images."""
    return make_nightly(number, images=make_published_images(str(number)), **overrides)


def tags_of(state: State) -> ImageTags:
    """Return the tags of PyPy's repository."""
    return wanted_tags(state, CONFIG.interpreters, CONFIG.platforms)["pypy"]


def leads_to(tags: ImageTags) -> dict[str, str]:
    """Return the version that each tag leads to."""
    return {
        tag: json.loads(item.index)["annotations"][VERSION] for tag, item in tags.wanted.items()
    }


def platforms_of(tags: ImageTags, tag: str) -> list[str]:
    """Return for which platforms a tag has images."""
    manifests = json.loads(tags.wanted[tag].index)["manifests"]
    return [f"{item['platform']['os']}/{item['platform']['architecture']}" for item in manifests]


def digests_of(tags: ImageTags, tag: str) -> set[str]:
    """Return the digests of the images that a tag leads to."""
    return {item["digest"] for item in json.loads(tags.wanted[tag].index)["manifests"]}


def digests(images: Iterable[Any], suite: str, variant: str) -> set[str]:
    """Return the digests of a group of images."""
    return {item.digest for item in images if (item.suite, item.variant) == (suite, variant)}


# --- which tags there are -------------------------------------------------------------------------


def test_a_release_has_the_tags_that_the_official_images_have() -> None:
    """github.com/docker-library/official-images, library/pypy, with two suites."""
    plain = ["3.11-7.3.23", "3.11-7.3", "3.11-7", "3.11", "3-7.3.23", "3-7.3", "3-7", "3"]
    expected = {*plain, "latest", "slim", "slim-trixie", "trixie", "slim-bookworm", "bookworm"}
    for end in ("slim", "trixie", "slim-trixie", "bookworm", "slim-bookworm"):
        expected |= {f"{tag}-{end}" for tag in plain}

    tags = tags_of(make_state(released()))

    assert set(tags.wanted) == expected


def test_exact_tags_name_the_whole_version_of_their_own_line() -> None:
    tags = tags_of(make_state(released()))

    assert {tag for tag, item in tags.wanted.items() if item.is_exact} == {
        "3.11-7.3.23",
        "3.11-7.3.23-slim",
        "3.11-7.3.23-trixie",
        "3.11-7.3.23-slim-trixie",
        "3.11-7.3.23-bookworm",
        "3.11-7.3.23-slim-bookworm",
    }


def test_the_first_suite_is_what_tags_without_one_lead_to() -> None:
    event = released()

    tags = tags_of(make_state(event))

    assert digests_of(tags, "3.11") == digests(event.images, "trixie", "")
    assert digests_of(tags, "slim") == digests(event.images, "trixie", "slim")
    assert digests_of(tags, "3.11-slim-bookworm") == digests(event.images, "bookworm", "slim")


def test_a_release_keeps_its_own_first_suite_when_another_comes_later() -> None:
    old, new = released("7.3.22", suites=("bookworm",)), released("7.3.23")

    tags = tags_of(make_state(old, new))

    assert digests_of(tags, "3.11-7.3.22") == digests(old.images, "bookworm", "")
    assert digests_of(tags, "3.11") == digests(new.images, "trixie", "")


def test_every_tag_has_all_platforms_of_its_release() -> None:
    tags = tags_of(make_state(released(platforms=("linux-x86_64", "linux-aarch64", "linux-i686"))))

    assert {tuple(platforms_of(tags, tag)) for tag in tags.wanted} == {
        ("linux/386", "linux/amd64", "linux/arm64")
    }


def test_a_candidate_has_exact_tags_only() -> None:
    tags = tags_of(make_state(released("7.3.23rc1", suites=("trixie",), variants=("",))))

    assert set(tags.wanted) == {"3.11-7.3.23rc1", "3.11-7.3.23rc1-trixie"}


def test_a_nightly_has_a_tag_that_moves_and_exact_ones() -> None:
    event = nightly(100)
    exact = f"3.11-nightly-2026-11-21-100-{event.source.revision[:12]}"

    tags = tags_of(make_state(event, nightly(101)))

    assert {f"{exact}-slim-trixie", exact, "3.11-nightly", "3.11-nightly-bookworm"} <= set(
        tags.wanted
    )
    assert digests_of(tags, "3.11-nightly") == digests(make_published_images("101"), "trixie", "")
    assert "latest" not in tags.wanted
    assert "3.11" not in tags.wanted


def test_releases_without_images_and_staged_ones_have_no_tags() -> None:
    bare = make_event()
    staged = changed(released("7.3.22"), staged=True)

    assert wanted_tags(make_state(bare), CONFIG.interpreters, CONFIG.platforms) == {}
    assert tags_of(make_state(staged)).wanted == {}


def test_an_index_says_what_it_is_of() -> None:
    event = released()

    index = json.loads(tags_of(make_state(event)).wanted["3.11"].index)

    assert index["annotations"] == {VERSION: "7.3.23", REVISION: event.source.revision}
    assert index["mediaType"] == "application/vnd.oci.image.index.v1+json"
    assert {item["size"] for item in index["manifests"]} == {500}


def test_a_platform_that_left_the_table_is_named() -> None:
    platforms = {"linux-aarch64": CONFIG.platforms["linux-aarch64"]}

    with pytest.raises(UnknownNameError, match="linux-x86_64"):
        wanted_tags(make_state(released()), CONFIG.interpreters, platforms)


# --- what is newest -------------------------------------------------------------------------------


def test_lines_are_ordered_by_number_and_not_by_spelling() -> None:
    tags = tags_of(make_state(released("7.3.23", "3.9"), released("7.3.22", "3.11")))

    found = leads_to(tags)

    assert (found["latest"], found["3"], found["3.9"]) == ("7.3.22", "7.3.22", "7.3.23")
    assert found["3-7.3.23"] == "7.3.23"


def test_a_backport_moves_its_own_tags_only() -> None:
    before = leads_to(tags_of(make_state(released("7.3.22"), released("7.4.0"))))
    after = leads_to(tags_of(make_state(released("7.3.22"), released("7.4.0"), released("7.3.23"))))

    moved = {tag for tag in before if before[tag] != after[tag]}

    assert {tag.removesuffix("-slim").removesuffix("-trixie") for tag in moved} >= {"3.11-7.3"}
    assert all(tag.startswith(("3.11-7.3", "3-7.3")) for tag in moved)


def test_a_yank_leads_back_and_its_end_leads_there_again() -> None:
    old, new = released("7.3.22"), released("7.3.23")
    yank = later(Yanked, new)

    good = tags_of(make_state(old, new))
    yanked = tags_of(make_state(old, new, yank))
    again = tags_of(make_state(old, new, yank, later(Unyanked, new)))

    assert leads_to(yanked)["3.11"] == "7.3.22"
    assert yanked.superfluous(frozenset(good.wanted)) == tuple(
        sorted(tag for tag in good.wanted if "7.3.23" in tag)
    )
    assert again == good


def test_where_nothing_good_is_left_every_tag_goes() -> None:
    event = released()
    present = frozenset(tags_of(make_state(event)).wanted)

    tags = tags_of(make_state(event, later(Yanked, event)))

    assert tags.wanted == {}
    assert tags.superfluous(present) == tuple(sorted(present))


def test_tags_of_others_are_not_ours_to_take_away() -> None:
    event = released()
    others = frozenset({"3.11-7.3.99", "3.12", "sha256-00", "mine", "3.11-nightly-1-abc"})

    assert tags_of(make_state(event)).superfluous(others) == ()


def test_tags_of_a_nightly_that_the_ledger_knows_by_name_only_go() -> None:
    event = nightly(100)
    present = frozenset(tags_of(make_state(event)).wanted)
    state = make_state(event)
    old = state.model_copy(update={"releases": tuple(slim(item) for item in state.releases)})
    interpreters = {"pypy3.11": changed(CONFIG.interpreters["pypy3.11"], image=make_image_config())}

    tags = wanted_tags(old, interpreters, CONFIG.platforms)["pypy"]

    exact = {tag for tag in present if "-100-" in tag}
    assert set(tags.superfluous(present)) == exact
    assert len(exact) == 6


# --- properties -----------------------------------------------------------------------------------

RELEASES = tuple((version, line) for version in VERSIONS for line in LINES)
histories = st.permutations(RELEASES).flatmap(
    lambda order: st.tuples(
        st.integers(1, len(order)).map(lambda count: list(order)[:count]),
        st.sets(st.sampled_from(RELEASES)),
    )
)


def state_of(history: tuple[list[tuple[str, str]], set[tuple[str, str]]]) -> State:
    """Return what publications in that order, and then yanks, add up to."""
    order, yanked = history
    events = {item: released(*item, suites=("trixie",), variants=("",)) for item in order}
    yanks = (later(Yanked, events[item]) for item in sorted(yanked) if item in events)
    return make_state(*events.values(), *yanks)


def offered(state: State) -> list[tuple[tuple[int, ...], InterpreterVersion]]:
    """Return the line and the version of each final release that is offered."""
    events = [item.published for item in state.releases if item.is_offered]
    return [
        (numbers(event.images[0].line), event.interpreter_version)
        for event in events
        if event.stable
    ]


@given(history=histories)
def test_moving_tags_lead_to_the_newest_whatever_the_order(
    history: tuple[list[tuple[str, str]], set[tuple[str, str]]],
) -> None:
    state = state_of(history)
    finals = offered(state)
    found = leads_to(wanted_tags(state, CONFIG.interpreters, CONFIG.platforms)["pypy"])

    assert found.get("latest") == (str(max(finals)[1]) if finals else None)
    for line in LINES:
        versions = [version for known, version in finals if known == numbers(line)]
        sevens = [version for version in versions if version[:2] == (7, 3)]
        assert found.get(line) == (str(max(versions)) if versions else None)
        assert found.get(f"{line}-7.3") == (str(max(sevens)) if sevens else None)
    threes = [item for item in finals if item[0][0] == 3]
    assert found.get("3") == (str(max(threes)[1]) if threes else None)


@given(history=histories)
def test_no_tag_goes_backwards_when_something_is_published(
    history: tuple[list[tuple[str, str]], set[tuple[str, str]]],
) -> None:
    order, _ = history
    before = tags_of(state_of((order[:-1], set()))) if len(order) > 1 else None
    after = tags_of(state_of((order, set())))

    for tag, version in leads_to(before).items() if before else ():
        assert tag in after.wanted
        if before and before.wanted[tag].is_exact:
            assert before.wanted[tag] == after.wanted[tag]
        elif not tag.startswith(("latest", "3-", "trixie")) and tag != "3":
            now = InterpreterVersion.parse(leads_to(after)[tag])
            assert now >= InterpreterVersion.parse(version)


@given(history=histories, data=st.data())
def test_the_order_of_publication_does_not_matter(
    history: tuple[list[tuple[str, str]], set[tuple[str, str]]], data: st.DataObject
) -> None:
    order, yanked = history
    other = data.draw(st.permutations(order))

    first, second = tags_of(state_of((order, yanked))), tags_of(state_of((list(other), yanked)))

    assert first == second
