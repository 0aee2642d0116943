"""The store that is a bucket of an S3 server, Amazon's or any other that keeps to its conditions.

A file is put with ``If-None-Match: *`` and an index with ``If-Match``, so that the server decides
who was first. Some servers ignore these headers: :meth:`S3Store.probe_conditional_puts` finds out.
There a look before each put keeps files from being lost, unless two releasers put one at the same
moment.

Every body is sent with ``Content-MD5``, which all servers check. A whole file's sha256 goes with it
as ``x-amz-checksum-sha256``, which Amazon checks; parts have none: a large file would be read
once more for it, and what readers get is compared in any case.
"""

import hashlib
import itertools
import logging
import posixpath
import tempfile
import uuid
from base64 import b64encode
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import closing, suppress
from dataclasses import dataclass
from enum import Enum
from html import escape
from http import HTTPStatus
from pathlib import Path
from threading import BoundedSemaphore, Event
from typing import TYPE_CHECKING, Final, TypeVar

from botocore.exceptions import ClientError

from pipeline.effects.files import CHUNK, sha256_of
from pipeline.effects.retry import GaveUpError, RetryableError, RetryPolicy
from pipeline.effects.s3_client import (
    FAULTS,
    LATER,
    NO_SUCH_KEY,
    NO_SUCH_UPLOAD,
    S3Limits,
    fault_of,
    make_client,
)
from pipeline.effects.store import (
    CACHE_FOR_EVER,
    CACHE_SHORTLY,
    LARGEST_FILE,
    OnBytes,
    Stored,
    Tagged,
    copied,
    ignore_bytes,
)
from pipeline.errors import ConflictError, StoreError, UncertainError
from pipeline.model.configs import S3_ADDRESS, S3Options
from pipeline.model.naming import check_key, is_key

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_s3.type_defs import (
        CompletedPartTypeDef,
        GetObjectOutputTypeDef,
        HeadObjectOutputTypeDef,
        ListObjectsV2OutputTypeDef,
        PutObjectRequestTypeDef,
    )

T = TypeVar("T")

PROBE_TYPE: Final = "application/octet-stream"
POINTER_TYPE: Final = "text/html; charset=utf-8"
DIGEST_ENTRY: Final = "sha256"
TARGET_ENTRY: Final = "target"
PAGE: Final = """<!doctype html>
<meta charset="utf-8"><title>{name}</title>
<meta http-equiv="refresh" content="0; url={link}">
<link rel="canonical" href="{link}">
<a href="{link}">{name}</a>
"""

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class ConditionalPuts:
    """Which conditions a server keeps to.

    ``if_none_match`` and ``completion`` keep files from being replaced, put whole and in parts;
    ``if_match`` keeps one releaser's ledger from replacing another's.
    """

    if_none_match: bool
    completion: bool
    if_match: bool

    @property
    def all_kept(self) -> bool:
        """Whether several releasers may use the store at the same time."""
        return self.if_none_match and self.completion and self.if_match


@dataclass(frozen=True, kw_only=True)
class _File:
    """A file on its way; ``content_type`` and ``digest`` (sha256, hex) go with it."""

    key: str
    path: Path
    size: int
    digest: str
    content_type: str
    on_bytes: OnBytes


class _End(Enum):
    """How a multipart upload ended."""

    MADE = "the server said that it made the object"
    FOUND = "the answer was lost, but the file is there"
    TAKEN = "another file is there"


class S3Store:
    """A bucket, from *address* (``s3://bucket/prefix``) on. Its client may be shared by threads."""

    def __init__(
        self,
        address: str,
        options: S3Options,
        retry: RetryPolicy | None = None,
        limits: S3Limits | None = None,
        client: "S3Client | None" = None,
    ) -> None:
        parts = S3_ADDRESS.fullmatch(address)
        if parts is None:
            msg = f"{address}: not s3://bucket or s3://bucket/prefix."
            raise StoreError(msg)
        self._address = address
        self._bucket, self._prefix = parts["bucket"], parts["prefix"]
        self._retry = retry or RetryPolicy()
        self._limits = limits or S3Limits()
        self._client = client or make_client(address, options, self._limits)
        self._bodies = BoundedSemaphore(self._limits.bodies)

    @property
    def address(self) -> str:
        """The bucket and the prefix."""
        return self._address

    def put_new(
        self,
        key: str,
        path: Path,
        *,
        content_type: str,
        sha256: str | None = None,
        on_bytes: OnBytes = ignore_bytes,
    ) -> bool:
        """Put a file under *key* unless something is there; looks first, to send nothing twice.

        Raises:
            ConflictError: somebody else is putting it right now.
        """
        if self._head(key) is not None:
            return False
        return self._put(
            _File(
                key=key,
                path=path,
                size=path.stat().st_size,
                digest=sha256 or sha256_of(path),
                content_type=content_type,
                on_bytes=on_bytes,
            )
        )

    def stored(self, key: str) -> Stored | None:
        """Read back all bytes under *key* and describe them."""

        def attempt() -> Stored | None:
            answer = self._get(key)
            if answer is None:
                return None
            with closing(answer["Body"]) as body:
                return copied(key, body.iter_chunks(CHUNK), None, LARGEST_FILE)

        return self._call(f"get {key}", attempt)

    def sizes(self, prefix: str) -> dict[str, int]:
        """Return every key below *prefix* with its size in bytes; a pointer's is its page's."""
        begin = f"{self._prefix}/" if self._prefix else ""
        sizes = {
            found["Key"].removeprefix(begin): found["Size"]
            for page in self._pages(f"{self._name(prefix)}/")
            for found in page.get("Contents", [])
        }
        return {key: size for key, size in sizes.items() if is_key(key)}

    def read(self, key: str) -> Tagged | None:
        """Return a small object with its ETag, or None."""

        def attempt() -> Tagged | None:
            answer = self._get(key)
            if answer is None:
                return None
            with closing(answer["Body"]) as body:
                return Tagged(data=body.read(), tag=answer["ETag"])

        return self._call(f"get {key}", attempt)

    def download(self, key: str, path: Path, *, largest: int = LARGEST_FILE) -> Stored | None:
        """Write all bytes under *key* to *path* and describe them; begun again if it is cut off."""

        def attempt() -> Stored | None:
            answer = self._get(key)
            if answer is None:
                return None
            with path.open("wb") as file, closing(answer["Body"]) as body:
                return copied(key, body.iter_chunks(CHUNK), file, largest)

        return self._call(f"get {key}", attempt)

    def replace(self, key: str, data: bytes, *, tag: str | None, content_type: str) -> None:
        """Put *data* under *key* if its ETag is still *tag*; tried once."""
        what = f"{self.address}: replace {key}"
        request = self._request(key, data, content_type, tag)
        try:
            self._client.put_object(**request)
        except FAULTS as error:
            fault = fault_of(error)
            if fault.is_conflict:
                msg = f"{what}: changed by somebody else meanwhile ({fault}). Run again."
                raise ConflictError(msg) from error
            if fault.leaves_open:
                msg = (
                    f"{what}: {fault}, so it may have been replaced or not. Nothing is lost: run "
                    "again, which looks first."
                )
                raise UncertainError(msg) from error
            msg = f"{what}: {fault}. {LATER if fault.may_pass else fault.remedy}"
            raise StoreError(msg) from error

    def point(self, key: str, target: str) -> bool:
        """Make *key* a page that leads to *target*, which a bucket's website answers by redirect.

        Raises:
            StoreError: there is a file under *key*, which stays.
            ConflictError: it was made to lead somewhere else meanwhile.
        """
        check_key(target)
        present = self._head(key)
        if present is not None and TARGET_ENTRY not in present["Metadata"]:
            msg = f"{self.address}: {key} is a file, which is never replaced by a pointer."
            raise StoreError(msg)
        if present is not None and present["Metadata"][TARGET_ENTRY] == target:
            return False
        tag = None if present is None else present["ETag"]
        if not self._call(f"point {key}", lambda: self._put_pointer(key, target, tag)):
            msg = f"{self.address}: {key} was changed by somebody else meanwhile. Run again."
            raise ConflictError(msg)
        return True

    def target(self, key: str) -> str | None:
        """Return where *key* leads, or None if it leads nowhere."""
        present = self._head(key)
        return None if present is None else present["Metadata"].get(TARGET_ENTRY)

    def remove(self, key: str) -> None:
        """Take away what is under *key*; nothing else here takes anything away."""
        name = self._name(key)
        self._call(
            f"remove {key}", lambda: self._client.delete_object(Bucket=self._bucket, Key=name)
        )

    def probe_conditional_puts(self) -> ConditionalPuts:
        """Find out which conditions the server keeps to, with an object that is removed again."""
        key = f"probe-{uuid.uuid4().hex}"
        try:
            made, again = self._takes(key, None), self._takes(key, None)
            return ConditionalPuts(
                if_none_match=made and not again,
                completion=self._completion_is_refused(key),
                if_match=self._tags_decide(key),
            )
        finally:
            self.remove(key)

    def _takes(self, key: str, tag: str | None) -> bool:
        try:
            self.replace(key, uuid.uuid4().bytes, tag=tag, content_type=PROBE_TYPE)
        except ConflictError:
            return False
        return True

    def _tags_decide(self, key: str) -> bool:
        before = self.read(key)
        return (
            before is not None and self._takes(key, before.tag) and not self._takes(key, before.tag)
        )

    def _completion_is_refused(self, key: str) -> bool:
        """Whether a multipart upload under a name that is taken comes to nothing."""
        with tempfile.NamedTemporaryFile() as temporary:
            path = Path(temporary.name)
            path.write_bytes(b"probe")
            file = _File(
                key=key,
                path=path,
                size=path.stat().st_size,
                digest=sha256_of(path),
                content_type=PROBE_TYPE,
                on_bytes=ignore_bytes,
            )
            upload = self._call(f"begin {key}", lambda: self._begin(file))
            try:
                parts = self._send_parts(file, upload)
                return not self._call(
                    f"finish {key}",
                    lambda: _unless_there(key, lambda: self._complete(file, upload, parts)),
                )
            finally:
                self._abort(file, upload)

    def _name(self, key: str) -> str:
        """Return the object's name in the bucket."""
        return f"{self._prefix}/{check_key(key)}" if self._prefix else check_key(key)

    def _call(self, what: str, action: Callable[[], T]) -> T:
        """Return what *action* returns, after the retries that are allowed."""
        what = f"{self.address}: {what}"

        def attempt() -> T:
            try:
                return action()
            except FAULTS as error:
                fault = fault_of(error)
                if fault.may_pass:
                    raise RetryableError(str(fault), fault.wait) from error
                msg = f"{what}: {fault}. {fault.remedy}"
                raise StoreError(msg) from error

        try:
            return self._retry.call(what, attempt)
        except GaveUpError as error:
            msg = f"{what}: {error}. {LATER}"
            raise StoreError(msg) from error

    def _head(self, key: str) -> "HeadObjectOutputTypeDef | None":
        name = self._name(key)

        def attempt() -> "HeadObjectOutputTypeDef | None":
            try:
                return self._client.head_object(Bucket=self._bucket, Key=name)
            except ClientError as error:
                # An answer to HEAD has no body, so no code: the bucket may be missing too.
                if fault_of(error).status == HTTPStatus.NOT_FOUND:
                    return None
                raise

        return self._call(f"look at {key}", attempt)

    def _get(self, key: str) -> "GetObjectOutputTypeDef | None":
        try:
            return self._client.get_object(Bucket=self._bucket, Key=self._name(key))
        except ClientError as error:
            # Any other 404 is of a missing bucket or of something that is no S3 server.
            if fault_of(error).code == NO_SUCH_KEY:
                return None
            raise

    def _pages(self, begin: str) -> Iterator["ListObjectsV2OutputTypeDef"]:
        token = ""
        while True:
            page = self._call(f"list {begin}", lambda token=token: self._page(begin, token))  # type: ignore[misc]
            yield page
            if not page.get("IsTruncated"):
                return
            token = page["NextContinuationToken"]

    def _page(self, begin: str, token: str) -> "ListObjectsV2OutputTypeDef":
        if not token:
            return self._client.list_objects_v2(Bucket=self._bucket, Prefix=begin)
        return self._client.list_objects_v2(
            Bucket=self._bucket, Prefix=begin, ContinuationToken=token
        )

    def _request(
        self, key: str, data: bytes, content_type: str, tag: str | None
    ) -> "PutObjectRequestTypeDef":
        """Return the put of a small object that may change, if its tag is still *tag*."""
        request: PutObjectRequestTypeDef = {
            "Bucket": self._bucket,
            "Key": self._name(key),
            "Body": data,
            "ContentMD5": _md5(data),
            "ChecksumSHA256": _sha256(data),
            "ContentType": content_type,
            "CacheControl": CACHE_SHORTLY,
        }
        if tag is None:
            request["IfNoneMatch"] = "*"
        else:
            request["IfMatch"] = tag
        return request

    def _put_pointer(self, key: str, target: str, tag: str | None) -> bool:
        page = _page_to(target, posixpath.relpath(target, posixpath.dirname(key)))
        request = self._request(key, page, POINTER_TYPE, tag)
        request["WebsiteRedirectLocation"] = f"/{self._name(target)}"
        request["Metadata"] = {TARGET_ENTRY: target}
        # If the answer to an earlier attempt was lost, it is there already.
        return (
            _unless_there(key, lambda: self._client.put_object(**request))
            or self.target(key) == target
        )

    def _put(self, file: _File) -> bool:
        if file.size >= self._limits.multipart_from:
            return self._put_in_parts(file)
        tries = itertools.count()

        def attempt() -> bool:
            # A second try follows on a lost answer: the file may be there.
            if next(tries) and (present := self._head(file.key)) is not None:
                return _is_same(present, file)
            return _unless_there(file.key, lambda: self._put_whole(file))

        if is_new := self._call(f"put {file.key}", attempt):
            file.on_bytes(file.size)
        return is_new

    def _put_whole(self, file: _File) -> None:
        with self._bodies:
            data = file.path.read_bytes()
            request = self._request(file.key, data, file.content_type, None)
            request["CacheControl"] = CACHE_FOR_EVER
            request["Metadata"] = {DIGEST_ENTRY: file.digest}
            self._client.put_object(**request)

    def _put_in_parts(self, file: _File) -> bool:
        """Put a file in parts; whatever ends this early, no parts are left behind."""
        upload = self._call(f"begin {file.key}", lambda: self._begin(file))
        end = None
        try:
            parts = self._send_parts(file, upload)
            end = self._call(f"finish {file.key}", lambda: self._finish(file, upload, parts))
        finally:
            if end is not _End.MADE:
                self._abort(file, upload)
        return end is not _End.TAKEN

    def _begin(self, file: _File) -> str:
        return self._client.create_multipart_upload(
            Bucket=self._bucket,
            Key=self._name(file.key),
            ContentType=file.content_type,
            CacheControl=CACHE_FOR_EVER,
            Metadata={DIGEST_ENTRY: file.digest},
        )["UploadId"]

    def _send_parts(self, file: _File, upload: str) -> list["CompletedPartTypeDef"]:
        stop = Event()
        pool = ThreadPoolExecutor(self._limits.parts_at_a_time, thread_name_prefix="part")
        try:
            numbers = {
                pool.submit(self._send_part, file, upload, number, stop): number
                for number in range(1, -(-file.size // self._limits.part_size) + 1)
            }
            for done in as_completed(numbers):
                done.result()
                file.on_bytes(self._part_size(file, numbers[done]))
            return [part.result() for part in numbers]
        finally:
            stop.set()
            pool.shutdown(cancel_futures=True)

    def _part_size(self, file: _File, number: int) -> int:
        return min(self._limits.part_size, file.size - (number - 1) * self._limits.part_size)

    def _send_part(
        self, file: _File, upload: str, number: int, stop: Event
    ) -> "CompletedPartTypeDef":
        what = f"put part {number} of {file.key}"

        def attempt() -> "CompletedPartTypeDef":
            if stop.is_set():
                msg = f"{what}: given up, since another part failed."
                raise StoreError(msg)
            with self._bodies:
                return self._put_part(file, upload, number)

        return self._call(what, attempt)

    def _put_part(self, file: _File, upload: str, number: int) -> "CompletedPartTypeDef":
        with file.path.open("rb") as stream:
            stream.seek((number - 1) * self._limits.part_size)
            data = stream.read(self._limits.part_size)
        answer = self._client.upload_part(
            Bucket=self._bucket,
            Key=self._name(file.key),
            UploadId=upload,
            PartNumber=number,
            Body=data,
            ContentMD5=_md5(data),
        )
        return {"PartNumber": number, "ETag": answer["ETag"]}

    def _finish(self, file: _File, upload: str, parts: list["CompletedPartTypeDef"]) -> _End:
        # The last look is for servers that do not keep to the condition here.
        present = self._head(file.key)
        if present is None:
            try:
                if _unless_there(file.key, lambda: self._complete(file, upload, parts)):
                    return _End.MADE
                present = self._head(file.key)
            except ClientError as error:
                # If an earlier answer was lost, the upload is gone because it became the file.
                present = self._head(file.key)
                if present is None or fault_of(error).code != NO_SUCH_UPLOAD:
                    raise
        is_ours = present is not None and _is_same(present, file)
        return _End.FOUND if is_ours else _End.TAKEN

    def _complete(self, file: _File, upload: str, parts: list["CompletedPartTypeDef"]) -> None:
        self._client.complete_multipart_upload(
            Bucket=self._bucket,
            Key=self._name(file.key),
            UploadId=upload,
            MultipartUpload={"Parts": parts},
            IfNoneMatch="*",
        )

    def _abort(self, file: _File, upload: str) -> None:
        """Take back what was sent; what led here is not hidden by a failure to do so."""
        name = self._name(file.key)

        def abort() -> None:
            with suppress(self._client.exceptions.NoSuchUpload):
                self._client.abort_multipart_upload(Bucket=self._bucket, Key=name, UploadId=upload)

        try:
            self._call(f"abort {file.key}", abort)
        except StoreError as error:
            logger.warning("%s The bucket should drop unfinished uploads by a rule.", error)


def _is_same(present: "HeadObjectOutputTypeDef", file: _File) -> bool:
    known = (present["ContentLength"], present["Metadata"].get(DIGEST_ENTRY))
    return known == (file.size, file.digest)


def _unless_there(key: str, put: Callable[[], object]) -> bool:
    """Do the conditional *put*; return whether there was nothing yet."""
    try:
        put()
    except ClientError as error:
        fault = fault_of(error)
        if fault.status == HTTPStatus.PRECONDITION_FAILED:
            return False
        if fault.status == HTTPStatus.CONFLICT:
            msg = f"{key}: somebody else is putting it at this moment ({fault}). Run again."
            raise ConflictError(msg) from error
        raise
    return True


def _page_to(target: str, link: str) -> bytes:
    return PAGE.format(name=escape(target), link=escape(link)).encode()


def _md5(data: bytes) -> str:
    return b64encode(hashlib.md5(data, usedforsecurity=False).digest()).decode()


def _sha256(data: bytes) -> str:
    return b64encode(hashlib.sha256(data).digest()).decode()
