"""Checksums pages are what today's scrapers parse.

The patterns are how these readers find a digest: uv's metadata generator in the text, upstream's
check_versions and docker-library's versions.sh in the page.
"""

import re

from hypothesis import given

from pipeline.model.artifacts import Artifact, ArtifactKind
from pipeline.model.ledger import Yanked
from pipeline.publish.view import View
from tests.factories import digest, later, make_artifact, make_event, make_nightly, make_view
from tests.unit.publish.projections.histories import (
    LINUX,
    Drawn,
    drawn_histories,
    golden_view,
    text_of,
    view_of,
)

RST, HTML = "pypy/checksums.rst", "pypy/checksums.html"
UV_LINE = re.compile(r"^\s+(\w{64})\s+(pypy.+)$", re.MULTILINE)
CHECK_VERSIONS = re.compile(r"\b([0-9a-f]{64})\s+(pypy\S+)")


def digests(view: View) -> dict[str, str]:
    """Return the digests of the files of releases that clients download, by name."""
    return {
        artifact.filename: artifact.sha256
        for item in view.releases("pypy")
        for artifact in item.published.files
        if item.published.channel == "release"
    }


def common_files() -> tuple[Artifact, ...]:
    """The files whose names say no release, and two that do."""
    rows = [
        ("KEY.asc", ArtifactKind.PUBLIC_KEY),
        ("SHA256SUMS", ArtifactKind.CHECKSUMS),
        ("SHA256SUMS.asc", ArtifactKind.SIGNATURE),
        ("pypy3.11-v7.3.23-manifest.json", ArtifactKind.MANIFEST),
        ("pypy3.11-v7.3.23-src.tar.gz", ArtifactKind.SOURCE_GZ),
    ]
    return tuple(
        make_artifact(filename=name, kind=kind, platform=None, sha256=digest(name))
        for name, kind in rows
    )


def test_a_block_has_upstreams_form() -> None:
    text = text_of(make_view(make_event()), RST)

    name = "pypy3.11-v7.3.23-linux64.tar"
    assert text == (
        "Checksums\n=========\n\n"
        "pypy3.11-v7.3.23 sha256::\n\n"
        f"    {digest(f'{name}.gz')}  {name}.gz\n"
        f"    {digest(f'{name}.zst')}  {name}.zst\n"
    )


def test_no_line_ends_in_a_blank() -> None:
    """Uv would take it for a part of the name."""
    for key in (RST, HTML):
        lines = text_of(golden_view(), key).splitlines()
        assert [line for line in lines if line != line.rstrip() and "  pypy" in line] == []
    assert " \n" not in text_of(golden_view(), RST)


def test_uv_finds_every_file() -> None:
    view = golden_view()

    found = {name: sha256 for sha256, name in UV_LINE.findall(text_of(view, RST))}

    assert found == digests(view)


def test_check_versions_finds_every_file() -> None:
    view = golden_view()

    for key in (RST, HTML):
        found = {name: sha256 for sha256, name in CHECK_VERSIONS.findall(text_of(view, key))}
        assert found == digests(view)


def test_docker_library_finds_exactly_the_file() -> None:
    """It takes the first line that matches, and the dots of the name match anything."""
    view = golden_view()
    page = text_of(view, HTML)

    for name, sha256 in digests(view).items():
        found = re.search(f"[a-f0-9]{{64}}  {name}", page)
        assert found is not None
        assert found[0].split(" ")[0] == sha256


def test_releases_come_newest_first() -> None:
    view = make_view(
        make_event(version="7.3.9"), make_event(version="7.3.23"), make_event(version="7.3.10")
    )

    titles = re.findall(r"^(\S+) sha256::$", text_of(view, RST), re.MULTILINE)

    assert titles == ["pypy3.11-v7.3.23", "pypy3.11-v7.3.10", "pypy3.11-v7.3.9"]


def test_a_yanked_release_stays_since_its_files_do() -> None:
    event = make_event()

    view = make_view(event, later(Yanked, event))

    assert text_of(view, RST) == text_of(make_view(event), RST)


def test_neither_staged_releases_nor_nightlies_are_listed() -> None:
    text = text_of(make_view(make_event(staged=True), make_nightly()), RST)

    assert UV_LINE.findall(text) == []


def test_files_with_the_same_name_in_every_release_are_left_out() -> None:
    event = make_event(files=common_files())

    found = {name for _, name in UV_LINE.findall(text_of(make_view(event), RST))}
    anything = re.findall(r"^    \w{64}  (.+)$", text_of(make_view(event), RST), re.MULTILINE)

    assert found == set(anything)
    assert found == {"pypy3.11-v7.3.23-manifest.json", "pypy3.11-v7.3.23-src.tar.gz"}


@given(drawn_histories)
def test_in_any_history_each_file_is_there_once(drawn: list[Drawn]) -> None:
    view = view_of([Drawn(published=make_event(), is_promoted=False, yanks=0), *drawn])

    for key in (RST, HTML):
        names = [name for _, name in CHECK_VERSIONS.findall(text_of(view, key))]
        assert len(names) == len(set(names))
        assert set(names) == set(digests(view))


def test_both_pages_list_the_same() -> None:
    view = make_view(make_event(platforms=LINUX), make_event("pypy3.10"))

    assert CHECK_VERSIONS.findall(text_of(view, RST)) == CHECK_VERSIONS.findall(text_of(view, HTML))
