"""Stand-ins for the ports to the outside, and a small project for them to work on.

Nothing here starts a process or opens a socket. What a test does not expect fails the test:
an unknown command in :class:`FakeProcess`, an unknown image in :class:`FakeEngine`.
"""

import hashlib
import io
import tarfile
import zipfile
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, NoReturn

import pytest
from rich.console import Console as RichConsole

from pipeline.config import load_config
from pipeline.effects.clock import Now
from pipeline.effects.console import Console
from pipeline.effects.context import Context, StageOutput
from pipeline.effects.engine import ContainerStep, EngineInfo, Network, OnLine, StepResult
from pipeline.effects.files import WorkDirectory
from pipeline.effects.http import HttpClient, OnBytes, Received
from pipeline.effects.process import Completed, ProcessRunner, Tool
from pipeline.effects.public import Receive
from pipeline.effects.retry import RetryPolicy
from pipeline.effects.store import LocalStore, Store
from pipeline.errors import CommandError, DownloadError, MissingToolError, SignatureError
from pipeline.model import naming
from pipeline.model.artifacts import CONTENT_TYPES, ArtifactKind
from pipeline.model.configs import Channel, Pin
from pipeline.model.ledger import SignedLedger
from pipeline.plan import Job, Plan, Selection, channel_config
from pipeline.publish.sites import OpenChannel, Site
from pipeline.run import plan_for
from pipeline.sign.notary import Notary, channel_notary
from tests.factories import workers_on

DATA: Final = Path(__file__).parent / "data"
ELF: Final = DATA / "toy-linux-x86_64"
NOW: Final = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
EPOCH: Final = 1_767_225_600  # 2026-01-01, the date of the toy's source
MACHINE: Final = "x86_64"
BASE_URL: Final = "https://downloads.test"
KEY: Final = "0123456789ABCDEF0123456789ABCDEF01234567"
OTHER_KEY: Final = "FEDCBA9876543210FEDCBA9876543210FEDCBA98"
PACKAGES: Final = "gcc 12.2 amd64\npypy 7.3.3 amd64\n"
RESOURCES: Final = (
    '{"group_nanoseconds": null, "peak": 524288, "system": 3.5, "wall": 90.5, "user": 120.25}'
)
CCACHE_STATISTICS: Final = "direct_cache_hit\t3\npreprocessed_cache_hit\t1\ncache_miss\t10\n"
JIT_LOG: Final = "[1] {jit-log-opt-loop\n# Loop 1 (run) : loop with 9 ops\n[2] jit-log-opt-loop}\n"
GC_LOG: Final = "[1] {gc-minor\n[2] gc-minor}\n[3] {gc-collect-step\n[4] gc-collect-step}\n"
VERSION_TEXT: Final = "toy 1.2.3\n"
INFO_TEXT: Final = "version=1.2.3\ngc=incminimark\njit=True\n"


# --- a project ------------------------------------------------------------------------------

PLATFORM: Final = """
[platforms.{name}]
identifier = "{name}"
os = "linux"
machine = "{machine}"
runs_on = ["{machine}"]
libc = "glibc"
word_size = 64
byte_order = "little"
binaries = {{ format = "elf", machine = "{elf}", loader = "{loader}", glibc_floor = "2.31" }}
modes = ["native"]
release_suffix = "{suffix}"
nightly_suffix = "{suffix}"
debian_arch = "{debian}"
multiarch = "{machine}-linux-gnu"
openssl = "linux-{machine}"
oci = {{ os = "linux", architecture = "{debian}" }}
emulator = "qemu-{machine}"
versions_json = {{ arch = "x64", platform = "linux" }}
uv = {{ family = "{machine}", os = "linux", libc = "gnu" }}
"""

ENVIRONMENTS: Final = """
[bases.old]
kind = "bootstrap"
suite = "bullseye"
architectures = ["amd64", "arm64"]
mirrors = ["http://first.test/debian", "http://second.test/debian"]

[bases.new]
kind = "registry"
architectures = ["amd64", "arm64"]
reference = "registry.test/debian@sha256:{digest}"

[environments.translate]
bases = ["old"]
dockerfile = "translate.Dockerfile"

[environments.clean-old]
bases = ["old"]

[environments.clean-new]
bases = ["new"]

[environments.package-old]
bases = ["old"]
"""

DISTRIBUTIONS: Final = """
[vendor]
name = "Toy Packagers"
maintainer = "Toy Packagers <packages@toy.test>"
prefix = "usr/lib/toys"

[suites.old]
number = "11"
environment = "package-old"
clean = "clean-old"
"""

PINS: Final = """
[pins.rpython]
version = "0.2.1"
filename = "rpython-0.2.1.tar.gz"
url = "https://files.test/rpython-0.2.1.tar.gz"
sha256 = "{sdist}"
size = 100

[pins.py]
version = "1.11.0"
filename = "py-1.11.0-py2.py3-none-any.whl"
url = "https://files.test/py-1.11.0-py2.py3-none-any.whl"
sha256 = "{wheel}"
size = 100
"""

CHANNEL: Final = """
[{channel}]
interpreters = ["toy", "gem"]
platforms = ["linux-x86_64"]
store = "store"
base_url = "{base_url}"
signing = {{ key = "{key}", minimum_days = 30 }}
"""

INTERPRETER: Final = """
interpreter = "{name}"
product = "{name}"
implementation = "{name}"
summary = "A toy"
license = "MIT"
homepage = "https://toy.test"
interpreter_version = "1.2.3"
language_version = "1.2"
nightly_prefix = "{name}-nightly"
platforms = ["linux-x86_64", "linux-x86_64_v3", "linux-aarch64"]

[source]
kind = "directory"
path = "{name}"
date = 2026-01-01
toolchain = ["rpython", "py"]

[translation]
environment = "translate"
rpython_target = "target.py"
gc = "incminimark"
jit = true
jit_machines = ["x86_64"]
without_jit = ["aarch64"]
extra_options = ["--lldebug"]
target_options = ["--fast"]
output = "toy"
products = ["toy"]
timeout = 100
silence = 50

[translation.bootstrap]
kind = "image"
argv = ["pypy", "-S"]
environment = {{ PYPY_GC_NURSERY = "64MB" }}

[package]
kind = "plain"
executable = "toy"
links = ["toy1"]
license_file = "{name}/LICENSE"
documents = {{ "README.md" = "{name}/README.md" }}

[verify]
environments = ["clean-old", "clean-new"]
test_files = "{name}/programs"
needed = ["libc.so.6"]

[[verify.smoke]]
name = "version"
argv = ["{{root}}/bin/toy", "--version"]
stdout = "toy 1.2.3\\n"

[[verify.smoke]]
name = "program"
argv = ["{{root}}/bin/toy", "{{tests}}/sum.toy", "{{scratch}}"]
stdout_file = "sum.expected"

[[verify.smoke]]
name = "error"
argv = ["{{root}}/bin/toy", "--bad"]
status = 2
stderr_contains = ["no such option"]

[verify.proofs]
info = ["{{root}}/bin/toy", "--info"]
jit = ["{{root}}/bin/toy", "{{tests}}/hot.toy"]
gc = ["{{root}}/bin/toy", "{{tests}}/allocate.toy"]
"""

SOURCE_FILES: Final = {
    "target.py": "def target(*args):\n    return main, None\n",
    "toylang/__init__.py": "",
    "toylang/cli.py": "NAME = 'toy'\n",
    "LICENSE": "MIT License\n",
    "README.md": "# Toy\n",
    "programs/sum.toy": "1 + 2\n",
    "programs/sum.expected": "3\n",
    "programs/hot.toy": "loop\n",
    "programs/allocate.toy": "fill\n",
}


def digest(text: str) -> str:
    """Return a sha256 that stands for something."""
    return hashlib.sha256(text.encode()).hexdigest()


def write_project(root: Path, *, key: str = KEY) -> Path:
    """Write a whole project with the interpreters ``toy`` and ``gem`` to *root*; return it."""
    configs = root / "translation_configs"
    rows = (
        ("linux-x86_64", "x86_64", "X86_64", "ld-linux-x86-64.so.2", "linux64", "amd64"),
        ("linux-x86_64_v3", "x86_64", "X86_64", "ld-linux-x86-64.so.2", "linux64v3", "amd64"),
        ("linux-aarch64", "aarch64", "AARCH64", "ld-linux-aarch64.so.1", "aarch64", "arm64"),
    )
    names = ("name", "machine", "elf", "loader", "suffix", "debian")
    texts = {
        "platforms.toml": "".join(
            PLATFORM.format(**dict(zip(names, row, strict=True))) for row in rows
        ),
        "environments.toml": ENVIRONMENTS.format(digest=digest("debian")),
        "distributions.toml": DISTRIBUTIONS,
        "pins.toml": PINS.format(sdist=digest("sdist"), wheel=digest("wheel")),
        "channels.toml": "".join(
            CHANNEL.format(channel=channel, base_url=BASE_URL, key=key)
            for channel in ("release", "nightly")
        ),
        **{f"{name}.toml": INTERPRETER.format(name=name) for name in ("toy", "gem")},
        **{
            f"{name}/{path}": text for name in ("toy", "gem") for path, text in SOURCE_FILES.items()
        },
    }
    for path, text in texts.items():
        write_text(configs / path, text)
    write_text(root / "dockerfiles" / "translate.Dockerfile", "ARG BASE\nFROM $BASE\n")
    write_text(root / "dockerfiles" / "bootstrap" / "sitecustomize.py", "import sys\n")
    write_text(root / "dockerfiles" / "steps" / "run_translation.py", "import json\n")
    write_text(root / "dockerfiles" / "steps" / "compile.sh", "#!/bin/sh\n")
    write_text(root / "dockerfiles" / "steps" / "run_packager.py", "import json\n")
    write_text(root / "dockerfiles" / "seccomp.json", '{"defaultAction": "SCMP_ACT_ALLOW"}\n')
    write_text(root / "packaging" / "tarball" / "assemble.sh", "#!/bin/sh\n")
    return root


def write_text(path: Path, text: str) -> None:
    """Write *text* to *path* with the directories it needs."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def replace_text(path: Path, old: str, new: str) -> None:
    """Replace *old*, which must be there, by *new* in a file."""
    text = path.read_text(encoding="utf-8")
    if old not in text:
        pytest.fail(f"{path}: no {old!r} to replace")
    path.write_text(text.replace(old, new), encoding="utf-8")


# --- time and progress ----------------------------------------------------------------------


def fixed_clock(moment: datetime = NOW) -> Now:
    """Return a clock that stands still."""
    return lambda: moment


def recorded_console() -> tuple[Console, io.StringIO]:
    """Return a console, and where its text goes."""
    text = io.StringIO()
    rich = RichConsole(file=text, width=300, highlight=False, soft_wrap=True)
    return Console(rich_console=rich, clock=lambda: 0.0), text


# --- processes ------------------------------------------------------------------------------

Effect = Callable[[tuple[str, ...]], bytes | None]


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What a command does: an *effect* may write files and give the standard output."""

    status: int = 0
    stdout: str | bytes = b""
    stderr: str = ""
    effect: Effect | None = None

    def completed(self, argv: tuple[str, ...]) -> Completed:
        """Return the finished command."""
        given = self.effect(argv) if self.effect is not None else None
        stdout = self.stdout.encode() if isinstance(self.stdout, str) else self.stdout
        return Completed(
            argv=argv,
            status=self.status,
            stdout=stdout if given is None else given,
            stderr=self.stderr.encode(),
        )


@dataclass(frozen=True, kw_only=True)
class ProcessCall:
    """One command that was run."""

    argv: tuple[str, ...]
    environment: Mapping[str, str]
    tool: Tool
    without: Collection[str] = ()


class FakeProcess(ProcessRunner):
    """Runs nothing: answers the commands that a test expects, and fails the test on any other.

    An expected command is a program and words that must all be among its arguments; the last one
    added that fits is taken. Programs in *missing* are not on PATH.
    """

    def __init__(self) -> None:
        self.calls: list[ProcessCall] = []
        self.detached: list[tuple[str, ...]] = []
        self.missing: set[str] = set()
        self._expected: list[tuple[tuple[str, ...], Answer]] = []

    def expect(self, *words: str, answer: Answer | None = None) -> None:
        """Expect a command with these words and answer it so."""
        self._expected.insert(0, (words, answer or Answer()))

    def run(
        self,
        argv: Sequence[str | Path],
        *,
        tool: Tool,
        timeout: float = 600,  # noqa: ARG002 - nothing takes time
        environment: Mapping[str, str] | None = None,
        without: Collection[str] = (),
        check: bool = True,
    ) -> Completed:
        """Answer a command."""
        words = tuple(str(word) for word in argv)
        if words[0] in self.missing:
            raise MissingToolError(tool.program, purpose=tool.purpose, package=tool.package)
        call = ProcessCall(argv=words, environment=environment or {}, tool=tool, without=without)
        self.calls.append(call)
        done = self._answer(words).completed(words)
        if check and done.status != 0:
            msg = f"{' '.join(words)}: exit status {done.status}\n{done.last_lines}"
            raise CommandError(msg)
        return done

    def find(self, program: str) -> Path | None:
        """Say where a program is."""
        return None if program in self.missing else Path("/usr/bin", program)

    def start_detached(self, argv: Sequence[str], *, log: Path) -> int:  # noqa: ARG002
        """Note that a service was started."""
        self.detached.append(tuple(argv))
        return 4711

    def ran(self, *words: str) -> int:
        """Return how many commands with these words were run."""
        return sum(_fits(words, call.argv) for call in self.calls)

    def _answer(self, argv: tuple[str, ...]) -> Answer:
        for words, answer in self._expected:
            if _fits(words, argv):
                return answer
        return unexpected(f"process {' '.join(argv)}")


def _fits(words: tuple[str, ...], argv: tuple[str, ...]) -> bool:
    return words[0] == argv[0] and set(words[1:]) <= set(argv)


def unexpected(what: str) -> NoReturn:
    """Fail the test: it did not say that this happens."""
    pytest.fail(f"unexpected: {what}")


def secret_key(fingerprint: str = KEY, *, validity: str = "u", expires: str = "") -> str:
    """Return a secret key as a colon listing of GnuPG has it, with an encryption subkey."""
    short = fingerprint[-16:]
    subkey = fingerprint[::-1]
    return (
        f"sec:{validity}:255:22:{short}:1767225600:{expires}::u:::scESC:::+:::23::0:\n"
        f"fpr:::::::::{fingerprint}:\n"
        f"grp:::::::::{'A' * 40}:\n"
        f"uid:{validity}::::1767225600::{'B' * 40}::Toy Releases <toy@toy.test>::::::::::0:\n"
        f"ssb:{validity}:255:18:{subkey[-16:]}:1767225600:{expires}:::::e:::+:::23:\n"
        f"fpr:::::::::{subkey}:\n"
        f"grp:::::::::{'C' * 40}:\n"
    )


def valid_signature(fingerprint: str) -> str:
    """Return the status line of gpgv for a good signature."""
    return (
        f"[GNUPG:] GOODSIG {fingerprint[-16:]} Toy\n"
        f"[GNUPG:] VALIDSIG {fingerprint} 2026-11-21 1795262400 0 4 0 22 10 00 {fingerprint}\n"
    )


def expect_gpg(process: FakeProcess, *, listing: str | None = None, key: str = KEY) -> None:
    """Expect GnuPG to sign with *key*: a signature holds the digest of what it signs."""

    def sign(argv: tuple[str, ...]) -> None:
        signed, signature = Path(argv[-1]), Path(argv[argv.index("--output") + 1])
        signature.write_text(f"{argv[argv.index('--local-user') + 1]} {_digest(signed)}\n")

    def check(argv: tuple[str, ...]) -> bytes:
        signer, signed = Path(argv[-2]).read_text(encoding="ascii").split()
        good = signed == _digest(Path(argv[-1]))
        return (valid_signature(signer) if good else "[GNUPG:] BADSIG\n").encode()

    def dearmor(argv: tuple[str, ...]) -> None:
        Path(argv[argv.index("--output") + 1]).write_bytes(b"binary key")

    process.expect(
        "gpg",
        "--list-secret-keys",
        answer=Answer(stdout=secret_key(key) if listing is None else listing),
    )
    process.expect("gpg", "--export", answer=Answer(stdout=b"binary key"))
    process.expect("gpg", "--armor", "--export", answer=Answer(stdout=b"armoured key\n"))
    process.expect("gpg", "--detach-sign", answer=Answer(effect=sign))
    process.expect("gpg", "--dearmor", answer=Answer(effect=dearmor))
    process.expect("gpgv", answer=Answer(effect=check))


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def expect_mmdebstrap(process: FakeProcess) -> None:
    """Expect a base to be bootstrapped."""

    def write(argv: tuple[str, ...]) -> None:
        path = next(word for word in argv if word.endswith(".tar"))
        Path(path).write_bytes(b"root file system")

    process.expect("mmdebstrap", answer=Answer(effect=write))


# --- the network ----------------------------------------------------------------------------


class FakeHttp(HttpClient):
    """Gives crafted files for the toy project's pins."""

    def __init__(self) -> None:
        super().__init__(RetryPolicy(sleep=lambda _seconds: unexpected("sleep")))
        self.downloads: list[str] = []
        self.dates: dict[str, float] = {}
        self.files: dict[str, bytes] = {
            "rpython-0.2.1.tar.gz": sdist(
                {
                    "rpython-0.2.1/rpython/__init__.py": b"",
                    "rpython-0.2.1/rpython/translator/__init__.py": b"# translator\n",
                    "rpython-0.2.1/rpython/translator/c/src/signals.h": b"#pragma once\n",
                    "rpython-0.2.1/setup.py": b"# not part of the toolchain\n",
                    "rpython-0.2.1/docs/index.rst": b"not a package\n",
                }
            ),
            "py-1.11.0-py2.py3-none-any.whl": wheel(
                {"py/__init__.py": b"# py\n", "py-1.11.0.dist-info/METADATA": b"Name: py\n"}
            ),
        }

    def download(self, pin: Pin, directory: Path, on_bytes: OnBytes = lambda _count: None) -> Path:
        """Write a crafted file where the real client would."""
        self.downloads.append(pin.url)
        path = directory / pin.sha256 / pin.filename
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(self.files[pin.filename])
        on_bytes(pin.size)
        return path

    def server_date(self, url: str) -> float | None:
        """Return the date that a test set for *url*."""
        return self.dates.get(url)


class FakePublic:
    """The public's view of a store: what is in it, unless a test says otherwise.

    ``gets`` is by key: other bytes than the store's, or None where there is nothing.
    """

    def __init__(self) -> None:
        self.gets: dict[str, bytes | None] = {}
        self.encoding: str | None = None
        self.content_type: str | None = None
        self.asked: list[tuple[str, str]] = []

    @contextmanager
    def reader(self, store: Store, base_url: str) -> Iterator[Receive]:
        """Give what reads the store."""

        def receive(key: str, save: Path, limit: int) -> Received:
            self.asked.append((base_url, key))
            present = store.read(key)
            data = self.gets.get(key, None if present is None else present.data)
            if data is None or len(data) > limit:
                msg = f"{base_url}/{key}: HTTP 404"
                raise DownloadError(msg)
            save.write_bytes(data)
            kinds = {naming.CHECKSUMS_NAME: ArtifactKind.CHECKSUMS}
            guessed = _served_type(key.rsplit("/", 1)[-1], kinds)
            return Received(
                size=len(data),
                sha256=hashlib.sha256(data).hexdigest(),
                content_type=self.content_type or guessed,
                content_encoding=self.encoding,
            )

        yield receive

    @contextmanager
    def address(self, store: Store, base_url: str) -> Iterator[str]:  # noqa: ARG002
        """Give the address below which programs find the store's files."""
        yield base_url


def _served_type(filename: str, kinds: Mapping[str, ArtifactKind]) -> str:
    endings = {
        ".tar.gz": ArtifactKind.ARCHIVE_GZ,
        ".tar.zst": ArtifactKind.ARCHIVE_ZST,
        ".zip": ArtifactKind.ARCHIVE_ZIP,
        naming.SIGNATURE_NAME: ArtifactKind.SIGNATURE,
        naming.PUBLIC_KEY_NAME: ArtifactKind.PUBLIC_KEY,
        naming.PROVENANCE_SUFFIX: ArtifactKind.PROVENANCE,
        ".json": ArtifactKind.MANIFEST,
    }
    kind = kinds.get(filename) or next(
        found for ending, found in endings.items() if filename.endswith(ending)
    )
    return CONTENT_TYPES[kind]


class FakeNotary:
    """Vouches for ledgers without a key: a signature is the digest of what it signs."""

    def __init__(self) -> None:
        self.checked = 0

    def signed(self, payload: bytes) -> SignedLedger:
        """Sign."""
        digest_of_it = hashlib.sha256(payload).hexdigest()
        return SignedLedger(fingerprint=KEY, signature=digest_of_it, payload=payload.decode())

    def clearsigned(self, text: bytes) -> bytes:
        """Sign."""
        return text + f"signed {hashlib.sha256(text).hexdigest()}\n".encode()

    def signed_text(self, data: bytes) -> bytes:
        """Check."""
        text, mark, _ = data.rpartition(b"signed ")
        if not mark or self.clearsigned(text) != data:
            msg = "not a text with a good signature"
            raise SignatureError(msg)
        return text

    def public_keys(self) -> bytes | None:
        """Return what looks like a key."""
        return b"-----BEGIN KEY-----\n\nkey\n-----END KEY-----\n"

    def check(self, ledger: SignedLedger) -> None:
        """Check."""
        self.checked += 1
        if ledger.signature != hashlib.sha256(ledger.payload.encode()).hexdigest():
            msg = "ledger.json: not a good signature"
            raise SignatureError(msg)


def sdist(files: Mapping[str, bytes]) -> bytes:
    """Return a gzip tar file with *files*."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as archive:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return stream.getvalue()


def wheel(files: Mapping[str, bytes]) -> bytes:
    """Return a zip file with *files*."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return stream.getvalue()


# --- containers -----------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Image:
    """An image that a fake engine holds."""

    image_id: str
    machine: str = "amd64"
    packages: str = PACKAGES


@dataclass(frozen=True, kw_only=True)
class Ran:
    """What a step does: the lines it writes, how it ends, and the files of its output directory."""

    status: int = 0
    error: Exception | None = None
    lines: tuple[str, ...] = ()
    files: Mapping[str, bytes | Path] = field(default_factory=dict)
    links: Mapping[str, str] = field(default_factory=dict)


Script = Callable[[ContainerStep], Ran]


@dataclass(frozen=True, kw_only=True)
class SessionCall:
    """One command that was run in a session."""

    argv: tuple[str, ...]
    environment: Mapping[str, str]
    directory: str
    timeout: int


USUAL: Final = {
    "--version": Answer(stdout=VERSION_TEXT),
    "--info": Answer(stdout=INFO_TEXT),
    "--bad": Answer(status=2, stderr="toy: no such option: --bad\n"),
    "sum.toy": Answer(stdout="3\n"),
    "hot.toy": Answer(),
    "allocate.toy": Answer(),
}
"""What a good toy does, by its first argument."""


class FakeSession:
    """A container in which the toy works.

    ``answers`` replaces what a command does, found by the words its arguments end with.
    """

    def __init__(
        self, image: Image, answers: Mapping[tuple[str, ...], Answer] | None = None
    ) -> None:
        self.calls: list[SessionCall] = []
        self.copied: list[tuple[str, tuple[tarfile.TarInfo, ...]]] = []
        self.jit_log, self.gc_log = JIT_LOG, GC_LOG
        self._image = image
        self._answers = dict(answers or {})
        self._log: str | None = None

    def copy_into(self, archive: Path, directory: str) -> None:
        """Note what was copied."""
        with tarfile.open(archive) as opened:
            self.copied.append((directory, tuple(opened.getmembers())))

    def call(
        self,
        argv: tuple[str, ...],
        *,
        timeout: int = 60,
        environment: Mapping[str, str] | None = None,
        directory: str = "/",
    ) -> Completed:
        """Answer a command as a good toy in a clean Debian would."""
        call = SessionCall(
            argv=argv, environment=environment or {}, directory=directory, timeout=timeout
        )
        self.calls.append(call)
        if "PYPYLOG" in call.environment:
            hot = argv[-1].endswith(("hot.toy", "hot_loop.py"))
            self._log = self.jit_log if hot else self.gc_log
        for words, answer in self._answers.items():
            if argv[-len(words) :] == words:
                return answer.completed(argv)
        return self._usual(argv).completed(argv)

    def _usual(self, argv: tuple[str, ...]) -> Answer:
        if argv[0] == "rm":
            self._log = None
            return Answer()
        if argv[0] == "cat":
            missing = Answer(status=1, stderr="cat: no such file")
            return missing if self._log is None else Answer(stdout=self._log)
        if argv[0] == "dpkg-query":
            return Answer(stdout=self._image.packages)
        if argv[0] == "tar":
            return Answer()
        words = [Path(word).name for word in argv[1:]]
        return USUAL.get(words[0]) or unexpected(f"in a session: {' '.join(argv)}")


class FakeEngine:
    """An engine whose images, steps and sessions a test decides; it records what it is asked.

    ``scripts`` is by the first part of a step's name (``translate``, ``package``).
    """

    def __init__(self) -> None:
        self.told = EngineInfo(version="28.0", machine=MACHINE, cpus=3, memory=8 << 30, storage="")
        self.silent: Exception | None = None
        self.images: dict[str, Image] = {}
        self.scripts: dict[str, Script] = {"translate": translated, "package": assembled}
        self.answers: dict[tuple[str, ...], Answer] = {}
        self.contained = True
        self.networks: list[Network] = []
        self.packages, self.machine = PACKAGES, "amd64"
        self.saved = b""
        self.asked: list[str] = []
        self.pulled: list[tuple[str, str]] = []
        self.built: list[tuple[str, Mapping[str, str], tuple[tarfile.TarInfo, ...]]] = []
        self.steps: list[ContainerStep] = []
        self.sessions: list[tuple[str, FakeSession]] = []

    def info(self) -> EngineInfo:
        """Give the engine's properties."""
        self._ask("info")
        return self.told

    def describe(self) -> tuple[str, ...]:
        """Return what this engine is without containers."""
        return ("system Toy 1", "cc toycc 1.0")

    def has_image(self, image: str) -> bool:
        """Whether there is such an image."""
        self._ask("has_image")
        return self.image_id(image) is not None

    def image_machine(self, image: str) -> str:
        """Return an image's architecture."""
        self._ask("image_machine")
        return self._image(image).machine

    def image_id(self, reference: str) -> str | None:
        """Return an image's id by reference or id."""
        self._ask("image_id")
        if reference in self.images:
            return self.images[reference].image_id
        ids = {image.image_id for image in self.images.values()}
        return reference if reference in ids else None

    def pull(self, reference: str, *, oci_platform: str, on_line: OnLine) -> str:
        """Add an image from a registry."""
        self._ask("pull")
        on_line(f"pull {reference}")
        self.pulled.append((reference, oci_platform))
        return self.add_image(reference)

    def build(
        self,
        context: Path,
        *,
        tag: str,
        arguments: Mapping[str, str],
        oci_platform: str,
        on_line: OnLine,
        fresh: bool = False,
    ) -> str:
        """Add an image with *tag*."""
        self._ask("build afresh" if fresh else "build")
        on_line(f"build for {oci_platform}")
        with tarfile.open(context) as archive:
            self.built.append((tag, arguments, tuple(archive.getmembers())))
        return self.add_image(tag)

    def save(self, image_id: str, path: Path) -> None:
        """Write what the test says that an image is."""
        self._ask("save")
        self._image(image_id)
        path.write_bytes(self.saved)

    def load(self, path: Path) -> str:
        """Hold another image, known by its tar file's name."""
        self._ask("load")
        return self.add_image(path.name)

    def remove_image(self, image: str) -> None:
        """Give up an image by its id, or a reference to one."""
        self._ask("remove_image")
        self.images = {
            name: held for name, held in self.images.items() if image not in {name, held.image_id}
        }

    def add_image(self, reference: str) -> str:
        """Hold another image; like a real one's, its id is new each time it is made."""
        made = len(self.built) + len(self.pulled)
        image = Image(
            image_id=f"sha256:{digest(f'{reference} {made}')}",
            machine=self.machine,
            packages=self.packages,
        )
        self.images[reference] = image
        return image.image_id

    def run(self, step: ContainerStep, *, output: Path, on_line: OnLine) -> StepResult:
        """Run a step as its script says."""
        self._ask("run")
        self._image(step.image_id)
        self.steps.append(step)
        ran = self.scripts[step.name.split("-")[0]](step)
        for line in ran.lines:
            on_line(line)
        if ran.error is not None:
            raise ran.error
        if ran.status == 0:
            _write_output(output, Path(step.output).name, ran)
        return StepResult(status=ran.status, adopted=False)

    @contextmanager
    def session(
        self,
        image_id: str,
        *,
        user: str | None = "1000:1000",  # noqa: ARG002
        network: Network = "none",
    ) -> Iterator[FakeSession]:
        """Start a session."""
        self._ask("session")
        self.networks.append(network)
        session = FakeSession(self._image(image_id), self.answers)
        self.sessions.append((image_id, session))
        yield session

    def _ask(self, what: str) -> None:
        if self.silent is not None:
            raise self.silent
        self.asked.append(what)

    def _image(self, image_id: str) -> Image:
        for reference, image in self.images.items():
            if image_id in {reference, image.image_id}:
                return image
        return unexpected(f"image {image_id}")


def translated(step: ContainerStep) -> Ran:
    """Do as a good translation: the products and what was measured come out."""
    products = step.command[5 : step.command.index("--")]
    lines = ("[1] {translation-task", "starting annotate", "[Timer] annotate   --- 20.2 s")
    files: dict[str, bytes | Path] = {
        **{f"products/{product}": ELF for product in products},
        "resources.json": RESOURCES.encode(),
        "ccache-statistics": CCACHE_STATISTICS.encode(),
        "ccache/0/object": b"compiled",
    }
    return Ran(lines=lines, files=files)


def assembled(step: ContainerStep) -> Ran:
    """Do as ``assemble.sh``: documents, the executable and its links under one directory."""
    stem, program, executable, *links = step.command[2:]
    given = given_files(step)
    documents = "build/in/documents/"
    files: dict[str, bytes | Path] = {
        f"{stem}/{name.removeprefix(documents)}": content
        for name, content in given.items()
        if name.startswith(documents)
    }
    files[f"{stem}/bin/{executable}"] = given[program.removeprefix("/")]
    return Ran(files=files, links={f"{stem}/bin/{link}": executable for link in links})


def given_files(step: ContainerStep) -> dict[str, bytes]:
    """Return the files that a step is given, by path in the container."""
    found = {}
    for given in step.inputs:
        with tarfile.open(given) as archive:
            for member in archive:
                content = archive.extractfile(member)
                if content is not None:
                    found[member.name] = content.read()
    return found


def _write_output(output: Path, top: str, ran: Ran) -> None:
    with tarfile.open(output, "w") as archive:
        for name, content in ran.files.items():
            data = content.read_bytes() if isinstance(content, Path) else content
            member = tarfile.TarInfo(f"{top}/{name}")
            member.size = len(data)
            member.mode = 0o755 if "/bin/" in name or name.startswith("products/") else 0o644
            archive.addfile(member, io.BytesIO(data))
        for name, target in ran.links.items():
            member = tarfile.TarInfo(f"{top}/{name}")
            member.type, member.linkname = tarfile.SYMTYPE, target
            archive.addfile(member)


# --- contexts -------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class World:
    """A context whose ports are all fakes, with the fakes under their own types."""

    ctx: Context
    engine: FakeEngine
    process: FakeProcess
    http: FakeHttp
    public: FakePublic
    text: io.StringIO

    def again(self, **changes: Any) -> "World":
        """Return the same world as the next run of the program would find it."""
        config = load_config(self.ctx.root / "translation_configs")
        return replace(self, ctx=replace(self.ctx, **{"config": config, **changes}))


def make_world(root: Path, *, key: str = KEY) -> World:
    """Write the toy project to *root* and return a world in which all of it works."""
    write_project(root, key=key)
    engine, process, http, public = FakeEngine(), FakeProcess(), FakeHttp(), FakePublic()
    expect_gpg(process)
    expect_mmdebstrap(process)
    console, text = recorded_console()
    ctx = replace(
        make_context(root, engine=engine, process=process, http=http, console=console),
        public=public,
    )
    return World(ctx=ctx, engine=engine, process=process, http=http, public=public, text=text)


def make_context(
    root: Path,
    *,
    engine: FakeEngine | None = None,
    process: FakeProcess | None = None,
    http: FakeHttp | None = None,
    console: Console | None = None,
    dry_run: bool = False,
) -> Context:
    """Return a context for the project in *root*."""
    return Context(
        root=root,
        config=load_config(root / "translation_configs"),
        work=WorkDirectory(root / "out"),
        engine=engine or FakeEngine(),
        process=process or FakeProcess(),
        http=http or FakeHttp(),
        public=FakePublic(),
        console=console or recorded_console()[0],
        now=fixed_clock(),
        releaser="tester",
        dry_run=dry_run,
    )


def make_plan(
    ctx: Context,
    *interpreters: str,
    platforms: tuple[str, ...] = ("linux-x86_64",),
    channel: Channel = "release",
    machine: str = MACHINE,
) -> Plan:
    """Return a plan, by default for ``toy`` on ``linux-x86_64``."""
    selection = Selection(
        channel=channel, interpreters=interpreters or ("toy",), platforms=platforms
    )
    return plan_for(ctx, selection, workers_on(machine))


def make_job(ctx: Context, platform: str = "linux-x86_64", machine: str = MACHINE) -> Job:
    """Return the toy's job for *platform*."""
    return make_plan(ctx, platforms=(platform,), machine=machine).jobs[0]


@contextmanager
def stage_output(ctx: Context, key: str = "k" * 64) -> Iterator[StageOutput]:
    """Give an empty directory for a stage to write into."""
    directory = ctx.work.path("stage", key)
    directory.mkdir(parents=True, exist_ok=True)
    with ctx.console.step("stage") as step:
        yield StageOutput(key=key, directory=directory, step=step)


def open_channel(
    ctx: Context,
    channel: Channel = "release",
    notary: Notary | None = None,
    store: Store | None = None,
) -> OpenChannel:
    """Return a channel of the project, by default with its store in the work directory."""
    config = channel_config(ctx.config, channel)
    site = Site(store=store or LocalStore(ctx.work.root / config.store), base_url=config.base_url)
    signed_by = notary or channel_notary(ctx, config.signing)
    return OpenChannel(config=config, sites=(site,), notary=signed_by)
