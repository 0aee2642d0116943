"""A whole farm on this machine: its directory, its processes, and who starts them again.

The directory has all that a farm keeps: ``secrets/`` (passwords) and ``tls/`` (the CA), which only
their owner can read; ``project/``, the configuration as this farm has it; ``master/`` with the
database; ``workers/NAME/`` with the work; ``handover/``; ``detached/NAME/`` says who lives. Running
on the same directory again goes on with it.
"""

import json
import secrets
import shutil
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from pipeline.effects.files import write_atomically, write_privately
from pipeline.farm.settings import (
    ADMIN_FILE,
    DATABASE_FILE,
    SETTINGS_NAME,
    WORKER_FILE,
    MasterSettings,
)
from pipeline.model.base import pretty_json
from pipeline.model.farm import Facts, FarmConfig, FarmWorker
from pipeline.model.platforms import Os

CONFIGS: Final = "translation_configs"
BESIDE: Final = ("dockerfiles", "packaging")
MASTER_FILES: Final = ("master.cfg", "buildbot.tac")
FARM_FILES: Final = ("dockerfiles", "farm")
SECRET_BYTES: Final = 24
ANYWHERE: Final = ("0.0.0.0", "::")  # noqa: S104 - names what a person may choose, binds nothing
LOOPBACK: Final = "127.0.0.1"
GIB: Final = 1 << 30

FIRST_WAIT: Final = 1.0
LONGEST_WAIT: Final = 60.0
STEADY: Final = 60.0


@dataclass(frozen=True, kw_only=True)
class LocalFarm:
    """Where a farm on this machine is, and where it listens.

    Workers dial in at ``bind``, pages are at ``www_bind``. ``public_host`` is the name by which
    workers elsewhere dial it (None: there are none).
    """

    directory: Path
    bind: str = LOOPBACK
    www_bind: str = LOOPBACK
    www_port: int
    worker_port: int
    operations_port: int | None = None
    public_host: str | None = None

    @property
    def url(self) -> str:
        """Where its pages are."""
        host = _reached(self.www_bind)
        return f"http://{f'[{host}]' if ':' in host else host}:{self.www_port}"

    @property
    def dialled(self) -> str:
        """The address by which this machine's workers find the master."""
        return _reached(self.bind)

    @property
    def project(self) -> Path:
        """The configuration as this farm has it."""
        return self.directory / "project"

    @property
    def master(self) -> Path:
        """What the master's process runs in."""
        return self.directory / "master"

    @property
    def secrets(self) -> Path:
        """Passwords, a file each."""
        return self.directory / "secrets"

    @property
    def tls(self) -> Path:
        """The CA and the master's certificate."""
        return self.directory / "tls"

    def worker(self, name: str) -> Path:
        """The directory of a worker."""
        return self.directory / "workers" / name

    def password(self, worker: str) -> Path:
        """The file with a worker's password."""
        return self.secrets / WORKER_FILE.format(worker)

    def admin(self, name: str) -> Path:
        """The file with a person's password."""
        return self.secrets / ADMIN_FILE.format(name)

    @property
    def settings(self) -> MasterSettings:
        """What the master is told."""
        return MasterSettings(
            root=self.project,
            secrets=self.secrets,
            bind=self.bind,
            www_bind=self.www_bind,
            www_port=self.www_port,
            worker_port=self.worker_port,
            operations_port=self.operations_port,
            certificate=self.tls / "server.pem",
            private_key=self.tls / "server.key",
            public_host=f"{self.public_host or self.dialled}:{self.worker_port}",
        )


def _reached(bind: str) -> str:
    """Return the address by which this machine reaches what listens at *bind*."""
    return LOOPBACK if bind in ANYWHERE else bind


def local_config(config: FarmConfig, farm: LocalFarm) -> FarmConfig:
    """Return ``farm.toml`` as a farm on this machine has it.

    Its workers run the code that is here; what they hand over is in one place for all.
    """
    hand_over = config.hand_over
    if "://" not in hand_over.store and not Path(hand_over.store).is_absolute():
        place = str(farm.directory / hand_over.store)
        hand_over = hand_over.model_copy(update={"store": place})
    changes = {"url": farm.url, "hand_over": hand_over, "repository": None}
    return config.model_copy(update=changes)


def workers_here(config: FarmConfig, os: Os, machine: str) -> Mapping[str, FarmWorker]:
    """Return the rows that a machine of this kind can be; a latent one is the master's to start."""
    return {
        name: row
        for name, row in config.workers.items()
        if row.latent is None and (row.os, row.machine) == (os, machine)
    }


def shortage(row: FarmWorker, facts: Facts) -> str:
    """Return what a worker lacks of its row, so that it will be given no work; empty if nothing."""
    lacks = [
        f"{what} {has / GIB:.1f} of {wanted} GiB"
        for what, has, wanted in (
            ("memory", facts.memory, row.memory),
            ("disk", facts.disk, row.disk),
        )
        if has < wanted * GIB
    ]
    return ", ".join(lacks)


def as_toml(config: FarmConfig) -> str:
    """Return ``farm.toml``: a line for each key, tables in braces."""
    given = config.model_dump(mode="json", exclude_none=True)
    return "".join(f"{_key(key)} = {_value(value)}\n" for key, value in given.items())


def _key(name: str) -> str:
    return json.dumps(name, ensure_ascii=False)


def _value(value: Any) -> str:
    """Return a value in TOML, whose strings, numbers, booleans and lists are written as JSON's."""
    if isinstance(value, dict):
        inner = ", ".join(f"{_key(key)} = {_value(item)}" for key, item in value.items())
        return f"{{{inner}}}"
    if isinstance(value, list):
        return f"[{', '.join(_value(item) for item in value)}]"
    # JSON leaves DEL as it is, TOML wants it escaped.
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def lay_out(farm: LocalFarm, config: FarmConfig, root: Path, database: str | None) -> None:
    """Make or renew the directory, all but the certificates; passwords that are there stay.

    *config* is ``farm.toml`` as this farm has it, *root* the project's directory, *database* a URL
    without a password, or None for sqlite.
    """
    for path in (farm.directory, farm.secrets, farm.master):
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
    farm.secrets.chmod(0o700)
    names = [farm.password(name) for name in config.workers]
    _make_secrets([*names, *(farm.admin(name) for name in config.admins)])
    if database is not None:
        write_privately(farm.secrets / DATABASE_FILE, f"{database}\n".encode())
    _copy_project(farm, config, root)
    for name in MASTER_FILES:
        source = root.joinpath(*FARM_FILES, name)
        write_atomically(farm.master / name, source.read_bytes())
    write_atomically(farm.master / SETTINGS_NAME, pretty_json(farm.settings))


def _make_secrets(paths: Collection[Path]) -> None:
    for path in paths:
        if not path.exists():
            write_privately(path, f"{secrets.token_urlsafe(SECRET_BYTES)}\n".encode())


def _copy_project(farm: LocalFarm, config: FarmConfig, root: Path) -> None:
    """Copy the configuration, so that a change of it does not reach a farm that runs."""
    copied = farm.project / CONFIGS
    shutil.rmtree(copied, ignore_errors=True)
    shutil.copytree(root / CONFIGS, copied)
    write_atomically(copied / "farm.toml", as_toml(config).encode())
    for name in BESIDE:
        link = farm.project / name
        link.unlink(missing_ok=True)
        link.symlink_to(root.absolute() / name)


@dataclass(frozen=True, kw_only=True)
class Restarts:
    """When a process that ended is started again; times are a monotonic clock's, in seconds."""

    started_at: float
    wait: float = FIRST_WAIT
    due: float | None = None

    def ended(self, now: float) -> "Restarts":
        """Return when it is due: soon, and ever later if it never lives for long."""
        wait = FIRST_WAIT if now - self.started_at >= STEADY else self.wait
        return replace(self, due=now + wait, wait=min(2 * wait, LONGEST_WAIT))

    def is_due(self, now: float) -> bool:
        """Whether it is to be started *now*."""
        return self.due is not None and now >= self.due

    def started(self, now: float) -> "Restarts":
        """Return what to remember of a process that has been started."""
        return replace(self, started_at=now, due=None)
