"""Gives every machine of a farm the same environments: the signer makes them, others load them.

Two machines that bootstrap an environment on two days get other packages, so other keys. What
the signer made stays the environment of its recipe until somebody removes it from the store.
"""

import tempfile
from pathlib import Path
from typing import IO, Final

import zstandard
from pydantic import ValidationError

from pipeline.effects.context import Context
from pipeline.effects.files import sha256_of
from pipeline.effects.store import Store
from pipeline.environment import ready_environment, recipe_key, record_environment
from pipeline.errors import (
    ConflictError,
    DigestMismatchError,
    RunError,
    StoreError,
    UncertainError,
)
from pipeline.handover.places import environment_place, image_place
from pipeline.model.base import pretty_json
from pipeline.model.farm import EnvironmentImage
from pipeline.model.platforms import Placement
from pipeline.model.records import Environment

LEVEL: Final = 3
IMAGE: Final = "application/zstd"
JSON: Final = "application/json"


def share_environment(ctx: Context, store: Store, name: str, placement: Placement) -> Environment:
    """Return the environment that all machines use; made and put into the store if there is none.

    Raises:
        ImageError: it cannot be made.
        StoreError: the store cannot be used.
    """
    shared = take_environment(ctx, store, name, placement)
    if shared is not None:
        return shared
    environment = ready_environment(ctx, name, placement)
    if not ctx.engine.contained:
        return environment
    with (
        ctx.console.step(f"share environment {name}"),
        tempfile.TemporaryDirectory(prefix="rpp-") as temporary,
    ):
        image = _put_image(ctx, store, environment, Path(temporary))
        place = environment_place(recipe_key(ctx, name, placement))
        try:
            store.replace(place, pretty_json(image), tag=None, content_type=JSON)
        except (ConflictError, UncertainError):
            shared = take_environment(ctx, store, name, placement)
            if shared is None:
                raise
            return shared
    return environment


def take_environment(
    ctx: Context, store: Store, name: str, placement: Placement
) -> Environment | None:
    """Return the shared environment, loaded into the engine if need be; None if there is none.

    Raises:
        DigestMismatchError: the store's image is not the one that was shared.
    """
    if not ctx.engine.contained:
        return None
    image = _shared(ctx, store, name, placement)
    if image is None:
        return None
    environment = image.environment
    if not ctx.engine.has_image(environment.image_id):
        with ctx.console.step(f"load environment {name}"):
            loaded = _load(ctx, store, image)
        environment = environment.model_copy(update={"image_id": loaded})
    record_environment(ctx, placement, environment)
    return environment


def shared_environment(
    ctx: Context, store: Store, name: str, placement: Placement
) -> Environment | None:
    """Return what is said of a shared environment, without loading anything; None if none is."""
    if not ctx.engine.contained:
        return None
    image = _shared(ctx, store, name, placement)
    return None if image is None else image.environment


def _shared(ctx: Context, store: Store, name: str, placement: Placement) -> EnvironmentImage | None:
    place = environment_place(recipe_key(ctx, name, placement))
    read = store.read(place)
    return None if read is None else _image(place, read.data)


def _put_image(
    ctx: Context, store: Store, environment: Environment, temporary: Path
) -> EnvironmentImage:
    tar, packed = temporary / "image.tar", temporary / "image.tar.zst"
    ctx.engine.save(environment.image_id, tar)
    with tar.open("rb") as source, packed.open("wb") as target:
        zstandard.ZstdCompressor(level=LEVEL, threads=-1).copy_stream(source, target)
    digest, size = sha256_of(packed), packed.stat().st_size
    place = image_place(environment.digest)
    if not store.put_new(place, packed, content_type=IMAGE, sha256=digest):
        stored = store.stored(place)
        if stored is None:
            msg = f"{place}: was in {store.address} a moment ago, and is gone. Run again."
            raise StoreError(msg)
        digest, size = stored.sha256, stored.size
    return EnvironmentImage(environment=environment, place=place, sha256=digest, size=size)


def _load(ctx: Context, store: Store, image: EnvironmentImage) -> str:
    with tempfile.TemporaryDirectory(prefix="rpp-") as temporary:
        packed, tar = Path(temporary, "image.tar.zst"), Path(temporary, "image.tar")
        found = store.download(image.place, packed)
        if found is None or found.sha256 != image.sha256:
            raise DigestMismatchError(
                image.place,
                expected=image.sha256,
                actual="none: it is gone" if found is None else found.sha256,
                remedy=f"Remove {image.place} and what names it from the store; it is made again.",
            )
        with packed.open("rb") as source, tar.open("wb") as target:
            _decompress(source, target)
        packed.unlink()
        return ctx.engine.load(tar)


def _decompress(source: IO[bytes], target: IO[bytes]) -> None:
    zstandard.ZstdDecompressor().copy_stream(source, target)


def _image(place: str, data: bytes) -> EnvironmentImage:
    try:
        return EnvironmentImage.model_validate_json(data)
    except ValidationError as error:
        wrong = error.errors()[0]
        msg = (
            f"{place}: is no description of an image: {wrong['msg']}. Remove it; it is made again."
        )
        raise RunError(msg) from error
