"""Installs a release from where the public has it, by real clients in clean containers.

What was tried before the publication came from a local directory; this is what users get: the
signed repository under its address, and the images that the registry has.
"""

import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pipeline.config import known
from pipeline.effects.archives import Entry, write_archive
from pipeline.effects.console import Step
from pipeline.effects.context import Context
from pipeline.effects.engine import Network
from pipeline.effects.files import write_atomically
from pipeline.effects.public import is_loopback
from pipeline.environment import ready_environment
from pipeline.errors import ImageError, InstallError
from pipeline.install.apt import clean_system, named, trust_certificates, try_packages
from pipeline.install.image import image_place, try_image
from pipeline.model import naming
from pipeline.model.base import content_key, pretty_json
from pipeline.model.configs import Config, InterpreterConfig
from pipeline.model.debian import AptConfig, BinaryPackage
from pipeline.model.images import PublishedImage
from pipeline.model.ledger import Release, State
from pipeline.model.platforms import Placement, Platform
from pipeline.model.records import Installed
from pipeline.publish.debian_indexes import debian_indexes
from pipeline.publish.projections.apt import listed_releases
from pipeline.publish.sites import OpenChannel
from pipeline.publish.view import View

VERSION: Final = 1
SOURCES_PATH: Final = "etc/apt/sources.list.d/public.sources"


@dataclass(frozen=True, kw_only=True)
class Check:
    """A release that is to be installed, on which platforms, and how slow each of them is.

    ``factors`` says by platform how many times as long as usual programs may take.
    """

    ctx: Context
    channel: OpenChannel
    state: State
    release: Release
    factors: Mapping[str, int]

    @property
    def interpreter(self) -> InterpreterConfig:
        """The configuration of what was released."""
        name, interpreters = self.release.published.interpreter, self.ctx.config.interpreters
        return known("interpreter", name, interpreters, where=naming.LEDGER_KEY)

    def platform(self, name: str) -> Platform:
        """Return a row of the platform table."""
        return known("platform", name, self.ctx.config.platforms, where=naming.LEDGER_KEY)


def own_factors(
    config: Config, release: Release, asked: Sequence[str], machine: str
) -> dict[str, int]:
    """Return the platforms on which a release is tried, each with its factor.

    They are those that are *asked* for, or else all that *machine* (``uname -m``) runs itself.

    Raises:
        UnknownNameError: there is no such platform, or the release is not for it.
    """
    event = release.published
    interpreter = known(
        "interpreter", event.interpreter, config.interpreters, where=naming.LEDGER_KEY
    )
    rows = {
        item.platform: known("platform", item.platform, config.platforms, where=naming.LEDGER_KEY)
        for item in event.platforms
    }
    own = [name for name, row in rows.items() if machine in row.runs_on and row.oci]
    emulated = interpreter.translation.emulation_factor
    chosen = {name: known("platform", name, rows, where=release.name) for name in asked or own}
    return {name: 1 if machine in row.runs_on else emulated for name, row in chosen.items()}


def check_once(check: Check, step: Step) -> tuple[Installed, ...]:
    """Do as :func:`check_published`, unless it has been done; nothing comes back then."""
    key = content_key(
        "installed",
        VERSION,
        manifest=check.release.published.manifest_sha256,
        offered=check.release.is_offered,
        platforms=sorted(check.factors),
    )
    record = check.ctx.work.path("cache", "installed", f"{key}.json")
    if record.is_file():
        step.skip("was installed before")
        return ()
    found = check_published(check, step)
    write_atomically(record, pretty_json([item.model_dump(mode="json") for item in found]))
    return found


def check_published(check: Check, step: Step) -> tuple[Installed, ...]:
    """Install a release as users do; nothing where the channel has neither apt nor a registry.

    Raises:
        InstallError: it cannot be installed, or does not work.
    """
    try:
        return (*_by_apt(check, step), *_from_registry(check, step))
    except (ImageError, InstallError) as error:
        name = check.release.name
        msg = (
            f"{error}\n{name} is public. Find out why; to take it back: "
            f'python -m pipeline yank {name} --reason "..."'
        )
        raise InstallError(msg) from error


def _by_apt(check: Check, step: Step) -> Iterator[Installed]:
    config = check.channel.config.apt
    if config is None:
        return
    for suite in config.suites:
        for platform in check.factors:
            new, older = _packages(check, config, suite, platform)
            if new and _is_seen(check, platform):
                step.phase(f"apt in {suite}, {platform}")
                yield _installed(check, suite, new, older)


def _is_seen(check: Check, platform: str) -> bool:
    """Whether the platform's engine sees the store: another machine's loopback is not ours."""
    base_url = check.channel.sites[0].base_url
    if platform in check.ctx.engines and is_loopback(base_url):
        check.ctx.console.warn(f"{platform}: not installed: its engine does not see {base_url}")
        return False
    return True


def _packages(
    check: Check, config: AptConfig, suite: str, platform: str
) -> tuple[tuple[BinaryPackage, ...], tuple[BinaryPackage, ...]]:
    """Return a release's packages in apt's lists, and those that they are an upgrade of."""
    listed = [
        item
        for items in listed_releases(_view(check), config.keep).values()
        for item in items
        if _line(item) == _line(check.release)
    ]
    if check.release.name not in {item.name for item in listed}:
        return (), ()
    stores = [site.store for site in check.channel.sites]
    cache = check.ctx.work.path("cache", "debian-indexes")
    place = [item.name for item in listed].index(check.release.name)
    found = [
        tuple(
            package
            for index in debian_indexes(stores, cache, [item]).values()
            for package in index.packages
            if (package.suite, package.platform) == (suite, platform)
        )
        for item in listed[place : place + 2]
    ]
    return found[0], found[1] if len(found) > 1 else ()


def _line(item: Release) -> tuple[str, str, str]:
    event = item.published
    return event.product, event.interpreter, event.channel


def _view(check: Check) -> View:
    config = check.ctx.config
    return View(
        state=check.state,
        platforms=config.platforms,
        interpreters=config.interpreters,
        base_url=check.channel.sites[0].base_url,
    )


def _installed(
    check: Check,
    suite: str,
    new: tuple[BinaryPackage, ...],
    older: tuple[BinaryPackage, ...],
) -> Installed:
    started, site = time.monotonic(), check.channel.sites[0]
    platform = check.platform(new[0].platform)
    ctx = check.ctx.for_platform(platform.identifier)
    clean = check.ctx.config.suites[suite].clean
    main = check.interpreter.debian.package if check.interpreter.debian else ""
    environment = ready_environment(ctx, clean, Placement(host=platform))
    factor = check.factors[platform.identifier]
    with (
        ctx.public.address(site.store, site.base_url) as address,
        clean_system(ctx, environment, network=_network(address), factor=factor) as system,
        tempfile.TemporaryDirectory(prefix="rpp-") as temporary,
    ):
        if address.startswith("https:"):
            trust_certificates(system)
        archive = Path(temporary, "sources.tar")
        text = _sources(check, suite).replace(site.base_url, address)
        write_archive(archive, [Entry(path=SOURCES_PATH, content=text.encode())], epoch=1)
        system.session.copy_into(archive, "/")
        what = try_packages(
            system,
            named(new, main),
            check.interpreter.install,
            named(older, main) if older else None,
        )
    return Installed(
        client="apt",
        where=f"{suite}, {platform.identifier}, {site.base_url}",
        what=what,
        seconds=round(time.monotonic() - started, 1),
    )


def _sources(check: Check, suite: str) -> str:
    """Return the file that users put into their system, as the store has it."""
    ending = "-nightly" if check.release.published.channel == "nightly" else ""
    key = f"{naming.APT_PREFIX}/{suite}{ending}.sources"
    present = check.channel.store.read(key)
    if present is None:
        msg = (
            f"{check.channel.store.address}: {key}: is not there. Run: python -m pipeline reconcile"
        )
        raise InstallError(msg)
    return present.data.decode()


def _network(address: str) -> Network:
    """Return which network a container needs to see *address*."""
    return "host" if is_loopback(address) else "bridge"


def _from_registry(check: Check, step: Step) -> Iterator[Installed]:
    registry = check.channel.registry
    if registry is None or not check.release.is_offered:
        return
    for image in check.release.published.images:
        if image.platform in check.factors:
            step.phase(image_place(image))
            yield _pulled(check, f"{registry.address}/{image.image}@{image.digest}", image)


def _pulled(check: Check, reference: str, image: PublishedImage) -> Installed:
    started = time.monotonic()
    platform = check.platform(image.platform)
    ctx = check.ctx.for_platform(platform.identifier)
    factor = check.factors[platform.identifier]
    with _pulled_image(ctx, reference, platform) as image_id:
        what = try_image(ctx, image_id, image, check.interpreter.install, factor)
    return Installed(
        client="image",
        where=f"{image_place(image)}, {reference.split('@', maxsplit=1)[0]}",
        what=what,
        seconds=round(time.monotonic() - started, 1),
    )


@contextmanager
def _pulled_image(ctx: Context, reference: str, platform: Platform) -> Iterator[str]:
    """Give the id of a pulled image; it is given up at the end, unless it was there before."""
    was_there = ctx.engine.has_image(reference)
    image_id = ctx.engine.pull(
        reference, oci_platform=str(platform.oci), on_line=lambda _line: None
    )
    try:
        yield image_id
    finally:
        if not was_there:
            # By its name: the same image may have others here, which are not ours to take away.
            ctx.engine.remove_image(reference)
