"""A run from its submission to its release, on machines that share nothing but a store."""

import shutil
from dataclasses import replace
from datetime import date
from pathlib import Path

import pytest

from pipeline.config import load_config
from pipeline.effects.files import sha256_of
from pipeline.effects.store import LocalStore
from pipeline.errors import (
    ClaimError,
    DigestMismatchError,
    JobsFailedError,
    RunError,
    StoreError,
    UncertainError,
    UnitFailedError,
    UnknownNameError,
    UnsafeArchiveError,
)
from pipeline.handover.collect import collect
from pipeline.handover.outputs import Output, give_stage
from pipeline.handover.places import environment_place, of_worker
from pipeline.handover.runs import known_run
from pipeline.model.farm import Claim, Claims, FailedJob, StageClaim
from pipeline.model.naming import LEDGER_KEY
from pipeline.stages import Stage
from tests.factories import changed, digest
from tests.fakes import World, make_world, replace_text, write_project
from tests.unit.handover.machines import Farm

BOTH = ("linux-x86_64", "linux-x86_64_v3")


@pytest.fixture
def world(tmp_path: Path) -> World:
    return make_world(tmp_path / "project")


@pytest.fixture
def farm(world: World, tmp_path: Path) -> Farm:
    return Farm(world, tmp_path / "farm")


def replaced(claim: Claim, **changes: object) -> Claim:
    """Return a claim whose one stage says something else."""
    return changed(claim, stages=(changed(claim.stages[0], **changes),))


def given_to(
    farm: Farm, worker: str, stage: str, key: str, directory: Path, like: StageClaim
) -> StageClaim:
    """Put an output under a key of one's choice; claim it with the environments of another."""
    output = Output(stage=stage, key=key, directory=directory, environments=like.environments)
    return give_stage(farm.store, of_worker(worker), output)


def is_published(farm: Farm) -> bool:
    return farm.published.read(LEDGER_KEY) is not None


def test_a_release_is_translated_on_a_worker_and_made_on_the_signer(farm: Farm) -> None:
    worker = farm.machine("one")
    run = farm.prepare()

    outcome = farm.collect(run, farm.unit(run, worker))

    assert [item.release.release for item in outcome.releases] == ["toy-v1.2.3"]
    assert worker.steps == ["translate"]
    assert farm.signer.steps == ["package"]
    assert is_published(farm)


def test_the_farms_files_are_those_of_one_machine(farm: Farm, tmp_path: Path) -> None:
    alone = Farm(farm.world, tmp_path / "alone")
    run = alone.prepare()

    one = farm.prepare()
    of_farm = farm.collect(one, farm.unit(one, farm.machine("one")))
    of_one = alone.collect(run, alone.unit(run, replace(alone.signer, name="one")))

    (ours,), (theirs,) = of_farm.releases, of_one.releases
    assert ours.manifest == theirs.manifest
    assert [file.sha256 for file in ours.files] == [file.sha256 for file in theirs.files]


def test_workers_may_pack_and_verify_too(farm: Farm) -> None:
    farm.after = Stage.VERIFY
    worker = farm.machine("one")
    run = farm.prepare()
    claim = farm.unit(run, worker)

    outcome = farm.collect(run, claim)

    assert [stage.stage for stage in claim.stages] == ["translate", "package", "verify"]
    assert worker.steps == ["translate", "package"]
    assert farm.signer.steps == []
    assert len(outcome.releases) == 1


def test_an_archive_that_is_not_as_the_worker_says_is_refused(farm: Farm) -> None:
    farm.after = Stage.VERIFY
    run = farm.prepare()
    claim = farm.unit(run, farm.machine("one"))
    packed = changed(claim.stages[1], sha256=digest("another"))
    lied = changed(claim, stages=(claim.stages[0], packed, claim.stages[2]))

    with pytest.raises(DigestMismatchError, match="workers/one/package"):
        farm.collect(run, lied)

    assert not is_published(farm)


def test_a_worker_loads_the_environment_that_the_signer_made(farm: Farm) -> None:
    worker = farm.machine("one")
    run = farm.prepare()

    farm.unit(run, worker)

    assert worker.engine.built == []
    assert worker.engine.asked.count("load") == 1


def test_an_environment_is_made_once_and_stays(farm: Farm) -> None:
    farm.prepare()
    later = farm.machine("signer-after-an-upgrade")
    later.engine.packages = "libc6 2.99 amd64\n"

    again = farm.prepare("r2", on=later)

    assert later.engine.built == []
    assert again.prepared.jobs[0].key == known_run(farm.store, "r1").prepared.jobs[0].key


def test_an_environments_image_that_was_changed_is_refused(farm: Farm) -> None:
    run = farm.prepare()
    (image,) = (farm.directory / "handover" / "trusted" / "images").iterdir()
    image.write_bytes(b"something else")

    with pytest.raises(DigestMismatchError, match=r"trusted/images/.* Remove"):
        farm.unit(run, farm.machine("one"))


def test_what_one_worker_handed_over_is_not_done_again_by_another(farm: Farm) -> None:
    run = farm.prepare()
    first = farm.unit(run, farm.machine("one"))
    other = farm.machine("two")

    second = farm.unit(run, other)

    assert other.steps == []
    assert second.cached
    assert [(item.place, item.sha256) for item in second.stages] == [
        (item.place, item.sha256) for item in first.stages
    ]


def test_a_translation_that_is_there_needs_no_worker_in_the_next_run(farm: Farm) -> None:
    run = farm.prepare()
    farm.unit(run, farm.machine("one"))

    again = farm.prepare("r2")

    assert [job.is_done for job in run.prepared.jobs] == [False]
    assert [job.is_done for job in again.prepared.jobs] == [True]
    assert len(farm.collect(again).releases) == 1


def test_a_translation_that_is_there_is_packed_and_verified_by_who_is_to(farm: Farm) -> None:
    """The signer need not be able to run what its workers verify."""
    farm.after = Stage.VERIFY
    farm.unit(farm.prepare(), farm.machine("one"))
    worker = farm.machine("two")

    again = farm.prepare("r2")
    outcome = farm.collect(again, farm.unit(again, worker))

    assert [job.is_done for job in again.prepared.jobs] == [False]
    assert worker.steps == ["package"]
    assert farm.signer.steps == []
    assert len(outcome.releases) == 1


def test_a_translation_that_is_there_and_was_changed_is_done_again(farm: Farm) -> None:
    farm.after = Stage.VERIFY
    claim = farm.unit(farm.prepare(), farm.machine("one"))
    (farm.directory / "handover" / claim.stages[0].place).write_bytes(b"not a tar file")
    worker = farm.machine("two")

    again = farm.prepare("r2")
    farm.collect(again, farm.unit(again, worker))

    assert worker.steps == ["translate", "package"]


def test_what_a_worker_hands_over_unasked_is_not_believed(farm: Farm) -> None:
    """Keys are known to all, and each worker can put anything under its own place."""
    farm.builders = {"toy-linux-x86_64": ("one",), "toy-linux-x86_64_v3": ("two",)}
    run = farm.prepare()
    farm.unit(run, farm.machine("two"))
    worker = farm.machine("one")

    again = farm.prepare("r2")
    claim = farm.unit(again, worker)

    assert [job.is_done for job in again.prepared.jobs] == [False]
    assert not claim.cached
    assert worker.steps == ["translate"]


def test_a_translation_that_was_there_and_is_gone_is_not_made_on_the_signer(farm: Farm) -> None:
    first = farm.prepare()
    farm.unit(first, farm.machine("one"))
    second = farm.prepare("r2")
    shutil.rmtree(farm.signer.ctx.work.path("stages", "translate"))

    with pytest.raises(UnitFailedError, match="was here when the run was prepared, and is gone"):
        farm.collect(second)

    assert farm.signer.steps == []


def test_a_translation_that_was_changed_is_made_again(farm: Farm) -> None:
    run = farm.prepare()
    claim = farm.unit(run, farm.machine("one"))
    (farm.directory / "handover" / claim.stages[0].place).write_bytes(b"not a tar file")

    again = farm.prepare("r2")

    assert [job.is_done for job in again.prepared.jobs] == [False]


def test_a_run_is_prepared_once(farm: Farm) -> None:
    first = farm.prepare()

    assert farm.prepare() == first


class Deaf(LocalStore):
    """A store whose answers to a replacement below *place* are lost; it *does* it or does not."""

    def __init__(self, root: Path, place: str, *, does: bool) -> None:
        super().__init__(root)
        self._place, self._does = place, does

    def replace(self, key: str, data: bytes, *, tag: str | None, content_type: str) -> None:
        """Say that it is not known whether it is replaced."""
        if self._does or not key.startswith(self._place):
            super().replace(key, data, tag=tag, content_type=content_type)
        if key.startswith(self._place):
            raise UncertainError(key)


@pytest.mark.parametrize("place", ["trusted/runs/", "trusted/environments/"])
def test_a_store_whose_answer_was_lost_is_asked_what_it_has(farm: Farm, place: str) -> None:
    farm.store = Deaf(farm.store.root, place, does=True)

    run = farm.prepare()

    assert known_run(farm.store, "r1") == run
    assert run.prepared.jobs[0].key is not None


@pytest.mark.parametrize("place", ["trusted/runs/", "trusted/environments/"])
def test_a_store_that_did_not_take_it_fails_the_preparation(farm: Farm, place: str) -> None:
    """Else every worker would make an environment of its own, and nothing would be equal."""
    farm.store = Deaf(farm.store.root, place, does=False)

    with pytest.raises(UncertainError):
        farm.prepare()


def test_a_runs_name_stands_for_one_submission(farm: Farm) -> None:
    farm.prepare()

    with pytest.raises(RunError, match="r1: is there already, for another submission"):
        farm.prepare(staged=True)


def test_a_run_that_is_not_there_is_named(farm: Farm) -> None:
    with pytest.raises(RunError, match=r"run r9 is not in .*handover"):
        known_run(farm.store, "r9")


def test_a_job_that_a_run_does_not_have_is_named(farm: Farm) -> None:
    run = farm.prepare()

    with pytest.raises(UnknownNameError, match=r"run r1: unknown job 'gem-linux-x86_64'"):
        farm.unit(run, farm.machine("one"), "gem-linux-x86_64")


def test_a_worker_with_other_code_refuses_before_it_works(farm: Farm, tmp_path: Path) -> None:
    root = write_project(tmp_path / "other")
    replace_text(root / "dockerfiles" / "steps" / "run_translation.py", "import json", "import sys")
    worker = farm.machine("one", root)
    run = farm.prepare()

    with pytest.raises(ClaimError, match="its code, its configuration or its environment"):
        farm.unit(run, worker)

    assert worker.steps == []


def test_a_worker_with_another_configuration_refuses_too(farm: Farm, tmp_path: Path) -> None:
    root = write_project(tmp_path / "other")
    replace_text(root / "dockerfiles" / "translate.Dockerfile", "ARG BASE\n", "ARG BASE\n#\n")
    config = load_config(root / "translation_configs")
    worker = farm.machine("one", root, config=config)
    run = farm.prepare()

    with pytest.raises(ClaimError):
        farm.unit(run, worker)


def test_a_worker_forgets_what_it_handed_over_earlier(farm: Farm) -> None:
    worker = farm.machine("one")
    old = worker.ctx.work.stage_directory("translate", digest("an old key"))
    old.mkdir(parents=True)

    farm.unit(farm.prepare(), worker)

    assert not old.exists()
    assert len(list(old.parent.iterdir())) == 1


def test_a_claim_with_a_wrong_digest_is_refused(farm: Farm) -> None:
    run = farm.prepare()
    claim = farm.unit(run, farm.machine("one"))

    with pytest.raises(DigestMismatchError, match="look at that worker") as caught:
        farm.collect(run, replaced(claim, sha256=digest("else")))

    assert caught.value.where == "claim of one for toy-linux-x86_64"
    assert not is_published(farm)


def test_an_output_that_was_changed_after_the_claim_is_refused(farm: Farm) -> None:
    run = farm.prepare()
    claim = farm.unit(run, farm.machine("one"))
    with (farm.directory / "handover" / claim.stages[0].place).open("r+b") as file:
        file.write(b"\0")

    with pytest.raises(DigestMismatchError):
        farm.collect(run, claim)


def test_an_output_that_is_larger_than_was_claimed_is_not_read_on(farm: Farm) -> None:
    """It would fill the signer's disk, which is every release's."""
    run = farm.prepare()
    claim = farm.unit(run, farm.machine("one"))
    with (farm.directory / "handover" / claim.stages[0].place).open("ab") as file:
        file.write(b"\0")

    with pytest.raises(StoreError, match=f"holds more than {claim.stages[0].size} bytes"):
        farm.collect(run, claim)


def test_an_output_that_is_gone_is_told(farm: Farm) -> None:
    run = farm.prepare()
    claim = farm.unit(run, farm.machine("one"))
    (farm.directory / "handover" / claim.stages[0].place).unlink()

    with pytest.raises(StoreError, match=r"is not in .*handover, but is claimed"):
        farm.collect(run, claim)


def test_what_is_no_stage_output_is_refused(farm: Farm) -> None:
    run = farm.prepare()
    claim = farm.unit(run, farm.machine("one"))
    path = farm.directory / "handover" / claim.stages[0].place
    path.write_bytes(b"not a tar file")

    with pytest.raises(UnsafeArchiveError):
        farm.collect(run, replaced(claim, sha256=sha256_of(path)))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            {"key": (other := digest("another")), "place": f"workers/one/translate/{other}.tar"},
            "another key than was asked for",
        ),
        ({"stage": "verify"}, r"it has the stages \['verify'\]"),
        ({"place": f"trusted/translate/{digest('x')}.tar"}, "in no worker's place"),
        ({"place": "workers/one/elsewhere/thing.tar"}, "in no worker's place"),
        ({"environments": ()}, "does not have the key"),
    ],
)
def test_a_claim_of_something_else_is_refused(
    farm: Farm, change: dict[str, object], said: str
) -> None:
    run = farm.prepare()
    claim = farm.unit(run, farm.machine("one"))

    with pytest.raises(ClaimError, match=said):
        farm.collect(run, replaced(claim, **change))

    assert not is_published(farm)


def test_a_claim_leaves_nothing_where_the_output_of_another_job_belongs(farm: Farm) -> None:
    """Whoever is trusted with one platform must not decide the bytes of another."""
    farm.after = Stage.VERIFY
    run, hostile = farm.prepare(platforms=BOTH), farm.machine("two")
    honest = farm.unit(run, farm.machine("one"))
    own = farm.unit(run, hostile, "toy-linux-x86_64_v3")
    directory = hostile.ctx.work.stage_directory("package", own.stages[1].key)
    key = honest.stages[1].key
    foreign = given_to(farm, "two", "package", key, directory, own.stages[1])
    lied = changed(own, stages=(own.stages[0], foreign, own.stages[2]))

    with pytest.raises(ClaimError, match="does not have the key") as caught:
        farm.collect(run, lied, honest)

    assert caught.value.where == "claim of two for toy-linux-x86_64_v3"
    taken = farm.signer.ctx.work.stage_directory("package", key) / "record.json"
    assert "v3" not in taken.read_text()


def test_a_key_that_nobody_asked_for_is_not_taken_over(farm: Farm) -> None:
    """Where only the worker can know the key, the signer computes it before it takes anything."""
    farm.signer.engine.machine = "riscv64"
    run, worker = farm.prepare(), farm.machine("one")
    claim, key = farm.unit(run, worker), digest("the job of another platform")
    given = claim.stages[0]
    directory = worker.ctx.work.stage_directory("translate", given.key)
    foreign = given_to(farm, "one", "translate", key, directory, given)

    with pytest.raises(ClaimError, match="does not have the key"):
        farm.collect(run, changed(claim, stages=(foreign,)))

    assert not farm.signer.ctx.work.stage_directory("translate", key).exists()


def test_a_claim_of_another_run_is_refused(farm: Farm) -> None:
    run = farm.prepare()
    claim = farm.unit(run, farm.machine("one"))

    with pytest.raises(ClaimError, match="it is of another run"):
        farm.collect(run, changed(claim, run="r0"))


def test_claims_of_another_run_are_refused(farm: Farm) -> None:
    first, second = farm.prepare(), farm.prepare("r2")
    claims = Claims(run=first.run, claims=())

    with pytest.raises(RunError, match="the claims are of run r1, but run r2"):
        collect(farm.signer.ctx, farm.store, second, claims, farm.channel(), Stage.PROJECTIONS)


def test_a_job_that_nobody_claims_is_a_failed_one(farm: Farm) -> None:
    run = farm.prepare()

    with pytest.raises(UnitFailedError, match="toy-linux-x86_64: no worker has claimed it"):
        farm.collect(run)


def test_a_release_with_a_job_that_failed_elsewhere_is_not_made(farm: Farm) -> None:
    run = farm.prepare(platforms=BOTH)
    claim = farm.unit(run, farm.machine("one"))
    failed = FailedJob(identifier="toy-linux-x86_64_v3", reason="given up after 3 attempts")

    with pytest.raises(UnitFailedError, match="given up after 3 attempts"):
        farm.collect(run, claim, failed=(failed,))

    assert not is_published(farm)


def test_a_release_whose_jobs_succeeded_is_made_beside_one_that_failed(farm: Farm) -> None:
    run = farm.prepare(names=("toy", "gem"))
    claim = farm.unit(run, farm.machine("one"), "gem-linux-x86_64")

    with pytest.raises(UnitFailedError, match="toy-linux-x86_64: no worker"):
        farm.collect(run, claim)

    assert [key for key in farm.published.sizes("gem") if key.endswith(".tar.gz")]


def test_all_failures_are_listed(farm: Farm) -> None:
    run = farm.prepare(names=("toy", "gem"))

    with pytest.raises(JobsFailedError, match=r"2 jobs failed(.|\n)*toy-(.|\n)*gem-"):
        farm.collect(run)


def test_a_nightly_whose_inputs_have_not_changed_gives_nobody_work(farm: Farm) -> None:
    first = farm.prepare("n1", channel="nightly", day=date(2026, 11, 20))
    farm.collect(first, farm.unit(first, farm.machine("one")))

    second = farm.prepare("n2", channel="nightly", day=date(2026, 11, 21))

    assert second.prepared.jobs == ()
    assert second.prepared.releases == ()
    assert len(second.prepared.unchanged) == 1


def test_an_environment_that_the_signer_cannot_make_is_left_to_the_worker(farm: Farm) -> None:
    farm.signer.engine.machine = "riscv64"
    worker = farm.machine("one")

    run = farm.prepare()

    assert [job.key for job in run.prepared.jobs] == [None]
    assert "its worker has to see to that" in farm.world.text.getvalue()
    farm.signer.engine.machine = "amd64"
    farm.signer.engine.images.clear()
    outcome = farm.collect(run, farm.unit(run, worker))
    assert len(outcome.releases) == 1
    assert farm.signer.steps == ["package"]


def test_a_run_of_other_code_is_refused_with_what_to_do(farm: Farm) -> None:
    run = farm.prepare()
    path = farm.directory / "handover" / "trusted" / "runs" / f"{run.run}.json"
    path.write_text(path.read_text().replace('"submission"', '"submitted"'))

    with pytest.raises(RunError, match="is no run that this code can read: submi"):
        known_run(farm.store, run.run)


def test_what_is_said_of_an_image_is_checked(farm: Farm) -> None:
    run = farm.prepare()
    (path,) = (farm.directory / "handover" / "trusted" / "environments").iterdir()
    assert environment_place(path.stem).endswith(path.name)
    path.write_text("{}")

    with pytest.raises(RunError, match="is no description of an image"):
        farm.unit(run, farm.machine("one"))


def test_what_is_no_output_at_a_workers_place_is_named_to_be_removed(farm: Farm) -> None:
    run = farm.prepare()
    worker = farm.machine("one")
    claim = farm.unit(run, worker)
    place = farm.directory / "handover" / claim.stages[0].place
    place.write_bytes(b"damaged")

    with pytest.raises(StoreError, match=r"workers/one/translate/.*is no output.*Remove it"):
        farm.unit(run, worker)

    place.unlink()
    assert len(farm.collect(run, farm.unit(run, worker)).releases) == 1
