"""Buildbot's REST API: what is asked, what is believed of the answers, and what is never sent."""

import io
import json
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st
from requests import ConnectionError as RequestsConnectionError  # noqa: TID251 - hand-built answers
from requests import PreparedRequest, Response  # noqa: TID251 - hand-built answers
from requests.structures import CaseInsensitiveDict  # noqa: TID251 - hand-built answers

from pipeline.effects import farm_api
from pipeline.effects.farm_api import (
    LONGEST_TEXT,
    MOST_IDS,
    BuildbotFarm,
    as_line,
    farm_address,
    insist,
    is_private,
)
from pipeline.effects.retry import RetryableError, RetryPolicy
from pipeline.errors import FarmError, FarmLoginError
from tests.fake_farm import make_submission

URL = "https://farm.test/farm"
PASSWORD = "canary-3f9c1e7ab2d84650"  # noqa: S105 - of nobody
DATE = "Fri, 15 Jan 2027 08:00:00 GMT"
DATE_SECONDS = 1_800_000_000.0
REQUEST = {
    "buildrequestid": 7,
    "buildsetid": 3,
    "builderid": 1,
    "complete": False,
    "submitted_at": 1_800_000_000,
    "results": -1,
    "news": "a field of later versions",
}
BUILD = {
    "buildid": 5,
    "number": 2,
    "builderid": 1,
    "buildrequestid": 7,
    "started_at": 1_800_000_001,
    "complete": True,
    "results": 2,
    "state_string": "failed\x1b[31m 'make'",
}


@dataclass
class Network:
    """What the network gives, in turn, and what was sent."""

    answers: list[Response | Exception] = field(default_factory=list)
    sent: list[PreparedRequest] = field(default_factory=list)
    options: list[dict[str, Any]] = field(default_factory=list)

    def send(self, request: PreparedRequest, **options: Any) -> Response:
        """Take a request as an adapter of requests does; give the next answer."""
        self.sent.append(request)
        self.options.append(options)
        following = self.answers.pop(0)
        if isinstance(following, Exception):
            raise following
        following.request, following.url = request, str(request.url)
        return following

    @property
    def asked(self) -> list[tuple[str, list[tuple[str, str]]]]:
        """What was asked for: path and query."""
        parts = [urlsplit(str(request.url)) for request in self.sent]
        return [(part.path, parse_qsl(part.query)) for part in parts]


def answer(status: int = 200, value: Any = None, raw: bytes | None = None) -> Response:
    """Build an answer by hand."""
    response = Response()
    response.status_code = status
    response.raw = io.BytesIO(json.dumps(value).encode() if raw is None else raw)
    response.headers = CaseInsensitiveDict({"Date": DATE})
    return response


@pytest.fixture
def network(monkeypatch: pytest.MonkeyPatch) -> Network:
    """Replace what every session sends through."""
    network = Network()
    monkeypatch.setattr("requests.Session.get_adapter", lambda _self, url: network)  # noqa: ARG005 - its name
    return network


def make_farm(network: Network, *answers: Response | Exception, url: str = URL) -> BuildbotFarm:
    network.answers += answers
    return BuildbotFarm(url, clock=lambda: DATE_SECONDS)


# --- addresses ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("https://farm.test", "https://farm.test"),
        ("http://127.0.0.1:8010/", "http://127.0.0.1:8010"),
        ("https://farm.test/a/b/", "https://farm.test/a/b"),
    ],
)
def test_an_address_has_no_slash_at_its_end(text: str, address: str) -> None:
    assert farm_address(text) == address


@pytest.mark.parametrize(
    "text",
    [
        "farm.test",
        "ftp://farm.test",
        "file:///etc/passwd",
        "https://",
        "https://me:pw@farm.test",
        "https://farm.test/?a=1",
        "https://farm.test/#/builders",
    ],
)
def test_what_is_no_address_of_a_farm_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"address|follows the path") as caught:
        farm_address(text)

    assert "pw" not in str(caught.value) or "passwd" in text


@pytest.mark.parametrize(
    ("address", "private"),
    [
        ("https://farm.test", True),
        ("http://farm.test", False),
        ("http://127.0.0.1:8010", True),
        ("http://127.8.9.1", True),
        ("http://[::1]:8010", True),
        ("http://localhost:8010", True),
        ("http://localhost.farm.test", False),
        ("http://10.0.0.1", False),
    ],
)
def test_a_password_is_private_over_tls_and_on_this_machine(address: str, *, private: bool) -> None:
    assert is_private(address) == private


# --- logging in ---------------------------------------------------------------------------------


def test_the_password_goes_into_one_header_of_one_request(network: Network) -> None:
    farm = make_farm(network, answer(302), answer(200, {"builders": []}))
    farm._session.cookies.set("TWISTED_SESSION", "x")  # noqa: SLF001 - what the answer would set

    farm.login("me", PASSWORD)
    farm.builders()

    login, reading = network.sent
    assert str(login.url) == f"{URL}/auth/login"
    assert login.headers["Authorization"].startswith("Basic ")
    assert "Authorization" not in reading.headers
    assert PASSWORD not in f"{login.url}{login.body!r}{reading.url}"


def test_what_netrc_has_for_the_farm_is_not_sent(
    network: Network, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("requests.sessions.get_netrc_auth", lambda _url: ("me", PASSWORD))

    make_farm(network, answer(200, {"builders": []})).builders()

    assert "Authorization" not in network.sent[0].headers


def test_nothing_for_this_machine_goes_through_a_proxy(
    network: Network, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", "http://proxy.test:3128")
    farm = make_farm(network, answer(200, {"builders": []}), url="http://127.0.0.1:8010")

    farm.builders()

    assert not network.options[0]["proxies"]


@pytest.mark.parametrize("status", [401, 403])
def test_a_wrong_password_is_told_without_it(network: Network, status: int) -> None:
    farm = make_farm(network, answer(status, raw=b"Unauthorized"))

    with pytest.raises(FarmLoginError, match="does not let me in") as caught:
        farm.login("me", PASSWORD)

    assert PASSWORD not in str(caught.value)


def test_a_login_that_gives_no_session_is_none(network: Network) -> None:
    with pytest.raises(FarmLoginError, match="no login by name and password"):
        make_farm(network, answer(302)).login("me", PASSWORD)


# --- reading ------------------------------------------------------------------------------------


def test_requests_are_asked_for_with_their_properties(network: Network) -> None:
    row = {**REQUEST, "properties": {"submission": ["{}", "Force Build Form"], "x": 3}}
    farm = make_farm(network, answer(200, {"buildrequests": [row], "meta": {}}))

    (found,) = farm.requests_of(1, complete=False, limit=50, properties=("submission",))

    assert network.asked == [
        (
            "/farm/api/v2/builders/1/buildrequests",
            [
                ("complete", "false"),
                ("order", "-buildrequestid"),
                ("limit", "50"),
                ("property", "submission"),
            ],
        )
    ]
    assert (found.value("submission"), found.value("x"), found.value("y")) == ("{}", None, None)


def test_children_are_those_of_the_sets_that_a_try_made(network: Network) -> None:
    sets = answer(200, {"buildsets": [{"bsid": 8}, {"bsid": 9}]})
    farm = make_farm(network, sets, answer(200, {"buildrequests": [REQUEST]}))

    farm.children([5, 6], ("unit",))

    assert network.asked == [
        ("/farm/api/v2/buildsets", [("parent_buildid__in", "5"), ("parent_buildid__in", "6")]),
        (
            "/farm/api/v2/buildrequests",
            [("buildsetid__in", "8"), ("buildsetid__in", "9"), ("property", "unit")],
        ),
    ]


def test_nothing_is_asked_of_nothing(network: Network) -> None:
    farm = make_farm(network)

    assert farm.children([], ("unit",)) == []
    assert farm.builds([]) == []


def test_many_are_asked_for_in_addresses_that_are_not_too_long(network: Network) -> None:
    answers = [answer(200, {"builds": [BUILD]}) for _ in range(3)]
    farm = make_farm(network, *answers)

    found = farm.builds(range(2 * MOST_IDS + 1))

    assert len(found) == 3
    assert [len(query) for _, query in network.asked] == [MOST_IDS, MOST_IDS, 1]


def test_text_that_people_see_cannot_move_their_terminal(network: Network) -> None:
    farm = make_farm(network, answer(200, {"builds": [BUILD]}))

    (build,) = farm.builds([7])

    assert build.state_string == "failed [31m 'make'"


@given(st.text())
def test_every_text_becomes_one_line_that_is_not_too_long(text: str) -> None:
    line = as_line(text)

    assert all(char.isprintable() for char in line)
    assert len(line) <= LONGEST_TEXT + len(" ...")


def test_a_logs_end_is_the_works_own(network: Network) -> None:
    logs = [
        {"logid": 1, "name": "err.html", "num_lines": 9, "type": "h"},
        {"logid": 2, "name": "stdio", "num_lines": 200, "type": "s"},
    ]
    content = "oline 1\nhprogram finished\neerror: \x1b]0;no\x07\n"
    chunk = {"logchunks": [{"logid": 2, "firstline": 190, "content": content}]}
    farm = make_farm(network, answer(200, {"logs": logs}), answer(200, chunk))

    tail = farm.log_tail(3, 5)

    assert tail == ("line 1", "error:  ]0;no ")
    assert network.asked[1] == (
        "/farm/api/v2/logs/2/contents",
        [("offset", "190"), ("limit", "10")],
    )


@pytest.mark.parametrize("logs", [[], [{"logid": 2, "name": "stdio", "num_lines": 0, "type": "s"}]])
def test_a_step_without_a_log_has_no_end(network: Network, logs: list[Any]) -> None:
    assert make_farm(network, answer(200, {"logs": logs})).log_tail(3, 5) == ()


def test_the_time_is_the_masters(network: Network) -> None:
    network.answers.append(answer(200, {"builders": []}))
    farm = BuildbotFarm(URL, clock=lambda: DATE_SECONDS - 3600)

    farm.builders()

    assert farm.now() == DATE_SECONDS


def test_clocks_that_agree_to_a_second_are_one(network: Network) -> None:
    network.answers.append(answer(200, {"builders": []}))
    farm = BuildbotFarm(URL, clock=lambda: DATE_SECONDS + 0.9)

    farm.builders()

    assert farm.now() == DATE_SECONDS + 0.9


# --- what cannot be believed --------------------------------------------------------------------


@pytest.mark.parametrize(
    "body",
    [
        b"<html>",
        b"[]",
        b"{}",
        b'{"buildrequests": {}}',
        b'{"buildrequests": [7]}',
        b'{"buildrequests": [{"buildrequestid": "seven"}]}',
        b"[" * 100_000,
        b"\xff",
    ],
    ids=["html", "list", "empty", "object", "number", "wrong type", "deep", "no UTF-8"],
)
def test_what_is_no_answer_of_buildbot_is_an_error_that_says_so(
    network: Network, body: bytes
) -> None:
    with pytest.raises(FarmError, match=r"this is no answer of Buildbot 4\.3"):
        make_farm(network, answer(200, raw=body)).open_requests(5)


@pytest.mark.parametrize("number", [0, 2])
def test_one_is_one(network: Network, number: int) -> None:
    with pytest.raises(FarmError, match=f"answers with {number} instead of one"):
        make_farm(network, answer(200, {"buildrequests": [REQUEST] * number})).request(7, ())


def test_an_answer_that_is_too_large_is_not_read(
    network: Network, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(farm_api, "LARGEST_ANSWER", 1000)

    with pytest.raises(FarmError, match="more than 1000 bytes"):
        make_farm(network, answer(200, raw=b" " * 1001)).builders()


@pytest.mark.parametrize(
    "fault",
    [RequestsConnectionError("refused"), answer(500, {"error": "x"}), answer(503), answer(429)],
    ids=["connection", "500", "503", "429"],
)
def test_what_may_pass_is_told_as_such(network: Network, fault: Response | Exception) -> None:
    with pytest.raises(RetryableError):
        make_farm(network, fault).builders()


def test_the_innermost_reason_of_a_fault_is_told(network: Network) -> None:
    fault = RequestsConnectionError("HTTPConnectionPool(...)")
    fault.__context__ = OSError(111, "Connection refused")

    with pytest.raises(RetryableError, match=r"^\[Errno 111\] Connection refused$"):
        make_farm(network, fault).builders()


@pytest.mark.parametrize(
    ("status", "error", "kind"), [(404, "gone", FarmError), (403, "no", FarmLoginError)]
)
def test_what_a_retry_would_not_change_is_an_error(
    network: Network, status: int, error: str, kind: type[FarmError]
) -> None:
    with pytest.raises(kind, match=f"HTTP {status} {error}") as caught:
        make_farm(network, answer(status, {"error": error})).builders()

    assert type(caught.value) is kind


def test_an_address_that_leads_elsewhere_is_told_and_not_followed(network: Network) -> None:
    moved = answer(301)
    moved.headers["Location"] = "https://other.test/"

    with pytest.raises(FarmError, match=r"leads to https://other\.test/\. Give that address"):
        make_farm(network, moved).builders()

    assert len(network.sent) == 1


# --- asking -------------------------------------------------------------------------------------


def test_a_submission_is_sent_as_the_masters_form_has_it(network: Network) -> None:
    farm = make_farm(network, answer(200, {"result": [3, {"1": 7}], "id": 1}))
    submission = make_submission()

    made = farm.submit(1, submission, priority=10, reason="me")

    assert made == 7
    (sent,) = network.sent
    assert str(sent.url) == f"{URL}/api/v2/forceschedulers/submit"
    call = json.loads(sent.body or b"")
    assert call["method"] == "force"
    assert json.loads(call["params"].pop("submission")) == submission.model_dump(mode="json")
    assert call["params"] == {"builderid": 1, "priority": 10, "reason": "me"}


@pytest.mark.parametrize("result", [None, [], [3, {}], [3, {"1": "x"}], [3, {"1": 7, "2": 8}], 7])
def test_an_answer_that_does_not_name_the_request_may_have_made_one(
    network: Network, result: object
) -> None:
    farm = make_farm(network, answer(200, {"result": result}))

    with pytest.raises(RetryableError, match="does not say as which request"):
        farm.submit(1, make_submission(), priority=10, reason="me")


def test_a_refusal_says_what_is_wrong(network: Network) -> None:
    refused = answer(400, {"error": {"code": -32602, "message": {"submission": "too long"}}})

    with pytest.raises(FarmError, match=r"HTTP 400 .*too long"):
        make_farm(network, refused).submit(1, make_submission(), priority=0, reason="me")


def test_stopping_says_why(network: Network) -> None:
    farm = make_farm(network, answer(200, {"result": None}), answer(200, {"result": None}))

    farm.stop_build(5, "not wanted")
    farm.cancel_request(7, "not wanted")

    calls = [json.loads(sent.body or b"") for sent in network.sent]
    assert [(call["method"], call["params"]) for call in calls] == [
        ("stop", {"reason": "not wanted"}),
        ("cancel", {"reason": "not wanted"}),
    ]
    assert [path for path, _ in network.asked] == [
        "/farm/api/v2/builds/5",
        "/farm/api/v2/buildrequests/7",
    ]


def test_insisting_ends_with_what_to_look_at() -> None:
    slept: list[float] = []

    def refuse() -> None:
        msg = "Connection refused"
        raise RetryableError(msg)

    with pytest.raises(FarmError, match=r"Connection refused \(2 attempts\)\. Is the farm running"):
        insist(RetryPolicy(attempts=2, sleep=slept.append), URL, refuse)

    assert len(slept) == 1
