"""The verbs with --farm: what is refused here, how one logs in, and how they end."""

import getpass
import json
from pathlib import Path
from typing import Any

import pytest

from pipeline.cli import main, submitting
from pipeline.effects.retry import RetryPolicy
from pipeline.farm import follow
from tests.fake_farm import (
    FakeFarm,
    ended,
    make_build,
    make_collected,
    make_job,
    make_prepared,
    make_request,
    make_unit,
    said,
)

URL = "https://farm.test"
SELECTED = ("release", "demo", "--platform", "linux-x86_64", "--farm", URL, "--request", "mine")
JOB = "demo-linux-x86_64"


@pytest.fixture
def farm(monkeypatch: pytest.MonkeyPatch) -> FakeFarm:
    """A farm in memory, where every address leads; nobody waits."""
    farm = FakeFarm()
    monkeypatch.setattr(submitting, "BuildbotFarm", lambda _address: farm)
    monkeypatch.setattr(
        submitting, "FIRST_CONTACT", RetryPolicy(attempts=2, sleep=lambda _seconds: None)
    )
    monkeypatch.setattr("pipeline.cli.submitting.time.sleep", lambda _seconds: None)
    monkeypatch.setenv("RPP_FARM_PASSWORD", "secret")
    monkeypatch.setenv("CI", "1")
    monkeypatch.setenv("COLUMNS", "300")
    return farm


def run_on(farm: FakeFarm, results: int = 0) -> None:
    """Have a run there that has ended."""
    name = json.dumps({"request": "mine", "channel": "release"})
    farm.add(make_request(1, properties=said(submission=name), **ended(results)))
    farm.begin(make_build(1, 1, builderid=1, workerid=1, state_string="failed", **ended(results)))
    units = (make_unit(2, "prepare", **ended(0)), make_unit(3, JOB, **ended(results)))
    farm.add(*units, make_unit(4, "collect", **ended(results)), parent=1)
    farm.begin(make_build(2, 2, **ended(0)), make_build(3, 3, **ended(results)))
    farm.begin(make_build(4, 4, **ended(results)))
    farm.made[2] = {"prepared": make_prepared(make_job(JOB)).model_dump_json()}
    farm.made[4] = {"collected": make_collected().model_dump_json()}


def message(capsys: pytest.CaptureFixture[str]) -> str:
    """Return what people would read, as one line."""
    return " ".join(capsys.readouterr().err.split())


# --- what is refused here -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "status", "told"),
    [
        (("--source", "."), 10, "--source is for work on this machine"),
        (("--mode", "native"), 10, "--mode is for work on this machine"),
        (("--engine", "linux-x86_64=native"), 10, "--engine is for work on this machine"),
        (("--store", "x"), 10, "--store is for work on this machine"),
        (("--base-url", "http://x"), 10, "--base-url is for work on this machine"),
        (("--provision",), 10, "--provision is for work on this machine"),
        (("--platform", "linux-x86"), 11, "unknown platform 'linux-x86'"),
        (("--request", "No Name"), 10, "request 'No Name'"),
    ],
)
def test_what_a_farm_would_refuse_never_leaves_this_machine(
    farm: FakeFarm,
    capsys: pytest.CaptureFixture[str],
    options: tuple[str, ...],
    status: int,
    told: str,
) -> None:
    assert main([*SELECTED, *options]) == status

    assert told in message(capsys)
    assert farm.asked_for == []


def test_an_unknown_interpreter_never_leaves_this_machine(
    farm: FakeFarm, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["release", "demmo", "--farm", URL]) == 11

    assert "unknown interpreter 'demmo'" in message(capsys)
    assert farm.asked_for == []


@pytest.mark.parametrize("option", ["--cancel", "--detach", "--again", "--request=x", "--json"])
def test_options_of_a_farm_do_not_begin_work_here(
    capsys: pytest.CaptureFixture[str], option: str
) -> None:
    assert main(["release", "demo", option]) == 10

    assert "says nothing without --farm URL" in message(capsys)


@pytest.mark.parametrize("url", ["farm.test", "ftp://farm.test", "https://me:pw@farm.test"])
def test_what_is_no_address_is_an_error_of_the_command_line(url: str) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["status", "--farm", url])

    assert caught.value.code == 2


def test_a_dry_run_prints_what_would_be_submitted(
    farm: FakeFarm, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*SELECTED, "--dry-run", "--interpreter-version", "1.0.1"]) == 0

    submission = json.loads(capsys.readouterr().out)
    assert (submission["request"], submission["version"]) == ("mine", "1.0.1")
    assert farm.asked_for == []


# --- logging in ---------------------------------------------------------------------------------


def test_no_password_goes_over_http_to_another_machine(
    farm: FakeFarm, capsys: pytest.CaptureFixture[str]
) -> None:
    plain = ["http://farm.test" if item == URL else item for item in SELECTED]

    assert main(plain) == 81

    assert "--farm-insecure" in message(capsys)
    assert farm.asked_for == []


def test_who_insists_sends_it_all_the_same(farm: FakeFarm) -> None:
    plain = ["http://farm.test" if item == URL else item for item in SELECTED]

    assert main([*plain, "--farm-insecure", "--detach"]) == 0

    assert farm.asked_for[0] == "login admin secret"


def test_a_password_file_goes_before_the_environment(farm: FakeFarm, tmp_path: Path) -> None:
    path = tmp_path / "password"
    path.touch(mode=0o600)
    path.write_text("of the file\n")

    options = ("--farm-password-file", str(path), "--farm-user", "ci", "--detach")
    assert main([*SELECTED, *options]) == 0

    assert farm.asked_for[0] == "login ci of the file"


def test_a_password_file_that_others_can_read_is_refused(
    farm: FakeFarm, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "password"
    path.write_text("of the file\n")
    path.chmod(0o644)

    assert main([*SELECTED, "--farm-password-file", str(path), "--detach"]) == 10

    assert "others can read this secret" in message(capsys)
    assert farm.asked_for == []


def test_a_password_file_that_is_not_there_is_told(
    farm: FakeFarm, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*SELECTED, "--farm-password-file", "/nowhere"]) == 10

    assert "/nowhere" in message(capsys)
    assert farm.asked_for == []


@pytest.mark.parametrize(("terminal", "status"), [(True, 0), (False, 81)])
def test_a_password_is_asked_for_on_a_terminal_only(
    farm: FakeFarm, monkeypatch: pytest.MonkeyPatch, *, terminal: bool, status: int
) -> None:
    monkeypatch.delenv("RPP_FARM_PASSWORD")
    monkeypatch.setattr("sys.stdin.isatty", lambda: terminal)
    monkeypatch.setattr(getpass, "getpass", lambda _prompt: "typed")

    assert main([*SELECTED, "--detach"]) == status

    assert ("login admin typed" in farm.asked_for) == terminal


# --- runs ---------------------------------------------------------------------------------------


def test_a_submission_that_is_not_waited_for_says_how_to_follow_it(
    farm: FakeFarm, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*SELECTED, "--detach"]) == 0

    assert f"status --farm {URL} mine --follow" in message(capsys)
    assert [asked for asked in farm.asked_for if asked.startswith("submit")] != []


def test_what_was_made_is_shown_with_its_digests(
    farm: FakeFarm, capsys: pytest.CaptureFixture[str]
) -> None:
    run_on(farm)

    status = main([*SELECTED, "--json"])

    captured = capsys.readouterr()
    (file,) = make_collected().releases[0].files
    assert status == 0
    assert "was made today: nothing is built again" in captured.err
    assert f"{file.filename}  7     {file.sha256}" in captured.err
    assert json.loads(captured.out) == make_collected().model_dump(mode="json")


def test_a_run_with_failed_jobs_ends_with_status_3(
    farm: FakeFarm, capsys: pytest.CaptureFixture[str]
) -> None:
    run_on(farm, results=2)

    assert main(["status", "--farm", URL, "mine", "--follow"]) == 3

    assert "mine (r1-1800000001) has not ended well" in message(capsys)


def test_an_interrupt_leaves_the_run_and_says_how_to_rejoin_it(
    farm: FakeFarm, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(follow.Reader, "read", interrupt)

    assert main(list(SELECTED)) == 130

    told = message(capsys)
    assert f"status --farm {URL} mine --follow" in told
    assert not any(asked.startswith(("stop", "cancel")) for asked in farm.asked_for)


def test_a_cancelled_run_is_told(farm: FakeFarm, capsys: pytest.CaptureFixture[str]) -> None:
    name = json.dumps({"request": "mine", "channel": "release"})
    farm.add(make_request(1, properties=said(submission=name)))
    farm.on_stop = lambda number: farm.add(make_request(number, **ended(6)))

    assert main([*SELECTED, "--cancel"]) == 0

    assert "mine (r1-1800000001): stopped" in message(capsys)
    assert not any(asked.startswith("submit") for asked in farm.asked_for)


def test_there_may_be_nothing_to_cancel(farm: FakeFarm, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*SELECTED, "--cancel"]) == 0

    assert "no such run is under way" in message(capsys)
    assert not any(asked.startswith("submit") for asked in farm.asked_for)


# --- status -------------------------------------------------------------------------------------


def test_everything_that_a_farm_does_is_shown_to_who_is_not_logged_in(
    farm: FakeFarm, capsys: pytest.CaptureFixture[str]
) -> None:
    run_on(farm)
    farm.add(make_request(9))

    assert main(["status", "--farm", URL]) == 0

    told = message(capsys)
    assert "worker-1 ready" in told
    assert "9 release demo r9-1800000009 waiting" in told
    assert "1 release mine r1-1800000001 done" in told
    assert not any(asked.startswith("login") for asked in farm.asked_for)


def test_a_check_fails_where_there_is_a_problem(farm: FakeFarm) -> None:
    farm.add(make_request(9))  # no worker is configured for it

    assert main(["status", "--farm", URL, "--check"]) == 1
    assert main(["status", "--farm", URL]) == 0


def test_a_status_is_there_for_programs(farm: FakeFarm, capsys: pytest.CaptureFixture[str]) -> None:
    run_on(farm)

    main(["status", "--farm", URL, "--json"])
    found = json.loads(capsys.readouterr().out)
    main(["status", "--farm", URL, "mine", "--json"])
    rows = json.loads(capsys.readouterr().out)

    assert [worker["name"] for worker in found["workers"]][:1] == ["coordinator"]
    assert [(row["job"], row["state"]) for row in rows][1] == (JOB, "done")


def test_without_a_name_there_may_be_no_run_to_follow(
    farm: FakeFarm, capsys: pytest.CaptureFixture[str]
) -> None:
    run_on(farm)

    assert main(["status", "--farm", URL, "--follow"]) == 0

    assert "nothing is under way" in message(capsys)


def test_an_unknown_run_is_told_with_those_there_are(
    farm: FakeFarm, capsys: pytest.CaptureFixture[str]
) -> None:
    run_on(farm)

    assert main(["status", "--farm", URL, "mien"]) == 11

    assert "Did you mean 'mine'?" in message(capsys)
