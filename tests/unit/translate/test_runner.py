"""How a translation is run, and how it fails."""

import io
import tarfile
from pathlib import Path
from typing import Any, Final

import pytest

from pipeline.effects.archives import Compression, Entry, write_archive
from pipeline.effects.engine import ContainerStep
from pipeline.effects.files import describe, sha256_of
from pipeline.environment import ready_environment
from pipeline.errors import StepSilentError, StepTimeoutError, TranslationError, UnsafeArchiveError
from pipeline.model.artifacts import ArtifactKind
from pipeline.model.base import content_key
from pipeline.model.platforms import Mode
from pipeline.model.records import BootstrapRelease, Environment, SourceTree, Translation
from pipeline.plan import Job
from pipeline.translate.bootstrap import bootstrap_path
from pipeline.translate.command import PHASES, translation_command, translation_environment
from pipeline.translate.runner import LAST_LINES, LogFollower, translate, translation_inputs
from tests.factories import make_artifact, make_platform
from tests.fakes import (
    CCACHE_STATISTICS,
    ELF,
    EPOCH,
    RESOURCES,
    Ran,
    World,
    digest,
    make_job,
    make_world,
    replace_text,
    stage_output,
    translated,
)

KEY = "a1b2c3d4e5f60718" + "0" * 48


@pytest.fixture
def world(tmp_path: Path) -> World:
    return make_world(tmp_path / "project")


@pytest.fixture
def job(world: World) -> Job:
    return make_job(world.ctx)


@pytest.fixture
def environment(world: World, job: Job) -> Environment:
    return ready_environment(world.ctx, "translate", job.placement)


def run(world: World, job: Job, environment: Environment, source: Path = ELF) -> Translation:
    with stage_output(world.ctx, KEY) as stage:
        return translate(world.ctx, job, source, environment, stage)


def output(world: World) -> Path:
    return world.ctx.work.path("stage", KEY)


def log_path(world: World) -> Path:
    return world.ctx.work.path("logs", "toy-linux-x86_64-a1b2c3d4e5f6.log")


def test_a_translation_is_recorded(world: World, job: Job, environment: Environment) -> None:
    record = run(world, job, environment)

    archive = output(world) / "products.tar"
    assert record.archive == archive.name
    assert (record.sha256, record.size) == (sha256_of(archive), archive.stat().st_size)
    assert record.products == {"toy": sha256_of(ELF)}
    assert record.environment == environment.digest
    assert record.command == translation_command(job)
    assert [(phase.name, phase.seconds) for phase in record.phases] == [("annotate", 20.2)]
    assert record.resources.peak_bytes == 512 << 20
    assert (record.compiler_cache.hits, record.compiler_cache.misses) == (4, 10)


def test_products_are_packed_where_they_belong_in_the_source(
    world: World, job: Job, environment: Environment
) -> None:
    run(world, job, environment)

    with tarfile.open(output(world) / "products.tar") as archive:
        members = {member.name: member for member in archive}
        content = archive.extractfile("build/source/toy")
        assert content is not None
        assert content.read() == ELF.read_bytes()
    assert list(members) == ["build", "build/source", "build/source/toy"]
    assert members["build/source/toy"].mode == 0o755
    assert {(item.uid, item.gid, item.mtime) for item in members.values()} == {(1000, 1000, EPOCH)}


def making(job: Job, *products: str) -> Job:
    """Return *job* with other products."""
    translation = job.interpreter.translation.model_copy(update={"products": products})
    interpreter = job.interpreter.model_copy(update={"translation": translation})
    return job.model_copy(update={"interpreter": interpreter})


MEASURED: Final[dict[str, bytes | Path]] = {
    "resources.json": RESOURCES.replace("null", "130500000000").encode(),
    "ccache-statistics": CCACHE_STATISTICS.encode(),
}


def test_a_product_may_be_a_directory(world: World, job: Job, environment: Environment) -> None:
    files = {**MEASURED, "products/goal/toy": ELF, "products/include/toy.h": b"#pragma once\n"}
    world.engine.scripts["translate"] = lambda _step: Ran(files=files)

    record = run(world, making(job, "goal/toy", "include"), environment)

    assert record.products == {
        "goal/toy": sha256_of(ELF),
        "include/toy.h": digest("#pragma once\n"),
    }


def test_equal_products_are_packed_to_equal_bytes(
    world: World, job: Job, environment: Environment, tmp_path: Path
) -> None:
    first = run(world, job, environment)
    other = make_world(tmp_path / "elsewhere")
    there = make_job(other.ctx)

    second = run(other, there, ready_environment(other.ctx, "translate", there.placement))

    assert second.sha256 == first.sha256


def test_the_log_is_kept_beside_the_products_and_in_the_logs(
    world: World, job: Job, environment: Environment
) -> None:
    run(world, job, environment)

    text = (output(world) / "translation.log").read_text(encoding="utf-8")
    assert "starting annotate\n" in text
    assert log_path(world).read_text(encoding="utf-8") == text


def test_the_step_is_confined_limited_and_named_after_its_key(
    world: World, job: Job, environment: Environment, tmp_path: Path
) -> None:
    source = tmp_path / "source.tar"
    source.write_bytes(b"")
    given: list[list[str]] = []

    def look(step: ContainerStep) -> Ran:
        for path in step.inputs[1:]:
            with tarfile.open(path) as archive:
                given.append(archive.getnames())
        return translated(step)

    world.engine.scripts["translate"] = look

    run(world, job, environment, source)

    (step,) = world.engine.steps
    assert step.name == "translate-a1b2c3d4e5f60718"
    assert step.image_id == environment.image_id
    assert step.inputs[0] == source
    assert given == [
        [
            *("build", "build/in", "build/in/compilers", "build/in/compilers/gcc"),
            "build/in/run_translation.py",
        ],
        ["build", "build/out", "build/out/ccache"],
    ]
    cpus = world.engine.told.cpus
    assert step.environment == {**translation_environment(job), "MAKEFLAGS": f"-j{cpus}"}
    assert (step.directory, step.output) == ("/build/source", "/build/out")
    assert (step.timeout, step.silence) == (100, 50)
    assert step.seccomp == '{"defaultAction": "SCMP_ACT_ALLOW"}\n'
    assert step.user == "1000:1000"


def cross(job: Job) -> Job:
    """Return *job* for aarch64, by a cross compiler of this worker."""
    platform = make_platform("linux-aarch64")
    return job.model_copy(update={"platform": platform, "mode": Mode.CROSS})


def test_in_a_cross_translation_the_cross_compiler_is_the_one_that_is_remembered(
    world: World, job: Job, environment: Environment
) -> None:
    given: list[str] = []

    def look(step: ContainerStep) -> Ran:
        with tarfile.open(step.inputs[1]) as archive:
            given.extend(archive.getnames())
        return translated(step)

    world.engine.scripts["translate"] = look

    run(world, cross(job), environment)

    assert "build/in/compilers/aarch64-linux-gnu-gcc" in given
    assert "build/in/compilers/gcc" not in given


@pytest.mark.parametrize(
    ("mode", "limits"),
    [(Mode.EMULATED, (2000, 1000)), (Mode.CROSS, (100, 50))],
    ids=["emulated", "cross"],
)
def test_a_toolchain_that_is_emulated_may_take_longer(
    mode: Mode, limits: tuple[int, int], world: World, job: Job, environment: Environment
) -> None:
    run(world, cross(job).model_copy(update={"mode": mode}), environment)

    (step,) = world.engine.steps
    assert (step.timeout, step.silence) == limits


def test_a_failing_translation_shows_its_last_lines_and_where_the_log_is(
    world: World, job: Job, environment: Environment
) -> None:
    lines = tuple(f"line {number}" for number in range(100))
    world.engine.scripts["translate"] = lambda _step: Ran(status=1, lines=lines)

    with pytest.raises(TranslationError) as caught:
        run(world, job, environment)

    head, *shown = str(caught.value).splitlines()
    assert head == f"exit status 1; the whole log is {log_path(world)}"
    assert shown == list(lines[-LAST_LINES:])
    assert log_path(world).read_text(encoding="utf-8").splitlines() == list(lines)


@pytest.mark.parametrize("error", [StepTimeoutError, StepSilentError])
def test_a_stopped_translation_stays_one_and_shows_its_last_lines(
    error: type[Exception], world: World, job: Job, environment: Environment
) -> None:
    world.engine.scripts["translate"] = lambda _step: Ran(
        lines=("starting annotate",), error=error("stopped.")
    )

    with pytest.raises(error) as caught:
        run(world, job, environment)

    message = str(caught.value)
    assert message.startswith("stopped. The whole log is ")
    assert str(log_path(world)) in message
    assert message.endswith("\nstarting annotate")


@pytest.mark.parametrize("products", [("toy", "include"), ("include",)], ids=["one", "all"])
def test_a_translation_without_a_product_is_a_failure(
    products: tuple[str, ...], world: World, job: Job, environment: Environment
) -> None:
    world.engine.scripts["translate"] = lambda _step: Ran(files={**MEASURED, "products/toy": ELF})

    with pytest.raises(
        TranslationError, match="reported success, but wrote no include in its source tree"
    ):
        run(world, making(job, *products), environment)


def test_the_processor_time_is_that_of_the_whole_container(
    world: World, job: Job, environment: Environment
) -> None:
    files = {**MEASURED, "products/toy": ELF}
    world.engine.scripts["translate"] = lambda _step: Ran(files=files)

    assert run(world, job, environment).resources.cpu_seconds == 130.5


def test_a_link_is_not_a_product(world: World, job: Job, environment: Environment) -> None:
    world.engine.scripts["translate"] = lambda _step: Ran(
        files={**MEASURED, "products/other": ELF}, links={"products/toy": "other"}
    )

    with pytest.raises(TranslationError, match="wrote no toy in its source tree"):
        run(world, job, environment)


@pytest.mark.parametrize("name", MEASURED)
def test_a_translation_that_was_not_measured_is_a_failure(
    name: str, world: World, job: Job, environment: Environment
) -> None:
    files = {**MEASURED, "products/toy": ELF}
    del files[name]
    world.engine.scripts["translate"] = lambda _step: Ran(files=files)

    with pytest.raises(TranslationError, match=f"wrote no /build/out/{name}, though it"):
        run(world, job, environment)


def remembered(step: ContainerStep) -> dict[str, bytes]:
    """Return what of the compiler cache a step is given."""
    with tarfile.open(step.inputs[2]) as archive:
        files = [member for member in archive if member.isfile()]
        contents = [(member.name, archive.extractfile(member)) for member in files]
        return {name: content.read() for name, content in contents if content is not None}


def test_the_compiler_cache_is_carried_from_one_translation_to_the_next(
    world: World, job: Job, environment: Environment
) -> None:
    given: list[dict[str, bytes]] = []

    def look(step: ContainerStep) -> Ran:
        given.append(remembered(step))
        return translated(step)

    world.engine.scripts["translate"] = look

    run(world, job, environment)
    run(world, job, environment)

    assert given == [{}, {"build/out/ccache/0/object": b"compiled"}]


def test_an_output_that_reaches_outside_is_refused(
    world: World, job: Job, environment: Environment
) -> None:
    world.engine.scripts["translate"] = lambda _step: Ran(files={"../../escape": b""})

    with pytest.raises(UnsafeArchiveError, match="escape"):
        run(world, job, environment)


@pytest.fixture
def source(job: Job) -> SourceTree:
    return SourceTree(revision=job.revision, archive="source.tar", sha256=digest("s"), size=1)


CHANGES: dict[str, tuple[str, str]] = {
    "collector": ('gc = "incminimark"', 'gc = "minimark"'),
    "jit": ("jit = true", "jit = false"),
    "options": ('"--lldebug"', '"--no-shared"'),
    "target": ("target.py", "other.py"),
    "target options": ('"--fast"', '"--slow"'),
    "bootstrap": ('"pypy", "-S"', '"python2"'),
    "variables": ("64MB", "32MB"),
    "name of the executable": ('output = "toy"', 'output = "toy2"'),
    "products": ('products = ["toy"]', 'products = ["toy", "include"]'),
    "directory": ('products = ["toy"]', 'products = ["toy"]\ndirectory = "goal"'),
    "date": ("2026-01-01", "2026-01-02"),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_whatever_decides_the_binary_is_an_input(
    change: tuple[str, str],
    world: World,
    job: Job,
    source: SourceTree,
    environment: Environment,
) -> None:
    before = translation_inputs(world.ctx, job, source, environment)
    replace_text(world.ctx.root / "translation_configs" / "toy.toml", *change)

    after = translation_inputs(world.ctx, make_job(world.again().ctx), source, environment)

    assert after != before


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"platform": make_platform("linux-aarch64")}, id="platform"),
        pytest.param({"host": make_platform("linux-i686")}, id="host"),
        pytest.param({"mode": Mode.EMULATED}, id="mode"),
    ],
)
def test_how_and_for_what_it_is_translated_are_inputs(
    changes: dict[str, Any],
    world: World,
    job: Job,
    source: SourceTree,
    environment: Environment,
) -> None:
    before = translation_inputs(world.ctx, job, source, environment)

    after = translation_inputs(world.ctx, job.model_copy(update=changes), source, environment)

    assert after != before


def test_a_platforms_own_bootstrap_interpreter_is_an_input(
    world: World, job: Job, source: SourceTree, environment: Environment
) -> None:
    before = translation_inputs(world.ctx, job, source, environment)
    own = '\n[translation.platforms.linux-x86_64.bootstrap]\nkind = "image"\nargv = ["python2.7"]\n'
    toy = world.ctx.root / "translation_configs" / "toy.toml"
    toy.write_text(toy.read_text() + own)

    after = translation_inputs(world.ctx, make_job(world.again().ctx), source, environment)

    assert after != before


@pytest.mark.parametrize("name", ["run_translation.py", "compile.sh"])
def test_the_scripts_that_run_in_the_translation_are_inputs(
    name: str, world: World, job: Job, source: SourceTree, environment: Environment
) -> None:
    before = translation_inputs(world.ctx, job, source, environment)
    script = world.ctx.root / "dockerfiles" / "steps" / name
    script.write_text(f"{script.read_text()}# changed\n")

    assert translation_inputs(world.ctx, job, source, environment) != before


def test_source_and_environment_are_inputs_and_the_image_s_id_is_none(
    world: World, job: Job, source: SourceTree, environment: Environment
) -> None:
    before = translation_inputs(world.ctx, job, source, environment)
    other_source = source.model_copy(update={"sha256": digest("other")})
    other_content = environment.model_copy(update={"digest": digest("other")})
    other_image = environment.model_copy(update={"image_id": "sha256:other"})

    assert translation_inputs(world.ctx, job, other_source, environment) != before
    assert translation_inputs(world.ctx, job, source, other_content) != before
    assert translation_inputs(world.ctx, job, source, other_image) == before


def bootstrapped(job: Job, **changes: Any) -> Job:
    """Return *job* with a released bootstrap interpreter."""
    fields = {"release": "pypy2.7-v7.3.23", "artifact": make_artifact(), "executable": "pypy2.7"}
    release = BootstrapRelease.model_validate({**fields, **changes})
    return job.model_copy(update={"bootstrap": release})


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"release": "pypy2.7-v7.3.24"}, id="release"),
        pytest.param({"artifact": make_artifact(sha256=digest("other"))}, id="archive"),
        pytest.param({"executable": "pypy"}, id="program"),
    ],
)
def test_another_released_bootstrap_interpreter_gives_another_key(
    changes: dict[str, Any],
    world: World,
    job: Job,
    source: SourceTree,
    environment: Environment,
) -> None:
    jobs = (job, bootstrapped(job), bootstrapped(job), bootstrapped(job, **changes))

    from_image, first, again, other = (
        content_key("translate", 1, **translation_inputs(world.ctx, item, source, environment))
        for item in jobs
    )

    assert first == again
    assert len({from_image, first, other}) == 3


def test_a_released_bootstrap_interpreter_comes_with_the_other_inputs(
    world: World, job: Job, environment: Environment, tmp_path: Path
) -> None:
    path = tmp_path / "pypy2.7-v7.3.23-linux64.tar.zst"
    entries = [Entry(path="pypy2.7-v7.3.23-linux64/bin/pypy2.7", executable=True)]
    write_archive(path, entries, epoch=EPOCH, compression=Compression.ZSTD)
    job = bootstrapped(job, artifact=describe(path, ArtifactKind.ARCHIVE_ZST, "linux-x86_64"))
    assert job.bootstrap is not None
    cached = bootstrap_path(world.ctx, job.bootstrap)
    cached.parent.mkdir(parents=True)
    path.rename(cached)
    given: list[str] = []

    def look(step: ContainerStep) -> Ran:
        with tarfile.open(step.inputs[-1]) as archive:
            given.extend(archive.getnames())
        return translated(step)

    world.engine.scripts["translate"] = look

    run(world, job, environment)

    assert len(world.engine.steps[0].inputs) == 4
    assert given[-1] == "build/bootstrap/bin/pypy2.7"


@pytest.mark.parametrize(
    "change",
    [
        ("timeout = 100", "timeout = 200"),
        ("silence = 50", "silence = 60"),
        ('executable = "toy"', 'executable = "toy2"'),
    ],
    ids=["timeout", "silence", "name in the archive"],
)
def test_limits_and_packaging_do_not_decide_the_binary(
    change: tuple[str, str],
    world: World,
    job: Job,
    source: SourceTree,
    environment: Environment,
) -> None:
    before = translation_inputs(world.ctx, job, source, environment)
    replace_text(world.ctx.root / "translation_configs" / "toy.toml", *change)

    after = translation_inputs(world.ctx, make_job(world.again().ctx), source, environment)

    assert after == before


def test_the_number_of_make_jobs_is_no_input(
    world: World, job: Job, source: SourceTree, environment: Environment
) -> None:
    inputs = repr(translation_inputs(world.ctx, job, source, environment))

    assert "MAKEFLAGS" not in inputs
    assert "make-jobs" not in inputs


def test_the_follower_shows_each_phase_with_its_number(world: World) -> None:
    file = io.StringIO()
    with world.ctx.console.step("translate") as step:
        follower = LogFollower(file, step)
        for line in ("noise", "starting annotate", "starting compile_c"):
            follower(line)

    shown = world.text.getvalue()
    assert f"translate: annotate (1/{len(PHASES)})" in shown
    assert f"translate: compile_c ({len(PHASES)}/{len(PHASES)})" in shown
    assert "noise" not in shown
    assert file.getvalue() == "noise\nstarting annotate\nstarting compile_c\n"
