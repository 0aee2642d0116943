"""Pushing images: everything by digest, nothing twice, and nothing that was not stated."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from pipeline.distribute.image_index import release_indexes
from pipeline.distribute.oci import ImageIndex, ImageManifest, describe_bytes, digest_of, index_of
from pipeline.effects.console import Step
from pipeline.effects.registry import StoredManifest
from pipeline.errors import (
    ConflictError,
    DigestMismatchError,
    FetchBackError,
    ImageError,
    ImmutableNameError,
)
from pipeline.model.images import IMAGE_INDEX_TYPE, IMAGE_MANIFEST_TYPE
from pipeline.publish.images import (
    CHECKSUMS_TYPE,
    SPDX_TYPE,
    STATEMENT_TYPE,
    ImagePush,
    hold_images,
    push_images,
)
from tests.factories import changed, make_config
from tests.fakes import recorded_console
from tests.images import FakeRegistry, make_push

CONFIG = make_config()
PLATFORMS = ("linux-x86_64", "linux-aarch64", "linux-i686")


@pytest.fixture
def push(tmp_path: Path) -> ImagePush:
    """A release of the demo with images for three platforms."""
    return make_push(tmp_path / "release", PLATFORMS)


def run(registry: FakeRegistry, push: ImagePush) -> tuple[str, ...]:
    """Push without a screen."""
    console, _ = recorded_console()
    step = Step(console, "publish", None, lambda: 0.0)
    return push_images(CONFIG, registry, push, step)


def index_digest(push: ImagePush) -> str:
    """Return the digest of the release's only index."""
    (data,) = release_indexes(push.manifest, CONFIG.platforms).values()
    return digest_of(data)


def listed(registry: FakeRegistry, digest: str) -> dict[str, str]:
    """Return what the tag that lists a subject's referrers has, by kind."""
    tag = digest.replace(":", "-")
    stored = registry.manifest("demo", tag)
    assert stored is not None
    entries = ImageIndex.model_validate_json(stored.data).manifests
    return {str(item.artifact_type): item.digest for item in entries}


def files_of(registry: FakeRegistry, digest: str) -> dict[str, bytes]:
    """Return the files of an attachment by name."""
    stored = registry.manifest("demo", digest)
    assert stored is not None
    layers = ImageManifest.model_validate_json(stored.data).layers
    return {
        (item.annotations or {})["org.opencontainers.image.title"]: registry.blobs[
            "demo", item.digest
        ]
        for item in layers
    }


def test_images_and_their_index_are_there_by_digest_and_no_tag_is(push: ImagePush) -> None:
    registry = FakeRegistry()

    put = run(registry, push)

    index = registry.manifest("demo", index_digest(push))
    assert index is not None
    entries = json.loads(index.data)["manifests"]
    assert {item["digest"] for item in entries} == {
        upload.built.image.digest for upload in push.uploads
    }
    assert f"registry.test/owner/demo@{index_digest(push)}" in put
    assert [tag for tag in registry.tagged("demo") if not tag.startswith("sha256-")] == []


def test_a_second_time_nothing_is_sent(push: ImagePush) -> None:
    registry = FakeRegistry()
    run(registry, push)
    registry.requests.clear()

    assert run(registry, push) == ()

    assert registry.requests == []


def test_what_speaks_of_images_is_attached_to_each(push: ImagePush) -> None:
    registry = FakeRegistry()

    run(registry, push)

    of_index = listed(registry, index_digest(push))
    of_image = listed(registry, push.uploads[0].built.image.digest)
    assert set(of_index) == {STATEMENT_TYPE, CHECKSUMS_TYPE}
    assert set(of_image) == {STATEMENT_TYPE, CHECKSUMS_TYPE, SPDX_TYPE}
    statement = files_of(registry, of_image[STATEMENT_TYPE])
    sums = files_of(registry, of_image[CHECKSUMS_TYPE])
    name = push.signed.provenance.filename
    assert statement == {name: (push.directory / name).read_bytes()}
    assert digest_of(statement[name]).removeprefix("sha256:") in sums["SHA256SUMS"].decode()
    assert sums["SHA256SUMS.asc"] == (push.directory / "SHA256SUMS.asc").read_bytes()


def test_the_statement_names_every_image_and_the_index(push: ImagePush) -> None:
    statement = json.loads((push.directory / push.signed.provenance.filename).read_bytes())

    found = {item["name"]: item["digest"]["sha256"] for item in statement["subject"]}

    assert f"sha256:{found['demo:1-1.0.0-bookworm']}" == index_digest(push)
    image = push.uploads[1].built.image
    assert f"sha256:{found['demo:1-1.0.0-bookworm@linux-aarch64']}" == image.digest


def test_a_registry_that_knows_subjects_needs_no_tag(push: ImagePush) -> None:
    registry = FakeRegistry(lists_referrers=True)

    run(registry, push)

    assert registry.tagged("demo") == {}


def test_a_registry_that_learnt_of_subjects_gets_attachments_again(push: ImagePush) -> None:
    registry = LateRegistry(lists_referrers=True)

    run(registry, push)

    assert registry.is_new is False


@dataclass
class LateRegistry(FakeRegistry):
    """A registry that lists only what is put once more."""

    is_new: bool = True

    def put_manifest(self, image: str, reference: str, data: bytes, media_type: str) -> bool:
        """Take it; what was there before is listed from now on."""
        self.is_new = self.is_new and (image, reference) not in self.manifests
        return super().put_manifest(image, reference, data, media_type)

    def referrers(self, image: str, digest: str) -> tuple[bytes, ...] | None:
        """List nothing at first."""
        return () if self.is_new else super().referrers(image, digest)


class ListlessRegistry(FakeRegistry):
    """A registry whose lists of referrers are empty."""

    def referrers(self, image: str, digest: str) -> tuple[bytes, ...] | None:  # noqa: ARG002
        """List nothing."""
        return ()


@dataclass
class ForgetfulRegistry(FakeRegistry):
    """A registry that says yes and keeps nothing of what has the digest *lost*."""

    lost: str = ""

    def blob_size(self, image: str, digest: str) -> int | None:
        """Look for a blob."""
        return None if digest == self.lost else super().blob_size(image, digest)

    def blob(self, image: str, digest: str) -> bytes | None:
        """Give a blob."""
        return None if digest == self.lost else super().blob(image, digest)

    def manifest(self, image: str, reference: str) -> StoredManifest | None:
        """Give what there is."""
        return None if reference == self.lost else super().manifest(image, reference)


def test_a_blob_or_manifest_that_is_not_there_afterwards_is_found_out(push: ImagePush) -> None:
    manifest = push.uploads[0].built.image.digest
    for lost in (manifest, index_digest(push), digest_of(b"{}")):
        registry = ForgetfulRegistry(lost=lost)

        with pytest.raises(FetchBackError, match=f"{lost}: was put, but is not there"):
            run(registry, push)


def test_a_registry_that_lists_nothing_is_found_out(push: ImagePush) -> None:
    with pytest.raises(FetchBackError, match="does not list what is attached"):
        run(ListlessRegistry(), push)


def test_what_others_attached_stays_listed(push: ImagePush) -> None:
    registry = FakeRegistry()
    digest = push.uploads[0].built.image.digest
    theirs = describe_bytes(b"{}", IMAGE_MANIFEST_TYPE, artifact_type="application/theirs")
    registry.manifests["demo", theirs.digest] = (b"{}", IMAGE_MANIFEST_TYPE)
    tag = digest.replace(":", "-")
    registry.put_manifest("demo", tag, index_of([theirs]), IMAGE_INDEX_TYPE)

    run(registry, push)

    assert set(listed(registry, digest)) == {
        "application/theirs",
        STATEMENT_TYPE,
        CHECKSUMS_TYPE,
        SPDX_TYPE,
    }


def test_a_list_that_others_overwrite_is_written_again(push: ImagePush) -> None:
    registry = ContestedRegistry(times=1)

    run(registry, push)

    assert len(listed(registry, index_digest(push))) == 2
    with pytest.raises(ConflictError, match="changed by others"):
        run(ContestedRegistry(times=1000), push)


@dataclass
class ContestedRegistry(FakeRegistry):
    """A registry in which another writes each list of referrers right after us."""

    times: int = 1

    def put_manifest(self, image: str, reference: str, data: bytes, media_type: str) -> bool:
        """Take it, and then what the other wrote."""
        said = super().put_manifest(image, reference, data, media_type)
        if reference.startswith("sha256-") and self.times > 0:
            self.times -= 1
            super().put_manifest(image, reference, index_of([]), media_type)
        return said


def test_an_exact_tag_that_stands_for_something_else_stops_it(push: ImagePush) -> None:
    registry = FakeRegistry()
    registry.put_manifest("demo", "1-1.0.0-bookworm", index_of([]), IMAGE_INDEX_TYPE)
    registry.requests.clear()

    with pytest.raises(ImmutableNameError, match=r"demo:1-1\.0\.0-bookworm: stands for"):
        run(registry, push)

    assert registry.requests == []


def test_an_exact_tag_that_stands_for_it_already_is_right(push: ImagePush) -> None:
    registry = FakeRegistry()
    run(registry, push)
    (data,) = release_indexes(push.manifest, CONFIG.platforms).values()
    registry.put_manifest("demo", "1-1.0.0", data, IMAGE_INDEX_TYPE)

    assert run(registry, push) == ()


def test_images_that_the_manifest_does_not_list_are_refused(push: ImagePush) -> None:
    registry = FakeRegistry()

    with pytest.raises(ImageError, match="lists other images"):
        run(registry, replace(push, uploads=push.uploads[:-1]))

    assert registry.requests == []


def test_images_that_the_statement_does_not_speak_of_are_refused(
    push: ImagePush, tmp_path: Path
) -> None:
    other = make_push(tmp_path / "other", PLATFORMS[:1])
    registry = FakeRegistry()

    with pytest.raises(ImageError, match="does not speak of"):
        run(registry, replace(push, signed=other.signed, directory=other.directory))

    assert registry.requests == []


def test_a_statement_that_cannot_be_read_is_refused(push: ImagePush) -> None:
    path = push.directory / push.signed.provenance.filename
    path.write_bytes(b"{}")
    data = hashlib.sha256(b"{}").hexdigest()
    provenance = changed(push.signed.provenance, sha256=data)
    registry = FakeRegistry()

    with pytest.raises(ImageError, match="not a statement that can be read"):
        run(registry, replace(push, signed=changed(push.signed, provenance=provenance)))

    assert registry.requests == []


@pytest.mark.parametrize("which", ["SHA256SUMS", "SHA256SUMS.asc", "sbom"])
def test_a_file_that_changed_since_is_not_attached(push: ImagePush, which: str) -> None:
    upload = push.uploads[0]
    path = upload.directory / str(upload.built.sbom) if which == "sbom" else push.directory / which
    path.write_bytes(b"changed")
    registry = FakeRegistry()

    with pytest.raises(DigestMismatchError, match="Nothing was sent"):
        run(registry, push)

    assert registry.requests == []


def test_an_image_without_an_sbom_is_pushed_all_the_same(push: ImagePush) -> None:
    uploads = tuple(
        replace(item, built=changed(item.built, sbom=None, sbom_sha256=None))
        for item in push.uploads
    )
    registry = FakeRegistry()

    run(registry, replace(push, uploads=uploads))

    assert SPDX_TYPE not in listed(registry, push.uploads[0].built.image.digest)


def test_a_layer_that_two_images_have_is_sent_once(tmp_path: Path) -> None:
    push = make_push(tmp_path, PLATFORMS[:1], variants=("", "slim"))
    registry = FakeRegistry()

    run(registry, push)

    blobs = [name for name in registry.requests if name.startswith("blob")]
    assert len(blobs) == len(set(blobs)) == len(registry.blobs)


def test_a_small_blob_that_was_changed_on_its_way_is_found_out(push: ImagePush) -> None:
    """It has the right length, and a registry that looks at nothing else says yes."""
    registry = FakeRegistry()
    run(registry, push)
    sbom = (push.uploads[0].directory / str(push.uploads[0].built.sbom)).read_bytes()
    registry.blobs["demo", digest_of(sbom)] = bytes(len(sbom))

    with pytest.raises(FetchBackError, match=f"for {digest_of(sbom)}"):
        run(registry, push)


# --- what was lost --------------------------------------------------------------------------------


def lose_image(registry: FakeRegistry, push: ImagePush) -> None:
    del registry.manifests["demo", push.uploads[0].built.image.digest]


def lose_index(registry: FakeRegistry, push: ImagePush) -> None:
    del registry.manifests["demo", index_digest(push)]


def lose_layer(registry: FakeRegistry, push: ImagePush) -> None:
    stored = registry.manifest("demo", push.uploads[0].built.image.digest)
    assert stored is not None
    (layer,) = ImageManifest.model_validate_json(stored.data).layers
    del registry.blobs["demo", layer.digest]


def lose_list(registry: FakeRegistry, push: ImagePush) -> None:
    del registry.named["demo", index_digest(push).replace(":", "-")]


def lose_attached(registry: FakeRegistry, push: ImagePush) -> None:
    del registry.manifests["demo", listed(registry, index_digest(push))[STATEMENT_TYPE]]


@pytest.mark.parametrize(
    "lose",
    [lose_image, lose_index, lose_layer, lose_list, lose_attached],
    ids=lambda it: it.__name__,
)
def test_what_a_registry_lost_is_seen_and_pushed_again(
    push: ImagePush, lose: Callable[[FakeRegistry, ImagePush], None]
) -> None:
    registry = FakeRegistry()
    before = hold_images(CONFIG, registry, push)
    run(registry, push)
    complete = hold_images(CONFIG, registry, push)
    lose(registry, push)
    lost = hold_images(CONFIG, registry, push)
    registry.requests.clear()

    run(registry, push)

    assert (before, complete, lost) == (False, True, False)
    assert hold_images(CONFIG, registry, push)
    assert len(registry.requests) == 1


def test_of_an_announced_release_a_tag_that_leads_elsewhere_stops_nothing(push: ImagePush) -> None:
    """Its tags are put right by what comes next, which needs the images."""
    registry = FakeRegistry()
    registry.put_manifest("demo", "1-1.0.0", index_of([]), IMAGE_INDEX_TYPE)

    put = run(registry, replace(push, is_announced=True))

    assert f"registry.test/owner/demo@{index_digest(push)}" in put
