"""What promoting a release means: announcing it, building it, or no; a pure decision.

Nothing is packed again after it was verified, and a binary says itself which version it is. So:

- a *staged* release has its final names already: it is announced, with the same bytes;
- a *nightly* has names of its own in its archives (their one top directory, among others), so its
  bytes cannot become a release's. But where its source says the final version that is wanted, and
  its commit is the one that ``source.commits`` pins for it, its translation is that release's: it
  is found under its key and not done again; package, verify, sign and publish run under the
  release's names;
- of an alpha, a beta or a candidate, or of another commit, nothing can be taken: its binaries say
  what they are. The release is built from its own commit.
"""

from dataclasses import dataclass

from pipeline.config import known
from pipeline.errors import EventError
from pipeline.model import naming
from pipeline.model.configs import Config, GitSource
from pipeline.model.ledger import Published, Release, State
from pipeline.model.versions import InterpreterVersion
from pipeline.publish.events import existing
from pipeline.publish.offers import meant


@dataclass(frozen=True, kw_only=True)
class Announce:
    """It has its final names: an event is all that is missing, if it is."""

    release: Release


@dataclass(frozen=True, kw_only=True)
class Build:
    """It has other names: the release flow makes the release, from the same translation."""

    interpreter: str
    version: InterpreterVersion


def promotion_of(
    state: State, config: Config, name: str, version: InterpreterVersion | None = None
) -> Announce | Build:
    """Return what promoting *name* takes; *version* is what it should become, by default its own.

    Raises:
        EventError: it cannot become that; the message says why, and which command makes it.
    """
    found = meant(state, name)
    existing(state, found.published.product, found.name)
    event = found.published
    wanted = version or event.interpreter_version
    if event.interpreter_version != wanted:
        msg = (
            f"{event.release} says of itself that it is {event.interpreter_version}, in its "
            f"binaries too, so it cannot become {wanted}. {_build_it(event, wanted)}"
        )
        raise EventError(msg)
    if event.channel == "release":
        return Announce(release=found)
    _refuse_unfit(config, found)
    _refuse_known(state, event, wanted)
    return Build(interpreter=event.interpreter, version=wanted)


def _refuse_unfit(config: Config, nightly: Release) -> None:
    """Refuse a nightly that a release may not be made of."""
    event = nightly.published
    version = event.interpreter_version
    if nightly.yanked is not None:
        msg = (
            f"{event.release} was yanked on {nightly.yanked.at:%Y-%m-%d}: {nightly.yanked.reason}. "
            f"If that was wrong: python -m pipeline unyank {event.release}"
        )
        raise EventError(msg)
    if not version.final:
        msg = (
            f"{event.release} is of {version}, and its binaries say so; only a final version "
            f"becomes a release. Set {version._replace(level=version.level.FINAL, serial=0)} in "
            "the source, tag it, add the commit to source.commits, then: "
            f"{_command(event.interpreter, version._replace(level=version.level.FINAL, serial=0))}"
        )
        raise EventError(msg)
    file = f"{event.interpreter}.toml"
    source = known("interpreter", event.interpreter, config.interpreters, where=file).source
    pinned = source.commits.get(str(version)) if isinstance(source, GitSource) else None
    if pinned is None or event.source.dirty:
        msg = (
            f"{event.release}: {file} pins no commit for {version} that it could be of "
            f"(source.commits). {_build_it(event, version)}"
        )
        raise EventError(msg)
    if pinned != event.source.revision:
        msg = (
            f"{event.release} is of commit {event.source.revision}, but {file} pins {pinned} for "
            f"{version}. {_build_it(event, version)}"
        )
        raise EventError(msg)


def _refuse_known(state: State, event: Published, version: InterpreterVersion) -> None:
    """Refuse a release that there is already."""
    name = naming.release_name(event.interpreter, version)
    there = state.find(event.product, name)
    if there is not None:
        way = (
            "It was promoted or never staged; there is nothing to do."
            if there.is_announced
            else f"Announce it: python -m pipeline promote {name}"
        )
        msg = f"{name} was published on {there.published.at:%Y-%m-%d} already. {way}"
        raise EventError(msg)


def _build_it(event: Published, version: InterpreterVersion) -> str:
    return f"Build it from its own commit: {_command(event.interpreter, version)}"


def _command(interpreter: str, version: InterpreterVersion) -> str:
    return f"python -m pipeline release {interpreter} --interpreter-version {version}"
