"""S3 servers for tests: what all have in common, and the mock that runs in this process."""

import functools
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Barrier
from typing import TYPE_CHECKING, Final

import boto3.session
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError
from moto.server import ThreadedMotoServer

from pipeline.effects.retry import RetryPolicy
from pipeline.effects.s3_client import S3Limits
from pipeline.effects.s3_store import S3Store
from pipeline.errors import ConflictError
from pipeline.model.configs import S3Options

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

ACCESS_KEY: Final = "AKIDEXAMPLE"
SECRET_KEY: Final = "secret-of-a-server-for-tests"  # noqa: S105 - of servers that end with the tests


@dataclass(frozen=True, kw_only=True)
class S3Server:
    """A server that runs; every bucket of it may be used by every test."""

    endpoint: str

    def behind(self, endpoint: str) -> "S3Server":
        """Return the same server, asked through another address."""
        return replace(self, endpoint=endpoint)

    @property
    def environment(self) -> dict[str, str]:
        """What the pipeline needs in its environment to be let in."""
        return {"AWS_ACCESS_KEY_ID": ACCESS_KEY, "AWS_SECRET_ACCESS_KEY": SECRET_KEY}

    def let_in(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Give this process the credentials, and none of the machine's."""
        for name, value in self.environment.items():
            monkeypatch.setenv(name, value)
        monkeypatch.delenv("AWS_PROFILE", raising=False)

    def store(
        self,
        address: str,
        *,
        retry: RetryPolicy | None = None,
        limits: S3Limits | None = None,
    ) -> S3Store:
        """Return a store in a bucket that is there; see :meth:`let_in` and :meth:`bucket`."""
        options = S3Options(endpoint=self.endpoint, region="us-east-1", addressing="path")
        return S3Store(address, options, retry, limits)

    def client(self) -> "S3Client":
        """Return a plain client, to look at what a store has done."""
        return _client(self.endpoint)

    def bucket(self, name: str) -> str:
        """Make a bucket, whose objects everybody may read; return its name."""
        client = self.client()
        client.create_bucket(Bucket=name)
        statement = {
            "Effect": "Allow",
            "Principal": "*",
            "Action": "s3:GetObject",
            "Resource": f"arn:aws:s3:::{name}/*",
        }
        policy = {"Version": "2012-10-17", "Statement": [statement]}
        client.put_bucket_policy(Bucket=name, Policy=json.dumps(policy))
        return name

    def objects(self, bucket: str) -> dict[str, bytes]:
        """Return everything in a bucket, by name."""
        client = self.client()
        pages = client.get_paginator("list_objects_v2").paginate(Bucket=bucket)
        names = [item["Key"] for page in pages for item in page.get("Contents", [])]
        return {name: self.data(bucket, name) or b"" for name in names}

    def data(self, bucket: str, name: str) -> bytes | None:
        """Return an object's bytes, or None."""
        try:
            return self.client().get_object(Bucket=bucket, Key=name)["Body"].read()
        except ClientError as error:
            if error.response["Error"]["Code"] != "NoSuchKey":
                raise
            return None

    def unfinished(self, bucket: str, name: str) -> list[int]:
        """Return how many parts wait in each upload for *name*, neither finished nor aborted."""
        client = self.client()
        begun = client.list_multipart_uploads(Bucket=bucket, Prefix=name).get("Uploads", [])
        return [
            len(
                client.list_parts(Bucket=bucket, Key=name, UploadId=item["UploadId"]).get(
                    "Parts", []
                )
            )
            for item in begun
        ]


@functools.cache
def _client(endpoint: str) -> "S3Client":
    return boto3.session.Session().client(
        "s3",
        endpoint_url=endpoint,
        region_name="us-east-1",
        aws_access_key_id=ACCESS_KEY,
        aws_secret_access_key=SECRET_KEY,
        config=Config(s3={"addressing_style": "path"}, retries={"total_max_attempts": 1}),
    )


def put_by_eight(store: S3Store, key: str, directory: Path, size: int = 100) -> list[bytes]:
    """Put eight different files under one key at the same moment; return those that were put."""
    start = Barrier(8)

    def put(number: int) -> bytes | None:
        path = directory / f"racer-{number}"
        path.write_bytes(bytes([number]) * size)
        start.wait()
        try:
            is_new = store.put_new(key, path, content_type="application/gzip")
        except ConflictError:
            return None
        return path.read_bytes() if is_new else None

    with ThreadPoolExecutor(8) as pool:
        return [data for data in pool.map(put, range(8)) if data is not None]


def append_by_two(store: S3Store, key: str, count: int) -> int:
    """Let two writers append 0, 1, ... *count* - 1 to a JSON list; return their conflicts."""
    start = Barrier(2)

    def append(_writer: int) -> int:
        start.wait()
        return sum(_append(store, key, number) for number in range(count))

    with ThreadPoolExecutor(2) as pool:
        return sum(pool.map(append, range(2)))


def _append(store: S3Store, key: str, number: int) -> int:
    """Append as the ledger does: read, replace if unchanged, and again after a conflict."""
    conflicts = 0
    while True:
        found = store.read(key)
        numbers = json.loads(found.data) if found else []
        data = json.dumps([*numbers, number]).encode()
        tag = found.tag if found else None
        try:
            store.replace(key, data, tag=tag, content_type="application/json")
        except ConflictError:
            conflicts += 1
        else:
            return conflicts


def numbers_in(store: S3Store, key: str) -> list[int]:
    """Return the list under *key*."""
    found = store.read(key)
    return [] if found is None else json.loads(found.data)


@contextmanager
def moto_server() -> Iterator[S3Server]:
    """Run a mock of S3 in this process, behind a real socket.

    It keeps to conditions, though not while it is asked by two at once, and it accepts wrong
    digests and signatures: what depends on those is tried on a real server (``ceph.py``).
    """
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        yield S3Server(endpoint=f"http://{host}:{port}")
    finally:
        server.stop()
