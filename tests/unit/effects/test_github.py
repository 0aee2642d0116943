"""GitHub's API: which requests are sent, which are repeated, and what a refusal says to do."""

import io
import json
import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from requests import ConnectionError as RequestsConnectionError  # noqa: TID251 - hand-built answers
from requests import PreparedRequest, Response  # noqa: TID251 - hand-built answers
from requests.structures import CaseInsensitiveDict  # noqa: TID251 - hand-built answers

from pipeline.effects.github import (
    SECONDARY_WAIT,
    Announcement,
    GithubAsset,
    GithubRelease,
    GithubReleases,
    insist,
    limit_wait,
)
from pipeline.effects.retry import RetryableError, RetryPolicy
from pipeline.errors import DestinationError
from pipeline.model.configs import GithubConfig
from tests.factories import digest

API = "https://api.github.com"
TOKEN = "canary-3f9c1e7ab2d84650"  # noqa: S105 - of nobody
DATE = "Fri, 15 Jan 2027 08:00:00 GMT"
DATE_SECONDS = 1_800_000_000
SAID = Announcement(title="demo-v1.0.0", notes="Notes.", prerelease=False)


@dataclass(frozen=True)
class Sent:
    """A request as it went out."""

    method: str
    path: str
    query: dict[str, list[str]]
    headers: CaseInsensitiveDict[str]
    body: bytes

    @property
    def json(self) -> Any:
        """The fields of the body."""
        return json.loads(self.body)


@dataclass
class Network:
    """What the network gives, in turn, and what was sent and slept."""

    answers: list[Response | Exception] = field(default_factory=list)
    sent: list[Sent] = field(default_factory=list)
    slept: list[float] = field(default_factory=list)
    hosts: list[str] = field(default_factory=list)
    timeouts: list[Any] = field(default_factory=list)

    def send(self, request: PreparedRequest, **options: Any) -> Response:
        """Take a request as an adapter of requests does; give the next answer."""
        url = urlsplit(str(request.url))
        self.hosts.append(url.netloc)
        self.timeouts.append(options["timeout"])
        body = request.body
        sent = body if isinstance(body, bytes) else b"".join(body or ())  # type: ignore[arg-type]
        self.sent.append(
            Sent(str(request.method), url.path, parse_qs(url.query), request.headers, sent)
        )
        following = self.answers.pop(0)
        if isinstance(following, Exception):
            raise following
        following.request, following.url = request, str(request.url)
        return following

    @property
    def requests(self) -> list[str]:
        """What was asked for."""
        return [f"{sent.method} {sent.path}" for sent in self.sent]


def answer(status: int, value: Any = None, raw: bytes | None = None, **headers: str) -> Response:
    """Build an answer by hand; ``_`` in names of headers is ``-``."""
    response = Response()
    response.status_code = status
    response.raw = io.BytesIO(json.dumps(value).encode() if raw is None else raw)
    named = {name.replace("_", "-"): text for name, text in headers.items()}
    response.headers = CaseInsensitiveDict({"Date": DATE, **named})
    return response


def problem(status: int, message: str = "", **headers: str) -> Response:
    """Build GitHub's answer to a request that it refuses."""
    return answer(status, {"message": message}, None, **headers)


def shown(**overrides: Any) -> dict[str, Any]:
    """Return a release as GitHub shows it, with fields that we do not read."""
    upload = "https://uploads.github.com/repos/octo/interpreters/releases/7/assets{?name,label}"
    return {
        "id": 7,
        "tag_name": "demo-v1.0.0",
        "name": "demo-v1.0.0",
        "body": "Notes.",
        "draft": True,
        "prerelease": False,
        "upload_url": upload,
        "html_url": "https://github.com/octo/interpreters/releases/demo-v1.0.0",
        "author": {"login": "octo"},
        **overrides,
    }


def asset(**overrides: Any) -> dict[str, Any]:
    """Return an asset as GitHub shows it."""
    fields = {"id": 9, "name": "a.gz", "state": "uploaded", "size": 5, "digest": None}
    return {**fields, **overrides}


DRAFT = GithubRelease.model_validate(shown())
PUBLIC = GithubRelease.model_validate(shown(draft=False))
ASSET = GithubAsset.model_validate(asset())


@pytest.fixture
def network(monkeypatch: pytest.MonkeyPatch) -> Network:
    """Replace what every session sends through."""
    network = Network()
    monkeypatch.setattr("requests.Session.get_adapter", lambda _self, url: network)  # noqa: ARG005 - its name
    return network


def make_client(network: Network, api: str = API, **options: Any) -> GithubReleases:
    """Return a client that notes how long it would sleep."""
    config = GithubConfig(repository="octo/interpreters", api=api)
    retry = RetryPolicy(sleep=network.slept.append)
    return GithubReleases(config, TOKEN, retry, **{"pause": 0.0, **options})


@pytest.fixture
def client(network: Network) -> GithubReleases:
    """A client of api.github.com."""
    return make_client(network)


# --- requests -----------------------------------------------------------------------------------


def test_every_request_names_the_version_of_the_api_and_has_a_time_limit(
    client: GithubReleases, network: Network
) -> None:
    network.answers = [answer(200, shown(draft=False))]

    client.find("demo-v1.0.0")

    (sent,) = network.sent
    assert sent.path == "/repos/octo/interpreters/releases/tags/demo-v1.0.0"
    assert sent.headers["X-GitHub-Api-Version"] == "2022-11-28"
    assert sent.headers["Accept"] == "application/vnd.github+json"
    assert sent.headers["Authorization"] == f"Bearer {TOKEN}"
    assert min(network.timeouts[0]) > 0


def test_a_public_release_is_found_by_its_tag(client: GithubReleases, network: Network) -> None:
    network.answers = [answer(200, shown(draft=False))]

    assert client.find("demo-v1.0.0") == (PUBLIC,)


def test_drafts_are_found_on_every_page_of_the_list_the_oldest_first(
    client: GithubReleases, network: Network
) -> None:
    following = f'<{API}/any?page=2>; rel="next", <{API}/any?page=9>; rel="last"'
    network.answers = [
        problem(404, "Not Found"),
        answer(200, [shown(id=8), shown(id=6, tag_name="other")], Link=following),
        answer(200, [shown(id=7)]),
    ]

    found = client.find("demo-v1.0.0")

    assert [release.id for release in found] == [7, 8]
    assert [sent.query.get("page") for sent in network.sent] == [None, ["1"], ["2"]]
    assert network.sent[1].query["per_page"] == ["100"]


def test_a_public_release_that_is_only_in_the_list_counts_more_than_drafts(
    client: GithubReleases, network: Network
) -> None:
    """Right after it became public, not every server knows."""
    network.answers = [problem(404), answer(200, [shown(id=5), shown(draft=False)])]

    assert client.find("demo-v1.0.0") == (PUBLIC,)


def test_no_latest_release_is_none(client: GithubReleases, network: Network) -> None:
    network.answers = [answer(200, shown(draft=False)), problem(404)]

    assert client.latest() == 7
    assert client.latest() is None


def test_a_draft_is_made_without_a_commit_so_that_github_takes_the_default_branch(
    client: GithubReleases, network: Network
) -> None:
    network.answers = [answer(201, shown())]

    draft = client.create_draft("demo-v1.0.0", SAID)

    assert draft == DRAFT
    assert network.sent[0].json == {
        "tag_name": "demo-v1.0.0",
        "draft": True,
        "name": "demo-v1.0.0",
        "body": "Notes.",
        "prerelease": False,
    }


def test_a_file_is_sent_as_it_is_to_the_host_that_the_release_names(
    client: GithubReleases, network: Network, tmp_path: Path
) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"x" * 3_000_000)
    counts: list[int] = []
    network.answers = [answer(201, asset())]

    client.upload(DRAFT, "a+b.gz", path, content_type="application/gzip", on_bytes=counts.append)

    (sent,) = network.sent
    assert network.hosts == ["uploads.github.com"]
    assert sent.path == "/repos/octo/interpreters/releases/7/assets"
    assert sent.query == {"name": ["a+b.gz"]}
    assert sent.headers["Content-Type"] == "application/gzip"
    assert sent.headers["Content-Length"] == "3000000"
    assert "Transfer-Encoding" not in sent.headers
    assert sent.body == path.read_bytes()
    assert sum(counts) == 3_000_000
    assert len(counts) > 1


def test_the_token_is_not_sent_readable_for_all(
    client: GithubReleases, network: Network, tmp_path: Path
) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"x")
    elsewhere = GithubRelease.model_validate(shown(upload_url="http://uploads.test/x{?name}"))

    with pytest.raises(DestinationError, match="where the token would be readable"):
        client.upload(elsewhere, "a.gz", path, content_type="application/gzip")

    assert network.sent == []


@pytest.mark.parametrize(("latest", "made"), [(True, "true"), (False, "false")])
def test_whether_a_release_becomes_the_latest_is_always_said(
    client: GithubReleases, network: Network, made: str, *, latest: bool
) -> None:
    """GitHub would take it for yes, also of an old one."""
    network.answers = [answer(200, shown(draft=False)), answer(200, shown(draft=False))]

    public = client.make_public(DRAFT, SAID, latest=latest)
    client.edit(PUBLIC, SAID, latest=latest)

    first, second = (sent.json for sent in network.sent)
    assert public == PUBLIC
    assert first == {**second, "draft": False}
    assert second["make_latest"] == made
    assert network.requests == ["PATCH /repos/octo/interpreters/releases/7"] * 2


def test_of_an_immutable_release_only_what_can_be_changed_is_sent(
    client: GithubReleases, network: Network
) -> None:
    network.answers = [answer(200, shown(draft=False))]
    immutable = GithubRelease.model_validate(shown(draft=False, immutable=True))

    client.edit(immutable, SAID, latest=False)

    assert network.sent[0].json == {
        "name": "demo-v1.0.0",
        "body": "Notes.",
        "make_latest": "false",
    }


# --- removal -------------------------------------------------------------------------------------

REMOVALS = pytest.mark.parametrize(
    ("remove", "path"),
    [
        pytest.param(lambda c: c.remove_asset(DRAFT, ASSET), "releases/assets/9", id="asset"),
        pytest.param(lambda c: c.remove_draft(DRAFT), "releases/7", id="draft"),
    ],
)


@REMOVALS
def test_what_a_draft_holds_is_taken_away(
    client: GithubReleases,
    network: Network,
    remove: Callable[[GithubReleases], None],
    path: str,
) -> None:
    network.answers = [answer(200, shown()), answer(204, raw=b"")]

    remove(client)

    assert network.requests[1] == f"DELETE /repos/octo/interpreters/{path}"


@REMOVALS
def test_nothing_is_taken_from_a_release_that_became_public(
    client: GithubReleases,
    network: Network,
    remove: Callable[[GithubReleases], None],
    path: str,  # noqa: ARG001 - where it would be
) -> None:
    network.answers = [answer(200, shown(draft=False))]

    with pytest.raises(DestinationError, match="became public while this run worked"):
        remove(client)

    assert network.requests == ["GET /repos/octo/interpreters/releases/7"]


@REMOVALS
@pytest.mark.parametrize(
    "answers",
    [
        pytest.param(lambda: [problem(404)], id="the-draft"),
        pytest.param(lambda: [answer(200, shown()), problem(404)], id="itself"),
    ],
)
def test_what_is_gone_already_needs_no_removal(
    client: GithubReleases,
    network: Network,
    remove: Callable[[GithubReleases], None],
    path: str,
    answers: Callable[[], list[Response | Exception]],
) -> None:
    network.answers = answers()

    remove(client)

    assert network.answers == []
    assert network.requests[1:] in ([], [f"DELETE /repos/octo/interpreters/{path}"])


@REMOVALS
def test_an_answer_that_is_not_the_apis_is_no_removal(
    client: GithubReleases,
    network: Network,
    remove: Callable[[GithubReleases], None],
    path: str,
) -> None:
    page = answer(200, raw=b"<html>")
    network.answers = [answer(200, shown()), page, answer(204, raw=b"")]

    remove(client)

    assert len(network.sent) == 3
    assert network.requests[-1].endswith(path)


# --- digests ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("said", "sha256"),
    [(f"sha256:{digest('a')}", digest("a")), ("sha512:00", None), (None, None)],
)
def test_only_a_sha256_is_taken_for_one(said: str | None, sha256: str | None) -> None:
    assert GithubAsset.model_validate(asset(digest=said)).sha256 == sha256


def test_bytes_are_fetched_without_the_token_from_where_github_leads(
    client: GithubReleases, network: Network
) -> None:
    network.answers = [
        answer(302, raw=b"", Location="https://objects.test/9?signed=1"),
        answer(200, raw=b"bytes"),
    ]

    actual = client.sha256(ASSET)

    assert actual == digest("bytes")
    assert network.hosts == ["api.github.com", "objects.test"]
    assert network.sent[0].headers["Accept"] == "application/octet-stream"
    assert "Authorization" not in network.sent[1].headers


def test_a_part_of_the_bytes_is_not_taken_for_all(client: GithubReleases, network: Network) -> None:
    network.answers = [answer(200, raw=b"byt"), answer(200, raw=b"bytes")]

    assert client.sha256(ASSET) == digest("bytes")
    assert network.slept == [2.0]


# --- repetition ---------------------------------------------------------------------------------

PASSING = {
    **{str(status): lambda status=status: problem(status) for status in (408, 500, 502, 503, 504)},
    "no-connection": lambda: RequestsConnectionError("refused"),
    "a-page": lambda: answer(200, raw=b"<html>sign in</html>"),
    "another-form": lambda: answer(200, {"id": "seven"}),
}


@pytest.mark.parametrize("fault", PASSING.values(), ids=PASSING)
def test_what_only_reads_is_repeated_after_a_fault_that_may_pass(
    client: GithubReleases, network: Network, fault: Callable[[], Response | Exception]
) -> None:
    network.answers = [fault(), fault(), answer(200, [asset()])]

    assets = client.assets(DRAFT)

    assert assets == (ASSET,)
    assert network.slept == [2.0, 4.0]


@pytest.mark.parametrize("fault", PASSING.values(), ids=PASSING)
@pytest.mark.parametrize(
    "write",
    [
        pytest.param(lambda client: client.create_draft("demo-v1.0.0", SAID), id="create"),
        pytest.param(lambda client: client.make_public(DRAFT, SAID, latest=True), id="public"),
    ],
)
def test_what_makes_something_is_sent_once(
    client: GithubReleases,
    network: Network,
    write: Callable[[GithubReleases], object],
    fault: Callable[[], Response | Exception],
) -> None:
    """It may have been done: whoever asked has to look first."""
    network.answers = [fault()]

    with pytest.raises(RetryableError):
        write(client)

    assert len(network.sent) == 1
    assert network.slept == []


def test_a_name_that_is_taken_is_a_reason_to_look_at_once(
    client: GithubReleases, network: Network, tmp_path: Path
) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"x")
    errors = [{"resource": "ReleaseAsset", "code": "already_exists", "field": "name"}]
    network.answers = [answer(422, {"message": "Validation Failed", "errors": errors})]

    with pytest.raises(RetryableError, match="there already") as caught:
        client.upload(DRAFT, "a.gz", path, content_type="application/gzip")

    assert caught.value.wait == 0.0


def test_faults_that_do_not_pass_end_with_what_was_tried(
    client: GithubReleases, network: Network
) -> None:
    network.answers = [problem(503, "Unavailable") for _ in range(5)]

    with pytest.raises(DestinationError) as caught:
        client.assets(DRAFT)

    assert str(caught.value) == (
        f"GET {API}/repos/octo/interpreters/releases/7/assets: HTTP 503 Unavailable (5 attempts). "
        "What is done stays done: run again to go on."
    )
    assert len(network.slept) == 4


@pytest.mark.parametrize(
    ("refusal", "says"),
    [
        (
            problem(301, Location=f"{API}/repositories/1"),
            "HTTP 301. It has another name now: change github.repository",
        ),
        (problem(401, "Bad credentials"), "401 Bad credentials. Check the token in GITHUB_TOKEN"),
        (problem(403, "Not accessible"), "403 Not accessible. Check that the token in"),
        (problem(404, "Not Found"), "404 Not Found. Check github.repository in channels.toml"),
        (problem(409), "HTTP 409. Sending it again would not change that."),
        (problem(410), "HTTP 410."),
        (problem(412), "HTTP 412."),
        (
            answer(422, {"message": "Validation Failed", "errors": [{"code": "custom"}, "x"]}),
            "HTTP 422 Validation Failed; custom.",
        ),
        (answer(400, raw=b"<html>"), "HTTP 400."),
    ],
    ids=lambda value: str(value.status_code) if isinstance(value, Response) else "",
)
def test_a_refusal_is_final_and_says_what_to_check(
    client: GithubReleases, network: Network, refusal: Response, says: str
) -> None:
    network.answers = [refusal]

    with pytest.raises(DestinationError) as caught:
        client.assets(DRAFT)

    assert says in str(caught.value)
    assert str(caught.value).startswith(f"GET {API}/repos/octo/interpreters/releases/7/assets: ")
    assert network.slept == []


def test_insisting_gives_what_came_in_the_end() -> None:
    assert insist(RetryPolicy(), "add", lambda: 1 + 1) == 2


# --- rate limits --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "headers", "message", "wait"),
    [
        pytest.param(429, {"Retry-After": "7"}, "", 7.0, id="seconds"),
        pytest.param(403, {"Retry-After": "Fri, 15 Jan 2027 08:00:09 GMT"}, "", 9.0, id="a-date"),
        pytest.param(
            403,
            {"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": f"{DATE_SECONDS + 30}"},
            "API rate limit exceeded",
            31.0,
            id="primary",
        ),
        pytest.param(
            403,
            {"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": f"{DATE_SECONDS - 30}"},
            "API rate limit exceeded",
            1.0,
            id="primary-over",
        ),
        pytest.param(
            403, {}, "You have exceeded a secondary rate limit.", SECONDARY_WAIT, id="secondary"
        ),
        pytest.param(429, {}, "", SECONDARY_WAIT, id="429"),
        pytest.param(
            403,
            {"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "soon"},
            "API rate limit exceeded",
            SECONDARY_WAIT,
            id="nonsense",
        ),
        pytest.param(
            403,
            {"X-RateLimit-Remaining": "12", "X-RateLimit-Reset": f"{DATE_SECONDS + 30}"},
            "Resource not accessible",
            None,
            id="no-right",
        ),
        pytest.param(503, {"Retry-After": "7"}, "", None, id="no-limit"),
    ],
)
def test_a_rate_limit_is_told_from_a_refusal_with_how_long_it_lasts(
    status: int, headers: dict[str, str], message: str, wait: float | None
) -> None:
    """By the server's clock, which is what its times are of."""
    given = CaseInsensitiveDict({"Date": DATE, **headers})

    assert limit_wait(status, given, message) == wait


def test_a_limit_without_a_time_is_waited_for_longer_each_time_then_given_up(
    network: Network,
) -> None:
    config = GithubConfig(repository="octo/interpreters")
    retry = RetryPolicy(sleep=network.slept.append, longest_wait=200.0)
    client = GithubReleases(config, TOKEN, retry, pause=0.0)
    network.answers = [problem(403, "secondary rate limit") for _ in range(3)]

    with pytest.raises(DestinationError, match=r"run again after 2027-01-15 08:04:00 UTC"):
        client.assets(DRAFT)

    assert network.slept == [60.0, 120.0]


def test_a_limit_that_is_over_does_not_make_the_next_one_longer(network: Network) -> None:
    client = make_client(network)
    network.answers = [
        problem(429),
        answer(200, [asset()]),
        problem(429),
        answer(200, [asset()]),
    ]

    client.assets(DRAFT)
    client.assets(DRAFT)

    assert network.slept == [60.0, 60.0]


def test_a_limit_is_never_met_again_too_early(client: GithubReleases, network: Network) -> None:
    """A wait that is longer than the longest is not cut: that would be the next offence."""
    network.answers = [problem(403, "secondary rate limit", Retry_After="61")]

    with pytest.raises(DestinationError, match=r"run again after 2027-01-15 08:01:01 UTC"):
        client.create_draft("demo-v1.0.0", SAID)

    assert network.slept == []


def test_writes_keep_a_distance_and_reads_do_not(
    network: Network, monkeypatch: pytest.MonkeyPatch
) -> None:
    """GitHub asks for a second between two requests that change something."""
    moments = iter([100.0, 100.0, 100.25, 101.0, 150.0, 150.0])
    monkeypatch.setattr("pipeline.effects.github.time.monotonic", lambda: next(moments))
    client = make_client(network, pause=1.0)
    network.answers = [answer(201, shown()), answer(200, [])]
    network.answers += [answer(200, shown(draft=False)) for _ in range(2)]

    client.create_draft("demo-v1.0.0", SAID)
    client.assets(DRAFT)
    client.edit(PUBLIC, SAID, latest=False)
    client.edit(PUBLIC, SAID, latest=False)

    assert network.slept == [0.75]


# --- the token ----------------------------------------------------------------------------------


@pytest.mark.parametrize("token", ["", "two words", "line\n", "\ttab", "caf\u00e9"])
def test_what_cannot_be_a_token_is_refused_without_showing_it(token: str) -> None:
    with pytest.raises(DestinationError, match="GITHUB_TOKEN: is not a token") as caught:
        GithubReleases(GithubConfig(repository="octo/interpreters"), token)

    assert not token or token not in str(caught.value)


def test_the_token_is_in_no_representation_log_or_error(
    network: Network, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    client = make_client(network)
    network.answers = [
        RequestsConnectionError(f"Bearer {TOKEN}"),
        problem(503, f"Bearer {TOKEN}"),
        problem(403, f"Bearer {TOKEN}"),
    ]

    with pytest.raises(DestinationError) as caught:
        client.assets(DRAFT)

    text = caplog.text + repr(client) + repr(vars(client)["_session"].auth) + repr(caught.value)
    assert "***" in text
    assert TOKEN not in text
    assert client.address == f"octo/interpreters at {API}"
