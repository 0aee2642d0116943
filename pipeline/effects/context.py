"""What every stage is given: the ports to the outside, and where to write. It holds no results."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from pipeline.effects.clock import Now
from pipeline.effects.console import Console, Step
from pipeline.effects.engine import Engine
from pipeline.effects.files import WorkDirectory
from pipeline.effects.http import HttpClient
from pipeline.effects.process import ProcessRunner
from pipeline.effects.public import PublicView
from pipeline.model.configs import Config
from pipeline.model.records import Environment


@dataclass(frozen=True, kw_only=True)
class Claimed:
    """A stage's output of another machine: under which key, and what it ran in.

    ``take`` makes it a finished stage here. It is called when the key has been found to be the one
    that the stage has here, since a finished stage is believed under its key.
    """

    key: str
    environments: tuple[Environment, ...]
    take: Callable[[], object]


@dataclass(frozen=True, kw_only=True)
class Context:
    """The ports, passed to every stage.

    ``root`` is the project's directory, with ``translation_configs/``, ``dockerfiles/`` and
    ``packaging/``. ``engines`` do the work for single platforms, by identifier, ``engine`` all
    other. ``releaser`` is who publishes, for the ledger. With ``dry_run`` finished stages are
    found, but none is run. ``claimed`` has, by identifier and stage, what other machines say they
    made: such a stage is taken over and not run, or the claim is wrong.
    """

    root: Path
    config: Config
    work: WorkDirectory
    engine: Engine
    process: ProcessRunner
    http: HttpClient
    public: PublicView
    console: Console
    now: Now
    releaser: str
    engines: Mapping[str, Engine] = field(default_factory=dict)
    dry_run: bool = False
    claimed: Mapping[str, Mapping[str, "Claimed"]] = field(default_factory=dict)

    def for_platform(self, platform: str) -> "Context":
        """Return this context with the engine that does the work for *platform*."""
        return replace(self, engine=self.engines.get(platform, self.engine))


@dataclass(frozen=True, kw_only=True)
class StageOutput:
    """Where a stage writes: its *directory* becomes final under *key* when the stage returns."""

    key: str
    directory: Path
    step: Step
