"""Pages for people: a list of products, and of each product its releases and newest nightlies.

They show what indexes do not: staged releases, and why one was yanked. Addresses of files are
relative, so that a copy of the store on a disk can be read too; those of commands are not.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from pipeline.model import naming
from pipeline.model.artifacts import Artifact
from pipeline.model.configs import Fingerprint
from pipeline.model.ledger import KEPT_WHOLE, Release, nightly_order
from pipeline.publish.projections.checksums import HTML_PAGE, RST_PAGE
from pipeline.publish.projections.documents import HTML_TYPE, text_document
from pipeline.publish.projections.latest import LATEST
from pipeline.publish.projections.selection import (
    announced_on,
    newest_finals,
    newest_first,
    newest_nightlies,
)
from pipeline.publish.projections.yanked import YANKED_LIST
from pipeline.publish.view import Document, View
from pipeline.templates import rendered

INDEXES: Final = (
    (naming.VERSIONS_INDEX, "every release, in the form of upstream's list"),
    (naming.UV_INDEX, "download metadata for uv"),
    (LATEST, "the newest release and nightly of each interpreter"),
    (YANKED_LIST, "releases that were taken back, and why"),
    (HTML_PAGE, "all checksums, as a page"),
    (RST_PAGE, "all checksums, as text"),
)
THOUSAND: Final = 1000


@dataclass(frozen=True, kw_only=True)
class FileRow:
    """A file of a release, as a row of its table; ``platform`` is empty for common files."""

    filename: str
    link: str
    platform: str
    size: str
    sha256: str


@dataclass(frozen=True, kw_only=True)
class ReleaseSection:
    """A release on a page. ``number`` is a nightly's; ``yanked_on`` and ``reason`` of a yank."""

    name: str
    interpreter: str
    interpreter_version: str
    language_version: str
    number: int | None
    date: str
    revision: str
    is_staged: bool
    yanked_on: str | None
    reason: str | None
    files: tuple[FileRow, ...]
    checksums: str
    signature: str


@dataclass(frozen=True, kw_only=True)
class Newest:
    """What a product's interpreter has to offer; None where there is nothing."""

    product: str
    interpreter: str
    summary: str
    release: ReleaseSection | None
    nightly: ReleaseSection | None


@dataclass(frozen=True, kw_only=True)
class Example:
    """A file whose check the page shows, below its release's address."""

    address: str
    filename: str


def pages(view: View) -> dict[str, Document]:
    """Return the page of each product, and the one that lists the products."""
    if not view.products:
        return {}
    newest = [row for product in view.products for row in _newest(view, product)]
    top = rendered("pages/top.html.jinja", {"products": view.products, "newest": newest})
    found = {naming.PAGE_NAME: text_document(top, HTML_TYPE)}
    for product in view.products:
        page = text_document(_product_page(view, product), HTML_TYPE)
        found[f"{product}/{naming.PAGE_NAME}"] = page
    return found


def readable_size(size: int) -> str:
    """Return a size in bytes for people: ``31.9 MB``."""
    if size < THOUSAND:
        return f"{size} bytes"
    if size < THOUSAND**2:
        return f"{size / THOUSAND:.1f} kB"
    return f"{size / THOUSAND**2:.1f} MB"


def readable_fingerprint(fingerprint: Fingerprint) -> str:
    """Return a fingerprint as GnuPG shows it, in groups of four digits."""
    return " ".join(fingerprint[start : start + 4] for start in range(0, len(fingerprint), 4))


def _product_page(view: View, product: str) -> str:
    there = [item for item in view.state.releases if _has_files(item, product)]
    releases = newest_first(item for item in there if item.published.channel == "release")
    nightlies = _newest_by_number(item for item in there if item.published.channel == "nightly")
    values = {
        "product": product,
        "newest": list(_newest(view, product)),
        "releases": [_section(item) for item in releases],
        "nightlies": {name: list(map(_section, found)) for name, found in nightlies.items()},
        "indexes": INDEXES,
        "fingerprints": _fingerprints(there),
        "example": _example(view, product),
        "checksums": naming.CHECKSUMS_NAME,
        "signature": naming.SIGNATURE_NAME,
        "public_key": naming.PUBLIC_KEY_NAME,
    }
    return rendered("pages/product.html.jinja", values)


def _has_files(release: Release, product: str) -> bool:
    event = release.published
    return event.product == product and release.pruned is None and bool(event.files)


def _newest_by_number(nightlies: Iterable[Release]) -> dict[str, list[Release]]:
    """Return the newest nightlies of each interpreter, the newest first."""
    ordered = sorted(nightlies, key=lambda item: nightly_order(item.published), reverse=True)
    found: dict[str, list[Release]] = {}
    for item in ordered:
        found.setdefault(item.published.interpreter, []).append(item)
    return {name: found[name][:KEPT_WHOLE] for name in sorted(found)}


def _newest(view: View, product: str) -> Iterator[Newest]:
    finals, nightlies = newest_finals(view, product), newest_nightlies(view, product)
    for name in sorted({*finals, *nightlies}):
        config = view.interpreters.get(name)
        final, nightly = finals.get(name), nightlies.get(name)
        yield Newest(
            product=product,
            interpreter=name,
            summary="" if config is None else config.summary,
            release=None if final is None else _section(final),
            nightly=None if nightly is None else _section(nightly),
        )


def _section(release: Release) -> ReleaseSection:
    event, yank = release.published, release.yanked
    return ReleaseSection(
        name=event.release,
        interpreter=event.interpreter,
        interpreter_version=str(event.interpreter_version),
        language_version=event.language_version,
        number=event.source.number if event.channel == "nightly" else None,
        date=announced_on(release),
        revision=event.source.revision,
        is_staged=not release.is_announced,
        yanked_on=None if yank is None else f"{yank.at:%Y-%m-%d}",
        reason=None if yank is None else yank.reason,
        files=tuple(_row(event.release, artifact) for artifact in _by_name(event.files)),
        checksums=f"{event.release}/{naming.CHECKSUMS_NAME}",
        signature=f"{event.release}/{naming.SIGNATURE_NAME}",
    )


def _by_name(files: Iterable[Artifact]) -> list[Artifact]:
    return sorted(files, key=lambda artifact: artifact.filename)


def _row(release: str, artifact: Artifact) -> FileRow:
    return FileRow(
        filename=artifact.filename,
        link=f"{release}/{artifact.filename}",
        platform=artifact.platform or "",
        size=readable_size(artifact.size),
        sha256=artifact.sha256,
    )


def _fingerprints(releases: Iterable[Release]) -> list[str]:
    found = {item.published.fingerprint for item in releases}
    return [readable_fingerprint(fingerprint) for fingerprint in sorted(found)]


def _example(view: View, product: str) -> Example | None:
    """Return an archive that is offered, the newest release's if there is one."""
    offered = (
        *newest_first(newest_finals(view, product).values()),
        *newest_nightlies(view, product).values(),
    )
    for item in offered:
        for artifact, _ in view.archives(item.published):
            address = view.url(item.published, artifact.filename).rpartition("/")[0]
            return Example(address=address, filename=artifact.filename)
    return None
