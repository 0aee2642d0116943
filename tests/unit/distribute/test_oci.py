"""OCI's formats."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.distribute import oci
from pipeline.errors import ImageError
from pipeline.model.images import IMAGE_MANIFEST_TYPE

LAYER = oci.describe_bytes(b"layer", oci.LAYER_TYPE)
CONFIG = oci.describe_bytes(b"config", oci.CONFIG_TYPE)
AMD64 = oci.OciPlatform(os="linux", architecture="amd64")
ARM = oci.OciPlatform(os="linux", architecture="arm", variant="v7")


def entry(data: bytes, platform: oci.OciPlatform) -> oci.Descriptor:
    """Return a manifest's descriptor for a platform."""
    return oci.describe_bytes(data, IMAGE_MANIFEST_TYPE, platform=platform)


def test_a_manifest_has_the_properties_of_the_specification_and_no_empty_ones() -> None:
    manifest = oci.ImageManifest(config=CONFIG, layers=(LAYER,))

    told = json.loads(oci.to_bytes(manifest))

    assert told == {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": {
            "mediaType": "application/vnd.oci.image.config.v1+json",
            "digest": CONFIG.digest,
            "size": 6,
        },
        "layers": [
            {
                "mediaType": "application/vnd.oci.image.layer.v1.tar+gzip",
                "digest": LAYER.digest,
                "size": 5,
            }
        ],
    }


def test_a_digest_is_the_algorithm_and_lower_case_digits() -> None:
    assert oci.digest_of(b"{}") == (
        "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"
    )


def test_a_configuration_spells_what_docker_spelt_in_capitals_so() -> None:
    configuration = oci.ImageConfiguration(
        created="2026-11-21T00:00:00Z",
        architecture="amd64",
        os="linux",
        config=oci.RunConfig(user="1000:1000", working_dir="/", cmd=("pypy3",), env=("A=b",)),
        rootfs=oci.RootFs(diff_ids=(LAYER.digest,)),
        history=(oci.History(created_by="base", empty_layer=True),),
    )

    told = json.loads(oci.to_bytes(configuration))

    assert told["config"] == {
        "User": "1000:1000",
        "WorkingDir": "/",
        "Cmd": ["pypy3"],
        "Env": ["A=b"],
    }
    assert told["rootfs"] == {"type": "layers", "diff_ids": [LAYER.digest]}
    assert told["history"] == [{"created_by": "base", "empty_layer": True}]


def test_an_artifact_has_the_empty_configuration_and_says_of_what_it_speaks() -> None:
    subject = entry(b"image", AMD64)

    told = json.loads(oci.to_bytes(oci.artifact_manifest("a/sbom", (LAYER,), subject=subject)))

    assert told["artifactType"] == "a/sbom"
    assert told["config"]["digest"] == oci.digest_of(b"{}")
    assert told["config"]["data"] == "e30="
    assert told["subject"] == {
        "mediaType": IMAGE_MANIFEST_TYPE,
        "digest": subject.digest,
        "size": 5,
    }


@given(st.permutations([entry(b"a", ARM), entry(b"b", AMD64), entry(b"c", AMD64)]))
def test_an_index_is_the_same_in_whatever_order_its_images_come(
    entries: list[oci.Descriptor],
) -> None:
    index = oci.read_document(oci.ImageIndex, oci.index_of(entries), where="index")

    platforms = [str(item.platform) for item in index.manifests]
    assert platforms == ["linux/amd64", "linux/amd64", "linux/arm/v7"]
    assert oci.index_of(entries) == oci.index_of(reversed(entries))


def test_what_others_say_besides_is_ignored() -> None:
    data = json.dumps({**json.loads(oci.index_of([])), "com.example.new": 1}).encode()

    assert oci.read_document(oci.ImageIndex, data, where="x").manifests == ()


@pytest.mark.parametrize("data", [b"", b"[]", b'{"schemaVersion": 1, "manifests": []}'])
def test_what_is_no_document_is_refused_with_its_place(data: bytes) -> None:
    with pytest.raises(ImageError, match=r"^registry/x: "):
        oci.read_document(oci.ImageIndex, data, where="registry/x")


def test_a_blob_lies_under_its_algorithm_and_digits() -> None:
    assert oci.blob_path("sha256:00ff") == "blobs/sha256/00ff"
