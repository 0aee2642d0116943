"""Installers that people use, on a store whose indexes are the projections of a view.

The archive holds Debian's own PyPy in upstream's layout: real bytes for real clients. Each test
names what it needs and is skipped where that is not there:

- pyenv's python-build on PATH or in ``$PYENV_ROOT`` (default ``~/.pyenv``);
- a checkout of github.com/actions/setup-python in ``$SETUP_PYTHON_DIR``, and node.
"""

import os
import re
import shutil
import socket
import ssl
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, HTTPServer, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
from uv import find_uv_bin

from pipeline.effects.archives import Compression, entries_of, write_archive
from pipeline.effects.files import describe
from pipeline.effects.server import make_server
from pipeline.effects.store import LocalStore
from pipeline.model.artifacts import Artifact, ArtifactKind
from pipeline.model.ledger import Event, Published, Yanked
from pipeline.publish.projections import projections
from pipeline.publish.view import Document
from tests.factories import ROOT, later, make_event, make_nightly, make_view

pytestmark = [pytest.mark.network, pytest.mark.slow]

PACKAGES = ("pypy3", "pypy3-lib", "python3-pip-whl", "python3-setuptools-whl")
PLATFORM = "linux-x86_64"
# A version of which python-build has no definition of its own to fall back on.
UNKNOWN = "7.99.0"
NUMBER, REVISION = 188_288, "0123456789ab"
# Debian's own refuses to work outside of a virtual environment.
ENSUREPIP = """\
import glob
import os
import runpy
import sys

wheels = glob.glob(os.path.join(os.path.dirname(__file__), "_bundled", "*.whl"))
sys.path[:0] = wheels
sys.argv = ["pip", "install", "--no-index", "--root-user-action=ignore", *wheels]
runpy.run_module("pip", run_name="__main__")
"""
REPORT = (
    "import platform, ssl, zlib; print(platform.python_implementation(), len(zlib.compress(b'')))"
)


@dataclass(frozen=True, kw_only=True)
class PyPy:
    """An archive with an interpreter for ``language`` (``3.9``); ``wheels`` are those in it."""

    archive: Path
    wheels: Path
    language: str

    @property
    def interpreter(self) -> str:
        """What we call such an interpreter."""
        return f"pypy{self.language}"


@dataclass(frozen=True, kw_only=True)
class World:
    """A store, which the public sees under an address."""

    store: LocalStore
    pypy: PyPy
    address: str

    def release(self, version: str) -> Published:
        """Publish a final release that calls itself *version*."""
        release = f"{self.pypy.interpreter}-v{version}"
        return make_event(
            self.pypy.interpreter,
            version,
            language_version=f"{self.pypy.language}.16",
            release=release,
            files=(self._put(release, f"{release}-linux64.tar.gz"),),
        )

    def nightly(self) -> Published:
        """Publish a nightly."""
        release = f"{self.pypy.interpreter}-nightly-2026-11-21-{NUMBER}-{REVISION}"
        filename = f"pypy-c-jit-{NUMBER}-{REVISION}-linux64.tar.gz"
        return make_nightly(
            NUMBER,
            self.pypy.interpreter,
            language_version=f"{self.pypy.language}.16",
            release=release,
            files=(self._put(release, filename),),
        )

    def _put(self, release: str, filename: str) -> Artifact:
        """Put the archive into the store; its top directory keeps a name that clients ignore."""
        key = f"pypy/{release}/{filename}"
        self.store.put_new(key, self.pypy.archive, content_type="application/gzip")
        return describe(self.store.root / key, ArtifactKind.ARCHIVE_GZ, PLATFORM)

    def write(self, *events: Event) -> None:
        """Make the store's indexes those after *events*, and no others."""
        shutil.rmtree(self.store.root / "pypy" / "definitions", ignore_errors=True)
        for key, item in projections(make_view(*events, base_url=self.address)).items():
            if isinstance(item, Document):
                present = self.store.read(key)
                self.store.replace(
                    key,
                    item.data,
                    tag=None if present is None else present.tag,
                    content_type=item.content_type,
                )
            else:
                self.store.point(key, item.target)

    @property
    def definitions(self) -> Path:
        """Where the store has definitions for python-build."""
        return self.store.root / "pypy" / "definitions" / "pyenv"


def run(
    *command: str | Path, check: bool = True, **environment: str | Path
) -> "subprocess.CompletedProcess[str]":
    """Run a client with more variables than ours."""
    done = subprocess.run(
        [str(word) for word in command],
        env={**os.environ, **{name: str(value) for name, value in environment.items()}},
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    assert not check or done.returncode == 0, done.stdout + done.stderr
    return done


@pytest.fixture(scope="session")
def pypy(tmp_path_factory: pytest.TempPathFactory) -> PyPy:
    """Debian's PyPy in upstream's layout, with a pip that ensurepip installs."""
    if shutil.which("apt-get") is None:
        pytest.skip("apt-get is not here, from which the tests have a PyPy")
    directory = tmp_path_factory.mktemp("debian")
    subprocess.run(
        ["apt-get", "download", "-qq", *PACKAGES], cwd=directory, check=True, capture_output=True
    )
    for package in directory.glob("*.deb"):
        run("dpkg-deb", "--extract", package, directory / "root")
    tree = assembled(directory / "root", directory / "tree")
    program = next(tree.glob("bin/pypy3.*"))
    if run(program, "-c", REPORT, check=False).returncode != 0:
        pytest.skip("Debian's PyPy does not run here: a library that it needs is not installed")
    archive = directory / "pypy.tar.gz"
    entries = entries_of(tree, f"{program.name}-v7.3.11-linux64")
    write_archive(archive, entries, epoch=1_700_000_000, compression=Compression.GZIP)
    return PyPy(
        archive=archive,
        wheels=next(tree.glob("lib/*/ensurepip/_bundled")),
        language=program.name.removeprefix("pypy"),
    )


def assembled(root: Path, tree: Path) -> Path:
    """Put what Debian splits over /usr into upstream's layout."""
    (library,) = (root / "usr/lib").glob("pypy3.*")
    (shared,) = (root / "usr/lib").glob("*/libpypy3.*-c.so")
    shutil.copytree(library, tree / "lib" / library.name, symlinks=True)
    (tree / "bin").mkdir()
    for file in (root / "usr/bin" / library.name, shared):
        shutil.copy(file, tree / "bin" / file.name)
    version = library.name.removeprefix("pypy")
    for link in ("pypy", "pypy3", "python", "python3", f"python{version}"):
        (tree / "bin" / link).symlink_to(library.name)
    (tree / "lib" / library.name / "EXTERNALLY-MANAGED").unlink(missing_ok=True)
    ensurepip = tree / "lib" / library.name / "ensurepip"
    shutil.copytree(root / "usr/share/python-wheels", ensurepip / "_bundled")
    (ensurepip / "__main__.py").write_text(ENSUREPIP)
    return tree


@contextmanager
def running(server: HTTPServer) -> Iterator[str]:
    """Run a server; give its address without a scheme."""
    with server:
        thread = Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield f"127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture
def world(pypy: PyPy, tmp_path: Path) -> Iterator[World]:
    """An empty store that is served."""
    store = LocalStore(tmp_path / "store")
    with running(make_server(store.root, "127.0.0.1", 0, quiet=True)) as place:
        yield World(store=store, pypy=pypy, address=f"http://{place}")


# pyenv


@pytest.fixture
def python_build() -> Path:
    """The program that ``pyenv install`` runs."""
    root = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    found = shutil.which(
        "python-build", path=f"{root}/plugins/python-build/bin:{os.environ['PATH']}"
    )
    if found is not None:
        return Path(found)
    pytest.skip("pyenv's python-build is neither on PATH nor in $PYENV_ROOT")


@dataclass(frozen=True, kw_only=True)
class PythonBuild:
    """python-build with the store's definitions."""

    program: Path
    world: World
    directory: Path

    @property
    def prefix(self) -> Path:
        """Where it installs to."""
        return self.directory / "prefix"

    def __call__(self, name: str, *, check: bool = True) -> "subprocess.CompletedProcess[str]":
        """Install a version from scratch."""
        shutil.rmtree(self.prefix, ignore_errors=True)
        (self.directory / "build").mkdir(exist_ok=True)
        return run(
            self.program,
            name,
            self.prefix,
            check=check,
            PYTHON_BUILD_DEFINITIONS=self.world.definitions,
            PYTHON_BUILD_SKIP_MIRROR="1",
            TMPDIR=self.directory / "build",
        )


@pytest.fixture
def install(python_build: Path, world: World, tmp_path: Path) -> PythonBuild:
    """What installs from the store."""
    return PythonBuild(program=python_build, world=world, directory=tmp_path)


def test_python_build_installs_from_our_definition(install: PythonBuild) -> None:
    world = install.world
    world.write(world.release(UNKNOWN))

    install(f"{world.pypy.interpreter}-{UNKNOWN}")

    python = install.prefix / "bin" / "python"
    assert run(python, "-c", REPORT).stdout.split() == ["PyPy", "8"]
    assert world.pypy.language in run(python, "-m", "pip", "--version").stdout


def test_python_build_installs_the_newest_nightly(install: PythonBuild) -> None:
    world = install.world
    world.write(world.nightly())

    install(f"{world.pypy.interpreter}-nightly")

    assert run(install.prefix / "bin" / "pypy3", "-c", REPORT).stdout.startswith("PyPy")


def test_python_build_refuses_an_archive_that_was_altered(install: PythonBuild) -> None:
    world = install.world
    event = world.release(UNKNOWN)
    world.write(event)
    (archive,) = (world.store.root / "pypy" / event.release).iterdir()
    archive.chmod(0o644)
    with archive.open("ab") as stream:
        stream.write(b"one more")

    done = install(f"{world.pypy.interpreter}-{UNKNOWN}", check=False)

    assert done.returncode != 0
    assert "checksum mismatch" in done.stderr
    assert not (install.prefix / "bin" / "python").exists()


def test_python_build_does_not_know_a_yanked_release(install: PythonBuild) -> None:
    world = install.world
    event = world.release(UNKNOWN)
    world.write(event, later(Yanked, event))

    done = install(f"{world.pypy.interpreter}-{UNKNOWN}", check=False)

    assert done.returncode != 0
    assert "definition not found" in done.stderr


def test_python_build_says_for_which_platforms_there_is_an_archive(install: PythonBuild) -> None:
    world = install.world
    world.write(make_event(world.pypy.interpreter, UNKNOWN, ("linux-aarch64", "macos-arm64")))

    done = install(f"{world.pypy.interpreter}-{UNKNOWN}", check=False)

    assert done.returncode != 0
    assert "has no archive for linux64" in done.stderr
    assert "linux-aarch64, osarm64" in done.stderr


@pytest.mark.parametrize(
    "path", sorted((ROOT / "tests/golden/projections/pypy/definitions/pyenv").iterdir()), ids=str
)
def test_a_shell_reads_every_definition(path: Path) -> None:
    run("bash", "-n", path)


# uv


@dataclass(frozen=True, kw_only=True)
class Uv:
    """uv with the store's metadata."""

    world: World
    directory: Path

    def __call__(self) -> "subprocess.CompletedProcess[str]":
        """Install PyPy from scratch; uv's cache would have the index for its ``max-age``."""
        for name in ("pythons", "cache"):
            shutil.rmtree(self.directory / name, ignore_errors=True)
        return run(
            *(find_uv_bin(), "python", "install", self.world.pypy.interpreter, "--no-bin"),
            check=False,
            UV_PYTHON_DOWNLOADS_JSON_URL=f"{self.world.address}/pypy/uv.json",
            UV_PYTHON_INSTALL_DIR=self.directory / "pythons",
            UV_CACHE_DIR=self.directory / "cache",
        )

    @property
    def installed(self) -> str:
        """The version of PyPy that it says it installed."""
        (build,) = (self.directory / "pythons").glob("pypy-*/BUILD")
        return build.read_text().strip()


def test_uv_gets_the_previous_release_after_a_yank(world: World, tmp_path: Path) -> None:
    uv = Uv(world=world, directory=tmp_path)
    good, bad = world.release("7.3.11"), world.release("7.3.12")
    yank = later(Yanked, bad)

    world.write(good, bad)
    assert uv().returncode == 0
    assert uv.installed == "7.3.12"

    world.write(good, bad, yank)
    assert uv().returncode == 0
    assert uv.installed == "7.3.11"

    world.write(good, bad, yank, later(Yanked, good))
    done = uv()
    assert done.returncode != 0
    assert "No download found" in done.stderr


# setup-python


class Proxy(BaseHTTPRequestHandler):
    """Leads every connection to one place, whatever name it was for."""

    place: tuple[str, int]

    def do_CONNECT(self) -> None:
        """Pass bytes on in both directions until one side is done."""
        with socket.create_connection(self.place) as onward:
            self.send_response(200)
            self.end_headers()
            back = Thread(target=_pass_on, args=(onward, self.connection), daemon=True)
            back.start()
            _pass_on(self.connection, onward)
            back.join()
        self.close_connection = True

    def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002 - its name there
        """Write nothing."""


def _pass_on(source: socket.socket, destination: socket.socket) -> None:
    try:
        while data := source.recv(1 << 16):
            destination.sendall(data)
        destination.shutdown(socket.SHUT_WR)
    except OSError:
        return


@dataclass(frozen=True, kw_only=True)
class SetupPython:
    """The action as it is, whose fixed address of ``versions.json`` leads to the store."""

    directory: Path
    world: World
    certificate: Path
    proxy: str
    runner: Path

    def __call__(self, python: str, *, check: bool = True) -> "subprocess.CompletedProcess[str]":
        """Run the action's main step as a runner would."""
        for name in ("temp", "tools"):
            shutil.rmtree(self.runner / name, ignore_errors=True)
            (self.runner / name).mkdir(parents=True)
        for name in ("output", "env", "path", "state"):
            (self.runner / name).write_text("")
        return run(
            *("node", self.directory / "dist/setup/index.js"),
            check=check,
            **{"INPUT_PYTHON-VERSION": python, "INPUT_ARCHITECTURE": "x64"},
            **{"INPUT_UPDATE-ENVIRONMENT": "false", "INPUT_CHECK-LATEST": "false"},
            **{"INPUT_ALLOW-PRERELEASES": "false", "INPUT_FREETHREADED": "false"},
            GITHUB_OUTPUT=self.runner / "output",
            GITHUB_ENV=self.runner / "env",
            GITHUB_PATH=self.runner / "path",
            GITHUB_STATE=self.runner / "state",
            GITHUB_WORKSPACE=self.runner,
            RUNNER_TEMP=self.runner / "temp",
            RUNNER_TOOL_CACHE=self.runner / "tools",
            NODE_EXTRA_CA_CERTS=self.certificate,
            https_proxy=f"http://{self.proxy}",
            # The action has pip renew itself; that it reaches an index is not tried here.
            PIP_CONFIG_FILE=os.devnull,
            PIP_NO_INDEX="1",
            PIP_FIND_LINKS=self.world.pypy.wheels,
        )

    @property
    def output(self) -> dict[str, str]:
        """What the action says it did."""
        text = (self.runner / "output").read_text()
        found = re.findall(r"^([\w-]+)<<(\S+)\n(.*?)\n\2$", text, re.MULTILINE | re.DOTALL)
        return {name: value for name, _, value in found}


@pytest.fixture
def setup_python(pypy: PyPy, tmp_path: Path) -> Iterator[SetupPython]:
    """The action, with a store in place of downloads.python.org."""
    directory = os.environ.get("SETUP_PYTHON_DIR")
    if directory is None:
        pytest.skip("SETUP_PYTHON_DIR does not name a checkout of actions/setup-python")
    if shutil.which("node") is None:
        pytest.skip("node is not here, which runs setup-python")
    store = LocalStore(tmp_path / "store")
    world = World(store=store, pypy=pypy, address="https://downloads.python.org")
    certificate, key = make_certificate(tmp_path, "downloads.python.org")
    with ExitStack() as stack:
        server = make_server(store.root, "127.0.0.1", 0, quiet=True)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
        server.socket = context.wrap_socket(server.socket, server_side=True)
        stack.enter_context(running(server))
        handler = type("Leading", (Proxy,), {"place": ("127.0.0.1", server.server_port)})
        proxy = stack.enter_context(running(ThreadingHTTPServer(("127.0.0.1", 0), handler)))
        yield SetupPython(
            directory=Path(directory),
            world=world,
            certificate=certificate,
            proxy=proxy,
            runner=tmp_path / "runner",
        )


def make_certificate(directory: Path, name: str) -> tuple[Path, Path]:
    """Make a certificate for a server of that name, which signs itself."""
    certificate, key = directory / "certificate.pem", directory / "key.pem"
    run(
        *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"),
        *("-subj", f"/CN={name}", "-addext", f"subjectAltName=DNS:{name}"),
        *("-keyout", key, "-out", certificate),
    )
    return certificate, key


def test_setup_python_installs_the_newest_release(setup_python: SetupPython) -> None:
    """It sorts itself, takes the address as it stands, and extracts what it finds there."""
    world = setup_python.world
    world.write(world.release("7.3.11"), world.release("7.3.9"), world.nightly())

    setup_python(world.pypy.interpreter)

    assert setup_python.output["python-version"] == f"{world.pypy.interpreter}.16-7.3.11"
    python = setup_python.output["python-path"]
    assert run(python, "-c", REPORT).stdout.startswith("PyPy")


def test_setup_python_gets_the_previous_release_after_a_yank(setup_python: SetupPython) -> None:
    world = setup_python.world
    good, bad = world.release("7.3.11"), world.release("7.3.12")
    world.write(good, bad, later(Yanked, bad))

    setup_python(world.pypy.interpreter)

    assert setup_python.output["python-version"] == f"{world.pypy.interpreter}.16-7.3.11"


def test_setup_python_does_not_find_what_is_yanked(setup_python: SetupPython) -> None:
    world = setup_python.world
    good, bad = world.release("7.3.11"), world.release("7.3.12")
    world.write(good, bad, later(Yanked, bad))

    done = setup_python(f"{world.pypy.interpreter}-v7.3.12", check=False)

    assert done.returncode != 0
    assert "(v7.3.12) with arch x64 not found" in done.stdout


def test_setup_python_installs_the_newest_nightly(setup_python: SetupPython) -> None:
    world = setup_python.world
    world.write(world.release("7.3.11"), world.nightly())

    setup_python(f"{world.pypy.interpreter}-nightly")

    assert setup_python.output["python-version"] == f"{world.pypy.interpreter}-nightly"
