"""Publishing: a name stands for the same bytes for ever, and what was put is what readers get."""

import hashlib
import threading
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import pytest

from pipeline.effects.console import Step
from pipeline.effects.context import Context
from pipeline.effects.files import sha256_of
from pipeline.effects.process import Completed, ProcessRunner, Tool
from pipeline.effects.store import LocalStore, OnBytes, Stored, Tagged, ignore_bytes
from pipeline.errors import FetchBackError, ImmutableNameError, SignatureError, StoreError
from pipeline.model.artifacts import CONTENT_TYPES, Artifact, ArtifactKind
from pipeline.publish.files import (
    WAVES,
    Upload,
    check_directory,
    hold_files,
    publish_files,
    read_back,
)
from pipeline.publish.sites import Site
from pipeline.sign.checksums import checksums_text
from pipeline.sign.provenance import statement_json
from tests.factories import (
    FINGERPRINT,
    make_artifact,
    make_manifest,
    make_provenance,
    make_signed,
)
from tests.fakes import FakePublic, make_context, recorded_console, write_project

GOOD: Final = b"a good signature"
ALSO_GOOD: Final = b"another good signature"
PLACE: Final = "demo/demo-v1.0.0"
KINDS: Final = {
    "a.tar.gz": ArtifactKind.ARCHIVE_GZ,
    "a.tar.zst": ArtifactKind.ARCHIVE_ZST,
    "a-provenance.json": ArtifactKind.PROVENANCE,
    "SHA256SUMS": ArtifactKind.CHECKSUMS,
    "SHA256SUMS.asc": ArtifactKind.SIGNATURE,
    "KEY.asc": ArtifactKind.PUBLIC_KEY,
    "a-manifest.json": ArtifactKind.MANIFEST,
}


def described(filename: str, content: bytes) -> Artifact:
    """Describe a file."""
    return make_artifact(
        filename=filename,
        kind=KINDS[filename],
        platform=None,
        size=len(content),
        sha256=hashlib.sha256(content).hexdigest(),
    )


def make_contents() -> dict[str, bytes]:
    """Return the bytes of a small release, by file name."""
    found = {name: name.encode() for name in KINDS}
    archives = tuple(described(name, found[name]) for name in ("a.tar.gz", "a.tar.zst"))
    found["a-provenance.json"] = statement_json(make_provenance(make_manifest(files=archives)))
    found["SHA256SUMS"] = checksums_of(found)
    return {**found, "SHA256SUMS.asc": GOOD}


def checksums_of(contents: Mapping[str, bytes]) -> bytes:
    """Return the checksums file of a release."""
    listed = [name for name in KINDS if name.startswith("a")]
    return checksums_text(described(name, contents[name]) for name in listed)


CONTENTS: Final = make_contents()


class Gpg(ProcessRunner):
    """Stands for GnuPG: two signatures are good, as long as the checksums are the signed ones."""

    def __init__(self) -> None:
        self.checked: list[bytes] = []
        self.signed = CONTENTS["SHA256SUMS"]

    def run(
        self,
        argv: Sequence[str | Path],
        *,
        tool: Tool,  # noqa: ARG002
        timeout: float = 600,  # noqa: ARG002
        environment: Mapping[str, str] | None = None,  # noqa: ARG002
        without: Collection[str] = (),  # noqa: ARG002
        check: bool = True,  # noqa: ARG002
    ) -> Completed:
        """Check the signature that is the last argument but one, or dearmor the key."""
        words = tuple(str(word) for word in argv)
        if words[0] != "gpgv":
            output = Path(words[words.index("--output") + 1])
            output.write_bytes(Path(words[-1]).read_bytes())
            return Completed(argv=words, status=0, stdout=b"", stderr=b"")
        signature, signed = (Path(word).read_bytes() for word in words[-2:])
        assert Path(words[words.index("--keyring") + 1]).read_bytes() == b"KEY.asc"
        self.checked.append(signature)
        good = signature in {GOOD, ALSO_GOOD} and signed == self.signed
        said = f"[GNUPG:] VALIDSIG {FINGERPRINT} 2026-11-21 1 0 4 0 1 8 00 {FINGERPRINT}\n"
        return Completed(
            argv=words, status=0 if good else 1, stdout=said.encode() if good else b"", stderr=b""
        )


class NotingStore(LocalStore):
    """A store that notes what was put with which type, and what was read back whole."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.put: list[tuple[str, str]] = []
        self.looked: list[str] = []

    def put_new(
        self,
        key: str,
        path: Path,
        *,
        content_type: str,
        sha256: str | None = None,
        on_bytes: OnBytes = ignore_bytes,
    ) -> bool:
        """Note it and put it; the digest that is told is the file's."""
        assert sha256 == sha256_of(path)
        self.put.append((key, content_type))
        return super().put_new(
            key, path, content_type=content_type, sha256=sha256, on_bytes=on_bytes
        )

    def stored(self, key: str) -> Stored | None:
        """Note it and read it back."""
        self.looked.append(key)
        return super().stored(key)

    def holds(self, filename: str) -> bytes:
        """Return the bytes of a file of the release."""
        return (self.root / PLACE / filename).read_bytes()


@dataclass(frozen=True, kw_only=True)
class Case:
    """What publishes, where to, and what it does to the public."""

    ctx: Context
    gpg: Gpg
    public: FakePublic
    sites: tuple[Site, ...]
    stores: tuple[NotingStore, ...]
    step: Step
    text: object

    def publish(self, upload: Upload) -> tuple[Artifact, ...]:
        """Put the files into every site."""
        return publish_files(self.ctx, self.sites, upload, self.step)

    def read_back(self, upload: Upload) -> None:
        """Fetch them from every site."""
        read_back(self.ctx, self.sites, upload, self.step)

    def alone(self) -> "Case":
        """Return the same without the mirror."""
        return replace(self, sites=self.sites[:1], stores=self.stores[:1])


@pytest.fixture
def both(tmp_path: Path) -> Case:
    """A store and a mirror, both empty."""
    stores = (NotingStore(tmp_path / "store"), NotingStore(tmp_path / "mirror"))
    gpg, public = Gpg(), FakePublic()
    console, text = recorded_console()
    ctx = make_context(write_project(tmp_path / "project"), console=console)
    return Case(
        ctx=replace(ctx, process=gpg, public=public),
        gpg=gpg,
        public=public,
        sites=(
            Site(store=stores[0], base_url="https://first.test"),
            Site(store=stores[1], base_url="https://mirror.test"),
        ),
        stores=stores,
        step=Step(console, "publish", None, lambda: 0.0),
        text=text,
    )


@pytest.fixture
def case(both: Case) -> Case:
    """An empty store without mirrors."""
    return both.alone()


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """A directory of files to be published."""
    path = tmp_path / "signed"
    path.mkdir()
    return path


def written(directory: Path, filename: str, content: bytes | None = None) -> Artifact:
    """Write a file and describe it."""
    content = CONTENTS[filename] if content is None else content
    (directory / filename).write_bytes(content)
    return described(filename, content)


def upload_of(directory: Path, *files: Artifact) -> Upload:
    """Return what is to be published of *files*, one after the other."""
    return Upload(signed=make_signed(), files=files, directory=directory, parallel=1)


def release(directory: Path, *, signature: bytes = GOOD) -> Upload:
    """Write a whole small release."""
    return release_of(directory, {**CONTENTS, "SHA256SUMS.asc": signature})


def release_of(directory: Path, contents: Mapping[str, bytes]) -> Upload:
    """Write a release of these files."""
    return upload_of(directory, *(written(directory, *item) for item in contents.items()))


def written_at(case: Case) -> dict[Path, int]:
    """Return when everything in the stores was written, in nanoseconds."""
    found = [path for store in case.stores for path in store.root.rglob("*")]
    return {path: path.stat().st_mtime_ns for path in found if ".incoming" not in path.parts}


def artifact_of(upload: Upload, filename: str) -> Artifact:
    """Return the file of that name."""
    (found,) = (item for item in upload.files if item.filename == filename)
    return found


# --- putting --------------------------------------------------------------------------------


def test_every_kind_of_file_is_in_one_wave() -> None:
    assert sorted(kind for wave in WAVES for kind in wave) == sorted(ArtifactKind)


def test_every_file_is_put_under_its_key_with_its_type_the_manifest_last(
    case: Case, directory: Path
) -> None:
    upload = release(directory)

    published = case.publish(upload)

    (store,) = case.stores
    assert published == upload.files
    assert store.put == [(upload.key(item), CONTENT_TYPES[item.kind]) for item in upload.files]
    for item in upload.files:
        assert store.stored(upload.key(item)) == Stored(size=item.size, sha256=item.sha256)


def test_archives_are_there_before_what_says_that_they_are_right(
    case: Case, directory: Path
) -> None:
    """In whichever order they are given, and however many are put at a time."""
    upload = release(directory)
    mixed = replace(upload, files=upload.files[::-1], parallel=4)

    published = case.publish(mixed)

    names = [key.rsplit("/", 1)[-1] for key, _ in case.stores[0].put]
    assert published == mixed.files
    assert set(names[:3]) == {"a.tar.gz", "a.tar.zst", "a-provenance.json"}
    assert set(names[3:6]) == {"SHA256SUMS", "SHA256SUMS.asc", "KEY.asc"}
    assert names[6:] == ["a-manifest.json"]


def test_as_many_files_are_put_at_a_time_as_the_channel_says(case: Case, directory: Path) -> None:
    meeting = threading.Barrier(2, timeout=30)

    class Meeting(NotingStore):
        def put_new(
            self,
            key: str,
            path: Path,
            *,
            content_type: str,
            sha256: str | None = None,
            on_bytes: OnBytes = ignore_bytes,
        ) -> bool:
            meeting.wait()
            return super().put_new(
                key, path, content_type=content_type, sha256=sha256, on_bytes=on_bytes
            )

    store = Meeting(case.stores[0].root)
    site = replace(case.sites[0], store=store)
    archives = [written(directory, name) for name in ("a.tar.gz", "a.tar.zst")]
    signature = written(directory, "SHA256SUMS.asc", GOOD)
    checksums = written(directory, "SHA256SUMS")
    upload = replace(upload_of(directory, *archives, checksums, signature), parallel=2)

    replace(case, sites=(site,)).publish(upload)

    assert len(store.put) == 4


def test_the_first_file_that_cannot_be_put_ends_it(case: Case, directory: Path) -> None:
    class Full(NotingStore):
        def put_new(
            self,
            key: str,
            path: Path,
            *,
            content_type: str,
            sha256: str | None = None,
            on_bytes: OnBytes = ignore_bytes,
        ) -> bool:
            if len(self.put) == 1:
                msg = "no space left"
                raise StoreError(msg)
            return super().put_new(
                key, path, content_type=content_type, sha256=sha256, on_bytes=on_bytes
            )

    store = Full(case.stores[0].root)
    site = replace(case.sites[0], store=store)

    with pytest.raises(StoreError, match="no space left"):
        replace(case, sites=(site,)).publish(release(directory))

    assert [key for key, _ in store.put] == [f"{PLACE}/a.tar.gz"]


def test_publishing_again_changes_nothing(both: Case, directory: Path) -> None:
    upload = release(directory)
    both.publish(upload)
    before = written_at(both)
    for store in both.stores:
        store.put.clear()

    again = both.publish(upload)

    assert again == upload.files
    assert written_at(both) == before
    assert [store.put for store in both.stores] == [[], []]
    assert both.gpg.checked == []


def test_a_publication_that_was_stopped_half_way_is_finished(both: Case, directory: Path) -> None:
    upload = release(directory)
    first = both.alone()
    first.publish(replace(upload, files=tuple(upload.files[i] for i in (0, 4))))

    assert both.publish(upload) == upload.files
    assert [key for key, _ in both.stores[0].put].count(f"{PLACE}/a.tar.gz") == 1
    assert len(both.stores[1].put) == len(upload.files)


@pytest.mark.parametrize("filename", [name for name in KINDS if name != "SHA256SUMS.asc"])
def test_a_name_that_stands_for_other_bytes_is_refused(
    case: Case, directory: Path, filename: str
) -> None:
    old = release(directory)
    case.publish(old)
    content = written(directory, filename, b"new")
    new = replace(old, files=tuple(content if i.filename == filename else i for i in old.files))

    with pytest.raises(ImmutableNameError) as caught:
        case.publish(new)

    message = str(caught.value)
    store = case.stores[0]
    assert message.startswith(f"{store.root}: {PLACE}/{filename}: already stands for other bytes")
    assert artifact_of(old, filename).sha256 in message
    assert content.sha256 in message
    assert "release a new version" in message
    assert store.holds(filename) == CONTENTS[filename]


def test_a_name_that_another_took_a_moment_ago_is_looked_at(case: Case, directory: Path) -> None:
    """It was not in the list yet."""

    class Late(NotingStore):
        def sizes(self, prefix: str) -> dict[str, int]:  # noqa: ARG002
            return {}

    upload = release(directory)
    case.publish(upload)
    late = Late(case.stores[0].root)
    again = replace(case, sites=(replace(case.sites[0], store=late),))

    assert again.publish(upload) == upload.files


def test_a_name_that_is_listed_but_cannot_be_read_stops_it(case: Case, directory: Path) -> None:
    class Forgetful(NotingStore):
        def stored(self, key: str) -> Stored | None:  # noqa: ARG002
            return None

    upload = release(directory)
    case.publish(upload)
    forgetful = Forgetful(case.stores[0].root)

    with pytest.raises(FetchBackError, match=r"a\.tar\.gz: is in the store's list, but cannot be"):
        replace(case, sites=(replace(case.sites[0], store=forgetful),)).publish(upload)


# --- signatures that are there --------------------------------------------------------------


def test_a_good_signature_that_is_there_stays_and_is_the_published_one(
    case: Case, directory: Path
) -> None:
    """Signing again gives other bytes that say the same."""
    first = release(directory)
    case.publish(first)

    published = case.publish(release(directory, signature=ALSO_GOOD))

    assert published == first.files
    assert case.stores[0].holds("SHA256SUMS.asc") == GOOD
    assert case.gpg.checked == [GOOD]


def test_mirrors_get_the_signature_that_was_kept(both: Case, directory: Path) -> None:
    first = release(directory)
    both.alone().publish(first)

    published = both.publish(release(directory, signature=ALSO_GOOD))

    assert published == first.files
    assert [store.holds("SHA256SUMS.asc") for store in both.stores] == [GOOD, GOOD]
    assert [store.holds("a.tar.gz") for store in both.stores] == [b"a.tar.gz", b"a.tar.gz"]
    assert (directory / "SHA256SUMS.asc").read_bytes() == ALSO_GOOD


def test_a_mirror_that_kept_another_good_signature_is_as_good(both: Case, directory: Path) -> None:
    """Both say the same of the same files, but only one can be in the ledger."""
    upload = release(directory)
    replace(both, sites=both.sites[1:]).publish(release(directory, signature=ALSO_GOOD))

    release(directory)
    with pytest.raises(FetchBackError, match=r"https://first\.test/.*SHA256SUMS\.asc: "):
        both.read_back(replace(upload, files=both.publish(upload)))


@pytest.mark.parametrize("bad", [b"a bad signature", b""], ids=["bad", "empty"])
def test_a_bad_signature_that_is_there_is_refused(case: Case, directory: Path, bad: bytes) -> None:
    store = case.stores[0]
    (store.root / PLACE).mkdir(parents=True)
    (store.root / PLACE / "SHA256SUMS.asc").write_bytes(bad)

    with pytest.raises(ImmutableNameError, match=r"SHA256SUMS\.asc: already stands for"):
        case.publish(release(directory))


def test_of_a_published_release_the_ledgers_signature_counts_not_a_newer_one_here(
    both: Case, directory: Path
) -> None:
    published = release(directory)
    both.publish(published)
    release(directory, signature=ALSO_GOOD)
    (both.stores[1].root / PLACE / "a.tar.gz").unlink()
    (both.stores[1].root / PLACE / "SHA256SUMS.asc").unlink()

    again = both.publish(published)

    assert again == published.files
    assert both.stores[1].holds("SHA256SUMS.asc") == GOOD
    assert both.stores[1].holds("a.tar.gz") == b"a.tar.gz"


def test_a_signature_that_the_first_store_lost_is_not_replaced_by_another(
    case: Case, directory: Path
) -> None:
    """The ledger says which one it was; a name never stands for other bytes."""
    published = release(directory)
    case.publish(published)
    release(directory, signature=ALSO_GOOD)
    lost = case.stores[0].root / PLACE / "SHA256SUMS.asc"
    lost.unlink()

    with pytest.raises(FetchBackError, match=r"SHA256SUMS\.asc: .* restore it from a mirror"):
        case.publish(published)

    assert not lost.exists()


class Vanishing(NotingStore):
    """A store that describes a signature, but no longer gives it to who reads it."""

    reads_left = 0

    def read(self, key: str) -> Tagged | None:
        """Give a signature only so many times."""
        if key.endswith(".asc"):
            self.reads_left -= 1
            if self.reads_left < 0:
                return None
        return super().read(key)


@pytest.mark.parametrize(
    ("reads_left", "error"),
    [(0, ImmutableNameError), (1, FetchBackError)],
    ids=["before it was checked", "before mirrors got it"],
)
def test_a_signature_that_vanishes_meanwhile_stops_the_publication(
    case: Case, directory: Path, reads_left: int, error: type[Exception]
) -> None:
    case.publish(release(directory))
    vanishing = Vanishing(case.stores[0].root)
    vanishing.reads_left = reads_left
    again = replace(case, sites=(replace(case.sites[0], store=vanishing),))

    with pytest.raises(error, match=r"SHA256SUMS\.asc: "):
        again.publish(release(directory, signature=ALSO_GOOD))


# --- what readers get -----------------------------------------------------------------------


@pytest.fixture
def published(case: Case, directory: Path) -> Upload:
    """A release that is in the store."""
    upload = release(directory)
    case.publish(upload)
    return upload


def test_every_file_is_fetched_from_every_site_and_the_signature_checked(
    both: Case, directory: Path
) -> None:
    upload = release(directory)
    both.publish(upload)

    both.read_back(upload)

    keys = [upload.key(item) for item in upload.files]
    assert both.public.asked == [
        (url, key) for url in ("https://first.test", "https://mirror.test") for key in keys
    ]
    assert both.gpg.checked == [GOOD, GOOD]


def test_files_are_fetched_several_at_a_time(case: Case, published: Upload) -> None:
    case.read_back(replace(published, parallel=3))

    assert len(case.public.asked) == len(published.files)


@pytest.mark.parametrize("filename", KINDS)
@pytest.mark.parametrize("data", [b"other", None], ids=["other", "nothing"])
def test_readers_that_get_something_else_stop_the_release(
    case: Case, published: Upload, filename: str, data: bytes | None
) -> None:
    case.public.gets[f"{PLACE}/{filename}"] = data

    with pytest.raises(FetchBackError) as caught:
        case.read_back(published)

    message = str(caught.value)
    assert message.startswith(f"https://first.test/{PLACE}/{filename}: ")
    assert "The release was not announced" in message


def test_other_bytes_of_the_same_length_are_found_out(case: Case, published: Upload) -> None:
    case.public.gets[f"{PLACE}/a.tar.gz"] = b"A.tar.gz"
    wanted = artifact_of(published, "a.tar.gz")

    with pytest.raises(FetchBackError) as caught:
        case.read_back(published)

    message = str(caught.value)
    assert f"8 bytes with sha256 {wanted.sha256} were put, but readers get 8 bytes" in message
    assert hashlib.sha256(b"A.tar.gz").hexdigest() in message


@pytest.mark.parametrize("changed", [True, False], ids=["on the fly", "as they are"])
def test_a_server_that_compresses_is_told_from_one_that_is_damaged(
    case: Case, published: Upload, *, changed: bool
) -> None:
    """Clients would unpack what they get, and find another digest than the one that was signed."""
    case.public.encoding = "gzip"
    if changed:
        case.public.gets[f"{PLACE}/a.tar.gz"] = b"zipped"

    with pytest.raises(FetchBackError) as caught:
        case.read_back(published)

    message = str(caught.value)
    assert "a.tar.gz: is sent with Content-Encoding gzip" in message
    assert message.endswith("not announced. Switch compression off on the server.")


def test_a_server_that_says_identity_does_not_compress(case: Case, published: Upload) -> None:
    case.public.encoding = "identity"

    case.read_back(published)


def test_a_wrong_type_is_a_warning(case: Case, published: Upload) -> None:
    case.public.content_type = "text/html"

    case.read_back(published)

    text = case.text.getvalue()  # type: ignore[attr-defined]
    url = f"https://first.test/{PLACE}/a.tar.gz"
    assert f"{url}: is sent as text/html, not as application/gzip" in text


def test_the_signature_that_readers_get_is_checked_with_the_key_that_we_know(
    case: Case, directory: Path
) -> None:
    """The public's own key would prove nothing: whoever changes the files can change it too."""
    upload = release(directory, signature=b"bad")
    case.publish(upload)
    case.gpg.checked.clear()

    with pytest.raises(SignatureError, match=r"SHA256SUMS: SHA256SUMS\.asc is not a good"):
        case.read_back(upload)

    assert case.gpg.checked == [b"bad"]


# --- what is there already ------------------------------------------------------------------


def test_sites_hold_what_was_put_and_looking_reads_and_puts_none(
    both: Case, directory: Path
) -> None:
    upload = release(directory)
    assert not hold_files(both.sites, upload)
    both.publish(upload)
    looked = [list(store.looked) for store in both.stores]

    assert hold_files(both.sites, upload)

    assert [store.looked for store in both.stores] == looked


@pytest.mark.parametrize("where", [0, 1], ids=["store", "mirror"])
@pytest.mark.parametrize("content", [b"a.tar.gz!", None], ids=["size", "gone"])
def test_a_site_whose_file_is_damaged_does_not_hold_it(
    both: Case, directory: Path, where: int, content: bytes | None
) -> None:
    upload = release(directory)
    both.publish(upload)
    path = both.stores[where].root / PLACE / "a.tar.gz"
    path.unlink()
    if content is not None:
        path.write_bytes(content)

    assert not hold_files(both.sites, upload)


# --- before anything is put -----------------------------------------------------------------

LARGEST: Final = max(len(content) for content in CONTENTS.values())


def test_files_that_are_announced_and_unchanged_may_be_uploaded(directory: Path) -> None:
    check_directory(release(directory), set(KINDS), LARGEST)


def test_a_file_that_was_announced_but_not_made_stops_the_upload(directory: Path) -> None:
    with pytest.raises(FetchBackError, match=r"missing \['b\.tar\.gz'\], unexpected \[\]"):
        check_directory(release(directory), {"b.tar.gz", *KINDS}, LARGEST)


def test_a_file_that_was_not_announced_stops_the_upload(directory: Path) -> None:
    with pytest.raises(FetchBackError, match=r"missing \[\], unexpected \['a\.tar\.gz'\]"):
        check_directory(release(directory), set(KINDS) - {"a.tar.gz"}, LARGEST)


@pytest.mark.parametrize("content", [b"A.tar.gz", None], ids=["changed", "gone"])
def test_a_file_that_is_not_what_was_signed_stops_the_upload(
    directory: Path, content: bytes | None
) -> None:
    upload = release(directory)
    (directory / "a.tar.gz").unlink()
    if content is not None:
        (directory / "a.tar.gz").write_bytes(content)

    with pytest.raises(FetchBackError, match=r"a\.tar\.gz: is not the file that was signed"):
        check_directory(upload, set(KINDS), LARGEST)


@pytest.mark.parametrize("fits", [True, False])
def test_a_file_that_is_too_large_stops_the_upload(directory: Path, *, fits: bool) -> None:
    upload = release(directory)

    if fits:
        check_directory(upload, set(KINDS), LARGEST)
    else:
        message = rf"a-provenance\.json: has {LARGEST} bytes, but .* 1 to {LARGEST - 1} "
        with pytest.raises(FetchBackError, match=message):
            check_directory(upload, set(KINDS), LARGEST - 1)


# --- the provenance -------------------------------------------------------------------------


def stated(*files: Artifact, **overrides: Any) -> bytes:
    """Return a provenance of *files*."""
    return statement_json(make_provenance(make_manifest(files=files), **overrides))


GZ, ZST = (described(name, CONTENTS[name]) for name in ("a.tar.gz", "a.tar.zst"))
NO_MANIFEST: Final = described("a-manifest.json", b"of something else")
WRONG: Final = {
    "a digest changed": (
        stated(GZ, described("a.tar.zst", b"other")),
        f"a.tar.zst with {ZST.sha256} is not stated; a.tar.zst is stated with",
    ),
    "a subject missing": (stated(GZ), f"a.tar.zst with {ZST.sha256} is not stated"),
    "a subject added": (stated(GZ, ZST, NO_MANIFEST), "a-manifest.json is stated with"),
    "a subject twice": (stated(GZ, ZST, ZST), "a.tar.zst is stated twice"),
    "another builder": (stated(GZ, ZST, fingerprint=FINGERPRINT[::-1]), "the builder is openpgp"),
    "no statement": (b"{}", "it cannot be read: Field required"),
    "no JSON": (b"\xff", "it cannot be read: Invalid JSON"),
}


def with_provenance(directory: Path, provenance: bytes, gpg: Gpg | None = None) -> Upload:
    """Write a release whose provenance was replaced before everything was signed."""
    contents = {**CONTENTS, "a-provenance.json": provenance}
    contents["SHA256SUMS"] = checksums_of(contents)
    if gpg is not None:
        gpg.signed = contents["SHA256SUMS"]
    return release_of(directory, contents)


@pytest.mark.parametrize(("provenance", "says"), WRONG.values(), ids=WRONG)
def test_a_provenance_that_is_not_of_what_readers_get_stops_the_release(
    case: Case, directory: Path, provenance: bytes, says: str
) -> None:
    """Also though every digest and the signature are right."""
    upload = with_provenance(directory, provenance, case.gpg)
    case.publish(upload)

    with pytest.raises(FetchBackError) as caught:
        case.read_back(upload)

    message = str(caught.value)
    assert message.startswith(f"https://first.test/{PLACE}/a-provenance.json: is not the signed")
    assert says in message
    assert "The release was not announced" in message
    assert case.gpg.checked == [GOOD]


@pytest.mark.parametrize(("provenance", "says"), WRONG.values(), ids=WRONG)
def test_a_provenance_of_other_archives_stops_the_upload(
    directory: Path, provenance: bytes, says: str
) -> None:
    with pytest.raises(FetchBackError) as caught:
        check_directory(with_provenance(directory, provenance), set(KINDS), 2 * LARGEST)

    message = str(caught.value)
    assert message.startswith(f"{directory}/a-provenance.json: is not the signed provenance of ")
    assert says in message
    assert "Nothing was uploaded" in message


@pytest.mark.parametrize(
    "sums",
    [
        checksums_text([GZ, ZST]),
        checksums_text([GZ, ZST, described("a-provenance.json", b"another")]),
        b"\xff",
    ],
    ids=["missing", "another", "no text"],
)
def test_a_provenance_that_the_signature_does_not_cover_stops_the_release(
    case: Case, directory: Path, sums: bytes
) -> None:
    upload = release_of(directory, {**CONTENTS, "SHA256SUMS": sums})
    case.gpg.signed = sums
    case.publish(upload)

    with pytest.raises(FetchBackError, match=r": SHA256SUMS does not list it\. The release"):
        case.read_back(upload)


@pytest.mark.parametrize("where", [0, 1], ids=["store", "mirror"])
def test_a_provenance_that_was_changed_on_one_site_stops_the_release(
    both: Case, directory: Path, where: int
) -> None:
    upload = release(directory)
    both.publish(upload)
    (both.stores[where].root / PLACE / "a-provenance.json").write_bytes(stated(GZ))

    with pytest.raises(FetchBackError) as caught:
        both.read_back(upload)

    assert str(caught.value).startswith(f"{both.sites[where].base_url}/{PLACE}/a-provenance.json: ")


def test_a_release_from_before_there_was_a_provenance_can_still_be_fetched_back(
    case: Case, directory: Path
) -> None:
    """When a file of it was lost and put again: the ledger lists what it has."""
    contents = {name: data for name, data in CONTENTS.items() if name != "a-provenance.json"}
    upload = release_of(directory, contents)
    case.publish(upload)

    case.read_back(upload)

    assert len(case.public.asked) == len(contents)
