"""Releases on GitHub, against a real server that imitates its API."""

import logging
import threading
import time
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pipeline.errors import DestinationError, ImmutableNameError, PipelineError
from pipeline.model.artifacts import Artifact
from pipeline.publish.github import PageChange, publish_on_github
from tests.factories import make_artifact
from tests.integration.github_publication import (
    CONTENTS,
    TAG,
    client,
    make_page,
    publish,
    quick,
    write_files,
)
from tests.integration.github_server import (
    DONE_FIRST,
    READ_ONLY,
    REPOSITORY,
    TOKEN,
    Github,
    Kind,
    broken,
    github_server,
    http_date,
    status,
)

WRITES = {"POST", "PATCH", "DELETE"}


@pytest.fixture
def github() -> Iterator[Github]:
    """An empty repository on GitHub."""
    with github_server() as github:
        yield github


@pytest.fixture
def files(tmp_path: Path) -> tuple[Artifact, ...]:
    """The files of the release, in the test's directory."""
    return write_files(tmp_path)


def copy(github: Github, directory: Path, **overrides: Any) -> PageChange:
    """Copy the release to GitHub."""
    return publish(github.urls["api"], directory, quick(), **overrides)


def writes(github: Github) -> list[str]:
    """Return the calls that change something."""
    return [call for call in github.calls if call.split()[0] in WRITES]


@pytest.mark.usefixtures("files")
def test_a_release_is_public_with_all_of_its_files_and_then_left_alone(
    github: Github, tmp_path: Path
) -> None:
    first = copy(github, tmp_path)
    made = list(github.calls)
    again = copy(github, tmp_path)

    release = github.published(TAG)
    assert release is not None
    assert github.contents(release) == CONTENTS
    assert (release.name, release.prerelease, github.latest()) == (TAG, False, release)
    types = {asset.name: asset.content_type for asset in release.assets.values()}
    assert types["SHA256SUMS"] == "text/plain; charset=utf-8"
    assert first == PageChange(created=True, uploaded=tuple(CONTENTS), made_public=True)
    assert again.is_none
    assert writes(github) == [call for call in made if call.split()[0] in WRITES]
    assert made[-1] == "PATCH api releases/N"


@pytest.mark.usefixtures("files")
def test_what_others_have_in_the_repository_is_left_alone(github: Github, tmp_path: Path) -> None:
    github.page = 2
    others = [github.add(f"other-{number}", {"a": b"a"}) for number in range(3)]
    draft = github.add(TAG, {"notes.pdf": b"b"}, draft=True, body="written by hand")

    copy(github, tmp_path)

    assert all(github.releases[other.id] is other for other in others)
    assert github.releases[draft.id].draft
    assert github.contents(draft) == {"notes.pdf": b"b"}


@pytest.mark.parametrize("digests", [True, False])
@pytest.mark.usefixtures("files")
def test_a_public_release_with_other_bytes_is_an_error_and_nothing_is_written(
    github: Github, tmp_path: Path, *, digests: bool
) -> None:
    """Of the same size, so that only the digest tells."""
    github.digests = digests
    name = f"{TAG}-manifest.json"
    github.add(TAG, {**CONTENTS, name: b"x" * len(CONTENTS[name])})

    with pytest.raises(ImmutableNameError, match=f"{name} already stands for other bytes"):
        copy(github, tmp_path)

    assert writes(github) == []


@pytest.mark.usefixtures("files")
def test_digests_that_the_server_does_not_say_are_those_of_what_it_gives(
    github: Github, tmp_path: Path
) -> None:
    """The bytes come from another host, which must not be sent the token."""
    github.digests = False
    copy(github, tmp_path)
    github.reset_faults()

    again = copy(github, tmp_path)

    assert again.is_none
    assert sum("objects" in call for call in github.calls) == len(CONTENTS)
    assert github.leaked == []


@pytest.mark.parametrize("immutable", [False, True])
@pytest.mark.usefixtures("files")
def test_a_yanked_release_says_so_and_one_that_is_no_longer_does_not(
    github: Github, tmp_path: Path, *, immutable: bool
) -> None:
    """Of an immutable release GitHub lets only the title and the notes be changed."""
    github.immutable = immutable
    older = github.add("demo-v0.9.0", {})
    copy(github, tmp_path)
    release = github.published(TAG)
    assert release is not None

    yanked = copy(github, tmp_path, yanked="Crashes.")
    said = (release.name, release.body, release.prerelease)
    latest_while_yanked = github.latest()
    yanked_again = copy(github, tmp_path, yanked="Crashes.")
    unyanked = copy(github, tmp_path)

    assert yanked == unyanked == PageChange(edited=True)
    assert yanked_again.is_none
    assert said[0] == f"{TAG} (yanked)"
    assert "Crashes." in (said[1] or "")
    assert said[2] is not immutable
    assert latest_while_yanked is (release if immutable else older)
    assert (release.name, release.prerelease) == (TAG, False)
    assert "Crashes." not in (release.body or "")
    assert github.latest() is release
    assert github.contents(release) == CONTENTS


@pytest.mark.usefixtures("files")
def test_an_older_release_does_not_become_the_latest_and_a_newer_one_takes_over(
    github: Github, tmp_path: Path
) -> None:
    newest = github.add("demo-v2.0.0", {})
    github.latest_id = newest.id

    copy(github, tmp_path, is_newest=False)
    latest_after = github.latest()
    changed = copy(github, tmp_path, is_newest=True)

    assert latest_after is newest
    assert changed == PageChange(edited=True)
    assert github.latest() is github.published(TAG)


def test_two_runs_at_once_make_one_public_release(
    github: Github, files: tuple[Artifact, ...], tmp_path: Path
) -> None:
    """Both have made a draft before either is public; the slower one finds that it need not."""
    meeting = threading.Barrier(2)
    outcomes: list[PageChange | PipelineError] = []

    def slowly(_seconds: float) -> None:
        time.sleep(0.01)

    def run() -> None:
        retry = quick(sleep=slowly)

        def path_of(artifact: Artifact) -> Path:
            if artifact.filename == next(iter(CONTENTS)):
                meeting.wait(20)
            return tmp_path / artifact.filename

        try:
            releases = client(github.urls["api"], retry)
            outcomes.append(publish_on_github(releases, make_page(files), path_of, retry))
        except PipelineError as error:
            outcomes.append(error)

    threads = [threading.Thread(target=run) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    copy(github, tmp_path)

    (release,) = (r for r in github.releases.values() if not r.draft)
    assert github.contents(release) == CONTENTS
    assert all(names == set(CONTENTS) for _tag, names in github.views)
    assert any(isinstance(outcome, PageChange) for outcome in outcomes)
    assert all(isinstance(outcome, PageChange | DestinationError) for outcome in outcomes)


def test_more_files_than_github_takes_are_refused_before_anything_is_sent(github: Github) -> None:
    files = tuple(make_artifact(filename=f"file-{number}") for number in range(1001))
    page = make_page(files)
    retry = quick()

    with pytest.raises(DestinationError, match="1001 files, GitHub takes 1000"):
        publish_on_github(client(github.urls["api"], retry), page, lambda _: Path(), retry)

    assert github.calls == []


# --- rate limits --------------------------------------------------------------------------------


@pytest.mark.usefixtures("files")
def test_a_rate_limit_is_waited_for_as_long_as_the_server_asks(
    github: Github, tmp_path: Path
) -> None:
    """Also where this machine's clock is an hour wrong: only the server's counts."""
    now = time.time() + 3600
    limits = {
        3: status(403, Retry_After="3", message="You have exceeded a secondary rate limit"),
        5: status(
            403,
            message="API rate limit exceeded",
            Date=http_date(now),
            X_RateLimit_Remaining="0",
            X_RateLimit_Reset=str(int(now) + 4),
        ),
        8: status(429, Retry_After="2"),
    }
    slept: list[float] = []
    github.plan = limits.get

    publish(github.urls["api"], tmp_path, quick(sleep=slept.append))

    assert slept == [3.0, 5.0, 2.0]
    assert github.published(TAG) is not None


@pytest.mark.usefixtures("files")
def test_a_rate_limit_that_is_too_long_to_wait_for_says_when_to_run_again(
    github: Github, tmp_path: Path
) -> None:
    reset = 1_800_000_000
    limit = status(
        403,
        message="API rate limit exceeded",
        Date=http_date(reset - 1800),
        X_RateLimit_Remaining="0",
        X_RateLimit_Reset=str(reset),
    )
    github.plan = lambda number: limit if number >= 7 else None

    with pytest.raises(DestinationError, match=r"run again after 2027-01-15 08:00:01 UTC"):
        copy(github, tmp_path)

    assert github.published(TAG) is None
    github.reset_faults()
    assert copy(github, tmp_path).uploaded == tuple(CONTENTS)[2:]


# --- the token ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("token", "says"),
    [
        pytest.param(
            "wrong-token", "401 Bad credentials. Check the token in GITHUB_TOKEN", id="401"
        ),
        pytest.param(READ_ONLY, "right contents:write on octo/interpreters", id="403"),
    ],
)
def test_a_token_that_does_not_do_is_named_by_its_variable(
    github: Github, files: tuple[Artifact, ...], token: str, says: str
) -> None:
    retry = quick()
    releases = client(github.urls["api"], retry, token)

    with pytest.raises(DestinationError, match=says) as caught:
        publish_on_github(releases, make_page(files), lambda _: Path(), retry)

    assert token not in str(caught.value)


@pytest.mark.usefixtures("files")
def test_the_token_of_the_configuration_is_used_and_not_that_of_netrc(
    github: Github, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1\nlogin somebody\npassword else\n")
    monkeypatch.setenv("NETRC", str(netrc))

    copy(github, tmp_path)

    assert github.published(TAG) is not None


def test_a_repository_with_a_new_name_gets_no_token_there_by_itself(
    github: Github, files: tuple[Artifact, ...]
) -> None:
    elsewhere = f"{github.urls['objects']}/repositories/1/releases"
    github.plan = lambda _number: status(301, Location=elsewhere)
    retry = quick()

    with pytest.raises(DestinationError, match=r"change github\.repository in channels\.toml"):
        publish_on_github(
            client(github.urls["api"], retry), make_page(files), lambda _: Path(), retry
        )

    assert github.leaked == []


@pytest.mark.usefixtures("files")
def test_the_token_appears_in_no_log_error_or_representation(
    github: Github, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A canary: not in what any library logs at its most talkative, whatever goes wrong."""
    caplog.set_level(logging.DEBUG)
    github.digests = False
    faults = [
        *(status(code, message=f"you sent {TOKEN}") for code in (401, 403, 404, 422, 429, 503)),
        *map(broken, (Kind.RESET_BEFORE, Kind.CUT_REQUEST, *(DONE_FIRST - {Kind.STALL_AFTER}))),
    ]
    shown = [repr(client(github.urls["api"], quick())), str(client(github.urls["api"], quick()))]

    for fault in faults:
        for at in range(1, 12):
            github.reset_faults(lambda number, at=at, fault=fault: fault if number >= at else None)  # type: ignore[misc]
            try:
                copy(github, tmp_path)
            except PipelineError as error:
                shown += [repr(error), "".join(traceback.format_exception(error))]
    github.reset_faults()
    copy(github, tmp_path)

    text = caplog.text + "".join(shown)
    assert len(shown) > 50
    assert "urllib3" in text
    assert REPOSITORY in text
    assert "you sent ***" in text
    assert TOKEN not in text
