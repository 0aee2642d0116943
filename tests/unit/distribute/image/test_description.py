"""What an image says of itself, its SBOM and its layout."""

import json
import tarfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pipeline.distribute import oci
from pipeline.distribute.image.description import (
    Subject,
    annotations_of,
    configuration_of,
    described_inputs,
)
from pipeline.distribute.image.layers import Layer, compressed, kept
from pipeline.distribute.image.layout import assembled, write_layout
from pipeline.distribute.image.sbom import Contents, linked_pins, sbom_of
from pipeline.distribute.image.system import DebianPackage
from pipeline.errors import ImageError
from pipeline.model.configs import RegistryBase
from pipeline.model.images import PublishedImage
from tests.factories import (
    changed,
    make_artifact,
    make_config,
    make_environment,
    make_git_revision,
    make_pin,
    make_pypy_job,
)

EPOCH = 1_779_753_600
DIGEST = f"sha256:{'a' * 64}"
IMAGE = PublishedImage(
    image="pypy",
    line="3.11",
    variant="slim",
    suite="trixie",
    platform="linux-x86_64",
    digest=DIGEST,
    manifest_size=10,
    size=1000,
)


def make_subject(**overrides: Any) -> Subject:
    job = make_pypy_job()
    assert job.interpreter.image is not None
    variant = next(item for item in job.interpreter.image.variants if item.name == "slim")
    fields: dict[str, Any] = {
        "job": job,
        "variant": variant,
        "environment": make_environment(),
        "base": make_config().bases["image-trixie"],
    }
    return Subject(**{**fields, **overrides})


def layer(path: Path, content: bytes) -> Layer:
    path.write_bytes(content)
    return kept(path)


def test_annotations_are_ocis_and_say_where_the_source_is() -> None:
    said = annotations_of(make_subject(), "Somebody")

    told = {key.removeprefix("org.opencontainers.image."): value for key, value in said.items()}
    assert told["title"] == "pypy"
    assert told["version"] == "7.3.23"
    assert told["licenses"] == "MIT"
    assert told["source"] == "https://github.com/pypy/pypy.git"
    assert told["vendor"] == "Somebody"
    assert len(told["revision"]) == 40
    assert "base.name" not in told


def test_a_base_from_a_registry_is_named_with_its_digest() -> None:
    base = RegistryBase(
        kind="registry", architectures=("amd64",), reference=f"docker.io/debian@{DIGEST}"
    )

    said = annotations_of(make_subject(base=base), "Somebody")

    assert said["org.opencontainers.image.base.name"] == "docker.io/debian"
    assert said["org.opencontainers.image.base.digest"] == DIGEST


def test_a_container_runs_as_somebody_with_the_interpreter_on_its_path(tmp_path: Path) -> None:
    layers = [layer(tmp_path / name, name.encode()) for name in ("base", "packages", "pypy")]

    configuration = configuration_of(make_subject(), layers, {"label": "x"})

    run = configuration.config
    assert (run.user, run.working_dir, run.cmd) == ("1000:1000", "/home/pypy", ("pypy3",))
    assert run.entrypoint is None
    assert run.env is not None
    assert run.env[0].startswith("PATH=/opt/pypy/bin:")
    assert run.env[1:] == ("LANG=C.UTF-8", "PYPY_VERSION=7.3.23")
    assert configuration.rootfs.diff_ids == tuple(item.diff_id for item in layers)
    assert len(configuration.history) == 3


def test_an_interpreter_without_images_is_told() -> None:
    job = make_pypy_job()
    without = job.interpreter.model_copy(update={"image": None})

    with pytest.raises(ImageError, match=r"pypy3\.11: its config has no table image"):
        described_inputs(
            make_subject(job=job.model_copy(update={"interpreter": without})), make_config()
        )


def test_a_layout_has_every_blob_under_its_digest_and_a_manifest_for_docker(
    tmp_path: Path,
) -> None:
    layers = [layer(tmp_path / name, name.encode()) for name in ("base", "packages", "pypy")]
    blobs = [compressed(item, tmp_path / f"{item.path.name}.gz") for item in layers]
    image = assembled(configuration_of(make_subject(), layers, {}), blobs, {"a": "b"})

    write_layout(tmp_path / "image.tar", image, epoch=EPOCH)

    with tarfile.open(tmp_path / "image.tar") as archive:
        files = {
            member.name: content.read()
            for member in archive
            if (content := archive.extractfile(member)) is not None
        }
    assert json.loads(files.pop("oci-layout")) == {"imageLayoutVersion": "1.0.0"}
    index = oci.read_document(oci.ImageIndex, files.pop("index.json"), where="index")
    (for_docker,) = json.loads(files.pop("manifest.json"))
    assert all(oci.blob_path(oci.digest_of(data)) == name for name, data in files.items())
    manifest = oci.read_document(
        oci.ImageManifest, files[oci.blob_path(index.manifests[0].digest)], where="manifest"
    )
    assert for_docker["Config"] == oci.blob_path(manifest.config.digest)
    assert for_docker["Layers"] == [oci.blob_path(item.digest) for item in manifest.layers]
    assert str(index.manifests[0].platform) == "linux/amd64"
    assert image.size == sum(
        len(files[oci.blob_path(item.digest)]) for item in (*manifest.layers, manifest.config)
    ) + len(image.manifest)


def contents(**overrides: Any) -> Contents:
    fields: dict[str, Any] = {
        "archive": make_artifact(),
        "pins": (("openssl", make_pin()),),
        "libraries": (("lib/libffi.so.7", "b" * 64),),
        "packages": (
            DebianPackage(name="libstdc++6", version="1:14.2+x", architecture="amd64"),
            DebianPackage(name="tzdata", version="2026a", architecture="all"),
        ),
    }
    return Contents(**{**fields, **overrides})


def test_an_sbom_lists_the_interpreter_what_is_bundled_and_debians_packages() -> None:
    document = json.loads(oci.to_bytes(sbom_of(make_subject(), IMAGE, contents(), "Somebody")))

    by_name = {item["name"]: item for item in document["packages"]}
    assert list(by_name) == ["pypy", "pypy3.11", "openssl", "libffi.so.7", "libstdc++6", "tzdata"]
    assert by_name["pypy"]["checksums"][0]["checksumValue"] == "a" * 64
    assert by_name["pypy3.11"]["downloadLocation"].startswith("git+https://github.com/pypy/")
    locator = by_name["libstdc++6"]["externalRefs"][0]["referenceLocator"]
    assert locator == "pkg:deb/debian/libstdc%2B%2B6@1%3A14.2%2Bx?arch=amd64&distro=trixie"


def test_every_element_of_an_sbom_has_its_own_identifier_and_belongs_to_the_image() -> None:
    document = json.loads(oci.to_bytes(sbom_of(make_subject(), IMAGE, contents(), "Somebody")))

    identifiers = [item["SPDXID"] for item in document["packages"]]
    related = [item["relatedSpdxElement"] for item in document["relationships"]]
    assert len(set(identifiers)) == len(identifiers)
    assert sorted(related) == sorted(identifiers)
    assert document["relationships"][0]["relationshipType"] == "DESCRIBES"


def test_linked_pins_are_sorted_and_each_is_there_once() -> None:
    pins = {"a": make_pin(), "b": make_pin()}

    assert [name for name, _ in linked_pins(["b", "a", "b"], pins)] == ["a", "b"]


def test_nothing_that_is_public_says_who_logs_in_to_the_repository() -> None:
    subject = make_subject()
    interpreter = subject.job.interpreter
    source = changed(interpreter.source, repository="https://robot:secret@git.test/pypy.git")
    job = changed(subject.job, interpreter=changed(interpreter, source=source))
    subject = make_subject(job=changed(job, revision=make_git_revision()))
    pin = make_pin(url="https://robot:secret@files.test/zlib.tar.gz")
    given = replace(contents(), pins=(("zlib", pin),))

    said = annotations_of(subject, "Somebody")
    document = oci.to_bytes(sbom_of(subject, IMAGE, given, "Somebody")).decode()

    assert said["org.opencontainers.image.source"] == "https://git.test/pypy.git"
    assert "git+https://git.test/pypy.git@" in document
    assert "https://files.test/zlib.tar.gz" in document
    assert "secret" not in document + json.dumps(said)
