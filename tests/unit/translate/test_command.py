"""What the toolchain is told, and what its output means."""

from pathlib import Path

import pytest

from pipeline.errors import TranslationError
from pipeline.model.configs import ImageBootstrap, ReleaseBootstrap
from pipeline.model.platforms import Mode
from pipeline.model.records import BootstrapRelease, CompilerCache
from pipeline.plan import Job
from pipeline.translate.command import (
    PHASES,
    bootstrap_command,
    cross_options,
    fixed_addresses,
    make_variables,
    parse_ccache,
    parse_resources,
    phase_of,
    phase_times,
    translation_command,
    translation_environment,
    translation_options,
    working_directory,
)
from tests.factories import (
    changed,
    make_artifact,
    make_config,
    make_interpreter,
    make_plan_for,
    make_platform,
    make_pypy_job,
)
from tests.fakes import (
    CCACHE_STATISTICS,
    DATA,
    MACHINE,
    RESOURCES,
    make_context,
    make_job,
    write_project,
)


def job_for(directory: Path, platform: str = "linux-x86_64", machine: str = MACHINE) -> Job:
    return make_job(make_context(write_project(directory)), platform, machine)


@pytest.fixture
def job(tmp_path: Path) -> Job:
    return job_for(tmp_path)


def configured(job: Job, **changes: object) -> Job:
    translation = job.interpreter.translation.model_copy(update=changes)
    interpreter = job.interpreter.model_copy(update={"translation": translation})
    return job.model_copy(update={"interpreter": interpreter})


def test_a_jit_is_asked_for_through_the_optimisation_level(job: Job) -> None:
    options = translation_options(job)

    assert options == ("--batch", "--gc=incminimark", "--opt=jit", "--lldebug", "--output=toy")


def test_a_machine_that_is_left_out_gets_no_jit(tmp_path: Path) -> None:
    job = job_for(tmp_path, "linux-aarch64", "aarch64")

    options = translation_options(job)

    assert options == ("--batch", "--gc=incminimark", "--opt=2", "--lldebug", "--output=toy")


def test_an_interpreter_without_a_jit_gets_none_anywhere(job: Job) -> None:
    options = translation_options(configured(job, jit=False))

    assert "--opt=2" in options


@pytest.mark.parametrize("jit", [True, False])
@pytest.mark.parametrize("gc", ["incminimark", "minimark", "boehm"])
def test_collector_and_level_are_always_named(gc: str, *, jit: bool, job: Job) -> None:
    """RPython reads a bare --jit as --jit-backend and swallows the next word."""
    command = translation_command(configured(job, gc=gc, jit=jit))

    assert f"--gc={gc}" in command
    assert [word for word in command if word.startswith(("--opt", "-O"))] == [
        "--opt=jit" if jit else "--opt=2"
    ]
    assert "--batch" in command
    assert "--jit" not in command


def test_the_whole_command_in_its_order(job: Job) -> None:
    command = translation_command(job)

    assert command == (
        *("pypy", "-E", "/build/in/run_translation.py", "/build/source", "/build/out"),
        *("toy", "--"),
        *("setarch", "x86_64", "--addr-no-randomize"),
        *("pypy", "-S", "-m", "rpython"),
        *("--batch", "--gc=incminimark", "--opt=jit", "--lldebug", "--output=toy"),
        "--make-jobs=1",
        *("target.py", "--fast"),
    )


def test_the_whole_command_of_pypy() -> None:
    job = configured(make_pypy_job(), products=("pypy/goal/pypy3.11-c", "include"))

    command = translation_command(job)

    assert command == (
        *("pypy", "-E", "/build/in/run_translation.py", "/build/source", "/build/out"),
        *("pypy/goal/pypy3.11-c", "include", "--"),
        *("setarch", "x86_64", "--addr-no-randomize"),
        *("pypy", "-m", "rpython"),
        *("--batch", "--gc=incminimark", "--opt=jit", "--compile"),
        *("--make-jobs=1", "targetpypystandalone.py"),
    )


def test_a_target_that_names_its_executable_itself_is_told_no_name(job: Job) -> None:
    options = translation_options(configured(job, output=None))

    assert options == ("--batch", "--gc=incminimark", "--opt=jit", "--lldebug")


@pytest.mark.parametrize(
    ("directory", "expected"),
    [(None, "/build/source"), ("pypy/goal", "/build/source/pypy/goal")],
    ids=["top", "below"],
)
def test_the_toolchain_runs_where_the_target_wants_it(
    directory: str | None, expected: str, job: Job
) -> None:
    assert working_directory(configured(job, directory=directory)) == expected


RELEASE = ReleaseBootstrap(
    kind="release", interpreter="pypy2.7", options=("--jit", "loop_longevity=300")
)


def test_a_released_interpreter_runs_the_toolchain_with_its_options(job: Job) -> None:
    bootstrap = BootstrapRelease(
        release="pypy2.7-v7.3.23", artifact=make_artifact(), executable="pypy2.7"
    )
    resolved = configured(job, bootstrap=RELEASE).model_copy(update={"bootstrap": bootstrap})

    assert bootstrap_command(resolved) == (
        "/build/bootstrap/bin/pypy2.7",
        "--jit",
        "loop_longevity=300",
    )


def test_a_released_interpreter_is_what_the_command_starts(job: Job) -> None:
    bootstrap = BootstrapRelease(
        release="pypy2.7-v7.3.23", artifact=make_artifact(), executable="pypy2.7"
    )
    resolved = configured(job, bootstrap=RELEASE).model_copy(update={"bootstrap": bootstrap})

    command = translation_command(resolved)

    from_image = translation_command(job)
    start = from_image.index("pypy", 1)
    assert from_image[0] == "pypy"
    assert command == (
        "/build/bootstrap/bin/pypy2.7",
        *from_image[1:start],
        *("/build/bootstrap/bin/pypy2.7", "--jit", "loop_longevity=300"),
        *from_image[start + len(("pypy", "-S")) :],
    )


def cross_job(target: str = "linux-ppc64le", **changes: object) -> Job:
    """Return the demo's job for another platform than the worker's, by a cross compiler."""
    (job,) = make_plan_for(platforms=(target,), mode=Mode.CROSS).jobs
    return configured(job, **changes)


def test_a_cross_translation_is_for_rpythons_other_platform() -> None:
    options = translation_options(cross_job())

    assert options == (
        *("--batch", "--gc=incminimark", "--opt=jit"),
        *("--platform=arm", "--cc=powerpc64le-linux-gnu-gcc"),
        *("--jit-backend=auto", "--gcrootfinder=shadowstack", "--output=demo"),
    )


def test_without_a_jit_a_cross_translation_names_no_backend_of_one() -> None:
    assert cross_options(cross_job("linux-aarch64")) == (
        *("--platform=arm", "--cc=aarch64-linux-gnu-gcc"),
        "--gcrootfinder=shadowstack",
    )


@pytest.mark.parametrize(
    ("platform", "mode"), [("linux-x86_64", Mode.NATIVE), ("linux-s390x", Mode.EMULATED)]
)
def test_only_a_cross_translation_is_for_another_platform(platform: str, mode: Mode) -> None:
    (job,) = make_plan_for(platforms=(platform,), mode=mode).jobs

    assert cross_options(job) == ()
    assert {"SB2", "TRANSLATION_MACHINE", "PYPY_MULTIARCH"}.isdisjoint(translation_environment(job))


def test_what_an_interpreter_adds_comes_behind_the_options_of_the_mode() -> None:
    """So that a configuration has the last word."""
    options = translation_options(cross_job(extra_options=("--gcrootfinder=bare",)))

    assert options.index("--gcrootfinder=shadowstack") < options.index("--gcrootfinder=bare")


def test_in_a_cross_translation_the_target_is_what_the_toolchain_hears_of() -> None:
    variables = translation_environment(cross_job())

    assert variables["SB2"] == "/"
    assert variables["TRANSLATION_MACHINE"] == "ppc64le"
    assert variables["PYPY_MULTIARCH"] == "powerpc64le-linux-gnu"


@pytest.mark.parametrize(
    ("platform", "flags"), [("linux-s390x", "-march=z196"), ("linux-x86_64", None)]
)
def test_the_oldest_processor_is_the_platform_s_and_not_the_worker_s(
    platform: str, flags: str | None
) -> None:
    (job,) = make_plan_for(platforms=(platform,)).jobs

    assert translation_environment(job).get("CFLAGS") == flags


def test_for_musl_no_directory_of_glibc_is_named() -> None:
    (job,) = make_plan_for(platforms=("linux-musl-aarch64",)).jobs

    assert translation_environment(job)["SB2"] == "/nonexistent"


def test_a_bootstrap_variable_cannot_name_another_target() -> None:
    bootstrap = {"kind": "image", "argv": ("pypy",), "environment": {"TRANSLATION_MACHINE": "vax"}}
    job = cross_job(bootstrap=ImageBootstrap.model_validate(bootstrap))

    assert translation_environment(job)["TRANSLATION_MACHINE"] == "ppc64le"


@pytest.mark.parametrize(
    ("target", "mode", "machine"),
    [
        ("linux-ppc64le", Mode.CROSS, "x86_64"),
        ("linux-armhf", Mode.CROSS, "i686"),
        ("linux-i686", Mode.NATIVE, "i686"),
        ("linux-s390x", Mode.EMULATED, "s390x"),
    ],
)
def test_the_toolchain_is_told_the_machine_that_it_runs_on(
    target: str, mode: Mode, machine: str
) -> None:
    (job,) = make_plan_for(platforms=(target,), mode=mode).jobs

    assert fixed_addresses(job) == ("setarch", machine, "--addr-no-randomize")


@pytest.mark.parametrize("system", ["macos-arm64", "windows-x86_64"])
def test_addresses_are_fixed_on_linux_only(system: str, job: Job) -> None:
    elsewhere = changed(job, platform=make_platform(system), host=make_platform(system))

    assert fixed_addresses(elsewhere) == ()
    assert "setarch" not in translation_command(elsewhere)


def test_a_platforms_own_bootstrap_interpreter_runs_everything() -> None:
    own = {"linux-s390x": {"bootstrap": {"kind": "image", "argv": ["python2.7", "-s"]}}}
    demo = make_interpreter()
    demo = changed(demo, translation=changed(demo.translation, platforms=own))
    config = changed(make_config(), interpreters={"demo": demo})
    (job,) = make_plan_for(config, platforms=("linux-s390x",)).jobs

    command = translation_command(job)

    assert command[:3] == ("python2.7", "-E", "/build/in/run_translation.py")
    start = command.index("--addr-no-randomize") + 1
    assert command[start : start + 4] == ("python2.7", "-s", "-m", "rpython")
    assert "pypy" not in command
    assert "PYPY_GC_NURSERY" not in translation_environment(job)


def test_a_released_interpreter_has_its_own_variables(job: Job) -> None:
    bootstrap = RELEASE.model_copy(update={"environment": {"PYPY_GC_NURSERY": "32MB"}})

    variables = translation_environment(configured(job, bootstrap=bootstrap))

    assert variables["PYPY_GC_NURSERY"] == "32MB"


def test_a_released_interpreter_that_nobody_looked_up_is_no_command(job: Job) -> None:
    with pytest.raises(ValueError, match="toy-linux-x86_64: its bootstrap interpreter"):
        bootstrap_command(configured(job, bootstrap=RELEASE))


def test_addresses_are_not_randomised(job: Job) -> None:
    """With randomisation the generated C differs from run to run."""
    command = translation_command(job)

    start = command.index("setarch")
    assert command[start : start + 4] == ("setarch", "x86_64", "--addr-no-randomize", "pypy")


def test_a_worker_s_make_jobs_are_no_option_of_the_translation(job: Job) -> None:
    """PyPy keeps all of RPython's options in sys.pypy_translation_info, so in the binary."""
    assert "--make-jobs=1" in translation_command(job)
    assert "MAKEFLAGS" not in translation_environment(job)
    assert make_variables(64) == {"MAKEFLAGS": "-j64"}


def test_the_environment_is_fixed(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    before = translation_environment(job)
    for name in before:
        monkeypatch.setenv(name, "something else")

    variables = translation_environment(job)

    assert variables == before
    assert variables["SOURCE_DATE_EPOCH"] == str(job.revision.epoch)
    assert variables["PYPY_GC_NURSERY"] == "64MB"
    assert variables["PYTHONPATH"] == "/build/shim:/build/toolchain"
    assert variables["PATH"].startswith("/build/in/compilers:/usr/lib/ccache:")
    assert variables["CCACHE_DIR"] == "/build/out/ccache"
    assert (variables["TZ"], variables["LC_ALL"], variables["USER"]) == (
        "UTC",
        "C.UTF-8",
        "builder",
    )


def test_a_source_with_its_own_rpython_is_its_own_toolchain() -> None:
    assert translation_environment(make_pypy_job())["PYTHONPATH"] == "/build/shim:/build/source"


def test_a_bootstrap_variable_cannot_undo_a_fixed_one(job: Job) -> None:
    bootstrap = job.interpreter.translation.bootstrap.model_copy(
        update={"environment": {"TZ": "Europe/Berlin", "HOME": "/root"}}
    )

    variables = translation_environment(configured(job, bootstrap=bootstrap))

    assert (variables["TZ"], variables["HOME"]) == ("UTC", "/build/tmp")


@pytest.fixture(scope="module")
def log() -> list[str]:
    """Return the lines of a real translation without a JIT."""
    return (DATA / "translation.log").read_text(encoding="utf-8").splitlines()


def test_every_phase_of_a_real_log_is_seen_in_order(log: list[str]) -> None:
    phases = [phase for line in log if (phase := phase_of(line)) is not None]

    assert phases == [name for name in PHASES if name != "pyjitpl_lltype"]


@pytest.mark.parametrize(
    "line",
    [
        "[backendopt:malloc] starting malloc removal",
        "starting malloc",
        "starting",
        "restarting annotate",
        "starting annotate again",
        "[Timer] annotate                       --- 20.2 s",
        "",
    ],
)
def test_other_lines_begin_no_phase(line: str) -> None:
    assert phase_of(line) is None


def test_blanks_around_a_phase_do_not_hide_it() -> None:
    assert phase_of("  starting pyjitpl_lltype \r") == "pyjitpl_lltype"


def test_the_times_of_a_real_log_are_read(log: list[str]) -> None:
    times = {phase.name: phase.seconds for phase in phase_times(log)}

    assert times == {
        "annotate": 20.2,
        "rtype_lltype": 17.4,
        "backendopt_lltype": 8.3,
        "stackcheckinsertion_lltype": 0.2,
        "database_c": 28.3,
        "source_c": 5.6,
        "compile_c": 10.4,
    }


def test_times_of_an_hour_are_read() -> None:
    (phase,) = phase_times(["[Timer] pyjitpl_lltype                 --- 3627.4 s"])

    assert (phase.name, phase.seconds) == ("pyjitpl_lltype", 3627.4)


def test_a_log_that_ends_early_has_no_times() -> None:
    assert phase_times(["starting annotate", "[Timer] Timings:"]) == ()


def test_the_resources_are_read_as_they_were_measured() -> None:
    resources = parse_resources(RESOURCES)

    assert resources.model_dump() == {
        "wall_seconds": 90.5,
        "cpu_seconds": 123.75,
        "peak_bytes": 512 << 20,
    }


@pytest.mark.parametrize(
    ("old", "new"),
    [
        pytest.param(RESOURCES, "", id="empty"),
        pytest.param(RESOURCES, "90.5 120.25 3.5 524288", id="no-json"),
        pytest.param('"wall": 90.5, ', "", id="a-number-is-missing"),
        pytest.param("90.5", '"long"', id="words"),
        pytest.param("90.5", "-1", id="less-than-nothing"),
        pytest.param("90.5", "NaN", id="no-number"),
        pytest.param("524288", "1.5", id="half-a-kibibyte"),
        pytest.param("null", '"a lot"', id="the-groups-in-words"),
    ],
)
def test_other_text_is_not_taken_for_resources(old: str, new: str) -> None:
    assert old in RESOURCES

    with pytest.raises(TranslationError, match=r"resources\.json: not what run_translation\.py"):
        parse_resources(RESOURCES.replace(old, new))


@pytest.mark.parametrize(
    ("group", "seconds"),
    [
        pytest.param("130500000000", 130.5, id="also-processes-that-nobody-waited-for"),
        pytest.param("120000000000", 123.75, id="less-than-the-others"),
        pytest.param("null", 123.75, id="no-control-group"),
    ],
)
def test_the_processor_time_is_that_of_all_processes(group: str, seconds: float) -> None:
    assert parse_resources(RESOURCES.replace("null", group)).cpu_seconds == seconds


def test_both_kinds_of_hits_of_the_compiler_cache_are_counted() -> None:
    cache = parse_ccache(CCACHE_STATISTICS)

    assert (cache.hits, cache.misses) == (4, 10)


def test_without_ccache_there_are_no_hits() -> None:
    assert parse_ccache("") == CompilerCache(hits=0, misses=0)


def test_other_numbers_of_ccache_are_passed_over() -> None:
    text = f"stats_updated_timestamp\t1795219200\n{CCACHE_STATISTICS}cache_size_kibibyte\t1\t2\n"

    assert parse_ccache(text) == parse_ccache(CCACHE_STATISTICS)


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("direct_cache_hit\t3\ncache_miss\t10\n", id="a number is missing"),
        pytest.param(CCACHE_STATISTICS.replace("10", "ten"), id="words"),
        pytest.param(CCACHE_STATISTICS.replace("\t", " "), id="blanks"),
    ],
)
def test_other_text_is_not_taken_for_the_compiler_cache_s(text: str) -> None:
    with pytest.raises(TranslationError, match="ccache-statistics: not what ccache prints"):
        parse_ccache(text)
