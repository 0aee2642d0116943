"""What the table of jobs tells at the end of a run."""

import re
from pathlib import Path
from typing import Any, Final

import pytest

from pipeline.effects.store import LocalStore
from pipeline.model.artifacts import ArtifactKind
from pipeline.model.records import CompilerCache, Phase, Resources, SourceTree, Translation
from pipeline.publish.sites import Site
from pipeline.run import Outcome
from pipeline.stages import Done, JobOutcome
from pipeline.tables import ARCHIVE_COLUMNS, JOB_COLUMNS, show_outcome
from tests.factories import (
    make_artifact,
    make_job,
    make_plan_for,
    make_source_tree,
    make_translation,
    make_verification,
)
from tests.fakes import recorded_console

SITE: Final = Site(store=LocalStore(Path("store")), base_url="https://downloads.test")


def source(**fields: Any) -> Done[SourceTree]:
    """Return a finished source, of this run."""
    return done(make_source_tree(), **fields)


def translation(*, seconds: float = 0.0, cached: bool = False, **record: Any) -> Done[Translation]:
    """Return a finished translation, of this run."""
    return done(make_translation(**record), seconds=seconds, cached=cached)


def done(record: Any, *, seconds: float = 0.0, cached: bool = False) -> Done[Any]:
    """Return a finished stage."""
    return Done(record=record, key="k", directory=Path("k"), seconds=seconds, cached=cached)


def table(*jobs: JobOutcome) -> list[list[str]]:
    """Return the cells of the table of *jobs*; empty ones leave no trace."""
    console, text = recorded_console()
    show_outcome(console, Outcome(jobs=jobs, releases=()), SITE)
    title, *lines = text.getvalue().splitlines()
    assert title.strip() == "Jobs"
    return [re.split(" {2,}", line.strip()) for line in lines if line.strip()]


def row(job: JobOutcome) -> dict[str, str]:
    """Return the one row of *job*, by column."""
    header, cells = table(job)
    assert header == list(JOB_COLUMNS)
    return dict(zip(JOB_COLUMNS, cells, strict=True))


def test_a_job_is_shown_with_what_its_translation_took() -> None:
    resources = Resources(wall_seconds=1234.4, cpu_seconds=2345.6, peak_bytes=(5 << 30) + (1 << 29))
    translated = translation(
        seconds=1240.0, resources=resources, compiler_cache=CompilerCache(hits=4, misses=10)
    )

    shown = row(JobOutcome(job=make_job(), source=source(seconds=2.5), translation=translated))

    assert shown == {
        "identifier": "demo-linux-x86_64",
        "this run": "1242.5 s",
        "translated in": "1234 s",
        "CPU": "2346 s",
        "peak": "5.5 GiB",
        "ccache hits": "4 of 14",
        "phases (s)": "annotate 12",
    }


def test_phases_are_shown_in_their_order_without_the_name_of_the_type_system() -> None:
    seconds = {"annotate": 20.2, "rtype_lltype": 17.4, "database_c": 28.3, "compile_c": 3627.6}
    phases = tuple(Phase(name=name, seconds=time) for name, time in seconds.items())

    shown = row(JobOutcome(job=make_job(), source=source(), translation=translation(phases=phases)))

    assert shown["phases (s)"] == "annotate 20 rtype 17 database_c 28 compile_c 3628"


def test_a_job_that_was_finished_before_tells_what_its_translation_took_then() -> None:
    outcome = JobOutcome(
        job=make_job(), source=source(cached=True), translation=translation(cached=True)
    )

    shown = row(outcome)

    assert shown["this run"] == "finished before"
    assert shown["translated in"] == "60 s"


@pytest.mark.parametrize("cached", [True, False], ids=["source is there", "source is new"])
def test_a_job_is_finished_before_if_all_its_stages_are(*, cached: bool) -> None:
    outcome = JobOutcome(
        job=make_job(),
        source=source(cached=cached, seconds=1.5),
        translation=translation(cached=True),
    )

    assert row(outcome)["this run"] == ("finished before" if cached else "1.5 s")


def test_a_translation_that_compiled_nothing_has_no_hits_of_none() -> None:
    nothing = translation(compiler_cache=CompilerCache(hits=0, misses=0))

    shown = row(JobOutcome(job=make_job(), source=source(), translation=nothing))

    assert shown["ccache hits"] == "0 of 0"


def test_a_job_that_was_not_translated_is_shown_without_a_translation() -> None:
    header, cells = table(JobOutcome(job=make_job(), source=source(seconds=1.5)))

    assert header == list(JOB_COLUMNS)
    assert cells == ["demo-linux-x86_64", "1.5 s"]


def test_each_job_has_a_row() -> None:
    names = ["demo-linux-x86_64", "gem-linux-x86_64"]
    jobs = [
        JobOutcome(job=make_job(identifier=name), source=source(), translation=translation())
        for name in names
    ]

    _, *rows = table(*jobs)

    assert [cells[0] for cells in rows] == names


def archive(platform: str, floor: str) -> dict[str, str]:
    """Return the row of the archive of the demo for *platform*, by column."""
    (job,) = make_plan_for(platforms=(platform,)).jobs
    sizes = {ArtifactKind.ARCHIVE_GZ: 2000, ArtifactKind.ARCHIVE_ZST: 1500}
    record = make_verification(
        glibc_floor=floor,
        artifacts=tuple(make_artifact(kind=kind, size=size) for kind, size in sizes.items()),
    )
    outcome = JobOutcome(
        job=job,
        source=source(),
        translation=translation(),
        verification=done(record, cached=True),
    )
    console, text = recorded_console()
    show_outcome(console, Outcome(jobs=(outcome,), releases=()), SITE)
    shown = text.getvalue().partition("Archives")[2].splitlines()
    header, cells = [re.split(" {2,}", line.strip()) for line in shown if line.strip()]
    assert header == list(ARCHIVE_COLUMNS)
    return dict(zip(ARCHIVE_COLUMNS, cells, strict=True))


def test_an_archive_is_shown_with_how_it_was_made_and_tried() -> None:
    assert archive("linux-aarch64", "2.17") == {
        "archive": "demo-v1.0.0-aarch64",
        "mode": "cross",
        "jit": "no",
        "translated in": "60 s",
        "smallest": "1,500",
        "C library": "glibc 2.17",
        "gates": "1 passed",
        "tried in": "clean, clean-newer under QEMU",
    }


def test_no_emulator_is_claimed_where_the_processor_itself_ran_it() -> None:
    shown = archive("linux-i686", "2.7")

    assert (shown["mode"], shown["tried in"]) == ("native", "clean, clean-newer")


def test_an_archive_for_musl_has_no_glibc() -> None:
    shown = archive("linux-musl-x86_64", "none")

    assert shown["C library"] == "musl"
    assert not shown["tried in"].endswith("QEMU")
