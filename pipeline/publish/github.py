"""Copies a release to GitHub: draft, files, check of every digest, and only then public.

A projection of the ledger: it is written when the release exists in our own store, and may be
written again at any time. What a killed run left, a draft, is gone on with; it is known by a mark
in its notes, so that a draft that people wrote is never touched.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Final

from pipeline.effects.github import (
    UPLOADED,
    Announcement,
    GithubAsset,
    GithubRelease,
    Releases,
    insist,
)
from pipeline.effects.retry import RetryPolicy
from pipeline.effects.store import OnBytes, ignore_bytes
from pipeline.errors import DestinationError, ImmutableNameError
from pipeline.model.artifacts import CONTENT_TYPES, Artifact

# docs.github.com/repositories/releasing-projects-on-github/about-releases
MOST_ASSETS: Final = 1000
LARGEST_ASSET: Final = (2 << 30) - 1  # bytes
LONGEST_NOTES: Final = 125_000  # characters
REPAIRS: Final = 2

PathOf = Callable[[Artifact], Path]
"""Gives a file's place on this machine, its digest checked."""


@dataclass(frozen=True, kw_only=True)
class ReleasePage:
    """What GitHub is to show of a release; ``notes`` are Markdown.

    ``is_newest`` is by version among all final releases of the repository. ``yanked`` is the
    reason, if it was yanked.
    """

    product: str
    release: str
    files: tuple[Artifact, ...]
    is_newest: bool
    is_prerelease: bool
    notes: str
    yanked: str | None = None

    @property
    def mark(self) -> str:
        """What tells our releases from others; a reader of the page does not see it."""
        return f"<!-- rpython-pipeline: {self.product}/{self.release} -->"

    @property
    def is_latest(self) -> bool:
        """Whether GitHub is to lead who asks for the latest release here."""
        return self.is_newest and not self.announcement.prerelease

    @property
    def announcement(self) -> Announcement:
        """What the page says; a yanked release says so first, and is no latest one."""
        warning = "" if self.yanked is None else f"**Yanked, do not use:** {self.yanked}\n\n"
        return Announcement(
            title=self.release if self.yanked is None else f"{self.release} (yanked)",
            notes=f"{warning}{self.notes.strip()}\n\n{self.mark}",
            prerelease=self.is_prerelease or self.yanked is not None,
        )


@dataclass(frozen=True, kw_only=True)
class PageChange:
    """What was changed on GitHub; nothing if all of it is as it begins."""

    created: bool = False
    uploaded: tuple[str, ...] = ()
    made_public: bool = False
    edited: bool = False

    @property
    def is_none(self) -> bool:
        """Whether everything was there already."""
        return self == PageChange()


@dataclass(frozen=True, kw_only=True)
class Difference:
    """How a release's assets differ from its files; ``unfinished`` uploads broke off."""

    missing: tuple[Artifact, ...]
    unfinished: tuple[GithubAsset, ...]
    wrong: tuple[GithubAsset, ...]
    foreign: tuple[GithubAsset, ...]

    @property
    def unwanted(self) -> tuple[GithubAsset, ...]:
        """What must go before the missing files can come."""
        return (*self.unfinished, *self.wrong, *self.foreign)

    @property
    def is_none(self) -> bool:
        """Whether the assets are exactly the files."""
        return not self.missing and not self.unwanted


def check_limits(page: ReleasePage) -> None:
    """Check that GitHub can hold a release, before anything is sent.

    Raises:
        DestinationError: it cannot.
    """
    if len(page.files) > MOST_ASSETS:
        msg = (
            f"{page.release}: has {len(page.files)} files, GitHub takes {MOST_ASSETS} a release. "
            "Release fewer platforms at a time, or take github out of the channel."
        )
        raise DestinationError(msg)
    for artifact in page.files:
        if artifact.size > LARGEST_ASSET:
            msg = (
                f"{artifact.filename}: has {artifact.size} bytes, GitHub takes {LARGEST_ASSET} a "
                "file. Make it smaller, or take github out of the channel."
            )
            raise DestinationError(msg)
    if (length := len(page.announcement.notes)) > LONGEST_NOTES:
        msg = (
            f"{page.release}: its notes have {length} characters, GitHub takes {LONGEST_NOTES}. "
            "Shorten them, and link to the rest."
        )
        raise DestinationError(msg)


def compare(files: Iterable[Artifact], assets: Iterable[GithubAsset]) -> Difference:
    """Return how *assets*, with their digests known, differ from *files*.

    A file is missing also if what has its name is unfinished or wrong.
    """
    wanted = {artifact.filename: artifact for artifact in files}
    right, unfinished, wrong, foreign = set(), [], [], []
    for asset in assets:
        artifact = wanted.get(asset.name)
        if artifact is None:
            foreign.append(asset)
        elif asset.state != UPLOADED:
            unfinished.append(asset)
        elif (asset.size, asset.sha256) != (artifact.size, artifact.sha256):
            wrong.append(asset)
        else:
            right.add(asset.name)
    return Difference(
        missing=tuple(artifact for name, artifact in wanted.items() if name not in right),
        unfinished=tuple(unfinished),
        wrong=tuple(wrong),
        foreign=tuple(foreign),
    )


def require_same(page: ReleasePage, public: GithubRelease, difference: Difference) -> None:
    """Check that a public release is exactly the files it should be.

    Raises:
        ImmutableNameError: a file has other bytes.
        DestinationError: a file is missing, or one too many.
    """
    if difference.wrong:
        msg = (
            f"{public.html_url}: {_names(difference.wrong)} already stands for other bytes. A "
            "published name never changes: release a new version."
        )
        raise ImmutableNameError(msg)
    if difference.missing:
        msg = (
            f"{public.html_url}: is public without {_names(difference.missing)}, so it was not "
            f"made by this program alone. Delete that release of {page.release} on GitHub (not "
            "the tag), then run again."
        )
        raise DestinationError(msg)
    if difference.foreign:
        msg = (
            f"{public.html_url}: has {_names(difference.foreign)}, which is not of this release. "
            "Find out who added it, and delete it on GitHub."
        )
        raise DestinationError(msg)


def own_drafts(page: ReleasePage, drafts: Iterable[GithubRelease]) -> tuple[GithubRelease, ...]:
    """Return the drafts that a run for *page* made, the oldest first: the one to go on with."""
    own = (draft for draft in drafts if draft.draft and page.mark in (draft.body or ""))
    return tuple(sorted(own, key=lambda draft: draft.id))


def says(release: GithubRelease, announcement: Announcement) -> bool:
    """Whether a release says of itself what it should, as far as that can be changed."""
    return (
        release.name == announcement.title
        and _lines(release.body or "") == _lines(announcement.notes)
        and (release.immutable or release.prerelease == announcement.prerelease)
    )


def publish_on_github(
    releases: Releases,
    page: ReleasePage,
    path_of: PathOf,
    retry: RetryPolicy,
    on_bytes: OnBytes = ignore_bytes,
) -> PageChange:
    """Make GitHub show *page*; return what had to change.

    Raises:
        ImmutableNameError: the release is there with other bytes.
        DestinationError: GitHub does not take it; run again to go on.
    """
    check_limits(page)
    copy = _Copy(releases, page, path_of, retry, on_bytes)
    release, created = insist(retry, f"draft of {page.release}", copy.begin)
    if not release.draft:
        require_same(page, release, copy.difference(release))
        return PageChange(edited=copy.edit(release))
    uploaded = copy.complete(release)
    copy.make_public(release)
    return PageChange(created=created, uploaded=uploaded, made_public=True)


@dataclass(frozen=True)
class _Copy:
    """One release on its way to GitHub."""

    releases: Releases
    page: ReleasePage
    path_of: PathOf
    retry: RetryPolicy
    on_bytes: OnBytes

    def begin(self) -> tuple[GithubRelease, bool]:
        """Return the public release, or the draft to go on with, and whether that is new."""
        found = self.releases.find(self.page.release)
        for release in found:
            if not release.draft:
                return release, False
        own = own_drafts(self.page, found)
        # A draft whose answer was lost is made twice; all runs go on with the same one.
        for other in own[1:]:
            self.releases.remove_draft(other)
        if own:
            return own[0], False
        return self.releases.create_draft(self.page.release, self.page.announcement), True

    def difference(self, release: GithubRelease) -> Difference:
        """Return how a release on GitHub differs; assets without a digest are downloaded."""
        return compare(self.page.files, self._known(self.releases.assets(release)))

    def complete(self, draft: GithubRelease) -> tuple[str, ...]:
        """Make a draft's assets the files; return the names of those that were uploaded.

        Raises:
            DestinationError: GitHub holds something else, again and again.
        """
        uploaded: list[str] = []
        for _ in range(REPAIRS):
            difference = self.difference(draft)
            if difference.is_none:
                return tuple(uploaded)
            for asset in difference.unwanted:
                self.releases.remove_asset(draft, asset)
            for artifact in difference.missing:
                self._upload(draft, artifact)
                uploaded.append(artifact.filename)
        difference = self.difference(draft)
        if not difference.is_none:
            names = _names((*difference.missing, *difference.foreign))
            msg = (
                f"{draft.html_url}: was given {names}, but holds something else, repeatedly. "
                "It was not made public. Check the draft on GitHub, and run again."
            )
            raise DestinationError(msg)
        return tuple(uploaded)

    def make_public(self, draft: GithubRelease) -> None:
        """Show the draft to everybody: asked for once, then again only if it is a draft still."""
        announcement, latest = self.page.announcement, self.page.is_latest
        attempts = count()

        def attempt() -> GithubRelease:
            if next(attempts) > 0:
                for release in self.releases.find(self.page.release):
                    if not release.draft:
                        return release
            return self.releases.make_public(draft, announcement, latest=latest)

        public = insist(self.retry, f"make {self.page.release} public", attempt)
        if public.id != draft.id:
            # Another run was faster.
            require_same(self.page, public, self.difference(public))
            self.releases.remove_draft(draft)

    def edit(self, public: GithubRelease) -> bool:
        """Make a public release say what it should; return whether it did not."""
        # That it is no longer the latest follows when a newer one becomes that.
        is_latest = not self.page.is_latest or self.releases.latest() == public.id
        if is_latest and says(public, self.page.announcement):
            return False
        self.releases.edit(public, self.page.announcement, latest=self.page.is_latest)
        return True

    def _upload(self, draft: GithubRelease, artifact: Artifact) -> None:
        path, attempts = self.path_of(artifact), count()

        def attempt() -> None:
            if next(attempts) > 0 and self._arrived(draft, artifact):
                return
            self.releases.upload(
                draft,
                artifact.filename,
                path,
                content_type=CONTENT_TYPES[artifact.kind],
                on_bytes=self.on_bytes,
            )

        insist(self.retry, f"upload {artifact.filename}", attempt)

    def _arrived(self, draft: GithubRelease, artifact: Artifact) -> bool:
        """Whether a file is there although the answer was lost; what is there instead goes."""
        named = (asset for asset in self.releases.assets(draft) if asset.name == artifact.filename)
        difference = compare((artifact,), self._known(named))
        for asset in difference.unwanted:
            self.releases.remove_asset(draft, asset)
        return difference.is_none

    def _known(self, assets: Iterable[GithubAsset]) -> Iterable[GithubAsset]:
        """Yield each asset with its digest, if its size leaves a doubt about its bytes."""
        sizes = {artifact.filename: artifact.size for artifact in self.page.files}
        for asset in assets:
            in_doubt = asset.state == UPLOADED and asset.size == sizes.get(asset.name)
            if in_doubt and asset.sha256 is None:
                digest = f"sha256:{self.releases.sha256(asset)}"
                yield asset.model_copy(update={"digest": digest})
            else:
                yield asset


def _names(items: Iterable[Artifact | GithubAsset]) -> str:
    return ", ".join(
        sorted(item.filename if isinstance(item, Artifact) else item.name for item in items)
    )


def _lines(text: str) -> list[str]:
    """Return the lines of *text*: who edits a release in a browser leaves other line ends."""
    return text.strip().splitlines()
