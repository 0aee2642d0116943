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

    def run(self, name: str, channel: Channel) -> tuple[int, int]:
        """Submit a run of the demo, and return its request and how it ended."""
        submission = Submission(request=name, channel=channel, names=("demo",))
        request = self.farm.submit(name, submission=canonical_json(submission).decode())
        return request, self.farm.finished(request)


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    """Run a farm of three workers, with everything that operations add."""
    base, port = tmp_path_factory.mktemp("farm"), free_port()
    with running_mail_sink() as mails, running_post_sink() as posts:
        farm = make_farm(base, {"operations_port": port, "database": "sqlite:///state.sqlite"})
        make_webhook(base, f"http://127.0.0.1:{posts.port}/{HOOK}/?token={HOOK}")
        hour = (datetime.now(UTC).hour + 12) % 24
        farm.configure(stock=QUICK, more=MORE.format(hour=hour, port=mails.port))
        make_database(farm)
        farm.plan(job())
        with running(farm, "signer", "one", "two"):
            yield Watched(farm=farm, port=port, mails=mails, posts=posts)


def make_webhook(base: Path, url: str) -> None:
    path = base / "secrets" / "webhook"
    path.touch(mode=0o600)
    path.write_text(f"{url}\n")


def fail(watched: Watched) -> None:
    watched.farm.plan(job(), demo_linux_x86_64={"exit": 1}, collect={"exit": 1})


def test_a_failed_nightly_is_told_once_by_mail_and_webhook(watched: Watched) -> None:
    fail(watched)
    watched.posts.refusals = 1
    subject = "Nightly of demo failed"

    request, result = watched.run("bad-nightly", "nightly")
    eventually("a mail", lambda: watched.mails.about(subject))
    eventually(
        "a post", lambda: [body for _, body in watched.posts.posts if subject in body["text"]]
    )
    _, released = watched.run("bad-release", "release")
    time.sleep(0.5)

    assert result == released == FAILURE
    (mail,) = watched.mails.about(subject)
    (post,) = [post for post in watched.posts.posts if post[1]["subject"] == subject]
    text = mail.get_payload(decode=True)
    assert isinstance(text, bytes)
    build = watched.farm.builds(request)[-1]
    page = f"{watched.pages}#/builders/{build['builderid']}/builds/{build['number']}"
    assert page in text.decode()
    assert "demo-linux-x86_64" in text.decode()
    assert "demo-v1.0.0" in text.decode()
    assert mail["From"] == "farm@example.org"
    assert post == (
        f"/{HOOK}/?token={HOOK}",
        {"text": f"{subject}: {page}", "subject": subject, "url": page},
    )
    assert {address for addresses, _ in watched.mails.mails for address in addresses} == {
        "one@example.org",
        "two@example.org",
    }


def test_a_nightly_that_is_stale_is_told_when_that_begins(watched: Watched) -> None:
    """The look at it fails, since its program knows no such verb."""
    eventually("a mail", lambda: watched.mails.about("A nightly is stale"))

    assert len(watched.mails.about("A nightly is stale")) == 1


def test_no_message_log_or_page_has_a_secret(watched: Watched) -> None:
    eventually("a mail", lambda: watched.mails.mails)
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

    assert HOOK not in told
    assert PASSWORD not in told


def test_metrics_are_what_prometheus_reads(watched: Watched) -> None:
    watched.farm.plan(job())
    _, result = watched.run("for-metrics", "release")
    metrics = watched.metrics()

    assert result == SUCCESS
    assert metrics["farm_worker_connected{'worker': 'one'}"] == 1
    assert metrics["farm_worker_paused{'worker': 'one'}"] == 0
    assert metrics["farm_builds_finished_total{'builder': 'release', 'result': 'success'}"] >= 1
    assert metrics["farm_build_duration_seconds_count{'builder': 'demo-linux-x86_64'}"] >= 1
    assert metrics["farm_phase_duration_seconds_count{'phase': 'translate: annotate'}"] >= 1
    assert 0 < metrics["farm_master_uptime_seconds{}"] < 300
    assert metrics["farm_healthy{}"] == 1


def test_a_request_that_waits_is_counted_until_it_is_begun(watched: Watched) -> None:
    watched.farm.plan(job(), prepare={"seconds": 3})
    waiting, running_now = (
        f"farm_{name}{{'builder': 'release'}}" for name in ("requests_waiting", "builds_running")
    )
    texts = [
        canonical_json(Submission(request=f"wait-{number}", channel="release")).decode()
        for number in range(2)
    ]

    requests = [watched.farm.submit(f"wait-{n}", submission=text) for n, text in enumerate(texts)]
    counted = eventually("one waiting, one begun", lambda: counts(watched, waiting, running_now))
    results = [watched.farm.finished(request) for request in requests]

    assert counted == [1, 1]
    assert results == [SUCCESS, SUCCESS]
    assert waiting not in watched.metrics()


def counts(watched: Watched, *names: str) -> list[float]:
    """Return the values of some samples, or nothing until there are all."""
    metrics = watched.metrics()
    return [metrics[name] for name in names if all(name in metrics for name in names)]


def test_badges_and_the_build_state_say_how_it_went_last(watched: Watched) -> None:
    fail(watched)
    watched.run("bad", "nightly")
    failing = json.loads(watched.ask("/badges/demo-nightly.json")[1])
    watched.farm.plan(job())
    watched.run("good", "nightly")

    status, body, headers = watched.ask("/badges/demo-nightly.json")
    jobs = {
        (row["interpreter"], row["platform"]): row
        for row in json.loads(watched.ask("/state.json")[1])["jobs"]
    }

    today = f"{datetime.now(UTC):%Y-%m-%d}"
    assert failing["color"] == "red"
    assert status == 200
    assert json.loads(body) == {
        "schemaVersion": 1,
        "label": "demo nightly",
        "message": today,
        "color": "brightgreen",
    }
    assert headers["Access-Control-Allow-Origin"] == "*"
    last = jobs["demo", "linux-x86_64"]
    assert (last["result"], last["release"]) == ("success", "demo-v1.0.0")
    assert last["at"].startswith(today)
    assert last["url"].startswith(watched.pages)
    assert jobs["demo", "linux-riscv64"]["result"] is None


@pytest.mark.parametrize("path", ["/", "/badges/nobody-nightly.json", "/badges/", "/x/y/z"])
def test_there_are_no_other_pages(watched: Watched, path: str) -> None:
    assert watched.ask(path)[0] == 404


def test_health_is_lost_with_a_worker_and_comes_back_with_it(watched: Watched) -> None:
    before = watched.health()
    watched.farm.workers["two"].end()
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
            farm.configure(stock=QUICK, more="alarm_seconds = 600\n")
            make_database(farm)
            farm.plan(job())
            with running(farm, "signer", "one"):
                watched = Watched(farm=farm, port=port, mails=MailSink(), posts=PostSink())
                _, result = watched.run("on-postgresql", "release")
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
