"""Two releasers at once: each event is in the ledger once, whoever was first."""

import threading
import uuid
from collections.abc import Iterator
from contextlib import nullcontext
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pipeline.effects.clock import utc_now
from pipeline.effects.process import ProcessRunner
from pipeline.effects.store import LocalStore, Store
from pipeline.model.configs import SigningConfig
from pipeline.model.ledger import SEGMENT
from pipeline.publish.events import Stamp, publication
from pipeline.publish.ledger import all_events, append, read_ledger
from pipeline.sign.gpg import quickstart_keyring
from pipeline.sign.notary import KeyringNotary
from tests.factories import make_manifest, make_signed

if TYPE_CHECKING:
    from tests.integration.s3 import S3Server

pytestmark = [pytest.mark.gpg, pytest.mark.slow]

EACH = 100


@pytest.fixture(params=["directory", pytest.param("ceph", marks=pytest.mark.docker)])
def store(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Store]:
    """An empty store of each kind."""
    if request.param == "directory":
        yield LocalStore(tmp_path / "store")
        return
    server: S3Server = request.getfixturevalue("ceph")
    server.let_in(monkeypatch)
    yield server.store(f"s3://{server.bucket(f'race-{uuid.uuid4().hex}')}/place")


@pytest.fixture(scope="module")
def notary(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KeyringNotary]:
    """A real key, whose agent runs for as long as both need it."""
    process, home = ProcessRunner(), tmp_path_factory.mktemp("k")
    with quickstart_keyring(process, home) as keyring:
        yield KeyringNotary(
            keyring=lambda: nullcontext(keyring),
            is_there=lambda: True,
            config=SigningConfig(key="quickstart"),
            process=process,
            now=utc_now,
        )


def publish(store: Store, notary: KeyringNotary, who: str, new: list[str]) -> None:
    """Publish many releases, one after the other; note those whose event is new."""
    for number in range(EACH):
        manifest = make_manifest(release=f"demo-v{number}-{who}")
        stamp = Stamp(at=datetime.now(UTC), by=who, reason="race")
        decide = publication(manifest, make_signed(manifest), manifest.files, stamp)
        _, event = append(store, notary, decide)
        if event is not None:
            new.append(event.release)


def test_two_releasers_lose_nothing(store: Store, notary: KeyringNotary) -> None:
    new: dict[str, list[str]] = {"one": [], "two": []}
    threads = [
        threading.Thread(target=publish, args=(store, notary, who, found))
        for who, found in new.items()
    ]

    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    read = read_ledger(store, notary)
    events = all_events(store, read.ledger)
    expected = {who: [f"demo-v{number}-{who}" for number in range(EACH)] for who in new}
    assert new == expected
    for who, releases in expected.items():
        assert [event.release for event in events if event.by == who] == releases
    assert [event.sequence for event in events] == list(range(1, 2 * EACH + 1))
    assert len(read.ledger.segments) == 2 * EACH // SEGMENT
