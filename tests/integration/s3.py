"""S3 servers for tests: what all have in common, and the mock that runs in this process."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

import boto3.session
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError
from moto.server import ThreadedMotoServer

from pipeline.effects.retry import RetryPolicy
from pipeline.effects.s3_client import S3Limits
from pipeline.effects.s3_store import S3Store
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
        return boto3.session.Session().client(
            "s3",
            endpoint_url=self.endpoint,
            region_name="us-east-1",
            aws_access_key_id=ACCESS_KEY,
            aws_secret_access_key=SECRET_KEY,
            config=Config(s3={"addressing_style": "path"}, retries={"total_max_attempts": 1}),
        )

    def bucket(self, name: str) -> str:
        """Make a bucket, whose objects everybody may read; return its name."""
        self.client().create_bucket(Bucket=name, ACL="public-read")
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

    def unfinished(self, bucket: str) -> list[str]:
        """Return the names for which an upload was begun and neither finished nor aborted."""
        answer: Any = self.client().list_multipart_uploads(Bucket=bucket)
        return [item["Key"] for item in answer.get("Uploads", [])]


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
