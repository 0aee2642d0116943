"""Several machines with one project: each its own work directory and engine, and one store."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pipeline.effects.context import Context
from pipeline.effects.files import WorkDirectory
from pipeline.effects.store import LocalStore
from pipeline.handover.collect import collect
from pipeline.handover.prepare import Asked, prepare_run
from pipeline.handover.runs import Run
from pipeline.handover.unit import Unit, run_unit
from pipeline.model.farm import Claim, Claims, Submission
from pipeline.model.platforms import Worker
from pipeline.plan import channel_config
from pipeline.publish.sites import OpenChannel, Site
from pipeline.run import Outcome
from pipeline.stages import Stage
from tests.fakes import MACHINE, FakeEngine, FakeNotary, World

HERE = Worker(os="linux", machine=MACHINE)


@dataclass(frozen=True, kw_only=True)
class Machine:
    """One machine of the farm."""

    name: str
    ctx: Context
    engine: FakeEngine

    @property
    def steps(self) -> list[str]:
        """What ran in containers here, by kind."""
        return [step.name.split("-")[0] for step in self.engine.steps]


class Farm:
    """A signer, workers, and what lies between them."""

    def __init__(self, world: World, directory: Path) -> None:
        self.world = world
        self.directory = directory
        self.store = LocalStore(directory / "handover")
        self.published = LocalStore(directory / "published")
        self.signer = self.machine("signer")
        self.notary = FakeNotary()
        self.after: str = Stage.TRANSLATE
        self.builders: dict[str, tuple[str, ...]] = {"toy-linux-x86_64": ("one", "two")}

    def machine(self, name: str, root: Path | None = None, **changes: Any) -> Machine:
        """Add a machine; *root* is its copy of the project, if it has another."""
        engine = FakeEngine()
        engine.saved = b"an image of " + name.encode()
        ctx = replace(
            self.world.ctx,
            engine=engine,
            work=WorkDirectory(self.directory / name),
            root=root or self.world.ctx.root,
            **changes,
        )
        return Machine(name=name, ctx=ctx, engine=engine)

    def channel(self, name: str = "release") -> OpenChannel:
        """Return where the signer publishes."""
        config = channel_config(self.world.ctx.config, name)  # type: ignore[arg-type]
        site = Site(store=self.published, base_url=config.base_url)
        return OpenChannel(config=config, sites=(site,), notary=self.notary)

    def prepare(self, run: str = "r1", on: Machine | None = None, **submission: Any) -> Run:
        """Prepare a run of the toy."""
        given = {"request": "test", "channel": "release", "names": ("toy",), **submission}
        asked = Asked(
            run=run,
            after=self.after,
            submission=Submission.model_validate(given),
            kinds=(HERE,),
            builders=self.builders,
        )
        channel = self.channel(str(given["channel"]))
        return prepare_run((on or self.signer).ctx, self.store, asked, HERE, channel)

    def unit(self, run: Run, machine: Machine, job: str = "toy-linux-x86_64") -> Claim:
        """Let a machine do one job."""
        unit = Unit(
            run=run,
            identifier=job,
            worker=machine.name,
            last=Stage(self.after),
            builders=self.builders.get(job, ()),
        )
        return run_unit(machine.ctx, self.store, unit)

    def collect(self, run: Run, *claims: Claim, **others: Any) -> Outcome:
        """Let the signer make the release."""
        given = Claims(run=run.run, claims=claims, **others)
        channel = self.channel(run.plan.channel)
        return collect(self.signer.ctx, self.store, run, given, channel, Stage.PROJECTIONS)
