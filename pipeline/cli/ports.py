"""Makes what the verbs work with from their options: the ports, the channel, the stores."""

import argparse
import getpass
import os
import platform
from pathlib import Path

from pydantic import ValidationError

from pipeline.cli.options import NATIVE
from pipeline.config import known, load_config
from pipeline.effects.clock import utc_now
from pipeline.effects.console import Console
from pipeline.effects.context import Context
from pipeline.effects.docker_engine import DockerEngine
from pipeline.effects.engine import Engine
from pipeline.effects.files import WorkDirectory
from pipeline.effects.github import GithubReleases
from pipeline.effects.http import HttpClient
from pipeline.effects.native_engine import NativeEngine
from pipeline.effects.process import ProcessRunner
from pipeline.effects.public import HttpView
from pipeline.effects.registry import HttpRegistry
from pipeline.effects.registry_login import credentials_for
from pipeline.effects.retry import PATIENT
from pipeline.effects.stores import open_store
from pipeline.errors import ConfigError, DestinationError
from pipeline.model.configs import ChannelConfig, Config, GithubConfig
from pipeline.model.images import RegistryConfig
from pipeline.model.platforms import Worker
from pipeline.plan import Workers, channel_config
from pipeline.publish.copies import GITHUB_RETRY
from pipeline.publish.sites import OpenChannel, Site
from pipeline.sign.notary import channel_notary


def make_context(arguments: argparse.Namespace, console: Console) -> Context:
    """Return the ports to the outside."""
    work = WorkDirectory(arguments.work.absolute())
    config = load_config(arguments.configs.absolute())
    http = HttpClient()
    return Context(
        root=arguments.configs.absolute().parent,
        config=config,
        work=work,
        engine=DockerEngine(work.identity()),
        process=ProcessRunner(),
        http=http,
        public=HttpView(http),
        console=console,
        now=utc_now,
        releaser=_releaser(),
        engines=_engines(config, arguments, work),
        dry_run=getattr(arguments, "dry_run", False),
    )


def chosen_channel(config: Config, arguments: argparse.Namespace) -> ChannelConfig:
    """Return the channel's config with what the command line replaces.

    A store that is named there stands alone, without what the channel has elsewhere: mirrors,
    GitHub, a registry, a tap.
    """
    changes: dict[str, object] = {
        key: value
        for key in ("store", "base_url")
        if (value := getattr(arguments, key, None)) is not None
    }
    if "store" in changes:
        changes |= {"mirrors": (), "github": None, "registry": None, "tap": None}
    given = {**channel_config(config, arguments.channel).model_dump(), **changes}
    try:
        return ChannelConfig.model_validate(given)
    except ValidationError as error:
        wrong = error.errors()[0]
        option = str(wrong["loc"][0]).replace("_", "-")
        msg = f"command line: --{option} {wrong['input']!r}: {wrong['msg']}"
        raise ConfigError(msg) from error


def open_channel(ctx: Context, config: ChannelConfig, arguments: argparse.Namespace) -> OpenChannel:
    """Return a channel with its store and its mirrors open.

    A path on the command line is relative to the current directory, one in the configuration to
    the work directory. A farm's run, which nobody waits beside, is more patient with servers.
    """
    root = Path.cwd() if arguments.store else ctx.work.root
    retry = PATIENT if getattr(arguments, "run_name", None) else None
    return OpenChannel(
        config=config,
        sites=tuple(
            Site(store=open_store(item, root, retry), base_url=item.base_url)
            for item in (config, *config.mirrors)
        ),
        notary=channel_notary(ctx, config.signing),
        github=_github(config.github),
        registry=_registry(config.registry),
    )


def reading_channel(
    ctx: Context, config: ChannelConfig, arguments: argparse.Namespace
) -> OpenChannel:
    """Return a channel to look at, or of nightlies: without GitHub, which asks for a token."""
    return open_channel(ctx, config.model_copy(update={"github": None}), arguments)


def _registry(config: RegistryConfig | None) -> HttpRegistry | None:
    """Return where images are; who may not read there is told by the registry."""
    if config is None:
        return None
    return HttpRegistry(config, credentials_for(config, os.environ, Path.home()))


def _github(config: GithubConfig | None) -> GithubReleases | None:
    """Return where releases are copied to.

    Raises:
        DestinationError: there is no token in the environment.
    """
    if config is None:
        return None
    token = os.environ.get(config.variable, "")
    if not token:
        msg = (
            f"channels.toml: key github: copies go to {config.repository}, but the environment "
            f"has no {config.variable}. Put a token with the right contents:write there."
        )
        raise DestinationError(msg)
    return GithubReleases(config, token, GITHUB_RETRY)


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


def workers_for(ctx: Context, machine: str) -> Workers:
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


def _releaser() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"uid {os.getuid()}"
