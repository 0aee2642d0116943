"""Tags of images, as Docker's official images of PyPy have them. Pure.

Of a final release: ``3.11-7.3.23`` and, with a variant and a suite, ``3.11-7.3.23-slim-bookworm``
are *exact* and stand for one index for ever; ``3.11-7.3``, ``3.11-7``, ``3.11``, ``3-7.3.23``,
``3``, ``latest``, ``slim`` and the like move to the newest line, and there to the newest version.
A candidate has exact tags only. A nightly has ``3.11-nightly`` and one with its day, number and
revision. What is newest is decided by versions, so that a backport moves no tag of a newer line.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from pipeline.distribute.image_index import (
    NIGHTLY,
    ImageGroup,
    exact_name,
    joined,
    release_indexes,
    suffixes,
)
from pipeline.model.configs import InterpreterConfig
from pipeline.model.ledger import Published, State, nightly_order, version_order
from pipeline.model.platforms import Platform
from pipeline.model.versions import InterpreterVersion, numbers


class TagName(NamedTuple):
    """A tag, and whether it stands for one index for ever."""

    tag: str
    is_exact: bool


@dataclass(frozen=True, kw_only=True)
class ImageTag:
    """What a tag is to lead to: the bytes of an image index."""

    index: bytes
    is_exact: bool


@dataclass(frozen=True, kw_only=True)
class ImageTags:
    """The tags of one repository: those that there are to be, and those that could have been.

    ``former`` are the tags of every release with images, ``nightlies`` begin the tags of others of
    which the ledger has the name only. Tags that are none of these are other people's.
    """

    wanted: Mapping[str, ImageTag]
    former: frozenset[str]
    nightlies: frozenset[str]

    def superfluous(self, present: frozenset[str]) -> tuple[str, ...]:
        """Return which of the *present* tags are ours and should not be there, sorted."""
        return tuple(sorted(tag for tag in present - self.wanted.keys() if self._is_ours(tag)))

    def _is_ours(self, tag: str) -> bool:
        return tag in self.former or any(
            tag == name or tag.startswith(f"{name}-") for name in self.nightlies
        )


_Rank = tuple[tuple[int, ...], tuple[int, int], tuple[InterpreterVersion, tuple[int, ...], str]]


@dataclass(frozen=True, kw_only=True)
class _Offer:
    rank: _Rank
    tag: ImageTag


def wanted_tags(
    state: State,
    interpreters: Mapping[str, InterpreterConfig],
    platforms: Mapping[str, Platform],
) -> dict[str, ImageTags]:
    """Return the tags of each repository of images, by its name, sorted.

    Raises:
        UnknownNameError: an image is for a platform that left the table.
    """
    offers: dict[str, dict[str, _Offer]] = {}
    for item in state.releases:
        if item.is_offered:
            for image, name, offer in _offers(item.published, platforms):
                known = offers.setdefault(image, {}).get(name)
                if known is None or known.rank < offer.rank:
                    offers[image][name] = offer
    former, nightlies = _former(state), _old_nightlies(state, interpreters)
    return {
        image: ImageTags(
            wanted={name: offer.tag for name, offer in sorted(offers.get(image, {}).items())},
            former=former.get(image, frozenset()),
            nightlies=nightlies.get(image, frozenset()),
        )
        for image in sorted({*offers, *former, *nightlies})
    }


def tag_names(event: Published, group: ImageGroup) -> Iterator[TagName]:
    """Yield the tags that the images of a release may have."""
    for suffix in suffixes(event, group):
        yield TagName(joined(group.line, exact_name(event), suffix), is_exact=True)
        for stem in _moving_stems(event, group.line):
            yield TagName(joined(stem, suffix) or "latest", is_exact=False)


def _moving_stems(event: Published, line: str) -> Iterator[str]:
    if event.channel == "nightly":
        yield joined(line, NIGHTLY)
    elif event.stable:
        exact = joined(line, exact_name(event))
        for start in (*_beginnings(line), ""):
            versions = (*_beginnings(exact_name(event)), "") if start else ("",)
            yield from (stem for item in versions if (stem := joined(start, item)) != exact)


def _beginnings(version: str) -> tuple[str, ...]:
    """Return a version and what it begins with: ``7.3.23``, ``7.3``, ``7``."""
    parts = version.split(".")
    return tuple(".".join(parts[:count]) for count in range(len(parts), 0, -1))


def _offers(
    event: Published, platforms: Mapping[str, Platform]
) -> Iterator[tuple[str, str, _Offer]]:
    for group, index in release_indexes(event, platforms).items():
        rank = _rank(event, group.line)
        for name in tag_names(event, group):
            tag = ImageTag(index=index, is_exact=name.is_exact)
            yield group.image, name.tag, _Offer(rank=rank, tag=tag)


def _rank(event: Published, line: str) -> _Rank:
    nightly = nightly_order(event) if event.channel == "nightly" else (0, 0)
    return numbers(line), nightly, version_order(event)


def _former(state: State) -> dict[str, frozenset[str]]:
    found: dict[str, set[str]] = {}
    for item in state.releases:
        event = item.published
        for image in event.images:
            group = ImageGroup(image.image, image.line, image.variant, image.suite)
            names = (name.tag for name in tag_names(event, group))
            found.setdefault(image.image, set()).update(names)
    return {image: frozenset(names) for image, names in found.items()}


def _old_nightlies(
    state: State, interpreters: Mapping[str, InterpreterConfig]
) -> dict[str, frozenset[str]]:
    """Return what begins the tags of nightlies whose images the ledger has forgotten."""
    found: dict[str, set[str]] = {}
    for item in state.releases:
        event = item.published
        config = interpreters.get(event.interpreter)
        if event.channel == "nightly" and not event.images and config and config.image:
            name = joined(config.image.line, exact_name(event))
            found.setdefault(config.image.image, set()).add(name)
    return {image: frozenset(names) for image, names in found.items()}
