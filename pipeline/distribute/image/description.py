"""What an image says of itself: configuration, labels and annotations. Pure.

The keys are those of the OCI image specification 1.1, ``annotations.md``.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from pipeline.distribute import oci
from pipeline.distribute.image.layers import Layer
from pipeline.errors import ImageError
from pipeline.model import naming
from pipeline.model.base import canonical_json
from pipeline.model.configs import Base, Config, GitSource, RegistryBase
from pipeline.model.images import ImageConfig, ImageVariant
from pipeline.model.records import Environment
from pipeline.plan import Job

ANNOTATION: Final = "org.opencontainers.image"
ENVIRONMENT_LABEL: Final = "org.rpython-pipeline.environment"
USER_ID: Final = 1000
SYSTEM_PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass(frozen=True, kw_only=True)
class Subject:
    """What an image is made of: whose archive, which variant, on which environment and base."""

    job: Job
    variant: ImageVariant
    environment: Environment
    base: Base

    @property
    def config(self) -> ImageConfig:
        """The interpreter's configuration of images."""
        found = self.job.interpreter.image
        if found is None:
            msg = f"{self.job.interpreter.interpreter}: its config has no table image."
            raise ImageError(msg)
        return found

    @property
    def root(self) -> str:
        """Where the archive's content is in the image."""
        return f"/{self.config.directory}"

    @property
    def created(self) -> str:
        """The source's time, which stands for that of everything."""
        return datetime.fromtimestamp(self.job.revision.epoch, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")

    @property
    def stem(self) -> str:
        """Begins the names of the image's files."""
        return "-".join(filter(None, (self.job.stem, self.variant.suite, self.variant.name)))

    @property
    def platform(self) -> oci.OciPlatform:
        """The platform by OCI's names."""
        if self.job.platform.oci is None:
            msg = f"{self.job.platform.identifier}: there are no images of {self.job.platform.os}."
            raise ImageError(msg)
        return oci.OciPlatform.of(self.job.platform.oci)


def annotations_of(subject: Subject, vendor: str) -> dict[str, str]:
    """Return what the manifest and, as labels, the configuration say."""
    job = subject.job
    interpreter = job.interpreter
    source = interpreter.source
    said = {
        "title": subject.config.image,
        "description": interpreter.summary,
        "version": str(job.version),
        "revision": job.revision.revision,
        "source": naming.public_address(
            source.repository if isinstance(source, GitSource) else interpreter.homepage
        ),
        "licenses": interpreter.license,
        "url": interpreter.homepage,
        "vendor": vendor,
        "created": subject.created,
        **_base(subject.base),
    }
    labels = {f"{ANNOTATION}.{key}": value for key, value in said.items()}
    return {**labels, ENVIRONMENT_LABEL: f"sha256:{subject.environment.digest}"}


def _base(base: Base) -> dict[str, str]:
    """Return name and digest of a base; one that is made from packages has none elsewhere."""
    if not isinstance(base, RegistryBase):
        return {}
    name, _, digest = base.reference.partition("@")
    return {"base.name": name, "base.digest": digest}


def configuration_of(
    subject: Subject, layers: Sequence[Layer], annotations: dict[str, str]
) -> oci.ImageConfiguration:
    """Return the configuration of an image whose last layer is the interpreter's."""
    config, platform = subject.config, subject.platform
    said = [f"base {subject.environment.name}"] * (len(layers) - 2)
    packages = " ".join(subject.variant.packages) or "none"
    said += [f"packages: {packages}", f"{subject.job.stem} in {subject.root}"]
    return oci.ImageConfiguration(
        created=subject.created,
        architecture=platform.architecture,
        os=platform.os,
        variant=platform.variant,
        config=oci.RunConfig(
            user=f"{USER_ID}:{USER_ID}",
            env=environment_of(subject),
            cmd=config.command,
            working_dir=home_of(config),
            labels=annotations,
        ),
        rootfs=oci.RootFs(diff_ids=tuple(layer.diff_id for layer in layers)),
        history=tuple(oci.History(created=subject.created, created_by=line) for line in said),
    )


def home_of(config: ImageConfig) -> str:
    """Return the home of the image's user."""
    return f"/home/{config.user}"


def environment_of(subject: Subject) -> tuple[str, ...]:
    """Return the variables: ``PATH``, ``LANG`` and, as the official image has, the version's."""
    config = subject.config
    name = re.sub(r"[^A-Z0-9]", "_", config.image.upper())
    return (
        f"PATH={subject.root}/bin:{home_of(config)}/.local/bin:{SYSTEM_PATH}",
        "LANG=C.UTF-8",
        f"{name}_VERSION={subject.job.version}",
    )


def described_inputs(subject: Subject, config: Config) -> dict[str, object]:
    """Return everything of *subject* that decides an image's bytes."""
    said = annotations_of(subject, config.vendor.name)
    return {
        "annotations": said,
        "environment": environment_of(subject),
        "stem": subject.stem,
        "config": canonical_json(subject.config).decode(),
        "variant": subject.variant.model_dump(mode="json"),
        "platform": str(subject.platform),
        "multiarch": subject.job.platform.multiarch,
    }
