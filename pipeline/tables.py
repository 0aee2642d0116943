"""The tables that commands end with; what they show is decided elsewhere."""

from collections.abc import Iterable
from typing import Final

from pipeline.effects.console import Console
from pipeline.engine_checks import CheckResult
from pipeline.model.artifacts import ArtifactKind
from pipeline.model.configs import Config
from pipeline.model.naming import release_prefix
from pipeline.model.records import Installed, Phase, Translation, Verification
from pipeline.plan import Plan
from pipeline.publish.sites import Site
from pipeline.run import Outcome
from pipeline.stages import JobOutcome, ReleaseOutcome

GIB: Final = 1 << 30
JOB_COLUMNS: Final = (
    "identifier",
    "this run",
    "translated in",
    "CPU",
    "peak",
    "ccache hits",
    "phases (s)",
)

ARCHIVE_COLUMNS: Final = (
    "archive",
    "mode",
    "jit",
    "translated in",
    "smallest",
    "C library",
    "gates",
    "tried in",
)


def show_config(console: Console, config: Config) -> None:
    """Show the interpreters and where each may be built."""
    rows = [
        (
            name,
            str(item.interpreter_version),
            item.translation.gc,
            "yes" if item.translation.jit else "no",
            " ".join(item.platforms),
        )
        for name, item in config.interpreters.items()
    ]
    console.table("Interpreters", ("interpreter", "version", "gc", "jit", "platforms"), rows)


def show_plan(console: Console, plan: Plan) -> None:
    """Show every job and every file with its URL."""
    jobs = [
        (job.identifier, job.mode, "yes" if job.jit else "no", job.revision.revision[:12], job.stem)
        for job in plan.jobs
    ]
    console.table("Jobs", ("identifier", "mode", "jit", "revision", "archive"), jobs)
    files = [
        (release.release, filename, url)
        for release in plan.releases
        for filename, url in release.urls.items()
    ]
    console.table("Files", ("release", "file", "url"), files)


def show_unfinished(console: Console, outcome: Outcome) -> None:
    """Show where each job stands, after a dry run."""
    waiting = dict(outcome.unfinished)
    rows = [(name, f"to do, from {stage} on") for name, stage in waiting.items()]
    rows += [
        (item.job.identifier, "finished")
        for item in outcome.jobs
        if item.job.identifier not in waiting
    ]
    rows += [
        (name, f"nothing to do, its inputs are those of {known.release}")
        for name, known in outcome.unchanged
    ]
    console.table("Dry run: nothing was done", ("what", "state"), rows)


def show_diagnosis(console: Console, results: tuple[CheckResult, ...]) -> None:
    """Show every check."""
    rows = [(item.name, item.status, item.found) for item in results]
    console.table("Doctor", ("check", "status", "found"), rows)
    for item in results:
        if item.status != "ok" and item.fix:
            console.line(f"{item.name}: {item.fix}")


def show_outcome(console: Console, outcome: Outcome, site: Site) -> None:
    """Show what was made: jobs with their times, gates, and files with their digests."""
    rows = [
        (
            item.job.identifier,
            "finished before" if item.cached else f"{item.seconds:.1f} s",
            *(_translation(item.translation.record) if item.translation else ("",) * 5),
        )
        for item in outcome.jobs
    ]
    console.table("Jobs", JOB_COLUMNS, rows)
    archives = [
        _archive(item, item.verification.record) for item in outcome.jobs if item.verification
    ]
    if archives:
        console.table("Archives", ARCHIVE_COLUMNS, archives)
    _show_installed(console, outcome)
    for item in outcome.jobs:
        if item.verification is not None and not item.verification.cached:
            gates = [
                (gate.gate, gate.title, gate.measured) for gate in item.verification.record.gates
            ]
            console.table(f"Gates of {item.job.stem}", ("gate", "title", "measured"), gates)
    for release in outcome.releases:
        files = [(item.filename, f"{item.size:,}", item.sha256) for item in release.files]
        console.table(release.release.release, ("file", "bytes", "sha256"), files)
        _show_release(console, release, site)
    for name, known in outcome.unchanged:
        place = f"{site.base_url}/{release_prefix(known.product, known.release)}"
        console.line(f"{name}: not made, its inputs are those of {known.release}: {place}")


def _archive(item: JobOutcome, record: Verification) -> tuple[str, ...]:
    """Return what is known of a job's archive; sizes are in bytes, of its smallest form."""
    job, translated = item.job, item.translation
    kinds = (ArtifactKind.ARCHIVE_GZ, ArtifactKind.ARCHIVE_ZST, ArtifactKind.ARCHIVE_ZIP)
    smallest = min(made.size for made in record.artifacts if made.kind in kinds)
    glibc = job.platform.libc == "glibc"
    where = ", ".join(job.verified_in)
    return (
        job.stem,
        job.mode,
        "yes" if job.jit else "no",
        f"{translated.record.resources.wall_seconds:.0f} s" if translated else "",
        f"{smallest:,}",
        f"glibc {record.glibc_floor}" if glibc else job.platform.libc or "",
        f"{len(record.gates)} passed",
        f"{where} under QEMU" if job.runs_emulated else where,
    )


def _translation(record: Translation) -> tuple[str, ...]:
    used, cache = record.resources, record.compiler_cache
    compilations = cache.hits + cache.misses
    return (
        f"{used.wall_seconds:.0f} s",
        f"{used.cpu_seconds:.0f} s",
        f"{used.peak_bytes / GIB:.1f} GiB",
        f"{cache.hits} of {compilations}",
        _phases(record.phases),
    )


def _phases(phases: tuple[Phase, ...]) -> str:
    return " ".join(f"{phase.name.removesuffix('_lltype')} {phase.seconds:.0f}" for phase in phases)


def _show_installed(console: Console, outcome: Outcome) -> None:
    """Show by which clients packages and images were installed, before and after publishing."""
    found = [
        installed
        for item in outcome.jobs
        if item.installation is not None
        for installed in item.installation.record.installed
    ]
    found += [installed for release in outcome.releases for installed in release.installed]
    if found:
        show_installed(console, found)


def show_installed(console: Console, found: Iterable[Installed]) -> None:
    """Show what clients have installed, and what worked."""
    rows = [
        (item.client, item.where, " ".join(item.what), f"{item.seconds:.1f} s") for item in found
    ]
    console.table("Installed", ("client", "where", "what worked", "took"), rows)


def _show_release(console: Console, release: ReleaseOutcome, site: Site) -> None:
    record = release.signed.record
    console.line(f"signed by {record.fingerprint}")
    if record.is_throw_away:
        console.warn(
            "This is a THROW-AWAY key, made in the work directory. It proves nothing to anybody: "
            "name a real key in translation_configs/channels.toml before you publish."
        )
    if release.event is not None:
        place = f"{site.store.address}/{release_prefix(record.product, record.release)}"
        news = "published" if release.is_new else "was published already, nothing to do"
        console.line(f"{record.release} {news}: {place}")
