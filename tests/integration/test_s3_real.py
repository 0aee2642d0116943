"""The S3 store on Ceph's gateway: atomic conditions, real digests, and what the public gets."""

import hashlib
import os
import re
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

import pytest
import requests
from botocore.exceptions import ClientError

from pipeline.effects.s3_client import MIB, S3Limits
from pipeline.effects.s3_store import ConditionalPuts, S3Store
from pipeline.effects.store import Stored
from pipeline.errors import ConflictError, StoreError
from tests.integration.ceph import Ceph
from tests.integration.s3 import S3Server, append_by_two, moto_server, numbers_in, put_by_eight

pytestmark = [pytest.mark.docker, pytest.mark.network, pytest.mark.slow]

BUCKET: Final = "releases"
GZIP: Final = "application/gzip"
JSON: Final = "application/json"
KEPT: Final = ConditionalPuts(if_none_match=True, completion=True, if_match=True)
LIMITS: Final = S3Limits(multipart_from=5 * MIB, part_size=5 * MIB)


@pytest.fixture(scope="module")
def server(ceph: Ceph) -> Ceph:
    ceph.bucket(BUCKET)
    return ceph


@pytest.fixture
def store(server: Ceph, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> S3Store:
    """A store with a prefix of its own."""
    server.let_in(monkeypatch)
    prefix = re.sub(r"[^a-z_]", "-", request.node.name).strip("-")
    return server.store(f"s3://{BUCKET}/{prefix}", limits=LIMITS)


def of(store: S3Store, key: str) -> str:
    """Return the object's name in the bucket."""
    return f"{store.address.removeprefix(f's3://{BUCKET}/')}/{key}"


def a_file(directory: Path, size: int) -> Path:
    path = directory / f"file-{size}"
    path.write_bytes(os.urandom(size))
    return path


def test_every_condition_is_kept(server: Ceph, store: S3Store) -> None:
    assert store.probe_conditional_puts() == KEPT
    assert [name for name in server.objects(BUCKET) if "probe" in name] == []


def test_what_this_server_does_other_than_the_mock(
    server: Ceph, monkeypatch: pytest.MonkeyPatch
) -> None:
    with moto_server() as mock:
        mock.bucket(BUCKET)
        mock.let_in(monkeypatch)
        rows = {name: (seen_at(server, name), seen_at(mock, name)) for name in ODDITIES}

    print("\n\n| request | Ceph | moto |\n|---|---|---|")  # noqa: T201
    for name, (real, mocked) in rows.items():
        print(f"| {name} | {real} | {mocked} |")  # noqa: T201
    assert rows["wrong Content-MD5"] == ("400 BadDigest", "200")
    assert rows["If-None-Match: * on a taken name"] == ("412 PreconditionFailed",) * 2


ODDITIES: Final = {
    "If-None-Match: * on a taken name": {"IfNoneMatch": "*"},
    "If-Match on another tag": {"IfMatch": '"0"'},
    "If-Match on a free name": {"IfMatch": '"0"', "Key": "free"},
    "wrong Content-MD5": {"ContentMD5": "1B2M2Y8AsgTpgAmY7PhCfg=="},
    "wrong x-amz-checksum-sha256": {
        "ChecksumSHA256": "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU="
    },
}


def seen_at(server: S3Server, name: str) -> str:
    """Return how a server answers an unusual put."""
    client = server.client()
    client.put_object(Bucket=BUCKET, Key="taken", Body=b"old")
    request: dict[str, str | bytes] = {"Bucket": BUCKET, "Key": "taken", "Body": b"new"}
    try:
        client.put_object(**{**request, **ODDITIES[name]})  # type: ignore[arg-type]
    except ClientError as error:
        status = error.response["ResponseMetadata"]["HTTPStatusCode"]
        return f"{status} {error.response['Error']['Code']}"
    return "200"


@pytest.mark.parametrize("size", [100, 11 * MIB], ids=["whole", "parts"])
def test_of_eight_who_put_at_once_exactly_one_does(
    server: Ceph, store: S3Store, tmp_path: Path, size: int
) -> None:
    won = put_by_eight(store, "file", tmp_path, size)

    assert len(won) == 1
    assert server.data(BUCKET, of(store, "file")) == won[0]
    assert server.unfinished(BUCKET, of(store, "file")) == []


def test_of_eight_who_replace_at_once_exactly_one_does(server: Ceph, store: S3Store) -> None:
    store.replace("ledger.json", b"[]", tag=None, content_type=JSON)
    before = store.read("ledger.json")
    assert before is not None
    start = threading.Barrier(8)

    def replace(number: int) -> bytes | None:
        data = b"%d" % number
        start.wait()
        try:
            store.replace("ledger.json", data, tag=before.tag, content_type=JSON)
        except ConflictError:
            return None
        return data

    with ThreadPoolExecutor(8) as pool:
        won = [data for data in pool.map(replace, range(8)) if data is not None]

    assert len(won) == 1
    assert server.data(BUCKET, of(store, "ledger.json")) == won[0]


def test_two_releasers_lose_nothing_of_each_other(store: S3Store) -> None:
    conflicts = append_by_two(store, "ledger.json", 100)

    assert sorted(numbers_in(store, "ledger.json")) == sorted([*range(100)] * 2)
    assert conflicts > 0


@pytest.mark.parametrize("size", [1000, 11 * MIB + 1], ids=["whole", "parts"])
def test_the_public_gets_the_bytes_as_they_are(
    server: Ceph, store: S3Store, tmp_path: Path, size: int
) -> None:
    path = a_file(tmp_path, size)

    assert store.put_new("a/file.tar.gz", path, content_type=GZIP) is True

    answer = requests.get(
        f"{server.endpoint}/{BUCKET}/{of(store, 'a/file.tar.gz')}",
        headers={"Accept-Encoding": "gzip, zstd"},
        timeout=60,
    )
    assert answer.status_code == 200
    assert answer.content == path.read_bytes()
    assert answer.headers["Content-Type"] == GZIP
    assert answer.headers["Cache-Control"] == "public, max-age=31536000, immutable"
    assert "Content-Encoding" not in answer.headers
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    assert store.stored("a/file.tar.gz") == Stored(size=size, sha256=digest)
    assert store.sizes("a") == {"a/file.tar.gz": size}


def test_an_index_may_be_kept_for_a_minute(server: Ceph, store: S3Store) -> None:
    store.replace("versions.json", b"[]", tag=None, content_type=JSON)

    url = f"{server.endpoint}/{BUCKET}/{of(store, 'versions.json')}"
    answer = requests.get(url, timeout=60)
    assert answer.headers["Cache-Control"] == "public, max-age=60"
    assert answer.headers["Content-Type"] == JSON


def test_a_pointer_is_a_page_that_leads_on(server: Ceph, store: S3Store) -> None:
    assert store.point("latest/file", "a/file.tar.gz") is True
    assert store.point("latest/file", "a/file.tar.gz") is False
    assert store.point("latest/file", "b/file.tar.gz") is True

    answer = requests.get(f"{server.endpoint}/{BUCKET}/{of(store, 'latest/file')}", timeout=60)
    assert store.target("latest/file") == "b/file.tar.gz"
    assert 'href="../b/file.tar.gz"' in answer.text


def test_what_is_removed_is_gone_and_may_be_removed_again(store: S3Store, tmp_path: Path) -> None:
    store.put_new("a/file", a_file(tmp_path, 10), content_type=GZIP)

    store.remove("a/file")
    store.remove("a/file")

    assert store.stored("a/file") is None
    assert store.read("a/file") is None
    assert store.sizes("a") == {}


def test_a_list_of_several_pages_is_complete(server: Ceph, store: S3Store) -> None:
    client = server.client()

    def put(number: int) -> None:
        client.put_object(Bucket=BUCKET, Key=of(store, f"many/{number:04}"), Body=b"x")

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(put, range(1100)))

    assert store.sizes("many") == {f"many/{number:04}": 1 for number in range(1100)}


def test_a_wrong_secret_is_refused_and_not_shown(
    server: Ceph, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.let_in(monkeypatch)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "another-secret")
    store = server.store(f"s3://{BUCKET}")

    with pytest.raises(StoreError, match=r"HTTP 403 \(SignatureDoesNotMatch\)") as raised:
        store.read("ledger.json")

    assert "another-secret" not in str(raised.value)


def test_a_missing_bucket_is_no_empty_store(store: S3Store, server: Ceph) -> None:
    nowhere = server.store("s3://nowhere")

    for action in (nowhere.read, nowhere.stored, nowhere.sizes):
        with pytest.raises(StoreError, match="NoSuchBucket"):
            action("a")
    assert store.read("a") is None


def test_a_restart_of_the_server_keeps_what_was_put(
    server: Ceph, store: S3Store, tmp_path: Path
) -> None:
    path = a_file(tmp_path, 6 * MIB)
    store.put_new("a/file", path, content_type=GZIP)
    store.replace("ledger.json", b"[1]", tag=None, content_type=JSON)
    before = store.read("ledger.json")

    server.restart()

    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    assert store.stored("a/file") == Stored(size=path.stat().st_size, sha256=digest)
    assert store.read("ledger.json") == before
    assert store.put_new("a/file", path, content_type=GZIP) is False
