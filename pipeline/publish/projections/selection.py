"""Which releases a projection speaks of, and in which order."""

from collections.abc import Callable, Iterable
from typing import Final

from pipeline.model.ledger import (
    Published,
    Release,
    newest_final,
    newest_nightly,
    version_order,
)
from pipeline.publish.view import View

KNOWN_IMPLEMENTATIONS: Final = frozenset({"pypy"})
"""What uv, pyenv, cibuildwheel, manylinux and docker-library know of ours."""


def newest_first(releases: Iterable[Release]) -> list[Release]:
    """Order by version, never by when something was published: a backport is not the newest."""
    return sorted(releases, key=lambda item: version_order(item.published), reverse=True)


def offered_releases(view: View, product: str) -> list[Release]:
    """Return the releases that clients may be led to, candidates too, newest first."""
    return newest_first(
        item
        for item in view.releases(product)
        if item.is_offered and item.published.channel == "release"
    )


def offered_finals(view: View, product: str) -> list[Release]:
    """Return the final releases that clients may be led to, newest first."""
    return [item for item in offered_releases(view, product) if item.published.stable]


def newest_finals(view: View, product: str) -> dict[str, Release]:
    """Return the newest final release of each interpreter that has one, by interpreter."""
    return _newest(view, product, newest_final)


def newest_nightlies(view: View, product: str) -> dict[str, Release]:
    """Return the newest good nightly of each interpreter that has one, by interpreter."""
    return _newest(view, product, newest_nightly)


def _newest(
    view: View, product: str, choose: Callable[[Iterable[Release]], Release | None]
) -> dict[str, Release]:
    by_interpreter: dict[str, list[Release]] = {}
    for item in view.releases(product):
        by_interpreter.setdefault(item.published.interpreter, []).append(item)
    newest = ((name, choose(by_interpreter[name])) for name in sorted(by_interpreter))
    return {name: item for name, item in newest if item is not None}


def products_with(view: View, implementations: frozenset[str]) -> list[str]:
    """Return the products that have, or had, a release of one of *implementations*, sorted."""
    events = (item.published for item in view.state.releases)
    return sorted({event.product for event in events if event.implementation in implementations})


def announced_on(release: Release) -> str:
    """Return the day on which a release was offered first: ``2026-11-21``."""
    event = release.promoted or release.published
    return f"{event.at:%Y-%m-%d}"


def glibc_floors(event: Published) -> dict[str, str]:
    """Return the oldest glibc that a release runs with, by platform that has glibc."""
    return {
        item.platform: item.glibc_floor for item in event.platforms if item.glibc_floor is not None
    }


def python_version(event: Published) -> str:
    """Return the language version that names a line of releases: ``3.11``."""
    return ".".join(event.language_version.split(".")[:2])
