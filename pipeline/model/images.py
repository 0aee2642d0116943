"""OCI images: what the configuration says of them, and how a release lists them.

Formats are those of the OCI image specification 1.1 (manifest, index, annotations).
"""

import re
from typing import Annotated, Final, Self

from pydantic import Field, StringConstraints, model_validator

from pipeline.model.base import Model, Name, RelativePath
from pipeline.model.debian import PackageName

OciDigest = Annotated[str, StringConstraints(pattern=r"^sha256:[0-9a-f]{64}$")]
Repository = Annotated[
    str,
    StringConstraints(
        pattern=r"^[a-z0-9.-]+(:[0-9]+)?(/[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*)+$", max_length=200
    ),
]
"""A repository of a registry: ``ghcr.io/owner/pypy``."""
UserName = Annotated[str, StringConstraints(pattern=r"^[a-z_][a-z0-9_-]*$", max_length=32)]

LanguageLine = Annotated[str, StringConstraints(pattern=r"^[0-9]+(\.[0-9]+)*$", max_length=20)]
"""What begins an image's tags, and orders its lines: ``3.11``, newer than ``3.9``."""

LOOPBACK: Final = re.compile(r"(localhost|127(\.[0-9]{1,3}){3})(:[0-9]+)?")

IMAGE_INDEX_TYPE: Final = "application/vnd.oci.image.index.v1+json"
IMAGE_MANIFEST_TYPE: Final = "application/vnd.oci.image.manifest.v1+json"


class ImageVariant(Model):
    """One kind of image: what it is made on, and what is installed there besides.

    ``environment`` (of ``environments.toml``) is its base; ``packages`` are Debian packages of
    the base's suite that are installed, among them those with the libraries that the interpreter's
    own programs need. ``dropped`` are patterns of files that this kind has not. ``suite`` and,
    unless it is empty, ``name`` (``slim``) are in its tags.
    """

    name: Annotated[str, StringConstraints(pattern=r"^([a-z][a-z0-9]*)?$")] = ""
    suite: Name
    environment: Name
    packages: tuple[PackageName, ...] = ()
    dropped: tuple[str, ...] = ()


class ImageConfig(Model):
    """How an interpreter's archive becomes OCI images.

    ``image`` is the last component of the repository, ``line`` begins the tags (``3.11``).
    The archive's content is in ``directory`` (no leading slash), whose ``bin`` is on PATH.
    ``private`` are patterns of bundled libraries, which are left out where the base has one of the
    same name: two copies of one library in one process clash. ``dropped`` are patterns of other
    files that no image has (``*`` also matches slashes). ``command`` is what runs by default;
    ``prepare`` are commands that are run at the end of the making, as ``ensurepip``; ``{root}``
    stands for the directory. ``user`` is who runs the command, with numbers 1000 and a home.
    A variant without a name has the short tags, the first one those without a suite.
    """

    image: Name
    line: LanguageLine
    directory: RelativePath
    user: UserName = "app"
    private: tuple[str, ...] = ()
    dropped: tuple[str, ...] = ()
    command: Annotated[tuple[str, ...], Field(min_length=1)]
    prepare: tuple[tuple[str, ...], ...] = ()
    variants: Annotated[tuple[ImageVariant, ...], Field(min_length=1)]


class RegistryConfig(Model):
    """Where a channel's images go; credentials are in the environment's variables of these names.

    ``repository`` is what the images' own names are below (``ghcr.io/owner``). Where none of the
    variables is set, docker's own file has them. ``plain_http`` is for a registry on the loopback
    only.
    """

    repository: Annotated[
        str,
        StringConstraints(pattern=r"^[a-z0-9.-]+(:[0-9]+)?(/[a-z0-9]+([._-]+[a-z0-9]+)*)*$"),
    ]
    plain_http: bool = False
    username_variable: Annotated[str, StringConstraints(pattern=r"^[A-Z][A-Z0-9_]*$")] = (
        "REGISTRY_USERNAME"
    )
    password_variable: Annotated[str, StringConstraints(pattern=r"^[A-Z][A-Z0-9_]*$")] = (
        "REGISTRY_PASSWORD"  # noqa: S105 - the variable's name
    )

    @model_validator(mode="after")
    def _plain_on_the_loopback_only(self) -> Self:
        if self.plain_http and LOOPBACK.fullmatch(self.host) is None:
            msg = f"plain_http: {self.host} is not on the loopback, so all could read the password"
            raise ValueError(msg)
        return self

    @property
    def host(self) -> str:
        """The registry's host, with its port if that is not the usual one."""
        return self.repository.partition("/")[0]

    @property
    def namespace(self) -> str:
        """What the names of images are below on that host; may be empty."""
        return self.repository.partition("/")[2]


class PublishedImage(Model):
    """One image of a release, for one platform, known by its manifest's digest.

    ``manifest_size`` is the manifest's own size, ``size`` that of everything that is downloaded,
    compressed; both in bytes. ``suite`` and ``variant`` decide its tags.
    """

    image: Name
    line: LanguageLine
    variant: str
    suite: Name
    platform: Name
    digest: OciDigest
    manifest_size: Annotated[int, Field(gt=0)]
    size: Annotated[int, Field(gt=0)]
