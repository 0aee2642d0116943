"""The verified archives that packages and images are made from."""

from dataclasses import dataclass
from pathlib import Path

from pipeline.model.artifacts import Artifact, ArtifactKind
from pipeline.model.records import BuildInfo, Package


@dataclass(frozen=True, kw_only=True)
class Archives:
    """A job's finished archives, in *directory*, and how they were built."""

    package: Package
    directory: Path
    info: BuildInfo

    def artifact(self, kind: ArtifactKind) -> Artifact | None:
        """Return the archive of a kind, or None if the job has none."""
        found = (item for item in self.package.artifacts if item.kind is kind)
        return next(found, None)

    def path(self, artifact: Artifact) -> Path:
        """Return where an archive is."""
        return self.directory / artifact.filename
