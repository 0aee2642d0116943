"""A real master tells its operators how it is, and who must know that something failed."""

import json
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from email.message import Message
from pathlib import Path
from typing import Any

import pytest
from buildbot.process.results import FAILURE, SUCCESS
from prometheus_client.parser import text_string_to_metric_families

from pipeline.model.base import canonical_json
from pipeline.model.configs import Channel
from pipeline.model.farm import Submission
from tests.integration.farm_master import (
    PASSWORD,
    Farm,
    Process,
    eventually,
    free_port,
    job,
    make_database,
    make_farm,
    running,
)
from tests.integration.farm_sinks import MailSink, PostSink, running_mail_sink, running_post_sink
from tests.integration.postgresql import NO_SERVER, programs, running_postgresql

FAILED = "Nightly of demo failed"
HOOK = "hook-that-nobody-may-know"
QUICK = "pacing.FRESH_SECONDS, pacing.POST_PAUSES = 0.0, (0.0, 0.2, 0.2)"
MORE = """
alarm_seconds = 2
webhook = "webhook"
stale_check_hours = 24
nightly = [{{ interpreters = ["demo"], hour = {hour} }}]

[mail]
sender = "farm@example.org"
recipients = ["one@example.org", "two@example.org"]
server = "127.0.0.1"
port = {port}
"""


@dataclass(frozen=True, kw_only=True)
class Watched:
    """A farm, the port of its operations, and who is told of failures."""

    farm: Farm
    port: int
    mails: MailSink
    posts: PostSink

    def ask(self, path: str) -> tuple[int, bytes, Message]:
        """Return the status, body and headers of a page."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=20) as got:
                return got.status, got.read(), got.headers
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read(), error.headers

    @property
    def pages(self) -> str:
        """The address of the master's pages, as farm.toml has it."""
        return f"http://127.0.0.1:{self.farm.port}/"

    def health(self) -> tuple[int, list[str]]:
        """Return the status of the health page, and its reasons."""
        status, body, _ = self.ask("/healthz")
        return status, json.loads(body)["reasons"]

    def metrics(self) -> dict[str, float]:
        """Return all samples, by name and labels as in ``name{label=value}``."""
        _, body, _ = self.ask("/metrics")
        return {
            f"{row.name}{row.labels}": row.value
            for family in text_string_to_metric_families(body.decode())
            for row in family.samples
        }

    def waiting(self) -> list[float]:
        """Return how many requests wait for each builder that has such."""
        name = "farm_requests_waiting"
        return [value for row, value in self.metrics().items() if row.startswith(name)]

    def submit(self, name: str, channel: Channel) -> int:
        """Submit a run of the demo, and return its request."""
        submission = Submission(request=name, channel=channel, names=("demo",))
        return self.farm.submit(name, submission=canonical_json(submission).decode())


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    """Run a farm of three workers, with everything that operations add."""
    base, port = tmp_path_factory.mktemp("farm"), free_port()
    with running_mail_sink() as mails, running_post_sink() as posts:
        farm = make_farm(base, {"operations_port": port, "database": "sqlite:///state.sqlite"})
        make_webhook(base, f"http://127.0.0.1:{posts.port}/{HOOK}/?token={HOOK}")
        hour = (datetime.now(UTC).hour + 12) % 24
        configure(farm, MORE.format(hour=hour, port=mails.port))
        make_database(farm)
        farm.plan(job())
        with running(farm, ("signer", "one"), ("two",)):
            yield Watched(farm=farm, port=port, mails=mails, posts=posts)


def configure(farm: Farm, more: str) -> None:
    """Have a master that waits shortly, with *more* in its ``farm.toml``."""
    farm.configure(stock=QUICK)
    path = farm.base / "project" / "translation_configs" / "farm.toml"
    text = path.read_text(encoding="utf-8")
    path.write_text(text.replace("[hand_over]", f"{more}\n[hand_over]"), encoding="utf-8")


def make_webhook(base: Path, url: str) -> None:
    path = base / "secrets" / "webhook"
    path.touch(mode=0o600)
    path.write_text(f"{url}\n")


@dataclass(frozen=True, kw_only=True)
class Failed:
    """What there was after a nightly and a release of the same job had failed."""

    page: str
    results: tuple[int, int]
    waiting: list[float]
    badge: Any


@pytest.fixture(scope="module")
def failed(watched: Watched) -> Failed:
    """Let a nightly fail, and a release that waits for it; the webhook refuses the first post."""
    units = {"demo-linux-x86_64": {"exit": 1}, "collect": {"exit": 1}}
    watched.farm.plan(job(), units=units)
    watched.posts.refusals = 1
    nightly, release = watched.submit("bad-nightly", "nightly"), watched.submit("bad", "release")
    waiting = eventually("a request that waits", watched.waiting)
    results = watched.farm.finished(nightly), watched.farm.finished(release)
    eventually("a mail", lambda: watched.mails.about(FAILED))
    eventually("a post", lambda: watched.posts.about(FAILED))
    build = watched.farm.builds(nightly)[-1]
    return Failed(
        page=f"{watched.pages}#/builders/{build['builderid']}/builds/{build['number']}",
        results=results,
        waiting=waiting,
        badge=json.loads(watched.ask("/badges/demo-nightly.json")[1]),
    )


@pytest.fixture(scope="module")
def succeeded(watched: Watched, failed: Failed) -> int:
    """Let a nightly succeed after those that failed, and return its result."""
    assert failed.page
    watched.farm.plan(job())
    return watched.farm.finished(watched.submit("good", "nightly"))


def test_a_failed_nightly_is_told_once_by_mail_and_webhook_and_a_release_is_not(
    watched: Watched, failed: Failed
) -> None:
    (mail,) = watched.mails.about(FAILED)
    (post,) = watched.posts.about(FAILED)
    text = mail.get_payload(decode=True)

    assert failed.results == (FAILURE, FAILURE)
    assert isinstance(text, bytes)
    assert all(name in text.decode() for name in (failed.page, "demo-linux-x86_64", "demo-v1.0.0"))
    assert mail["From"] == "farm@example.org"
    assert post == (
        f"/{HOOK}/?token={HOOK}",
        {"text": f"{FAILED}: {failed.page}", "subject": FAILED, "url": failed.page},
    )
    assert {address for addresses, _ in watched.mails.mails for address in addresses} == {
        "one@example.org",
        "two@example.org",
    }


def test_a_nightly_that_is_stale_is_told_when_that_begins(watched: Watched) -> None:
    """The look at it fails, since its program knows no such verb."""
    eventually("a mail", lambda: watched.mails.about("A nightly is stale"))

    assert len(watched.mails.about("A nightly is stale")) == 1


def test_no_message_log_or_page_has_a_secret(watched: Watched, failed: Failed) -> None:
    pages = [watched.ask(path)[1] for path in ("/metrics", "/healthz", "/state.json")]

    told = "".join(
        [
            *(mail.as_string() for _, mail in watched.mails.mails),
            *(json.dumps(body) for _, body in watched.posts.posts),
            *(page.decode() for page in pages),
            json.dumps(watched.farm.get("builds?property=*")),
            watched.farm.master.said(),
        ]
    )

    assert failed.page in told
    assert HOOK not in told
    assert PASSWORD not in told


def test_metrics_are_what_prometheus_reads(watched: Watched, succeeded: int) -> None:
    metrics = watched.metrics()

    assert succeeded == SUCCESS
    assert metrics["farm_worker_connected{'worker': 'one'}"] == 1
    assert metrics["farm_worker_paused{'worker': 'one'}"] == 0
    assert metrics["farm_builds_finished_total{'builder': 'release', 'result': 'success'}"] == 1
    assert metrics["farm_builds_finished_total{'builder': 'release', 'result': 'failure'}"] == 2
    assert metrics["farm_build_duration_seconds_count{'builder': 'demo-linux-x86_64'}"] == 1
    assert metrics["farm_phase_duration_seconds_count{'phase': 'translate: annotate'}"] >= 1
    assert 0 < metrics["farm_master_uptime_seconds{}"] < 300


def test_a_request_that_waits_is_counted_until_it_is_begun(
    watched: Watched, failed: Failed, succeeded: int
) -> None:
    assert sum(failed.waiting) in (1, 2)
    assert succeeded == SUCCESS
    assert watched.waiting() == []


def test_badges_and_the_build_state_say_how_it_went_last(
    watched: Watched, failed: Failed, succeeded: int
) -> None:
    status, body, headers = watched.ask("/badges/demo-nightly.json")
    jobs = {
        (row["interpreter"], row["platform"]): row
        for row in json.loads(watched.ask("/state.json")[1])["jobs"]
    }

    last = jobs["demo", "linux-x86_64"]
    assert succeeded == SUCCESS
    assert failed.badge["color"] == "red"
    assert status == 200
    assert json.loads(body) == {
        "schemaVersion": 1,
        "label": "demo nightly",
        "message": last["at"].partition("T")[0],
        "color": "brightgreen",
    }
    assert headers["Access-Control-Allow-Origin"] == "*"
    assert (last["result"], last["release"]) == ("success", "demo-v1.0.0")
    assert last["url"].startswith(watched.pages)
    assert jobs["demo", "linux-riscv64"]["result"] is None


@pytest.mark.parametrize("path", ["/", "/badges/nobody-nightly.json", "/badges/", "/x/y/z"])
def test_there_are_no_other_pages(watched: Watched, path: str) -> None:
    assert watched.ask(path)[0] == 404


def test_health_is_lost_with_a_worker_and_comes_back_with_it(watched: Watched) -> None:
    before = watched.health()
    watched.farm.processes["two"].end()
    lost_at = time.monotonic()
    eventually("ill health", lambda: watched.health()[0] == 503, 15)
    took = time.monotonic() - lost_at
    ill = watched.health()
    watched.farm.worker("two")
    eventually("health", lambda: watched.health()[0] == 200, 15)

    assert before == (200, [])
    assert ill[0] == 503
    assert ill[1][0].startswith("worker two has been away for ")
    assert took > 1.5


@pytest.mark.skipif(programs() is None, reason=NO_SERVER)
def test_a_farm_on_postgresql_builds_refuses_a_second_master_and_tells_of_its_loss() -> None:
    """Below /tmp, since the server's own user must reach it."""
    with tempfile.TemporaryDirectory(prefix="farm-postgresql-") as temporary:
        base, port = Path(temporary), free_port()
        base.chmod(0o755)
        (base / "farm").mkdir()
        with running_postgresql(base / "postgresql", free_port()) as server:
            settings = {"operations_port": port, "database": server.url}
            farm = make_farm(base / "farm", settings)
            configure(farm, "")
            make_database(farm)
            farm.plan(job())
            with running(farm, ("signer", "one")):
                watched = Watched(farm=farm, port=port, mails=MailSink(), posts=PostSink())
                result = farm.finished(watched.submit("on-postgresql", "release"))
                second = second_master(farm)
                healthy = watched.health()
                server.stop()
                without = watched.health()
                server.start()
                eventually("health", lambda: watched.health()[0] == 200, 15)

    assert result == SUCCESS
    assert second != 0
    assert healthy == (200, [])
    assert without == (503, ["the database does not answer"])


def second_master(farm: Farm) -> int:
    """Start another master on the same database, and return how it ended."""
    second = Process(farm.master.base, "buildbot.tac")
    second.start()
    assert second.running is not None
    return second.running.wait(20)
