"""Every fault on every kind of request to S3, over real sockets, against what the policy says.

A table of all outcomes is printed at the end (``pytest -s``).
"""

import hashlib
import math
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import moto.s3.models
import pytest

from pipeline.effects.retry import RetryPolicy
from pipeline.effects.s3_client import S3Limits
from pipeline.effects.s3_store import ConditionalPuts, S3Store
from pipeline.effects.store import Stored
from pipeline.errors import ConflictError, StoreError
from tests.integration.faults import (
    CutAnswer,
    CutUpload,
    Fault,
    FaultProxy,
    Reset,
    Stall,
    Status,
)
from tests.integration.s3 import (
    S3Server,
    append_by_two,
    moto_server,
    numbers_in,
    put_by_eight,
)

BUCKET: Final = "faults"
GZIP: Final = "application/gzip"
JSON: Final = "application/json"
ATTEMPTS: Final = 3
SMALL: Final = b"small" * 100
LARGE: Final = bytes(range(256)) * 10
OLD: Final = b'{"events": [1]}'
NEW: Final = b'{"events": [1, 2]}'
LIMITS: Final = S3Limits(read_timeout=0.5, multipart_from=1024, part_size=1024)
RETRY: Final = RetryPolicy(attempts=ATTEMPTS, first_wait=0.01, longest_wait=0.05)
STATUSES: Final = (403, 404, 408, 409, 412, 422, 500, 503)
FAULTS: Final[tuple[Fault, ...]] = (
    *(Status(status) for status in STATUSES),
    Status(429, {"Retry-After": "0"}),
    Reset(),
    Reset(after=True),
    Stall(),
    Stall(after=True),
    CutAnswer(),
    CutUpload(),
)
PASSING: Final = frozenset({408, 429, 500, 503})


@dataclass(frozen=True, kw_only=True)
class Case:
    """One kind of request: how it is found on its way, what is done, and what must come of it."""

    method: str
    path: str
    act: Callable[[S3Store, str, Path], object]
    result: Callable[[S3Store, str], object]
    has_answer: bool = False


def put(store: S3Store, key: str, path: Path) -> object:
    path.write_bytes(SMALL)
    return store.put_new(key, path, content_type=GZIP)


def put_large(store: S3Store, key: str, path: Path) -> object:
    path.write_bytes(LARGE)
    return store.put_new(key, path, content_type=GZIP)


def read(store: S3Store, key: str, _path: Path) -> object:
    found = store.read(key)
    return found and found.data


def replaced(store: S3Store, key: str, _path: Path) -> object:
    # Its tag is the md5 of its bytes, known without a request that the fault could strike.
    tag = hashlib.md5(OLD, usedforsecurity=False).hexdigest()
    store.replace(key, NEW, tag=f'"{tag}"', content_type=JSON)
    return "replaced"


DESCRIBED: Final = Stored(size=len(OLD), sha256=hashlib.sha256(OLD).hexdigest())
CASES: Final = {
    "put": Case(method="PUT", path=r"[^?]*$", act=put, result=lambda _s, _k: True),
    "begin": Case(
        method="POST",
        path=r"\?uploads",
        act=put_large,
        result=lambda _s, _k: True,
        has_answer=True,
    ),
    "part": Case(method="PUT", path=r"partNumber=2", act=put_large, result=lambda _s, _k: True),
    "finish": Case(
        method="POST",
        path=r"\?uploadId",
        act=put_large,
        result=lambda _s, _k: True,
        has_answer=True,
    ),
    "stored": Case(
        method="GET",
        path=r"[^?]*$",
        act=lambda store, key, _path: store.stored(key),
        result=lambda _s, _k: DESCRIBED,
        has_answer=True,
    ),
    "read": Case(
        method="GET", path=r"[^?]*$", act=read, result=lambda _s, _k: OLD, has_answer=True
    ),
    "sizes": Case(
        method="GET",
        path=r"list-type=2",
        act=lambda store, key, _path: store.sizes(key.rpartition("/")[0]),
        result=lambda _s, key: {key: len(OLD)},
        has_answer=True,
    ),
    "replace": Case(method="PUT", path=r"[^?]*$", act=replaced, result=lambda _s, _k: "replaced"),
}
PUTS: Final = ("put", "begin", "part", "finish")
ENDS: Final = ("put", "finish")


def expected(name: str, fault: Fault, *, stays: bool) -> str:
    """Say what must come of a fault: the policy, in words of its own."""
    if isinstance(fault, CutAnswer) and not CASES[name].has_answer:
        return "done"  # there was no body to cut
    if name == "replace":
        return _expected_of_replace(fault)
    if isinstance(fault, Status) and fault.status not in PASSING:
        if name in ENDS and fault.status in (409, 412):
            return "ConflictError" if fault.status == 409 else "left alone"
        return "StoreError"
    if not stays:
        return "done"
    # The first attempt was obeyed, and the second one looks before it sends anything.
    was_obeyed = isinstance(fault, CutAnswer) or getattr(fault, "after", False)
    return "done" if name in ENDS and was_obeyed else "StoreError"


def _expected_of_replace(fault: Fault) -> str:
    if not isinstance(fault, Status) or fault.status in PASSING:
        return "UncertainError"
    return "ConflictError" if fault.status in (409, 412) else "StoreError"


@dataclass(frozen=True)
class Table:
    """What came of every case."""

    rows: dict[tuple[str, str], list[str]] = field(default_factory=dict)

    def lines(self) -> Iterator[str]:
        """Yield the table, in Markdown: one row a fault, one column a kind of request."""
        yield f"| fault | {' | '.join(CASES)} |"
        yield f"|---|{'---|' * len(CASES)}"
        for fault in map(str, FAULTS):
            cells = [" / ".join(self.rows.get((fault, name), ["-"])) for name in CASES]
            yield f"| {fault} | {' | '.join(cells)} |"


@pytest.fixture(scope="module")
def table() -> Iterator[Table]:
    table = Table()
    yield table
    print("\n\nOutcome when the fault passes / when it stays (requests of that kind):\n")  # noqa: T201
    print("\n".join(table.lines()))  # noqa: T201


@pytest.fixture(scope="module")
def server() -> Iterator[S3Server]:
    with pytest.MonkeyPatch.context() as monkeypatch, moto_server() as server:
        # Otherwise parts are of 5 MiB or more.
        monkeypatch.setattr(moto.s3.models, "S3_UPLOAD_PART_MIN_SIZE", 1)
        server.let_in(monkeypatch)
        server.bucket(BUCKET)
        yield server


@pytest.fixture(scope="module")
def proxy(server: S3Server) -> Iterator[FaultProxy]:
    parts = urlsplit(server.endpoint)
    assert parts.hostname is not None
    assert parts.port is not None
    with FaultProxy(parts.hostname, parts.port, one_at_a_time=True) as proxy:
        yield proxy


@pytest.fixture(scope="module")
def store(server: S3Server, proxy: FaultProxy) -> S3Store:
    """The store, asked through the proxy."""
    address = f"s3://{BUCKET}/public"
    return server.behind(proxy.address).store(address, retry=RETRY, limits=LIMITS)


def outcome_of(case: Case, store: S3Store, key: str, path: Path) -> str:
    try:
        result = case.act(store, key, path)
    except StoreError as error:
        return type(error).__name__
    except ConflictError:
        return "ConflictError"
    if result is False:
        return "left alone"
    return "done" if result == case.result(store, key) else f"wrong: {result}"


@dataclass(frozen=True, kw_only=True)
class Wire:
    """A store, the proxy that it is asked through, and the server behind."""

    server: S3Server
    proxy: FaultProxy
    store: S3Store


@pytest.fixture
def wire(server: S3Server, proxy: FaultProxy, store: S3Store) -> Wire:
    proxy.mend()
    return Wire(server=server, proxy=proxy, store=store)


@pytest.mark.parametrize("stays", [False, True], ids=["passes", "stays"])
@pytest.mark.parametrize("fault", FAULTS, ids=str)
@pytest.mark.parametrize("name", list(CASES))
def test_a_fault_ends_as_the_policy_says(
    wire: Wire, table: Table, tmp_path: Path, name: str, fault: Fault, *, stays: bool
) -> None:
    case = CASES[name]
    key = f"{name}-{str(fault).replace(' ', '-')}-{stays}/file"
    if name not in PUTS:
        wire.server.client().put_object(Bucket=BUCKET, Key=f"public/{key}", Body=OLD)
    wire.proxy.spoil(fault, method=case.method, path=case.path, times=math.inf if stays else 1)

    outcome = outcome_of(case, wire.store, key, tmp_path / "file")

    asked = requests_of(wire.proxy, case)
    table.rows.setdefault((str(fault), name), []).append(f"{outcome} ({asked})")
    assert outcome == expected(name, fault, stays=stays)
    assert 1 <= wire.proxy.struck <= ATTEMPTS
    if name == "replace" or outcome in ("ConflictError", "left alone"):
        assert asked == 1
    assert wire.server.data(BUCKET, f"public/{key}") in bytes_that_may_be_there(name, outcome)
    # An upload whose name was lost with the answer cannot be aborted; it holds nothing.
    lost = name == "begin" and not isinstance(fault, Status)
    assert set(wire.server.unfinished(BUCKET, f"public/{key}")) <= ({0} if lost else set())


@pytest.mark.parametrize("seconds", [1, 60])
def test_the_server_is_obeyed_on_how_long_to_wait_up_to_a_limit(wire: Wire, seconds: int) -> None:
    slept: list[float] = []
    retry = RetryPolicy(longest_wait=30, sleep=slept.append)
    server, proxy = wire.server, wire.proxy
    store = server.behind(proxy.address).store(f"s3://{BUCKET}", retry=retry, limits=LIMITS)
    proxy.spoil(Status(429, {"Retry-After": str(seconds)}), method="GET")

    store.read("nothing")

    assert slept == [min(seconds, 30)]
    assert len(proxy.seen) == 2


def test_two_writers_lose_nothing_of_each_other(wire: Wire) -> None:
    append_by_two(wire.store, "race/ledger.json", 100)

    assert sorted(numbers_in(wire.store, "race/ledger.json")) == sorted([*range(100)] * 2)


def test_of_eight_who_put_at_once_one_does(wire: Wire, tmp_path: Path) -> None:
    won = put_by_eight(wire.store, "race/file", tmp_path)

    assert len(won) == 1
    assert wire.server.data(BUCKET, "public/race/file") == won[0]


def test_the_mock_keeps_to_every_condition(wire: Wire) -> None:
    found = wire.store.probe_conditional_puts()

    assert found == ConditionalPuts(if_none_match=True, completion=True, if_match=True)
    assert [name for name in wire.server.objects(BUCKET) if "probe" in name] == []


def requests_of(proxy: FaultProxy, case: Case) -> int:
    """Count the requests of one kind, spoilt or not."""
    found = re.compile(case.path).search
    return len([seen for seen in proxy.seen if seen.method == case.method and found(seen.path)])


def bytes_that_may_be_there(name: str, outcome: str) -> tuple[bytes | None, ...]:
    """Return what the name may stand for in the end; None: for nothing."""
    if name == "replace":
        return {"done": (NEW,), "UncertainError": (OLD, NEW)}.get(outcome, (OLD,))
    if name not in PUTS:
        return (OLD,)
    whole = SMALL if name == "put" else LARGE
    return (whole,) if outcome == "done" else (None, whole)
