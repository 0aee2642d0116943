"""Image indexes: pure functions of what the ledger says of a release's images."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.distribute.image_index import (
    ImageGroup,
    exact_tag,
    group_of,
    release_indexes,
    suffixes,
)
from pipeline.errors import ConfigError
from tests.factories import changed, make_config, make_event, make_manifest, make_nightly
from tests.images import make_published_images

PLATFORMS = make_config().platforms
IMAGES = make_published_images(suites=("trixie", "bookworm"))


def test_a_group_has_an_index_of_all_its_platforms() -> None:
    indexes = release_indexes(make_event(images=IMAGES), PLATFORMS)

    assert list(indexes) == [
        ImageGroup("pypy", "3.11", "", "trixie"),
        ImageGroup("pypy", "3.11", "slim", "trixie"),
        ImageGroup("pypy", "3.11", "", "bookworm"),
        ImageGroup("pypy", "3.11", "slim", "bookworm"),
    ]
    entries = json.loads(indexes[group_of(IMAGES[0])])["manifests"]
    assert [entry["digest"] for entry in entries] == [IMAGES[0].digest, IMAGES[1].digest]
    assert entries[1]["platform"] == {"os": "linux", "architecture": "arm64"}


@given(order=st.permutations(IMAGES))
def test_the_order_of_images_does_not_matter(order: list[object]) -> None:
    first = release_indexes(make_event(images=IMAGES), PLATFORMS)
    second = release_indexes(make_event(images=tuple(order)), PLATFORMS)

    assert first == second


def test_the_manifest_and_the_ledger_give_the_same_bytes() -> None:
    event = make_event(images=IMAGES)
    manifest = make_manifest(
        interpreter_version=event.interpreter_version, source=event.source, images=IMAGES
    )

    assert release_indexes(manifest, PLATFORMS) == release_indexes(event, PLATFORMS)


def test_an_exact_tag_has_everything_in_it() -> None:
    event, nightly = make_event(images=IMAGES), make_nightly(7, images=IMAGES)

    assert exact_tag(event, ImageGroup("pypy", "3.11", "slim", "bookworm")) == (
        "3.11-7.3.23-slim-bookworm"
    )
    revision = nightly.source.revision[:12]
    assert exact_tag(nightly, ImageGroup("pypy", "3.11", "", "trixie")) == (
        f"3.11-nightly-2026-11-21-7-{revision}-trixie"
    )


def test_a_nightly_of_the_same_revision_has_another_tag_on_another_day() -> None:
    """Its environment may have changed, and so its bytes."""
    group = group_of(IMAGES[0])
    names = [f"pypy3.11-nightly-2026-11-{day}-7-0123456789ab" for day in (21, 22)]

    tags = {exact_tag(make_nightly(7, images=IMAGES, release=name), group) for name in names}

    assert len(tags) == 2


def test_a_variant_has_a_first_suite_of_its_own() -> None:
    slim_only = tuple(item for item in IMAGES if (item.variant, item.suite) != ("slim", "trixie"))
    event = make_event(images=slim_only)

    assert suffixes(event, ImageGroup("pypy", "3.11", "slim", "bookworm")) == (
        "slim-bookworm",
        "slim",
    )
    assert suffixes(event, ImageGroup("pypy", "3.11", "", "bookworm")) == ("bookworm",)


def test_a_platform_without_containers_has_no_images() -> None:
    image = changed(IMAGES[0], platform="macos-arm64")

    with pytest.raises(ConfigError, match="no names for OCI"):
        release_indexes(make_event(images=(image,)), PLATFORMS)
