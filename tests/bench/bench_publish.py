"""What it costs to publish one nightly into a new store and into one after three years.

The full store's ledger has a nightly a day of three interpreters for three years, and their
objects; the same release is published into both, in turns, so that rows of one run compare.

Usage: ``nox -s bench -- publish [--store s3://BUCKET] [--endpoint URL] [--rounds N]
[--objects N] [--file-size BYTES] [--files N] [--uploader rclone]``. Credentials of S3 come from
the environment. With ``--uploader`` the same files are also sent by that program.
"""

import argparse
import hashlib
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from pipeline.config import load_config
from pipeline.effects.clock import utc_now
from pipeline.effects.console import Console
from pipeline.effects.context import Context
from pipeline.effects.docker_engine import DockerEngine
from pipeline.effects.files import WorkDirectory, describe
from pipeline.effects.http import HttpClient
from pipeline.effects.process import ProcessRunner
from pipeline.effects.public import HttpView
from pipeline.effects.server import make_server
from pipeline.effects.store import Store
from pipeline.effects.stores import open_store
from pipeline.model import naming
from pipeline.model.artifacts import Artifact, ArtifactKind
from pipeline.model.base import canonical_json, pretty_json
from pipeline.model.configs import S3Options, SigningConfig, StoreConfig
from pipeline.model.ledger import (
    SEGMENT,
    Checkpoint,
    Ledger,
    Published,
    SealedEvents,
    Segment,
    State,
    compacted,
    replay,
)
from pipeline.model.records import Manifest, Revision, SignedRelease
from pipeline.model.versions import InterpreterVersion
from pipeline.plan import channel_config
from pipeline.publish import ledger
from pipeline.publish.events import Stamp, publication
from pipeline.publish.files import Upload, publish_files, read_back
from pipeline.publish.ledger import append
from pipeline.publish.project import project
from pipeline.publish.sites import OpenChannel, Site
from pipeline.sign.checksums import checksums_text
from pipeline.sign.gpg import usable_key
from pipeline.sign.notary import KeyringNotary, channel_notary
from pipeline.sign.provenance import statement_json
from pipeline.sign.release import release_files, signing_keyring
from tests.factories import make_provenance

ROOT = Path(__file__).parents[2]
SIGNING = SigningConfig(key="quickstart")
START = datetime(2023, 11, 25, 2, 0, tzinfo=UTC)
DAYS = 3 * 365
LINES = ("pypy2.7", "pypy3.11", "pypy3.12")
PLATFORM = "linux-x86_64"


class Counting:
    """A store that counts what it is asked, and hands it on."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.calls: dict[str, int] = {}
        self._lock = threading.Lock()

    def __getattr__(self, name: str) -> Any:
        attribute = getattr(self.store, name)
        if not callable(attribute):
            return attribute

        def counted(*arguments: Any, **options: Any) -> Any:
            with self._lock:
                self.calls[name] = self.calls.get(name, 0) + 1
            return attribute(*arguments, **options)

        return counted


@dataclass(kw_only=True)
class Bench:
    """What the rounds share."""

    ctx: Context
    notary: KeyringNotary
    directory: Path
    manifests: dict[str, Manifest] = field(default_factory=dict)
    rows: list[tuple[str, int, dict[str, float]]] = field(default_factory=list)


def make_context(work: Path) -> Context:
    http = HttpClient()
    return Context(
        root=ROOT,
        config=load_config(ROOT / "translation_configs"),
        work=WorkDirectory(work),
        engine=DockerEngine("bench"),
        process=ProcessRunner(),
        http=http,
        public=HttpView(http),
        console=Console(),
        now=utc_now,
        releaser="bench",
    )


def digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def nightly_event(sequence: int, line: str, number: int, files: int) -> Published:
    """Return the event of one nightly, with as many files as one has."""
    release = f"{line}-nightly-{START + timedelta(days=number):%Y-%m-%d}-1{number}-{number:012x}"
    stem = f"pypy-c-jit-1{number}-{number:012x}"
    names = [f"{stem}-{index}-linux64.tar.zst" for index in range(files - 1)]
    artifacts = [
        Artifact(
            filename=name,
            kind=ArtifactKind.ARCHIVE_ZST,
            platform=PLATFORM,
            size=30_000_000,
            sha256=digest(name),
        )
        for name in names
    ]
    archive = f"{stem}-linux64.tar.gz"
    artifacts.append(
        Artifact(
            filename=archive,
            kind=ArtifactKind.ARCHIVE_GZ,
            platform=PLATFORM,
            size=30_000_000,
            sha256=digest(archive),
        )
    )
    return Published.model_validate(
        {
            "sequence": sequence,
            "at": START + timedelta(days=number),
            "by": "bench",
            "reason": "nightly",
            "product": "pypy",
            "release": release,
            "input_key": digest(release),
            "manifest_sha256": digest(f"{release} manifest"),
            "channel": "nightly",
            "interpreter": line,
            "implementation": "pypy",
            "interpreter_version": "7.3.24",
            "language_version": f"{line.removeprefix('pypy')}.1",
            "stable": False,
            "source": Revision(
                kind="git", revision=digest(release)[:40], number=number, epoch=1_700_000_000
            ),
            "fingerprint": "0" * 40,
            "platforms": ({"platform": PLATFORM, "jit": True, "glibc_floor": "2.28"},),
            "files": tuple(artifacts),
        }
    )


def fill(bench: Bench, store: Store, objects: int) -> tuple[int, int]:
    """Give *store* three years of ledger, and its objects; return how many of each."""
    files = max(2, objects // (DAYS * len(LINES)))
    events = [
        nightly_event(number * len(LINES) + index + 1, line, number, files)
        for number in range(DAYS)
        for index, line in enumerate(LINES)
    ]
    whole = len(events) // SEGMENT * SEGMENT
    state, segments, point = State(), [], None
    for first in range(0, whole, SEGMENT):
        chunk = tuple(events[first : first + SEGMENT])
        state = compacted(replay(state, chunk))
        sealed, after = canonical_json(SealedEvents(events=chunk)), canonical_json(state)
        marks = [hashlib.sha256(data).hexdigest() for data in (sealed, after)]
        keys = (
            naming.segment_key(first + 1, first + SEGMENT, marks[0]),
            naming.checkpoint_key(first + SEGMENT, marks[1]),
        )
        put_bytes(store, keys[0], sealed)
        put_bytes(store, keys[1], after)
        segments.append(
            Segment(first=first + 1, last=first + SEGMENT, key=keys[0], sha256=marks[0])
        )
        point = Checkpoint(key=keys[1], sha256=marks[1])
    whole_ledger = Ledger(segments=tuple(segments), checkpoint=point, events=tuple(events[whole:]))
    signed = pretty_json(bench.notary.signed(canonical_json(whole_ledger)))
    store.replace(naming.LEDGER_KEY, signed, tag=None, content_type="application/json")
    keys_of_files = [
        naming.store_key("pypy", event.release, item.filename)
        for event in events
        for item in event.files
    ]
    put_objects(store, keys_of_files)
    return len(events), len(keys_of_files)


def begin(bench: Bench, store: Store) -> None:
    """Give *store* one nightly of each interpreter, so that it has as many indexes as the other."""
    events = tuple(nightly_event(index + 1, line, 0, 2) for index, line in enumerate(LINES))
    signed = pretty_json(bench.notary.signed(canonical_json(Ledger(events=events))))
    store.replace(naming.LEDGER_KEY, signed, tag=None, content_type="application/json")


def put_bytes(store: Store, key: str, data: bytes) -> None:
    with tempfile.NamedTemporaryFile() as file:
        file.write(data)
        file.flush()
        store.put_new(key, Path(file.name), content_type="application/json")


def put_objects(store: Store, keys: list[str]) -> None:
    """Put small objects: how many there are is what matters, not how large they are."""
    with tempfile.NamedTemporaryFile() as file, ThreadPoolExecutor(16) as pool:
        file.write(b"x")
        file.flush()
        path = Path(file.name)
        started = time.monotonic()
        for count, _ in enumerate(
            pool.map(lambda key: store.put_new(key, path, content_type="text/plain"), keys), 1
        ):
            if count % 20_000 == 0:
                say(f"  {count:,} objects, {time.monotonic() - started:.0f} s")


def make_release(bench: Bench, files: int, size: int) -> Upload:
    """Write and sign a nightly of random bytes, as many files as asked."""
    number = DAYS + len(bench.manifests) + 1
    event = nightly_event(1, LINES[1], number, 2)
    directory = bench.directory / f"release-{number}"
    directory.mkdir()
    names = [event.files[1].filename]
    names += [f"{names[0].removesuffix('.tar.gz')}-{index}.tar.zst" for index in range(1, files)]
    artifacts = []
    for name in names:
        (directory / name).write_bytes(os.urandom(size))
        kind = ArtifactKind.ARCHIVE_GZ if name.endswith("gz") else ArtifactKind.ARCHIVE_ZST
        artifacts.append(describe(directory / name, kind, PLATFORM))
    manifest = Manifest(
        release=event.release,
        product="pypy",
        channel="nightly",
        interpreter=event.interpreter,
        implementation="pypy",
        interpreter_version=InterpreterVersion.parse("7.3.24"),
        language_version=event.language_version,
        stable=False,
        source=event.source,
        input_key=event.input_key,
        platforms=(),
        files=tuple(artifacts),
    )
    return signed_upload(bench, manifest, directory)


def signed_upload(bench: Bench, manifest: Manifest, directory: Path) -> Upload:
    """Sign what is in *directory* as a release is signed."""
    path = directory / naming.manifest_name(manifest.release)
    path.write_bytes(pretty_json(manifest))
    manifest_file = describe(path, ArtifactKind.MANIFEST, None)
    stated = directory / naming.provenance_name(manifest.release)
    sums = directory / naming.CHECKSUMS_NAME
    with signing_keyring(bench.ctx, SIGNING) as keyring:
        key = usable_key(keyring, SIGNING, utc_now())
        stated.write_bytes(statement_json(make_provenance(manifest, key.fingerprint)))
        provenance = describe(stated, ArtifactKind.PROVENANCE, None)
        sums.write_bytes(checksums_text([*manifest.files, provenance, manifest_file]))
        keyring.sign(sums, directory / naming.SIGNATURE_NAME, key.fingerprint)
        (directory / naming.PUBLIC_KEY_NAME).write_bytes(keyring.public_key(key.fingerprint))
    signed = SignedRelease(
        release=manifest.release,
        product=manifest.product,
        provenance=provenance,
        manifest=manifest_file,
        checksums=describe(sums, ArtifactKind.CHECKSUMS, None),
        signature=describe(directory / naming.SIGNATURE_NAME, ArtifactKind.SIGNATURE, None),
        public_key=describe(directory / naming.PUBLIC_KEY_NAME, ArtifactKind.PUBLIC_KEY, None),
        fingerprint=key.fingerprint,
        is_throw_away=True,
    )
    bench.manifests[manifest.release] = manifest
    files = release_files(manifest, signed)
    checked = frozenset(files)
    return Upload(signed=signed, files=files, directory=directory, parallel=4, checked=checked)


@contextmanager
def timed(times: dict[str, float], name: str) -> Iterator[None]:
    started = time.perf_counter()
    yield
    times[name] = time.perf_counter() - started


def publish(bench: Bench, name: str, config: StoreConfig, upload: Upload) -> None:
    """Publish a release as the pipeline does, with each part's time and the calls counted."""
    # Each nightly is published by a process of its own, which has parsed nothing yet.
    ledger._state.cache_clear()  # noqa: SLF001 - nobody else needs to
    store = Counting(open_store(config, bench.directory))
    site = Site(store=store, base_url=config.base_url)
    times: dict[str, float] = {}
    stamp = Stamp(at=utc_now(), by="bench", reason="nightly")
    manifest = bench.manifests[upload.signed.release]
    with bench.ctx.console.step(f"publish into {name}") as step:
        with timed(times, "upload"):
            files = publish_files(bench.ctx, [site], upload, step)
        with timed(times, "fetch back"):
            read_back(bench.ctx, [site], replace(upload, files=files), step)
        with timed(times, "ledger"):
            append(site.store, bench.notary, publication(manifest, upload.signed, files, stamp))
        with timed(times, "indexes"):
            opened = channel_config(bench.ctx.config, "nightly")
            channel = OpenChannel(config=opened, sites=(site,), notary=bench.notary)
            project(bench.ctx, channel)
    times["all"] = sum(times.values())
    bench.rows.append((name, sum(store.calls.values()) + len(upload.files), times))


def send_by(program: str, upload: Upload, config: StoreConfig, target: Path) -> float:
    """Send the same files by a common uploader; return the seconds."""
    place = f"{config.store.removeprefix('s3://')}-by-{program}/{upload.signed.release}"
    endpoint = config.s3.endpoint or ""
    commands = {
        "rclone": ["rclone", "copy", str(upload.directory), f":s3:{place}"],
        "aws": ["aws", "s3", "cp", "--recursive", str(upload.directory), f"s3://{place}"],
    }
    command = commands[program]
    if not config.is_s3:
        command = ["rclone", "copy", str(upload.directory), str(target / place.replace("/", "_"))]
    environment = {
        **os.environ,
        "AWS_ENDPOINT_URL": endpoint,
        "RCLONE_S3_ENDPOINT": endpoint,
        "RCLONE_S3_PROVIDER": "Ceph",
        "RCLONE_S3_ENV_AUTH": "true",
        "RCLONE_S3_FORCE_PATH_STYLE": "true",
        "RCLONE_S3_NO_CHECK_BUCKET": "true",
    }
    if program == "aws":
        command += ["--endpoint-url", endpoint]
    started = time.perf_counter()
    subprocess.run(command, env=environment, check=True, capture_output=True)
    return time.perf_counter() - started


def report(bench: Bench, others: list[float], program: str | None) -> None:
    """Print every row, and the ratios of the medians."""
    parts = ("upload", "fetch back", "ledger", "indexes", "all")
    say(f"{'store':10} {'calls':>6} " + " ".join(f"{part:>11}" for part in parts))
    for name, calls, times in bench.rows:
        cells = " ".join(f"{times[part]:>9.2f} s" for part in parts)
        say(f"{name:10} {calls:>6} {cells}")
    calls_of = {
        name: sorted({row[1] for row in bench.rows if row[0] == name}) for name in ("empty", "full")
    }
    say(f"calls: empty {calls_of['empty']}, full {calls_of['full']}")
    pairs = list(zip(bench.rows[::2], bench.rows[1::2], strict=True))
    for part in ("ledger", "indexes", "all"):
        ratios = [full[2][part] / empty[2][part] for empty, full in pairs]
        say(f"full against empty, {part}: {statistics.median(ratios):.2f} (median of the pairs)")
    if others:
        uploads = [full[2]["upload"] for _, full in pairs]
        ratios = [ours / theirs for ours, theirs in zip(uploads, others, strict=True)]
        told = ", ".join(f"{ratio:.2f}" for ratio in ratios)
        say(f"upload against {program}: {statistics.median(ratios):.2f} (pairs: {told})")


def say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def stores(arguments: argparse.Namespace, directory: Path) -> dict[str, StoreConfig]:
    """Return the configuration of an empty store and a full one."""
    if arguments.store is None:
        server = make_server(directory, "127.0.0.1", 0, quiet=True)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        base = f"http://127.0.0.1:{server.server_port}"
        return {
            name: StoreConfig(store=str(directory / name), base_url=f"{base}/{name}")
            for name in ("empty", "full")
        }
    bucket = arguments.store.removeprefix("s3://")
    options = S3Options(endpoint=arguments.endpoint, addressing="path")
    return {
        name: StoreConfig(
            store=f"s3://{bucket}/{name}",
            base_url=f"{arguments.endpoint}/{bucket}/{name}",
            s3=options,
        )
        for name in ("empty", "full")
    }


def main() -> None:
    """Fill a store, publish into it and into an empty one in turns, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--store", help="s3://BUCKET; default: a directory")
    parser.add_argument("--endpoint", help="of the S3 server; the bucket must be readable by all")
    parser.add_argument("--rounds", type=int, default=5, help="default: %(default)s")
    parser.add_argument("--objects", type=int, default=200_000, help="default: %(default)s")
    parser.add_argument("--files", type=int, default=18, help="archives of a release")
    parser.add_argument("--file-size", type=int, default=30_000_000, help="bytes of each")
    parser.add_argument("--uploader", choices=("rclone", "aws"), help="send the same files by it")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="bench-") as temporary:
        directory = Path(temporary)
        ctx = make_context(directory / "work")
        bench = Bench(ctx=ctx, notary=channel_notary(ctx, SIGNING), directory=directory)
        configs = stores(arguments, directory)
        begin(bench, open_store(configs["empty"], directory))
        events, objects = fill(bench, open_store(configs["full"], directory), arguments.objects)
        say(f"the full store has {events:,} events and {objects:,} objects")
        others = []
        for _ in range(arguments.rounds):
            for name, config in configs.items():
                upload = make_release(bench, arguments.files, arguments.file_size)
                publish(bench, name, config, upload)
                if arguments.uploader and name == "full":
                    others.append(send_by(arguments.uploader, upload, config, directory))
                shutil.rmtree(upload.directory)
        report(bench, others, arguments.uploader)


if __name__ == "__main__":
    main()
