"""The apt repository of a store: which packages are listed, and every file but for its times.

A component is a channel. It has, of each interpreter, the newest releases that are offered and have
packages, by the order of their versions: after a yank the one before is what apt installs. Of
component ``release`` only final ones: apt takes the highest version there is, so a candidate would
be an upgrade for everybody. The files of releases are the pool: nothing is copied.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from pipeline.distribute.apt import SuiteIndex, package_lists, package_stanza, sources_text
from pipeline.model import naming
from pipeline.model.artifacts import Artifact, ArtifactKind
from pipeline.model.configs import Channel
from pipeline.model.debian import AptConfig, BinaryPackage, DebianIndex
from pipeline.model.ledger import Published, Release, nightly_order, version_order
from pipeline.publish.projections.documents import TEXT_TYPE, text_document
from pipeline.publish.view import Document, View

COMPONENTS: Final[tuple[Channel, ...]] = ("release", "nightly")
ALL: Final = "all"
"""Debian's architecture of packages that are for every one."""
KEY_TYPE: Final = "application/pgp-keys"
LIST_TYPES: Final = {".gz": "application/gzip", ".xz": "application/x-xz"}


@dataclass(frozen=True, kw_only=True)
class AptFacts:
    """What a repository says beyond what is in the ledger.

    ``origin`` is who packages. ``public_keys`` is in ASCII armour, None for who does not know it.
    """

    config: AptConfig
    origin: str
    public_keys: bytes | None


@dataclass(frozen=True, kw_only=True)
class AptRepository:
    """A repository: its suites by name, and the files for users by store key."""

    suites: Mapping[str, SuiteIndex]
    sources: Mapping[str, Document]

    @property
    def by_hash(self) -> dict[str, Document]:
        """Every list under its digest, by store key; clients ask for them there."""
        return {
            suite_key(name, path): list_document(path, data)
            for name, suite in self.suites.items()
            for path, data in suite.by_hash.items()
        }

    @property
    def documents(self) -> dict[str, Document]:
        """Every list under its plain name, and the files for users, by store key."""
        lists = {
            suite_key(name, path): list_document(path, data)
            for name, suite in self.suites.items()
            for path, data in suite.lists.items()
        }
        return {**lists, **self.sources}


def suite_key(suite: str, path: str) -> str:
    """Return where in a store a suite's file is."""
    return f"{naming.DISTS_PREFIX}/{suite}/{path}"


def list_document(path: str, data: bytes) -> Document:
    """Return a list as a store serves it; by-hash names have no ending."""
    ending = path[path.rfind(".") :] if "." in path else ""
    return Document(data=data, content_type=LIST_TYPES.get(ending, TEXT_TYPE))


def index_artifact(event: Published) -> Artifact | None:
    """Return the release's file that lists its packages, if it has one."""
    found = (item for item in event.files if item.kind is ArtifactKind.DEBIAN_INDEX)
    return next(found, None)


def listed_releases(view: View, keep: int) -> dict[str, list[Release]]:
    """Return the releases whose packages each component has, newest first.

    Of each product and interpreter they are the *keep* newest.
    """
    return {
        component: [item for line in _lines(view, component).values() for item in line[:keep]]
        for component in COMPONENTS
    }


def apt_repository(
    view: View, facts: AptFacts, indexes: Mapping[str, DebianIndex]
) -> AptRepository:
    """Return the repository; *indexes* has the lists of packages by the digests of their files."""
    releases = listed_releases(view, facts.config.keep)
    packages = {
        component: [pair for item in items for pair in _packages(item.published, indexes)]
        for component, items in releases.items()
    }
    architectures = _architectures(view)
    suites = {
        suite: SuiteIndex(
            origin=facts.origin,
            suite=suite,
            description=f"Packages of {facts.origin} for {suite}",
            architectures=architectures,
            components=COMPONENTS,
            lists=dict(_lists(packages, suite, architectures)),
        )
        for suite in facts.config.suites
    }
    return AptRepository(suites=suites, sources=_sources(view, facts))


def _lines(view: View, component: Channel) -> dict[tuple[str, str], list[Release]]:
    """Return what a component may have, newest first, by product and interpreter."""
    found: dict[tuple[str, str], list[Release]] = {}
    for product in view.products:
        for item in view.releases(product):
            event = item.published
            if item.is_offered and _belongs(event, component):
                found.setdefault((product, event.interpreter), []).append(item)
    return {
        line: sorted(found[line], key=lambda item: _order(item.published), reverse=True)
        for line in sorted(found)
    }


def _belongs(event: Published, component: Channel) -> bool:
    is_good = event.stable or component == "nightly"
    return event.channel == component and is_good and index_artifact(event) is not None


def _order(event: Published) -> tuple[object, ...]:
    return nightly_order(event) if event.channel == "nightly" else version_order(event)


def _packages(
    event: Published, indexes: Mapping[str, DebianIndex]
) -> Iterator[tuple[BinaryPackage, str]]:
    """Yield each package of a release, and where it is from the store's root."""
    artifact = index_artifact(event)
    if artifact is None:
        return
    packages = indexes[artifact.sha256].packages
    for package in sorted(packages, key=lambda item: (item.name, item.architecture)):
        yield package, naming.store_key(event.product, event.release, package.filename)


def _lists(
    packages: Mapping[str, Sequence[tuple[BinaryPackage, str]]],
    suite: str,
    architectures: Sequence[str],
) -> Iterator[tuple[str, bytes]]:
    for component, pairs in packages.items():
        for architecture in architectures:
            stanzas = (
                package_stanza(package, place)
                for package, place in pairs
                if package.suite == suite and package.architecture in (architecture, ALL)
            )
            yield from package_lists(f"{component}/binary-{architecture}", stanzas).items()


def _architectures(view: View) -> tuple[str, ...]:
    """Return Debian's names of the architectures that there ever were packages for, sorted.

    A yank does not take one away, since apt warns about a repository that has not its own. Before
    there is any package they are all of the platform table.
    """
    known = {name: row.debian_arch for name, row in view.platforms.items() if row.debian_arch}
    packaged = {
        known[artifact.platform]
        for item in view.state.releases
        for artifact in item.published.files
        if artifact.kind is ArtifactKind.DEB and artifact.platform in known
    }
    return tuple(sorted(packaged or set(known.values())))


def _sources(view: View, facts: AptFacts) -> dict[str, Document]:
    """Return the files for users: of each suite a source with releases, and one with nightlies."""
    if facts.public_keys is None:
        return {}
    key = f"{naming.APT_PREFIX}/{naming.PUBLIC_KEY_NAME}"
    found = {key: Document(data=facts.public_keys, content_type=KEY_TYPE)}
    for suite in facts.config.suites:
        for ending, components in (("", COMPONENTS[:1]), ("-nightly", COMPONENTS)):
            text = sources_text(
                facts.origin, view.base_url, suite, components, facts.public_keys.decode("ascii")
            )
            found[f"{naming.APT_PREFIX}/{suite}{ending}.sources"] = text_document(text)
    return found
