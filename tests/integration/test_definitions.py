"""Formulas, recipes for conda and expressions for Nix, read by the tools that they are for.

Each test is skipped where its tool is missing: ``ruby`` or ``nix-instantiate`` (Debian's nix-bin)
on PATH, and the Python package ``py-rattler-build``.
"""

import json
import os
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from pipeline.effects.server import make_server
from pipeline.publish.projections import projections
from pipeline.publish.view import Document
from pipeline.templates import ruby_heredoc_line, ruby_string
from tests.factories import ROOT, make_view
from tests.integration.taps import Tap, make_tap

pytestmark = [pytest.mark.slow]

# The functions that Nixpkgs would give, as far as their results are looked at here.
STUBS: Final = """
{ file, system, url ? false }:
let
  lib = {
    optionals = condition: list: if condition then list else [ ];
    inherit (builtins) concatStringsSep;
    getLicenseFromSpdxId = name: name;
    sourceTypes.binaryNativeCode = "binary";
  };
  stdenv = {
    hostPlatform = { inherit system; isLinux = true; };
    cc.cc.lib = "libgcc";
    mkDerivation = attributes: attributes;
  };
  call = fetchurl: import file { inherit lib stdenv fetchurl; autoPatchelfHook = "hook"; };
in
if url then (call (import <nix/fetchurl.nix>)).src else call (source: source)
"""
ALONE: Final = "build-users-group =\nsubstituters =\nsandbox = false\n"
# Prints what a literal is, in hex, so that no encoding comes between.
SHOW: Final = 'print {}.encode("UTF-8").unpack1("H*")'
NASTY: Final = (
    "#{exit 3}",
    '"; exit 3; "',
    "\\#{exit 3}",
    "#$0 #@x # {}",
    "a\nb\tc\r\x00\x7f\x85\u2028",
    "\N{SNAKE} é",
)


def ruby(*arguments: str, text: str = "") -> str:
    """Run Ruby with *text* on its standard input."""
    if shutil.which("ruby") is None:
        pytest.skip("ruby is not on PATH")
    done = subprocess.run(
        ["ruby", *arguments],
        input=f"# encoding: utf-8\n{text}",
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("text", NASTY)
def test_ruby_reads_a_literal_as_the_text(text: str) -> None:
    assert bytes.fromhex(ruby("-", text=SHOW.format(ruby_string(text)))).decode() == text


@pytest.mark.parametrize("text", [*NASTY, "EOS", "  EOS"])
def test_ruby_reads_a_line_of_a_heredoc_as_the_text(text: str) -> None:
    heredoc = f"print <<EOS.encode('UTF-8').unpack1('H*')\n{ruby_heredoc_line(text)}\nEOS\n"

    assert bytes.fromhex(ruby("-", text=heredoc)).decode() == f"{text}\n"


@pytest.mark.parametrize(
    "path", sorted((ROOT / "tests/golden/projections/pypy/definitions").rglob("*.rb")), ids=str
)
def test_ruby_reads_a_formula(path: Path) -> None:
    assert ruby("-c", "-", text=path.read_text(encoding="utf-8")) == "Syntax OK\n"


@pytest.fixture
def tap(tmp_path: Path) -> Iterator[Tap]:
    """A store that is served."""
    (tmp_path / "store").mkdir()
    server = make_server(tmp_path / "store", "127.0.0.1", 0, quiet=True)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield make_tap(tmp_path, f"http://127.0.0.1:{server.server_port}")
    server.shutdown()
    thread.join()
    server.server_close()


def definition(tap: Tap, key: str) -> Path:
    """Return a file with a definition of a demo that is in the store."""
    release = tap.release("1.0.0", platforms=("linux-x86_64", "linux-aarch64"))
    document = projections(make_view(release, base_url=tap.site.base_url))[key]
    assert isinstance(document, Document)
    path = tap.ctx.root / Path(key).name
    path.write_bytes(document.data)
    return path


@pytest.fixture
def recipe(tap: Tap) -> Any:
    """The demo's recipe, read by rattler-build."""
    rattler_build = pytest.importorskip("rattler_build")
    path = definition(tap, "demo/definitions/conda/demo/recipe.yaml")
    return rattler_build.Stage0Recipe.from_file(path)


@pytest.mark.parametrize(
    ("subdir", "suffix"), [("linux-64", "linux64"), ("linux-aarch64", "aarch64")]
)
def test_rattler_build_finds_the_archive_of_each_platform(
    recipe: Any, subdir: str, suffix: str
) -> None:
    rattler_build = pytest.importorskip("rattler_build")
    platform = rattler_build.PlatformConfig(
        target_platform=subdir, build_platform="linux-64", host_platform=subdir
    )

    (variant,) = recipe.render(None, rattler_build.RenderConfig(platform))

    (source,) = variant.recipe.sources
    assert source.to_dict()["url"].endswith(f"/demo/demo-v1.0.0/demo-v1.0.0-{suffix}.tar.gz")
    assert str(variant.recipe.package.version) == "1.0.0"


@pytest.fixture
def nix(tap: Tap) -> Callable[..., str]:
    """Give a function that runs a program of Nix on the demo's expression, in a new store.

    What Nixpkgs would give are stubs.
    """
    if shutil.which("nix-instantiate") is None:
        pytest.skip("nix-instantiate is not on PATH")
    path = definition(tap, "demo/definitions/nix/demo.nix")
    stubs = tap.ctx.root / "stubs.nix"
    stubs.write_text(STUBS)
    state = {
        f"NIX_{name}_DIR": str(tap.ctx.root / "nix" / name.lower())
        for name in ("STORE", "STATE", "LOG", "CONF", "LOCALSTATE")
    }

    def run(program: str, system: str, *more: str) -> str:
        given = ("--argstr", "system", system, "--arg", "file", str(path))
        done = subprocess.run(
            [program, str(stubs), *given, *more],
            env={
                **os.environ,
                **state,
                "NIX_REMOTE": "",
                "NIX_CONFIG": ALONE,
                "HOME": str(tap.ctx.root),
            },
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


def test_nix_finds_the_archive_of_each_system(nix: Callable[..., str]) -> None:
    found = json.loads(nix("nix-instantiate", "aarch64-linux", "--eval", "--strict", "--json"))

    assert found["src"]["url"].endswith("/demo-v1.0.0-aarch64.tar.gz")
    assert found["meta"]["platforms"] == ["aarch64-linux", "x86_64-linux"]
    assert found["installPhase"].splitlines()[0] == "runHook preInstall"


def test_nix_downloads_the_archive_by_the_hash_of_the_expression(
    tap: Tap, nix: Callable[..., str]
) -> None:
    fetched = nix("nix-build", "x86_64-linux", "--arg", "url", "true", "--no-out-link")

    (archive,) = tap.site_root.rglob("*-linux64.tar.gz")
    assert Path(fetched.strip()).read_bytes() == archive.read_bytes()
