"""Where a channel is published: its store first, then the mirrors."""

from dataclasses import dataclass

from pipeline.effects.github import Releases
from pipeline.effects.registry import ImageRegistry
from pipeline.effects.store import Store
from pipeline.model.configs import ChannelConfig
from pipeline.sign.notary import Notary


@dataclass(frozen=True, kw_only=True)
class Site:
    """A store, and the address under which the public sees it."""

    store: Store
    base_url: str


@dataclass(frozen=True, kw_only=True)
class OpenChannel:
    """A channel whose stores are open, and who vouches for its ledger.

    The first of its sites has the ledger that counts; the others are mirrors and have copies.
    ``github`` is where releases are copied to, ``registry`` where images are, if anywhere.
    """

    config: ChannelConfig
    sites: tuple[Site, ...]
    notary: Notary
    github: Releases | None = None
    registry: ImageRegistry | None = None

    @property
    def store(self) -> Store:
        """The store whose ledger counts."""
        return self.sites[0].store
