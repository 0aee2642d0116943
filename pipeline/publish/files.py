"""Puts a signed release's files under names that never change, and fetches back what readers get.

Every site gets the same bytes. Archives and their provenance come first, then the signed checksums
of these, then the manifest; what is there already is left alone, so a killed run goes on where it
was.
"""

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Final

from pydantic import ValidationError

from pipeline.effects.console import Step
from pipeline.effects.context import Context
from pipeline.effects.files import sha256_of
from pipeline.effects.process import ProcessRunner
from pipeline.effects.public import Receive
from pipeline.effects.store import Store, Stored
from pipeline.errors import DownloadError, FetchBackError, ImmutableNameError, SignatureError
from pipeline.model import naming
from pipeline.model.artifacts import BUILT, CONTENT_TYPES, Artifact, ArtifactKind
from pipeline.model.records import SignedRelease
from pipeline.publish.parallel import each
from pipeline.publish.sites import Site
from pipeline.sign.checksums import parsed_checksums
from pipeline.sign.gpg import binary_keys, verify_signature
from pipeline.sign.provenance import faults_of

WAVES: Final = (
    BUILT | {ArtifactKind.PROVENANCE, ArtifactKind.DEBIAN_INDEX},
    frozenset({ArtifactKind.CHECKSUMS, ArtifactKind.SIGNATURE, ArtifactKind.PUBLIC_KEY}),
    frozenset({ArtifactKind.MANIFEST}),
)
"""Which files are put before which others."""
CHANGED: Final = "The release was not announced; find out who changed it, and make a new version."


@dataclass(frozen=True, kw_only=True)
class Upload:
    """A release that is to be published: its *files* are in *directory*.

    *parallel* is how many are transferred at a time. *checked* are those of the files that were
    seen to be in the directory as they should; others are read again before they are put.
    """

    signed: SignedRelease
    files: tuple[Artifact, ...]
    directory: Path
    parallel: int
    checked: frozenset[Artifact] = frozenset()

    def key(self, artifact: Artifact) -> str:
        """Return where in a store a file is."""
        return naming.store_key(self.signed.product, self.signed.release, artifact.filename)


def publish_files(
    ctx: Context, sites: Sequence[Site], upload: Upload, step: Step
) -> tuple[Artifact, ...]:
    """Put the files into every site, the first one first; return them as the sites hold them.

    A file that is there with the same bytes is left alone. A signature that is there and is good
    stays, since signing again gives other bytes; the mirrors get that one then.

    Raises:
        ImmutableNameError: a name stands for other bytes.
        StoreError: a store cannot be used.
    """
    with tempfile.TemporaryDirectory(prefix="rpp-") as temporary:
        for site in sites:
            upload = _put_all(ctx, site.store, upload, step)
            upload = _with_kept_signature(site.store, upload, Path(temporary))
    return upload.files


def read_back(ctx: Context, sites: Sequence[Site], upload: Upload, step: Step) -> None:
    """Fetch every file as readers do, from every site, and check it.

    The signature must be good, and the provenance that it covers must be of the very archives.

    Raises:
        FetchBackError: readers get something else than was signed.
        SignatureError: readers get a signature that is not good.
    """
    for site in sites:
        with (
            tempfile.TemporaryDirectory(prefix="rpp-") as temporary,
            ctx.public.reader(site.store, site.base_url) as receive,
        ):
            reader = _Reader(ctx=ctx, site=site, receive=receive, directory=Path(temporary))
            step.phase(f"fetch back from {site.base_url}")
            got = each(upload.parallel, partial(reader.check, upload), upload.files)
            _check_signature(ctx.process, upload, Path(temporary))
            public = replace(upload, files=tuple(got), directory=Path(temporary))
            _check_provenance(public, _address(site, upload), CHANGED)


def _address(site: Site, upload: Upload) -> str:
    place = naming.release_prefix(upload.signed.product, upload.signed.release)
    return naming.public_url(site.base_url, place)


def hold_files(sites: Sequence[Site], upload: Upload) -> bool:
    """Whether every site has files of these names and sizes; reads and puts none."""
    return all(_holds_files(site.store, upload) for site in sites)


def _holds_files(store: Store, upload: Upload) -> bool:
    there = store.sizes(naming.release_prefix(upload.signed.product, upload.signed.release))
    return all(there.get(upload.key(item)) == item.size for item in upload.files)


def check_directory(upload: Upload, expected: set[str], largest: int) -> None:
    """Check that a release is exactly the files that the plan announced, unchanged.

    Raises:
        FetchBackError: one is missing, unexpected, empty, larger than *largest* bytes, or not
            what its record says; or the provenance is of other archives.
    """
    names = {artifact.filename for artifact in upload.files}
    if names != expected:
        missing, extra = sorted(expected - names), sorted(names - expected)
        msg = f"{upload.directory}: missing {missing}, unexpected {extra}; nothing was uploaded."
        raise FetchBackError(msg)
    for artifact in upload.files:
        path = upload.directory / artifact.filename
        if not path.is_file() or sha256_of(path) != artifact.sha256:
            msg = (
                f"{path}: is not the file that was signed. Remove {upload.directory} and run again."
            )
            raise FetchBackError(msg)
        if not 0 < artifact.size <= largest:
            msg = (
                f"{path}: has {artifact.size} bytes, but a file may have 1 to {largest} "
                "(channels.toml: key largest_file). Nothing was uploaded."
            )
            raise FetchBackError(msg)
    remedy = f"Nothing was uploaded. Remove {upload.directory} and run again."
    _check_provenance(upload, str(upload.directory), remedy)


def _put_all(ctx: Context, store: Store, upload: Upload, step: Step) -> Upload:
    there = store.sizes(naming.release_prefix(upload.signed.product, upload.signed.release))
    published: dict[str, Artifact] = {}
    for wave in WAVES:
        files = [artifact for artifact in upload.files if artifact.kind in wave]

        def put(artifact: Artifact) -> Artifact:
            index = upload.files.index(artifact)
            step.phase(f"put {artifact.filename}", index, len(upload.files))
            return _put(ctx.process, store, upload, artifact, there)

        for artifact in each(upload.parallel, put, files):
            published[artifact.filename] = artifact
    return replace(upload, files=tuple(published[item.filename] for item in upload.files))


def _put(
    process: ProcessRunner, store: Store, upload: Upload, artifact: Artifact, there: dict[str, int]
) -> Artifact:
    """Put one file unless it is there; *there* is what the release's directory already has."""
    key, path = upload.key(artifact), upload.directory / artifact.filename
    if key not in there:
        if artifact not in upload.checked:
            _require_same(store, key, path, artifact)
        kind = CONTENT_TYPES[artifact.kind]
        if store.put_new(key, path, content_type=kind, sha256=artifact.sha256):
            return artifact
    found = store.stored(key)
    if found is None:
        msg = f"{store.address}: {key}: is in the store's list, but cannot be read. Run again."
        raise FetchBackError(msg)
    if found == Stored(size=artifact.size, sha256=artifact.sha256):
        return artifact
    if artifact.kind is ArtifactKind.SIGNATURE and _is_good(process, store, upload, key):
        return artifact.model_copy(update={"size": found.size, "sha256": found.sha256})
    msg = (
        f"{store.address}: {key}: already stands for other bytes (sha256 {found.sha256}, now "
        f"{artifact.sha256}). A published name never changes: release a new version."
    )
    raise ImmutableNameError(msg)


def _require_same(store: Store, key: str, path: Path, artifact: Artifact) -> None:
    """Stop before a store that lost a published file gets another one under its name."""
    if sha256_of(path) != artifact.sha256:
        msg = (
            f"{store.address}: {key}: is gone, and {path} is not it: the ledger has sha256 "
            f"{artifact.sha256}. Signing again made another; restore it from a mirror or a copy."
        )
        raise FetchBackError(msg)


def _is_good(process: ProcessRunner, store: Store, upload: Upload, key: str) -> bool:
    """Whether the store's signature is one of our checksums file by our key."""
    present = store.read(key)
    if present is None:
        return False
    with tempfile.TemporaryDirectory(prefix="rpp-") as temporary:
        signature, keyring = Path(temporary, "signature.asc"), Path(temporary, "key.gpg")
        signature.write_bytes(present.data)
        keyring.write_bytes(binary_keys(process, upload.directory / naming.PUBLIC_KEY_NAME))
        try:
            checksums = upload.directory / naming.CHECKSUMS_NAME
            verify_signature(process, checksums, signature, keyring, upload.signed.fingerprint)
        except SignatureError:
            return False
    return True


def _with_kept_signature(store: Store, upload: Upload, temporary: Path) -> Upload:
    """Return *upload* with the directory to copy from, if the store kept another signature."""
    signature = next(item for item in upload.files if item.kind is ArtifactKind.SIGNATURE)
    if sha256_of(upload.directory / signature.filename) == signature.sha256:
        return upload
    present = store.read(upload.key(signature))
    if present is None:
        msg = f"{store.address}: {upload.key(signature)}: was there a moment ago. Run again."
        raise FetchBackError(msg)
    for artifact in upload.files:
        (temporary / artifact.filename).symlink_to(upload.directory.resolve() / artifact.filename)
    (temporary / signature.filename).unlink()
    (temporary / signature.filename).write_bytes(present.data)
    return replace(upload, directory=temporary)


@dataclass(frozen=True, kw_only=True)
class _Reader:
    """Somebody who downloads from a site into a directory."""

    ctx: Context
    site: Site
    receive: Receive
    directory: Path

    def check(self, upload: Upload, artifact: Artifact) -> Artifact:
        """Download a file, compare it, and return it as readers get it; keep small ones only."""
        url = naming.public_url(self.site.base_url, upload.key(artifact))
        path = self.directory / artifact.filename
        try:
            received = self.receive(upload.key(artifact), path, artifact.size)
        except DownloadError as error:
            msg = f"{error} The release was not announced; run again when readers can get it."
            raise FetchBackError(msg) from error
        if received.content_encoding not in {None, "identity"}:
            msg = (
                f"{url}: is sent with Content-Encoding {received.content_encoding}, so clients "
                "would keep other bytes than were signed. The release was not announced. Switch "
                "compression off on the server."
            )
            raise FetchBackError(msg)
        self._compare(url, artifact, Stored(size=received.size, sha256=received.sha256))
        if received.content_type != CONTENT_TYPES[artifact.kind]:
            wanted = CONTENT_TYPES[artifact.kind]
            self.ctx.console.warn(f"{url}: is sent as {received.content_type}, not as {wanted}")
        if artifact.kind in BUILT:
            path.unlink()
        return artifact.model_copy(update={"size": received.size, "sha256": received.sha256})

    def _compare(self, url: str, artifact: Artifact, found: Stored) -> None:
        if found != Stored(size=artifact.size, sha256=artifact.sha256):
            msg = (
                f"{url}: {artifact.size} bytes with sha256 {artifact.sha256} were put, but readers "
                f"get {found.size} bytes, sha256 {found.sha256}. The release was not announced; "
                "check the store and what caches it."
            )
            raise FetchBackError(msg)


def _check_signature(process: ProcessRunner, upload: Upload, directory: Path) -> None:
    """Check the public's checksums and signature with the key that we know, not the public's."""
    with tempfile.TemporaryDirectory(prefix="rpp-") as temporary:
        keyring = Path(temporary, "key.gpg")
        keyring.write_bytes(binary_keys(process, upload.directory / naming.PUBLIC_KEY_NAME))
        verify_signature(
            process,
            directory / naming.CHECKSUMS_NAME,
            directory / naming.SIGNATURE_NAME,
            keyring,
            upload.signed.fingerprint,
        )


def _check_provenance(upload: Upload, place: str, remedy: str) -> None:
    """Check that the provenance is signed, and that it is of the archives that are at *place*.

    Every release that is made has one, since the plan announces it; those that were published
    before there were any do not.
    """
    for provenance in (item for item in upload.files if item.kind is ArtifactKind.PROVENANCE):
        if faults := _provenance_faults(upload, provenance):
            msg = (
                f"{place}/{provenance.filename}: is not the signed provenance of the archives "
                f"beside it: {'; '.join(faults)}. {remedy}"
            )
            raise FetchBackError(msg)


def _provenance_faults(upload: Upload, provenance: Artifact) -> list[str]:
    archives = {item.filename: item.sha256 for item in upload.files if item.kind in BUILT}
    checksums = (upload.directory / naming.CHECKSUMS_NAME).read_text("utf-8", "replace")
    is_signed = parsed_checksums(checksums).get(provenance.filename) == provenance.sha256
    unsigned = [] if is_signed else [f"{naming.CHECKSUMS_NAME} does not list it"]
    data = (upload.directory / provenance.filename).read_bytes()
    try:
        return unsigned + faults_of(data, archives, upload.signed.fingerprint)
    except ValidationError as error:
        return [*unsigned, f"it cannot be read: {error.errors()[0]['msg']}"]
