"""The plan decides every job, name and URL, purely."""

import re
from collections.abc import Mapping
from datetime import date
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import ConfigError, PlatformError, UnknownNameError
from pipeline.model.artifacts import ArtifactKind
from pipeline.model.base import canonical_json, pretty_json
from pipeline.model.configs import Channel, Config, ImageBootstrap
from pipeline.model.debian import AptConfig
from pipeline.model.naming import check_key
from pipeline.model.platforms import Mode, Placement, Worker
from pipeline.model.versions import InterpreterVersion
from pipeline.plan import (
    Job,
    Plan,
    Selection,
    Workers,
    archive_names,
    make_plan,
    selected_interpreters,
    with_jobs,
)
from tests.conftest import CheckGolden
from tests.factories import (
    changed,
    make_config,
    make_git_revision,
    make_interpreter,
    make_job,
    make_plan_for,
    make_platform,
    make_pypy_job,
    make_pypy_plan,
    make_resolved,
    make_revision,
    make_selection,
    workers_on,
)

BASE = "http://127.0.0.1:8377"
ANY_WORKER: Mapping[str, str] = {"linux-x86_64": "x86_64", "linux-aarch64": "aarch64"}


def two_interpreters() -> Config:
    """The shipped configuration with a second interpreter, ``demo2``, for x86_64 only."""
    second = make_interpreter(interpreter="demo2", platforms=("linux-x86_64",))
    config = make_config()
    return changed(config, interpreters={**config.interpreters, "demo2": second})


def with_channel(channel: Channel, **overrides: object) -> Config:
    """The shipped configuration with another *channel*."""
    config = make_config()
    table = changed(getattr(config.channels, channel), **overrides)
    return changed(config, channels=changed(config.channels, **{channel: table}))


def test_the_plan_of_the_demo_is_as_it_was_looked_at(check_golden: CheckGolden) -> None:
    plan = make_plan_for()

    check_golden("plan-demo.json", pretty_json(plan))


def test_a_plan_is_read_as_it_was_written() -> None:
    plan = make_plan_for()

    assert Plan.model_validate_json(canonical_json(plan)) == plan


def test_a_release_announces_exactly_its_files_with_their_addresses() -> None:
    (release,) = make_plan_for().releases

    place = f"{BASE}/demo/demo-v1.0.0"
    assert release.urls == {
        "demo-v1.0.0-linux64.tar.gz": f"{place}/demo-v1.0.0-linux64.tar.gz",
        "demo-v1.0.0-linux64.tar.zst": f"{place}/demo-v1.0.0-linux64.tar.zst",
        "demo-v1.0.0-provenance.json": f"{place}/demo-v1.0.0-provenance.json",
        "demo-v1.0.0-manifest.json": f"{place}/demo-v1.0.0-manifest.json",
        "SHA256SUMS": f"{place}/SHA256SUMS",
        "SHA256SUMS.asc": f"{place}/SHA256SUMS.asc",
        "KEY.asc": f"{place}/KEY.asc",
    }


@pytest.mark.parametrize("channel", ["release", "nightly"])
def test_every_announced_address_is_a_key_of_the_store(channel: str) -> None:
    (release,) = make_plan_for(channel=channel).releases

    keys = [url.removeprefix(f"{BASE}/") for url in release.urls.values()]

    assert [check_key(key) for key in keys] == keys
    assert len(set(keys)) == len(keys)


def test_a_job_is_named_by_interpreter_and_platform() -> None:
    (job,) = make_plan_for(platforms=("linux-aarch64",), worker_machine="aarch64").jobs

    assert job.identifier == "demo-linux-aarch64"
    assert job.stem == "demo-v1.0.0-aarch64"
    assert job.mode is Mode.NATIVE
    assert job.platform == make_platform("linux-aarch64")


@pytest.mark.parametrize(
    ("platform", "jit"), [("linux-x86_64", True), ("linux-aarch64", False)], ids=str
)
def test_a_job_has_a_jit_where_it_is_not_left_out_on_purpose(platform: str, *, jit: bool) -> None:
    plan = make_plan_for(platforms=(platform,), worker_machine=ANY_WORKER[platform])

    assert [job.jit for job in plan.jobs] == [jit]


def test_a_job_has_no_jit_if_the_interpreter_wants_none() -> None:
    interpreter = make_interpreter()
    without = changed(interpreter, translation=changed(interpreter.translation, jit=False))

    plan = make_plan_for(changed(make_config(), interpreters={"demo": without}))

    assert [job.jit for job in plan.jobs] == [False]


@pytest.mark.parametrize(
    ("platform", "worker", "mode", "host"),
    [
        ("linux-x86_64", "x86_64", Mode.NATIVE, "linux-x86_64"),
        ("linux-aarch64", "x86_64", Mode.CROSS, "linux-x86_64"),
        ("linux-armhf", "x86_64", Mode.CROSS, "linux-i686"),
        ("linux-i686", "x86_64", Mode.NATIVE, "linux-i686"),
        ("linux-s390x", "x86_64", Mode.EMULATED, "linux-s390x"),
        ("linux-musl-x86_64", "x86_64", Mode.CROSS, "linux-x86_64"),
        ("linux-x86_64", "aarch64", Mode.EMULATED, "linux-x86_64"),
    ],
)
def test_a_platform_is_translated_in_the_best_way_that_the_worker_can(
    platform: str, worker: str, mode: Mode, host: str
) -> None:
    (job,) = make_plan_for(platforms=(platform,), worker_machine=worker).jobs

    assert (job.mode, job.host.identifier) == (mode, host)


def test_a_mode_may_be_asked_for() -> None:
    (job,) = make_plan_for(platforms=("linux-aarch64",), mode=Mode.EMULATED).jobs

    assert job.mode is Mode.EMULATED
    assert job.placement == Placement(host=make_platform("linux-aarch64"))


@pytest.mark.parametrize(
    ("platform", "worker", "mode", "expected"),
    [
        ("linux-riscv64", "aarch64", None, "--engine linux-riscv64=ssh://HOST"),
        ("linux-s390x", "x86_64", Mode.CROSS, "There it is possible in mode emulated."),
        ("linux-x86_64", "x86_64", Mode.CROSS, "possible in mode native."),
        ("macos-arm64", "x86_64", None, "Run the pipeline on darwin, on arm64."),
    ],
)
def test_a_platform_that_the_worker_cannot_do_is_refused_with_a_remedy(
    platform: str, worker: str, mode: Mode | None, expected: str
) -> None:
    config = make_config()
    everywhere = make_interpreter(platforms=tuple(config.platforms))
    config = changed(config, interpreters={"demo": everywhere})

    with pytest.raises(PlatformError) as caught:
        make_plan_for(config, platforms=(platform,), worker_machine=worker, mode=mode)

    assert str(caught.value).startswith(f"{platform} cannot be translated")
    assert expected in str(caught.value)


def test_a_platforms_work_goes_to_the_machine_that_was_named_for_it() -> None:
    aarch64 = Worker(os="linux", machine="aarch64")
    workers = Workers(
        here=Worker(os="linux", machine="x86_64"), elsewhere={"linux-aarch64": aarch64}
    )
    selection = make_selection(interpreters=("demo",), platforms=("linux-x86_64", "linux-aarch64"))

    plan = make_plan(make_config(), selection, {"demo": make_resolved()}, workers)

    assert [job.mode for job in plan.jobs] == [Mode.NATIVE, Mode.NATIVE]


def test_a_job_is_verified_where_there_is_an_environment_for_its_platform() -> None:
    names = ("clean", "clean-unrelated", "compiler")
    line = make_interpreter()
    line = changed(line, verify=changed(line.verify, environments=names))
    config = changed(make_config(), interpreters={"demo": line})

    plan = make_plan_for(config, platforms=("linux-x86_64", "linux-riscv64"))

    assert [job.verified_in for job in plan.jobs] == [names, ("clean", "compiler")]


def planned(platform: str, config: Config | None = None, **selection: Any) -> Job:
    """Return the demo's job for one platform, planned on x86_64."""
    (job,) = make_plan_for(config, platforms=(platform,), **selection).jobs
    return job


def with_translation(**overrides: Any) -> Config:
    """Return the shipped configuration with another translation of the demo."""
    demo = make_interpreter()
    demo = changed(demo, translation=changed(demo.translation, **overrides))
    return changed(make_config(), interpreters={"demo": demo})


def test_without_a_cross_environment_an_interpreter_is_emulated() -> None:
    config = with_translation(cross_environment=None)

    assert planned("linux-aarch64", config).mode is Mode.EMULATED
    with pytest.raises(PlatformError, match=r"possible in mode emulated\.$"):
        planned("linux-aarch64", config, mode=Mode.CROSS)


@pytest.mark.parametrize(
    ("platform", "mode", "host", "target"),
    [
        ("linux-x86_64", Mode.NATIVE, "linux-x86_64", None),
        ("linux-aarch64", Mode.CROSS, "linux-x86_64", "linux-aarch64"),
        ("linux-armhf", Mode.CROSS, "linux-i686", "linux-armhf"),
        ("linux-aarch64", Mode.EMULATED, "linux-aarch64", None),
    ],
)
def test_only_a_cross_compiler_runs_elsewhere_than_what_it_makes(
    platform: str, mode: Mode, host: str, target: str | None
) -> None:
    placement = planned(platform, mode=mode).placement

    assert placement == Placement(
        host=make_platform(host), target=make_platform(target) if target is not None else None
    )


@pytest.mark.parametrize(
    ("platform", "mode", "prefix"),
    [
        ("linux-x86_64", Mode.NATIVE, ""),
        ("linux-aarch64", Mode.CROSS, "aarch64-linux-gnu-"),
        ("linux-ppc64le", Mode.CROSS, "powerpc64le-linux-gnu-"),
        ("linux-aarch64", Mode.EMULATED, ""),
    ],
)
def test_tools_have_the_targets_name_in_a_cross_translation_only(
    platform: str, mode: Mode, prefix: str
) -> None:
    assert planned(platform, mode=mode).tool_prefix == prefix


@pytest.mark.parametrize(
    ("platform", "mode", "factors"),
    [
        pytest.param("linux-x86_64", Mode.NATIVE, (1, 1), id="native"),
        pytest.param("linux-aarch64", Mode.CROSS, (1, 20), id="the-toolchain-is-native"),
        pytest.param("linux-musl-x86_64", Mode.CROSS, (1, 1), id="the-same-processor"),
        pytest.param("linux-armhf", Mode.CROSS, (1, 20), id="a-host-of-32-bits"),
        pytest.param("linux-aarch64", Mode.EMULATED, (20, 20), id="emulated"),
    ],
)
def test_what_an_emulator_runs_may_take_longer(
    platform: str, mode: Mode, factors: tuple[int, int]
) -> None:
    job = planned(platform, with_translation(emulation_factor=20), mode=mode)

    assert (job.time_factor, job.run_factor) == factors


OWN = {"environment": "compiler", "bootstrap": {"kind": "image", "argv": ["python2.7"]}}


@pytest.mark.parametrize(
    ("platform", "mode", "environment", "program"),
    [
        pytest.param("linux-x86_64", Mode.NATIVE, "translate", "pypy", id="usual"),
        pytest.param("linux-aarch64", Mode.CROSS, "cross", "python2.7", id="cross"),
        pytest.param("linux-aarch64", Mode.EMULATED, "compiler", "python2.7", id="its-own"),
    ],
)
def test_a_platform_may_have_an_environment_and_a_bootstrap_interpreter_of_its_own(
    platform: str, mode: Mode, environment: str, program: str
) -> None:
    config = with_translation(platforms={"linux-aarch64": OWN})

    job = planned(platform, config, mode=mode)

    assert job.environment == environment
    assert isinstance(job.bootstrap_config, ImageBootstrap)
    assert job.bootstrap_config.argv == (program,)


def test_a_platform_may_have_only_one_of_them_of_its_own() -> None:
    own = {"environment": "compiler"}

    job = planned("linux-s390x", with_translation(platforms={"linux-s390x": own}))

    assert job.environment == "compiler"
    assert job.bootstrap_config == make_interpreter().translation.bootstrap


def test_all_platforms_are_those_of_the_interpreter() -> None:
    config = make_config()
    second = make_interpreter(interpreter="demo2", platforms=("linux-i686", "linux-aarch64"))
    demo = make_interpreter(platforms=("linux-x86_64", "linux-riscv64"))
    config = changed(config, interpreters={"demo": demo, "demo2": second})

    plan = make_plan_for(config, interpreters=("demo", "demo2"), platforms=("all",))

    assert [job.identifier for job in plan.jobs] == [
        *("demo-linux-x86_64", "demo-linux-riscv64"),
        *("demo2-linux-i686", "demo2-linux-aarch64"),
    ]


def test_a_name_beside_all_is_still_checked() -> None:
    with pytest.raises(UnknownNameError, match="linux-i868"):
        make_plan_for(platforms=("all", "linux-i868"))


def test_a_channel_may_have_all_platforms() -> None:
    demo = make_interpreter(platforms=("linux-x86_64", "linux-aarch64"))
    config = changed(with_channel("release", platforms="all"), interpreters={"demo": demo})

    plan = make_plan_for(config, platforms=())

    assert [job.platform.identifier for job in plan.jobs] == ["linux-x86_64", "linux-aarch64"]


def test_all_platforms_are_refused_if_one_of_them_cannot_be_done() -> None:
    with pytest.raises(PlatformError, match=r"^linux-riscv64 cannot be translated"):
        make_plan_for(platforms=("all",), worker_machine="aarch64")


@pytest.mark.parametrize(
    ("system", "machine", "expected"),
    [
        ("darwin", "arm64", "macos-arm64"),
        ("windows", "AMD64", "windows-x86_64"),
        ("linux", "i686", "linux-i686"),
        ("linux", "s390x", "linux-s390x"),
    ],
)
def test_a_workers_own_platform_is_of_its_system_and_machine(
    system: str, machine: str, expected: str
) -> None:
    """Other platforms whose programs it runs too, or C libraries, are not its own."""
    demo = make_interpreter(platforms=tuple(make_config().platforms))
    config = changed(make_config(), interpreters={"demo": demo})
    workers = Workers(here=Worker(os=system, machine=machine))

    plan = make_plan(
        config,
        make_selection(interpreters=("demo",), platforms=()),
        {"demo": make_resolved()},
        workers,
    )

    assert [job.platform.identifier for job in plan.jobs] == [expected]


def test_only_the_named_platforms_work_goes_elsewhere() -> None:
    here, there = Worker(os="darwin", machine="arm64"), Worker(os="linux", machine="s390x")
    workers = Workers(here=here, elsewhere={"linux-s390x": there})

    assert workers.of("linux-s390x") == there
    assert workers.of("linux-aarch64") == here


def test_a_machine_elsewhere_is_held_to_what_it_can_do() -> None:
    aarch64 = Worker(os="linux", machine="aarch64")
    workers = Workers(
        here=Worker(os="linux", machine="x86_64"), elsewhere={"linux-riscv64": aarch64}
    )
    selection = make_selection(interpreters=("demo",), platforms=("linux-riscv64",))

    with pytest.raises(PlatformError, match=r"on this worker \(linux, aarch64\)"):
        make_plan(make_config(), selection, {"demo": make_resolved()}, workers)


@pytest.mark.parametrize("worker", ["x86_64", "aarch64"])
def test_without_a_choice_the_workers_own_platform_is_built(worker: str) -> None:
    plan = make_plan_for(platforms=(), worker_machine=worker)

    assert [job.platform.machine for job in plan.jobs] == [worker]


def test_a_worker_of_no_platform_is_refused_with_those_that_are_known() -> None:
    with pytest.raises(PlatformError) as caught:
        make_plan_for(platforms=(), worker_machine="sparc64")

    message = str(caught.value)
    assert message.startswith("channels.toml: key release.platforms is 'worker'")
    assert "'sparc64'" in message
    assert "x86_64, aarch64" in message


def test_a_channel_may_name_its_platforms() -> None:
    config = with_channel("release", platforms=("linux-aarch64",))

    plan = make_plan_for(config, platforms=(), worker_machine="aarch64")

    assert [job.platform.identifier for job in plan.jobs] == ["linux-aarch64"]


def test_an_unknown_platform_is_answered_with_those_that_exist() -> None:
    with pytest.raises(UnknownNameError) as caught:
        make_plan_for(platforms=("linux-x86-64",))

    assert str(caught.value) == (
        "command line: unknown platform 'linux-x86-64'. Did you mean 'linux-x86_64'? "
        f"Allowed: {', '.join(sorted(make_config().platforms))}."
    )


def test_a_channels_unknown_platform_is_not_blamed_on_the_command_line() -> None:
    config = with_channel("release", platforms=("linux-x86-64",))

    with pytest.raises(UnknownNameError) as caught:
        make_plan_for(config, platforms=())

    assert str(caught.value).startswith("channels.toml: key release.platforms")


def test_a_platform_that_the_interpreter_does_not_have_is_refused() -> None:
    interpreter = make_interpreter(platforms=("linux-x86_64",))
    config = changed(make_config(), interpreters={"demo": interpreter})

    with pytest.raises(UnknownNameError) as caught:
        make_plan_for(config, platforms=("linux-aarch64",), worker_machine="aarch64")

    assert str(caught.value).startswith(
        "demo.toml: key platforms: unknown platform 'linux-aarch64'."
    )


def test_an_unknown_interpreter_is_answered_with_those_that_exist() -> None:
    with pytest.raises(UnknownNameError) as caught:
        make_plan_for(interpreters=("dmeo",))

    allowed = ", ".join(sorted(make_config().interpreters))
    assert str(caught.value) == (
        f"command line: unknown interpreter 'dmeo'. Did you mean 'demo'? Allowed: {allowed}."
    )


def test_names_given_twice_are_built_once() -> None:
    plan = make_plan_for(interpreters=("demo", "demo"), platforms=("linux-x86_64", "linux-x86_64"))

    assert [job.identifier for job in plan.jobs] == ["demo-linux-x86_64"]


def test_interpreters_come_in_the_order_in_which_they_were_asked_for() -> None:
    plan = make_plan_for(two_interpreters(), interpreters=("demo2", "demo"))

    assert [release.release for release in plan.releases] == ["demo2-v1.0.0", "demo-v1.0.0"]
    assert [job.identifier for job in plan.jobs] == ["demo2-linux-x86_64", "demo-linux-x86_64"]


def test_the_channel_decides_which_interpreters_when_none_is_named() -> None:
    config = two_interpreters()
    nightly = changed(config.channels.nightly, interpreters=("demo2",))
    config = changed(config, channels=changed(config.channels, nightly=nightly))

    chosen = selected_interpreters(config, Selection(channel="nightly"))

    assert [interpreter.interpreter for interpreter in chosen] == ["demo2"]


def identified(*identifiers: tuple[str, str], **selection: Any) -> list[str]:
    """Return which jobs are planned for single *identifiers*, of two interpreters."""
    second = make_interpreter(interpreter="demo2")
    config = make_config()
    config = changed(config, interpreters={**config.interpreters, "demo2": second})
    plan = make_plan_for(config, identified=identifiers, **{"platforms": (), **selection})
    return [job.identifier for job in plan.jobs]


def test_a_job_that_is_named_is_the_only_one() -> None:
    assert identified(("demo2", "linux-x86_64")) == ["demo2-linux-x86_64"]


def test_jobs_that_are_named_are_not_multiplied() -> None:
    """One interpreter's platform is not another's."""
    jobs = [("demo2", "linux-x86_64"), ("demo", "linux-x86_64"), ("demo", "linux-x86_64")]

    assert identified(*jobs) == ["demo2-linux-x86_64", "demo-linux-x86_64"]


def test_a_named_job_comes_behind_named_interpreters() -> None:
    jobs = identified(("demo", "linux-x86_64"), interpreters=("demo2",))

    assert jobs == ["demo2-linux-x86_64", "demo-linux-x86_64"]


def test_a_platform_for_named_interpreters_is_not_one_for_named_jobs() -> None:
    other = make_platform(identifier="linux-x86_64-v3", release_suffix="linux64v3")
    config = make_config()
    config = changed(config, platforms={**config.platforms, "linux-x86_64-v3": other})
    rows = ("linux-x86_64", "linux-x86_64-v3")
    lines = [make_interpreter(interpreter=name, platforms=rows) for name in ("demo", "demo2")]
    config = changed(config, interpreters={line.interpreter: line for line in lines})

    plan = make_plan_for(
        config,
        interpreters=("demo2",),
        platforms=("linux-x86_64-v3",),
        identified=(("demo", "linux-x86_64"),),
    )

    jobs = [job.identifier for job in plan.jobs]
    assert jobs == ["demo2-linux-x86_64-v3", "demo-linux-x86_64"]


def test_a_named_job_of_another_machine_is_refused() -> None:
    refused = r"^linux-riscv64 cannot be translated in any way on this worker \(linux, aarch64\)"

    with pytest.raises(PlatformError, match=refused):
        identified(("demo", "linux-riscv64"), worker_machine="aarch64")


def test_a_version_for_the_one_interpreter_of_a_named_job_is_fine() -> None:
    jobs = identified(("demo", "linux-x86_64"), version=InterpreterVersion.parse("1.1.0"))

    assert jobs == ["demo-linux-x86_64"]


def test_a_version_from_the_command_line_replaces_the_configured_one() -> None:
    version = InterpreterVersion.parse("1.1.0rc1")

    (release,) = make_plan_for(version=version).releases

    assert release.release == "demo-v1.1.0rc1"
    assert release.version == version
    assert [job.version for job in release.jobs] == [version]
    assert "demo-v1.1.0rc1-linux64.tar.gz" in release.urls


def test_one_version_for_two_interpreters_is_refused() -> None:
    with pytest.raises(ConfigError, match=re.escape("1.1.0 was given for several interpreters")):
        make_plan_for(
            two_interpreters(),
            interpreters=("demo", "demo2"),
            version=InterpreterVersion.parse("1.1.0"),
        )


def test_one_version_for_one_interpreter_named_twice_is_fine() -> None:
    plan = make_plan_for(interpreters=("demo", "demo"), version=InterpreterVersion.parse("1.1.0"))

    assert [release.release for release in plan.releases] == ["demo-v1.1.0"]


def test_a_nightly_is_named_by_its_day_and_revision_its_archives_by_the_revision() -> None:
    revision = make_revision(number=20261122, revision="abcdef0123456789" * 4)

    (release,) = make_plan_for(
        revision=revision, channel="nightly", day=date(2026, 11, 25)
    ).releases

    assert release.release == "demo-nightly-2026-11-25-20261122-abcdef012345"
    assert [job.stem for job in release.jobs] == ["demo-nightly-20261122-abcdef012345-linux64"]
    assert str(release.version) == "1.0.0"
    assert release.channel == "nightly"


def test_without_a_day_a_nightly_has_that_of_its_source() -> None:
    revision = make_revision(epoch=1795219200)

    (release,) = make_plan_for(revision=revision, channel="nightly").releases

    assert release.release.startswith("demo-nightly-2026-11-21-")


def test_the_same_revision_may_be_a_nightly_of_two_days() -> None:
    """Made by another compiler, for one; the archives' names do not change."""
    first, second = (
        make_plan_for(channel="nightly", day=date(2026, 11, day)).releases[0] for day in (24, 25)
    )

    assert first.release != second.release
    assert [job.stem for job in first.jobs] == [job.stem for job in second.jobs]


def test_packages_of_two_days_have_two_versions() -> None:
    """Apt must never see one version with two packages; the release's day decides."""
    config = with_channel("nightly", apt=AptConfig(suites=("bookworm",)))
    revision = make_revision(number=77, revision="abcdef0123456789" * 4)

    names = [
        make_plan_for(config, revision, channel="nightly", day=date(2026, 11, day))
        .jobs[0]
        .debian_files
        for day in (24, 25)
    ]

    assert names == [
        (f"rpython-demo_1.0.0.nightly77.202611{day}.abcdef012345-1.deb12_amd64.deb",)
        for day in (24, 25)
    ]


@pytest.mark.parametrize("staged", [True, False])
def test_a_release_may_be_staged_under_its_final_names(*, staged: bool) -> None:
    (release,) = make_plan_for(staged=staged).releases

    assert release.staged is staged
    assert release.urls == make_plan_for().releases[0].urls


# --- only some of the jobs ------------------------------------------------------------------


def test_a_release_with_some_of_its_jobs_has_the_files_that_these_make() -> None:
    two = ("linux-x86_64", "linux-i686")
    (whole,) = make_plan_for(platforms=two, channel="nightly").releases
    (alone,) = make_plan_for(platforms=two[:1], channel="nightly").releases

    smaller = with_jobs(whole, {"demo-linux-x86_64"})

    assert smaller == alone
    assert whole.urls.items() > smaller.urls.items()


def test_a_release_with_all_of_its_jobs_is_the_same() -> None:
    (release,) = make_plan_for(platforms=("linux-x86_64", "linux-i686")).releases

    assert with_jobs(release, {job.identifier for job in release.jobs}) == release


def test_the_source_archive_stays_with_whichever_job() -> None:
    release = make_pypy_plan()

    assert with_jobs(release, {job.identifier for job in release.jobs}).urls == release.urls
    assert "pypy3.11-v7.3.23-src.tar.gz" in release.urls


def test_two_revisions_never_share_a_nightlys_name() -> None:
    revisions = [make_revision(), make_revision(revision="f" * 64), make_revision(number=20261122)]

    plans = [make_plan_for(revision=revision, channel="nightly") for revision in revisions]

    assert len({plan.releases[0].release for plan in plans}) == 3


def test_a_release_of_pypy_announces_its_source_and_its_debug_symbols() -> None:
    release = make_pypy_plan()

    assert set(release.urls) == {
        "pypy3.11-v7.3.23-linux64.tar.gz",
        "pypy3.11-v7.3.23-linux64.tar.zst",
        "pypy3.11-v7.3.23-linux64-debug.tar.zst",
        "pypy3.11-v7.3.23-src.tar.gz",
        "pypy3.11-v7.3.23-provenance.json",
        "pypy3.11-v7.3.23-manifest.json",
        "SHA256SUMS",
        "SHA256SUMS.asc",
        "KEY.asc",
    }


@pytest.mark.parametrize("kind", ["directory", "checkout"])
def test_a_source_that_is_no_commit_is_not_released(kind: str) -> None:
    plan = make_plan_for(revision=make_revision(kind=kind), channel="nightly")

    assert [job.source_archive for job in plan.jobs] == [None]


def test_a_source_archive_is_announced_once_for_all_platforms() -> None:
    other = make_platform(identifier="linux-x86_64-v3", release_suffix="linux64v3")
    config = make_config()
    config = changed(config, platforms={**config.platforms, "linux-x86_64-v3": other})
    rows = ("linux-x86_64", "linux-x86_64-v3")
    demo = make_interpreter(platforms=rows)
    config = changed(config, interpreters={"demo": demo})

    (release,) = make_plan_for(config, make_git_revision(), platforms=rows).releases

    assert [job.source_archive for job in release.jobs] == ["demo-v1.0.0-src.tar.gz"] * 2
    assert len(release.urls) == 2 * 2 + 1 + 5


def test_a_plain_package_has_no_debug_symbols() -> None:
    assert archive_names(make_job()) == {
        ArtifactKind.ARCHIVE_GZ: "demo-v1.0.0-linux64.tar.gz",
        ArtifactKind.ARCHIVE_ZST: "demo-v1.0.0-linux64.tar.zst",
    }


def test_pypy_has_debug_symbols_as_an_archive_of_their_own() -> None:
    assert archive_names(make_pypy_job()) == {
        ArtifactKind.ARCHIVE_GZ: "pypy3.11-v7.3.23-linux64.tar.gz",
        ArtifactKind.ARCHIVE_ZST: "pypy3.11-v7.3.23-linux64.tar.zst",
        ArtifactKind.DEBUG_ZST: "pypy3.11-v7.3.23-linux64-debug.tar.zst",
    }


def test_versions_are_those_of_the_source() -> None:
    sources = {"demo": make_resolved(interpreter_version="1.1.0rc2", language_version="1.0.7")}

    plan = make_plan(
        make_config(), make_selection(interpreters=("demo",)), sources, workers_on("x86_64")
    )

    (release,) = plan.releases
    assert (release.release, release.language_version) == ("demo-v1.1.0rc2", "1.0.7")
    assert [(str(job.version), job.language_version) for job in release.jobs] == [
        ("1.1.0rc2", "1.0.7")
    ]


def test_a_nightly_of_pypy_is_named_by_the_number_of_its_commit() -> None:
    revision = make_git_revision(number=187671, branch="py3.11", tag=None)

    (release,) = make_plan_for(
        revision=revision, channel="nightly", interpreters=("pypy3.11",)
    ).releases

    assert release.release == "pypy3.11-nightly-2026-05-26-187671-194f9f44b505"
    assert "pypy-c-jit-187671-194f9f44b505-src.tar.gz" in release.urls
    assert "pypy-c-jit-187671-194f9f44b505-linux64.tar.gz" in release.urls


def test_a_local_source_is_taken_along() -> None:
    (job,) = make_plan_for(channel="nightly", source="/home/me/pypy").jobs

    assert job.source_directory == "/home/me/pypy"


def test_one_source_for_two_interpreters_is_refused() -> None:
    expected = "--source /home/me/pypy was given for several interpreters (demo, demo2)"

    with pytest.raises(ConfigError, match=re.escape(expected)):
        make_plan_for(two_interpreters(), interpreters=("demo", "demo2"), source="/home/me/pypy")


def test_addresses_are_below_the_channels_own_base() -> None:
    config = with_channel("nightly", base_url="https://nightly.example/files")

    (release,) = make_plan_for(config, channel="nightly").releases

    assert all(
        url.startswith("https://nightly.example/files/demo/") for url in release.urls.values()
    )


def test_each_interpreter_is_built_from_its_own_revision() -> None:
    sources = {
        name: make_resolved(revision=make_revision(number=number))
        for name, number in (("demo", 1), ("demo2", 2))
    }
    selection = make_selection(interpreters=("demo", "demo2"))

    plan = make_plan(two_interpreters(), selection, sources, workers_on("x86_64"))

    assert [job.revision.number for job in plan.jobs] == [1, 2]


@given(
    channel=st.sampled_from(["release", "nightly"]),
    worker=st.sampled_from(["x86_64", "aarch64"]),
    number=st.integers(min_value=0, max_value=10**9),
    interpreters=st.permutations(["demo", "demo2"]),
)
def test_equal_input_gives_an_equal_plan_and_stays_as_it_is(
    channel: Channel, worker: str, number: int, interpreters: list[str]
) -> None:
    config = make_config()
    other = make_interpreter(interpreter="demo2")
    config = changed(config, interpreters={**config.interpreters, "demo2": other})
    selection = Selection(channel=channel, interpreters=tuple(interpreters))
    resolved = make_resolved(revision=make_revision(number=number))
    sources = dict.fromkeys(interpreters, resolved)
    before = canonical_json([config, selection, sources])

    first, second = (make_plan(config, selection, sources, workers_on(worker)) for _ in range(2))

    assert canonical_json(first) == canonical_json(second)
    assert canonical_json([config, selection, sources]) == before
