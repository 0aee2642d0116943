"""What projections are made from, and what they are: both pure data."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from pipeline.config import known
from pipeline.model import naming
from pipeline.model.artifacts import INDEXED, Artifact
from pipeline.model.configs import InterpreterConfig
from pipeline.model.ledger import Published, Release, State
from pipeline.model.platforms import Platform


@dataclass(frozen=True, kw_only=True)
class Document:
    """An index: bytes that a store serves under the projection's key."""

    data: bytes
    content_type: str


@dataclass(frozen=True, kw_only=True)
class Pointer:
    """A key that leads to another."""

    target: str


Projection = Document | Pointer


@dataclass(frozen=True, kw_only=True)
class View:
    """What the ledger adds up to, and the tables that say what its names mean.

    ``base_url`` is the address under which the public sees the store that the indexes are for.
    """

    state: State
    platforms: Mapping[str, Platform]
    interpreters: Mapping[str, InterpreterConfig]
    base_url: str

    @property
    def products(self) -> tuple[str, ...]:
        """Every product that has a release, sorted."""
        return tuple(sorted({item.published.product for item in self.state.releases}))

    def releases(self, product: str) -> tuple[Release, ...]:
        """Return a product's releases that were announced and not pruned, yanked ones too.

        They are in the order of their publication.
        """
        return tuple(
            item
            for item in self.state.releases
            if item.published.product == product and item.is_announced
        )

    def archives(self, event: Published) -> Iterator[tuple[Artifact, Platform]]:
        """Yield the archives that indexes list: one a platform, in the format all clients read."""
        for artifact in event.files:
            if artifact.kind in INDEXED and artifact.platform is not None:
                where = f"{naming.LEDGER_KEY}: {event.release}"
                yield artifact, known("platform", artifact.platform, self.platforms, where=where)

    def url(self, event: Published, filename: str) -> str:
        """Return the address of a file of a release."""
        key = naming.store_key(event.product, event.release, filename)
        return naming.public_url(self.base_url, key)
