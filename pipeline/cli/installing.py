"""The verb that installs packages and images by real clients: install-check."""

import argparse
import platform

from pipeline import tables
from pipeline.cli.building import run_stages
from pipeline.cli.options import Verbs, add_dry_run, add_examples, add_selection, add_verb
from pipeline.cli.ports import chosen_channel, make_context, reading_channel
from pipeline.effects.console import Console
from pipeline.errors import ConfigError, EventError
from pipeline.model.records import Installed
from pipeline.publish.installed import Check, check_published, own_factors
from pipeline.publish.ledger import read_ledger
from pipeline.publish.offers import meant
from pipeline.stages import Stage


def add_install_check(verbs: Verbs) -> None:
    """Add install-check."""
    summary = "install packages and images by real clients in clean containers"
    parser = add_verb(verbs, Stage.INSTALL, summary, _run_install_check)
    add_selection(parser, channel=None)
    add_dry_run(parser, "show what would be done, and do nothing")
    parser.add_argument(
        "--published",
        action="store_true",
        help="NAMEs are releases; what users get is installed, on --platform (default: this one)",
    )
    add_examples(
        parser,
        "install-check pypy3.11",
        "install-check --published pypy3.11-v7.3.23 --platform linux-aarch64",
    )
    parser.set_defaults(last=Stage.INSTALL, provision=False)


def _run_install_check(arguments: argparse.Namespace, console: Console) -> int:
    if not arguments.published:
        return run_stages(arguments, console)
    if not arguments.names:
        msg = "command line: --published: name a release, such as pypy3.11-v7.3.23"
        raise ConfigError(msg)
    ctx = make_context(arguments, console)
    channel = reading_channel(ctx, chosen_channel(ctx.config, arguments), arguments)
    state = read_ledger(channel.store, channel.notary).state
    checks = [
        Check(
            ctx=ctx,
            channel=channel,
            state=state,
            release=release,
            factors=own_factors(ctx.config, release, arguments.platform, platform.machine()),
        )
        for release in [meant(state, name) for name in arguments.names]
    ]
    with ctx.work.locked():
        found = [installed for check in checks for installed in _install(check, console)]
    tables.show_installed(console, found)
    return 0


def _install(check: Check, console: Console) -> tuple[Installed, ...]:
    name = check.release.name
    if not check.release.is_offered:
        msg = f"{name}: is not offered (staged, yanked or pruned), so nobody can install it."
        raise EventError(msg)
    if check.ctx.dry_run:
        console.line(f"{name}: would be installed on {', '.join(check.factors) or 'no platform'}")
        return ()
    with console.step(f"{Stage.INSTALL} {name}") as step:
        found = check_published(check, step)
        if not found:
            step.skip("has neither packages nor images for these platforms")
    return found
