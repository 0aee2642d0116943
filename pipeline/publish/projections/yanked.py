"""``yanked.json``: which releases were taken back, when and why.

The releases' files stay where they were, so that a lock file that names one still works; this is
where a client that has one installed can learn that it should not.
"""

from datetime import datetime
from typing import Final, Literal

from pydantic import Field

from pipeline.model.base import Model
from pipeline.model.configs import Channel
from pipeline.model.ledger import Published, Yanked
from pipeline.model.versions import VersionField
from pipeline.publish.projections.documents import json_document
from pipeline.publish.projections.selection import newest_first
from pipeline.publish.view import Document, View

YANKED_LIST: Final = "yanked.json"


class YankedRelease(Model):
    """A release that was taken back, at which time and for which ``reason``."""

    release: str
    channel: Channel
    interpreter: str
    interpreter_version: VersionField
    language_version: str
    yanked_at: datetime
    reason: str


class YankedList(Model):
    """What the file holds: newest versions first, nightlies last."""

    schema_version: Literal[1] = Field(default=1, alias="schema")
    releases: tuple[YankedRelease, ...]


def yanked_lists(view: View) -> dict[str, Document]:
    """Return ``yanked.json`` of each product."""
    return {
        f"{product}/{YANKED_LIST}": json_document(yanked_list(view, product))
        for product in view.products
    }


def yanked_list(view: View, product: str) -> YankedList:
    """Return the yanks that are in force."""
    releases = newest_first(view.releases(product))
    ordered = sorted(releases, key=lambda item: item.published.channel == "nightly")
    pairs = ((item.published, item.yanked) for item in ordered if item.yanked is not None)
    return YankedList(releases=tuple(_entry(event, yank) for event, yank in pairs))


def _entry(event: Published, yank: Yanked) -> YankedRelease:
    return YankedRelease(
        release=event.release,
        channel=event.channel,
        interpreter=event.interpreter,
        interpreter_version=event.interpreter_version,
        language_version=event.language_version,
        yanked_at=yank.at,
        reason=yank.reason,
    )
