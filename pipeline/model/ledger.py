"""The ledger: the append-only list of events that says which releases exist.

A release exists when its event is here; every index is a pure function of the events.
"""

from datetime import datetime
from typing import Annotated, Literal

from pydantic import Field

from pipeline.model.artifacts import Artifact
from pipeline.model.base import FileName, Model, Name, Sha256
from pipeline.model.configs import Channel
from pipeline.model.records import Revision
from pipeline.model.versions import VersionField


class Event(Model):
    """A release was published: by whom and when, what it is, and its files with their digests.

    ``sequence`` counts events from 1 without a gap.
    """

    sequence: Annotated[int, Field(ge=1)]
    event: Literal["published"]
    at: datetime
    by: str
    channel: Channel
    product: Name
    release: FileName
    interpreter: Name
    implementation: Name
    interpreter_version: VersionField
    language_version: str
    stable: bool
    source: Revision
    manifest_sha256: Sha256
    fingerprint: str
    files: tuple[Artifact, ...]


class Ledger(Model):
    """Every event so far, in order."""

    schema_version: Literal[1] = Field(default=1, alias="schema")
    events: tuple[Event, ...] = ()

    def published(self, product: str, release: str) -> Event | None:
        """Return the event that published *release*, or None."""
        for event in self.events:
            if (event.product, event.release) == (product, release):
                return event
        return None
