"""The master of a farm: nothing is lost or done twice, whatever dies; workers get what they can do.

Buildbot, its workers and its database are real; a small program stands for the pipeline, and a
minute of the configuration is a second.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from moto import mock_aws
from sqlalchemy.exc import SQLAlchemyError

from pipeline.errors import WorkdirBusyError
from pipeline.farm.settings import SETTINGS_NAME, MasterSettings
from pipeline.frontends.buildbot.process import hold_of
from pipeline.frontends.buildbot.workers import make_workers
from pipeline.model.farm import Ec2Latent, FarmConfig, FarmWorker
from pipeline.model.platforms import Mode
from tests.integration.farm_master import (
    FACTS,
    PATIENCE,
    PROGRAM,
    ROOT,
    Farm,
    buildbot,
    eventually,
    free_port,
    job,
    make_database,
    make_farm,
    make_secrets,
    running,
)
from tests.integration.postgresql import NO_SERVER, programs, running_postgresql

SUCCESS, WARNINGS, FAILURE, SKIPPED, EXCEPTION, RETRY, CANCELLED = range(7)
IN_MEMORY = {"database": "sqlite://"}


@pytest.fixture(scope="module")
def lasting(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Farm]:
    """A farm whose database is a file, so that it can be started again."""
    farm = make_farm(tmp_path_factory.mktemp("lasting"))
    make_database(farm)
    with running(farm, ("signer", "two"), ("one",)):
        yield farm


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Farm]:
    """A farm whose database is in memory: ``one`` cannot emulate, ``two`` can."""
    farm = make_farm(tmp_path_factory.mktemp("shared"), IN_MEMORY)
    farm.facts["one"] = FACTS.model_copy(update={"emulators": ()}).model_dump_json()
    with running(farm, ("signer", "two"), ("one",)):
        yield farm


@pytest.fixture
def farm(shared: Farm) -> Farm:
    """The shared farm, with nothing done yet."""
    shared.forget()
    return shared


def only_two(platform: str = "linux-aarch64", **changed: Any) -> Any:
    """Return a job that ``one`` cannot do."""
    return job(platform, mode=Mode.CROSS, **changed)


def claims_of(farm: Farm) -> tuple[dict[str, str], dict[str, str]]:
    """Return who claims which job, and why others failed, as the signer was told."""
    document = json.loads((farm.base / "claims.json").read_text())
    claimed = {claim["identifier"]: claim["worker"] for claim in document["claims"]}
    return claimed, {item["identifier"]: item["reason"] for item in document["failed"]}


def steps_of(farm: Farm, request: int) -> dict[str, dict[str, Any]]:
    """Return the steps of the last build of a request, by name."""
    build = farm.builds(request)[-1]["buildid"]
    return {step["name"]: step for step in farm.get(f"builds/{build}/steps")["steps"]}


def test_run_is_prepared_given_out_and_collected(farm: Farm) -> None:
    farm.plan(job(), job("linux-i686"), job("linux-armhf", is_done=True))

    request = farm.submit("whole")

    assert farm.finished(request) == SUCCESS
    assert {*farm.children(request)} == {
        "prepare",
        "demo-linux-x86_64",
        "demo-linux-i686",
        "collect",
    }
    claimed, failed = claims_of(farm)
    assert {*claimed} == {"demo-linux-x86_64", "demo-linux-i686"}
    assert not failed
    build = farm.builds(request)[0]["properties"]
    assert json.loads(build["collected"][0])["run"] == build["run"][0]
    unit = farm.builds(farm.child(request, "demo-linux-i686"))[0]["properties"]
    assert unit["digests"][0] == {"translate": "2" * 64}


def test_stages_and_phases_are_steps_with_their_times(farm: Farm) -> None:
    """A worker sends its lines every five seconds, so that is how late they are."""
    farm.plan(job(), units={"demo-linux-x86_64": {"seconds": 7}})
    request = farm.submit("steps")
    unit = farm.child(request, "demo-linux-x86_64")
    stage = "translate demo-linux-x86_64"
    live = eventually("a stage", lambda: farm.builds(unit) and steps_of(farm, unit).get(stage))
    assert not live["complete"]

    assert farm.finished(request) == SUCCESS

    steps = steps_of(farm, unit)
    names = (stage, "translate: annotate", "translate: rtype")
    assert [steps[name]["results"] for name in names] == [SUCCESS] * 3
    assert steps[stage]["state_string"] == "done in 7.0 s"
    assert steps["translate: annotate"]["state_string"] == "took 6 s"


def test_everybody_reads_but_only_admins_submit(farm: Farm) -> None:
    body = {"id": 1, "jsonrpc": "2.0", "method": "force", "params": {"submission": "{}"}}

    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(farm.request("forceschedulers/submit", body), timeout=20)

    assert refused.value.code == 403
    refused.value.close()
    assert farm.get("builders")["builders"]


@pytest.mark.parametrize(
    ("submission", "said"),
    [
        ("{}", "request: Field required"),
        ('{"request": "x", "channel": "release", "names": ["--work=/"]}', "names.0"),
        ("rm -rf /", "Invalid JSON"),
    ],
)
def test_what_is_no_submission_fails_and_says_why(farm: Farm, submission: str, said: str) -> None:
    request = farm.submit("wrong", submission=submission)

    assert farm.finished(request) == FAILURE
    assert said in farm.builds(request)[0]["state_string"]
    assert not farm.events()


def test_unchanged_nightly_ends_after_its_preparation(farm: Farm) -> None:
    farm.plan(unchanged=("demo-nightly-2026-11-24-7-0123456789ab",))

    request = farm.submit("unchanged")

    assert farm.finished(request) == SUCCESS
    assert {*farm.children(request)} == {"prepare"}
    assert "skipped: unchanged" in steps_of(farm, request)["units"]["state_string"]


def test_work_is_given_to_who_can_do_it_and_what_nobody_can_do_is_reported(farm: Farm) -> None:
    too_much = job("linux-i686", memory=100)
    farm.plan(only_two(), only_two("linux-riscv64"), too_much)

    request = farm.submit("capability")

    assert farm.finished(request) == WARNINGS
    claimed, failed = claims_of(farm)
    assert claimed == {"demo-linux-aarch64": "two", "demo-linux-riscv64": "two"}
    assert "no worker could do it for 4 minutes" in failed["demo-linux-i686"]
    assert "two: 100 GiB are needed, its row has 4" in failed["demo-linux-i686"]


def test_jobs_at_a_time_fit_a_worker_s_memory(farm: Farm) -> None:
    farm.plan(only_two(memory=3), only_two("linux-riscv64", memory=3))

    assert farm.finished(farm.submit("memory")) == SUCCESS

    seen = [kind for kind, name, *_ in farm.events("start", "end") if "demo" in name]
    assert seen == ["start", "end", "start", "end"]


def test_what_is_no_claim_is_refused(farm: Farm) -> None:
    strange = {"run": "r1-1", "identifier": "demo-linux-i686", "worker": "one", "stages": []}
    farm.plan(
        job(),
        job("linux-i686"),
        only_two(),
        only_two("linux-riscv64"),
        units={
            "demo-linux-x86_64": {"stdout": "<b>done</b>"},
            "demo-linux-i686": {"stdout": json.dumps(strange)},
            "demo-linux-aarch64": {"stdout": "[\n" * 600_000},
        },
    )

    request = farm.submit("hostile")

    assert farm.finished(request) == WARNINGS
    claimed, failed = claims_of(farm)
    assert {*claimed} == {"demo-linux-riscv64"}
    assert "its answer is refused: this is no Claim" in failed["demo-linux-x86_64"]
    assert "stages" in failed["demo-linux-i686"]
    assert "more than 1048576 characters" in failed["demo-linux-aarch64"]


def test_failed_job_is_not_tried_again_and_says_what_was_last(farm: Farm) -> None:
    farm.plan(job(), job("linux-i686"), units={"demo-linux-i686": {"exit": 32}})

    request = farm.submit("failing")

    assert farm.finished(request) == WARNINGS
    _, failed = claims_of(farm)
    assert "exit 32: error: it did not work" in failed["demo-linux-i686"]
    assert f"http://127.0.0.1:{farm.port}/#/builders/" in failed["demo-linux-i686"]
    assert farm.started("demo-linux-i686") == 1


def test_job_leaves_a_machine_that_is_not_fit_for_another(farm: Farm) -> None:
    farm.plan(job(), units={"demo-linux-x86_64": {"fit": ["two"]}})

    request = farm.submit("unfit")

    assert farm.finished(request) == SUCCESS
    builds = farm.builds(farm.child(request, "demo-linux-x86_64"))
    assert [build["results"] for build in builds] == [RETRY, SUCCESS]
    assert [build["properties"]["workername"][0] for build in builds] == ["one", "two"]


def test_job_that_no_machine_is_fit_for_is_given_up_with_what_it_said(farm: Farm) -> None:
    farm.plan(job(), units={"demo-linux-x86_64": {"fit": []}})

    request = farm.submit("nowhere")

    assert farm.finished(request) == WARNINGS
    _, failed = claims_of(farm)
    assert "given up after 2 attempts: exit 73: error: it did not work" in failed[job().identifier]
    assert farm.started(job().identifier) == 2


def test_silent_job_is_stopped_with_what_it_started(farm: Farm) -> None:
    farm.plan(job(), units={"demo-linux-x86_64": {"silent": True, "seconds": 60}})

    request = farm.submit("silent")

    assert farm.finished(request) == WARNINGS
    _, failed = claims_of(farm)
    assert "it was silent" in failed["demo-linux-x86_64"]
    assert [name for _, name in farm.events("reap")] == [
        name for _, name, _ in farm.events("start") if "demo" in name
    ]


def test_stopped_release_stops_its_jobs_and_what_they_started(farm: Farm) -> None:
    farm.plan(job(), job("linux-i686"), units={"demo-linux-x86_64": {"seconds": 60}})
    request = farm.submit("stopped")
    eventually("a start", lambda: farm.started("demo-linux-x86_64"))

    farm.post(f"builds/{farm.builds(request)[0]['buildid']}", "stop", reason="not wanted")

    assert farm.finished(request) == CANCELLED
    unit = farm.child(request, "demo-linux-x86_64")
    assert farm.finished(unit) == CANCELLED
    eventually("a reap", lambda: any("x86_64" in name for _, name in farm.events("reap")))
    assert "collect" not in farm.children(request)


def test_request_of_a_release_goes_before_that_of_a_nightly(farm: Farm) -> None:
    """Stock Trigger gives every unit the priority of its scheduler."""
    wanted, may_end = only_two(memory=4), farm.base / "first-may-end"
    farm.plan(wanted, units={wanted.identifier: {"until": may_end.name}})
    first = farm.submit("busy")
    eventually("a start", lambda: farm.started(wanted.identifier))
    farm.plan(wanted)

    nightly = farm.submit("nightly", priority=0)
    later = farm.child(nightly, wanted.identifier)
    release = farm.submit("release", priority=10)
    waiting = farm.child(release, wanted.identifier)
    claimed = [farm.asked(request)["claimed"] for request in (later, waiting)]
    may_end.touch()

    assert claimed == [False, False]
    assert [farm.finished(request) for request in (first, nightly, release)] == [SUCCESS] * 3
    runs = [name.split("-")[0] for _, name, _ in farm.events("start") if "aarch64" in name]
    assert runs == [f"r{first}", f"r{release}", f"r{nightly}"]


def test_killed_worker_finds_its_work_again(farm: Farm) -> None:
    farm.plan(job(), units={"demo-linux-x86_64": {"seconds": 6}})
    request = farm.submit("worker")
    unit = farm.child(request, "demo-linux-x86_64")
    eventually("a start", lambda: farm.started("demo-linux-x86_64"))
    name = eventually("a worker", lambda: farm.builds(unit))[0]["properties"]["workername"][0]

    farm.processes[name].end(signal.SIGKILL)
    farm.worker(*(("one",) if name == "one" else ("signer", "two")))

    assert farm.finished(request) == SUCCESS
    builds = farm.builds(unit)
    assert [build["results"] for build in builds] == [RETRY, SUCCESS]
    assert {build["properties"]["workername"][0] for build in builds} == {name}
    assert farm.started("demo-linux-x86_64") == 1
    assert not farm.events("reap")


def test_job_that_kills_its_workers_is_given_up(farm: Farm) -> None:
    """Stock Buildbot tries it for ever."""
    deadly = only_two()
    farm.plan(deadly, units={deadly.identifier: {"kills": True}})
    over = threading.Event()

    def look_after() -> None:
        while not over.wait(0.2):
            process = farm.processes["two"].running
            if process is not None and process.poll() is not None:
                farm.worker("signer", "two")

    keeper = threading.Thread(target=look_after)
    keeper.start()
    try:
        results = farm.finished(farm.submit("poison"), 2 * PATIENCE)
    finally:
        over.set()
        keeper.join()

    assert results == WARNINGS
    assert farm.started(deadly.identifier) == 2
    _, failed = claims_of(farm)
    assert "given up after 2 attempts: the worker was lost" in failed[deadly.identifier]


def jobs_under_way(farm: Farm, name: str) -> int:
    """Submit three jobs; return when one is done, one is at work and one waits for it."""
    farm.forget()
    wanted = only_two(memory=4)
    farm.plan(
        job(memory=4),
        only_two("linux-riscv64", memory=4),
        wanted,
        units={
            "demo-linux-riscv64": {"seconds": 7},
            "demo-linux-aarch64": {"seconds": 0.2},
            "demo-linux-x86_64": {"seconds": 0.2},
        },
    )
    request = farm.submit(name)
    assert farm.finished(farm.child(request, "demo-linux-x86_64")) == SUCCESS
    eventually("a start", lambda: farm.started("demo-linux-riscv64"))
    return request


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_master_started_again_goes_on_and_does_nothing_twice(lasting: Farm, number: int) -> None:
    """Stock Trigger asks for all units again; a stopped master's builds end as cancelled."""
    request = jobs_under_way(lasting, f"master-{number}")

    lasting.master.end(number)
    lasting.start()

    assert lasting.finished(request, 2 * PATIENCE) == SUCCESS
    results = [build["results"] for build in lasting.builds(request)]
    assert results == [RETRY, SUCCESS]
    assert {len(found) for found in lasting.children(request).values()} == {1}
    for unit in ("demo-linux-x86_64", "demo-linux-riscv64", "demo-linux-aarch64"):
        assert lasting.started(unit) == 1
    assert not lasting.events("reap")


def test_second_master_on_a_database_is_refused(lasting: Farm, tmp_path: Path) -> None:
    """Stock Buildbot takes the first one's builds for lost, before it fails for the port."""
    second = tmp_path / "second"
    shutil.copytree(lasting.master.base, second, ignore=shutil.ignore_patterns("*.sqlite*", "*log"))
    settings = json.loads((second / SETTINGS_NAME).read_text())
    database = f"sqlite:///{lasting.master.base}/state.sqlite"
    settings |= {"www_port": free_port(), "worker_port": free_port(), "database": database}
    (second / SETTINGS_NAME).write_text(json.dumps(settings))

    done = subprocess.run(
        [
            str(Path(sys.executable).with_name("twistd")),
            "--nodaemon",
            "--pidfile=",
            "--python=buildbot.tac",
        ],
        cwd=second,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert done.returncode != 0
    assert "another master uses the database" in done.stderr
    log = (second / "twistd.log").read_text()
    assert "Setting up database" not in log


def test_configuration_read_again_adds_a_builder_and_leaves_work_alone(lasting: Farm) -> None:
    lasting.forget()
    lasting.plan(job(), units={"demo-linux-x86_64": {"seconds": 4}})
    request = lasting.submit("reconfigured")
    eventually("a start", lambda: lasting.started("demo-linux-x86_64"))
    text = (ROOT / "translation_configs" / "demo.toml").read_text()
    text = text.replace('"demo"', '"twin"').replace("rpython-demo", "rpython-twin")
    text = text.replace("demo-nightly", "twin-nightly").replace('path = "twin"', 'path = "demo"')
    (lasting.base / "project" / "translation_configs" / "twin.toml").write_text(text)

    lasting.master.send(signal.SIGHUP)

    eventually(
        "a new builder",
        lambda: "twin-linux-x86_64" in {row["name"] for row in lasting.get("builders")["builders"]},
    )
    assert lasting.finished(request) == SUCCESS
    assert [build["results"] for build in lasting.builds(request)] == [SUCCESS]


RACE = """
def race(build):
    if build.requests[0].id == 1:
        path = ("buildrequests", 1)
        build.builder.master.data.control("cancel", {"reason": "race"}, path)
    return True


next(row for row in c["builders"] if row.name == "release").do_build_if = race
"""
STOCK_BUILD = "from buildbot.process.build import Build\n\nbuilders.SafeBuild = Build"


@pytest.mark.parametrize("stock", ["", STOCK_BUILD])
def test_cancel_in_the_moment_of_a_start_leaves_no_open_build(tmp_path: Path, stock: str) -> None:
    """Stock Buildbot's build stays open for ever, which is why this has its own class."""
    farm = make_farm(tmp_path, IN_MEMORY)
    farm.configure(after=RACE, stock=stock)
    with running(farm):
        request = farm.submit("race", submission="{}")

        if stock:
            eventually("a build", lambda: farm.builds(request))
            time.sleep(2)
            assert not farm.asked(request)["complete"]
        else:
            assert farm.finished(request) == CANCELLED
            assert farm.finished(farm.submit("next", submission="{}")) == FAILURE


@pytest.mark.skipif(programs() is None, reason=NO_SERVER)
def test_database_of_a_server_is_held_again_after_its_restart() -> None:
    """Below /tmp, since the server's own user must reach it."""
    with tempfile.TemporaryDirectory(prefix="farm-hold-") as temporary:
        base = Path(temporary)
        base.chmod(0o755)
        with running_postgresql(base / "server", free_port()) as server:
            first, second = hold_of(server.url, base), hold_of(server.url, base)
            first.take()

            server.stop()
            with pytest.raises(SQLAlchemyError):
                first.renew()
            server.start()
            first.renew()

            with pytest.raises(WorkdirBusyError, match="another master uses the database postgres"):
                second.take()


def test_code_is_checked_out_at_one_commit_with_an_environment_of_its_own(tmp_path: Path) -> None:
    farm = make_farm(tmp_path, IN_MEMORY)
    repository = make_repository(tmp_path / "code")
    farm.configure(more=f'repository = "{repository}"')
    (tmp_path / "python").unlink()  # the checkout's environment has one
    (tmp_path / "python").symlink_to(sys.executable)
    farm.plan(job(), units={"prepare": {"seconds": 2}})
    with running(farm, ("signer", "two")):
        request = farm.submit("code")
        eventually("a start", lambda: farm.started("prepare"))
        commit_all(repository, "changed meanwhile")

        assert farm.finished(request) == SUCCESS

        builds = [farm.builds(farm.child(request, unit))[0] for unit in UNITS_OF_ONE_JOB]
    commits = {build["properties"]["got_revision"][0] for build in builds}
    assert commits == {git(repository, "rev-parse", "HEAD~1")}


UNITS_OF_ONE_JOB = ("prepare", "demo-linux-x86_64", "collect")


def git(repository: Path, *arguments: str) -> str:
    """Run git in a repository; return what it says."""
    who = ("-c", "user.name=a", "-c", "user.email=a@b.invalid", "-c", "init.defaultBranch=main")
    done = subprocess.run(
        ["git", *who, *arguments], cwd=repository, capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


def commit_all(repository: Path, message: str) -> None:
    """Commit what is there, with a file that changes each time."""
    (repository / "message").write_text(message)
    git(repository, "add", "-A")
    git(repository, "commit", "-qm", message)


def make_repository(path: Path) -> Path:
    """Make a repository whose package ``pipeline`` is the small program."""
    (path / "pipeline").mkdir(parents=True)
    (path / "pipeline" / "__init__.py").touch()
    shutil.copy(PROGRAM, path / "pipeline" / "__main__.py")
    (path / "pyproject.toml").write_text('[project]\nname = "x"\nversion = "1"\n')
    (path / ".gitignore").write_text("__pycache__\n")
    git(path, "init", "-q")
    uv = str(Path(sys.executable).with_name("uv"))
    subprocess.run([uv, "lock", "-q", "--python", sys.executable], cwd=path, check=True)
    commit_all(path, "first")
    return path


def test_machine_of_amazon_s_is_a_worker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    latent = Ec2Latent(
        kind="ec2",
        image="ami-0123456789abcdef0",
        instance_type="c7i.4xlarge",
        region="eu-central-1",
        key_name="farm",
        security_group="workers",
    )
    rows = {
        "signer": FarmWorker(role="signer", memory=1),
        "cloud": FarmWorker(memory=32, latent=latent),
    }
    settings = MasterSettings(
        root=tmp_path, secrets=make_secrets(tmp_path, ("worker-signer", "worker-cloud"))
    )

    with mock_aws():
        found = make_workers(settings, FarmConfig(workers=rows))[-1]

        assert found.ec2_client.describe_key_pairs()["KeyPairs"][0]["KeyName"] == "farm"
    assert (found.name, found.instance_type) == ("cloud", "c7i.4xlarge")


def test_shipped_farm_is_a_configuration(tmp_path: Path) -> None:
    for name in ("master.cfg", "buildbot.tac"):
        shutil.copy(ROOT / "dockerfiles" / "farm" / name, tmp_path)
    names = ("worker-signer", "worker-worker-1", "worker-worker-2", "admin-admin")
    settings = {"root": str(ROOT), "secrets": str(make_secrets(tmp_path, names))}
    (tmp_path / SETTINGS_NAME).write_text(json.dumps(settings))
    farm = make_farm(tmp_path / "farm")

    said = buildbot(farm, "checkconfig", str(tmp_path / "master.cfg"))

    assert "Config file is good!" in said
