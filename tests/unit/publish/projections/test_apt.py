"""Which packages apt's lists have, and what users get."""

from collections.abc import Iterable, Iterator
from hashlib import sha256
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.distribute.apt import ReleaseText, Times, parse_release
from pipeline.model.artifacts import Artifact, ArtifactKind
from pipeline.model.debian import AptConfig, BinaryPackage, DebianIndex
from pipeline.model.ledger import Event, Published, Unyanked, Yanked
from pipeline.publish.projections.apt import (
    COMPONENTS,
    AptFacts,
    AptRepository,
    apt_repository,
    index_artifact,
    listed_releases,
)
from pipeline.publish.view import View
from tests.factories import NOON, changed, digest, later, make_event, make_nightly, make_view
from tests.unit.publish.projections.histories import Drawn, drawn_histories

CONFIG: Final = AptConfig(suites=("bookworm", "trixie"), keep=2)
PLATFORMS: Final = {"linux-x86_64": "amd64", "linux-aarch64": "arm64"}
KEY: Final = b"-----BEGIN KEY-----\n\nkey\n-----END KEY-----\n"


def packages(event: Published) -> tuple[BinaryPackage, ...]:
    """Return a release's packages: of each suite one for every platform, and one for all."""
    return tuple(
        BinaryPackage(
            filename=f"{name}_{event.release}.{suite}_{architecture}.deb",
            suite=suite,
            platform=platform,
            architecture=architecture,
            name=name,
            package_version="1",
            control=f"Package: {name}\nVersion: {event.release}\nArchitecture: {architecture}",
            size=10,
            sha256=digest(f"{name} {event.release} {suite} {architecture}"),
        )
        for suite in CONFIG.suites
        for platform, architecture, name in (
            *((key, value, event.interpreter) for key, value in PLATFORMS.items()),
            ("linux-x86_64", "all", f"{event.interpreter}-doc"),
        )
    )


def index_of(event: Published) -> DebianIndex:
    """Return what the release's file lists."""
    return DebianIndex(packages=packages(event))


def packaged(event: Published) -> Published:
    """Return a release that has packages."""
    debs = tuple(
        Artifact(
            filename=item.filename,
            kind=ArtifactKind.DEB,
            platform=item.platform,
            size=item.size,
            sha256=item.sha256,
        )
        for item in packages(event)
    )
    index = Artifact(
        filename=f"{event.release}-packages.json",
        kind=ArtifactKind.DEBIAN_INDEX,
        platform=None,
        size=100,
        sha256=digest(f"packages of {event.release}"),
    )
    return changed(event, files=(*event.files, *debs, index))


def release(version: str, **overrides: Any) -> Published:
    """Return a release with packages."""
    return packaged(make_event(version=version, **overrides))


def repository(
    view: View, config: AptConfig = CONFIG, public_keys: bytes | None = KEY
) -> AptRepository:
    """Return the repository of a view."""
    indexes = {
        artifact.sha256: index_of(item.published)
        for items in listed_releases(view, config.keep).values()
        for item in items
        if (artifact := index_artifact(item.published)) is not None
    }
    facts = AptFacts(config=config, origin="Toy Packagers", public_keys=public_keys)
    return apt_repository(view, facts, indexes)


def listed(view: View, path: str = "release/binary-amd64", suite: str = "bookworm") -> list[str]:
    """Return what a list has, as packages and versions."""
    data = repository(view).suites[suite].lists[f"{path}/Packages"].decode()
    stanzas = [dict(_fields(stanza)) for stanza in data.split("\n\n") if stanza]
    return [f"{fields['Package']} {fields['Version']}" for fields in stanzas]


def _fields(stanza: str) -> Iterator[tuple[str, str]]:
    for line in stanza.strip().splitlines():
        name, _, value = line.partition(": ")
        yield name, value


def names(view: View, component: str = "release", keep: int = 2) -> list[str]:
    """Return the releases of a component."""
    return [item.name for item in listed_releases(view, keep)[component]]


# --- which releases -------------------------------------------------------------------------


def test_the_newest_versions_are_listed_whenever_they_were_published() -> None:
    view = make_view(release("7.3.23"), release("7.3.9"), release("7.3.22"))

    assert names(view) == ["pypy3.11-v7.3.23", "pypy3.11-v7.3.22"]


def test_a_yank_brings_the_one_before_back_into_the_list() -> None:
    newest = release("7.3.23")
    view = make_view(newest, release("7.3.21"), release("7.3.22"), later(Yanked, newest))

    assert names(view) == ["pypy3.11-v7.3.22", "pypy3.11-v7.3.21"]


def test_each_interpreter_has_its_own_newest() -> None:
    view = make_view(release("7.3.23"), packaged(make_event("pypy3.10", "7.3.19")))

    assert sorted(names(view, keep=1)) == ["pypy3.10-v7.3.19", "pypy3.11-v7.3.23"]


@pytest.mark.parametrize(
    "event",
    [
        release("8.0.0rc1"),
        release("8.0.0", staged=True),
        make_event(version="8.0.0"),
        packaged(make_nightly()),
    ],
    ids=["candidate", "staged", "without packages", "nightly"],
)
def test_what_is_no_offered_final_release_with_packages_is_not_in_release(
    event: Published,
) -> None:
    assert names(make_view(event, release("7.3.23"))) == ["pypy3.11-v7.3.23"]


def test_nightlies_have_a_component_of_their_own() -> None:
    nightlies = [packaged(make_nightly(number)) for number in (11, 13, 12)]
    view = make_view(*nightlies, release("7.3.23"))

    numbers = [name.split("-")[-2] for name in names(view, "nightly")]
    assert numbers == ["13", "12"]


@given(drawn=drawn_histories, keep=st.integers(1, 4), with_packages=st.booleans())
def test_the_lists_have_exactly_the_newest_offered(
    drawn: list[Drawn], keep: int, *, with_packages: bool
) -> None:
    view = make_view(*_events(drawn, with_packages=with_packages))
    expected: dict[tuple[str, str], list[tuple[Any, str]]] = {}
    for item in drawn if with_packages else ():
        event = item.published
        if item.is_offered and (event.channel == "nightly" or event.stable):
            order: Any = _order(event, [other.published for other in drawn])
            line = expected.setdefault((event.channel, event.interpreter), [])
            line.append((order, event.release))

    found = listed_releases(view, keep)

    for component in COMPONENTS:
        wanted = [
            name
            for (channel, _), line in sorted(expected.items())
            if channel == component
            for _, name in sorted(line, reverse=True)[:keep]
        ]
        assert [item.name for item in found[component]] == wanted


def _order(event: Published, events: list[Published]) -> Any:
    if event.channel == "nightly":
        return event.source.number, events.index(event)
    language = tuple(int(part) for part in event.language_version.split("."))
    return event.interpreter_version, language, event.release


def _events(drawn: Iterable[Drawn], *, with_packages: bool) -> Iterator[Event]:
    for item in drawn:
        for event in item.events:
            is_packaged = with_packages and isinstance(event, Published)
            yield packaged(event) if is_packaged and isinstance(event, Published) else event


# --- what is in the lists -------------------------------------------------------------------


def test_a_list_has_the_packages_of_its_suite_and_architecture_and_those_for_all() -> None:
    view = make_view(release("7.3.23"))

    assert listed(view, "release/binary-arm64", "trixie") == [
        "pypy3.11 pypy3.11-v7.3.23",
        "pypy3.11-doc pypy3.11-v7.3.23",
    ]
    data = repository(view).suites["trixie"].lists["release/binary-arm64/Packages"].decode()
    assert "Architecture: arm64\n" in data
    assert "Architecture: amd64\n" not in data
    assert "Filename: pypy/pypy3.11-v7.3.23/pypy3.11_pypy3.11-v7.3.23.trixie_arm64.deb\n" in data


def test_every_component_is_there_also_an_empty_one() -> None:
    suite = repository(make_view(release("7.3.23"))).suites["bookworm"]

    assert suite.lists["nightly/binary-amd64/Packages"] == b""
    assert sorted(suite.lists) == sorted(
        f"{component}/binary-{architecture}/Packages{ending}"
        for component in ("release", "nightly")
        for architecture in ("amd64", "arm64")
        for ending in ("", ".gz", ".xz")
    )


def test_a_yank_takes_no_architecture_away() -> None:
    event = release("7.3.23")
    suite = repository(make_view(event, later(Yanked, event))).suites["bookworm"]

    assert suite.architectures == ("amd64", "arm64")
    assert suite.lists["release/binary-arm64/Packages"] == b""


def test_without_any_package_there_are_empty_lists_for_every_architecture_of_debian() -> None:
    view = make_view(make_event())
    suite = repository(view).suites["trixie"]

    known = {row.debian_arch for row in view.platforms.values() if row.debian_arch}
    assert set(suite.architectures) == known
    assert set(suite.lists.values()) == {
        data for path, data in suite.lists.items() if path.startswith("nightly/binary-amd64/")
    }


def test_a_yank_that_is_taken_back_gives_the_same_bytes_again() -> None:
    event, before = release("7.3.23"), release("7.3.22")
    once = make_view(before, event)
    again = make_view(before, event, later(Yanked, event), later(Unyanked, event))

    assert repository(once) == repository(again)


def test_what_a_suite_says_can_be_read_and_names_its_lists() -> None:
    suite = repository(make_view(release("7.3.23"))).suites["bookworm"]

    text = ReleaseText(body=suite.body, times=Times(date=NOON, valid_until=NOON)).text

    assert parse_release(text).by_hash == set(suite.by_hash)
    assert "Origin: Toy Packagers\n" in text


def test_every_key_is_one_that_a_store_may_hold() -> None:
    made = repository(make_view(release("7.3.23")))

    keys = {*made.by_hash, *made.documents}
    assert {key.split("/")[0] for key in keys} == {"dists", "apt"}
    digests = {key.rpartition("/")[2]: item.data for key, item in made.by_hash.items()}
    assert {sha256(data).hexdigest() for data in digests.values()} == set(digests)


# --- for users ------------------------------------------------------------------------------


def test_users_get_a_source_for_each_suite_one_with_nightlies_and_the_key() -> None:
    sources = repository(make_view(release("7.3.23"))).sources

    assert sorted(sources) == [
        "apt/KEY.asc",
        "apt/bookworm-nightly.sources",
        "apt/bookworm.sources",
        "apt/trixie-nightly.sources",
        "apt/trixie.sources",
    ]
    assert sources["apt/KEY.asc"].data == KEY
    assert b"Suites: trixie\nComponents: release\n" in sources["apt/trixie.sources"].data
    nightly = sources["apt/trixie-nightly.sources"].data
    assert b"Components: release nightly\n" in nightly


def test_a_mirrors_source_has_its_own_address() -> None:
    view = make_view(release("7.3.23"), base_url="https://mirror.test/files")
    made = repository(view)

    assert b"URIs: https://mirror.test/files\n" in made.sources["apt/bookworm.sources"].data
    assert made.suites == repository(make_view(release("7.3.23"))).suites


def test_who_does_not_know_the_keys_says_nothing_of_sources() -> None:
    assert repository(make_view(release("7.3.23")), public_keys=None).sources == {}
