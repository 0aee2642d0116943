"""Runs an image that the engine has, as its users do."""

from collections.abc import Iterable

from pipeline.effects.context import Context
from pipeline.errors import InstallError
from pipeline.install.programs import Place, run_tests
from pipeline.model.images import PublishedImage
from pipeline.model.install import InstallTest


def image_place(image: PublishedImage) -> str:
    """Return how messages name an image."""
    kind = "-".join(filter(None, (image.variant, image.suite)))
    return f"image {image.image} {image.line} {kind}, {image.platform}"


def try_image(
    ctx: Context, image_id: str, image: PublishedImage, tests: Iterable[InstallTest], factor: int
) -> tuple[str, ...]:
    """Run *tests* in a container of an image, without network, as the user that it names.

    Returns:
        The names of those that passed.

    Raises:
        InstallError: one did not pass, or the image runs as root.
    """
    where = image_place(image)
    with ctx.engine.session(image_id, user=None) as session:
        if session.call(("id", "-u")).text.strip() == "0":
            msg = f"{where}: runs as root. Name a user in its Dockerfile."
            raise InstallError(msg)
        place = Place(
            client="image",
            where=where,
            run=lambda argv, timeout: session.call(argv, timeout=timeout),
            factor=factor,
        )
        return tuple(run_tests(tests, place))
