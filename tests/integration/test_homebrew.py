"""Formulas and a tap, in the hands of Homebrew itself.

Skipped where ``$HOMEBREW_REPOSITORY`` is no clone of github.com/Homebrew/brew with its tags.
"""

import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.effects.server import make_server
from pipeline.model.ledger import Published, Yanked
from pipeline.publish.projections import projections
from pipeline.publish.view import Document
from tests.factories import later, make_view
from tests.integration.homebrew import Brew, running_brew
from tests.integration.taps import Tap, make_tap
from tests.unit.publish.projections.histories import golden_view

pytestmark = [pytest.mark.docker, pytest.mark.network, pytest.mark.slow]

NAME = "example/tap"
DEMO = f"{NAME}/demo"
SUFFIXES = ("linux64", "aarch64", "macos_arm64", "macos_x86_64")


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory that the container sees."""
    return tmp_path_factory.mktemp("homebrew")


@pytest.fixture(scope="module")
def brew(shared: Path) -> Iterator[Brew]:
    """Homebrew, for all tests of this file."""
    repository = os.environ.get("HOMEBREW_REPOSITORY")
    if repository is None or not Path(repository).is_dir():
        pytest.skip("$HOMEBREW_REPOSITORY names no clone of github.com/Homebrew/brew")
    with running_brew(Path(repository), shared) as brew:
        yield brew


@pytest.fixture
def tap(brew: Brew, shared: Path, tmp_path: Path) -> Iterator[Tap]:
    """A store that is served, and a tap which Homebrew can reach."""
    root = shared / tmp_path.name
    root.mkdir()
    (root / "store").mkdir()
    server = make_server(root / "store", "127.0.0.1", 0, quiet=True)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield make_tap(root, f"http://127.0.0.1:{server.server_port}")
    finally:
        brew.brew("uninstall", "--force", "demo", check=False)
        brew.brew("untap", "--force", NAME, check=False)
        server.shutdown()
        thread.join()
        server.server_close()


def write(brew: Brew, tap: Tap, *events: Published | Yanked) -> None:
    """Write the store's indexes and the tap, and make Homebrew see the tap as it is now."""
    for key, item in projections(make_view(*events, base_url=tap.site.base_url)).items():
        if isinstance(item, Document):
            path = tap.site_root / key
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(item.data)
    tap.write(*events)
    brew.brew("untap", "--force", NAME, check=False)
    brew.brew("tap", NAME, tap.config.repository)


def test_a_release_is_installed_tried_audited_and_removed(brew: Brew, tap: Tap) -> None:
    write(brew, tap, tap.release("1.0.0"))

    installed = brew.brew("install", DEMO)[1]
    tested = brew.brew("test", DEMO)[1]
    program = brew.run("demo", "-c", "print(6 * 7)")[1]
    brew.brew("uninstall", "demo")

    assert "/Cellar/demo/1.0.0" in installed
    assert "==> Testing example/tap/demo" in tested
    assert program == "42"
    assert brew.run("which", "demo", check=False)[0] != 0


def test_style_and_audit_have_nothing_to_say(brew: Brew, tap: Tap) -> None:
    """Of every form that a formula can have, on every system."""
    formulas = {
        key.rpartition("/")[2]: item.data
        for key, item in projections(golden_view()).items()
        if isinstance(item, Document) and "/definitions/homebrew/" in key
    }
    write(brew, tap, tap.release("1.0.0", platforms=("linux-x86_64", "macos-arm64")))
    directory = f"{tap.ctx.root}/formulas"
    Path(directory).mkdir()
    for name, data in formulas.items():
        Path(directory, name).write_bytes(data)
    brew.run("bash", "-c", f"cp {directory}/*.rb $(brew --repository {NAME})/Formula/")

    style = brew.brew("style", NAME)[1]
    audit = brew.brew("audit", "--strict", "--tap", NAME)[1]
    read = brew.brew("readall", "--os", "all", "--arch", "all", NAME)[1]

    assert f"{len(formulas) + 1} files inspected, no offenses detected" in style
    assert (audit, read) == ("", "")


def test_the_source_formula_is_in_homebrews_style(brew: Brew, tap: Tap) -> None:
    """Its dependencies are not here, so that it cannot be audited."""
    (data,) = (
        item.data
        for key, item in projections(golden_view()).items()
        if isinstance(item, Document) and "/definitions/homebrew-core/" in key
    )
    path = tap.ctx.root / "pypy3.11.rb"
    path.write_bytes(data)
    write(brew, tap, tap.release("1.0.0"))
    brew.run("bash", "-c", f"cp {path} $(brew --repository {NAME})/Formula/")

    style = brew.brew("style", f"{NAME}/pypy3.11")[1]

    assert "no offenses detected" in style


def test_livecheck_tells_of_a_newer_release(brew: Brew, tap: Tap) -> None:
    old, new = tap.release("1.0.0"), tap.release("1.0.1")
    write(brew, tap, old)
    latest = make_view(old, new, base_url=tap.site.base_url)
    document = projections(latest)["demo/latest.json"]
    assert isinstance(document, Document)
    (tap.site_root / "demo/latest.json").write_bytes(document.data)

    said = brew.brew("livecheck", DEMO)[1]

    assert said == "demo: 1.0.0 ==> 1.0.1"


def test_an_archive_of_other_bytes_is_refused(brew: Brew, tap: Tap) -> None:
    write(brew, tap, tap.release("1.0.0"))
    (archive,) = tap.site_root.rglob("*.tar.gz")
    archive.write_bytes(archive.read_bytes() + b"x")

    status, said = brew.brew("install", DEMO, check=False)

    assert status != 0
    assert "Formula reports different checksum" in said
    assert brew.run("which", "demo", check=False)[0] != 0


def test_a_release_is_upgraded_and_a_yanked_one_is_not_offered(brew: Brew, tap: Tap) -> None:
    old, new = tap.release("1.0.0"), tap.release("1.0.1")
    write(brew, tap, old)
    brew.brew("install", DEMO)
    write(brew, tap, old, new)

    upgraded = brew.brew("upgrade", DEMO)[1]
    write(brew, tap, old, new, later(Yanked, new))

    assert "1.0.0 -> 1.0.1" in upgraded
    assert "stable 1.0.0" in brew.brew("info", DEMO)[1]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_homebrew_takes_no_version_from_our_addresses(brew: Brew, suffix: str) -> None:
    """So that a formula says it itself; a right one would be redundant, and audit refuses that."""
    url = f"https://downloads.example/pypy/pypy3.11-v7.3.23/pypy3.11-v7.3.23-{suffix}.tar.gz"

    detected = brew.brew("ruby", "-e", f"puts Version.detect({url!r})")[1]

    assert detected != "7.3.23"
