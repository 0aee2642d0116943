"""A registry's protocol: what is sent, to whom with which name, and what answers mean."""

import io
import json
import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from requests import ConnectionError as RequestsConnectionError  # noqa: TID251 - hand-built answers
from requests import PreparedRequest, Response  # noqa: TID251 - hand-built answers
from requests.structures import CaseInsensitiveDict  # noqa: TID251 - hand-built answers

from pipeline.distribute.oci import digest_of
from pipeline.effects.registry import LARGEST_ANSWER, Blob, HttpRegistry
from pipeline.effects.registry_login import Credentials
from pipeline.effects.retry import RetryPolicy
from pipeline.errors import DestinationError, FetchBackError
from pipeline.model.images import IMAGE_INDEX_TYPE, RegistryConfig

PASSWORD = "canary-5b1e77c0"  # noqa: S105 - of nobody
TOKEN = "canary-token-8f2ac1"  # noqa: S105 - of nobody
ME = Credentials("me", PASSWORD)
DATA = b'{"schemaVersion":2}'
DIGEST = digest_of(DATA)
CONTENT = b"layer" * 1000
CHALLENGE = (
    'Bearer realm="https://auth.test/token",service="ghcr.io",scope="repository:owner/pypy:pull"'
)


@dataclass(frozen=True)
class Sent:
    """A request as it went out."""

    method: str
    url: str
    headers: CaseInsensitiveDict[str]
    body: bytes

    @property
    def name(self) -> str | None:
        """Who asks."""
        return self.headers.get("Authorization")

    def __str__(self) -> str:
        return f"{self.method} {self.url}"


@dataclass
class Network:
    """What the network gives, in turn, and what was sent and slept."""

    answers: list[Response | Exception] = field(default_factory=list)
    sent: list[Sent] = field(default_factory=list)
    slept: list[float] = field(default_factory=list)

    def send(self, request: PreparedRequest, **_options: Any) -> Response:
        """Take a request as an adapter of requests does; give the next answer."""
        body = request.body
        sent = body if isinstance(body, bytes) else b"".join(body or ())  # type: ignore[arg-type]
        self.sent.append(Sent(str(request.method), str(request.url), request.headers, sent))
        following = self.answers.pop(0)
        if isinstance(following, Exception):
            raise following
        following.request, following.url = request, str(request.url)
        return following

    @property
    def paths(self) -> list[str]:
        """What was asked for, without hosts and queries."""
        return [f"{sent.method} {urlsplit(sent.url).path}" for sent in self.sent]


def answer(status: int, data: bytes = b"", **headers: str) -> Response:
    """Build an answer by hand; ``_`` in names of headers is ``-``."""
    response = Response()
    response.status_code = status
    response.raw = io.BytesIO(data)
    named = {name.replace("_", "-"): text for name, text in headers.items()}
    response.headers = CaseInsensitiveDict(named)
    return response


def problem(status: int, code: str, message: str = "", **headers: str) -> Response:
    """Build a registry's answer to a request that it refuses."""
    data = json.dumps({"errors": [{"code": code, "message": message, "detail": {"a": 1}}]})
    return answer(status, data.encode(), **headers)


def challenge(header: str = CHALLENGE) -> Response:
    """Build the answer that asks who we are."""
    return problem(401, "UNAUTHORIZED", WWW_Authenticate=header)


def token(value: str = TOKEN, key: str = "token") -> Response:
    """Build the answer of who gives tokens."""
    return answer(200, json.dumps({key: value, "expires_in": 300}).encode())


def blob(data: bytes = CONTENT) -> Blob:
    """Return bytes to put."""
    return Blob(digest=digest_of(data), size=len(data), open=lambda: io.BytesIO(data))


def manifest(**headers: str) -> Response:
    """Build the answer that is a manifest."""
    return answer(200, DATA, **{"Docker_Content_Digest": DIGEST, **headers})


@pytest.fixture
def network(monkeypatch: pytest.MonkeyPatch) -> Network:
    """Replace what every session sends through."""
    network = Network()
    monkeypatch.setattr("requests.Session.get_adapter", lambda _self, url: network)  # noqa: ARG005 - its name
    return network


def make_registry(
    network: Network, credentials: Credentials | None = None, **config: Any
) -> HttpRegistry:
    """Return a client that notes how long it would sleep."""
    fields = {"repository": "ghcr.io/owner", **config}
    retry = RetryPolicy(attempts=3, sleep=network.slept.append)
    return HttpRegistry(RegistryConfig.model_validate(fields), credentials, retry)


# --- requests -------------------------------------------------------------------------------------


def test_a_blob_that_is_there_is_not_sent(network: Network) -> None:
    network.answers = [answer(200, Content_Length=str(len(CONTENT)))]

    assert not make_registry(network).put_blob("pypy", blob())

    assert [str(sent) for sent in network.sent] == [
        f"HEAD https://ghcr.io/v2/owner/pypy/blobs/{digest_of(CONTENT)}"
    ]


def test_a_blob_is_sent_whole_to_where_the_registry_says(network: Network) -> None:
    sent: list[int] = []
    network.answers = [
        answer(404),
        answer(202, Location="/v2/owner/pypy/blobs/uploads/7?_state=x%3D"),
        answer(201),
    ]

    assert make_registry(network).put_blob("pypy", blob(), sent.append)

    put = network.sent[2]
    assert network.paths[1:] == [
        "POST /v2/owner/pypy/blobs/uploads/",
        "PUT /v2/owner/pypy/blobs/uploads/7",
    ]
    assert parse_qs(urlsplit(put.url).query) == {"_state": ["x="], "digest": [digest_of(CONTENT)]}
    assert put.body == CONTENT
    assert put.headers["Content-Length"] == str(len(CONTENT))
    assert "Transfer-Encoding" not in put.headers
    assert put.headers["Content-Type"] == "application/octet-stream"
    assert sum(sent) == len(CONTENT)


def test_a_blob_of_another_size_is_sent_again(network: Network) -> None:
    network.answers = [answer(200, Content_Length="3"), answer(202, Location="/u"), answer(201)]

    assert make_registry(network).put_blob("pypy", blob())


def test_after_a_fault_a_blob_is_looked_for_before_it_is_sent_again(network: Network) -> None:
    """The registry may have had all of it when the answer was lost."""
    network.answers = [
        answer(404),
        answer(202, Location="/u"),
        RequestsConnectionError("reset"),
        answer(200, Content_Length=str(len(CONTENT))),
    ]

    make_registry(network).put_blob("pypy", blob())

    assert [sent.method for sent in network.sent] == ["HEAD", "POST", "PUT", "HEAD"]
    assert network.slept == [2.0]


@pytest.mark.parametrize("code", ["DIGEST_INVALID", "BLOB_UPLOAD_UNKNOWN", "BLOB_UPLOAD_INVALID"])
def test_what_was_spoilt_on_its_way_is_sent_again(network: Network, code: str) -> None:
    network.answers = [
        answer(404),
        answer(202, Location="/u"),
        problem(404 if "UNKNOWN" in code else 400, code),
        answer(404),
        answer(202, Location="/u"),
        answer(201),
    ]

    assert make_registry(network).put_blob("pypy", blob())


@pytest.mark.parametrize(
    "answers",
    [
        [answer(200), answer(404), answer(202, Location="/u"), answer(201)],
        [answer(404), answer(200), answer(404), answer(202, Location="/u"), answer(201)],
        [answer(404), answer(202), answer(404), answer(202, Location="/u"), answer(201)],
    ],
    ids=["no length", "no upload", "no place"],
)
def test_what_no_registry_answers_is_asked_again(
    network: Network, answers: list[Response | Exception]
) -> None:
    network.answers = answers

    assert make_registry(network).put_blob("pypy", blob())


def test_docker_hub_is_asked_where_its_registry_is(network: Network) -> None:
    network.answers = [answer(404)]

    make_registry(network, repository="docker.io/owner").blob_size("pypy", DIGEST)

    assert network.sent[0].url.startswith("https://registry-1.docker.io/v2/owner/pypy/blobs/")


def test_a_repository_may_be_at_the_top(network: Network) -> None:
    network.answers = [answer(404)]

    make_registry(network, repository="127.0.0.1:5000", plain_http=True).blob_size("pypy", DIGEST)

    assert network.sent[0].url == f"http://127.0.0.1:5000/v2/pypy/blobs/{DIGEST}"


def test_a_manifest_is_checked_against_the_digest_that_was_asked_for(network: Network) -> None:
    network.answers = [manifest(), answer(200, DATA + b" ")]
    registry = make_registry(network)

    found = registry.manifest("pypy", DIGEST)

    assert found is not None
    assert (found.data, found.digest) == (DATA, DIGEST)
    assert IMAGE_INDEX_TYPE in network.sent[0].headers["Accept"]
    with pytest.raises(FetchBackError, match=f"for {DIGEST}"):
        registry.manifest("pypy", DIGEST)


def test_a_manifest_by_its_tag_is_checked_against_what_the_registry_says(network: Network) -> None:
    network.answers = [manifest(Docker_Content_Digest=digest_of(b"other")), answer(200, DATA)]
    registry = make_registry(network)

    with pytest.raises(FetchBackError, match=r"ghcr\.io/owner/pypy:3\.11"):
        registry.manifest("pypy", "3.11")
    unsaid = registry.manifest("pypy", "3.11")

    assert unsaid is not None
    assert unsaid.digest == DIGEST


def test_a_blob_is_checked_against_its_digest(network: Network) -> None:
    digest = digest_of(CONTENT)
    network.answers = [answer(200, CONTENT), answer(200, b"other"), answer(404)]
    registry = make_registry(network)

    assert registry.blob("pypy", digest) == CONTENT
    with pytest.raises(FetchBackError, match=f"for {digest}"):
        registry.blob("pypy", digest)
    assert registry.blob("pypy", digest) is None


def test_what_is_not_there_is_none(network: Network) -> None:
    network.answers = [answer(404) for _ in range(4)]
    registry = make_registry(network)

    assert registry.manifest("pypy", "3.11") is None
    assert registry.digest_of("pypy", "3.11") is None
    assert registry.blob_size("pypy", DIGEST) is None
    assert registry.tags("pypy") == ()


def test_a_digest_is_fetched_where_the_registry_does_not_say_it(network: Network) -> None:
    network.answers = [answer(200), answer(200, DATA)]

    assert make_registry(network).digest_of("pypy", "3.11") == DIGEST

    assert [sent.method for sent in network.sent] == ["HEAD", "GET"]


def test_putting_says_whether_the_subject_was_understood(network: Network) -> None:
    network.answers = [
        answer(201, Docker_Content_Digest=DIGEST),
        answer(201, Docker_Content_Digest=DIGEST, OCI_Subject=DIGEST),
    ]
    registry = make_registry(network)

    said = [registry.put_manifest("pypy", "3.11", DATA, IMAGE_INDEX_TYPE) for _ in range(2)]

    assert said == [False, True]
    assert (network.sent[0].body, network.sent[0].headers["Content-Type"]) == (
        DATA,
        IMAGE_INDEX_TYPE,
    )


def test_what_a_registry_makes_of_a_manifest_is_looked_at(network: Network) -> None:
    network.answers = [
        answer(201),
        answer(200, Docker_Content_Digest=DIGEST),
        answer(201, Docker_Content_Digest=digest_of(b"other")),
    ]
    registry = make_registry(network)

    registry.put_manifest("pypy", DIGEST, DATA, IMAGE_INDEX_TYPE)

    assert [sent.method for sent in network.sent] == ["PUT", "HEAD"]
    with pytest.raises(FetchBackError, match="was put"):
        registry.put_manifest("pypy", DIGEST, DATA, IMAGE_INDEX_TYPE)


@pytest.mark.parametrize(
    ("response", "expected"),
    [
        (answer(202), True),
        (answer(404), True),
        (problem(405, "UNSUPPORTED"), False),
        (problem(400, "DIGEST_INVALID"), False),
    ],
    ids=["removed", "gone", "not supported", "not by tag"],
)
def test_not_every_registry_removes(
    network: Network, response: Response, *, expected: bool
) -> None:
    network.answers = [response]

    assert make_registry(network).remove_manifest("pypy", "3.11") is expected


def test_tags_come_page_by_page(network: Network) -> None:
    following = '</v2/owner/pypy/tags/list?n=1000&last=b>; rel="next"'
    network.answers = [
        answer(200, b'{"name":"owner/pypy","tags":["a","b"]}', Link=following),
        answer(200, b'{"name":"owner/pypy","tags":["c"]}'),
        answer(200, b'{"name":"owner/pypy","tags":null}'),
    ]
    registry = make_registry(network)

    assert registry.tags("pypy") == ("a", "b", "c")
    assert registry.tags("pypy") == ()
    assert network.sent[1].url == "https://ghcr.io/v2/owner/pypy/tags/list?n=1000&last=b"


def test_a_list_whose_rest_is_gone_ends(network: Network) -> None:
    network.answers = [answer(200, b'{"tags":["a"]}', Link='</next>; rel="next"'), answer(404)]

    assert make_registry(network).tags("pypy") == ("a",)


def test_a_list_does_not_go_on_elsewhere(network: Network) -> None:
    network.answers = [answer(200, b'{"tags":[]}', Link='<https://evil.test/>; rel="next"')]

    with pytest.raises(DestinationError, match="another host"):
        make_registry(network).tags("pypy")

    assert len(network.sent) == 1


def test_a_page_that_is_no_list_is_refused(network: Network) -> None:
    network.answers = [answer(200, b"<html>")]

    with pytest.raises(DestinationError, match="not a registry's list"):
        make_registry(network).tags("pypy")


def test_referrers_are_pages_or_unknown(network: Network) -> None:
    network.answers = [answer(200, b"{}"), answer(404)]
    registry = make_registry(network)

    assert registry.referrers("pypy", DIGEST) == (b"{}",)
    assert registry.referrers("pypy", DIGEST) is None
    assert network.paths[0] == f"GET /v2/owner/pypy/referrers/{DIGEST}"


def test_an_answer_without_end_is_not_read_to_its_end(network: Network) -> None:
    network.answers = [answer(200, b" " * (LARGEST_ANSWER + 1))]

    with pytest.raises(DestinationError, match="more than"):
        make_registry(network).manifest("pypy", "3.11")


# --- who asks -------------------------------------------------------------------------------------


def test_a_token_is_asked_for_once_and_kept(network: Network) -> None:
    network.answers = [challenge(), token(), manifest(), manifest()]
    registry = make_registry(network, ME)

    registry.manifest("pypy", "3.11")
    registry.manifest("pypy", "3.10")

    asked = network.sent[1]
    assert [sent.name for sent in network.sent] == [
        None,
        f"Basic {ME.basic}",
        f"Bearer {TOKEN}",
        f"Bearer {TOKEN}",
    ]
    assert asked.url.startswith("https://auth.test/token?")
    assert parse_qs(urlsplit(asked.url).query) == {
        "service": ["ghcr.io"],
        "scope": ["repository:owner/pypy:pull"],
    }


def test_a_token_that_is_too_old_is_asked_for_again(network: Network) -> None:
    network.answers = [
        challenge(),
        token("first"),
        manifest(),
        challenge(),
        token("second", "access_token"),
        manifest(),
    ]
    registry = make_registry(network, ME)

    registry.manifest("pypy", "3.11")
    registry.manifest("pypy", "3.11")

    assert network.sent[-1].name == "Bearer second"


def test_a_body_is_sent_whole_again_when_the_name_is_asked_for(network: Network) -> None:
    network.answers = [
        answer(404),
        answer(202, Location="/u"),
        challenge(),
        token(),
        answer(201),
    ]

    make_registry(network, ME).put_blob("pypy", blob())

    assert [len(sent.body) for sent in network.sent if sent.method == "PUT"] == [5000, 5000]


def test_who_only_reads_needs_no_name(network: Network) -> None:
    network.answers = [challenge(), token(), manifest()]

    assert make_registry(network).manifest("pypy", "3.11") is not None

    assert network.sent[1].name is None


def test_without_a_scope_what_is_needed_is_asked_for(network: Network) -> None:
    network.answers = [challenge('Bearer realm="https://auth.test/token"'), token(), answer(202)]

    make_registry(network, ME).remove_manifest("pypy", "3.11")

    query = parse_qs(urlsplit(network.sent[1].url).query)
    assert query == {"scope": ["repository:owner/pypy:pull,push,delete"]}


def test_a_password_is_given_where_the_registry_itself_asks_for_it(network: Network) -> None:
    network.answers = [challenge('Basic realm="Registry"'), manifest()]

    make_registry(network, ME).manifest("pypy", "3.11")

    assert network.sent[1].name == f"Basic {ME.basic}"


@pytest.mark.parametrize("realm", ["http://auth.test/token", "", "ftp://auth.test"])
def test_no_password_goes_where_others_can_read_it(network: Network, realm: str) -> None:
    network.answers = [challenge(f'Bearer realm="{realm}"')]

    with pytest.raises(DestinationError, match="not https"):
        make_registry(network, ME).manifest("pypy", "3.11")

    assert len(network.sent) == 1


def test_on_the_loopback_a_password_stays_on_the_loopback(network: Network) -> None:
    network.answers = [challenge('Bearer realm="http://auth.test/token"')]

    with pytest.raises(DestinationError, match="not https"):
        make_registry(network, ME, repository="localhost:5000", plain_http=True).tags("pypy")


@pytest.mark.parametrize(
    "location",
    ["https://storage.test/blob?sig=x", "https://ghcr.io:8443/blob", "https://ghcr.io.evil.test/"],
)
def test_a_name_is_not_told_to_other_hosts(network: Network, location: str) -> None:
    network.answers = [
        challenge('Basic realm="x"'),
        answer(307, Location=location),
        answer(302, Location="https://ghcr.io/back"),
        manifest(),
    ]

    make_registry(network, ME).manifest("pypy", "3.11")

    assert [sent.name is not None for sent in network.sent] == [False, True, False, False]
    assert network.sent[2].url == location


def test_an_upload_elsewhere_goes_there_without_a_name(network: Network) -> None:
    network.answers = [
        challenge('Basic realm="x"'),
        answer(404),
        answer(202, Location="https://storage.test/upload?sig=abc"),
        answer(201),
    ]
    registry = make_registry(network, ME)

    registry.put_blob("pypy", blob())

    assert network.sent[-1].url.startswith("https://storage.test/upload?sig=abc&digest=sha256")
    assert network.sent[-1].name is None


@pytest.mark.parametrize(
    "header",
    ['Bearer realm="https://thief.test/token",service="ghcr.io"', 'Basic realm="cdn"'],
    ids=["bearer", "basic"],
)
@pytest.mark.parametrize("status", [302, 307])
def test_a_host_that_the_registry_leads_to_may_not_ask_who_we_are(
    network: Network, header: str, status: int
) -> None:
    network.answers = [answer(status, Location="https://cdn.test/blob"), challenge(header)]

    with pytest.raises(DestinationError, match=r"cdn\.test/blob: HTTP 401"):
        make_registry(network, ME).manifest("pypy", DIGEST)

    assert [urlsplit(sent.url).netloc for sent in network.sent] == ["ghcr.io", "cdn.test"]
    assert [sent.name for sent in network.sent] == [None, None]


def test_a_host_that_takes_an_upload_may_not_ask_who_we_are(network: Network) -> None:
    network.answers = [
        answer(404),
        answer(202, Location="https://upload.test/7"),
        challenge('Bearer realm="https://thief.test/token"'),
    ]

    with pytest.raises(DestinationError, match=r"upload\.test/7: HTTP 401"):
        make_registry(network, ME).put_blob("pypy", blob())

    assert [sent.name for sent in network.sent] == [None, None, None]


def test_an_upload_is_not_sent_readable(network: Network) -> None:
    network.answers = [answer(404), answer(202, Location="http://ghcr.io/u?_state=secret")]

    with pytest.raises(DestinationError, match="not https") as caught:
        make_registry(network).put_blob("pypy", blob())

    assert "secret" not in str(caught.value)


def test_redirects_have_an_end(network: Network) -> None:
    network.answers = [answer(307, Location="/again") for _ in range(9)]

    with pytest.raises(DestinationError, match="led on 5 times"):
        make_registry(network).manifest("pypy", "3.11")


def test_what_changes_something_is_led_nowhere(network: Network) -> None:
    network.answers = [answer(307, Location="https://elsewhere.test/")]

    with pytest.raises(DestinationError, match="HTTP 307"):
        make_registry(network).put_manifest("pypy", "3.11", DATA, IMAGE_INDEX_TYPE)


# --- what answers mean ----------------------------------------------------------------------------


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
def test_faults_that_may_pass_are_met_by_asking_again(network: Network, status: int) -> None:
    network.answers = [answer(status, Retry_After="7"), manifest()]

    make_registry(network).manifest("pypy", "3.11")

    assert network.slept == [7.0]


def test_faults_that_do_not_pass_end_in_an_error(network: Network) -> None:
    network.answers = [problem(429, "TOOMANYREQUESTS", "slow down") for _ in range(3)]

    with pytest.raises(DestinationError, match=r"429 TOOMANYREQUESTS slow down \(3 attempts\)"):
        make_registry(network).manifest("pypy", "3.11")


PUT: Callable[[HttpRegistry], object] = lambda registry: registry.put_manifest(  # noqa: E731 - a case
    "pypy", "3.11", DATA, IMAGE_INDEX_TYPE
)


@pytest.mark.parametrize(
    ("response", "remedy"),
    [
        (problem(401, "UNAUTHORIZED"), "Check REGISTRY_USERNAME and REGISTRY_PASSWORD"),
        (problem(403, "DENIED"), "It needs the right to push there. Check REGISTRY_USERNAME"),
        (problem(404, "NAME_UNKNOWN"), "some registries want a repository to be made before"),
        (problem(413, "SIZE_INVALID"), "takes no body of that size"),
        (problem(400, "MANIFEST_BLOB_UNKNOWN"), "Run the command again that released"),
        (problem(422, "MANIFEST_INVALID"), "Sending it again would not change that"),
        (answer(521), "Sending it again would not change that"),
    ],
    ids=["401", "403", "404", "413", "unknown blob", "422", "521"],
)
def test_refusals_say_what_to_do_and_are_not_repeated(
    network: Network, response: Response, remedy: str
) -> None:
    network.answers = [response]

    with pytest.raises(DestinationError, match=remedy) as caught:
        PUT(make_registry(network, ME))

    assert "PUT https://ghcr.io/v2/owner/pypy/manifests/3.11: HTTP" in str(caught.value)
    assert caught.value.exit_code == 66
    assert network.slept == []


def test_who_has_no_name_is_told_how_to_get_one(network: Network) -> None:
    network.answers = [challenge('Basic realm="x"')]

    with pytest.raises(DestinationError, match=r"Nobody is logged in.*docker login ghcr\.io"):
        PUT(make_registry(network))


def test_a_wrong_password_is_tried_once(network: Network) -> None:
    network.answers = [challenge('Basic realm="x"'), challenge('Basic realm="x"')]

    with pytest.raises(DestinationError, match="HTTP 401"):
        PUT(make_registry(network, ME))

    network.answers = [challenge(), problem(401, "UNAUTHORIZED")]
    with pytest.raises(DestinationError, match=r"GET https://auth\.test/token: HTTP 401"):
        PUT(make_registry(network, ME))


@pytest.mark.parametrize(
    "data", [b"<html>", b'{"token":""}', b'{"token":"two words"}', b'{"token":"line\\nend"}']
)
def test_what_is_no_token_is_not_used(network: Network, data: bytes) -> None:
    for _ in range(3):
        network.answers += [challenge(), answer(200, data)]

    with pytest.raises(DestinationError, match="not a registry's"):
        make_registry(network, ME).manifest("pypy", "3.11")


def test_nothing_secret_is_in_a_log_or_an_error(
    network: Network, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    registry = make_registry(network, ME)
    echo = f"{PASSWORD} {ME.basic} {TOKEN}"
    network.answers = [
        challenge(),
        token(),
        answer(307, Location="https://storage.test/b?X-Amz-Signature=canary-query"),
        RequestsConnectionError(f"url: /b?X-Amz-Signature=canary-query ({echo})"),
        problem(503, "UNAVAILABLE", echo),
        problem(403, "DENIED", echo),
    ]

    with pytest.raises(DestinationError) as caught:
        registry.manifest("pypy", "3.11")

    chain = [caught.value, caught.value.__cause__, caught.value.__context__]
    text = caplog.text + repr(registry) + "".join(repr(error) for error in chain)
    assert "canary" not in text
    assert "***" in text


def test_nothing_secret_is_in_a_traceback(network: Network) -> None:
    network.answers = [RequestsConnectionError(f"x {ME.basic}") for _ in range(3)]

    with pytest.raises(DestinationError) as caught:
        make_registry(network, ME).manifest("pypy", "3.11")

    cause = caught.value.__cause__
    while cause is not None:
        assert ME.basic not in str(cause)
        cause = cause.__cause__ or (None if cause.__suppress_context__ else cause.__context__)
