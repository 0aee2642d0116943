"""``checksums.rst`` and ``checksums.html``: every digest, in the form that is scraped today.

Of the text uv's generator takes lines of blanks, 64 digits, blanks and a name up to the line's end,
so that no blank may follow; of the page docker-library takes 64 digits, two blanks and a name.
A block has the title ``name sha256::``; its lines begin with four blanks.
"""

from collections.abc import Iterator
from typing import Final, NamedTuple

from pipeline.model import naming
from pipeline.model.artifacts import Artifact
from pipeline.model.ledger import Published
from pipeline.publish.projections.documents import HTML_TYPE, text_document
from pipeline.publish.projections.selection import newest_first
from pipeline.publish.view import Document, View
from pipeline.templates import rendered

TITLE: Final = "Checksums"
RST_PAGE: Final = "checksums.rst"
HTML_PAGE: Final = "checksums.html"
# They have the same name in every release, so a flat list cannot say whose they are.
UNNAMED: Final = frozenset({naming.CHECKSUMS_NAME, naming.SIGNATURE_NAME, naming.PUBLIC_KEY_NAME})


class Block(NamedTuple):
    """The files of one release, sorted by name."""

    release: str
    files: tuple[Artifact, ...]


def checksum_pages(view: View) -> dict[str, Document]:
    """Return both pages of each product."""
    found = {}
    for product in view.products:
        blocks = checksum_blocks(view, product)
        found[f"{product}/{RST_PAGE}"] = text_document(_rst(blocks))
        html = rendered("pages/checksums.html.jinja", {"product": product, "blocks": blocks})
        found[f"{product}/{HTML_PAGE}"] = text_document(html, HTML_TYPE)
    return found


def checksum_blocks(view: View, product: str) -> tuple[Block, ...]:
    """Return every announced release, newest first; yanked ones too, since their files stay."""
    releases = newest_first(
        item for item in view.releases(product) if item.published.channel == "release"
    )
    return tuple(Block(item.name, _files(item.published)) for item in releases)


def _files(event: Published) -> tuple[Artifact, ...]:
    named = (artifact for artifact in event.files if artifact.filename not in UNNAMED)
    return tuple(sorted(named, key=lambda artifact: artifact.filename))


def _rst(blocks: tuple[Block, ...]) -> str:
    return "\n".join((TITLE, "=" * len(TITLE), "", *_lines(blocks)))


def _lines(blocks: tuple[Block, ...]) -> Iterator[str]:
    for block in blocks:
        yield f"{block.release} sha256::"
        yield ""
        yield from (f"    {artifact.sha256}  {artifact.filename}" for artifact in block.files)
        yield ""
