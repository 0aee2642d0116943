"""Puts a signed release's files into a store under names that never change, and reads them back."""

import tempfile
from pathlib import Path

from pipeline.effects.console import Step
from pipeline.effects.files import sha256_of
from pipeline.effects.process import ProcessRunner
from pipeline.effects.store import Store, Stored
from pipeline.errors import FetchBackError, ImmutableNameError, SignatureError
from pipeline.model import naming
from pipeline.model.artifacts import CONTENT_TYPES, Artifact, ArtifactKind
from pipeline.model.ledger import Ledger
from pipeline.model.records import SignedRelease
from pipeline.sign.gpg import GPG, verify_signature


def refuse_other_release(ledger: Ledger, product: str, release: str, manifest_sha256: str) -> None:
    """Stop before anything is uploaded if *release* is already another set of bytes.

    Raises:
        ImmutableNameError: it is.
    """
    event = ledger.published(product, release)
    if event is not None and event.manifest_sha256 != manifest_sha256:
        msg = (
            f"{product}/{release} was published on {event.at:%Y-%m-%d} by {event.by} with other "
            f"files (manifest sha256 {event.manifest_sha256}, now {manifest_sha256}). A published "
            "name never changes: release a new version."
        )
        raise ImmutableNameError(msg)


def publish_files(
    process: ProcessRunner,
    store: Store,
    signed: SignedRelease,
    files: tuple[Artifact, ...],
    directory: Path,
    step: Step,
) -> tuple[Artifact, ...]:
    """Put *files* of *directory* into *store*; return them as the store holds them.

    A file that is there with the same bytes is left alone. A signature that is there and is good
    stays, since signing again gives other bytes.

    Raises:
        ImmutableNameError: a name stands for other bytes.
        FetchBackError: the store gives back something else than was put.
    """
    published = []
    for index, artifact in enumerate(files):
        step.phase(f"put {artifact.filename}", index, len(files))
        published.append(_put(process, store, signed, artifact, directory))
    return tuple(published)


def holds_files(store: Store, signed: SignedRelease, files: tuple[Artifact, ...]) -> bool:
    """Whether the store holds exactly these bytes; puts nothing."""
    return all(
        store.stored(naming.store_key(signed.product, signed.release, artifact.filename))
        == Stored(size=artifact.size, sha256=artifact.sha256)
        for artifact in files
    )


def _put(
    process: ProcessRunner, store: Store, signed: SignedRelease, artifact: Artifact, directory: Path
) -> Artifact:
    key = naming.store_key(signed.product, signed.release, artifact.filename)
    path = directory / artifact.filename
    # When the ledger says that a release exists, its own signature counts, not a newer one here.
    ours = sha256_of(path) == artifact.sha256
    is_new = ours and store.put_new(key, path, content_type=CONTENT_TYPES[artifact.kind])
    there = store.stored(key)
    if there == Stored(size=artifact.size, sha256=artifact.sha256):
        return artifact
    if is_new or there is None:
        found = "nothing" if there is None else f"{there.size} bytes, sha256 {there.sha256}"
        msg = (
            f"{key}: {artifact.size} bytes with sha256 {artifact.sha256} were put, but the store "
            f"gives back {found}. The release was not announced; check the store."
        )
        raise FetchBackError(msg)
    if artifact.kind is ArtifactKind.SIGNATURE and _is_good(process, store, signed, key, directory):
        return artifact.model_copy(update={"size": there.size, "sha256": there.sha256})
    msg = (
        f"{key}: already stands for other bytes (sha256 {there.sha256}, now {artifact.sha256}). "
        "A published name never changes: release a new version."
    )
    raise ImmutableNameError(msg)


def _is_good(
    process: ProcessRunner, store: Store, signed: SignedRelease, key: str, directory: Path
) -> bool:
    """Whether the store's signature is one of our checksums file by our key."""
    present = store.read(key)
    if present is None:
        return False
    with tempfile.TemporaryDirectory(prefix="rpp-") as temporary:
        signature, keyring = Path(temporary, "signature.asc"), Path(temporary, "key.gpg")
        signature.write_bytes(present.data)
        public_key = directory / naming.PUBLIC_KEY_NAME
        process.run(["gpg", "--batch", "--dearmor", "--output", keyring, public_key], tool=GPG)
        try:
            checksums = directory / naming.CHECKSUMS_NAME
            verify_signature(process, checksums, signature, keyring, signed.fingerprint)
        except SignatureError:
            return False
    return True


def check_directory(files: tuple[Artifact, ...], directory: Path, expected: set[str]) -> None:
    """Check that a release is exactly the files that the plan announced, unchanged.

    Raises:
        FetchBackError: one is missing, unexpected, or not what its record says.
    """
    names = {artifact.filename for artifact in files}
    if names != expected:
        missing, extra = sorted(expected - names), sorted(names - expected)
        msg = f"{directory}: missing {missing}, unexpected {extra}; nothing was uploaded."
        raise FetchBackError(msg)
    for artifact in files:
        path = directory / artifact.filename
        if not path.is_file() or sha256_of(path) != artifact.sha256:
            msg = f"{path}: is not the file that was signed. Remove {directory} and run again."
            raise FetchBackError(msg)
