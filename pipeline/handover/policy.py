"""Who may do what in a hand-over bucket, as the bucket's policy says it. Pure.

The form is Amazon's policy language, version 2012-10-17, which other S3 servers read too:
https://docs.aws.amazon.com/AmazonS3/latest/userguide/example-bucket-policies.html
"""

from collections.abc import Iterable
from typing import Final

from pipeline.errors import ConfigError
from pipeline.handover.places import of_worker
from pipeline.model.configs import S3_ADDRESS
from pipeline.model.farm import FarmConfig

LANGUAGE: Final = "2012-10-17"
WRITE: Final = ("s3:PutObject", "s3:AbortMultipartUpload", "s3:ListMultipartUploadParts")
READ: Final = ("s3:GetObject",)
LIST: Final = ("s3:ListBucket",)

Statement = dict[str, object]


def bucket_policy(farm: FarmConfig, store: str, principal: str) -> dict[str, object]:
    """Return the policy under which each worker can read all, and write below its own place only.

    Nobody may take anything away; a rule of the bucket's lifecycle does that after some weeks.

    Args:
        farm: whose workers these are.
        store: the hand-over store, ``s3://bucket/prefix``.
        principal: the name of a worker's user for the server, with ``{}`` for the worker's name:
            ``arn:aws:iam::123456789012:user/{}`` at Amazon, ``arn:aws:iam:::user/{}`` with Ceph.

    Raises:
        ConfigError: the store is no bucket, or *principal* has no place for a name.
    """
    parts = S3_ADDRESS.fullmatch(store)
    if parts is None:
        msg = f"{store}: a policy is for a bucket: s3://bucket or s3://bucket/prefix."
        raise ConfigError(msg)
    if "{}" not in principal:
        msg = f"command line: --principal {principal}: has no {{}} for the worker's name."
        raise ConfigError(msg)
    bucket = f"arn:aws:s3:::{parts['bucket']}"
    top = f"{bucket}/{parts['prefix']}" if parts["prefix"] else bucket
    everybody = [principal.replace("{}", name) for name in farm.workers]
    signer = [principal.replace("{}", farm.signer)]
    statements = [
        _allow("ReadAll", everybody, READ, f"{top}/*"),
        _allow("ListAll", everybody, LIST, bucket),
        _allow("SignerWritesAll", signer, WRITE, f"{top}/*"),
    ]
    for number, name in enumerate(farm.builders):
        who = [principal.replace("{}", name)]
        statements.append(_allow(f"Worker{number}", who, WRITE, f"{top}/{of_worker(name)}/*"))
    return {"Version": LANGUAGE, "Statement": statements}


def _allow(name: str, who: Iterable[str], actions: Iterable[str], resource: str) -> Statement:
    return {
        "Sid": name,
        "Effect": "Allow",
        "Principal": {"AWS": list(who)},
        "Action": list(actions),
        "Resource": [resource],
    }
