"""The provenance: in the form of its specifications, and about exactly the release's archives."""

import json
import re
from typing import Any, Final

import pytest
from google.protobuf import json_format
from hypothesis import given
from hypothesis import strategies as st
from in_toto_attestation.predicates.provenance.v1.provenance_pb2 import Provenance
from in_toto_attestation.v1 import statement_pb2
from in_toto_attestation.v1.statement import Statement as SpecifiedStatement
from pydantic import ValidationError

from pipeline.distribute.image_index import release_indexes
from pipeline.distribute.oci import digest_of
from pipeline.model.artifacts import Artifact, ArtifactKind
from pipeline.model.configs import GitSource
from pipeline.model.records import BootstrapRelease, Revision
from pipeline.plan import ReleasePlan
from pipeline.sign.provenance import (
    Statement,
    faults_of,
    make_statement,
    stated_images,
    statement_json,
)
from tests.factories import (
    FINGERPRINT,
    changed,
    digest,
    make_archives,
    make_artifact,
    make_build_info_of,
    make_config,
    make_git_revision,
    make_manifest,
    make_plan_for,
    make_provenance,
    make_pypy_plan,
    make_release_plan,
    make_revision,
)
from tests.images import make_published_images

SOURCE_ARCHIVE: Final = make_artifact(
    filename="pypy3.11-v7.3.23-src.tar.gz", kind=ArtifactKind.SOURCE_GZ, platform=None
)
DEBUG_ARCHIVE: Final = make_artifact(
    filename="pypy3.11-v7.3.23-linux64-debug.tar.zst", kind=ArtifactKind.DEBUG_ZST
)


def statement_of(release: ReleasePlan, *files: Artifact, **info: Any) -> Statement:
    """Return the statement about a release's archives."""
    infos = {job.identifier: make_build_info_of(job, **info) for job in release.jobs}
    manifest = make_manifest(
        release=release.release,
        interpreter=release.interpreter.interpreter,
        interpreter_version=release.version,
        channel=release.channel,
        files=files or make_archives(release.release),
    )
    return make_statement(release, manifest, infos, make_config().pins, FINGERPRINT)


def written(statement: Statement) -> Any:
    """Return what is in the file."""
    return json.loads(statement_json(statement))


def with_source(revision: Revision, repository: str | None = None) -> ReleasePlan:
    """Return a release of PyPy from another revision, or from another repository."""
    release = make_pypy_plan()
    source = release.interpreter.source
    assert isinstance(source, GitSource)
    source = changed(source, repository=repository or source.repository)
    interpreter = changed(release.interpreter, source=source)
    return changed(release, revision=revision, interpreter=interpreter)


def dependencies(statement: Statement) -> Any:
    """Return what went into the build, by name."""
    found = written(statement)["predicate"]["buildDefinition"]["resolvedDependencies"]
    return {item.pop("name"): item for item in found}


# --- its form -------------------------------------------------------------------------------


@pytest.mark.parametrize("release", [make_release_plan(), make_pypy_plan()], ids=["demo", "pypy"])
def test_in_totos_own_definitions_read_every_word_of_it(release: ReleasePlan) -> None:
    """Their reader refuses unknown names and wrong types; nothing is lost on the way back."""
    data = statement_json(statement_of(release))

    statement = json_format.Parse(data, statement_pb2.Statement())
    provenance = json_format.ParseDict(json.loads(data)["predicate"], Provenance())

    SpecifiedStatement.copy_from_pb(statement).validate()
    assert json_format.MessageToDict(statement) == json.loads(data)
    assert json_format.MessageToDict(provenance) == json.loads(data)["predicate"]
    assert (statement.type, statement.predicate_type) == (
        "https://in-toto.io/Statement/v1",
        "https://slsa.dev/provenance/v1",
    )


def test_what_the_specification_requires_is_there() -> None:
    """The definitions in protobuf have no field that must be set."""
    predicate = written(statement_of(make_pypy_plan()))["predicate"]

    uri = re.compile(r"[a-z][a-z0-9+.-]*:[^\s]+")
    assert uri.fullmatch(predicate["buildDefinition"]["buildType"])
    assert uri.fullmatch(predicate["runDetails"]["builder"]["id"])
    assert predicate["buildDefinition"]["externalParameters"]
    for item in predicate["buildDefinition"]["resolvedDependencies"]:
        assert item["digest"]
        assert uri.fullmatch(item.get("uri", "no:uri"))


def test_one_name_is_not_both_asked_for_and_decided() -> None:
    definition = written(statement_of(make_pypy_plan()))["predicate"]["buildDefinition"]

    assert not set(definition["externalParameters"]) & set(definition["internalParameters"])


def test_it_is_read_as_it_was_written() -> None:
    statement = statement_of(make_pypy_plan())

    assert Statement.model_validate_json(statement_json(statement)) == statement


def test_equal_inputs_give_equal_bytes_without_a_time() -> None:
    once, again = (statement_json(statement_of(make_pypy_plan())) for _ in range(2))

    assert once == again
    assert not re.search(rb"\d{4}-\d{2}-\d{2}|\d{2}:\d{2}:\d{2}", once)


# --- what it says ---------------------------------------------------------------------------


def test_every_file_that_was_built_is_a_subject_with_its_digest() -> None:
    files = (*make_archives("pypy3.11-v7.3.23"), DEBUG_ARCHIVE, SOURCE_ARCHIVE)

    subjects = written(statement_of(make_pypy_plan(), *files))["subject"]

    assert subjects == [
        {"name": item.filename, "digest": {"sha256": item.sha256}} for item in files
    ]


def test_a_release_of_a_commit_names_the_repository_and_the_tag() -> None:
    statement = statement_of(make_pypy_plan())

    uri = "git+https://github.com/pypy/pypy.git@refs/tags/release-pypy3.11-v7.3.23"
    definition = written(statement)["predicate"]["buildDefinition"]
    assert definition["externalParameters"] == {
        "channel": "release",
        "interpreter": "pypy3.11",
        "platforms": ["linux-x86_64"],
        "source": uri,
        "version": "7.3.23",
    }
    assert dependencies(statement)["source"] == {
        "uri": uri,
        "digest": {"gitCommit": "194f9f44b50552d75484d67cda6e2b36607dee0c"},
    }


def test_a_nightly_names_its_branch() -> None:
    release = with_source(make_git_revision(number=188288, branch="py3.11", tag=None))

    source = dependencies(statement_of(release))["source"]

    assert source["uri"] == "git+https://github.com/pypy/pypy.git@refs/heads/py3.11"


@pytest.mark.parametrize(
    ("repository", "uri"),
    [
        ("https://robot:secret@git.test/a/b.git", "git+https://git.test/a/b.git"),
        ("https://robot:se@cret@git.test/a/b.git", "git+https://git.test/a/b.git"),
        ("ssh://git@git.test/a@b", "git+ssh://git.test/a@b"),
        ("file:///srv/a@b", "git+file:///srv/a@b"),
    ],
)
def test_who_logs_in_to_the_repository_is_not_published(repository: str, uri: str) -> None:
    release = with_source(make_git_revision(), repository)

    statement = statement_of(release)

    assert dependencies(statement)["source"]["uri"].rpartition("@refs/")[0] == uri
    assert b"secret" not in statement_json(statement)


@pytest.mark.parametrize(
    ("revision", "found"),
    [
        (make_revision(), {"treeSha256": make_revision().revision}),
        (
            make_git_revision(kind="checkout", tag=None),
            {"gitCommit": make_git_revision().revision},
        ),
        (
            make_revision(kind="checkout", dirty=True),
            {"treeSha256": make_revision().revision},
        ),
    ],
    ids=["directory", "checkout", "changed checkout"],
)
def test_a_source_that_nobody_else_has_is_named_by_digest_alone(
    revision: Revision, found: dict[str, str]
) -> None:
    statement = statement_of(with_source(revision))

    assert dependencies(statement)["source"] == {"digest": found}
    assert b'"source":' not in statement_json(statement)


def test_pinned_downloads_are_there_with_their_addresses() -> None:
    pins = make_config().pins
    given = {name: pins[name].sha256 for name in ("openssl", "xz")}

    found = dependencies(statement_of(make_pypy_plan(), pins=given))

    for name in given:
        pin = pins[name]
        assert found[pin.filename] == {"uri": pin.url, "digest": {"sha256": pin.sha256}}


def test_each_platform_has_its_own_way_and_environment() -> None:
    names = ("linux-x86_64", "linux-aarch64")
    (release,) = make_plan_for(platforms=names).releases

    statement = statement_of(release)

    definition = written(statement)["predicate"]["buildDefinition"]
    builds = definition["internalParameters"]["builds"]
    assert definition["externalParameters"]["platforms"] == list(names)
    assert [builds[name]["environment"] for name in names] == ["translate", "cross"]
    assert builds["linux-x86_64"] == {
        "command": ["rpython", "--batch", "--opt=jit", "--gc=incminimark", "targetdemo.py"],
        "environment": "translate",
        "gc": "incminimark",
        "jit": True,
        "mode": "native",
        "translationKey": digest("translation"),
    }
    found = dependencies(statement)
    for name in ("translate-linux-x86_64", "cross-linux-aarch64"):
        assert found[name] == {"digest": {"environmentSha256": digest("environment")}}


def test_a_released_interpreter_that_ran_the_toolchain_is_named_once() -> None:
    artifact = make_artifact(filename="pypy2.7-v7.3.23-linux64.tar.zst")
    bootstrap = BootstrapRelease(release="pypy2.7-v7.3.23", artifact=artifact, executable="pypy2.7")
    (release,) = make_plan_for(platforms=("linux-x86_64", "linux-aarch64")).releases
    jobs = tuple(changed(job, bootstrap=bootstrap) for job in release.jobs)

    statement = statement_of(changed(release, jobs=jobs))

    names = [item.name for item in statement.predicate.build_definition.resolved_dependencies]
    assert names.count(artifact.filename) == 1
    assert dependencies(statement)[artifact.filename] == {"digest": {"sha256": artifact.sha256}}


def test_the_builder_is_who_holds_the_key_and_the_build_is_its_inputs() -> None:
    manifest = make_manifest()

    details = written(make_provenance(manifest))["predicate"]["runDetails"]

    assert details == {
        "builder": {"id": f"openpgp4fpr:{FINGERPRINT}"},
        "metadata": {"invocationId": manifest.input_key},
    }


# --- whether it is about what there is ------------------------------------------------------

HEX: Final = st.text("0123456789abcdef", min_size=64, max_size=64)
NAMES: Final = st.from_regex(r"[a-z0-9][a-z0-9.-]{0,20}\.tar\.gz", fullmatch=True)
RELEASES: Final = st.dictionaries(NAMES, HEX, min_size=1, max_size=5)


def about(digests: dict[str, str]) -> bytes:
    """Return a provenance of files with these digests."""
    files = (make_artifact(filename=name, sha256=sha256) for name, sha256 in digests.items())
    return statement_json(make_provenance(make_manifest(files=tuple(files))))


@given(RELEASES)
def test_a_statement_is_about_the_archives_that_it_was_made_of(digests: dict[str, str]) -> None:
    assert faults_of(about(digests), digests, FINGERPRINT) == []


@given(RELEASES, RELEASES)
def test_a_statement_is_about_no_other_archives(
    stated: dict[str, str], there: dict[str, str]
) -> None:
    faults = faults_of(about(stated), there, FINGERPRINT)

    assert bool(faults) == (stated != there)
    for name in {*stated, *there}:
        differs = stated.get(name) != there.get(name)
        assert any(fault.startswith(f"{name} ") for fault in faults) == differs


def test_a_statement_of_another_builder_is_not_believed() -> None:
    digests = {"a.tar.gz": digest("a")}

    (fault,) = faults_of(about(digests), digests, FINGERPRINT[::-1])

    assert FINGERPRINT in fault
    assert FINGERPRINT[::-1] in fault


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"https://in-toto.io/Statement/v1", b"https://in-toto.io/Statement/v0.1"),
        (b"https://slsa.dev/provenance/v1", b"https://slsa.dev/provenance/v0.2"),
        (b"rpython-pipeline:release/v1", b"rpython-pipeline:release/v2"),
        (b'"sha256": "', b'"sha512": "'),
        (b'"subject": [', b'"subjects": ['),
    ],
)
def test_what_is_not_such_a_statement_is_not_read(old: bytes, new: bytes) -> None:
    digests = {"a.tar.gz": digest("a")}
    data = about(digests)
    assert old in data

    with pytest.raises(ValidationError):
        faults_of(data.replace(old, new), digests, FINGERPRINT)


def test_a_statement_about_nothing_is_none() -> None:
    with pytest.raises(ValidationError):
        make_provenance(make_manifest(files=()))


# --- images ---------------------------------------------------------------------------------


def test_images_and_their_indexes_are_stated_beside_the_archives() -> None:
    images = make_published_images(suites=("trixie",), platforms=("linux-x86_64", "linux-aarch64"))
    manifest = make_manifest(images=images)
    statement = make_provenance(manifest)

    stated = {item.name: f"sha256:{item.digest.sha256}" for item in statement.subject}
    found = stated_images(statement_json(statement))

    indexes = release_indexes(manifest, make_config().platforms)
    assert found == {*(item.digest for item in images), *map(digest_of, indexes.values())}
    assert stated["pypy:3.11-1.0.0-slim-trixie@linux-aarch64"] == images[3].digest
    assert stated["pypy:3.11-1.0.0-trixie"] == digest_of(next(iter(indexes.values())))


def test_images_are_not_looked_for_among_the_archives() -> None:
    manifest = make_manifest(images=make_published_images())
    digests = {item.filename: item.sha256 for item in manifest.files}

    data = statement_json(make_provenance(manifest))

    assert faults_of(data, digests, FINGERPRINT) == []
    assert stated_images(about(digests)) == frozenset()
