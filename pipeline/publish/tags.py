"""Makes the tags of a registry what the ledger says.

Tags are a projection like any index, so everything may be done again at any time and repairs
whatever is there. What they should be is decided by
:mod:`pipeline.publish.projections.image_tags`; that the images are there is the business of
:mod:`pipeline.publish.images`. Tags that no release of ours could have are left alone.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import Final

from pipeline.distribute.oci import ImageIndex, digest_of, read_document
from pipeline.effects.registry import ImageRegistry
from pipeline.effects.store import Store
from pipeline.errors import ConflictError, PipelineError, UncertainError
from pipeline.model.configs import Config
from pipeline.model.images import IMAGE_INDEX_TYPE
from pipeline.model.naming import LEDGER_KEY
from pipeline.publish.images import PARALLEL
from pipeline.publish.ledger import Read, is_still, pause_before_next, read_ledger
from pipeline.publish.parallel import each
from pipeline.publish.projections.image_tags import ImageTag, ImageTags, wanted_tags
from pipeline.sign.notary import Notary

ATTEMPTS: Final = 20


@dataclass(frozen=True, kw_only=True)
class TagChanges:
    """Addresses of tags: those that were changed, and those that could not be taken away.

    Not every registry lets anybody take away tags by its API. *repaired* are exact tags, changed
    too, that led elsewhere: such a tag never moves, so somebody else pushed it.
    """

    changed: tuple[str, ...]
    left: tuple[str, ...]
    repaired: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class _Moved:
    """What was done so far, in order: addresses of all tags that changed, and of those repaired."""

    changed: dict[str, None] = field(default_factory=dict)
    repaired: dict[str, None] = field(default_factory=dict)


def move_tags(
    config: Config,
    registry: ImageRegistry,
    store: Store,
    notary: Notary,
    pause: Callable[[float], None] = time.sleep,
) -> TagChanges:
    """Make the registry's tags what the *store*'s ledger says; return what had to change.

    Exact tags of all images come first, then those that move, at last those that should not be
    there go. The ledger is read again at the end, since a registry lets nobody replace a tag on a
    condition: of two who move it the one that knew less looks again, so no tag stays behind.

    Raises:
        ConflictError: others kept publishing; run again.
        UncertainError: the store kept losing its answers; run again.
        DestinationError: the registry refuses; the other tags are done.
    """
    moved = _Moved()
    lost: UncertainError | None = None
    for attempt in range(ATTEMPTS):
        try:
            read, lost = read_ledger(store, notary), None
            mover = _Mover(registry=registry, is_current=partial(is_still, store, read))
            left = mover.move_all(_tags(config, read), moved)
            if is_still(store, read):
                return TagChanges(
                    changed=tuple(moved.changed), left=left, repaired=tuple(moved.repaired)
                )
        except UncertainError as error:
            lost = error
        except ConflictError:
            pass
        pause(pause_before_next(attempt))
    if lost is not None:
        raise lost
    msg = (
        f"{registry.address}: releases came all the time while tags were moved. Run: "
        "python -m pipeline reconcile"
    )
    raise ConflictError(msg)


def stale_tags(config: Config, registry: ImageRegistry, store: Store, notary: Notary) -> list[str]:
    """Return the addresses of tags that are not as the ledger says; changes nothing.

    A tag is so too whose images the registry lost: the command that released them, run again,
    pushes them.
    """
    tags = _tags(config, read_ledger(store, notary))
    return [address for image in tags for address in _stale(registry, image, tags[image])]


def _tags(config: Config, read: Read) -> dict[str, ImageTags]:
    return wanted_tags(read.state, config.interpreters, config.platforms)


def _stale(registry: ImageRegistry, image: str, tags: ImageTags) -> Iterator[str]:
    lost = _lost_images(registry, image, tags)

    def is_right(tag: str) -> bool:
        index = tags.wanted[tag].index
        is_whole = lost.isdisjoint(_images_of(index))
        return is_whole and registry.digest_of(image, tag) == digest_of(index)

    verdicts = each(PARALLEL, is_right, tags.wanted)
    wrong = [tag for tag, right in zip(tags.wanted, verdicts, strict=True) if not right]
    present = frozenset(registry.tags(image))
    for tag in (*wrong, *tags.superfluous(present)):
        yield f"{registry.address}/{image}:{tag}"


def _lost_images(registry: ImageRegistry, image: str, tags: ImageTags) -> frozenset[str]:
    """Return the digests of images that tags are to lead to, and that are not there."""
    indexes = {item.index for item in tags.wanted.values()}
    digests = sorted({digest for index in indexes for digest in _images_of(index)})
    found = each(PARALLEL, lambda digest: registry.digest_of(image, digest), digests)
    return frozenset(item for item, there in zip(digests, found, strict=True) if there is None)


def _images_of(index: bytes) -> frozenset[str]:
    """Return the digests of the images of an index."""
    manifests = read_document(ImageIndex, index, where="an index of ours").manifests
    return frozenset(item.digest for item in manifests)


@dataclass(frozen=True, kw_only=True)
class _Mover:
    """Moves tags as long as what it knows of the ledger *is_current*.

    Failures are gathered: what is refused does not keep other tags from being done.
    """

    registry: ImageRegistry
    is_current: Callable[[], bool]

    def move_all(self, tags: Mapping[str, ImageTags], moved: _Moved) -> tuple[str, ...]:
        """Move every tag, as *moved* says then; return those that cannot be taken away.

        Raises:
            PipelineError: the first failure of all, or that another knows more now.
        """
        failures: list[PipelineError] = []
        for is_exact in (True, False):
            for image, those in tags.items():
                chosen = {
                    tag: item for tag, item in those.wanted.items() if item.is_exact == is_exact
                }
                self._write(image, chosen, moved, failures)
        left: list[str] = []
        for image, those in tags.items():
            left += self._remove_superfluous(image, those, moved, failures)
        conflict = (item for item in failures if isinstance(item, ConflictError))
        if failures:
            raise next(conflict, failures[0])
        return tuple(left)

    def _write(
        self,
        image: str,
        tags: Mapping[str, ImageTag],
        moved: _Moved,
        failures: list[PipelineError],
    ) -> None:
        with ThreadPoolExecutor(PARALLEL) as pool:
            futures = {
                tag: pool.submit(self._write_one, image, tag, item) for tag, item in tags.items()
            }
        for tag, future in futures.items():
            try:
                before = future.result()
            except PipelineError as error:
                failures.append(error)
                continue
            if before != digest_of(tags[tag].index):
                moved.changed[self._address(image, tag)] = None
                if tags[tag].is_exact and before is not None:
                    moved.repaired[self._address(image, tag)] = None

    def _write_one(self, image: str, tag: str, item: ImageTag) -> str | None:
        """Make a tag lead where it should; return the digest that it led to before, or None."""
        before = self.registry.digest_of(image, tag)
        if before == digest_of(item.index):
            return before
        # Just before a tag moves, so that who knows less seldom overwrites who knows more.
        if not item.is_exact:
            self._require_current()
        self.registry.put_manifest(image, tag, item.index, IMAGE_INDEX_TYPE)
        return before

    def _remove_superfluous(
        self, image: str, tags: ImageTags, moved: _Moved, failures: list[PipelineError]
    ) -> Iterator[str]:
        """Take away what should not be there; yield the addresses of what cannot be."""
        try:
            present = frozenset(self.registry.tags(image))
        except PipelineError as error:
            failures.append(error)
            return
        needed = {digest_of(item.index) for item in tags.wanted.values()}
        for tag in tags.superfluous(present):
            try:
                self._require_current()
                is_gone = self._removed(image, tag, needed)
            except PipelineError as error:
                failures.append(error)
                continue
            if is_gone:
                moved.changed[self._address(image, tag)] = None
            else:
                yield self._address(image, tag)

    def _removed(self, image: str, tag: str, needed: set[str]) -> bool:
        """Take away a tag; where a registry has no such request, the index that it leads to."""
        if self.registry.remove_manifest(image, tag):
            return True
        digest = self.registry.digest_of(image, tag)
        if digest is None:
            return True  # it went with another tag of the same index
        return digest not in needed and self.registry.remove_manifest(image, digest)

    def _require_current(self) -> None:
        if not self.is_current():
            msg = f"{LEDGER_KEY}: another appended to it. Run again."
            raise ConflictError(msg)

    def _address(self, image: str, tag: str) -> str:
        return f"{self.registry.address}/{image}:{tag}"
