"""All projections together: what is in them, and what they depend on."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import UnknownNameError
from pipeline.model import naming
from pipeline.model.base import pretty_json
from pipeline.model.ledger import Pruned, compacted
from pipeline.publish.projections import projections
from pipeline.publish.projections.kinds import KINDS
from pipeline.publish.view import Document, Pointer
from tests.conftest import GOLDEN, CheckGolden
from tests.factories import (
    FINGERPRINT,
    changed,
    later,
    make_config,
    make_event,
    make_nightly,
    make_view,
)
from tests.unit.publish.projections.histories import (
    LINUX,
    Drawn,
    drawn_histories,
    for_clients,
    golden_view,
    view_of,
)

GOLDEN_DOCUMENTS = sorted(
    key for key, item in projections(golden_view()).items() if isinstance(item, Document)
)


@pytest.mark.parametrize("key", GOLDEN_DOCUMENTS)
def test_a_document_is_as_it_was_looked_at(key: str, check_golden: CheckGolden) -> None:
    document = projections(golden_view())[key]

    assert isinstance(document, Document)
    check_golden(f"projections/{key}", document.data)


def test_pointers_are_as_they_were_looked_at(check_golden: CheckGolden) -> None:
    pointers = {
        key: item.target
        for key, item in projections(golden_view()).items()
        if isinstance(item, Pointer)
    }

    check_golden("projections/pointers.json", pretty_json(pointers))


def test_there_is_no_golden_document_that_nothing_makes() -> None:
    there = {
        path.relative_to(GOLDEN / "projections").as_posix()
        for path in (GOLDEN / "projections").rglob("*")
        if path.is_file()
    }

    assert there == {*GOLDEN_DOCUMENTS, "pointers.json"}


def test_every_kind_gives_something() -> None:
    """The golden documents would not miss a kind that gives nothing."""
    assert [name for name, kind in KINDS.items() if not kind(golden_view())] == []


def test_no_two_kinds_give_the_same_key() -> None:
    keys = [key for kind in KINDS.values() for key in kind(golden_view())]

    assert len(keys) == len(set(keys)) == len(projections(golden_view()))


def test_a_key_is_at_the_top_of_a_product_or_in_a_directory_of_indexes() -> None:
    """What lies in those directories and is no projection is removed when they are written."""
    for key in projections(golden_view()):
        _product, *rest = naming.check_key(key).split("/")
        assert len(rest) <= 1 or rest[0] in naming.INDEX_DIRECTORIES


def test_pointers_lead_to_archives_that_exist() -> None:
    view = golden_view()
    there = {
        naming.store_key(item.published.product, item.name, artifact.filename)
        for item in view.state.releases
        for artifact in item.published.files
    }

    targets = [item.target for item in projections(view).values() if isinstance(item, Pointer)]

    assert targets
    assert [target for target in targets if target not in there] == []


def test_without_releases_there_is_nothing() -> None:
    assert projections(make_view()) == {}


def test_each_product_has_its_own_documents() -> None:
    demo = make_event(
        "demo", "1.0.0", product="demo", implementation="demo", language_version="1.0"
    )

    found = projections(make_view(make_event(), demo))

    assert {key for key in found if key.startswith("demo/")} == {
        "demo/checksums.html",
        "demo/checksums.rst",
        "demo/definitions/conda/demo/recipe.yaml",
        "demo/definitions/homebrew/Formula/demo.rb",
        "demo/definitions/nix/demo.nix",
        "demo/index.html",
        "demo/latest.json",
        "demo/latest/demo-linux64.tar.gz",
        "demo/uv.json",
        "demo/versions.json",
        "demo/yanked.json",
    }
    demo_index, pypy_index = found["demo/versions.json"], found["pypy/versions.json"]
    assert isinstance(demo_index, Document)
    assert isinstance(pypy_index, Document)
    assert [entry["pypy_version"] for entry in json.loads(demo_index.data)] == ["1.0.0"]
    assert [entry["pypy_version"] for entry in json.loads(pypy_index.data)] == ["7.3.23"]


def test_a_platform_that_left_the_table_is_named() -> None:
    """Its releases are in the ledger for ever."""
    platforms = make_config().platforms
    view = make_view(make_event(platforms=LINUX), platforms={LINUX[0]: platforms[LINUX[0]]})

    with pytest.raises(UnknownNameError, match="linux-aarch64"):
        projections(view)


def test_an_interpreter_that_left_the_configuration_is_still_listed() -> None:
    """Only its ABI is not known any more."""
    found = projections(make_view(make_event(), make_nightly(), interpreters={}))

    versions, manylinux = found["pypy/versions.json"], found["pypy/definitions/manylinux.json"]
    assert isinstance(versions, Document)
    assert isinstance(manylinux, Document)
    assert len(json.loads(versions.data)) == 2
    assert json.loads(manylinux.data) == {}
    assert "pypy/nightly/pypy3.11/pypy-c-jit-latest-linux64.tar.gz" in found


@given(drawn_histories, st.data())
def test_the_order_of_publication_changes_nothing_that_clients_read(
    drawn: list[Drawn], data: st.DataObject
) -> None:
    shuffled = data.draw(st.permutations(drawn))

    assert for_clients(view_of(shuffled)) == for_clients(view_of(drawn))


@given(drawn_histories)
def test_what_clients_read_depends_on_the_offered_releases_only(drawn: list[Drawn]) -> None:
    """As if the staged and the yanked ones had never been, and the others had just come."""
    anchor = Drawn(
        published=make_event("pypy3.10", "7.2.0rc9", product="pypy"), is_promoted=False, yanks=0
    )
    offered = [
        Drawn(published=changed(item.published, staged=False), is_promoted=False, yanks=0)
        for item in drawn
        if item.is_offered
    ]

    assert for_clients(view_of([anchor, *drawn])) == for_clients(view_of([anchor, *offered]))


@given(drawn_histories)
def test_no_client_is_led_to_a_release_that_is_not_offered(drawn: list[Drawn]) -> None:
    hidden = [item.published.release for item in drawn if not item.is_offered]

    found = for_clients(view_of(drawn))

    for key, item in found.items():
        text = item.data.decode() if isinstance(item, Document) else item.target
        assert [name for name in hidden if f"/{name}/" in text] == [], key


@given(drawn_histories)
def test_equal_states_give_equal_bytes(drawn: list[Drawn]) -> None:
    first, second = view_of(drawn), view_of(drawn)
    before = pretty_json(first.state)

    assert projections(first) == projections(second)
    assert pretty_json(first.state) == before


def test_a_compacted_state_gives_the_same() -> None:
    """A checkpoint has no files of old nightlies; no projection misses them."""
    nightlies = [make_nightly(188_000 + number) for number in range(40)]
    view = make_view(make_event(), *nightlies)
    slim = make_view(state=compacted(view.state))

    assert slim.state != view.state
    assert projections(slim) == projections(view)


def test_a_pruned_nightly_is_nowhere() -> None:
    nightly = make_nightly()

    found = projections(make_view(make_event(), nightly, later(Pruned, nightly)))

    alone = projections(make_view(make_event()))
    assert found == alone


def test_no_document_holds_what_only_maintainers_need() -> None:
    """Who published is in the ledger; a fingerprint is for everybody."""
    text = b"".join(
        item.data for item in projections(golden_view()).values() if isinstance(item, Document)
    )

    assert b"maintainer@example" not in text
    assert FINGERPRINT.encode() in text
