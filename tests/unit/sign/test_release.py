"""The manifest, and the complete set of files of a signed release."""

import hashlib
import re
from pathlib import Path

import pytest

from pipeline.errors import DigestMismatchError, SignatureError, SigningKeyError
from pipeline.model.artifacts import Artifact, ArtifactKind
from pipeline.model.base import canonical_json, pretty_json
from pipeline.model.configs import SigningConfig
from pipeline.model.records import GateResult, Manifest, SignedRelease, Verification
from pipeline.model.versions import InterpreterVersion
from pipeline.plan import Plan, ReleasePlan, Selection
from pipeline.run import plan_for
from pipeline.sign.provenance import statement_json
from pipeline.sign.release import (
    Built,
    More,
    make_manifest,
    release_files,
    sign_inputs,
    sign_release,
)
from tests.factories import make_artifact, make_provenance, make_pypy_plan, workers_on
from tests.fakes import (
    KEY,
    MACHINE,
    Answer,
    World,
    digest,
    make_plan,
    make_world,
    stage_output,
)

PLATFORMS = ("linux-x86_64", "linux-x86_64_v3")


@pytest.fixture
def world(tmp_path: Path) -> World:
    return make_world(tmp_path / "project")


def verifications(release: ReleasePlan) -> dict[str, Verification]:
    """Return a verification of each job, with one archive that holds the job's name."""
    found = {}
    for job in release.jobs:
        content = job.identifier.encode()
        artifact = Artifact(
            filename=f"{job.stem}.tar.gz",
            kind=ArtifactKind.ARCHIVE_GZ,
            platform=job.platform.identifier,
            size=len(content),
            sha256=digest(job.identifier),
        )
        gates = tuple(
            GateResult(gate=gate, title="title", measured="1.5 s")
            for gate in ("ARC01", "RUN01", "RUN01")
        )
        found[job.identifier] = Verification(
            stem=job.stem, artifacts=(artifact,), gates=gates, glibc_floor="2.17"
        )
    return found


def manifest_of(plan: Plan) -> Manifest:
    (release,) = plan.releases
    keys = {job.identifier: digest(f"key of {job.identifier}") for job in release.jobs}
    return make_manifest(release, verifications(release), keys, digest("inputs"))


def test_a_manifest_says_what_was_made_and_from_what(world: World) -> None:
    plan = make_plan(world.ctx)

    manifest = manifest_of(plan)

    (facts,) = manifest.platforms
    assert (manifest.release, manifest.interpreter) == ("toy-v1.2.3", "toy")
    assert manifest.source == plan.jobs[0].revision
    assert (facts.gc, facts.jit, facts.glibc_floor) == ("incminimark", True, "2.17")
    assert facts.translation_key == digest("key of toy-linux-x86_64")
    assert manifest.input_key == digest("inputs")
    assert [item.filename for item in manifest.files] == ["toy-v1.2.3-linux64.tar.gz"]


def test_a_manifest_lists_the_source_archive_and_says_which_modules_there_are() -> None:
    release = make_pypy_plan()
    (job,) = release.jobs
    verified = {
        name: record.model_copy(update={"modules": ("_ssl", "lzma"), "skipped": ("_tkinter",)})
        for name, record in verifications(release).items()
    }
    source = make_artifact(
        filename="pypy3.11-v7.3.23-src.tar.gz", kind=ArtifactKind.SOURCE_GZ, platform=None
    )

    keys = {job.identifier: digest("key")}
    manifest = make_manifest(release, verified, keys, digest("inputs"), More(files=(source,)))

    assert [item.filename for item in manifest.files] == [
        "pypy3.11-v7.3.23-linux64.tar.gz",
        "pypy3.11-v7.3.23-src.tar.gz",
    ]
    (facts,) = manifest.platforms
    assert (facts.modules, facts.skipped_modules) == (("_ssl", "lzma"), ("_tkinter",))
    assert (str(manifest.interpreter_version), manifest.language_version) == ("7.3.23", "3.11.15")


def test_the_floor_is_what_was_measured_beside_what_the_platform_table_promises(
    world: World,
) -> None:
    (facts,) = manifest_of(make_plan(world.ctx)).platforms

    assert (facts.glibc_floor, facts.declared_floor) == ("2.17", "2.31")


def test_each_gate_is_named_once(world: World) -> None:
    manifest = manifest_of(make_plan(world.ctx))

    assert manifest.platforms[0].gates == ("ARC01", "RUN01")


def test_the_jit_is_that_of_each_platform(world: World) -> None:
    manifest = manifest_of(make_plan(world.ctx, platforms=("linux-aarch64",), machine="aarch64"))

    assert manifest.platforms[0].jit is False


def test_equal_inputs_give_an_equal_manifest(world: World, tmp_path: Path) -> None:
    other = make_world(tmp_path / "another place")

    here = manifest_of(make_plan(world.ctx, platforms=PLATFORMS))
    there = manifest_of(make_plan(other.ctx, platforms=PLATFORMS))

    assert pretty_json(here) == pretty_json(there)


def test_files_are_sorted_by_name_whatever_the_order_of_the_jobs(world: World) -> None:
    manifest = manifest_of(make_plan(world.ctx, platforms=PLATFORMS[::-1]))

    names = [item.filename for item in manifest.files]
    assert names == ["toy-v1.2.3-linux64.tar.gz", "toy-v1.2.3-linux64v3.tar.gz"]


def test_a_manifest_holds_no_time_and_nothing_of_this_machine(world: World) -> None:
    """The only time is the source's own, so that signing later gives the same bytes."""
    text = pretty_json(manifest_of(make_plan(world.ctx))).decode()

    assert not re.search(r"\d{4}-\d{2}-\d{2}|\d{2}:\d{2}|\d+\.\d+ ?s\b", text)
    assert str(world.ctx.root) not in text
    assert "tester" not in text


@pytest.mark.parametrize(
    ("channel", "version", "stable"),
    [("release", "1.2.3", True), ("release", "1.2.3rc1", False), ("nightly", "1.2.3", False)],
    ids=["final", "candidate", "nightly"],
)
def test_only_a_final_release_is_stable(
    channel: str, version: str, *, stable: bool, world: World
) -> None:
    selection = Selection.model_validate(
        {
            "channel": channel,
            "interpreters": ("toy",),
            "version": InterpreterVersion.parse(version),
        }
    )

    manifest = manifest_of(plan_for(world.ctx, selection, workers_on(MACHINE)))

    assert manifest.stable is stable


def test_the_signed_release_depends_on_manifest_provenance_and_key(world: World) -> None:
    manifest = manifest_of(make_plan(world.ctx))
    other = manifest.model_copy(update={"stable": False})
    statement, otherwise = make_provenance(manifest), make_provenance(manifest, KEY[::-1])

    inputs = [
        sign_inputs(manifest, statement, KEY),
        sign_inputs(other, statement, KEY),
        sign_inputs(manifest, otherwise, KEY),
        sign_inputs(manifest, statement, KEY[::-1]),
    ]

    assert len({canonical_json(item) for item in inputs}) == 4


def write_archives(plan: Plan, directory: Path) -> dict[str, Path]:
    directory.mkdir()
    found = {}
    for job in plan.jobs:
        (directory / f"{job.stem}.tar.gz").write_bytes(job.identifier.encode())
        found[f"{job.stem}.tar.gz"] = directory
    return found


def signed(
    world: World, manifest: Manifest, archives: dict[str, Path], key: str = KEY
) -> SignedRelease:
    config = SigningConfig(key=key, minimum_days=30)
    with stage_output(world.ctx) as stage:
        statement = make_provenance(manifest, key)
        return sign_release(
            world.ctx, config, manifest, statement, Built(directories=archives), stage
        )


def output(world: World) -> Path:
    return world.ctx.work.path("stage", "k" * 64)


def test_a_signed_release_is_complete_in_one_directory(world: World, tmp_path: Path) -> None:
    plan = make_plan(world.ctx)
    archives = write_archives(plan, tmp_path / "archives")

    record = signed(world, manifest_of(plan), archives)

    names = {path.name for path in output(world).iterdir()}
    assert names == {item.filename for item in release_files(manifest_of(plan), record)}
    assert names == set(plan.releases[0].urls) - {"toy-v1.2.3-linux64.tar.zst"}
    assert record.fingerprint == KEY
    assert record.is_throw_away is False


def test_the_checksums_list_every_archive_and_what_is_said_of_them(
    world: World, tmp_path: Path
) -> None:
    plan = make_plan(world.ctx, platforms=PLATFORMS)

    record = signed(world, manifest_of(plan), write_archives(plan, tmp_path / "archives"))

    text = (output(world) / "SHA256SUMS").read_text(encoding="ascii")
    assert text.splitlines() == [
        f"{digest('toy-linux-x86_64')}  toy-v1.2.3-linux64.tar.gz",
        f"{digest('toy-linux-x86_64_v3')}  toy-v1.2.3-linux64v3.tar.gz",
        f"{record.manifest.sha256}  toy-v1.2.3-manifest.json",
        f"{record.provenance.sha256}  toy-v1.2.3-provenance.json",
    ]


def test_the_manifest_is_uploaded_last(world: World, tmp_path: Path) -> None:
    plan = make_plan(world.ctx)
    record = signed(world, manifest_of(plan), write_archives(plan, tmp_path / "archives"))

    files = release_files(manifest_of(plan), record)

    assert [item.filename for item in files] == [
        "toy-v1.2.3-linux64.tar.gz",
        "toy-v1.2.3-provenance.json",
        "SHA256SUMS",
        "SHA256SUMS.asc",
        "KEY.asc",
        "toy-v1.2.3-manifest.json",
    ]


def test_the_provenance_is_written_as_it_was_given(world: World, tmp_path: Path) -> None:
    plan = make_plan(world.ctx)
    manifest = manifest_of(plan)

    record = signed(world, manifest, write_archives(plan, tmp_path / "archives"))

    data = (output(world) / "toy-v1.2.3-provenance.json").read_bytes()
    assert data == statement_json(make_provenance(manifest, KEY))
    assert record.provenance.sha256 == hashlib.sha256(data).hexdigest()


def test_the_checksums_are_what_is_signed_and_then_checked(world: World, tmp_path: Path) -> None:
    plan = make_plan(world.ctx)

    signed(world, manifest_of(plan), write_archives(plan, tmp_path / "archives"))

    programs = [call.argv[0] for call in world.process.calls]
    assert [call.argv[-1] for call in world.process.calls if "--detach-sign" in call.argv] == [
        str(output(world) / "SHA256SUMS")
    ]
    assert "gpgv" in programs


def test_a_signature_that_does_not_verify_stops_the_release(world: World, tmp_path: Path) -> None:
    plan = make_plan(world.ctx)
    world.process.expect("gpgv", answer=Answer(status=1, stderr="gpgv: BAD signature"))

    with pytest.raises(SignatureError, match="BAD signature"):
        signed(world, manifest_of(plan), write_archives(plan, tmp_path / "archives"))


def test_another_key_than_the_configured_one_never_signs(world: World, tmp_path: Path) -> None:
    plan = make_plan(world.ctx)

    with pytest.raises(SigningKeyError, match="no secret key"):
        signed(world, manifest_of(plan), write_archives(plan, tmp_path / "archives"), KEY[::-1])

    assert world.process.ran("gpg", "--detach-sign") == 0


def test_an_archive_that_changed_since_it_was_verified_is_not_signed(
    world: World, tmp_path: Path
) -> None:
    plan = make_plan(world.ctx)
    archives = write_archives(plan, tmp_path / "archives")
    (tmp_path / "archives" / "toy-v1.2.3-linux64.tar.gz").write_bytes(b"other bytes")

    with pytest.raises(DigestMismatchError) as caught:
        signed(world, manifest_of(plan), archives)

    assert "toy-v1.2.3-linux64.tar.gz" in str(caught.value)
    assert world.process.ran("gpg", "--detach-sign") == 0


def test_a_throw_away_key_is_marked_as_one(world: World, tmp_path: Path) -> None:
    plan = make_plan(world.ctx)
    world.process.expect("gpgconf")

    record = signed(
        world, manifest_of(plan), write_archives(plan, tmp_path / "archives"), "quickstart"
    )

    assert record.is_throw_away is True
    homes = {
        call.argv[call.argv.index("--homedir") + 1]
        for call in world.process.calls
        if call.argv[0] == "gpg"
    }
    assert homes
    assert not homes & {str(Path.home() / ".gnupg")}
