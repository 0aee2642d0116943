"""Copies the release channel's releases to GitHub, where one is configured: after they exist.

A copy is a projection of the ledger like an index: it may be made again at any time, and is then
found to be right. Nightlies are not copied; they come and go.
"""

import tempfile
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pipeline.effects.context import Context
from pipeline.effects.github import Releases
from pipeline.effects.public import Receive
from pipeline.effects.retry import RetryPolicy
from pipeline.errors import DownloadError, FetchBackError
from pipeline.model import naming
from pipeline.model.artifacts import Artifact
from pipeline.model.ledger import Release, State, newest_final
from pipeline.publish.github import PageChange, ReleasePage, publish_on_github
from pipeline.publish.sites import OpenChannel, Site

# An hourly limit is worth a wait; what was sent so far is not sent again in any case.
GITHUB_RETRY: Final = RetryPolicy(longest_wait=900.0)
NOTES: Final = """\
{interpreter} {interpreter_version}, language version {language_version}, from `{revision}`.

These are copies of <{url}>, with equal digests. To check them:

```
gpg --import KEY.asc   # the key should come from somewhere else: {fingerprint}
gpg --verify SHA256SUMS.asc SHA256SUMS && sha256sum -c SHA256SUMS
```
"""


@dataclass(frozen=True, kw_only=True)
class Copied:
    """What was changed on GitHub for a release."""

    release: str
    change: PageChange


def copied_releases(state: State) -> tuple[Release, ...]:
    """Return the releases that GitHub shows, yanked ones too. Pure."""
    return tuple(
        item for item in state.releases if item.published.channel == "release" and item.is_announced
    )


def release_page(state: State, release: Release, base_url: str) -> ReleasePage:
    """Return what GitHub is to show of *release*. Pure."""
    event = release.published
    prefix = naming.release_prefix(event.product, event.release)
    return ReleasePage(
        product=event.product,
        release=event.release,
        files=event.files,
        is_newest=release is newest_final(copied_releases(state)),
        is_prerelease=not event.stable,
        notes=NOTES.format(
            interpreter=event.interpreter,
            interpreter_version=event.interpreter_version,
            language_version=event.language_version,
            revision=event.source.revision,
            url=naming.public_url(base_url, prefix),
            fingerprint=event.fingerprint,
        ),
        yanked=None if release.yanked is None else release.yanked.reason,
    )


def copy_releases(
    ctx: Context,
    channel: OpenChannel,
    state: State,
    releases: Releases,
    names: Collection[str] | None = None,
) -> Iterator[Copied]:
    """Make GitHub show the releases, or those of *names*; yield each of them.

    Raises:
        DestinationError: GitHub does not take one; run again to go on.
    """
    for release in copied_releases(state):
        if names is None or release.name in names:
            page = release_page(state, release, channel.sites[0].base_url)
            change = _copy(ctx, channel.sites[0], page, releases)
            yield Copied(release=release.name, change=change)


def _copy(ctx: Context, site: Site, page: ReleasePage, releases: Releases) -> PageChange:
    with (
        ctx.console.step(f"copy {page.release} to GitHub") as step,
        ctx.public.reader(site.store, site.base_url) as receive,
        tempfile.TemporaryDirectory(prefix="rpp-") as temporary,
    ):

        def path_of(artifact: Artifact) -> Path:
            step.phase(f"send {artifact.filename}")
            key = naming.store_key(page.product, page.release, artifact.filename)
            return _fetched(receive, key, artifact, Path(temporary))

        change = publish_on_github(releases, page, path_of, GITHUB_RETRY)
        if change.is_none:
            step.skip("it is there already")
    return change


def _fetched(receive: Receive, key: str, artifact: Artifact, directory: Path) -> Path:
    """Return a file as readers get it, if that is what the ledger says."""
    path = directory / artifact.filename
    try:
        received = receive(key, path, artifact.size)
    except DownloadError as error:
        msg = f"{error} The release is there; run reconcile when it can be read."
        raise FetchBackError(msg) from error
    if (received.size, received.sha256) != (artifact.size, artifact.sha256):
        msg = f"{key}: readers get sha256 {received.sha256}, the ledger says {artifact.sha256}."
        raise FetchBackError(msg)
    return path
