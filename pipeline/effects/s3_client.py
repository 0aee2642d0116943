"""How an S3 server is asked, and what each of its answers means.

botocore's own checksums are off: they come behind the body (``aws-chunked``), and servers that do
not know that form store it as content. So are its retries: :mod:`pipeline.effects.retry` decides.
"""

from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Final

import boto3.session
from botocore.config import Config
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectTimeoutError,
    EndpointConnectionError,
    HTTPClientError,
    IncompleteReadError,
    ProxyConnectionError,
)
from botocore.exceptions import ConnectionError as BotoConnectionError
from botocore.parsers import ResponseParserError
from urllib3.exceptions import HTTPError

from pipeline.effects.retry import RETRIED_STATUS, asked_wait
from pipeline.errors import StoreError
from pipeline.model.configs import S3Options

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

MIB: Final = 1 << 20
CONNECTIONS: Final = 64
NO_SUCH_KEY: Final = "NoSuchKey"
NO_SUCH_UPLOAD: Final = "NoSuchUpload"

UNREACHED: Final = (EndpointConnectionError, ConnectTimeoutError, ProxyConnectionError)
"""Errors after which the server has certainly not seen the request."""
NETWORK: Final = (
    BotoConnectionError,
    HTTPClientError,
    IncompleteReadError,
    ResponseParserError,
    HTTPError,
)
FAULTS: Final = (ClientError, BotoCoreError, ResponseParserError, HTTPError)

REMEDIES: Final[dict[int | str, str]] = {
    "NoSuchBucket": "Create the bucket, or mend the store's address in channels.toml.",
    NO_SUCH_UPLOAD: "Somebody aborted the upload: run again.",
    "RequestTimeTooSkewed": "Set this machine's clock (timedatectl set-ntp true).",
    "NoCredentialsError": "Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE.",
    301: "The bucket is elsewhere: set s3.region and s3.endpoint in channels.toml.",
    401: "Check the credentials: AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE.",
    403: "Check the credentials (AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE) and "
    "the bucket's policy: it must let them get, put and list.",
    404: "Check the store's address and s3.endpoint in channels.toml.",
    501: "The server does not do this; doctor says what a store must be able to do.",
}
REMEDY: Final = "A retry would not change that: check the server's log and s3 in channels.toml."
LATER: Final = "Check the network and the server, then run again: what is there already stays."


@dataclass(frozen=True, kw_only=True)
class S3Limits:
    """Sizes in bytes, times in seconds.

    Files of ``multipart_from`` or more are put in parts, ``parts_at_a_time`` of one file at the
    same time; all files together hold at most ``bodies`` of ``part_size`` in memory.
    """

    connect_timeout: float = 15.0
    read_timeout: float = 60.0
    multipart_from: int = 16 * MIB
    part_size: int = 16 * MIB
    parts_at_a_time: int = 4
    bodies: int = 16


@dataclass(frozen=True, kw_only=True)
class Fault:
    """Why a request came to nothing; status 0 means that no answer was had."""

    status: int
    code: str
    may_pass: bool
    unreached: bool = False
    wait: float | None = None

    def __str__(self) -> str:
        return f"HTTP {self.status} ({self.code})" if self.status else self.code

    @property
    def is_conflict(self) -> bool:
        """Whether a condition did not hold; without the key, what a tag was of is gone."""
        conflicts = (HTTPStatus.CONFLICT, HTTPStatus.PRECONDITION_FAILED)
        return self.status in conflicts or self.code == NO_SUCH_KEY

    @property
    def leaves_open(self) -> bool:
        """Whether the server may have done what it was asked to."""
        unknown = self.may_pass or self.status > HTTPStatus.NOT_IMPLEMENTED
        return unknown and not self.unreached

    @property
    def remedy(self) -> str:
        """What to do."""
        return REMEDIES.get(self.code) or REMEDIES.get(self.status) or REMEDY


def make_client(address: str, options: S3Options, limits: S3Limits) -> "S3Client":
    """Return a client for the store at *address*; credentials come from where Amazon's rules say.

    Raises:
        StoreError: the options or the profile are not usable.
    """
    config = Config(
        connect_timeout=limits.connect_timeout,
        read_timeout=limits.read_timeout,
        retries={"mode": "standard", "total_max_attempts": 1},
        max_pool_connections=CONNECTIONS,
        tcp_keepalive=True,
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
        s3={"addressing_style": options.addressing},
    )
    try:
        return boto3.session.Session().client(
            "s3", endpoint_url=options.endpoint, region_name=options.region, config=config
        )
    except (BotoCoreError, ValueError) as error:
        msg = f"{address}: {error}. Check s3 in channels.toml and AWS_PROFILE."
        raise StoreError(msg) from error


def fault_of(error: Exception) -> Fault:
    """Say what an error of botocore's means; its own text may hold more than people should see."""
    if isinstance(error, ClientError):
        answer = error.response["ResponseMetadata"]
        status, code = answer["HTTPStatusCode"], error.response.get("Error", {}).get("Code", "?")
        return Fault(
            status=status,
            code=code,
            # Amazon's way of saying 408.
            may_pass=status in RETRIED_STATUS or code == "RequestTimeout",
            wait=asked_wait(answer.get("HTTPHeaders", {}).get("retry-after")),
        )
    return Fault(
        status=0,
        code=type(error).__name__,
        may_pass=isinstance(error, NETWORK),
        unreached=isinstance(error, UNREACHED),
    )
