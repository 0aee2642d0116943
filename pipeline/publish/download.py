"""Downloads an archive as a careful user does: every step from the signed ledger to the bytes.

The ledger, whose signature was checked, has the manifest's digest; the manifest has the archive's;
``SHA256SUMS``, signed by the release's key, must say the same. The ``KEY.asc`` that lies beside the
files proves nothing, so it is not read.
"""

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pydantic import ValidationError

from pipeline.effects.files import sha256_of
from pipeline.effects.public import Receive
from pipeline.errors import BisectError, DigestMismatchError
from pipeline.model import naming
from pipeline.model.artifacts import Artifact, ArtifactKind
from pipeline.model.ledger import Published
from pipeline.model.records import Manifest
from pipeline.sign.checksums import parsed_checksums
from pipeline.sign.notary import FileVerifier

SMALL: Final = 16 << 20
PREFERRED: Final = (ArtifactKind.ARCHIVE_ZST, ArtifactKind.ARCHIVE_GZ, ArtifactKind.ARCHIVE_ZIP)
REMEDY: Final = "Do not use it; tell who makes the releases."


@dataclass(frozen=True, kw_only=True)
class Downloader:
    """Gets archives with *receive*, checks them with *verifier*, and keeps them by digest."""

    receive: Receive
    verifier: FileVerifier
    cache: Path

    def archive(self, event: Published, platform: str) -> Path | None:
        """Return the archive of a release for *platform*, checked; None if it has none.

        Raises:
            DownloadError: a file cannot be had.
            DigestMismatchError: a file is not the one that was published.
            SignatureError: the checksums were not signed by the release's key, or it is not
                trusted.
            BisectError: its manifest cannot be read.
        """
        artifact = archive_for(self._manifest(event), platform)
        if artifact is None:
            return None
        sums = self._checksums(event)
        for name, digest in (
            (naming.manifest_name(event.release), event.manifest_sha256),
            (artifact.filename, artifact.sha256),
        ):
            if sums.get(name) != digest:
                where = f"{event.release}: {naming.CHECKSUMS_NAME}: {name}"
                actual = sums.get(name, "not listed")
                raise DigestMismatchError(where, expected=digest, actual=actual, remedy=REMEDY)
        return self._kept(event, artifact.filename, artifact.sha256, artifact.size)

    def _manifest(self, event: Published) -> Manifest:
        name = naming.manifest_name(event.release)
        path = self._kept(event, name, event.manifest_sha256, SMALL)
        try:
            return Manifest.model_validate_json(path.read_bytes())
        except ValidationError as error:
            msg = f"{name}: not a manifest that this version can read: {error.errors()[0]['msg']}"
            raise BisectError(msg) from error

    def _checksums(self, event: Published) -> dict[str, str]:
        """Return what the signed checksums file says, by file name."""
        with tempfile.TemporaryDirectory(prefix="rpp-") as temporary:
            checksums, signature = (
                Path(temporary, name) for name in (naming.CHECKSUMS_NAME, naming.SIGNATURE_NAME)
            )
            for path in (checksums, signature):
                key = naming.store_key(event.product, event.release, path.name)
                self.receive(key, path, SMALL)
            self.verifier.check_file(checksums, signature, event.fingerprint)
            return parsed_checksums(checksums.read_text(encoding="utf-8"))

    def _kept(self, event: Published, filename: str, sha256: str, limit: int) -> Path:
        """Return a file of known digest, downloaded if it is not in the cache."""
        final = self.cache / sha256 / filename
        if final.exists() and sha256_of(final) == sha256:
            return final
        final.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="download-", dir=self.cache) as temporary:
            path = Path(temporary, filename)
            key = naming.store_key(event.product, event.release, filename)
            received = self.receive(key, path, limit)
            if received.sha256 != sha256:
                raise DigestMismatchError(
                    key, expected=sha256, actual=received.sha256, remedy=REMEDY
                )
            path.replace(final)
        return final


def archive_for(manifest: Manifest, platform: str) -> Artifact | None:
    """Return the archive of a manifest for *platform*, in the smallest form there is. Pure."""
    found = {item.kind: item for item in manifest.files if item.platform == platform}
    return next((found[kind] for kind in PREFERRED if kind in found), None)
