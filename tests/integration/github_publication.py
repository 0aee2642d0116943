"""A publication of six files to the imitated GitHub, in this process or as one that is killed."""

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from pipeline.effects.files import describe
from pipeline.effects.github import GithubReleases
from pipeline.effects.retry import RetryPolicy
from pipeline.model.artifacts import Artifact, ArtifactKind
from pipeline.model.configs import GithubConfig
from pipeline.publish.github import PageChange, ReleasePage, publish_on_github
from tests.integration.github_server import REPOSITORY, TOKEN

TAG: Final = "demo-v1.0.0"
FILES: Final = {
    f"{TAG}-linux64.tar.gz": (ArtifactKind.ARCHIVE_GZ, b"gz" * 150_000),
    f"{TAG}-linux64.tar.zst": (ArtifactKind.ARCHIVE_ZST, b"zst" * 40_000),
    f"{TAG}-provenance.json": (ArtifactKind.PROVENANCE, b'{"subject": []}\n'),
    f"{TAG}-manifest.json": (ArtifactKind.MANIFEST, b'{"release": "demo-v1.0.0"}\n'),
    "SHA256SUMS": (ArtifactKind.CHECKSUMS, b"00 *demo\n" * 5),
    "SHA256SUMS.asc": (ArtifactKind.SIGNATURE, b"-----BEGIN PGP SIGNATURE-----\n"),
}
CONTENTS: Final = {name: data for name, (_kind, data) in FILES.items()}
NOTES: Final = "The demo interpreter.\n"
TOKEN_VARIABLE: Final = "GITHUB_TOKEN"  # noqa: S105 - its name


def write_files(directory: Path) -> tuple[Artifact, ...]:
    """Write the files of the release; return what they are."""
    for name, data in CONTENTS.items():
        (directory / name).write_bytes(data)
    return described(directory)


def described(directory: Path) -> tuple[Artifact, ...]:
    """Return what the files of the release are."""
    return tuple(describe(directory / name, kind, None) for name, (kind, _) in FILES.items())


def make_page(files: tuple[Artifact, ...], **overrides: Any) -> ReleasePage:
    """Return what GitHub is to show."""
    fields: dict[str, Any] = {
        "product": "demo",
        "release": TAG,
        "files": files,
        "is_newest": True,
        "is_prerelease": False,
        "notes": NOTES,
        **overrides,
    }
    return ReleasePage(**fields)


def quick(attempts: int = 3, sleep: Callable[[float], None] = lambda _seconds: None) -> RetryPolicy:
    """Return a policy that waits in name only."""
    return RetryPolicy(attempts=attempts, first_wait=0.01, longest_wait=5.0, sleep=sleep)


def client(
    api: str, retry: RetryPolicy, token: str = TOKEN, timeout: float = 20.0
) -> GithubReleases:
    """Return a client of the imitation."""
    config = GithubConfig(repository=REPOSITORY, api=api)
    return GithubReleases(config, token, retry, timeout=(timeout, timeout), pause=0.0)


def publish(
    api: str, directory: Path, retry: RetryPolicy, *, timeout: float = 20.0, **overrides: Any
) -> PageChange:
    """Publish the files of *directory*."""
    page = make_page(described(directory), **overrides)
    releases = client(api, retry, timeout=timeout)
    return publish_on_github(releases, page, lambda artifact: directory / artifact.filename, retry)


if __name__ == "__main__":
    if os.environ.get(TOKEN_VARIABLE) != TOKEN:
        sys.exit("the token did not arrive")
    print(publish(sys.argv[1], Path(sys.argv[2]), quick()))  # noqa: T201 - for the test
