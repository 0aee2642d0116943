"""Releases made by hand: tiny archives whose program is a shell script, published for real.

They take no translation and no container, so that a test can have as many as it likes.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from pipeline.effects.archives import Compression, Entry, write_archive
from pipeline.effects.files import describe
from pipeline.effects.store import Store
from pipeline.model import naming
from pipeline.model.artifacts import CONTENT_TYPES, Artifact, ArtifactKind
from pipeline.model.base import pretty_json
from pipeline.model.debian import BinaryPackage, DebianIndex
from pipeline.model.records import Manifest, SignedRelease
from pipeline.publish.events import Stamp, publication
from pipeline.publish.ledger import append
from pipeline.sign.checksums import checksums_text
from pipeline.sign.notary import Notary
from pipeline.sign.provenance import statement_json
from pipeline.sign.release import release_files
from tests.factories import FINGERPRINT, make_manifest, make_provenance, make_revision

PLATFORM: Final = "linux-x86_64"
EPOCH: Final = 1_779_753_600
Sign = Callable[[Path, Path], None]
"""Writes a detached signature of the first path to the second."""
Package = Callable[[Path, str], tuple[BinaryPackage, ...]]
"""Writes the Debian packages of a release of that version into a directory; says what they are."""


def no_packages(_directory: Path, _version: str) -> tuple[BinaryPackage, ...]:
    """Make no Debian package."""
    return ()


@dataclass(frozen=True, kw_only=True)
class HandMade:
    """A release's files in a directory."""

    directory: Path
    manifest: Manifest
    signed: SignedRelease
    files: tuple[Artifact, ...]

    def put(self, store: Store) -> None:
        """Put every file into *store*."""
        for artifact in self.files:
            key = naming.store_key(self.manifest.product, self.manifest.release, artifact.filename)
            path = self.directory / artifact.filename
            store.put_new(key, path, content_type=CONTENT_TYPES[artifact.kind])

    def announce(self, store: Store, notary: Notary, at: datetime, *, staged: bool = False) -> None:
        """Append the event that publishes it."""
        stamp = Stamp(at=at, by="tester", reason="made by hand")
        decide = publication(self.manifest, self.signed, self.files, stamp, staged=staged)
        append(store, notary, decide)

    def publish(
        self, stores: Sequence[Store], notary: Notary, at: datetime, *, staged: bool = False
    ) -> None:
        """Put it into all *stores* and announce it in the first."""
        for store in stores:
            self.put(store)
        self.announce(stores[0], notary, at, staged=staged)


@dataclass(frozen=True, kw_only=True)
class Maker:
    """Makes releases below a directory; *sign* and the key's *fingerprint* belong together.

    *package* makes their Debian packages; of a nightly it is given the number as a version.
    """

    directory: Path
    sign: Sign
    interpreter: str = "demo"
    fingerprint: str = FINGERPRINT
    public_key: bytes = b"a public key\n"
    package: Package = no_packages

    def release(self, version: str = "1.0.0", program: str = "exit 0", **fields: Any) -> HandMade:
        """Make a release."""
        name = f"{self.interpreter}-v{version}"
        given = {
            "release": name,
            "interpreter_version": version,
            "stable": "rc" not in version,
            **fields,
        }
        return self._made(name, program, version, given)

    def nightly(
        self, at: datetime, number: int, program: str = "exit 0", **fields: Any
    ) -> HandMade:
        """Make a nightly, from a revision of that number."""
        source = fields.get("source") or make_revision(number=number, revision=f"{number:064x}")
        stem = f"{self.interpreter}-c-jit-{number}-{source.revision[:12]}"
        release = naming.nightly_release(self.interpreter, source, at.date())
        given = {
            "release": release,
            "channel": "nightly",
            "stable": False,
            "source": source,
            **fields,
        }
        return self._made(stem, program, str(number), given)

    def _made(self, stem: str, program: str, version: str, fields: dict[str, Any]) -> HandMade:
        directory = self.directory / fields["release"]
        directory.mkdir(parents=True)
        archive = self._archive(directory, f"{stem}-linux64", program)
        names = {"product": self.interpreter, "interpreter": self.interpreter}
        packages = self.package(directory, version)
        built = (archive, *(_deb(directory, item) for item in packages))
        manifest = make_manifest(**{**names, **fields, "files": built})
        statement = directory / naming.provenance_name(manifest.release)
        statement.write_bytes(statement_json(make_provenance(manifest, self.fingerprint)))
        provenance = describe(statement, ArtifactKind.PROVENANCE, None)
        path = directory / naming.manifest_name(manifest.release)
        path.write_bytes(pretty_json(manifest))
        listed = describe(path, ArtifactKind.MANIFEST, None)
        indexes = _debian_index(directory, manifest.release, packages)
        checksums = directory / naming.CHECKSUMS_NAME
        checksums.write_bytes(checksums_text([*built, *indexes, provenance, listed]))
        signature = directory / naming.SIGNATURE_NAME
        self.sign(checksums, signature)
        key = directory / naming.PUBLIC_KEY_NAME
        key.write_bytes(self.public_key)
        signed = SignedRelease(
            release=manifest.release,
            product=manifest.product,
            provenance=provenance,
            manifest=listed,
            debian_index=indexes[0] if indexes else None,
            checksums=describe(checksums, ArtifactKind.CHECKSUMS, None),
            signature=describe(signature, ArtifactKind.SIGNATURE, None),
            public_key=describe(key, ArtifactKind.PUBLIC_KEY, None),
            fingerprint=self.fingerprint,
            is_throw_away=True,
        )
        files = release_files(manifest, signed)
        return HandMade(directory=directory, manifest=manifest, signed=signed, files=files)

    def _archive(self, directory: Path, top: str, program: str) -> Artifact:
        path = directory / f"{top}.tar.gz"
        content = f"#!/bin/sh\n{program}\n".encode()
        script = Entry(path=f"{top}/bin/{self.interpreter}", content=content, executable=True)
        write_archive(path, [script], compression=Compression.GZIP, epoch=EPOCH)
        return describe(path, ArtifactKind.ARCHIVE_GZ, PLATFORM)


def _deb(directory: Path, package: BinaryPackage) -> Artifact:
    return describe(directory / package.filename, ArtifactKind.DEB, package.platform)


def _debian_index(
    directory: Path, release: str, packages: tuple[BinaryPackage, ...]
) -> list[Artifact]:
    if not packages:
        return []
    path = directory / naming.packages_name(release)
    path.write_bytes(pretty_json(DebianIndex(packages=packages)))
    return [describe(path, ArtifactKind.DEBIAN_INDEX, None)]


def sign_by_copy(path: Path, signature: Path) -> None:
    """Sign without a key: for tests in which nobody checks."""
    signature.write_bytes(b"signature of " + path.read_bytes())
