"""Packs trees into Debian packages and lets lintian judge them, in the suite's container."""

import re
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pipeline.effects.archives import Entry, unpack, write_archive
from pipeline.effects.context import Context, StageOutput
from pipeline.effects.engine import ContainerStep
from pipeline.errors import DebianPackageError, LintianError
from pipeline.model.records import Environment, GateResult
from pipeline.plan import Job
from pipeline.source.runner import BUILDER
from pipeline.translate.command import OUTPUT

SCRIPT: Final = "debian/build.sh"
GATE: Final = "DEB01"
TIMEOUT: Final = 1800
SHOWN_TAGS: Final = 40
_TAG: Final = re.compile(r"(?P<severity>[EWIPXOCM]): (?P<package>\S+): (?P<rest>.+)")


@dataclass(frozen=True, kw_only=True)
class Judgement:
    """What lintian said: its version, and each tag's line by the tag's severity."""

    version: str
    tags: tuple[str, ...]

    @property
    def errors(self) -> tuple[str, ...]:
        """The lines of tags that stop a release."""
        return tuple(tag for tag in self.tags if tag.startswith("E: "))

    @property
    def warnings(self) -> tuple[str, ...]:
        """The lines of tags that do not."""
        return tuple(tag for tag in self.tags if tag.startswith("W: "))


def build_packages(
    ctx: Context,
    job: Job,
    environment: Environment,
    trees: Mapping[str, tuple[Entry, ...]],
    filenames: Mapping[str, str],
    stage: StageOutput,
) -> Judgement:
    """Write the packages of *trees*, by name, into the stage's directory as *filenames* say.

    Raises:
        DebianPackageError: they cannot be packed, or lintian does not work.
    """
    with tempfile.TemporaryDirectory(prefix="rpp-", dir=stage.directory) as temporary:
        inputs, lines = Path(temporary, "in.tar"), list[str]()
        write_archive(inputs, _given(ctx, trees), epoch=job.revision.epoch, owner=BUILDER)
        step = _step(job, environment, filenames, inputs, stage.key)
        result = ctx.engine.run(step, output=Path(temporary, "out.tar"), on_line=lines.append)
        if result.status != 0:
            last = "\n".join(lines[-SHOWN_TAGS:])
            msg = f"{environment.name}: exit status {result.status} of {SCRIPT}:\n{last}"
            raise DebianPackageError(msg)
        unpack(Path(temporary, "out.tar"), Path(temporary))
        made = Path(temporary, Path(OUTPUT).name)
        for filename in filenames.values():
            (made / filename).rename(stage.directory / filename)
        return Judgement(
            version=(made / "lintian.version").read_text(encoding="utf-8").strip(),
            tags=told_tags((made / "lintian.tags").read_text(encoding="utf-8")),
        )


def told_tags(text: str) -> tuple[str, ...]:
    """Return the lines of lintian's output that are tags, without comments and overrides."""
    return tuple(line for line in text.splitlines() if _TAG.fullmatch(line))


def judged(suite: str, judgement: Judgement, packages: int) -> GateResult:
    """Return lintian's verdict on a suite's packages.

    Raises:
        LintianError: it found an error.
    """
    if judgement.errors:
        shown = "\n".join(judgement.errors[:SHOWN_TAGS])
        msg = (
            f"{suite}: lintian finds {len(judgement.errors)} errors; nothing is released. Mend "
            "them, or say in the interpreter's table debian.overrides why one is right.\n" + shown
        )
        raise LintianError(msg)
    kinds = Counter(tag.split(": ", 2)[2].split(" ", 1)[0] for tag in judgement.warnings)
    named = ", ".join(f"{count} {tag}" for tag, count in sorted(kinds.items()))
    measured = f"{suite}: {packages} packages, 0 errors, {len(judgement.warnings)} warnings"
    measured += f" ({judgement.version}{': ' if named else ''}{named})"
    return GateResult(gate=GATE, title="lintian finds no error", measured=measured)


def _given(ctx: Context, trees: Mapping[str, tuple[Entry, ...]]) -> Iterator[Entry]:
    yield Entry(path="build/out", directory=True)
    yield Entry(path="build/build.sh", content=ctx.root / "packaging" / SCRIPT)
    for name, tree in trees.items():
        for entry in tree:
            yield Entry(
                path=f"build/in/{name}/{entry.path}",
                content=entry.content,
                executable=entry.executable,
                link=entry.link,
            )


def _step(
    job: Job, environment: Environment, filenames: Mapping[str, str], inputs: Path, key: str
) -> ContainerStep:
    words = [word for pair in filenames.items() for word in pair]
    return ContainerStep(
        name=f"debian-{key[:16]}-{environment.name}",
        image_id=environment.image_id,
        command=("sh", "/build/build.sh", *words),
        directory="/build",
        environment={
            "HOME": "/build",
            "LC_ALL": "C.UTF-8",
            "SOURCE_DATE_EPOCH": str(job.revision.epoch),
        },
        inputs=(inputs,),
        output=OUTPUT,
        timeout=TIMEOUT * job.time_factor,
        silence=TIMEOUT * job.time_factor,
        limits="debian",
    )
