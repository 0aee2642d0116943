"""Downloads: only the pinned bytes arrive, and only faults that may pass are tried again."""

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from requests import ConnectionError as RequestsConnectionError  # noqa: TID251 - hand-built answers
from requests import RequestException, Response  # noqa: TID251 - hand-built answers
from requests.structures import CaseInsensitiveDict  # noqa: TID251 - hand-built answers
from urllib3.exceptions import ProtocolError

from pipeline.effects.files import sha256_of
from pipeline.effects.http import ANY_ENCODING, HttpClient, Received
from pipeline.effects.retry import RetryPolicy
from pipeline.errors import DigestMismatchError, DownloadError
from tests.factories import make_pin

CONTENT = b"pinned bytes" * 100
PIN = make_pin(CONTENT)


class Body:
    """A raw body that comes in pieces; an exception among them is raised there."""

    def __init__(self, *pieces: bytes | Exception) -> None:
        self.pieces = pieces
        self.closed = False
        self.options: dict[str, object] = {}

    def stream(self, _size: int, **options: object) -> Iterator[bytes]:
        """Give the pieces, as urllib3 would."""
        self.options = options
        for piece in self.pieces:
            if isinstance(piece, Exception):
                raise piece
            yield piece

    def close(self) -> None:
        """Remember that the connection was given back."""
        self.closed = True

    release_conn = close


def answer(*pieces: bytes | Exception, status: int = 200, **headers: str) -> Response:
    """Build an answer by hand."""
    response = Response()
    response.status_code = status
    response.raw = Body(*pieces)
    response.headers = CaseInsensitiveDict(
        {name.replace("_", "-"): value for name, value in headers.items()}
    )
    return response


@dataclass
class Network:
    """What the session gives, in turn, and what was asked and slept."""

    answers: list[Response | Exception] = field(default_factory=list)
    given: list[Response] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)
    options: list[dict[str, Any]] = field(default_factory=list)
    slept: list[float] = field(default_factory=list)

    def get(self, url: str, **options: Any) -> Response:
        """Give the next answer."""
        self.asked.append(url)
        self.options.append(options)
        following = self.answers.pop(0)
        if isinstance(following, Exception):
            raise following
        self.given.append(following)
        return following

    head = get


@pytest.fixture
def network(monkeypatch: pytest.MonkeyPatch) -> Network:
    """Replace every session's methods."""
    network = Network()
    for method in ("get", "head"):
        monkeypatch.setattr(
            f"requests.Session.{method}", lambda _self, url, **options: network.get(url, **options)
        )
    return network


@pytest.fixture
def client(network: Network) -> HttpClient:
    """A client that notes how long it would sleep."""
    return HttpClient(RetryPolicy(sleep=network.slept.append))


def kept(directory: Path) -> list[Path]:
    """Return every file below *directory*."""
    return [path for path in directory.rglob("*") if path.is_file()]


def test_a_pinned_file_is_fetched_to_a_place_named_by_its_digest(
    client: HttpClient, network: Network, tmp_path: Path
) -> None:
    network.answers = [answer(CONTENT[:500], CONTENT[500:])]
    counts: list[int] = []

    path = client.download(PIN, tmp_path, counts.append)

    assert path == tmp_path / PIN.sha256 / PIN.filename
    assert path.read_bytes() == CONTENT
    assert counts == [500, len(CONTENT) - 500]
    assert network.asked == [PIN.url]
    assert kept(tmp_path) == [path]


def test_every_request_has_a_time_limit_and_is_given_back(
    client: HttpClient, network: Network, tmp_path: Path
) -> None:
    network.answers = [answer(status=500), answer(CONTENT)]

    client.download(PIN, tmp_path)

    assert all(min(options["timeout"]) > 0 for options in network.options)
    assert all(options["stream"] is True for options in network.options)
    assert all(given.raw.closed for given in network.given)


def test_a_file_that_is_there_is_not_fetched_again(
    client: HttpClient, network: Network, tmp_path: Path
) -> None:
    network.answers = [answer(CONTENT)]
    first = client.download(PIN, tmp_path)

    again = client.download(PIN, tmp_path)

    assert again == first
    assert network.asked == [PIN.url]


def test_a_damaged_file_is_fetched_again(
    client: HttpClient, network: Network, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    damaged = tmp_path / PIN.sha256 / PIN.filename
    damaged.parent.mkdir()
    damaged.write_bytes(b"damaged")
    network.answers = [answer(CONTENT)]

    path = client.download(PIN, tmp_path)

    assert path == damaged
    assert sha256_of(path) == PIN.sha256
    assert "is damaged" in caplog.text


@pytest.mark.parametrize(
    "fault",
    [
        pytest.param(lambda: answer(status=500), id="500"),
        pytest.param(lambda: answer(status=502), id="502"),
        pytest.param(lambda: answer(status=503), id="503"),
        pytest.param(lambda: answer(status=504), id="504"),
        pytest.param(lambda: answer(status=429), id="429"),
        pytest.param(lambda: answer(status=408), id="408"),
        pytest.param(lambda: RequestsConnectionError("refused"), id="no-connection"),
        pytest.param(
            lambda: answer(CONTENT[:10], RequestsConnectionError("reset")), id="connection-lost"
        ),
        pytest.param(lambda: answer(CONTENT[:-1]), id="short"),
        pytest.param(answer, id="empty"),
    ],
)
def test_a_fault_that_may_pass_is_tried_again(
    client: HttpClient,
    network: Network,
    tmp_path: Path,
    fault: Callable[[], Response | Exception],
) -> None:
    network.answers = [fault(), answer(CONTENT)]

    path = client.download(PIN, tmp_path)

    assert path.read_bytes() == CONTENT
    assert network.slept == [2.0]
    assert kept(tmp_path) == [path]


def test_waits_grow_and_end_with_a_message_that_says_what_to_do(
    client: HttpClient, network: Network, tmp_path: Path
) -> None:
    network.answers = [answer(status=503) for _ in range(RetryPolicy.attempts + 1)]

    with pytest.raises(DownloadError) as caught:
        client.download(PIN, tmp_path)

    message = str(caught.value)
    assert message.startswith(f"{PIN.url}: HTTP 503 ({RetryPolicy.attempts} attempts).")
    assert f"put the file at {tmp_path / PIN.sha256 / PIN.filename} by hand" in message
    assert network.slept == [2.0, 4.0, 8.0, 16.0]
    assert len(network.asked) == RetryPolicy.attempts
    assert kept(tmp_path) == []


@pytest.mark.parametrize(
    ("after", "waited"),
    [
        pytest.param("7", 7.0, id="seconds"),
        pytest.param("0", 0.0, id="at-once"),
        pytest.param("86400", RetryPolicy.longest_wait, id="a-day"),
        pytest.param("soon", 2.0, id="nonsense"),
        pytest.param("-5", 2.0, id="negative"),
        pytest.param(
            "\u00b2",
            2.0,
            id="digit-that-is-no-number",
        ),
    ],
)
@pytest.mark.parametrize("status", [429, 503])
def test_a_server_may_say_how_long_to_wait_within_limits(
    client: HttpClient, network: Network, tmp_path: Path, status: int, after: str, waited: float
) -> None:
    network.answers = [answer(status=status, Retry_After=after), answer(CONTENT)]

    client.download(PIN, tmp_path)

    assert network.slept == [waited]


@pytest.mark.parametrize("status", [204, 301, 400, 401, 403, 404, 410])
def test_a_status_that_a_retry_would_not_change_is_final(
    client: HttpClient, network: Network, tmp_path: Path, status: int
) -> None:
    network.answers = [answer(CONTENT, status=status), answer(CONTENT)]

    with pytest.raises(DownloadError, match=rf"{PIN.url}: HTTP {status}"):
        client.download(PIN, tmp_path)

    assert network.slept == []
    assert kept(tmp_path) == []


def test_more_bytes_than_pinned_are_refused_as_they_come(
    client: HttpClient, network: Network, tmp_path: Path
) -> None:
    """An endless body must not fill the disk."""
    endless = AssertionError("read on after the limit")
    network.answers = [answer(CONTENT, b"x", endless)]

    with pytest.raises(DownloadError, match=f"more than the pinned {len(CONTENT)} bytes came"):
        client.download(PIN, tmp_path)

    assert network.slept == []
    assert kept(tmp_path) == []


def test_other_bytes_than_pinned_are_refused_and_not_kept(
    client: HttpClient, network: Network, tmp_path: Path
) -> None:
    other = bytes(reversed(CONTENT))
    network.answers = [answer(other), answer(CONTENT)]

    with pytest.raises(DigestMismatchError) as caught:
        client.download(PIN, tmp_path)

    message = str(caught.value)
    assert message.startswith(f"{PIN.url}: sha256 is {hashlib.sha256(other).hexdigest()}")
    assert f"expected {PIN.sha256}" in message
    assert "translation_configs/pins.toml" in message
    assert network.slept == []
    assert kept(tmp_path) == []


FIRST, SECOND = "https://first.example/pinned.tar.gz", "https://second.example/pinned.tar.gz"
MIRRORED = make_pin(CONTENT, mirrors=(FIRST, SECOND))


def test_mirrors_are_asked_in_order_after_the_pin_s_own_address(
    client: HttpClient, network: Network, tmp_path: Path
) -> None:
    network.answers = [answer(status=404), answer(status=410), answer(CONTENT)]

    path = client.download(MIRRORED, tmp_path)

    assert path == tmp_path / MIRRORED.sha256 / MIRRORED.filename
    assert path.read_bytes() == CONTENT
    assert network.asked == [MIRRORED.url, FIRST, SECOND]
    assert kept(tmp_path) == [path]


def test_no_mirror_is_asked_for_what_the_pin_s_own_address_gives(
    client: HttpClient, network: Network, tmp_path: Path
) -> None:
    network.answers = [answer(status=503), answer(CONTENT)]

    client.download(MIRRORED, tmp_path)

    assert network.asked == [MIRRORED.url, MIRRORED.url]


def test_an_address_is_asked_as_often_as_ever_before_its_mirror(
    client: HttpClient, network: Network, tmp_path: Path
) -> None:
    network.answers = [*(answer(status=503) for _ in range(RetryPolicy.attempts)), answer(CONTENT)]

    client.download(MIRRORED, tmp_path)

    assert network.asked == [*([MIRRORED.url] * RetryPolicy.attempts), FIRST]


def test_when_no_mirror_helps_every_one_is_named_with_its_fault(
    client: HttpClient, network: Network, tmp_path: Path
) -> None:
    network.answers = [answer(status=404), answer(CONTENT, b"x"), answer(status=403)]

    with pytest.raises(DownloadError) as caught:
        client.download(MIRRORED, tmp_path)

    lines = str(caught.value).splitlines()
    assert [line.partition(": ")[0] for line in lines] == [MIRRORED.url, FIRST, SECOND]
    assert ["HTTP 404" in lines[0], "more than" in lines[1], "HTTP 403" in lines[2]] == [True] * 3
    assert kept(tmp_path) == []


@pytest.mark.parametrize("failures", [0, 1], ids=["own address", "mirror"])
def test_after_other_bytes_no_mirror_is_asked(
    client: HttpClient, network: Network, tmp_path: Path, failures: int
) -> None:
    """Somebody must look into that, instead of never hearing of it."""
    other = bytes(reversed(CONTENT))
    network.answers = [*(answer(status=404) for _ in range(failures)), answer(other)]

    with pytest.raises(DigestMismatchError) as caught:
        client.download(MIRRORED, tmp_path)

    assert str(caught.value).startswith(f"{(MIRRORED.url, FIRST)[failures]}: sha256 is ")
    assert len(network.asked) == failures + 1
    assert kept(tmp_path) == []


def test_a_damaged_file_is_not_taken_even_if_no_better_one_comes(
    client: HttpClient, network: Network, tmp_path: Path
) -> None:
    damaged = tmp_path / PIN.sha256 / PIN.filename
    damaged.parent.mkdir()
    damaged.write_bytes(b"damaged")
    network.answers = [answer(status=404)]

    with pytest.raises(DownloadError, match="HTTP 404"):
        client.download(PIN, tmp_path)


def test_the_time_of_a_server_is_read_from_its_answer(client: HttpClient, network: Network) -> None:
    network.answers = [answer(Date="Sat, 21 Nov 2026 12:00:00 GMT")]

    assert client.server_date("https://files.example") == 1795262400.0


@pytest.mark.parametrize(
    "reply",
    [
        pytest.param(answer, id="no-date"),
        pytest.param(lambda: answer(Date="tomorrow"), id="nonsense"),
        pytest.param(lambda: RequestException("offline"), id="no-answer"),
    ],
)
def test_a_server_without_a_time_gives_none(
    client: HttpClient, network: Network, reply: Callable[[], Response | Exception]
) -> None:
    network.answers = [reply()]

    assert client.server_date("https://files.example") is None


# --- what the public gets -------------------------------------------------------------------

URL = "https://downloads.example/a.tar.gz"
LIMIT = len(CONTENT)


def test_what_the_public_gets_is_saved_and_described(
    client: HttpClient, network: Network, tmp_path: Path
) -> None:
    network.answers = [answer(CONTENT[:10], CONTENT[10:], Content_Type="application/gzip")]

    received = client.receive(URL, tmp_path / "a", limit=LIMIT)

    assert received == Received(
        size=len(CONTENT),
        sha256=hashlib.sha256(CONTENT).hexdigest(),
        content_type="application/gzip",
        content_encoding=None,
    )
    assert (tmp_path / "a").read_bytes() == CONTENT
    assert network.asked == [URL]
    assert min(network.options[0]["timeout"]) > 0


def test_the_public_asks_as_browsers_do_and_gets_bytes_as_they_were_sent(
    client: HttpClient, network: Network, tmp_path: Path
) -> None:
    """A server that compresses is found out only if it is allowed to."""
    network.answers = [answer(b"zipped", Content_Encoding="gzip")]
    body = network.answers[0].raw  # type: ignore[union-attr]

    received = client.receive(URL, tmp_path / "a", limit=LIMIT)

    assert received.content_encoding == "gzip"
    assert (tmp_path / "a").read_bytes() == b"zipped"
    assert network.options[0]["headers"] == ANY_ENCODING
    assert isinstance(body, Body)
    assert body.options == {"decode_content": False}


@pytest.mark.parametrize(
    "fault",
    [
        pytest.param(lambda: answer(status=503), id="503"),
        pytest.param(lambda: answer(status=429), id="429"),
        pytest.param(lambda: RequestsConnectionError("refused"), id="no-connection"),
        pytest.param(lambda: answer(CONTENT[:10], ProtocolError("cut")), id="connection-lost"),
    ],
)
def test_the_public_tries_again_what_may_pass(
    client: HttpClient,
    network: Network,
    tmp_path: Path,
    fault: Callable[[], Response | Exception],
) -> None:
    network.answers = [fault(), answer(CONTENT)]

    received = client.receive(URL, tmp_path / "a", limit=LIMIT)

    assert received.size == len(CONTENT)
    assert (tmp_path / "a").read_bytes() == CONTENT
    assert network.slept == [2.0]


def test_an_address_that_keeps_failing_is_given_up_with_a_remedy(
    client: HttpClient, network: Network, tmp_path: Path
) -> None:
    network.answers = [answer(status=503) for _ in range(RetryPolicy.attempts)]

    with pytest.raises(DownloadError) as caught:
        client.receive(URL, tmp_path / "a", limit=LIMIT)

    message = str(caught.value)
    assert message.startswith(f"{URL}: HTTP 503 ({RetryPolicy.attempts} attempts).")
    assert message.endswith("Check the network, and the server behind that address.")


def test_a_file_that_the_public_does_not_find_is_not_asked_for_again(
    client: HttpClient, network: Network, tmp_path: Path
) -> None:
    network.answers = [answer(status=404)]

    with pytest.raises(DownloadError, match=f"{URL}: HTTP 404"):
        client.receive(URL, tmp_path / "a", limit=LIMIT)

    assert network.slept == []


def test_more_than_was_put_is_refused_as_it_comes(
    client: HttpClient, network: Network, tmp_path: Path
) -> None:
    endless = AssertionError("read on after the limit")
    network.answers = [answer(CONTENT, b"x", endless)]

    with pytest.raises(DownloadError, match=f"{URL}: more than {LIMIT} bytes came"):
        client.receive(URL, tmp_path / "a", limit=LIMIT)

    assert network.slept == []


def test_an_error_knows_what_the_server_answered(
    client: HttpClient, network: Network, tmp_path: Path
) -> None:
    """Whether there is nothing, or nobody may know, is not one thing to who asks for a ledger."""
    network.answers = [answer(status=404)]

    with pytest.raises(DownloadError) as caught:
        client.receive(PIN.url, tmp_path / "received", limit=10)

    assert caught.value.http_status == 404
    assert DownloadError("x").http_status is None


def test_a_full_disk_is_told_as_one(client: HttpClient, network: Network, tmp_path: Path) -> None:
    network.answers = [answer(CONTENT)]

    with pytest.raises(DownloadError, match=r"Make room there, or set TMPDIR"):
        client.receive(URL, tmp_path / "gone" / "a", limit=LIMIT)

    assert network.slept == []
