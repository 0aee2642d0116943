"""A copy on GitHub: decided from what is there, whole before it is public, and then left alone."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.effects.github import Announcement, GithubAsset, GithubRelease, Releases
from pipeline.effects.retry import RetryableError, RetryPolicy
from pipeline.effects.store import OnBytes, ignore_bytes
from pipeline.errors import DestinationError, ImmutableNameError
from pipeline.model.artifacts import Artifact
from pipeline.publish.github import (
    LARGEST_ASSET,
    LONGEST_NOTES,
    PageChange,
    ReleasePage,
    check_limits,
    compare,
    own_drafts,
    publish_on_github,
    says,
)
from tests.factories import digest, make_archives, make_artifact

FILES = (*make_archives(), make_artifact(filename="SHA256SUMS", sha256=digest("sums")))
NAMES = tuple(artifact.filename for artifact in FILES)
TAG = "demo-v1.0.0"


def make_page(**overrides: Any) -> ReleasePage:
    """Return what GitHub is to show of the demo's release."""
    fields: dict[str, Any] = {
        "product": "demo",
        "release": TAG,
        "files": FILES,
        "is_newest": True,
        "is_prerelease": False,
        "notes": "Notes.",
    }
    return ReleasePage(**{**fields, **overrides})


def make_asset(artifact: Artifact, **overrides: Any) -> GithubAsset:
    """Return a file as a finished asset."""
    fields = {
        "id": 100 + NAMES.index(artifact.filename) if artifact.filename in NAMES else 99,
        "name": artifact.filename,
        "state": "uploaded",
        "size": artifact.size,
        "digest": f"sha256:{artifact.sha256}",
    }
    return GithubAsset.model_validate({**fields, **overrides})


def make_release(page: ReleasePage | None = None, **overrides: Any) -> GithubRelease:
    """Return the public release that says what *page* is to say."""
    said = (page or make_page()).announcement
    fields = {
        "id": 1,
        "tag_name": TAG,
        "name": said.title,
        "body": said.notes,
        "draft": False,
        "prerelease": said.prerelease,
        "upload_url": "https://uploads.test/1/assets{?name,label}",
        "html_url": f"https://github.test/releases/{TAG}",
    }
    return GithubRelease.model_validate({**fields, **overrides})


@dataclass
class FakeReleases:
    """A repository in memory. ``spoils`` has names of files that arrive with other bytes."""

    releases: dict[int, GithubRelease] = field(default_factory=dict)
    held: dict[int, list[GithubAsset]] = field(default_factory=dict)
    latest_id: int | None = None
    downloads: dict[str, str] = field(default_factory=dict)
    spoils: set[str] = field(default_factory=set)
    lost: set[str] = field(default_factory=set)
    written: list[str] = field(default_factory=list)
    views: list[frozenset[str]] = field(default_factory=list)
    address: str = "octo/interpreters"

    def add(self, release: GithubRelease, assets: Iterable[GithubAsset] = ()) -> None:
        """Put a release there, as if from earlier."""
        self.releases[release.id] = release
        self.held[release.id] = list(assets)

    def find(self, tag: str) -> tuple[GithubRelease, ...]:
        """Return the public release, or the drafts."""
        found = [release for release in self.releases.values() if release.tag_name == tag]
        return tuple(r for r in found if not r.draft) or tuple(found)

    def latest(self) -> int | None:
        """Return the latest release's id."""
        return self.latest_id

    def assets(self, release: GithubRelease) -> tuple[GithubAsset, ...]:
        """Return a release's assets."""
        return tuple(self.held[release.id])

    def sha256(self, asset: GithubAsset) -> str:
        """Return the digest of an asset that has none."""
        return self.downloads[asset.name]

    def create_draft(self, tag: str, announcement: Announcement) -> GithubRelease:
        """Make a draft."""
        identity = max(self.releases, default=0) + 1
        draft = make_release(id=identity, draft=True, tag_name=tag, body=announcement.notes)
        self.add(draft)
        self._done("create")
        return draft

    def upload(
        self,
        draft: GithubRelease,
        name: str,
        path: Path,
        *,
        content_type: str,
        on_bytes: OnBytes = ignore_bytes,
    ) -> None:
        """Hold a file."""
        assert path == Path(name)
        assert content_type
        if any(asset.name == name for asset in self.held[draft.id]):
            msg = f"{name}: already_exists"
            raise RetryableError(msg, 0.0)
        artifact = FILES[NAMES.index(name)]
        spoilt = {"digest": f"sha256:{digest('spoilt')}"} if name in self.spoils else {}
        self.held[draft.id].append(make_asset(artifact, **spoilt))
        on_bytes(artifact.size)
        self._done(f"upload {name}")

    def remove_asset(self, draft: GithubRelease, asset: GithubAsset) -> None:
        """Take an asset away."""
        assert self.releases[draft.id].draft
        self.held[draft.id].remove(asset)
        self._done(f"remove {asset.name}")

    def remove_draft(self, draft: GithubRelease) -> None:
        """Take a draft away."""
        assert self.releases.pop(draft.id).draft
        self._done(f"remove draft {draft.id}")

    def make_public(
        self, draft: GithubRelease, announcement: Announcement, *, latest: bool
    ) -> GithubRelease:
        """Show a draft."""
        if any(not release.draft for release in self.find(draft.tag_name)):
            msg = "tag_name: already_exists"
            raise RetryableError(msg, 0.0)
        self._say(draft, announcement, latest=latest)
        self.views.append(frozenset(asset.name for asset in self.held[draft.id]))
        self._done("public")
        return self.releases[draft.id]

    def edit(self, release: GithubRelease, announcement: Announcement, *, latest: bool) -> None:
        """Change what a release says."""
        self._say(release, announcement, latest=latest)
        self._done("edit")

    def _say(self, release: GithubRelease, announcement: Announcement, *, latest: bool) -> None:
        self.releases[release.id] = release.model_copy(
            update={
                "draft": False,
                "name": announcement.title,
                "body": announcement.notes,
                "prerelease": announcement.prerelease,
            }
        )
        if latest:
            self.latest_id = release.id

    def _done(self, what: str) -> None:
        """Note what was done; its answer may be lost, once."""
        self.written.append(what)
        if what in self.lost:
            self.lost.remove(what)
            raise RetryableError(what)


@pytest.fixture
def github() -> FakeReleases:
    """An empty repository."""
    return FakeReleases()


def publish(
    github: FakeReleases, page: ReleasePage | None = None, on_bytes: OnBytes = ignore_bytes
) -> PageChange:
    """Copy a release; nothing is waited for."""
    retry = RetryPolicy(attempts=3, sleep=lambda _seconds: None)
    port: Releases = github
    return publish_on_github(
        port,
        page or make_page(),
        lambda artifact: Path(artifact.filename),
        retry,
        on_bytes,
    )


# --- what is decided ----------------------------------------------------------------------------


def test_assets_that_are_the_files_differ_in_nothing() -> None:
    difference = compare(FILES, [make_asset(artifact) for artifact in reversed(FILES)])

    assert difference.is_none


@pytest.mark.parametrize(
    ("overrides", "kind"),
    [
        ({"state": "starter"}, "unfinished"),
        ({"state": "open"}, "unfinished"),
        ({"size": 1}, "wrong"),
        ({"digest": f"sha256:{digest('other')}"}, "wrong"),
        ({"digest": None}, "wrong"),
    ],
)
def test_a_file_is_missing_also_if_its_name_stands_for_something_else(
    overrides: dict[str, Any], kind: str
) -> None:
    asset = make_asset(FILES[0], **overrides)

    difference = compare(FILES[:1], [asset])

    assert difference.missing == FILES[:1]
    assert getattr(difference, kind) == (asset,)
    assert difference.unwanted == (asset,)


def test_an_asset_that_no_file_has_the_name_of_is_foreign() -> None:
    foreign = make_asset(FILES[0], name="other.gz")

    difference = compare(FILES[:1], [make_asset(FILES[0]), foreign])

    assert (difference.missing, difference.foreign) == ((), (foreign,))


def test_a_page_bears_a_mark_by_which_a_later_run_knows_its_draft() -> None:
    page = make_page()
    ours = [make_release(id=8, draft=True), make_release(id=5, draft=True, body=f"x {page.mark} y")]
    theirs = [make_release(id=3, draft=True, body="by hand"), make_release(id=2, draft=True)]
    other = make_release(id=1, draft=True, body=make_page(release="demo-v1.0").mark)
    public = make_release(id=4)
    theirs[1] = theirs[1].model_copy(update={"body": None})

    own = own_drafts(page, [*ours, *theirs, other, public])

    assert [draft.id for draft in own] == [5, 8]


def test_a_yanked_release_says_why_and_is_not_the_latest() -> None:
    page = make_page(yanked="Crashes.")

    said = page.announcement

    assert said.title == f"{TAG} (yanked)"
    assert said.notes.startswith("**Yanked, do not use:** Crashes.\n\nNotes.\n\n")
    assert said.prerelease
    assert not page.is_latest
    assert page.mark == make_page().mark


@pytest.mark.parametrize(
    ("newest", "prerelease", "latest"),
    [(True, False, True), (True, True, False), (False, False, False)],
)
def test_the_latest_is_the_newest_that_is_final(
    *, newest: bool, prerelease: bool, latest: bool
) -> None:
    page = make_page(is_newest=newest, is_prerelease=prerelease)

    assert page.is_latest is latest
    assert page.announcement.prerelease is prerelease


@pytest.mark.parametrize(
    ("overrides", "same"),
    [
        ({}, True),
        ({"body": f"Notes.\r\n\r\n{make_page().mark}\r\n"}, True),
        ({"body": "other"}, False),
        ({"body": None}, False),
        ({"name": None}, False),
        ({"name": "other"}, False),
        ({"prerelease": True}, False),
        ({"prerelease": True, "immutable": True}, True),
    ],
)
def test_what_a_release_says_is_compared_as_far_as_it_can_be_changed(
    overrides: dict[str, Any], *, same: bool
) -> None:
    assert says(make_release(**overrides), make_page().announcement) is same


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        pytest.param(
            {"files": tuple(make_artifact(filename=f"f{n}") for n in range(1001))},
            "1001 files, GitHub takes 1000 a release",
            id="files",
        ),
        pytest.param(
            {"files": (make_artifact(size=LARGEST_ASSET + 1),)}, "2147483648 bytes", id="bytes"
        ),
        pytest.param({"notes": "x" * LONGEST_NOTES}, "notes have 1250[0-9]{2} char", id="notes"),
    ],
)
def test_what_github_cannot_hold_is_refused_before_anything_is_sent(
    github: FakeReleases, overrides: dict[str, Any], message: str
) -> None:
    github.find = None  # type: ignore[assignment, method-assign]

    with pytest.raises(DestinationError, match=message):
        publish(github, make_page(**overrides))


def test_what_github_just_holds_is_not_refused() -> None:
    files = tuple(make_artifact(filename=f"f{n}", size=LARGEST_ASSET) for n in range(1000))
    page = make_page(files=files, notes="")
    notes = "x" * (LONGEST_NOTES - len(page.announcement.notes))

    check_limits(replace(page, notes=notes))

    with pytest.raises(DestinationError):
        check_limits(replace(page, notes=f"{notes}x"))


# --- what is done -------------------------------------------------------------------------------


def test_a_release_becomes_public_when_all_of_its_files_are_there(github: FakeReleases) -> None:
    counts: list[int] = []

    change = publish(github, on_bytes=counts.append)

    assert github.written == ["create", *(f"upload {name}" for name in NAMES), "public"]
    assert change == PageChange(created=True, uploaded=NAMES, made_public=True)
    assert not change.is_none
    assert github.views == [frozenset(NAMES)]
    assert github.latest_id == 1
    assert counts == [artifact.size for artifact in FILES]


def test_a_release_that_is_there_is_only_read(github: FakeReleases) -> None:
    github.add(make_release(), map(make_asset, FILES))
    github.latest_id = 1

    change = publish(github)

    assert change.is_none
    assert github.written == []


def test_an_old_release_that_github_shows_as_the_latest_waits_for_the_newest_ones_turn(
    github: FakeReleases,
) -> None:
    """If there is no other, nothing could change that, and each run would try again."""
    github.add(make_release(), map(make_asset, FILES))
    github.latest_id = 1

    change = publish(github, make_page(is_newest=False))

    assert change.is_none


def test_an_old_release_leaves_the_latest_alone(github: FakeReleases) -> None:
    github.add(make_release(), map(make_asset, FILES))
    github.latest_id = 77

    change = publish(github, make_page(is_newest=False))

    assert change.is_none
    assert github.latest_id == 77


@pytest.mark.parametrize(
    "overrides",
    [{"yanked": "Crashes."}, {"notes": "Other."}, {"is_prerelease": True}],
    ids=["yanked", "notes", "prerelease"],
)
def test_a_public_release_is_made_to_say_what_it_should_and_keeps_its_files(
    github: FakeReleases, overrides: dict[str, Any]
) -> None:
    github.add(make_release(), map(make_asset, FILES))
    github.latest_id = 1
    page = make_page(**overrides)

    change = publish(github, page)
    again = publish(github, page)

    assert change == PageChange(edited=True)
    assert again.is_none
    assert github.written == ["edit"]
    assert says(github.releases[1], page.announcement)


def test_the_newest_release_becomes_the_latest_if_another_is(github: FakeReleases) -> None:
    github.add(make_release(), map(make_asset, FILES))
    github.latest_id = 77

    change = publish(github)

    assert change == PageChange(edited=True)
    assert github.latest_id == 1


def test_a_draft_of_a_killed_run_is_gone_on_with(github: FakeReleases) -> None:
    unfinished = make_asset(FILES[1], state="starter", digest=None, size=0)
    foreign = make_asset(FILES[2], name="other.gz")
    github.add(make_release(draft=True), [make_asset(FILES[0]), unfinished, foreign])

    change = publish(github)

    assert change == PageChange(uploaded=NAMES[1:], made_public=True)
    assert github.written[:2] == [f"remove {NAMES[1]}", "remove other.gz"]
    assert github.views == [frozenset(NAMES)]


def test_of_several_drafts_of_ours_the_oldest_stays(github: FakeReleases) -> None:
    for number in (3, 1, 2):
        github.add(make_release(id=number, draft=True))
    github.add(make_release(id=4, draft=True, body="by hand"))

    publish(github)

    assert {release.id: release.draft for release in github.releases.values()} == {
        1: False,
        4: True,
    }


@pytest.mark.parametrize("lost", ["create", f"upload {NAMES[1]}", "public"])
def test_what_was_done_is_not_done_again_when_its_answer_is_lost(
    github: FakeReleases, lost: str
) -> None:
    github.lost = {lost}

    change = publish(github)

    assert change.made_public
    assert github.written == ["create", *(f"upload {name}" for name in NAMES), "public"]


def test_bytes_that_arrive_changed_are_sent_again(github: FakeReleases) -> None:
    github.spoils = {NAMES[0]}
    wrong = make_asset(FILES[0], digest=f"sha256:{digest('spoilt')}")
    github.add(make_release(draft=True), [wrong, *map(make_asset, FILES[1:])])

    with pytest.raises(DestinationError, match=f"was given {NAMES[0]}, but holds something else"):
        publish(github)

    assert github.written == [f"remove {NAMES[0]}", f"upload {NAMES[0]}"] * 2
    assert github.releases[1].draft

    github.spoils = set()
    assert publish(github).made_public


def test_bytes_without_a_digest_are_fetched_if_only_they_can_tell(github: FakeReleases) -> None:
    """Not those of another size, and not those that are of no file."""
    short = make_asset(FILES[1], digest=None, size=1)
    foreign = make_asset(FILES[2], name="other.gz", digest=None)
    github.downloads = {NAMES[0]: FILES[0].sha256}
    github.add(make_release(draft=True), [make_asset(FILES[0], digest=None), short, foreign])

    change = publish(github)

    assert change.uploaded == NAMES[1:]


@pytest.mark.parametrize("known", [True, False])
def test_a_public_release_with_other_bytes_stays_as_it_is(
    github: FakeReleases, *, known: bool
) -> None:
    other = digest("other")
    github.downloads = {NAMES[0]: other}
    wrong = make_asset(FILES[0], digest=f"sha256:{other}" if known else None)
    github.add(make_release(name="x"), [wrong, *map(make_asset, FILES[1:])])

    with pytest.raises(ImmutableNameError, match=f"{NAMES[0]} already stands for other bytes"):
        publish(github)

    assert github.written == []


@pytest.mark.parametrize(
    ("assets", "message"),
    [
        pytest.param(
            [make_asset(artifact) for artifact in FILES[1:]], f"public without {NAMES[0]}", id="few"
        ),
        pytest.param(
            [make_asset(FILES[0], state="starter"), *map(make_asset, FILES[1:])],
            f"public without {NAMES[0]}",
            id="unfinished",
        ),
        pytest.param(
            [*map(make_asset, FILES), make_asset(FILES[0], name="other.gz")],
            "has other.gz, which is not of this release",
            id="many",
        ),
    ],
)
def test_a_public_release_with_more_or_fewer_files_is_for_a_person_to_look_at(
    github: FakeReleases, assets: list[GithubAsset], message: str
) -> None:
    github.add(make_release(), assets)

    with pytest.raises(DestinationError, match=message):
        publish(github)

    assert github.written == []


class Overtaken(FakeReleases):
    """A repository where another run makes the release public just before ours does."""

    theirs: tuple[GithubAsset, ...] = tuple(map(make_asset, FILES))

    def make_public(
        self, draft: GithubRelease, announcement: Announcement, *, latest: bool
    ) -> GithubRelease:
        """Be second."""
        self.add(make_release(id=50), self.theirs)
        return super().make_public(draft, announcement, latest=latest)


def test_a_run_that_another_overtook_takes_its_draft_away() -> None:
    github = Overtaken()

    publish(github)

    assert list(github.releases) == [50]
    assert github.written[-1] == "remove draft 1"


def test_a_run_that_another_overtook_with_other_bytes_says_so() -> None:
    github = Overtaken()
    wrong = make_asset(FILES[0], digest=f"sha256:{digest('other')}")
    github.theirs = (wrong, *map(make_asset, FILES[1:]))

    with pytest.raises(ImmutableNameError):
        publish(github)


LEFT: list[Callable[[Artifact], list[GithubAsset]]] = [
    lambda _artifact: [],
    lambda artifact: [make_asset(artifact)],
    lambda artifact: [make_asset(artifact, state="starter", size=0, digest=None)],
    lambda artifact: [make_asset(artifact, digest=f"sha256:{digest('other')}")],
    lambda artifact: [make_asset(artifact, name=f"other-{artifact.filename}")],
]


@given(
    drafts=st.lists(st.tuples(*[st.sampled_from(LEFT)] * len(FILES)), max_size=3),
    lost=st.sets(st.sampled_from(["create", *(f"upload {name}" for name in NAMES), "public"])),
)
def test_whatever_was_left_one_public_release_with_exactly_the_files_comes_of_it(
    drafts: list[tuple[Callable[[Artifact], list[GithubAsset]], ...]], lost: set[str]
) -> None:
    github = FakeReleases(lost=set(lost))
    for number, left in enumerate(drafts, start=1):
        assets = [asset for make, file in zip(left, FILES, strict=True) for asset in make(file)]
        github.add(make_release(id=number, draft=True), assets)

    publish(github)

    (release,) = github.releases.values()
    assert not release.draft
    assert compare(FILES, github.held[release.id]).is_none
    assert github.views == [frozenset(NAMES)]
    assert publish(github).is_none
