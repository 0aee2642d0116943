"""Where a formula's archives are, as the stanzas of Homebrew's language that say it. Pure."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Final, NamedTuple

from pipeline.model.artifacts import Artifact
from pipeline.model.ledger import Published
from pipeline.model.platforms import HomebrewNames, MachO, Platform
from pipeline.model.versions import numbers
from pipeline.publish.view import View
from pipeline.templates import ruby_string

SYSTEMS: Final = ("macos", "linux")
PROCESSORS: Final = {"arm": ":arm64", "intel": ":x86_64"}
"""Homebrew's names of processors: in blocks, and in what a formula depends on."""
# Homebrew's names of macOS versions, as its MacOSVersion has them.
MACOS_NAMES: Final = {
    "10.15": ":catalina",
    "11": ":big_sur",
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


class Stanzas(NamedTuple):
    """Lines of a formula.

    ``top`` is an address for all systems, ``limits`` what the formula depends on in return;
    ``blocks`` are for single systems or processors.
    """

    top: tuple[str, ...]
    limits: tuple[str, ...]
    blocks: tuple[tuple[str, ...], ...]


def formula_sources(view: View, event: Published) -> tuple[Source, ...]:
    """Return the archives that a formula can have, in the order of its blocks."""
    return tuple(sorted(_found(view, event), key=_order))


def stanzas(sources: Sequence[Source]) -> Stanzas:
    """Return what says where *sources*, one at least, are.

    A block that would be the only one is left out, and what it would have said is a limit.
    """
    by_system = {
        system: found
        for system in SYSTEMS
        if (found := [source for source in sources if source.names.os == system])
    }
    each = {system: _of_system(found) for system, found in by_system.items()}
    if len(each) > 1:
        blocks = (_block(f"on_{system}", _joined(item)) for system, item in each.items())
        return Stanzas((), (), tuple(blocks))
    ((system, single),) = each.items()
    own = () if any("macos:" in line for line in single.limits) else (f"depends_on :{system}",)
    return single._replace(limits=(*single.limits, *own))


def indented(lines: Iterable[str], levels: int) -> tuple[str, ...]:
    """Return *lines* inside of so many blocks."""
    return tuple(f"{'  ' * levels}{line}" if line else "" for line in lines)


def _found(view: View, event: Published) -> Iterator[Source]:
    for artifact, platform in view.archives(event):
        if (names := platform.downstream.homebrew) is not None:
            yield Source(names, artifact, platform, view.url(event, artifact.filename))


def _order(source: Source) -> tuple[int, str]:
    return SYSTEMS.index(source.names.os), source.names.processor


def _of_system(sources: Sequence[Source]) -> Stanzas:
    limits = tuple(_minimum_os(sources))
    if len(sources) == 1:
        (source,) = sources
        processor = f"depends_on arch: {PROCESSORS[source.names.processor]}"
        return Stanzas(_address(source), (processor, *limits), ())
    blocks = (_block(f"on_{source.names.processor}", _address(source)) for source in sources)
    return Stanzas((), limits, tuple(blocks))


def _minimum_os(sources: Sequence[Source]) -> Iterator[str]:
    """Yield what a formula asks of macOS: of several archives the newest minimum."""
    binaries = [source.platform.binaries for source in sources]
    minima = [item.minimum_os for item in binaries if isinstance(item, MachO)]
    newest = max(minima, key=numbers, default="")
    name = MACOS_NAMES.get(newest) or MACOS_NAMES.get(newest.partition(".")[0])
    if name is not None:
        yield f"depends_on macos: {name}"


def _address(source: Source) -> tuple[str, ...]:
    return (f"url {ruby_string(source.url)}", f"sha256 {ruby_string(source.artifact.sha256)}")


def _joined(item: Stanzas) -> tuple[str, ...]:
    """Return the lines of one system's block; a blank one between blocks."""
    lines = [*item.top]
    for part in ((item.limits,) if item.limits else ()) + item.blocks:
        lines += [*([""] if lines else []), *part]
    return tuple(lines)


def _block(name: str, lines: Iterable[str]) -> tuple[str, ...]:
    return (f"{name} do", *indented(lines, 1), "end")
