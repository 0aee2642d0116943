"""Homebrew itself in a container, without the internet that it expects.

It is a checkout of ``$HOMEBREW_REPOSITORY`` at the last version that runs with a Ruby of Debian's;
the image is made of Debian's packages, once per engine. Gems that Homebrew would install from
rubygems.org are Debian's, so three of RuboCop's plugins are missing: those for Markdown, Sorbet
and tests of Ruby. No cop for formulas is among them.
"""

import hashlib
import subprocess
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import docker
import docker.errors
from docker.models.containers import Container

VERSION: Final = "5.0.16"
REPOSITORY: Final = "rpython-pipeline/test-homebrew"
PACKAGES: Final = (
    "bzip2,ca-certificates,curl,file,g++,gcc,git,libc6-dev,make,procps,rubocop,ruby-minitest,"
    "ruby-progressbar,ruby-rubocop-performance,ruby-rubocop-rspec,ruby3.4,xz-utils"
)
SOURCES: Final = """\
deb [check-valid-until=no] http://deb.debian.org/debian sid main
deb [check-valid-until=no] http://deb.debian.org/debian experimental main
"""
PREFIX: Final = "/home/linuxbrew/.linuxbrew"
LIBRARY: Final = f"{PREFIX}/Homebrew/Library"
ENVIRONMENT: Final = {
    "PATH": f"{PREFIX}/bin:/opt/ruby:/usr/bin:/bin",
    "HOMEBREW_DEVELOPER": "1",
    "HOMEBREW_NO_ANALYTICS": "1",
    "HOMEBREW_NO_AUTO_UPDATE": "1",
    "HOMEBREW_NO_COLOR": "1",
    "HOMEBREW_NO_ENV_HINTS": "1",
    "HOMEBREW_NO_INSTALL_FROM_API": "1",
    "HOMEBREW_USE_RUBY_FROM_PATH": "1",
}
SET_UP: Final = f"""
set -eu
git config --global --add safe.directory '*'
mkdir -p {PREFIX}/bin /opt/ruby
git clone --quiet --no-checkout /brew {PREFIX}/Homebrew
git -C {PREFIX}/Homebrew checkout --quiet {VERSION}
ln -s ../Homebrew/bin/brew {PREFIX}/bin/brew
for program in ruby gem bundle bundler; do ln -s /usr/bin/${{program}}3.4 /opt/ruby/$program; done
core={LIBRARY}/Taps/homebrew/homebrew-core
mkdir -p $core/Formula
git -C $core init --quiet --initial-branch=main
git -C $core -c user.name=x -c user.email=x@x.test commit --quiet --allow-empty -m empty
ruby - <<'RUBY'
Dir.chdir "{LIBRARY}"
path = ".rubocop.yml"
text = File.read(path)
text.gsub!(/  - (rubocop-md|rubocop-sorbet|test-prof):\\n      plugin_class_name: \\S+\\n/, "")
text.gsub!(/^(Sorbet|TestProf|Markdown)[^\\n]*:\\n(?:[ #][^\\n]*\\n)*/, "")
File.write path, text
File.write "Homebrew/utils/gems.rb", <<~EOS, mode: "a"

  module Homebrew
    def self.install_bundler_gems!(**) = nil
  end
EOS
File.write "Homebrew/vendor/bundle/bundler/setup.rb", <<~EOS, mode: "a"

  $:.concat(Dir["/usr/share/rubygems-integration/all/gems/*/lib"], ["/usr/lib/ruby/vendor_ruby"])
EOS
RUBY
"""


@dataclass(frozen=True, kw_only=True)
class Brew:
    """A container with Homebrew; it sees the machine's network and *shared* at the same path."""

    container: Container
    shared: Path

    def run(self, *command: str, check: bool = True) -> tuple[int, str]:
        """Run a command; return its exit status, and what it wrote but for Ruby's warnings."""
        status, output = self.container.exec_run(list(command), environment=ENVIRONMENT)
        assert isinstance(output, bytes)
        assert status is not None
        text = output.decode(errors="replace")
        lines = [line for line in text.splitlines() if ": warning: " not in line]
        if check:
            assert status == 0, text
        return status, "\n".join(lines)

    def brew(self, *arguments: str, check: bool = True) -> tuple[int, str]:
        """Run Homebrew."""
        return self.run("brew", *arguments, check=check)


@contextmanager
def running_brew(repository: Path, shared: Path) -> Iterator[Brew]:
    """Run a container with Homebrew; *shared* is a directory of this machine."""
    client = docker.from_env()
    container = client.containers.run(
        _image(client, shared),
        ["sleep", "infinity"],
        name=f"rpp-brew-{uuid.uuid4().hex[:8]}",
        detach=True,
        network_mode="host",
        init=True,
        volumes={
            str(repository.resolve()): {"bind": "/brew", "mode": "ro"},
            str(shared): {"bind": str(shared), "mode": "rw"},
        },
    )
    try:
        brew = Brew(container=container, shared=shared)
        brew.run("bash", "-c", SET_UP)
        yield brew
    finally:
        container.remove(force=True)
        client.close()


def _image(client: docker.DockerClient, directory: Path) -> str:
    made_from = f"{SOURCES}{PACKAGES}"
    tag = f"{REPOSITORY}:{hashlib.sha256(made_from.encode()).hexdigest()[:12]}"
    try:
        client.images.get(tag)
    except docker.errors.ImageNotFound:
        sources, archive = directory / "sources.list", directory / "brew.tar"
        sources.write_text(SOURCES)
        make = ["mmdebstrap", "--variant=apt", f"--include={PACKAGES}", "sid"]
        subprocess.run([*make, str(archive), str(sources)], check=True, capture_output=True)
        subprocess.run(["docker", "import", str(archive), tag], check=True, capture_output=True)
        archive.unlink()
    return tag
