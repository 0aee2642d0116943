"""Checks whether this machine can do the work, and with ``--provision`` makes it able to.

Every check says what it found and, if that is not enough, what to do. Checks only look; the
provisioning steps are the only ones that change the machine, and each is named before it runs.
"""

import os
import platform
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from pipeline.effects.context import Context
from pipeline.effects.process import Tool
from pipeline.engine_checks import (
    LEAST_DISK,
    CheckResult,
    Status,
    check_engine,
    check_engine_for,
)
from pipeline.errors import EngineUnavailableError, MissingToolError, PipelineError, PreflightError
from pipeline.model.configs import BootstrapBase, ChannelConfig
from pipeline.preflight import BINFMT, GIB, REGISTER, emulator_is_ready
from pipeline.sign.gpg import QUICKSTART, usable_key
from pipeline.sign.release import signing_keyring
from pipeline.store_checks import check_stores

LARGEST_SKEW: Final = 300.0
CLOCK_SOURCES: Final = ("http://deb.debian.org/", "https://pypi.org/")
SYSTEMD: Final = Path("/run/systemd/system")
DOCKER_SOCKET: Final = Path("/var/run/docker.sock")
ENGINE_WAIT: Final = 60
PACKAGES: Final = (
    "arch-test",
    "binfmt-support",
    "ca-certificates",
    "debian-archive-keyring",
    "git",
    "gnupg",
    "gpgv",
    "mmdebstrap",
    "qemu-user-static",
)
ENGINE_PACKAGE: Final = "docker.io"
APT: Final = Tool(program="apt-get", purpose="install packages (Debian or Ubuntu)", package="apt")
SERVICE: Final = Tool(program="systemctl", purpose="start the engine", package="systemd")
MOUNT: Final = Tool(program="mount", purpose="mount binfmt_misc", package="mount")
UPDATE_BINFMTS: Final = Tool(
    program="update-binfmts", purpose="register emulators", package="binfmt-support"
)
# Program, what it is needed for, package.
TOOLS: Final = (
    Tool(program="gpg", purpose="sign releases", package="gnupg"),
    Tool(program="gpgv", purpose="check signatures", package="gpgv"),
    Tool(program="git", purpose="resolve revisions", package="git"),
)


Check = Callable[[], CheckResult | Iterator[CheckResult]]


def diagnose(ctx: Context, channel: ChannelConfig | None) -> tuple[CheckResult, ...]:
    """Run every check; without a *channel* those that work needs which is signed elsewhere."""
    publishing: tuple[Check, ...] = ()
    if channel is not None:
        publishing = (lambda: _key(ctx, channel), lambda: check_stores(ctx, channel))
    checks: tuple[Check, ...] = (
        lambda: check_engine(ctx.config, ctx.engine),
        lambda: _disk(ctx),
        lambda: _tools(ctx),
        lambda: _bootstrap(ctx),
        lambda: _emulation(ctx),
        lambda: _engines_elsewhere(ctx),
        lambda: _clock(ctx),
        *publishing,
    )
    results: list[CheckResult] = []
    for check in checks:
        result = check()
        results += [result] if isinstance(result, CheckResult) else list(result)
    return tuple(results)


def require_healthy(results: tuple[CheckResult, ...]) -> None:
    """Raise PreflightError if a check failed; the message has each fix."""
    failed = [result for result in results if result.status is Status.FAILED]
    if failed:
        lines = "\n".join(f"{item.name}: {item.found}. {item.fix}" for item in failed)
        msg = f"this machine is not ready ({len(failed)} of {len(results)} checks failed):\n{lines}"
        raise PreflightError(msg)


def provision(ctx: Context) -> None:
    """Install and start what is missing; needs root on Debian or Ubuntu.

    Raises:
        PreflightError: this is not root, or not such a system.
        CommandError: a step failed.
    """
    if os.geteuid() != 0:
        msg = "provisioning installs packages and starts a service: run it as root (sudo)."
        raise PreflightError(msg)
    if ctx.process.find("apt-get") is None:
        msg = (
            "provisioning knows Debian and Ubuntu only (no apt-get here). Install an engine with "
            f"Docker's API and these programs yourself: {', '.join(PACKAGES)}"
        )
        raise PreflightError(msg)
    _install_packages(ctx)
    _register_emulators(ctx)
    if not _engine_answers(ctx):
        _start_engine(ctx)


def _install_packages(ctx: Context) -> None:
    # Docker's own packages of the engine, where those are, cannot be installed beside Debian's.
    engine = () if _engine_answers(ctx) else (ENGINE_PACKAGE,)
    wanted = sorted((*PACKAGES, *engine))
    missing = [name for name in wanted if not _is_installed(ctx, name)]
    with ctx.console.step("install packages") as step:
        if not missing:
            step.skip("all are installed")
            return
        environment = {"DEBIAN_FRONTEND": "noninteractive"}
        step.phase("apt-get update")
        ctx.process.run(["apt-get", "update", "-qq"], tool=APT, environment=environment)
        step.phase(f"apt-get install {' '.join(missing)}")
        ctx.process.run(
            ["apt-get", "install", "-y", "-qq", "--no-install-recommends", *missing],
            tool=APT,
            timeout=1800,
            environment=environment,
        )


def _is_installed(ctx: Context, package: str) -> bool:
    tool = Tool(program="dpkg-query", purpose="look for packages", package="dpkg")
    asked = ["dpkg-query", "--show", "--showformat", "${db:Status-Status}", package]
    return ctx.process.run(asked, tool=tool, check=False).text == "installed"


def _register_emulators(ctx: Context) -> None:
    with ctx.console.step("register emulators") as step:
        if not (BINFMT / "status").exists():
            step.phase(f"mount {BINFMT}")
            mounted = ctx.process.run(
                ["mount", "-t", "binfmt_misc", "binfmt_misc", BINFMT], tool=MOUNT, check=False
            )
            if mounted.status != 0:
                step.skip(f"not possible here: {mounted.last_lines}")
                return
        ctx.process.run(["update-binfmts", "--import"], tool=UPDATE_BINFMTS, check=False)
        ctx.process.run(["update-binfmts", "--enable"], tool=UPDATE_BINFMTS, check=False)


def _start_engine(ctx: Context) -> None:
    with ctx.console.step("start the container engine") as step:
        if SYSTEMD.is_dir():
            ctx.process.run(["systemctl", "start", "docker"], tool=SERVICE)
        else:
            log = Path("/var/log/dockerd.log")
            step.phase(f"dockerd, its log is {log}")
            ctx.process.start_detached(["dockerd"], log=log)
        for _ in range(ENGINE_WAIT):
            if _engine_answers(ctx):
                return
            time.sleep(1)
    msg = f"the container engine did not answer within {ENGINE_WAIT} s. See /var/log/dockerd.log."
    raise EngineUnavailableError(msg)


def _engine_answers(ctx: Context) -> bool:
    try:
        ctx.engine.info()
    except EngineUnavailableError:
        return False
    return True


def _engines_elsewhere(ctx: Context) -> Iterator[CheckResult]:
    """Check each engine that was named for a platform; the worker itself is checked above."""
    for name, engine in ctx.engines.items():
        if engine.contained:
            yield from check_engine_for(ctx, ctx.config.platforms[name])


def _disk(ctx: Context) -> Iterator[CheckResult]:
    ctx.work.root.mkdir(parents=True, exist_ok=True)
    places = {"work directory": ctx.work.root}
    try:
        storage = Path(ctx.engine.info().storage)
    except EngineUnavailableError:
        storage = Path()
    # A remote engine's storage is not on this machine.
    if storage.is_absolute() and storage.is_dir():
        places["engine storage"] = storage
    for name, place in places.items():
        free = shutil.disk_usage(place).free
        yield CheckResult(
            name=f"disk, {name}",
            status=Status.OK if free >= LEAST_DISK else Status.FAILED,
            found=f"{free / GIB:.1f} GiB free at {place}",
            fix=f"Free {LEAST_DISK // GIB} GiB there, or choose another --work directory.",
        )


def _tools(ctx: Context) -> Iterator[CheckResult]:
    for tool in TOOLS:
        found = ctx.process.find(tool.program)
        missing = MissingToolError(tool.program, purpose=tool.purpose, package=tool.package)
        yield CheckResult(
            name=f"tool {tool.program}",
            status=Status.OK if found else Status.FAILED,
            found=str(found or "not on PATH"),
            fix=str(missing),
        )


def _bootstrap(ctx: Context) -> CheckResult:
    """Only bases of kind bootstrap need mmdebstrap."""
    names = [name for name, base in ctx.config.bases.items() if isinstance(base, BootstrapBase)]
    if not names:
        found = "not needed: every base is from a registry"
        return CheckResult(name="tool mmdebstrap", status=Status.OK, found=found)
    path = ctx.process.find("mmdebstrap")
    missing = MissingToolError(
        "mmdebstrap", purpose=f"bootstrap the bases {', '.join(names)}", package="mmdebstrap"
    )
    return CheckResult(
        name="tool mmdebstrap",
        status=Status.OK if path else Status.FAILED,
        found=str(path or "not on PATH"),
        fix=f"{missing} Or name a base by registry digest in environments.toml.",
    )


def _emulation(ctx: Context) -> Iterator[CheckResult]:
    """Emulators are for platforms of other architectures; native work does without."""
    here = platform.machine()
    foreign = {
        row.emulator: row
        for row in ctx.config.platforms.values()
        if row.emulator is not None and here not in row.runs_on
    }
    for emulator, row in foreign.items():
        ready = emulator_is_ready(row)
        yield CheckResult(
            name=f"emulation of {row.machine}",
            status=Status.OK if ready else Status.WARNING,
            found=f"{emulator} {'registered' if ready else 'not registered (flag F)'}",
            fix=REGISTER,
        )


def _clock(ctx: Context) -> CheckResult:
    for url in CLOCK_SOURCES:
        theirs = ctx.http.server_date(url)
        if theirs is None:
            continue
        skew = ctx.now().timestamp() - theirs
        status = Status.OK if abs(skew) <= LARGEST_SKEW else Status.FAILED
        fix = "Set the clock (timedatectl set-ntp true): signatures and TLS depend on it."
        return CheckResult(name="clock", status=status, found=f"{skew:+.0f} s to {url}", fix=fix)
    fix = f"No answer from {' or '.join(CLOCK_SOURCES)}; compare the clock yourself."
    return CheckResult(name="clock", status=Status.WARNING, found="not compared", fix=fix)


def _key(ctx: Context, channel: ChannelConfig) -> CheckResult:
    if ctx.process.find("gpg") is None:
        return CheckResult(name="signing key", status=Status.WARNING, found="unknown without gpg")
    if channel.signing.key == QUICKSTART:
        found = "throw-away key, made at the first release"
        fix = "Good for trying out only: name a real key in channels.toml to publish."
        return CheckResult(name="signing key", status=Status.WARNING, found=found, fix=fix)
    try:
        with signing_keyring(ctx, channel.signing) as keyring:
            key = usable_key(keyring, channel.signing, ctx.now())
    except PipelineError as error:
        found = "cannot sign"
        return CheckResult(name="signing key", status=Status.FAILED, found=found, fix=str(error))
    until = f"{key.expires:%Y-%m-%d}" if key.expires else "for ever"
    found = f"{key.fingerprint}, valid until {until}"
    return CheckResult(name="signing key", status=Status.OK, found=found)
