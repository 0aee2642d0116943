"""Signs a release: gathers its verified archives under one manifest and one signature."""

import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pipeline.effects.context import Context, StageOutput
from pipeline.effects.files import describe, sha256_of
from pipeline.errors import DigestMismatchError
from pipeline.model import naming
from pipeline.model.artifacts import Artifact, ArtifactKind
from pipeline.model.base import pretty_json
from pipeline.model.configs import InterpreterConfig, SigningConfig
from pipeline.model.debian import BinaryPackage, DebianIndex
from pipeline.model.images import PublishedImage
from pipeline.model.records import Manifest, PlatformFacts, SignedRelease, Verification
from pipeline.plan import ReleasePlan
from pipeline.sign.checksums import checksums_text
from pipeline.sign.gpg import QUICKSTART, Keyring, quickstart_keyring, usable_key
from pipeline.sign.provenance import Statement, statement_json

VERSION: Final = 2


@dataclass(frozen=True, kw_only=True)
class Built:
    """A manifest's files: the directory of each, by name, and what the Debian packages are."""

    directories: Mapping[str, Path]
    packages: tuple[BinaryPackage, ...] = ()


@contextmanager
def signing_keyring(ctx: Context, config: SigningConfig) -> Iterator[Keyring]:
    """Give the keyring that the channel signs with: the user's own, or the quickstart's."""
    if config.key == QUICKSTART:
        with quickstart_keyring(ctx.process, _quickstart_home(ctx)) as keyring:
            yield keyring
    else:
        yield Keyring(process=ctx.process, home=None)


def has_keyring(ctx: Context, config: SigningConfig) -> bool:
    """Whether the channel's keyring is there without being made; only the quickstart's is made."""
    return config.key != QUICKSTART or _quickstart_home(ctx).is_dir()


def _quickstart_home(ctx: Context) -> Path:
    return ctx.work.path("keys", "gnupg")


@dataclass(frozen=True, kw_only=True)
class More:
    """What a release has beside its archives: source archives, Debian packages; and images."""

    files: tuple[Artifact, ...] = ()
    images: tuple[PublishedImage, ...] = ()


def _in_order(
    images: Iterable[PublishedImage], config: InterpreterConfig
) -> tuple[PublishedImage, ...]:
    """Return images as the configuration has their variants: the first suites have short tags."""
    variants = () if config.image is None else config.image.variants
    places = {(item.suite, item.name): place for place, item in enumerate(variants)}

    def order(image: PublishedImage) -> tuple[int, tuple[str, ...]]:
        place = places.get((image.suite, image.variant), len(places))
        return place, (image.image, image.line, image.suite, image.variant, image.platform)

    return tuple(sorted(images, key=order))


def make_manifest(
    release: ReleasePlan,
    verified: Mapping[str, Verification],
    keys: Mapping[str, str],
    input_key: str,
    more: More = More(),
) -> Manifest:
    """Return the manifest of *release*. Pure.

    *verified* and the translations' *keys* are by identifier.
    """
    config = release.interpreter
    platforms = tuple(
        PlatformFacts(
            platform=job.platform.identifier,
            mode=job.mode,
            translation_key=keys[job.identifier],
            gc=config.translation.gc,
            jit=job.jit,
            glibc_floor=verified[job.identifier].glibc_floor,
            declared_floor=job.platform.glibc_floor,
            modules=verified[job.identifier].modules,
            skipped_modules=verified[job.identifier].skipped,
            gates=tuple(dict.fromkeys(gate.gate for gate in verified[job.identifier].gates)),
        )
        for job in release.jobs
    )
    archives = (item for job in release.jobs for item in verified[job.identifier].artifacts)
    return Manifest(
        release=release.release,
        product=release.product,
        channel=release.channel,
        interpreter=config.interpreter,
        implementation=config.implementation,
        interpreter_version=release.version,
        language_version=release.language_version,
        stable=release.channel == "release" and release.version.final,
        source=release.revision,
        input_key=input_key,
        platforms=platforms,
        files=tuple(sorted((*archives, *more.files), key=lambda item: item.filename)),
        images=_in_order(more.images, config),
    )


def sign_inputs(
    manifest: Manifest,
    statement: Statement,
    fingerprint: str,
    packages: tuple[BinaryPackage, ...] = (),
) -> dict[str, object]:
    """Return everything that decides a signed release."""
    return {
        "packages": [package.model_dump(mode="json") for package in packages],
        "manifest": manifest.model_dump(mode="json"),
        "statement": statement.model_dump(mode="json"),
        "fingerprint": fingerprint,
    }


def sign_release(
    ctx: Context,
    config: SigningConfig,
    manifest: Manifest,
    statement: Statement,
    built: Built,
    stage: StageOutput,
) -> SignedRelease:
    """Put the release's complete set of files into the stage's directory, signed and checked.

    Args:
        ctx: the ports.
        config: which key signs.
        manifest: what the release consists of.
        statement: how that was made.
        built: the files of *manifest*, and what its Debian packages are.
        stage: where to write.

    Raises:
        SigningKeyError: the key may not or cannot sign.
        SignatureError: the fresh signature does not verify.
    """
    for artifact in manifest.files:
        _copy(built.directories[artifact.filename], stage.directory, artifact)
    index = _debian_index(manifest.release, built.packages, stage.directory)
    name, statement_data = naming.provenance_name(manifest.release), statement_json(statement)
    provenance = _written(stage.directory, name, statement_data, ArtifactKind.PROVENANCE)
    name, manifest_data = naming.manifest_name(manifest.release), pretty_json(manifest)
    manifest_file = _written(stage.directory, name, manifest_data, ArtifactKind.MANIFEST)
    others = (item for item in (index, provenance, manifest_file) if item is not None)
    listed = checksums_text([*manifest.files, *others])
    checksums = _written(stage.directory, naming.CHECKSUMS_NAME, listed, ArtifactKind.CHECKSUMS)
    signature, public_key, fingerprint = _signed(ctx, config, stage, checksums)
    return SignedRelease(
        release=manifest.release,
        product=manifest.product,
        provenance=provenance,
        manifest=manifest_file,
        debian_index=index,
        checksums=checksums,
        signature=signature,
        public_key=public_key,
        fingerprint=fingerprint,
        is_throw_away=config.key == QUICKSTART,
    )


def _debian_index(
    release: str, packages: tuple[BinaryPackage, ...], directory: Path
) -> Artifact | None:
    """Write the list of Debian packages, from which apt's indexes are made; None without any."""
    if not packages:
        return None
    ordered = tuple(sorted(packages, key=lambda item: item.filename))
    data = pretty_json(DebianIndex(packages=ordered))
    return _written(directory, naming.packages_name(release), data, ArtifactKind.DEBIAN_INDEX)


def _signed(
    ctx: Context, config: SigningConfig, stage: StageOutput, checksums: Artifact
) -> tuple[Artifact, Artifact, str]:
    """Sign the checksums and check it; return signature, public key and fingerprint."""
    checksums_path = stage.directory / checksums.filename
    signature_path = stage.directory / naming.SIGNATURE_NAME
    with signing_keyring(ctx, config) as keyring:
        key = usable_key(keyring, config, ctx.now())
        stage.step.phase(f"sign with {key.fingerprint}")
        keyring.sign(checksums_path, signature_path, key.fingerprint)
        keyring.verify(checksums_path, signature_path, key.fingerprint)
        key_data = keyring.public_key(key.fingerprint)
    public_key = _written(
        stage.directory, naming.PUBLIC_KEY_NAME, key_data, ArtifactKind.PUBLIC_KEY
    )
    signature = describe(signature_path, ArtifactKind.SIGNATURE, None)
    return signature, public_key, key.fingerprint


def _written(directory: Path, name: str, data: bytes, kind: ArtifactKind) -> Artifact:
    path = directory / name
    path.write_bytes(data)
    return describe(path, kind, None)


def release_files(manifest: Manifest, signed: SignedRelease) -> tuple[Artifact, ...]:
    """Return every file of a release, in the order in which they are uploaded."""
    listed = [signed.debian_index] if signed.debian_index is not None else []
    checks = (signed.checksums, signed.signature, signed.public_key)
    return (*manifest.files, *listed, signed.provenance, *checks, signed.manifest)


def _copy(source: Path, directory: Path, artifact: Artifact) -> None:
    target = directory / artifact.filename
    shutil.copyfile(source / artifact.filename, target)
    if (actual := sha256_of(target)) != artifact.sha256:
        raise DigestMismatchError(
            str(source / artifact.filename),
            expected=artifact.sha256,
            actual=actual,
            remedy="It changed after it was verified. Remove its directory and run again.",
        )
