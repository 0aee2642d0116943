"""The command line: one function per verb, errors become exit codes here and nowhere else."""

import argparse
import getpass
import logging
import os
import platform
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, TextIO

from pydantic import ValidationError

from pipeline import tables
from pipeline.bootstrap import with_bootstraps
from pipeline.config import json_schemas, known, load_config
from pipeline.doctor import diagnose, provision, require_healthy
from pipeline.effects.clock import utc_now
from pipeline.effects.console import Console
from pipeline.effects.context import Context
from pipeline.effects.docker_engine import DockerEngine
from pipeline.effects.engine import Engine
from pipeline.effects.files import WorkDirectory, write_atomically
from pipeline.effects.http import HttpClient
from pipeline.effects.native_engine import NativeEngine
from pipeline.effects.process import ProcessRunner
from pipeline.effects.server import make_server
from pipeline.effects.store import LocalStore
from pipeline.errors import ConfigError, PipelineError
from pipeline.model.base import pretty_json
from pipeline.model.configs import Channel, ChannelConfig, Config
from pipeline.model.platforms import Mode, Worker
from pipeline.model.versions import InterpreterVersion
from pipeline.plan import Plan, Selection, Workers, channel_config
from pipeline.publish.projections import project, stale_indexes
from pipeline.run import plan_for, run_plan
from pipeline.stages import Stage

INTERRUPTED: Final = 130
NATIVE: Final = "native"
BUG: Final = 99
STAGE_VERBS: Final = {
    Stage.SOURCE: "fetch the pinned inputs and pack the source",
    Stage.TRANSLATE: "translate with RPython in a container",
    Stage.PACKAGE: "make the archives, without network",
    Stage.VERIFY: "check the archives' bytes by every gate",
    Stage.SIGN: "write the manifest, SHA256SUMS and its signature",
    Stage.PUBLISH: "put the files into the store and read them back",
    Stage.LEDGER: "record the release in the ledger",
}

logger = logging.getLogger(__name__)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; return its exit code."""
    console = Console()
    try:
        return main_inner(argv, console)
    except PipelineError as error:
        where = f"{error.where}: " if error.where else ""
        console.fail(f"error: {where}{error}")
        return error.exit_code
    except KeyboardInterrupt:
        console.fail("interrupted; finished stages are kept, run the same command to go on")
        return INTERRUPTED
    except BrokenPipeError:
        if _is_open(sys.stdout):
            return _bug(console)
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception:  # noqa: BLE001 - the last resort: a bug of ours is reported as one
        return _bug(console)


def _is_open(stream: TextIO) -> bool:
    """Whether somebody still reads *stream*: what could not be written is tried again."""
    try:
        stream.flush()
    except OSError:
        return False
    return True


def _bug(console: Console) -> int:
    console.fail(f"{traceback.format_exc()}this is a bug in the pipeline; please report it")
    return BUG


def main_inner(argv: Sequence[str] | None, console: Console) -> int:
    """Run one command; errors are raised."""
    arguments = _parser().parse_args(argv)
    logging.basicConfig(
        level=logging.DEBUG if arguments.verbose else logging.WARNING,
        format="%(levelname)s %(name)s: %(message)s",
    )
    verb: Callable[[argparse.Namespace, Console], int] = arguments.run
    return verb(arguments, console)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m pipeline",
        description="Build, verify, sign and publish interpreters written in RPython.",
    )
    verbs = parser.add_subparsers(metavar="VERB", required=True)
    _add_release_verbs(verbs)
    _add_stage_verbs(verbs)
    _add_config_verbs(verbs)
    _add_doctor(verbs)
    _add_serve(verbs)
    return parser


def _verb(
    verbs: "argparse._SubParsersAction[argparse.ArgumentParser]",
    name: str,
    summary: str,
    run: Callable[[argparse.Namespace, Console], int],
) -> argparse.ArgumentParser:
    parser = verbs.add_parser(name, help=summary, description=summary.capitalize() + ".")
    parser.set_defaults(run=run)
    parser.add_argument(
        "--configs",
        type=Path,
        default=Path("translation_configs"),
        metavar="DIR",
        help="the configuration; dockerfiles/ and packaging/ are beside it (default: %(default)s)",
    )
    parser.add_argument(
        "--work",
        type=Path,
        default=Path("out"),
        metavar="DIR",
        help="where everything is written (default: %(default)s)",
    )
    parser.add_argument("--verbose", action="store_true", help="also log every process started")
    return parser


def _add_selection(parser: argparse.ArgumentParser, *, channel: Channel | None) -> None:
    parser.add_argument(
        "names",
        nargs="*",
        metavar="NAME",
        help="interpreters (demo) or identifiers (demo-linux-x86_64); default: the channel's",
    )
    if channel is None:
        parser.add_argument(
            "--channel", choices=("release", "nightly"), default="release", help="default: release"
        )
    else:
        parser.set_defaults(channel=channel)
    parser.add_argument(
        "--platform",
        action="append",
        default=[],
        help="only this one, or all of an interpreter's; repeatable",
    )
    parser.add_argument(
        "--interpreter-version",
        "--pypy-version",
        type=_version,
        metavar="A.B.C[rcN]",
        help="instead of the version in the interpreter's config",
    )
    parser.add_argument(
        "--source", type=Path, metavar="DIR", help="a local source, for a nightly of one's own"
    )
    parser.add_argument(
        "--mode",
        type=Mode,
        choices=tuple(Mode),
        help="how to translate, instead of the best way that platforms.toml has for this worker",
    )
    _add_engines(parser)
    _add_store(parser)


def _add_engines(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--engine",
        action="append",
        default=[],
        type=_engine_address,
        metavar="PLATFORM=URL",
        help="send a platform's work to another engine (linux-aarch64=ssh://host), or with "
        f"{NATIVE} for URL do it without containers; repeatable",
    )


def _add_store(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--store", metavar="DIR", help="instead of the channel's store")
    parser.add_argument("--base-url", metavar="URL", help="instead of the channel's base_url")


def _add_release_verbs(verbs: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    channels: tuple[tuple[Channel, str], ...] = (
        ("release", "build and publish a release, from source to indexes"),
        ("nightly", "build and publish a nightly of the source as it is"),
    )
    for channel, summary in channels:
        parser = _verb(verbs, channel, summary, _run_stages)
        _add_selection(parser, channel=channel)
        parser.add_argument(
            "--dry-run", action="store_true", help="show what would be done, and do nothing"
        )
        parser.add_argument(
            "--provision",
            action="store_true",
            help="first install and start what is missing (root on Debian or Ubuntu)",
        )
        parser.set_defaults(last=Stage.PROJECTIONS)


def _add_stage_verbs(verbs: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    for stage, summary in STAGE_VERBS.items():
        text = f"{summary}; earlier stages run first if they have not"
        parser = _verb(verbs, stage, text, _run_stages)
        _add_selection(parser, channel=None)
        parser.add_argument(
            "--dry-run", action="store_true", help="show what would be done, and do nothing"
        )
        parser.set_defaults(last=stage, provision=False)
    parser = _verb(
        verbs, Stage.PROJECTIONS, "write the indexes that the ledger asks for", _run_projections
    )
    parser.add_argument("--channel", choices=("release", "nightly"), default="release")
    parser.add_argument("--dry-run", action="store_true", help="name what would change")
    _add_store(parser)


def _add_config_verbs(verbs: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    parser = _verb(verbs, Stage.CONFIG, "read and check all configuration", _run_config)
    parser.add_argument("--json", action="store_true", help="print all of it")
    parser = _verb(
        verbs, Stage.PLAN, "show every job, file name and URL, and do nothing", _run_show_plan
    )
    _add_selection(parser, channel=None)
    parser.add_argument("--json", action="store_true", help="for programs")
    parser.add_argument(
        "--worker", metavar="MACHINE", default=platform.machine(), help="plan for this uname -m"
    )
    parser = _verb(verbs, "schemas", "write the JSON Schemas of the configuration", _run_schemas)
    parser.add_argument("--check", action="store_true", help="only say whether they are up to date")


def _add_doctor(verbs: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    parser = _verb(verbs, "doctor", "check whether this machine can do the work", _run_doctor)
    _add_engines(parser)
    parser.add_argument("--channel", choices=("release", "nightly"), default="release")
    parser.add_argument(
        "--provision",
        action="store_true",
        help="install and start what is missing (root on Debian or Ubuntu)",
    )


def _add_serve(verbs: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    parser = _verb(verbs, "serve", "serve a store over HTTP, for trying out", _run_serve)
    parser.add_argument("--channel", choices=("release", "nightly"), default="release")
    parser.add_argument("--host", default="127.0.0.1", help="default: %(default)s")
    parser.add_argument("--port", type=int, default=8377, help="default: %(default)s")
    _add_store(parser)


def _version(text: str) -> InterpreterVersion:
    try:
        return InterpreterVersion.parse(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _engine_address(text: str) -> tuple[str, str]:
    name, _, address = text.partition("=")
    if not name or not (address == NATIVE or "://" in address):
        msg = f"{text!r} is not PLATFORM=URL, as in linux-aarch64=ssh://host, or PLATFORM={NATIVE}"
        raise argparse.ArgumentTypeError(msg)
    return name, address


def _engines(
    config: Config, arguments: argparse.Namespace, work: WorkDirectory
) -> dict[str, Engine]:
    """Return the engines of single platforms: without containers, or named on the command line."""
    addresses = {name: NATIVE for name, row in config.platforms.items() if row.oci is None}
    addresses |= dict(getattr(arguments, "engine", ()))
    for name in addresses:
        known("platform", name, config.platforms, where="command line: --engine")
    native = NativeEngine(work.path("native"), ProcessRunner())
    return {
        name: native if address == NATIVE else DockerEngine(work.identity(), address=address)
        for name, address in addresses.items()
    }


def _workers(ctx: Context, machine: str) -> Workers:
    """Return this machine, and those whose engines were named; each is asked what it is."""
    here = Worker(os=platform.system().lower(), machine=machine)
    itself = here.model_copy(update={"containers": False})
    elsewhere = {
        name: Worker(os="linux", machine=_machine(ctx.config, engine.info().machine))
        if engine.contained
        else itself
        for name, engine in ctx.engines.items()
    }
    return Workers(here=here, elsewhere=elsewhere)


def _machine(config: Config, told: str) -> str:
    """Return the machine as uname says it, which Docker tells; Podman tells OCI's name of it."""
    rows = config.platforms.values()
    named = (row.machine for row in rows if row.oci is not None and row.oci.architecture == told)
    return next(named, told)


def _context(arguments: argparse.Namespace, console: Console) -> Context:
    work = WorkDirectory(arguments.work.absolute())
    config = load_config(arguments.configs.absolute())
    return Context(
        root=arguments.configs.absolute().parent,
        config=config,
        work=work,
        engine=DockerEngine(work.identity()),
        process=ProcessRunner(),
        http=HttpClient(),
        console=console,
        now=utc_now,
        releaser=_releaser(),
        engines=_engines(config, arguments, work),
        dry_run=getattr(arguments, "dry_run", False),
    )


def _releaser() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"uid {os.getuid()}"


def _channel(config: Config, arguments: argparse.Namespace) -> ChannelConfig:
    """Return the channel's config with what the command line replaces."""
    changes = {
        key: value
        for key in ("store", "base_url")
        if (value := getattr(arguments, key, None)) is not None
    }
    given = {**channel_config(config, arguments.channel).model_dump(), **changes}
    try:
        return ChannelConfig.model_validate(given)
    except ValidationError as error:
        wrong = error.errors()[0]
        option = str(wrong["loc"][0]).replace("_", "-")
        msg = f"command line: --{option} {wrong['input']!r}: {wrong['msg']}"
        raise ConfigError(msg) from error


def _store(ctx: Context, channel: ChannelConfig, arguments: argparse.Namespace) -> LocalStore:
    """Return the store; a path on the command line is relative to the current directory."""
    given = arguments.store
    return LocalStore(Path(given).absolute() if given else ctx.work.root / channel.store)


def _selection(config: Config, arguments: argparse.Namespace) -> Selection:
    """Read names, each an interpreter or an identifier like ``demo-linux-x86_64``."""
    interpreters, identified = [], []
    for name in arguments.names:
        found = next(
            (
                (interpreter, row)
                for interpreter in config.interpreters
                for row in config.platforms
                if name == f"{interpreter}-{row}"
            ),
            None,
        )
        if found is None:
            known("interpreter", name, config.interpreters, where="command line")
            interpreters.append(name)
        else:
            identified.append(found)
    return Selection(
        channel=arguments.channel,
        interpreters=tuple(interpreters),
        platforms=tuple(arguments.platform),
        identified=tuple(identified),
        version=arguments.interpreter_version,
        source=str(arguments.source.absolute()) if arguments.source else None,
        mode=arguments.mode,
    )


def _plan(ctx: Context, arguments: argparse.Namespace, machine: str) -> Plan:
    """Return the plan, with the command line's replacements in the channel."""
    selection = _selection(ctx.config, arguments)
    channels = ctx.config.channels.model_copy(
        update={arguments.channel: _channel(ctx.config, arguments)}
    )
    config = ctx.config.model_copy(update={"channels": channels})
    changed = Context(**{**vars(ctx), "config": config})
    return plan_for(changed, selection, _workers(ctx, machine))


def _run_stages(arguments: argparse.Namespace, console: Console) -> int:
    ctx = _context(arguments, console)
    with ctx.work.locked():
        if arguments.provision and not ctx.dry_run:
            provision(ctx)
            require_healthy(diagnose(ctx, _channel(ctx.config, arguments)))
        plan = _plan(ctx, arguments, platform.machine())
        store = _store(ctx, plan.channel_config, arguments)
        plan = with_bootstraps(ctx, plan, store)
        outcome = run_plan(ctx, plan, store, arguments.last)
    if ctx.dry_run:
        tables.show_plan(console, plan)
        tables.show_unfinished(console, outcome)
    else:
        tables.show_outcome(console, outcome, store.root)
    return 0


def _run_projections(arguments: argparse.Namespace, console: Console) -> int:
    ctx = _context(arguments, console)
    channel = _channel(ctx.config, arguments)
    store = _store(ctx, channel, arguments)
    if ctx.dry_run:
        changed = stale_indexes(store, ctx.config.platforms, channel.base_url)
    else:
        changed = project(store, ctx.config.platforms, channel.base_url)
    verb = "would be written" if ctx.dry_run else "written"
    console.line(f"{len(changed)} indexes {verb}: {', '.join(changed) or 'none'}")
    return 0


def _run_config(arguments: argparse.Namespace, console: Console) -> int:
    config = load_config(arguments.configs.absolute())
    if arguments.json:
        sys.stdout.write(pretty_json(config).decode())
    else:
        tables.show_config(console, config)
    return 0


def _run_show_plan(arguments: argparse.Namespace, console: Console) -> int:
    ctx = _context(arguments, console)
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
    ctx = _context(arguments, console)
    if arguments.provision:
        provision(ctx)
    results = diagnose(ctx, _channel(ctx.config, arguments))
    tables.show_diagnosis(console, results)
    require_healthy(results)
    return 0


def _run_serve(arguments: argparse.Namespace, console: Console) -> int:
    ctx = _context(arguments, console)
    channel = _channel(ctx.config, arguments)
    store = _store(ctx, channel, arguments)
    server = make_server(store.root, arguments.host, arguments.port)
    address = f"http://{arguments.host}:{server.server_port}"
    if address != channel.base_url:
        console.warn(
            f"the indexes hold URLs below {channel.base_url}. To make them fit this server: "
            f"python -m pipeline projections --store {store.root} --base-url {address}"
        )
    console.line(f"{store.root} is served at {address} (Ctrl-C ends it)")
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        console.line("ended")
    finally:
        server.server_close()
    return 0
