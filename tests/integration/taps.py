"""A store in a directory and a tap in a git repository, for tests of both."""

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pipeline.effects.archives import Compression, Entry, write_archive
from pipeline.effects.clock import utc_now
from pipeline.effects.context import Context
from pipeline.effects.files import WorkDirectory, describe
from pipeline.effects.http import HttpClient
from pipeline.effects.process import ProcessRunner
from pipeline.effects.public import HttpView
from pipeline.effects.retry import RetryPolicy
from pipeline.effects.store import LocalStore
from pipeline.model.artifacts import Artifact, ArtifactKind
from pipeline.model.homebrew import TapConfig
from pipeline.model.ledger import Event, Published
from pipeline.publish.sites import Site
from pipeline.publish.tap import stale_tap, write_tap
from tests.factories import make_config, make_event, make_platform, make_state
from tests.fakes import FakeEngine, recorded_console

EPOCH: Final = 1_779_753_600
# What the demo's formula runs, and what it should say.
PROGRAM: Final = '#!/bin/sh\n[ "$2" = "print(6 * 7)" ] && echo 42\n'


@dataclass(frozen=True, kw_only=True)
class Tap:
    """A store that is seen below *base_url*, and a tap which begins as an empty repository."""

    ctx: Context
    site: Site
    config: TapConfig
    repository: Path

    def release(
        self, version: str, *lacking: str, platforms: tuple[str, ...] = ("linux-x86_64",)
    ) -> Published:
        """Put a release of a demo into the store; the files of platforms *lacking* are not there.

        Their program is a shell script.
        """
        files = tuple(self._archive(version, name, is_put=True) for name in platforms)
        missing = tuple(self._archive(version, name, is_put=False) for name in lacking)
        return make_event(
            "demo",
            version,
            (*platforms, *lacking),
            product="demo",
            implementation="demo",
            language_version="1.0",
            files=(*files, *missing),
        )

    def write(self, *events: Event) -> list[str]:
        """Write the tap after *events*; return what changed."""
        return write_tap(self.ctx, self.config, make_state(*events), self.site)

    def stale(self, *events: Event) -> list[str]:
        """Return what of the tap is not as it should be after *events*."""
        return stale_tap(self.ctx, self.config, make_state(*events), self.site)

    def git(self, *arguments: str) -> str:
        """Run git in the repository."""
        done = subprocess.run(
            ["git", "--git-dir", str(self.repository), *arguments],
            env={**os.environ, "GIT_CONFIG_GLOBAL": "/dev/null"},
            check=True,
            capture_output=True,
            text=True,
        )
        return done.stdout

    def files(self) -> list[str]:
        """Return the files of the newest commit."""
        return self.git("ls-tree", "-r", "--name-only", "main").splitlines()

    def formula(self) -> str:
        """Return the demo's formula in the newest commit."""
        return self.git("show", "main:Formula/demo.rb")

    def _archive(self, version: str, platform: str, *, is_put: bool) -> Artifact:
        stem = f"demo-v{version}-{make_platform(platform).release_suffix}"
        key = f"demo/demo-v{version}/{stem}.tar.gz"
        path = (self.site_root if is_put else self.ctx.root / "elsewhere") / key
        path.parent.mkdir(parents=True, exist_ok=True)
        program = Entry(path=f"{stem}/bin/demo", content=PROGRAM.encode(), executable=True)
        link = Entry(path=f"{stem}/bin/demo1", link="demo")
        license_file = Entry(path=f"{stem}/LICENSE", content=f"{version} {platform}\n".encode())
        write_archive(
            path, [license_file, program, link], compression=Compression.GZIP, epoch=EPOCH
        )
        return describe(path, ArtifactKind.ARCHIVE_GZ, platform)

    @property
    def site_root(self) -> Path:
        """The directory of the store."""
        store = self.site.store
        assert isinstance(store, LocalStore)
        return store.root


def make_tap(root: Path, base_url: str = "http://127.0.0.1:8377") -> Tap:
    """Return an empty store and an empty tap below *root*; of this machine the store is served."""
    repository = root / "tap.git"
    subprocess.run(
        ["git", "init", "--quiet", "--bare", "--initial-branch=main", str(repository)], check=True
    )
    http = HttpClient(RetryPolicy(attempts=1))
    ctx = Context(
        root=root,
        config=make_config(),
        work=WorkDirectory(root / "out"),
        engine=FakeEngine(),
        process=ProcessRunner(),
        http=http,
        public=HttpView(http),
        console=recorded_console()[0],
        now=utc_now,
        releaser="tester",
    )
    config = TapConfig(
        repository=f"file://{repository}", branch="main", author="Releaser <releaser@demo.test>"
    )
    site = Site(store=LocalStore(root / "store"), base_url=base_url)
    return Tap(ctx=ctx, site=site, config=config, repository=repository)
