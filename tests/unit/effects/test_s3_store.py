"""The store in a bucket: what is sent, what each answer means, and that no name changes its bytes.

Botocore's client is the real one; :class:`FakeS3` stands where its socket would be.
"""

import hashlib
from base64 import b64encode
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import pytest
from botocore.exceptions import (  # noqa: TID251 - what the network would raise
    ConnectionClosedError,
    ConnectTimeoutError,
    EndpointConnectionError,
    ReadTimeoutError,
)
from hypothesis import given
from hypothesis import strategies as st

from pipeline.effects.retry import RetryPolicy
from pipeline.effects.s3_client import S3Limits, make_client
from pipeline.effects.s3_store import ConditionalPuts, S3Store
from pipeline.effects.store import Stored, Tagged
from pipeline.errors import ConflictError, StoreError, UncertainError
from pipeline.model.configs import S3Options
from tests.fake_s3 import Answer, FakeS3, Fault, Object, error, xml

KEY: Final = "demo/demo-v1.0.0/demo-v1.0.0-linux64.tar.gz"
NAME: Final = f"public/{KEY}"
GZIP: Final = "application/gzip"
JSON: Final = "application/json"
ATTEMPTS: Final = 3
PART: Final = 100
SECRET: Final = "wJalrXUtnFEMI"  # noqa: S105 - a made-up one that must not be shown
FOR_EVER: Final = "public, max-age=31536000, immutable"
SHORTLY: Final = "public, max-age=60"
URL: Final = "http://s3.test"
RESET: Final = ConnectionClosedError(endpoint_url=URL)
STALL: Final = ReadTimeoutError(endpoint_url=URL)
REFUSED: Final = EndpointConnectionError(endpoint_url=URL)
LATER: Final = [
    *(pytest.param(error(status, "Later"), id=str(status)) for status in (408, 429, 500, 502)),
    *(pytest.param(error(status, "SlowDown"), id=str(status)) for status in (503, 504)),
    pytest.param(RESET, id="reset"),
    pytest.param(STALL, id="stall"),
    pytest.param(REFUSED, id="refused"),
]
FINAL: Final = (400, 401, 403, 405, 411, 422, 501)


@pytest.fixture(autouse=True)
def credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have made-up credentials, and none of this machine's."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nowhere")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nowhere")
    monkeypatch.delenv("AWS_PROFILE", raising=False)


@pytest.fixture
def server() -> FakeS3:
    return FakeS3()


@pytest.fixture
def slept() -> list[float]:
    """The waits between attempts."""
    return []


@pytest.fixture
def store(server: FakeS3, slept: list[float]) -> S3Store:
    return make_store(server, slept)


def make_store(server: FakeS3, slept: list[float], address: str = "s3://bucket/public") -> S3Store:
    """Return a store that puts files of 250 bytes or more in parts of 100."""
    return S3Store(
        address,
        S3Options(endpoint=URL, addressing="path"),
        RetryPolicy(attempts=ATTEMPTS, sleep=slept.append),
        S3Limits(multipart_from=250, part_size=PART),
        client=server.client(),
    )


@pytest.fixture
def small(tmp_path: Path) -> Path:
    path = tmp_path / "small"
    path.write_bytes(b"small file")
    return path


@pytest.fixture
def large(tmp_path: Path) -> Path:
    """A file of three parts."""
    path = tmp_path / "large"
    path.write_bytes(bytes(range(250)))
    return path


def put(store: S3Store, path: Path) -> bool:
    return store.put_new(KEY, path, content_type=GZIP)


def other(data: bytes = b"other") -> Object:
    return Object(data=data, headers={}, etag='"other"')


def base64_of(digest: "hashlib._Hash") -> str:
    return b64encode(digest.digest()).decode()


@pytest.mark.parametrize("name", ["small", "large"])
def test_a_file_is_put_under_its_name_with_what_clients_need(
    store: S3Store, server: FakeS3, request: pytest.FixtureRequest, name: str
) -> None:
    path: Path = request.getfixturevalue(name)

    assert put(store, path) is True

    assert list(server.objects) == [NAME]
    assert server.objects[NAME].data == path.read_bytes()
    assert server.objects[NAME].headers == {
        "content-type": GZIP,
        "cache-control": FOR_EVER,
        "x-amz-meta-sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
    }
    assert server.uploads == {}


@pytest.mark.parametrize("endpoint", ["http://s3.test", "https://s3.test"])
@pytest.mark.parametrize("name", ["small", "large"])
def test_every_body_goes_with_digests_and_as_it_is(
    server: FakeS3, request: pytest.FixtureRequest, name: str, endpoint: str
) -> None:
    options = S3Options(endpoint=endpoint, addressing="path")
    limits = S3Limits(multipart_from=250, part_size=PART)
    store = S3Store("s3://bucket/public", options, None, limits, server.client(options))

    put(store, request.getfixturevalue(name))

    bodies = [asked for asked in server.requests if asked.method == "PUT"]
    assert bodies
    for asked in bodies:
        md5 = hashlib.md5(asked.body, usedforsecurity=False)
        assert asked.headers["content-md5"] == base64_of(md5)
        if name == "small":
            assert asked.headers["x-amz-checksum-sha256"] == base64_of(hashlib.sha256(asked.body))
        assert "content-encoding" not in asked.headers
        assert "x-amz-trailer" not in asked.headers
        assert not asked.headers["x-amz-content-sha256"].startswith("STREAMING")


def test_a_digest_that_is_known_is_not_computed_again(
    store: S3Store, server: FakeS3, large: Path
) -> None:
    store.put_new("demo/file.tar.gz", large, content_type=GZIP, sha256="0" * 64)

    (made,) = server.objects.values()
    assert made.headers["x-amz-meta-sha256"] == "0" * 64


def test_what_makes_an_object_is_conditional(store: S3Store, server: FakeS3, large: Path) -> None:
    put(store, large)
    store.replace("ledger.json", b"{}", tag=None, content_type=JSON)

    makes = [item for item in server.requests if item.operation in ("PUT", "POST uploadId")]
    assert [asked.headers["if-none-match"] for asked in makes] == ["*", "*"]


def test_a_large_file_is_put_in_parts_that_are_told_as_they_arrive(
    store: S3Store, server: FakeS3, large: Path
) -> None:
    counts: list[int] = []

    store.put_new(KEY, large, content_type=GZIP, on_bytes=counts.append)

    parts = [asked for asked in server.requests if "partNumber" in asked.operation]
    assert sorted(len(asked.body) for asked in parts) == [50, 100, 100]
    assert sorted(counts) == [50, 100, 100]


@given(size=st.integers(1, 1000), part=st.integers(20, 400))
def test_a_file_of_any_size_arrives_whole(
    tmp_path_factory: pytest.TempPathFactory, size: int, part: int
) -> None:
    path = tmp_path_factory.getbasetemp() / "any-size"
    path.write_bytes(bytes(number % 251 for number in range(size)))
    limits = S3Limits(multipart_from=200, part_size=part)
    server = FakeS3()
    counts: list[int] = []
    store = S3Store("s3://bucket", S3Options(), None, limits, server.client())

    store.put_new("a", path, content_type=GZIP, on_bytes=counts.append)

    assert server.objects["a"].data == path.read_bytes()
    assert sum(counts) == size


@pytest.mark.parametrize("name", ["small", "large"])
def test_a_name_that_is_taken_stays_and_nothing_is_sent(
    store: S3Store, server: FakeS3, request: pytest.FixtureRequest, name: str
) -> None:
    server.objects[NAME] = other()

    assert put(store, request.getfixturevalue(name)) is False

    assert server.objects[NAME].data == b"other"
    assert server.operations() == ["HEAD"]


@pytest.mark.parametrize(
    ("name", "operation"), [("small", "PUT"), ("large", "PUT partNumber"), ("large", "HEAD")]
)
def test_a_name_that_is_taken_meanwhile_stays(
    store: S3Store, server: FakeS3, request: pytest.FixtureRequest, name: str, operation: str
) -> None:
    def taken() -> None:
        server.objects[NAME] = other()

    # The first HEAD is the look before anything is sent.
    first = [Fault(operation="HEAD", outcome=lambda: None)] if operation == "HEAD" else []
    server.faults = [*first, Fault(operation=operation, outcome=taken)]

    assert put(store, request.getfixturevalue(name)) is False

    assert server.objects[NAME].data == b"other"
    assert server.uploads == {}


def test_a_completion_under_a_name_that_is_taken_is_refused(
    store: S3Store, server: FakeS3, large: Path
) -> None:
    def taken() -> None:
        server.objects[NAME] = other()

    server.faults = [Fault(operation="POST uploadId", outcome=taken)]

    assert put(store, large) is False

    assert server.objects[NAME].data == b"other"
    assert server.uploads == {}


@pytest.mark.parametrize(
    ("name", "operation"), [("small", "PUT"), ("large", "POST uploadId")], ids=["whole", "parts"]
)
def test_two_who_put_at_the_same_moment_are_told_to_run_again(
    store: S3Store, server: FakeS3, request: pytest.FixtureRequest, name: str, operation: str
) -> None:
    server.faults = [Fault(operation=operation, outcome=error(409, "ConditionalRequestConflict"))]

    with pytest.raises(ConflictError, match="Run again"):
        put(store, request.getfixturevalue(name))

    assert server.operations().count(operation) == 1
    assert (server.objects, server.uploads) == ({}, {})


@pytest.mark.parametrize(
    ("name", "operation"), [("small", "PUT"), ("large", "POST uploadId")], ids=["whole", "parts"]
)
@pytest.mark.parametrize("lost", [RESET, STALL, error(500, "InternalError")])
def test_a_put_whose_answer_was_lost_is_found_and_not_sent_again(
    store: S3Store,
    server: FakeS3,
    request: pytest.FixtureRequest,
    name: str,
    operation: str,
    lost: Any,
) -> None:
    server.faults = [Fault(operation=operation, outcome=lost, done=True)]

    assert put(store, request.getfixturevalue(name)) is True

    assert server.operations().count(operation) == 1
    assert server.objects[NAME].data == request.getfixturevalue(name).read_bytes()


def test_a_completion_that_is_repeated_finds_its_object(
    store: S3Store, server: FakeS3, large: Path
) -> None:
    """A server may still show the old state after its answer was lost: here HEAD finds nothing."""
    server.faults = [
        Fault(operation="POST uploadId", outcome=RESET, done=True),
        Fault(operation="HEAD", outcome=lambda: None),
        Fault(operation="HEAD", outcome=lambda: None),
        Fault(operation="HEAD", outcome=error(404, "")),
    ]

    assert put(store, large) is True

    assert server.operations().count("POST uploadId") == 2


def test_an_upload_that_somebody_aborted_is_no_success(
    store: S3Store, server: FakeS3, large: Path
) -> None:
    server.faults = [Fault(operation="POST uploadId", outcome=server.uploads.clear)]

    with pytest.raises(StoreError, match=r"Somebody aborted the upload: run again"):
        put(store, large)

    assert server.objects == {}


@pytest.mark.parametrize(
    ("outcome", "raised"),
    [
        (error(403, "AccessDenied"), StoreError),
        (KeyboardInterrupt(), KeyboardInterrupt),
        (STALL, StoreError),
    ],
    ids=["refused", "interrupt", "stall"],
)
def test_an_upload_that_fails_leaves_no_parts(
    store: S3Store,
    server: FakeS3,
    large: Path,
    outcome: Any,
    raised: type[BaseException],
) -> None:
    server.faults = [Fault(operation="PUT partNumber", outcome=outcome)] * (
        1 if raised is KeyboardInterrupt else ATTEMPTS * 3
    )

    with pytest.raises(raised):
        put(store, large)

    assert (server.objects, server.uploads) == ({}, {})
    assert server.operations()[-1] == "DELETE uploadId"


def test_the_first_failure_is_told_even_if_parts_cannot_be_taken_back(
    store: S3Store, server: FakeS3, large: Path, caplog: pytest.LogCaptureFixture
) -> None:
    server.faults = [
        Fault(operation="POST uploadId", outcome=error(422, "Unprocessable")),
        Fault(operation="DELETE uploadId", outcome=error(403, "AccessDenied")),
    ]

    with pytest.raises(StoreError, match="422"):
        put(store, large)

    assert "abort" in caplog.text
    assert "unfinished uploads" in caplog.text


def actions(path: Path) -> dict[str, tuple[str, Callable[[S3Store], object], object]]:
    """Return every retried request: what it is asked for by, and what comes of it."""
    described = Stored(size=5, sha256=hashlib.sha256(b"other").hexdigest())
    return {
        "look": ("HEAD", lambda store: store.target(KEY), None),
        "get": ("GET", lambda store: store.stored(KEY), described),
        "read": ("GET", lambda store: store.read(KEY), Tagged(data=b"other", tag='"other"')),
        "list": ("GET list-type", lambda store: store.sizes("demo"), {KEY: 5}),
        "remove": ("DELETE", lambda store: store.remove(KEY), None),
        "put": (
            "PUT",
            lambda store: store.put_new("new", path, content_type=GZIP),
            True,
        ),
        "point": ("PUT", lambda store: store.point("latest", KEY), True),
        "begin": ("POST uploads", lambda store: put_large(store, path), True),
        "part": ("PUT partNumber", lambda store: put_large(store, path), True),
        "finish": ("POST uploadId", lambda store: put_large(store, path), True),
    }


def put_large(store: S3Store, path: Path) -> bool:
    large = path.with_name("large")
    large.write_bytes(bytes(250))
    return store.put_new("new-large", large, content_type=GZIP)


@pytest.mark.parametrize("fault", LATER)
@pytest.mark.parametrize("name", list(actions(Path())))
def test_a_fault_that_passes_is_waited_for(
    server: FakeS3, store: S3Store, slept: list[float], small: Path, name: str, fault: Any
) -> None:
    server.objects[NAME] = other()
    operation, action, result = actions(small)[name]
    server.faults = [Fault(operation=operation, outcome=fault)]

    assert action(store) == result

    assert slept == [2.0]
    assert server.uploads == {}


@pytest.mark.parametrize("fault", LATER)
@pytest.mark.parametrize("name", list(actions(Path())))
def test_a_fault_that_stays_is_told_after_the_last_attempt(
    server: FakeS3, store: S3Store, slept: list[float], small: Path, name: str, fault: Any
) -> None:
    server.objects[NAME] = other()
    operation, action, _ = actions(small)[name]
    server.faults = [Fault(operation=operation, outcome=fault)] * (ATTEMPTS * 4)

    with pytest.raises(
        StoreError, match=rf"^s3://bucket/public: .*\({ATTEMPTS} attempts\)\. Check"
    ):
        action(store)

    assert len(slept) >= ATTEMPTS - 1
    assert server.uploads == {}
    assert set(server.objects) == {NAME}


@pytest.mark.parametrize("status", FINAL)
@pytest.mark.parametrize("name", list(actions(Path())))
def test_any_other_refusal_is_final(
    server: FakeS3, store: S3Store, slept: list[float], small: Path, name: str, status: int
) -> None:
    server.objects[NAME] = other()
    operation, action, _ = actions(small)[name]
    server.faults = [Fault(operation=operation, outcome=error(status, "No"))] * 3

    with pytest.raises(StoreError, match=rf"^s3://bucket/public: .*HTTP {status} \(.*\. [A-Z]"):
        action(store)

    assert slept == []
    assert server.uploads == {}


def test_a_body_that_was_too_slow_for_amazon_is_sent_again(
    server: FakeS3, store: S3Store, slept: list[float], small: Path
) -> None:
    server.faults = [Fault(operation="PUT", outcome=error(400, "RequestTimeout"))]

    assert put(store, small) is True

    assert slept == [2.0]


def test_the_server_says_how_long_to_wait(
    server: FakeS3, store: S3Store, slept: list[float]
) -> None:
    server.faults = [Fault(operation="GET", outcome=error(429, "Slow", retry_after="17"))]

    store.read(KEY)

    assert slept == [17.0]


@pytest.mark.parametrize(
    ("name", "cut"),
    [
        ("get", Answer(body=b"oth", length=5)),
        ("read", Answer(body=b"oth", length=5)),
        ("list", xml("<R><IsTrunc")),
    ],
)
def test_an_answer_that_is_cut_short_is_asked_for_again(
    server: FakeS3, store: S3Store, slept: list[float], small: Path, name: str, cut: Answer
) -> None:
    server.objects[NAME] = other()
    operation, action, result = actions(small)[name]
    server.faults = [Fault(operation=operation, outcome=cut)]

    assert action(store) == result

    assert slept == [2.0]


def test_what_is_not_there_is_none(store: S3Store) -> None:
    assert store.stored(KEY) is None
    assert store.read(KEY) is None
    assert store.target(KEY) is None
    assert store.sizes("demo") == {}


@pytest.mark.parametrize("answer", [error(404, "NoSuchBucket"), Answer(status=404, body=b"lost")])
@pytest.mark.parametrize("name", ["get", "read", "list"])
def test_a_missing_bucket_or_another_server_is_not_an_empty_store(
    server: FakeS3, store: S3Store, slept: list[float], small: Path, name: str, answer: Answer
) -> None:
    operation, action, _ = actions(small)[name]
    server.faults = [Fault(operation=operation, outcome=answer)]

    with pytest.raises(StoreError, match=r"HTTP 404 .*channels\.toml"):
        action(store)

    assert slept == []


def test_sizes_are_of_one_directory_over_all_pages(server: FakeS3, store: S3Store) -> None:
    server.page = 2
    wanted = {f"demo/nightly/{number}": number for number in range(7)}
    for key, size in wanted.items():
        server.objects[f"public/{key}"] = other(bytes(size))
    for name in ("public/demo/nightly-2/x", "demo/nightly/x", "public/other/demo/nightly/x"):
        server.objects[name] = other()

    assert store.sizes("demo/nightly") == wanted

    assert server.operations() == ["GET list-type"] * 4


def test_a_store_may_be_a_whole_bucket(server: FakeS3, slept: list[float], small: Path) -> None:
    store = make_store(server, slept, "s3://bucket")

    put(store, small)

    assert list(server.objects) == [KEY]
    assert store.sizes("demo") == {KEY: 10}
    assert store.address == "s3://bucket"


def test_what_was_read_can_be_replaced_once(server: FakeS3, store: S3Store) -> None:
    store.replace("ledger.json", b"1", tag=None, content_type=JSON)
    first = store.read("ledger.json")
    assert first is not None
    store.replace("ledger.json", b"2", tag=first.tag, content_type=JSON)

    with pytest.raises(ConflictError, match=r"ledger\.json: changed by somebody else .* Run again"):
        store.replace("ledger.json", b"3", tag=first.tag, content_type=JSON)

    assert server.objects["public/ledger.json"].data == b"2"
    assert server.objects["public/ledger.json"].headers == {
        "content-type": JSON,
        "cache-control": SHORTLY,
    }


def test_what_is_there_is_not_replaced_without_its_tag(server: FakeS3, store: S3Store) -> None:
    server.objects["public/ledger.json"] = other()

    with pytest.raises(ConflictError):
        store.replace("ledger.json", b"1", tag=None, content_type=JSON)

    assert server.objects["public/ledger.json"].data == b"other"


@pytest.mark.parametrize(
    "answer",
    [
        error(409, "ConditionalRequestConflict"),
        error(412, "PreconditionFailed"),
        error(404, "NoSuchKey"),
    ],
    ids=lambda answer: str(answer.status),
)
def test_a_replacement_that_comes_second_is_a_conflict(
    server: FakeS3, store: S3Store, slept: list[float], answer: Answer
) -> None:
    server.faults = [Fault(operation="PUT", outcome=answer)]

    with pytest.raises(ConflictError):
        store.replace("ledger.json", b"1", tag='"old"', content_type=JSON)

    assert (server.operations(), slept) == (["PUT"], [])


@pytest.mark.parametrize(
    "outcome",
    [
        RESET,
        STALL,
        *(error(status, "Later") for status in (408, 429, 500, 502, 503, 504, 507, 520)),
    ],
    ids=str,
)
@pytest.mark.parametrize("done", [True, False])
def test_a_replacement_whose_answer_was_lost_is_uncertain_and_not_repeated(
    server: FakeS3, store: S3Store, slept: list[float], outcome: Any, *, done: bool
) -> None:
    server.faults = [Fault(operation="PUT", outcome=outcome, done=done)]

    with pytest.raises(UncertainError, match="may have been replaced or not"):
        store.replace("ledger.json", b"1", tag=None, content_type=JSON)

    assert (server.operations(), slept) == (["PUT"], [])
    assert ("public/ledger.json" in server.objects) is done


@pytest.mark.parametrize(
    "outcome",
    [
        REFUSED,
        ConnectTimeoutError(endpoint_url=URL),
        *(error(status, "No") for status in FINAL),
        error(404, "NoSuchBucket"),
    ],
    ids=str,
)
def test_a_replacement_that_was_certainly_not_made_is_an_error(
    server: FakeS3, store: S3Store, slept: list[float], outcome: Any
) -> None:
    server.faults = [Fault(operation="PUT", outcome=outcome)]

    with pytest.raises(StoreError) as raised:
        store.replace("ledger.json", b"1", tag=None, content_type=JSON)

    assert type(raised.value) is StoreError
    assert (server.operations(), slept) == (["PUT"], [])


def test_a_pointer_leads_readers_and_websites(server: FakeS3, store: S3Store) -> None:
    assert store.point("demo/latest/linux64", KEY) is True
    assert store.point("demo/latest/linux64", KEY) is False

    page = server.objects["public/demo/latest/linux64"]
    assert page.headers == {
        "content-type": "text/html; charset=utf-8",
        "cache-control": SHORTLY,
        "x-amz-website-redirect-location": f"/{NAME}",
        "x-amz-meta-target": KEY,
    }
    assert b'href="../demo-v1.0.0/demo-v1.0.0-linux64.tar.gz"' in page.data
    assert store.target("demo/latest/linux64") == KEY


def test_a_pointer_moves(store: S3Store) -> None:
    store.point("latest", "demo/a")

    assert store.point("latest", "demo/b") is True

    assert store.target("latest") == "demo/b"


def test_a_file_is_never_replaced_by_a_pointer(server: FakeS3, store: S3Store, small: Path) -> None:
    put(store, small)

    with pytest.raises(StoreError, match="is a file"):
        store.point(KEY, "elsewhere")

    assert server.objects[NAME].data == small.read_bytes()
    assert store.target(KEY) is None


def test_a_pointer_whose_answer_was_lost_was_moved(server: FakeS3, store: S3Store) -> None:
    server.faults = [Fault(operation="PUT", outcome=RESET, done=True)]

    assert store.point("latest", KEY) is True

    assert store.target("latest") == KEY


def test_a_pointer_that_another_moved_meanwhile_stays(server: FakeS3, store: S3Store) -> None:
    store.point("latest", "demo/a")
    rival = make_store(server, [])

    def moved() -> None:
        rival.point("latest", "demo/c")

    server.faults = [Fault(operation="PUT", outcome=moved)]
    with pytest.raises(ConflictError, match="Run again"):
        store.point("latest", "demo/b")

    assert store.target("latest") == "demo/c"


def test_removing_takes_away_one_object_and_may_be_repeated(
    server: FakeS3, store: S3Store, small: Path
) -> None:
    put(store, small)
    server.objects[f"{NAME}.asc"] = other()

    store.remove(KEY)
    store.remove(KEY)

    assert list(server.objects) == [f"{NAME}.asc"]


def test_nothing_else_removes(server: FakeS3, store: S3Store, small: Path, large: Path) -> None:
    put(store, small)
    store.put_new("large", large, content_type=GZIP)
    store.replace("ledger.json", b"1", tag=None, content_type=JSON)
    store.point("latest", KEY)
    store.sizes("demo")
    store.stored(KEY)

    assert [name for name in server.operations() if name.startswith("DELETE")] == []


@pytest.mark.parametrize("key", ["../x", "/x", ".hidden", "a//b", "", "a/../b", "a b"])
def test_a_name_that_is_no_key_is_never_asked_for(
    server: FakeS3, store: S3Store, small: Path, key: str
) -> None:
    for action in (
        lambda: store.put_new(key, small, content_type=GZIP),
        lambda: store.stored(key),
        lambda: store.sizes(key),
        lambda: store.read(key),
        lambda: store.replace(key, b"", tag=None, content_type=JSON),
        lambda: store.point(key, "a"),
        lambda: store.point("a", key),
        lambda: store.target(key),
        lambda: store.remove(key),
    ):
        with pytest.raises(ValueError, match="is not a store key"):
            action()

    assert server.bodies() == 0


@pytest.mark.parametrize(
    ("code", "remedy"),
    [
        ("AccessDenied", "bucket's policy"),
        ("SignatureDoesNotMatch", "AWS_SECRET_ACCESS_KEY"),
        ("RequestTimeTooSkewed", "clock"),
    ],
)
def test_a_refusal_says_what_to_do_and_shows_no_secret(
    server: FakeS3, store: S3Store, code: str, remedy: str
) -> None:
    leak = f"<AWSAccessKeyId>AKIDEXAMPLE</AWSAccessKeyId><StringToSign>{SECRET}</StringToSign>"
    server.faults = [Fault(operation="GET", outcome=error(403, code, more=leak))]

    with pytest.raises(StoreError) as raised:
        store.read("ledger.json")

    message = str(raised.value)
    assert message.startswith(f"s3://bucket/public: get ledger.json: HTTP 403 ({code}). ")
    assert remedy in message
    assert SECRET not in message
    assert "AKIDEXAMPLE" not in message


def test_missing_credentials_are_named(
    server: FakeS3, slept: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    options = S3Options(endpoint=URL, region="without-credentials")
    policy = RetryPolicy(sleep=slept.append)
    store = S3Store("s3://bucket", options, policy, client=server.client(options))

    with pytest.raises(StoreError, match=r"NoCredentialsError\. Set AWS_ACCESS_KEY_ID"):
        store.read("ledger.json")

    assert (server.requests, slept) == ([], [])


def test_an_unknown_profile_is_told_before_anything_is_asked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("AWS_PROFILE", "nobody")

    with pytest.raises(StoreError, match=r"^s3://bucket: .*nobody.* AWS_PROFILE"):
        S3Store("s3://bucket", S3Options())


@pytest.mark.parametrize(
    "address", ["bucket", "s3://", "s3://B", "s3://bucket/", "s3://bucket/../x"]
)
def test_an_address_that_is_none_is_refused(address: str) -> None:
    with pytest.raises(StoreError, match="s3://bucket/prefix"):
        S3Store(address, S3Options())


def test_the_client_is_what_the_options_say() -> None:
    options = S3Options(endpoint="https://s3.example.org", region="eu-1", addressing="virtual")

    client = make_client("s3://bucket", options, S3Limits())

    config: Any = client.meta.config
    assert client.meta.endpoint_url == "https://s3.example.org"
    assert client.meta.region_name == "eu-1"
    assert config.s3["addressing_style"] == "virtual"
    assert config.retries["total_max_attempts"] == 1
    assert config.max_pool_connections >= 64


@pytest.mark.parametrize("broken", [None, "if_none_match", "completion", "if_match"])
def test_the_probe_finds_the_condition_that_a_server_ignores(
    server: FakeS3, store: S3Store, broken: str | None
) -> None:
    kept = {name: name != broken for name in ("if_none_match", "completion", "if_match")}
    server.keeps_none_match = kept["if_none_match"]
    server.keeps_completion = kept["completion"]
    server.keeps_match = kept["if_match"]

    found = store.probe_conditional_puts()

    assert found == ConditionalPuts(**kept)
    assert found.all_kept is (broken is None)
    assert (server.objects, server.uploads) == ({}, {})


@pytest.mark.parametrize("name", ["small", "large"])
def test_a_server_that_ignores_conditions_loses_no_file_to_a_later_put(
    server: FakeS3, store: S3Store, request: pytest.FixtureRequest, name: str
) -> None:
    server.keeps_none_match = server.keeps_completion = False
    server.objects[NAME] = other()

    assert put(store, request.getfixturevalue(name)) is False

    assert server.objects[NAME].data == b"other"


def test_a_download_that_breaks_off_is_begun_again(
    store: S3Store, server: FakeS3, large: Path, tmp_path: Path
) -> None:
    put(store, large)
    server.faults = [Fault(operation="GET", outcome=RESET)]

    stored = store.download(KEY, tmp_path / "copy")

    assert (tmp_path / "copy").read_bytes() == large.read_bytes()
    assert stored == store.stored(KEY)


def test_what_is_not_there_is_not_downloaded(store: S3Store, tmp_path: Path) -> None:
    assert store.download(KEY, tmp_path / "copy") is None
    assert not (tmp_path / "copy").exists()
