"""Makes good what an audit found: leftovers go, files that one site lacks come from another."""

import tempfile
from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pipeline.effects.context import Context
from pipeline.effects.public import Receive
from pipeline.errors import DownloadError
from pipeline.model.ledger import State
from pipeline.publish.audit import Expected, Fault, Finding
from pipeline.publish.prune import removable_keys, remove_keys
from pipeline.publish.sites import OpenChannel, Site

LARGEST_SEALED: Final = 1 << 30


@dataclass(frozen=True, kw_only=True)
class _Reader:
    site: Site
    receive: Receive

    def fetch(self, key: str, expected: Expected, copy: Path) -> bool:
        """Fetch a file as readers do; whether it is the one that is wanted."""
        limit = LARGEST_SEALED if expected.size is None else expected.size
        try:
            return self.receive(key, copy, limit).sha256 == expected.sha256
        except DownloadError:
            return False


def repair(
    ctx: Context, channel: OpenChannel, state: State, findings: Iterable[Finding]
) -> tuple[Finding, ...]:
    """Repair what can be; return what was. What no event knows is left alone."""
    done = []
    with ExitStack() as stack:
        readers = [
            _Reader(
                site=site,
                receive=stack.enter_context(ctx.public.reader(site.store, site.base_url)),
            )
            for site in channel.sites
        ]
        for found in findings:
            if found.fault is Fault.LEFT_BEHIND:
                _remove(channel, state, found)
                done.append(found)
            elif found.expected is not None and _restore(readers, found, found.expected):
                done.append(found)
    return tuple(done)


def _remove(channel: OpenChannel, state: State, found: Finding) -> None:
    product, release, _ = found.key.split("/", 2)
    keys = removable_keys(state.find(product, release), {found.key: 0})
    remove_keys(found.site.store, keys, channel.config.parallel)


def _restore(readers: Iterable[_Reader], found: Finding, expected: Expected) -> bool:
    """Put the right bytes in place, if another site has them; wrong ones go only then."""
    with tempfile.TemporaryDirectory(prefix="rpp-") as temporary:
        copy = Path(temporary, "copy")
        others = (reader for reader in readers if reader.site is not found.site)
        if not any(reader.fetch(found.key, expected, copy) for reader in others):
            return False
        if found.fault is not Fault.MISSING:
            found.site.store.remove(found.key)
        return found.site.store.put_new(found.key, copy, content_type=expected.content_type)
