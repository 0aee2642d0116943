"""Installs Debian packages by apt in a clean system, tries them, and removes them again."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from pipeline.effects.context import Context
from pipeline.effects.engine import Network, Session
from pipeline.effects.process import Completed
from pipeline.errors import InstallError
from pipeline.install.programs import Place, run_tests
from pipeline.model.debian import BinaryPackage
from pipeline.model.install import InstallTest
from pipeline.model.records import Environment

ENVIRONMENT: Final = {"DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C.UTF-8", "HOME": "/root"}
HOME: Final = "/srv/home"
# What a user may find, without a word in root's environment.
AS_USER: Final = (
    *("setpriv", "--reuid=1000", "--regid=1000", "--clear-groups", "--reset-env"),
    *("env", f"HOME={HOME}", "LC_ALL=C.UTF-8"),
)
APT: Final = ("apt-get", "--yes", "-q", "-o", "Acquire::Retries=3")
APT_TIMEOUT: Final = 900
# Where a system writes by itself what it does, whatever was installed.
UNSTABLE: Final = (
    "/dev",
    "/proc",
    "/run",
    "/sys",
    "/srv",
    "/tmp",  # noqa: S108 - in the container
    "/var/cache",
    "/var/lib/apt",
    "/var/lib/dpkg",
    "/var/log",
)


@dataclass(frozen=True, kw_only=True)
class Packages:
    """Packages of one suite: their *names* with versions, as apt takes them, and their *parts*."""

    names: tuple[str, ...]
    parts: tuple[str, ...]

    @property
    def bare(self) -> tuple[str, ...]:
        """The names alone."""
        return tuple(name.split("=")[0] for name in self.names)


def named(packages: Iterable[BinaryPackage], main: str) -> Packages:
    """Return packages as apt takes them; *main* is the name of the one without a suffix."""
    chosen = tuple(packages)
    return Packages(
        names=tuple(f"{item.name}={item.package_version}" for item in chosen),
        parts=tuple(item.name.removeprefix(main) for item in chosen),
    )


@dataclass(frozen=True, kw_only=True)
class System:
    """A clean Debian in a container, in which root may install things."""

    session: Session
    where: str
    factor: int = 1

    def root(self, *argv: str, timeout: int = APT_TIMEOUT) -> Completed:
        """Run a command of root's; raises InstallError if it fails."""
        done = self.session.call(
            argv, timeout=timeout * self.factor, environment=ENVIRONMENT, directory="/"
        )
        if done.status != 0:
            msg = f"{self.where}: {' '.join(argv)}: status {done.status}: {done.last_lines}"
            raise InstallError(msg)
        return done

    def user(self, argv: tuple[str, ...], timeout: int) -> Completed:
        """Run a command of an ordinary user's."""
        return self.session.call(
            (*AS_USER, *argv), timeout=timeout, environment=ENVIRONMENT, directory=HOME
        )


@contextmanager
def clean_system(
    ctx: Context, environment: Environment, *, network: Network, factor: int
) -> Iterator[System]:
    """Give a clean system of *environment*."""
    with ctx.engine.session(environment.image_id, user="0:0", network=network) as session:
        system = System(session=session, where=environment.name, factor=factor)
        system.root("install", "-d", "-o", "1000", "-g", "1000", HOME)
        yield system


def trust_certificates(system: System) -> None:
    """Give a minimal system the certificates without which its apt takes nothing over HTTPS."""
    system.root(*APT, "update")
    system.root(*APT, "install", "--no-install-recommends", "ca-certificates")


def try_packages(
    system: System,
    packages: Packages,
    tests: Iterable[InstallTest],
    older: Packages | None = None,
) -> tuple[str, ...]:
    """Install *packages* from the sources that the system has, run *tests*, remove everything.

    With *older* ones these are installed first, so that the others are an upgrade.

    Returns:
        What was done: ``upgraded`` where there were older ones, the names of the tests that
        passed, and ``purged``.

    Raises:
        InstallError: apt refuses something, a test fails, or files are left at the end.
    """
    system.root(*APT, "update")
    _require_sources(system, packages)
    before = _files(system)
    for each in (older, packages):
        if each is not None:
            system.root(*APT, "install", "--no-install-recommends", *each.names)
    place = Place(
        client="apt",
        where=system.where,
        run=system.user,
        parts=packages.parts,
        factor=system.factor,
    )
    passed = tuple(run_tests(tests, place))
    # An upgrade leaves what the older version had in a package that there is no more.
    bare = tuple(dict.fromkeys((*packages.bare, *(older.bare if older is not None else ()))))
    system.root(*APT, "purge", *bare)
    system.root(*APT, "autoremove", "--purge")
    if left := sorted(_files(system) - before):
        msg = f"{system.where}: after purging {', '.join(bare)} there is left: {left[:20]}"
        raise InstallError(msg)
    return (*(["upgraded"] if older is not None else []), *passed, "purged")


def _require_sources(system: System, packages: Packages) -> None:
    """Look whether apt knows the versions: it goes on where a source does not answer."""
    for name in packages.names:
        system.root("apt-cache", "show", "--no-all-versions", name)


def _files(system: System) -> frozenset[str]:
    """Return every path of the system, but for what it writes by itself."""
    pruned: Sequence[str] = [word for path in UNSTABLE for word in ("-path", path, "-o")]
    found = system.root("find", "/", "-xdev", "(", *pruned[:-1], ")", "-prune", "-o", "-print")
    return frozenset(found.text.splitlines())
