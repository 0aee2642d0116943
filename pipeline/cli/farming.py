"""Verbs that run a farm's processes: one worker, or a whole farm on this machine."""

import argparse
import importlib.metadata
import os
import platform
import re
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import Final, NoReturn

import pipeline
from pipeline.cli.options import Verbs, add_dry_run, add_examples, add_verb, port
from pipeline.config import load_farm
from pipeline.effects.clock import utc_now
from pipeline.effects.console import Console
from pipeline.effects.databases import has_password
from pipeline.effects.detached import DetachedWork
from pipeline.effects.dialing import free_port, require_master, trusting
from pipeline.effects.docker_engine import DockerEngine
from pipeline.effects.files import WorkDirectory, write_privately
from pipeline.effects.process import ProcessRunner
from pipeline.errors import ConfigError, WorkdirBusyError
from pipeline.farm.backup import back_up, restore
from pipeline.farm.facts import measured_facts, this_os
from pipeline.farm.local import LOOPBACK, LocalFarm, lay_out, local_config, shortage, workers_here
from pipeline.farm.parts import (
    INTERVAL,
    MASTER,
    LocalProcesses,
    Part,
    create_database,
    master_part,
    wait_until_ready,
)
from pipeline.farm.settings import read_secret
from pipeline.farm.units import read_facts
from pipeline.farm.worker import (
    INFO,
    MASTER_PACKAGE,
    TAC,
    WORKER_PACKAGE,
    Master,
    announce,
    require_extra,
    twistd_command,
    write_worker,
)
from pipeline.model.farm import FarmConfig

WORKER_PORT: Final = 9989
# A name, an IPv4 address, or an IPv6 address, which is in brackets if a port follows.
ADDRESS: Final = re.compile(
    r"(?P<host>\[[0-9A-Fa-f:.]+\]|[^\s:\[\]]+|[0-9A-Fa-f.]*:[0-9A-Fa-f:.]*:[0-9A-Fa-f.]*)(:(?P<port>[0-9]+))?"
)
WWW_PORT: Final = 8010
PASSWORD_VARIABLE: Final = "WORKERPASS"  # noqa: S105 - the name of a variable
MASTER_VARIABLES: Final = ("BUILDMASTER", "BUILDMASTER_PORT")
NAME_VARIABLE: Final = "WORKERNAME"
CLIENT_VARIABLE: Final = "RPP_FARM_PASSWORD"
# A worker's variables are sent to the master, so these must be in a file of the worker's.
CA_VARIABLE: Final = "RPP_FARM_CA"
SECRET_VARIABLES: Final = ("AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "GITHUB_TOKEN")
URL_WORD: Final = "URL"
SCHEMA_MARK: Final = "schema"


def add_farming_verbs(verbs: Verbs) -> None:
    """Add farm-worker and farm."""
    _add_worker(verbs)
    _add_farm(verbs)


def _add_worker(verbs: Verbs) -> None:
    summary = "make a worker's directory and dial in to a farm's master"
    parser = add_verb(verbs, "farm-worker", summary, _run_worker)
    parser.add_argument("directory", type=Path, metavar="DIR", help="what the worker keeps")
    parser.add_argument(
        "--name", default=os.environ.get(NAME_VARIABLE), help=f"its row; or {NAME_VARIABLE}"
    )
    parser.add_argument(
        "--master",
        default=":".join(os.environ[name] for name in MASTER_VARIABLES if name in os.environ),
        metavar="HOST[:PORT]",
        help=f"or {' and '.join(MASTER_VARIABLES)} (default port: {WORKER_PORT})",
    )
    parser.add_argument(
        "--password-file",
        type=Path,
        metavar="FILE",
        help=f"of mode 0600, read at each start; without it the password is in {PASSWORD_VARIABLE}",
    )
    trust = parser.add_mutually_exclusive_group()
    trust.add_argument(
        "--ca",
        type=Path,
        metavar="FILE",
        help=f"who signed the master's certificate, as PEM; or {CA_VARIABLE}, if that file exists",
    )
    trust.add_argument(
        "--plain",
        action="store_true",
        help="without TLS: on one machine, or a network of one's own",
    )
    parser.add_argument("--prepare-only", action="store_true", help="make it, and do not dial in")
    add_examples(
        parser,
        "farm-worker /srv/worker --name linux-1 --master farm.example.org "
        "--password-file /etc/rpp/worker --ca /etc/rpp/ca.pem",
    )


def _run_worker(arguments: argparse.Namespace, console: Console) -> int:
    require_extra(WORKER_PACKAGE)
    directory = arguments.directory.absolute()
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    master = _master(arguments)
    context = None if master.is_plain else trusting(master.ca)
    root = arguments.configs.absolute().parent
    tac = root / "dockerfiles" / "farm" / TAC
    write_worker(directory, _named(arguments), master, _password_file(arguments), tac=tac)
    announce(directory, measured_facts(*_machine(directory), root), root)
    for name in SECRET_VARIABLES:
        if name in os.environ:
            console.warn(
                f"{name}: a worker's variables are sent to its master. Use a file instead."
            )
    console.line(f"{directory} is ready")
    if arguments.prepare_only:
        return 0
    require_master(master.host, master.port, context)
    return _become_worker(directory)


def _machine(directory: Path) -> tuple[DockerEngine, ProcessRunner, Path]:
    work = WorkDirectory(directory)
    return DockerEngine(work.identity()), ProcessRunner(), directory


def _become_worker(directory: Path) -> NoReturn:
    """Run twistd in this process, with a lock that says that this worker runs here."""
    place = DetachedWork(directory, "worker")
    with place.deciding():
        if place.is_running:
            msg = f"{directory}: a worker runs here already. Use another directory, or stop it."
            raise WorkdirBusyError(msg)
        with place.alive("work") as lock:
            os.set_inheritable(lock, True)  # noqa: FBT003 - the library's own way
            command = twistd_command(directory, TAC)
            ProcessRunner().become(command, without=(PASSWORD_VARIABLE, *SECRET_VARIABLES))


def _named(arguments: argparse.Namespace) -> str:
    if not arguments.name:
        msg = f"command line: --name: which row of farm.toml is this? ({NAME_VARIABLE} is not set)"
        raise ConfigError(msg)
    return str(arguments.name)


def _master(arguments: argparse.Namespace) -> Master:
    """Read where the master is; an IPv6 address with a port is in brackets."""
    found = ADDRESS.fullmatch(arguments.master)
    if found is None:
        msg = f"command line: --master {arguments.master!r} is not HOST or HOST:PORT."
        raise ConfigError(msg)
    host, number = found["host"].strip("[]"), found["port"] or WORKER_PORT
    return Master(host=host, port=int(number), ca=_ca(arguments), is_plain=arguments.plain)


def _ca(arguments: argparse.Namespace) -> Path | None:
    """Return the CA that was named; an image names one that is there in some farms only."""
    given: Path | None = arguments.ca
    named = os.environ.get(CA_VARIABLE, "")
    if given is None and not arguments.plain and named and Path(named).is_file():
        return Path(named)
    return given


def _password_file(arguments: argparse.Namespace) -> Path:
    """Return the file with the password, which is made if it came in a variable."""
    if arguments.password_file is not None:
        return Path(arguments.password_file.absolute())
    given = os.environ.get(PASSWORD_VARIABLE)
    if given is None:
        msg = f"command line: --password-file is missing, and {PASSWORD_VARIABLE} is not set."
        raise ConfigError(msg)
    file = arguments.directory.absolute() / "password"
    write_privately(file, f"{given}\n".encode())
    return Path(file)


def _add_farm(verbs: Verbs) -> None:
    summary = "run a whole farm on this machine: a master, the signer and workers"
    parser = add_verb(verbs, "farm", summary, _run_farm)
    parser.add_argument(
        "--directory", type=Path, metavar="DIR", help="what it keeps (default: farm below --work)"
    )
    parser.add_argument(
        "--bind",
        default=LOOPBACK,
        metavar="ADDRESS",
        help="listen there for workers (default: %(default)s)",
    )
    parser.add_argument(
        "--www-bind",
        default=LOOPBACK,
        metavar="ADDRESS",
        help="serve pages there, without TLS (default: %(default)s)",
    )
    parser.add_argument(
        "--port", type=port, default=WWW_PORT, help="of its pages; 0: any (default: %(default)s)"
    )
    parser.add_argument(
        "--worker-port", type=port, default=WORKER_PORT, help="likewise (default: %(default)s)"
    )
    parser.add_argument(
        "--operations-port", type=port, metavar="PORT", help="serve metrics and health there"
    )
    parser.add_argument(
        "--database", metavar="URL", help="PostgreSQL, without a password (default: sqlite)"
    )
    add_dry_run(parser, "show what would run, and do nothing")
    _add_what(parser)
    parser.add_argument(
        "--host",
        action="append",
        default=[],
        metavar="NAME",
        help="a name that workers elsewhere dial, for the certificate; repeatable",
    )
    parser.add_argument("then", nargs="*", metavar="VERB", help="what --run runs")
    add_examples(
        parser,
        "farm",
        "farm --run -- release demo --farm URL",
        "farm --backup farm.tar",
    )


def _add_what(parser: argparse.ArgumentParser) -> None:
    """Add what is done instead of running until Ctrl-C; one of it."""
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--backup", type=Path, metavar="FILE", help="copy it, also while it runs")
    what.add_argument("--restore", type=Path, metavar="FILE", help="make it of such a copy")
    what.add_argument(
        "--prepare-only", action="store_true", help="make it for machines of its own; start nothing"
    )
    what.add_argument(
        "--run",
        dest="run_then",
        action="store_true",
        help=f"run the verb behind -- when it is ready, then stop it; {URL_WORD} is its address",
    )


def _run_farm(arguments: argparse.Namespace, console: Console) -> int:
    directory = (arguments.directory or arguments.work / "farm").absolute()
    process = ProcessRunner()
    if arguments.backup is not None:
        size = back_up(directory, arguments.backup.absolute(), process)
        console.line(f"{arguments.backup}: {size:,} bytes; it holds passwords and the CA's key")
        return 0
    if arguments.restore is not None:
        restore(arguments.restore, directory, process)
        console.line(f"{directory} is as it was; start it with: python -m pipeline farm")
        return 0
    for package in (MASTER_PACKAGE, WORKER_PACKAGE):
        require_extra(package)
    if arguments.run_then != bool(arguments.then):
        msg = "command line: --run and the verb behind -- belong together."
        raise ConfigError(msg)
    config = load_farm(arguments.configs.absolute())
    farm = _farm(arguments, directory)
    if arguments.dry_run:
        _show(console, farm, config)
        return 0
    signal.signal(signal.SIGTERM, _interrupt)
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    with WorkDirectory(directory).locked():
        if arguments.prepare_only:
            root = arguments.configs.absolute().parent
            lay_out(farm, config, root, arguments.database)
            _certify(farm, arguments.host)
            console.line(
                f"{directory} is ready; dockerfiles/farm/compose.yaml says what runs there"
            )
            return 0
        return _run_here(arguments, console, farm, config)


def _interrupt(_number: int, _frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt


def _farm(arguments: argparse.Namespace, directory: Path) -> LocalFarm:
    if arguments.database is not None and has_password(arguments.database):
        msg = (
            "command line: --database: everybody on this machine can read a password there. Write "
            f"the URL into {directory}/secrets/database (mode 0600), and leave the option out."
        )
        raise ConfigError(msg)
    www, workers, operations = (
        free_port(bind) if given == 0 else given
        for bind, given in (
            (arguments.www_bind, arguments.port),
            (arguments.bind, arguments.worker_port),
            (arguments.www_bind, arguments.operations_port),
        )
    )
    return LocalFarm(
        directory=directory,
        bind=arguments.bind,
        www_bind=arguments.www_bind,
        www_port=www,
        worker_port=workers,
        operations_port=operations,
        public_host=next(iter(arguments.host), None),
    )


def _run_here(
    arguments: argparse.Namespace, console: Console, farm: LocalFarm, config: FarmConfig
) -> int:
    began = time.monotonic()
    root = arguments.configs.absolute().parent
    code = {"PYTHONPATH": str(Path(pipeline.__file__).parents[1])}
    lay_out(farm, local_config(config, farm), root, arguments.database)
    _certify(farm, arguments.host)
    process = ProcessRunner()
    processes = LocalProcesses(farm, process, console)
    here = workers_here(config, this_os(), platform.machine())
    processes.stop_left([MASTER, *config.workers])
    try:
        with console.step("farm") as step:
            step.phase("database")
            _upgrade(farm, process, code)
            step.phase("master")
            processes.start(master_part(farm, code))
            wait_until_ready(farm.url, (), processes)
            step.phase("workers")
            for name in here:
                processes.start(_worker_part(farm, name, code))
            wait_until_ready(farm.url, tuple(here), processes)
        _show(console, farm, config)
        console.line(f"ready after {time.monotonic() - began:.1f} s; Ctrl-C stops it")
        return _work_on(arguments, farm, processes)
    finally:
        processes.stop_all()
        console.line(
            f"stopped. Work that was under way goes on for {config.orphan_minutes} minutes at "
            "most; start the farm again within that time, and it is found again."
        )


def _work_on(arguments: argparse.Namespace, farm: LocalFarm, processes: LocalProcesses) -> int:
    """Run the verb that was asked for, or look after the farm until Ctrl-C."""
    if arguments.run_then:
        argv = [farm.url if word == URL_WORD else word for word in arguments.then]
        password = farm.admin("admin")
        given = {CLIENT_VARIABLE: read_secret(password)} if password.exists() else {}
        return ProcessRunner().call((sys.executable, "-m", "pipeline", *argv), environment=given)
    with suppress(KeyboardInterrupt):
        while True:
            time.sleep(INTERVAL)
            processes.look_after()
    return 0


def _certify(farm: LocalFarm, hosts: Sequence[str]) -> None:
    # What the library is for is in the farm's extra only.
    from pipeline.farm.certificates import Files, ensure_certificates  # noqa: PLC0415

    names = {"localhost", LOOPBACK, farm.dialled, platform.node() or "localhost", *hosts}
    ensure_certificates(Files(farm.tls), names, utc_now())


def _upgrade(farm: LocalFarm, process: ProcessRunner, code: Mapping[str, str]) -> None:
    """Make the tables, unless this Buildbot has done that in this directory."""
    mark, version = farm.master / SCHEMA_MARK, importlib.metadata.version(MASTER_PACKAGE)
    if not mark.is_file() or mark.read_text(encoding="ascii") != version:
        create_database(farm, process, code)
        mark.write_text(version, encoding="ascii")


def _worker_part(farm: LocalFarm, name: str, code: Mapping[str, str]) -> Part:
    directory = farm.worker(name)
    master = Master(host=farm.dialled, port=farm.worker_port, ca=farm.tls / "ca.pem")
    tac = farm.project / "dockerfiles" / "farm" / TAC

    def prepare() -> None:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_worker(directory, name, master, farm.password(name), tac=tac)
        checkout = Path(code["PYTHONPATH"])
        announce(directory, measured_facts(*_machine(directory), checkout), farm.project)

    return Part(
        name=name,
        command=twistd_command(directory, TAC),
        log=directory / "worker.log",
        environment=code,
        prepare=prepare,
    )


def _show(console: Console, farm: LocalFarm, config: FarmConfig) -> None:
    here = workers_here(config, this_os(), platform.machine())
    rows = [("pages", farm.url), ("log in as", ", ".join(config.admins))]
    rows += [(f"password of {name}", str(farm.admin(name))) for name in config.admins]
    rows += [("workers dial", f"{farm.dialled}:{farm.worker_port} (TLS, {farm.tls / 'ca.pem'})")]
    if farm.operations_port is not None:
        rows.append(("metrics, health", f"{farm.dialled}:{farm.operations_port}"))
    rows.append(("directory", str(farm.directory)))
    console.table("Farm", ("what", "where"), rows)
    workers = [
        (name, str(row.role), str(row.memory), str(row.disk), _standing(farm, config, name, here))
        for name, row in config.workers.items()
    ]
    console.table("Workers", ("name", "role", "memory", "disk", "state"), workers)


def _standing(farm: LocalFarm, config: FarmConfig, name: str, here: Mapping[str, object]) -> str:
    """Return what is to be said of a worker: is it here, and will it be given work?"""
    row = config.workers[name]
    if row.latent is not None:
        return "started when there is work"
    if name not in here:
        return f"not this machine's: {row.os} {row.machine}"
    said = farm.worker(name) / INFO / "facts"
    facts = read_facts(said.read_text(encoding="utf-8")) if said.is_file() else None
    lacks = "" if facts is None else shortage(row, facts)
    return f"given no work, it has only {lacks}" if lacks else "here"
