"""Histories of releases, drawn at random or as golden files show them."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from hypothesis import strategies as st

from pipeline.model.ledger import Event, Promoted, Published, Unyanked, Yanked
from pipeline.model.versions import InterpreterVersion, Level
from pipeline.publish.projections import projections
from pipeline.publish.view import Document, Projection, View
from tests.factories import (
    later,
    make_archives,
    make_event,
    make_nightly,
    make_source_archive,
    make_view,
)

LINUX = ("linux-x86_64", "linux-aarch64")
DESKTOPS = (*LINUX, "linux-i686", "macos-arm64", "windows-x86_64")
FOR_PEOPLE = ("index.html", "yanked.json", "checksums.rst", "checksums.html")
"""What may speak of releases that are not offered."""


@dataclass(frozen=True, kw_only=True)
class Drawn:
    """A release or nightly, and what happened to it in the end."""

    published: Published
    is_promoted: bool
    yanks: int

    @property
    def is_offered(self) -> bool:
        """Whether clients may be led to it; two yanks are one that was taken back."""
        return (not self.published.staged or self.is_promoted) and self.yanks != 1

    @property
    def events(self) -> Iterator[Event]:
        """What the ledger says of it."""
        yield self.published
        if self.published.staged and self.is_promoted:
            yield later(Promoted, self.published)
        if self.yanks:
            yield later(Yanked, self.published)
        if self.yanks > 1:
            yield later(Unyanked, self.published)


def _release(
    language: str, version: InterpreterVersion, platforms: tuple[str, ...], *, staged: bool
) -> Published:
    interpreter = f"pypy{language.rpartition('.')[0]}"
    release = f"{interpreter}-{language}-v{version}"
    return make_event(
        interpreter,
        str(version),
        platforms,
        language_version=language,
        release=release,
        staged=staged,
    )


def _nightly(number: int, interpreter: str, *, staged: bool) -> Published:
    return make_nightly(number, interpreter, staged=staged)


numbers = st.tuples(st.sampled_from([7, 8]), st.integers(2, 3), st.integers(0, 12))
levels = st.sampled_from([(Level.FINAL, 0)] * 3 + [(Level.CANDIDATE, 1), (Level.BETA, 2)])
versions = st.builds(lambda number, level: InterpreterVersion(*number, *level), numbers, levels)
platform_sets = st.sets(st.sampled_from(DESKTOPS), min_size=1).map(
    lambda names: tuple(sorted(names))
)
releases = st.builds(
    _release,
    st.sampled_from(["2.7.18", "3.10.16", "3.11.13", "3.11.15"]),
    versions,
    platform_sets,
    staged=st.booleans(),
)
nightlies = st.builds(
    _nightly,
    st.integers(187_000, 187_020),
    st.sampled_from(["pypy3.10", "pypy3.11"]),
    staged=st.booleans(),
)
drawn_histories = st.lists(
    st.builds(
        Drawn,
        published=releases | nightlies,
        is_promoted=st.booleans(),
        yanks=st.integers(0, 2),
    ),
    unique_by=lambda drawn: drawn.published.release,
    max_size=10,
)


def view_of(drawn: Iterable[Drawn]) -> View:
    """Return the view after a history."""
    return make_view(*(event for item in drawn for event in item.events))


def for_clients(view: View) -> dict[str, Projection]:
    """Return what clients read without asking whether a release is offered."""
    return {
        key: projection
        for key, projection in projections(view).items()
        if not key.endswith(FOR_PEOPLE)
    }


def text_of(view: View, key: str) -> str:
    """Return the text of a document."""
    document = projections(view)[key]
    if not isinstance(document, Document):
        raise TypeError(key)
    return document.data.decode()


def golden_view() -> View:
    """Return a store's life in short: lines, a backport, a yank, a candidate, nightlies."""
    newest = make_event(
        version="7.3.23",
        platforms=DESKTOPS,
        files=(*make_archives("pypy3.11-v7.3.23", DESKTOPS), make_source_archive()),
    )
    bad = make_event(version="7.3.24", language_version="3.11.16", platforms=LINUX)
    nightly = make_nightly(188_288, platforms=("linux-x86_64", "linux-i686"))
    crashing = make_nightly(188_300)
    return make_view(
        make_event("pypy2.7", "7.3.23", LINUX, language_version="2.7.18"),
        newest,
        make_event("pypy3.12", "8.0.0rc1", LINUX, language_version="3.12.14"),
        bad,
        later(Yanked, bad, reason='crashes in <asyncio>, see "#5599" & the notes'),
        make_event(version="7.3.20", language_version="3.11.13", platforms=LINUX),
        make_event(version="8.0.0", language_version="3.11.16", platforms=LINUX, staged=True),
        nightly,
        crashing,
        later(Yanked, crashing, reason="cannot import ssl"),
    )
