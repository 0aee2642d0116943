"""Where a formula's archives are, as the stanzas of Homebrew's language that say it. Pure.

One address stands at the top, since Homebrew must find one on every system; blocks have those for
other systems and processors. What it depends on keeps a formula from those that have none.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final, NamedTuple

from pipeline.model.artifacts import Artifact
from pipeline.model.ledger import Published
from pipeline.model.platforms import HomebrewNames, MachO, Platform
from pipeline.publish.view import View
from pipeline.templates import ruby_string

SYSTEMS: Final = ("macos", "linux")
PROCESSORS: Final = {"arm": ":arm64", "intel": ":x86_64"}
"""Homebrew's names of processors: in blocks, and in what a formula depends on."""
# Homebrew's names of macOS versions. It gives up older ones, and a formula with such a name then.
MACOS_NAMES: Final = {
    "12": ":monterey",
    "13": ":ventura",
    "14": ":sonoma",
    "15": ":sequoia",
    "26": ":tahoe",
    "27": ":golden_gate",
}


class Source(NamedTuple):
    """The archive for one system and processor."""

    names: HomebrewNames
    artifact: Artifact
    platform: Platform
    url: str


class Limits(NamedTuple):
    """What a formula depends on, and blocks for systems, as lines."""

    limits: tuple[str, ...]
    blocks: tuple[tuple[str, ...], ...]


class Stanzas(NamedTuple):
    """The archive at the top; what the formula depends on and blocks for systems, as lines."""

    top: Source
    limits: tuple[str, ...]
    blocks: tuple[tuple[str, ...], ...]


def formula_sources(view: View, event: Published) -> tuple[Source, ...]:
    """Return the archives that a formula can have, in the order of its blocks."""
    return tuple(sorted(_found(view, event), key=_order))


def stanzas(sources: Sequence[Source]) -> Stanzas:
    """Return what says where *sources* are, of which there is one at least."""
    top = sources[-1]
    return Stanzas(
        top, *_limited(sources, lambda item: (*_further_address(item, top), *_minimum_os(item)))
    )


def resource_limits(sources: Sequence[Source]) -> Limits:
    """Return for whom a formula is that has *sources* as a resource."""
    return _limited(sources, _minimum_os)


def resource_lines(sources: Sequence[Source]) -> tuple[str, ...]:
    """Return where a resource, a further archive of a formula, is.

    It is for nobody in particular: Homebrew knows ``depends_on`` only outside of resources.
    """
    top = sources[-1]
    blocks = (
        _block(f"on_{system}", _of_processors(found, lambda item: _further_address(item, top)))
        for system, found in _by_system(sources).items()
    )
    return (*_address(top), *(line for block in blocks if block for line in ("", *block)))


def indented(lines: Iterable[str], levels: int = 1) -> tuple[str, ...]:
    """Return *lines* inside of so many blocks."""
    return tuple(f"{'  ' * levels}{line}" if line else "" for line in lines)


def _found(view: View, event: Published) -> Iterator[Source]:
    for artifact, platform in view.archives(event):
        if (names := platform.downstream.homebrew) is not None:
            yield Source(names, artifact, platform, view.url(event, artifact.filename))


def _order(source: Source) -> tuple[int, str]:
    return SYSTEMS.index(source.names.os), source.names.processor


def _processor(sources: Sequence[Source]) -> tuple[str, ...]:
    """Return what a formula depends on where a system has an archive for one processor only."""
    if len(sources) > 1:
        return ()
    return (f"depends_on arch: {PROCESSORS[sources[0].names.processor]}",)


def _by_system(sources: Sequence[Source]) -> dict[str, list[Source]]:
    return {
        system: found
        for system in SYSTEMS
        if (found := [source for source in sources if source.names.os == system])
    }


def _limited(sources: Sequence[Source], said: Callable[[Source], Iterable[str]]) -> Limits:
    """Return for whom a formula with *sources* is, and in blocks what is *said* of each."""
    by_system = _by_system(sources)
    is_single = len(by_system) == 1
    blocks = [
        _block(
            f"on_{system}",
            [*(() if is_single else _processor(found)), *_of_processors(found, said)],
        )
        for system, found in by_system.items()
    ]
    limits = [
        line
        for system, found in by_system.items()
        if is_single
        for line in (*_processor(found), f"depends_on :{system}")
    ]
    return Limits(tuple(limits), tuple(block for block in blocks if block))


def _of_processors(
    sources: Sequence[Source], said: Callable[[Source], Iterable[str]]
) -> tuple[str, ...]:
    return tuple(
        line
        for source in sources
        for line in _block(f"on_{source.names.processor}", tuple(said(source)))
    )


def _minimum_os(source: Source) -> Iterator[str]:
    binaries = source.platform.binaries
    if isinstance(binaries, MachO):
        name = MACOS_NAMES.get(binaries.minimum_os.partition(".")[0])
        if name is not None:
            yield f"depends_on macos: {name}"


def _further_address(source: Source, top: Source) -> tuple[str, ...]:
    return () if source is top else _address(source)


def _address(source: Source) -> tuple[str, ...]:
    return (f"url {ruby_string(source.url)}", f"sha256 {ruby_string(source.artifact.sha256)}")


def _block(name: str, lines: Sequence[str]) -> tuple[str, ...]:
    return (f"{name} do", *indented(lines), "end") if lines else ()
