"""Verbs and options of work that several machines share: prepare, --run, --claims.

What one machine says to the others is one JSON document on standard output.
"""

import argparse
import platform
import re
import sys
from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Final, TypeVar

from pydantic import BaseModel, ValidationError

from pipeline import tables
from pipeline.cli.options import Verbs, add_engines, add_examples, add_store, add_verb
from pipeline.cli.ports import (
    chosen_channel,
    make_context,
    open_channel,
    reading_channel,
    workers_for,
)
from pipeline.cli.standing import add_key, key_notary
from pipeline.config import load_farm
from pipeline.effects.console import Console
from pipeline.effects.context import Context
from pipeline.effects.http_store import HttpStore
from pipeline.effects.retry import PATIENT
from pipeline.effects.store import Store
from pipeline.effects.stores import open_store
from pipeline.errors import ConfigError, RunError, StoreError
from pipeline.farm.units import unit_workers
from pipeline.handover.collect import collect
from pipeline.handover.policy import bucket_policy
from pipeline.handover.prepare import Asked, kinds_of, prepare_run
from pipeline.handover.retention import forget_old
from pipeline.handover.runs import known_run
from pipeline.handover.unit import Unit, run_unit
from pipeline.model.base import pretty_json
from pipeline.model.farm import (
    Claims,
    Collected,
    CollectedRelease,
    FarmConfig,
    Submission,
)
from pipeline.model.platforms import LINUX, Worker
from pipeline.publish.sites import OpenChannel, Site
from pipeline.run import Outcome
from pipeline.stages import Stage

KIND: Final = re.compile(r"(linux|darwin|windows)/([A-Za-z0-9_]+)")
HANDED_OVER: Final = (Stage.TRANSLATE, Stage.PACKAGE, Stage.VERIFY)
"""The stages that a worker may do for others."""
DECIDED: Final = (
    "platform",
    "interpreter_version",
    "source",
    "mode",
    "stage",
    "provision",
    "farm",
    "dry_run",
    "store",
    "base_url",
)
"""Options that begin a run, so that they are too late for a part of it."""

M = TypeVar("M", bound=BaseModel)


def add_prepare(verbs: Verbs) -> None:
    """Add prepare."""
    summary = "make the plan of a run, and put what workers need for it into the hand-over store"
    parser = add_verb(verbs, "prepare", summary, _run_prepare)
    add_hand_over(parser)
    parser.add_argument(
        "--submission", type=Path, required=True, metavar="FILE", help="what is asked for, as JSON"
    )
    parser.add_argument(
        "--kind",
        action="append",
        default=[],
        type=_kind,
        metavar="OS/MACHINE",
        help="a kind of machine that works, instead of those in farm.toml; repeatable",
    )
    add_engines(parser)
    add_store(parser)
    add_key(parser)
    add_examples(parser, "prepare --run r1 --submission submission.json --hand-over handover")


def add_hand_over_policy(verbs: Verbs) -> None:
    """Add hand-over-policy."""
    summary = "print the policy of the hand-over bucket: each worker writes to its own place only"
    parser = add_verb(verbs, "hand-over-policy", summary, _run_policy)
    parser.add_argument(
        "--principal",
        required=True,
        metavar="NAME",
        help="a worker's user as the server names it, with {} for the worker",
    )
    parser.add_argument("--hand-over", metavar="STORE", help="instead of farm.toml's")
    add_examples(parser, "hand-over-policy --principal 'arn:aws:iam::123456789012:user/farm-{}'")


def add_hand_over(parser: argparse.ArgumentParser) -> None:
    """Add the options that say of which run something is, and where outputs are handed over."""
    group = parser.add_argument_group("work that several machines share")
    group.add_argument("--run", dest="run_name", metavar="RUN", help="the run that this is part of")
    group.add_argument(
        "--hand-over",
        metavar="STORE",
        help="where outputs are handed over: a directory or s3://bucket/prefix (default: "
        "farm.toml's)",
    )


def add_worker(parser: argparse.ArgumentParser) -> None:
    """Add the option that says which worker this is."""
    parser.add_argument(
        "--worker", metavar="NAME", help="with --run: who hands over; writes below workers/NAME/"
    )


def add_claims(parser: argparse.ArgumentParser) -> None:
    """Add the option that says what workers claim."""
    parser.add_argument(
        "--claims", type=Path, metavar="FILE", help="with --run: what workers claim, as JSON"
    )


def do_unit(arguments: argparse.Namespace, console: Console) -> int:
    """Do one job of a run, and print the claim."""
    _refuse_decided(arguments)
    identifier, worker = _one_name(arguments), _worker_name(arguments)
    ctx = make_context(arguments, console)
    farm = _farm(arguments)
    store = hand_over_store(ctx, farm, arguments)
    unit = Unit(
        run=known_run(store, arguments.run_name),
        identifier=identifier,
        worker=worker,
        last=arguments.last,
        builders=_builders(ctx, farm).get(identifier, ()),
    )
    with ctx.work.locked():
        claim = run_unit(ctx, store, unit)
    sys.stdout.write(pretty_json(claim).decode())
    return 0


def do_collect(arguments: argparse.Namespace, console: Console) -> int:
    """Make the releases of a run from what workers claim, and print what came out."""
    _refuse_decided(arguments)
    if arguments.names:
        names = " ".join(arguments.names)
        msg = f"command line: --run collects all of a run: leave out {names}."
        raise ConfigError(msg)
    if arguments.claims is None:
        msg = "command line: --run needs --claims FILE here: what the workers claim to have made."
        raise ConfigError(msg)
    claims = _read(arguments.claims, Claims)
    ctx = make_context(arguments, console)
    farm = _farm(arguments)
    store = hand_over_store(ctx, farm, arguments)
    run = known_run(store, arguments.run_name)
    if run.plan.channel != arguments.channel:
        msg = f"run {run.run} is of channel {run.plan.channel}: use that verb, not this one."
        raise RunError(msg)
    with _signers_turn(ctx):
        channel = open_channel(ctx, run.plan.channel_config, arguments)
        outcome = collect(ctx, store, run, claims, channel, arguments.last)
        if farm is not None:
            _forget(ctx, store, farm.keep_days)
    tables.show_outcome(console, outcome, channel.sites[0])
    collected = Collected(
        run=run.run,
        channel=run.plan.channel,
        releases=_collected(outcome),
        unchanged=(*run.prepared.unchanged, *(name for name, _ in outcome.unchanged)),
        at=ctx.now(),
    )
    sys.stdout.write(pretty_json(collected).decode())
    return 0


def _forget(ctx: Context, store: Store, days: int) -> None:
    """Forget old outputs; what is published is that, also where this fails."""
    try:
        forgotten = forget_old(ctx.work, store, ctx.now(), days)
    except (OSError, StoreError) as error:
        ctx.console.warn(f"old outputs could not be forgotten: {error}")
    else:
        ctx.console.line(f"{len(forgotten)} outputs forgotten, older than {days} days")


def hand_over_store(ctx: Context, farm: FarmConfig | None, arguments: argparse.Namespace) -> Store:
    """Return the hand-over store: the one on the command line, or farm.toml's.

    A path on the command line is relative to the current directory, one in the configuration to
    the work directory.

    Raises:
        ConfigError: there is neither.
    """
    given = arguments.hand_over
    if given is None and farm is None:
        msg = "command line: --run needs --hand-over STORE, since there is no farm.toml."
        raise ConfigError(msg)
    hand_over = (farm or _no_farm(given)).hand_over
    if given is not None:
        hand_over = hand_over.model_copy(update={"store": given})
    root = Path.cwd() if given else ctx.work.root
    return open_store(hand_over.as_store(), root, PATIENT)


def _no_farm(store: str) -> FarmConfig:
    """Return a farm of one machine, for the options of a store that has its defaults."""
    signer = {"role": "signer", "memory": 1}
    return FarmConfig.model_validate({"workers": {"signer": signer}, "hand_over": {"store": store}})


def _farm(arguments: argparse.Namespace) -> FarmConfig | None:
    root: Path = arguments.configs.absolute()
    return load_farm(root) if (root / "farm.toml").is_file() else None


def _signers_turn(ctx: Context) -> AbstractContextManager[None]:
    """Wait for another run: no other machine could do it, and work that is left ends by itself."""
    return ctx.work.locked(
        lambda who: ctx.console.line(
            f"waits for process {who}, which is at work in {ctx.work.root}"
        )
    )


def _builders(ctx: Context, farm: FarmConfig | None) -> Mapping[str, tuple[str, ...]]:
    return unit_workers(ctx.config, farm) if farm is not None else {}


def _run_prepare(arguments: argparse.Namespace, console: Console) -> int:
    if arguments.run_name is None:
        msg = "command line: prepare needs --run RUN, the name of what is prepared."
        raise ConfigError(msg)
    submission = _read(arguments.submission, Submission)
    options = {**vars(arguments), "channel": submission.channel}
    arguments = argparse.Namespace(**options)
    ctx = _with_channel(make_context(arguments, console), arguments)
    farm = _farm(arguments)
    asked = Asked(
        run=arguments.run_name,
        submission=submission,
        kinds=tuple(arguments.kind) or (kinds_of(farm) if farm is not None else ()),
        builders=_builders(ctx, farm),
        after=farm.hand_over.after if farm is not None else Stage.TRANSLATE,
    )
    store = hand_over_store(ctx, farm, arguments)
    with _signers_turn(ctx):
        channel = _published(ctx, arguments)
        here = workers_for(ctx, platform.machine()).here
        run = prepare_run(ctx, store, asked, here, channel)
    tables.show_plan(console, run.plan)
    sys.stdout.write(pretty_json(run.prepared).decode())
    return 0


def _published(ctx: Context, arguments: argparse.Namespace) -> OpenChannel:
    """Return the channel to read: with public keys as its users do, without credentials."""
    config = chosen_channel(ctx.config, arguments)
    if arguments.key is None:
        return reading_channel(ctx, config, arguments)
    site = Site(store=HttpStore(ctx.http, config.base_url), base_url=config.base_url)
    return OpenChannel(config=config, sites=(site,), notary=key_notary(ctx, arguments.key))


def _run_policy(arguments: argparse.Namespace, _console: Console) -> int:
    farm = load_farm(arguments.configs.absolute())
    store = arguments.hand_over or farm.hand_over.store
    sys.stdout.write(pretty_json(bucket_policy(farm, store, arguments.principal)).decode())
    return 0


def _with_channel(ctx: Context, arguments: argparse.Namespace) -> Context:
    """Return the context with the command line's replacements in the channel."""
    channels = ctx.config.channels.model_copy(
        update={arguments.channel: chosen_channel(ctx.config, arguments)}
    )
    config = ctx.config.model_copy(update={"channels": channels})
    return Context(**{**vars(ctx), "config": config})


def _refuse_decided(arguments: argparse.Namespace) -> None:
    """Refuse options that would be ignored.

    Raises:
        ConfigError: there is one.
    """
    for name in DECIDED:
        if getattr(arguments, name, None):
            msg = (
                f"command line: --{name.replace('_', '-')} says nothing with --run, whose plan "
                "`prepare` has made. Leave one of them out."
            )
            raise ConfigError(msg)


def _one_name(arguments: argparse.Namespace) -> str:
    if len(arguments.names) != 1 or arguments.last not in HANDED_OVER:
        verbs = ", ".join(HANDED_OVER)
        msg = f"command line: --run takes one identifier, and one of the verbs {verbs}."
        raise ConfigError(msg)
    return str(arguments.names[0])


def _worker_name(arguments: argparse.Namespace) -> str:
    if arguments.worker is None:
        msg = "command line: --run needs --worker NAME, to say who hands the output over."
        raise ConfigError(msg)
    return str(arguments.worker)


def _collected(outcome: Outcome) -> tuple[CollectedRelease, ...]:
    return tuple(
        CollectedRelease(release=item.release.release, is_new=item.is_new, files=item.files)
        for item in outcome.releases
    )


def _read(path: Path, model: type[M]) -> M:
    try:
        return model.model_validate_json(path.read_bytes())
    except OSError as error:
        msg = f"command line: {path}: cannot be read: {error.strerror}."
        raise ConfigError(msg) from error
    except ValidationError as error:
        wrong = error.errors()[0]
        where = ".".join(map(str, wrong["loc"])) or "the whole document"
        msg = f"{path}: is no {model.__name__}: {where}: {wrong['msg']}."
        raise ConfigError(msg) from error


def _kind(text: str) -> Worker:
    parts = KIND.fullmatch(text)
    if parts is None:
        msg = f"{text!r} is not OS/MACHINE, as linux/x86_64 or darwin/arm64"
        raise argparse.ArgumentTypeError(msg)
    return Worker(os=parts[1], machine=parts[2], containers=parts[1] == LINUX)
