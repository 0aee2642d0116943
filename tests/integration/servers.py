"""Servers that tests start and stop: what the public reads from."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import boto3
from moto.server import ThreadedMotoServer

from pipeline.effects.server import make_server

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client


@contextmanager
def directory_server(root: Path) -> Iterator[str]:
    """Serve *root* over HTTP and give the address."""
    server = make_server(root, "127.0.0.1", 0, quiet=True)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class Bucket:
    """A bucket that the public may read, of a server on this machine."""

    def __init__(
        self, endpoint: str, name: str, credentials: tuple[str, str] = ("tests", "tests")
    ) -> None:
        access_key, secret_key = credentials
        self.endpoint, self.name = endpoint, name
        self.environment = {
            "CI": "1",
            "AWS_ACCESS_KEY_ID": access_key,
            "AWS_SECRET_ACCESS_KEY": secret_key,
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
        }
        self.client: S3Client = boto3.client(
            "s3",
            endpoint_url=endpoint,
            aws_access_key_id=access_key,
            aws_secret_access_key=secret_key,
            region_name="us-east-1",
        )
        self.client.create_bucket(Bucket=name)
        statement = {
            "Effect": "Allow",
            "Principal": "*",
            "Action": "s3:GetObject",
            "Resource": f"arn:aws:s3:::{name}/*",
        }
        policy = {"Version": "2012-10-17", "Statement": [statement]}
        self.client.put_bucket_policy(Bucket=name, Policy=json.dumps(policy))

    @property
    def url(self) -> str:
        """The address under which the public reads the bucket."""
        return f"{self.endpoint}/{self.name}"

    def objects(self, prefix: str) -> dict[str, bytes]:
        """Return every object below *prefix*, by what follows it."""
        pages = self.client.get_paginator("list_objects_v2").paginate(
            Bucket=self.name, Prefix=prefix
        )
        names = [found["Key"] for page in pages for found in page.get("Contents", [])]
        return {
            name.removeprefix(prefix): self.client.get_object(Bucket=self.name, Key=name)[
                "Body"
            ].read()
            for name in names
        }

    def unfinished_uploads(self) -> list[str]:
        """Return the names of multipart uploads that were neither finished nor taken back."""
        uploads = self.client.list_multipart_uploads(Bucket=self.name).get("Uploads", [])
        return [upload["Key"] for upload in uploads]


@contextmanager
def s3_server() -> Iterator[str]:
    """Start moto's server, which keeps everything in memory, and give its address."""
    server = ThreadedMotoServer(port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        yield f"http://{host}:{port}"
    finally:
        server.stop()
