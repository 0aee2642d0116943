"""Verbs that build: the whole flow, its single stages, and what they need."""

import argparse
import platform
import sys
from datetime import date
from typing import Final

from pipeline import tables
from pipeline.bootstrap import with_bootstraps
from pipeline.cli.handing import add_claims, add_hand_over, add_worker, do_collect, do_unit
from pipeline.cli.options import (
    Verbs,
    add_channel,
    add_dry_run,
    add_engines,
    add_selection,
    add_verb,
)
from pipeline.cli.ports import chosen_channel, make_context, open_channel, workers_for
from pipeline.cli.submitting import add_farm_options, on_farm, submit
from pipeline.config import json_schemas, load_config
from pipeline.doctor import diagnose, provision, require_healthy
from pipeline.effects.clock import utc_now
from pipeline.effects.console import Console
from pipeline.effects.context import Context
from pipeline.effects.files import write_atomically
from pipeline.errors import ConfigError
from pipeline.model.base import pretty_json
from pipeline.model.configs import Channel, Config
from pipeline.model.versions import InterpreterVersion
from pipeline.plan import Plan, Selection, split_names
from pipeline.run import plan_for, run_plan
from pipeline.stages import Stage

STAGE_VERBS: Final = {
    Stage.SOURCE: "fetch the pinned inputs and pack the source",
    Stage.TRANSLATE: "translate with RPython in a container",
    Stage.PACKAGE: "make the archives, without network",
    Stage.VERIFY: "check the archives' bytes by every gate",
    Stage.DEBIAN: "make Debian packages of the verified archives",
    Stage.IMAGE: "make OCI images of the verified archives",
    Stage.SIGN: "write the manifest, the provenance, SHA256SUMS and its signature",
    Stage.PUBLISH: "put the files into the store and fetch them back",
    Stage.LEDGER: "record the release in the ledger",
}


def add_building_verbs(verbs: Verbs) -> None:
    """Add release, nightly, every stage, plan, config, schemas and doctor."""
    _add_release_verbs(verbs)
    _add_stage_verbs(verbs)
    _add_config_verbs(verbs)
    _add_doctor(verbs)


def _add_release_verbs(verbs: Verbs) -> None:
    channels: tuple[tuple[Channel, str], ...] = (
        ("release", "build and publish a release, from source to indexes"),
        ("nightly", "build and publish a nightly of the source as it is"),
    )
    for channel, summary in channels:
        parser = add_verb(verbs, channel, summary, run_stages)
        add_selection(parser, channel=channel)
        add_dry_run(parser, "show what would be done, and do nothing")
        add_hand_over(parser)
        add_claims(parser)
        parser.add_argument(
            "--provision",
            action="store_true",
            help="first install and start what is missing (root on Debian or Ubuntu)",
        )
        if channel == "release":
            parser.add_argument(
                "--stage",
                action="store_true",
                help="publish under the final names, but let no index offer it until `promote`",
            )
        add_farm_options(parser)
        parser.set_defaults(last=Stage.PROJECTIONS)


def _add_stage_verbs(verbs: Verbs) -> None:
    for stage, summary in STAGE_VERBS.items():
        text = f"{summary}; earlier stages run first if they have not"
        parser = add_verb(verbs, stage, text, run_stages)
        add_selection(parser, channel=None)
        add_dry_run(parser, "show what would be done, and do nothing")
        add_hand_over(parser)
        add_worker(parser)
        parser.set_defaults(last=stage, provision=False)


def _add_config_verbs(verbs: Verbs) -> None:
    parser = add_verb(verbs, Stage.CONFIG, "read and check all configuration", _run_config)
    parser.add_argument("--json", action="store_true", help="print all of it")
    parser = add_verb(
        verbs, Stage.PLAN, "show every job, file name and URL, and do nothing", _run_show_plan
    )
    add_selection(parser, channel=None)
    parser.add_argument("--json", action="store_true", help="for programs")
    parser.add_argument(
        "--worker", metavar="MACHINE", default=platform.machine(), help="plan for this uname -m"
    )
    parser = add_verb(verbs, "schemas", "write the JSON Schemas of the configuration", _run_schemas)
    parser.add_argument("--check", action="store_true", help="only say whether they are up to date")


def _add_doctor(verbs: Verbs) -> None:
    parser = add_verb(verbs, "doctor", "check whether this machine can do the work", _run_doctor)
    add_engines(parser)
    add_channel(parser)
    parser.add_argument(
        "--provision",
        action="store_true",
        help="install and start what is missing (root on Debian or Ubuntu)",
    )
    parser.add_argument(
        "--builder",
        action="store_true",
        help="check only what work needs that is signed and published elsewhere: no key, no store",
    )


def _selection(config: Config, arguments: argparse.Namespace, today: date) -> Selection:
    """Return what the command line selects."""
    interpreters, identified = split_names(config, arguments.names)
    return Selection(
        channel=arguments.channel,
        interpreters=interpreters,
        platforms=tuple(arguments.platform),
        identified=identified,
        version=arguments.interpreter_version,
        source=str(arguments.source.absolute()) if arguments.source else None,
        mode=arguments.mode,
        day=today,
        staged=getattr(arguments, "stage", False),
    )


def _plan(ctx: Context, arguments: argparse.Namespace, machine: str) -> Plan:
    """Return the plan, with the command line's replacements in the channel."""
    selection = _selection(ctx.config, arguments, ctx.now().date())
    channels = ctx.config.channels.model_copy(
        update={arguments.channel: chosen_channel(ctx.config, arguments)}
    )
    config = ctx.config.model_copy(update={"channels": channels})
    changed = Context(**{**vars(ctx), "config": config})
    return plan_for(changed, selection, workers_for(ctx, machine))


def run_stages(arguments: argparse.Namespace, console: Console) -> int:
    """Run the stages up to ``arguments.last`` of what the command line selects."""
    if getattr(arguments, "run_name", None) is not None:
        is_whole = arguments.last is Stage.PROJECTIONS
        return (do_collect if is_whole else do_unit)(arguments, console)
    if on_farm(arguments):
        config = load_config(arguments.configs.absolute())
        selection = _selection(config, arguments, utc_now().date())
        return submit(arguments, config, selection, console)
    ctx = make_context(arguments, console)
    with ctx.work.locked():
        if arguments.provision and not ctx.dry_run:
            provision(ctx)
            require_healthy(diagnose(ctx, chosen_channel(ctx.config, arguments)))
        plan = _plan(ctx, arguments, platform.machine())
        channel = open_channel(ctx, plan.channel_config, arguments)
        plan = with_bootstraps(ctx, plan, channel)
        _require_anything(plan, arguments.last)
        outcome = run_plan(ctx, plan, channel, arguments.last)
    if ctx.dry_run:
        tables.show_plan(console, plan)
        tables.show_unfinished(console, outcome)
    else:
        tables.show_outcome(console, outcome, channel.sites[0])
    return 0


def _require_anything(plan: Plan, last: Stage) -> None:
    """Refuse to make packages or images where there are none to make.

    Raises:
        ConfigError: the channel, or all that is selected, has none of them.
    """
    asked = {
        Stage.DEBIAN: (any(job.suites for job in plan.jobs), "apt"),
        Stage.IMAGE: (any(job.variants for job in plan.jobs), "registry"),
        Stage.INSTALL: (any(job.suites or job.variants for job in plan.jobs), "apt or registry"),
    }
    has_any, table = asked.get(last, (True, ""))
    if not has_any:
        msg = (
            f"channels.toml: {plan.channel} has no {table} for what is selected, so there is "
            "nothing to make. .github/PACKAGES.md says what to put there."
        )
        raise ConfigError(msg)


def run_release(
    arguments: argparse.Namespace,
    console: Console,
    interpreter: str,
    version: InterpreterVersion,
) -> int:
    """Make one release with the options of a verb that has those of engines and of the store."""
    given: dict[str, object] = {
        "channel": "release",
        "names": [interpreter],
        "interpreter_version": version,
        "source": None,
        "mode": None,
        "provision": False,
        "last": Stage.PROJECTIONS,
    }
    return run_stages(argparse.Namespace(**{**vars(arguments), **given}), console)


def _run_config(arguments: argparse.Namespace, console: Console) -> int:
    config = load_config(arguments.configs.absolute())
    if arguments.json:
        sys.stdout.write(pretty_json(config).decode())
    else:
        tables.show_config(console, config)
    return 0


def _run_show_plan(arguments: argparse.Namespace, console: Console) -> int:
    ctx = make_context(arguments, console)
    plan = _plan(ctx, arguments, arguments.worker)
    if arguments.json:
        sys.stdout.write(pretty_json(plan).decode())
    else:
        tables.show_plan(console, plan)
    return 0


def _run_schemas(arguments: argparse.Namespace, console: Console) -> int:
    directory = arguments.configs / "schema"
    stale = []
    for name, data in json_schemas().items():
        path = directory / name
        if not path.is_file() or path.read_bytes() != data:
            stale.append(name)
            if not arguments.check:
                write_atomically(path, data)
    verb = "stale" if arguments.check else "written"
    console.line(f"{len(stale)} schemas {verb}: {', '.join(stale) or 'none'}")
    return 1 if arguments.check and stale else 0


def _run_doctor(arguments: argparse.Namespace, console: Console) -> int:
    ctx = make_context(arguments, console)
    if arguments.provision:
        provision(ctx)
    channel = None if arguments.builder else chosen_channel(ctx.config, arguments)
    results = diagnose(ctx, channel)
    tables.show_diagnosis(console, results)
    require_healthy(results)
    return 0
