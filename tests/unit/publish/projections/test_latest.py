"""``latest``: one document and pointers, which never mix releases and never go back."""

from hypothesis import given

from pipeline.model.ledger import Event, Promoted, Unyanked, Yanked
from pipeline.publish.projections.latest import Latest, latest_of, latest_pointers
from tests.factories import BASE_URL, digest, later, make_event, make_nightly, make_view
from tests.unit.publish.projections.histories import (
    DESKTOPS,
    LINUX,
    Drawn,
    drawn_histories,
    text_of,
    view_of,
)


def pointers(*events: Event) -> dict[str, str]:
    """Return where pointers lead, without the product's directory."""
    found = latest_pointers(make_view(*events), "pypy")
    return {
        key.removeprefix("pypy/"): pointer.target.removeprefix("pypy/")
        for key, pointer in found.items()
    }


def latest_version(*events: Event) -> str | None:
    """Return the version that ``latest.json`` gives for Python 3.11."""
    found = latest_of(make_view(*events), "pypy").interpreters.get("pypy3.11")
    if found is None or found.release is None:
        return None
    return str(found.release.interpreter_version)


def test_a_release_is_described_with_addresses_and_digests() -> None:
    found = latest_of(make_view(make_event()), "pypy").interpreters["pypy3.11"]

    name = "pypy3.11-v7.3.23"
    assert found.nightly is None
    assert found.release is not None
    assert found.release.release == name
    assert found.release.date == "2026-11-21"
    assert found.release.number is None
    assert found.release.manifest.url == f"{BASE_URL}/pypy/{name}/{name}-manifest.json"
    assert found.release.manifest.sha256 == digest(name)
    (archive,) = found.release.archives.values()
    assert archive.url == f"{BASE_URL}/pypy/{name}/{name}-linux64.tar.gz"
    assert archive.sha256 == digest(f"{name}-linux64.tar.gz")


def test_a_nightly_is_described_with_its_number() -> None:
    found = latest_of(make_view(make_nightly(188_288)), "pypy").interpreters["pypy3.11"]

    assert found.release is None
    assert found.nightly is not None
    assert found.nightly.number == 188_288


def test_the_document_is_read_as_it_was_written() -> None:
    view = make_view(make_event(platforms=DESKTOPS), make_nightly())

    text = text_of(view, "pypy/latest.json")

    assert Latest.model_validate_json(text) == latest_of(view, "pypy")


def test_a_backport_does_not_move_latest_back() -> None:
    assert latest_version(make_event(version="7.3.23"), make_event(version="7.3.20")) == "7.3.23"


def test_a_candidate_is_not_latest() -> None:
    assert latest_version(make_event(version="8.0.0rc1"), make_event()) == "7.3.23"
    assert latest_version(make_event(version="8.0.0rc1")) is None


def test_a_yank_gives_the_previous_release_and_an_unyank_the_newest_again() -> None:
    old, bad = make_event(version="7.3.22"), make_event(version="7.3.23")
    yank = later(Yanked, bad)

    assert latest_version(old, bad, yank) == "7.3.22"
    assert latest_version(old, bad, yank, later(Unyanked, bad)) == "7.3.23"


def test_a_staged_release_becomes_latest_when_it_is_promoted() -> None:
    staged = make_event(version="7.3.24", staged=True)

    assert latest_version(make_event(), staged) == "7.3.23"
    assert latest_version(make_event(), staged, later(Promoted, staged)) == "7.3.24"


def test_when_everything_is_yanked_there_is_no_latest() -> None:
    bad = make_event()

    assert latest_of(make_view(bad, later(Yanked, bad)), "pypy").interpreters == {}
    assert pointers(bad, later(Yanked, bad)) == {}


def test_pointers_are_named_after_the_interpreter_and_the_platform() -> None:
    found = pointers(make_event(platforms=("linux-i686", "windows-x86_64")))

    name = "pypy3.11-v7.3.23"
    assert found == {
        "latest/pypy3.11-linux32.tar.gz": f"{name}/{name}-linux32.tar.gz",
        "latest/pypy3.11-win64.zip": f"{name}/{name}-win64.zip",
    }


def test_pointers_to_nightlies_have_upstreams_names() -> None:
    """32-bit Linux is ``linux`` in nightlies."""
    found = pointers(make_nightly(188_288, platforms=("linux-i686", "linux-x86_64")))

    name = "pypy3.11-nightly-2026-11-21-188288-0123456789ab"
    stem = "pypy-c-jit-188288-0123456789ab"
    assert found == {
        "nightly/pypy3.11/pypy-c-jit-latest-linux.tar.gz": f"{name}/{stem}-linux.tar.gz",
        "nightly/pypy3.11/pypy-c-jit-latest-linux64.tar.gz": f"{name}/{stem}-linux64.tar.gz",
    }


def test_pointers_of_an_interpreter_never_lead_to_two_releases() -> None:
    """The newest nightly lacks a platform; the older one's archive does not stand in for it."""
    found = pointers(
        make_event(version="7.3.22", platforms=LINUX),
        make_event(version="7.3.23"),
        make_nightly(188_287, platforms=LINUX),
        make_nightly(188_288),
    )

    assert set(found) == {
        "latest/pypy3.11-linux64.tar.gz",
        "nightly/pypy3.11/pypy-c-jit-latest-linux64.tar.gz",
    }
    assert all("7.3.23" in target or "188288" in target for target in found.values())


@given(drawn_histories)
def test_latest_is_the_greatest_version_of_what_is_offered(drawn: list[Drawn]) -> None:
    offered = [item.published for item in drawn if item.is_offered]
    finals = [event for event in offered if event.channel == "release" and event.stable]
    nightlies = [event for event in offered if event.channel == "nightly"]

    found = latest_of(view_of(drawn), "pypy").interpreters

    for name in {event.interpreter for event in offered}:
        of = found.get(name)
        release, nightly = (of.release, of.nightly) if of else (None, None)
        assert (release.interpreter_version if release else None) == max(
            (event.interpreter_version for event in finals if event.interpreter == name),
            default=None,
        )
        assert (nightly.number if nightly else None) == max(
            (event.source.number or 0 for event in nightlies if event.interpreter == name),
            default=None,
        )
    assert set(found) <= {event.interpreter for event in offered}


@given(drawn_histories)
def test_pointers_lead_where_the_document_does(drawn: list[Drawn]) -> None:
    view = view_of(drawn)

    described = {
        archive.url
        for of in latest_of(view, "pypy").interpreters.values()
        for release in (of.release, of.nightly)
        if release is not None
        for archive in release.archives.values()
    }

    targets = latest_pointers(view, "pypy").values()
    assert {f"{BASE_URL}/{pointer.target}" for pointer in targets} == described
