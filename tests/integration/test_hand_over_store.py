"""The hand-over store on a real S3 server: what each machine's credentials allow, and what not."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest

from pipeline.effects.archives import Entry, write_archive
from pipeline.effects.files import WorkDirectory, sha256_of, write_record
from pipeline.effects.s3_client import MIB, S3Limits
from pipeline.effects.s3_store import S3Store
from pipeline.errors import DigestMismatchError, StoreError
from pipeline.handover.checks import check_translation
from pipeline.handover.outputs import Output, give_stage, take_stage
from pipeline.handover.places import TRUSTED, of_worker, run_place
from pipeline.handover.policy import bucket_policy
from pipeline.model.farm import FarmConfig, StageClaim
from tests.factories import digest, make_translation
from tests.integration.ceph import Ceph

pytestmark = [pytest.mark.docker, pytest.mark.network, pytest.mark.slow]

ADDRESS: Final = "s3://handover/farm"
KEY: Final = digest("a translation")
LIMITS: Final = S3Limits(multipart_from=5 * MIB, part_size=5 * MIB)
FARM: Final = FarmConfig.model_validate(
    {
        "workers": {
            "signer": {"role": "signer", "memory": 1},
            "one": {"memory": 8},
            "two": {"memory": 8},
        }
    }
)

OpenAs = Callable[[str], S3Store]


@pytest.fixture(scope="module")
def server(ceph: Ceph) -> Ceph:
    """The server with a user for each worker, and the policy that the pipeline prints."""
    ceph.bucket("handover")
    for name in FARM.workers:
        secret = f"secret-of-{name}-for-tests"
        options = (f"--access-key=KEYOF{name.upper()}", f"--secret-key={secret}")
        made = ceph.container.exec_run(
            ["radosgw-admin", "user", "create", f"--uid={name}", f"--display-name={name}", *options]
        )
        assert made.exit_code == 0, made.output
    policy = bucket_policy(FARM, ADDRESS, "arn:aws:iam:::user/{}")
    ceph.client().put_bucket_policy(Bucket="handover", Policy=json.dumps(policy))
    return ceph


@pytest.fixture
def open_as(server: Ceph, monkeypatch: pytest.MonkeyPatch) -> OpenAs:
    """Return the hand-over store as one of the machines sees it."""

    def open_store(name: str) -> S3Store:
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", f"KEYOF{name.upper()}")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", f"secret-of-{name}-for-tests")
        monkeypatch.delenv("AWS_PROFILE", raising=False)
        return server.store(ADDRESS, limits=LIMITS)

    return open_store


def given(store: S3Store, owner: str, key: str, made: Path) -> StageClaim:
    return give_stage(store, owner, Output(stage="translate", key=key, directory=made))


def translation(directory: Path, size: int) -> Path:
    """Return a finished translation with so many bytes that nothing packs."""
    directory.mkdir()
    product, archive = directory / "product", directory / "products.tar"
    product.write_bytes(hashlib.shake_256(b"bytes").digest(size))
    write_archive(archive, [Entry(path="build/source/toy-c", content=product)], epoch=315532800)
    products = {"toy-c": sha256_of(product)}
    product.unlink()
    write_record(
        directory,
        make_translation(archive=archive.name, sha256=sha256_of(archive), products=products),
    )
    return directory


@pytest.mark.parametrize("size", [1000, 12 * MIB])
def test_what_a_worker_hands_over_the_signer_takes(
    open_as: OpenAs, tmp_path: Path, size: int
) -> None:
    key = digest(f"{size} bytes")
    made = translation(tmp_path / "made", size)
    claim = given(open_as("one"), of_worker("one"), key, made)
    work = WorkDirectory(tmp_path / "signer")

    assert take_stage(open_as("signer"), claim, work, check_translation)

    taken = work.stage_directory("translate", key)
    assert {path.name: path.read_bytes() for path in taken.iterdir()} == {
        path.name: path.read_bytes() for path in made.iterdir()
    }


@pytest.mark.parametrize("owner", [of_worker("two"), TRUSTED])
def test_a_worker_writes_to_no_place_but_its_own(
    open_as: OpenAs, tmp_path: Path, owner: str
) -> None:
    made = translation(tmp_path / "made", 1000)

    with pytest.raises(StoreError, match="AccessDenied"):
        given(open_as("one"), owner, KEY, made)


def test_a_worker_changes_no_run_and_takes_nothing_away(open_as: OpenAs, tmp_path: Path) -> None:
    signer = open_as("signer")
    signer.replace(run_place("r1"), b"{}", tag=None, content_type="application/json")
    made = translation(tmp_path / "made", 1000)
    claim = given(open_as("two"), of_worker("two"), KEY, made)
    worker = open_as("two")
    present = worker.read(run_place("r1"))
    assert present is not None

    with pytest.raises(StoreError, match="AccessDenied"):
        worker.replace(run_place("r1"), b"[]", tag=present.tag, content_type="application/json")
    with pytest.raises(StoreError, match="AccessDenied"):
        worker.remove(claim.place)

    assert worker.stored(claim.place) is not None


def test_an_output_that_a_worker_replaces_after_its_claim_is_refused(
    open_as: OpenAs, server: Ceph, tmp_path: Path
) -> None:
    made = translation(tmp_path / "made", 1000)
    claim = given(open_as("one"), of_worker("one"), KEY, made)
    server.client().put_object(Bucket="handover", Key=f"farm/{claim.place}", Body=b"harm")

    with pytest.raises(DigestMismatchError, match="look at that worker"):
        take_stage(open_as("signer"), claim, WorkDirectory(tmp_path / "signer"), check_translation)
