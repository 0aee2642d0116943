"""A channel with an apt repository: real keys, tiny real packages, and apt's own clients."""

import os
import shutil
import subprocess
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Final

from pipeline.effects.clock import utc_now
from pipeline.effects.context import Context
from pipeline.effects.files import sha256_of
from pipeline.effects.process import ProcessRunner
from pipeline.model.configs import SigningConfig
from pipeline.model.debian import AptConfig, BinaryPackage, package_filename
from pipeline.publish.events import Stamp, unyank, yank
from pipeline.publish.ledger import append
from pipeline.publish.project import project
from pipeline.publish.sites import OpenChannel, Site
from pipeline.sign.gpg import Keyring, quickstart_keyring
from pipeline.sign.notary import KeyringNotary
from tests.factories import changed
from tests.fakes import make_context, open_channel, write_project
from tests.handmade import Maker, sign_by_copy

SUITES: Final = ("bookworm", "trixie")
ARCHITECTURES: Final = {"amd64": "linux-x86_64", "arm64": "linux-aarch64"}
CONFIG: Final = AptConfig(suites=SUITES, valid_days=14, grace_hours=48, keep=5)
PACKAGE: Final = "tool"
DIRECTORIES: Final = (
    "etc/apt/apt.conf.d",
    "etc/apt/preferences.d",
    "etc/apt/sources.list.d",
    "var/cache/apt/archives/partial",
    "var/lib/apt/lists/partial",
    "var/lib/dpkg",
)


def debs(directory: Path, version: str) -> tuple[BinaryPackage, ...]:
    """Make a package for each suite and architecture: a script that tells its version."""
    return tuple(
        _deb(directory, f"{_upstream(version)}-1~deb{number}", suite, architecture)
        for suite, number in zip(SUITES, (12, 13), strict=True)
        for architecture in ARCHITECTURES
    )


def _upstream(version: str) -> str:
    """Return how a version stands in a package's; a nightly's is newer than all here."""
    return version if "." in version else f"1.9+nightly{version}"


def _deb(directory: Path, version: str, suite: str, architecture: str) -> BinaryPackage:
    tree = directory / f".{suite}-{architecture}"
    control = "\n".join(
        (
            f"Package: {PACKAGE}",
            f"Version: {version}",
            f"Architecture: {architecture}",
            "Maintainer: A Tester <tester@example.invalid>",
            "Section: misc",
            "Priority: optional",
            "Description: a tool that tells its version",
            " It is made by hand.",
            " .",
            " It has a description of several lines.",
        )
    )
    (tree / "DEBIAN").mkdir(parents=True)
    (tree / "DEBIAN" / "control").write_text(f"{control}\n")
    (tree / "usr/bin").mkdir(parents=True)
    program = tree / "usr/bin" / PACKAGE
    program.write_text(f"#!/bin/sh\necho {version}\n")
    program.chmod(0o755)
    path = directory / package_filename(PACKAGE, version, architecture)
    build = ["dpkg-deb", "--root-owner-group", "--build", str(tree), str(path)]
    subprocess.run(build, check=True, capture_output=True)
    return BinaryPackage(
        filename=path.name,
        suite=suite,
        platform=ARCHITECTURES[architecture],
        architecture=architecture,
        name=PACKAGE,
        package_version=version,
        control=control,
        size=path.stat().st_size,
        sha256=sha256_of(path),
    )


@dataclass(kw_only=True)
class AptChannel:
    """A channel of the toy project, in which releases are made by hand."""

    ctx: Context
    channel: OpenChannel
    maker: Maker
    key: bytes

    def publish(self, version: str) -> None:
        """Publish a release and write the indexes."""
        made = self.maker.release(version)
        made.publish([site.store for site in self.channel.sites], self.channel.notary, utc_now())
        self.project()

    def publish_nightly(self, number: int) -> None:
        """Publish a nightly and write the indexes."""
        made = self.maker.nightly(utc_now(), number, product="toy")
        made.publish([site.store for site in self.channel.sites], self.channel.notary, utc_now())
        self.project()

    def change(self, version: str, *, yanked: bool) -> None:
        """Yank a release, or take that back, and write the indexes."""
        stamp = Stamp(at=utc_now(), by="tester", reason="a test")
        release = f"{self.maker.interpreter}-v{version}"
        make = yank if yanked else unyank
        append(self.channel.store, self.channel.notary, make("toy", release, stamp))
        self.project()

    def project(self) -> list[str]:
        """Write the indexes."""
        return project(self.ctx, self.channel)

    def at(self, moment: datetime) -> "AptChannel":
        """Return the same channel at another time."""
        return replace(self, ctx=replace(self.ctx, now=lambda: moment))


@contextmanager
def apt_channel(directory: Path, *sites: Site, config: AptConfig = CONFIG) -> Iterator[AptChannel]:
    """Give a channel that is published to *sites* and signed with a key of its own."""
    process = ProcessRunner()
    write_project(directory / "project")
    home = directory / "k"
    with quickstart_keyring(process, home) as keyring:
        fingerprint = _fingerprint(keyring)
        notary = KeyringNotary(
            keyring=lambda: nullcontext(keyring),
            is_there=lambda: True,
            config=SigningConfig(key="quickstart"),
            process=process,
            now=utc_now,
        )
        ctx = replace(make_context(directory / "project"), now=utc_now)
        toy = open_channel(ctx, notary=notary)
        yield AptChannel(
            ctx=ctx,
            channel=replace(toy, config=changed(toy.config, apt=config), sites=sites),
            maker=Maker(
                directory=directory / "made", sign=sign_by_copy, interpreter="toy", package=debs
            ),
            key=keyring.public_key(fingerprint),
        )


def _fingerprint(keyring: Keyring) -> str:
    rows = (line.split(":") for line in keyring.secret_keys().splitlines())
    return next(row[9] for row in rows if row[0] == "fpr")


@dataclass(frozen=True, kw_only=True)
class AptClient:
    """This machine's apt with directories of its own, so that it changes nothing here."""

    root: Path

    @classmethod
    def with_source(cls, root: Path, source: str) -> "AptClient":
        """Return a client that has the text of a source file, and no package installed."""
        for name in DIRECTORIES:
            (root / name).mkdir(parents=True)
        (root / "var/lib/dpkg/status").touch()
        (root / "etc/apt/sources.list.d/toy.sources").write_text(source)
        (root / "apt.conf").write_text(
            textwrap.dedent(f"""\
            Dir "{root}";
            Dir::State::status "{root}/var/lib/dpkg/status";
            Dir::Etc::trusted "/dev/null";
            Dir::Etc::trustedparts "/dev/null";
            Dir::Log "{root}";
            APT::Architecture "amd64";
            APT::Architectures {{ "amd64"; }};
            APT::Sandbox::User "root";
            Acquire::Languages "none";
            Acquire::Retries "0";
            """)
        )
        return cls(root=root)

    def run(self, *arguments: str, check: bool = True) -> "subprocess.CompletedProcess[str]":
        """Run a program of apt."""
        done = subprocess.run(
            arguments,
            env={**os.environ, "APT_CONFIG": str(self.root / "apt.conf"), "LC_ALL": "C"},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        if check:
            assert done.returncode == 0, done.stdout + done.stderr
        return done

    def update(self, *options: str, check: bool = True) -> str:
        """Update the lists; return what apt wrote."""
        done = self.run("apt-get", "update", "--error-on=any", *options, check=check)
        return done.stdout + done.stderr

    def versions(self) -> list[str]:
        """Return the versions that are offered."""
        rows = self.run("apt-cache", "madison", PACKAGE).stdout.splitlines()
        return [row.split("|")[1].strip() for row in rows]

    def download(self, directory: Path, *, check: bool = True) -> str:
        """Download the package as an installation would, and check it; return what apt wrote."""
        directory.mkdir(exist_ok=True)
        done = subprocess.run(
            ["apt-get", "download", PACKAGE],
            cwd=directory,
            env={**os.environ, "APT_CONFIG": str(self.root / "apt.conf"), "LC_ALL": "C"},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        if check:
            assert done.returncode == 0, done.stderr
        return done.stdout + done.stderr

    def forget(self) -> None:
        """Remove the lists, so that the next update fetches all of them."""
        shutil.rmtree(self.root / "var/lib/apt/lists")
        (self.root / "var/lib/apt/lists/partial").mkdir(parents=True)
