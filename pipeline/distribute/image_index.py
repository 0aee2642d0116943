"""Image indexes: one name for the images of a release for all platforms. Pure.

An index is made of the release's list of images alone, so it is the same bytes whenever it is made
again: before the release is announced, and after a yank is taken back.
"""

from collections.abc import Mapping
from typing import Final, NamedTuple

from pipeline.config import known
from pipeline.distribute.oci import Descriptor, OciPlatform, index_of
from pipeline.errors import ConfigError
from pipeline.model import naming
from pipeline.model.images import IMAGE_MANIFEST_TYPE, PublishedImage
from pipeline.model.ledger import Published
from pipeline.model.platforms import Platform
from pipeline.model.records import Manifest

VERSION: Final = "org.opencontainers.image.version"
REVISION: Final = "org.opencontainers.image.revision"
NIGHTLY: Final = "nightly"

ImageRelease = Manifest | Published
"""A release with its images: by its manifest before it is announced, by its event afterwards."""


class ImageGroup(NamedTuple):
    """Images that differ by their platform only."""

    image: str
    line: str
    variant: str
    suite: str

    def of(self, release: ImageRelease) -> tuple[PublishedImage, ...]:
        """Return the images of *release* that are of this group."""
        return tuple(item for item in release.images if group_of(item) == self)


def group_of(image: PublishedImage) -> ImageGroup:
    """Return the group of an image."""
    return ImageGroup(image.image, image.line, image.variant, image.suite)


def release_indexes(
    release: ImageRelease, platforms: Mapping[str, Platform]
) -> dict[ImageGroup, bytes]:
    """Return the index of each group of images, in the order of the release's list.

    Raises:
        UnknownNameError: an image is for a platform that left the table.
        ConfigError: an image is for a platform without containers.
    """
    annotations = {
        VERSION: str(release.interpreter_version),
        REVISION: release.source.revision,
    }
    groups = dict.fromkeys(group_of(item) for item in release.images)
    return {
        group: index_of(
            (_descriptor(item, platforms) for item in group.of(release)), annotations=annotations
        )
        for group in groups
    }


def exact_tag(release: ImageRelease, group: ImageGroup) -> str:
    """Return the tag that stands for one index for ever: ``3.11-7.3.23-slim-bookworm``.

    A nightly's is ``3.11-nightly-2026-11-25-188288-194f9f44b505-slim-bookworm``.
    """
    return joined(group.line, exact_name(release), suffixes(release, group)[0])


def exact_name(release: ImageRelease) -> str:
    """Return what a release is called within its line.

    ``7.3.23``, or as the release's own name ends: ``nightly-2026-11-25-188288-194f9f44b505``. The
    same revision made again on another day is another nightly, with other bytes perhaps; one of a
    changed source has its tree's digest in the revision's place.
    """
    if release.channel == "nightly":
        return release.release.removeprefix(f"{release.interpreter}-")
    return str(release.interpreter_version)


def suffixes(release: ImageRelease, group: ImageGroup) -> tuple[str, ...]:
    """Return what ends the tags of a group, the one with the suite first.

    The first suite of a variant has tags without a suite as well.
    """
    same = (item for item in release.images if group_of(item)._replace(suite="") == _any(group))
    is_first = next(same).suite == group.suite
    full = joined(group.variant, group.suite)
    return (full, group.variant) if is_first else (full,)


def joined(*parts: str) -> str:
    """Return a tag of its parts, of which some may be empty."""
    return "-".join(filter(None, parts))


def _any(group: ImageGroup) -> ImageGroup:
    return group._replace(suite="")


def _descriptor(image: PublishedImage, platforms: Mapping[str, Platform]) -> Descriptor:
    platform = known("platform", image.platform, platforms, where=naming.LEDGER_KEY)
    if platform.oci is None:
        msg = f"platforms.toml: platforms.{image.platform}: has images, but no names for OCI."
        raise ConfigError(msg)
    return Descriptor(
        media_type=IMAGE_MANIFEST_TYPE,
        digest=image.digest,
        size=image.manifest_size,
        platform=OciPlatform.of(platform.oci),
    )
