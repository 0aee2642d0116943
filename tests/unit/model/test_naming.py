"""Public names, store keys and URLs."""

from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.model import naming
from pipeline.model.artifacts import ARCHIVES, CONTENT_TYPES, ArtifactKind
from pipeline.model.versions import InterpreterVersion
from tests.factories import make_git_revision, make_interpreter, make_platform, make_revision

AARCH64 = make_platform("linux-aarch64")


def test_a_release_is_named_as_upstream_names_it() -> None:
    version = InterpreterVersion.parse("7.3.23rc1")

    assert naming.release_name("pypy3.11", version) == "pypy3.11-v7.3.23rc1"


def test_a_nightly_is_named_by_its_number_and_twelve_digits_of_its_revision() -> None:
    interpreter = make_interpreter(nightly_prefix="pypy-c-jit")

    name = naming.nightly_name(interpreter, make_revision(number=110203))

    assert name == "pypy-c-jit-110203-0123456789ab"


def test_a_revision_without_a_number_is_no_nightly() -> None:
    with pytest.raises(ValueError, match="has no nightly number"):
        naming.nightly_name(make_interpreter(), make_git_revision(number=None))


def test_a_nightly_of_a_changed_checkout_has_a_name_that_a_store_takes() -> None:
    """The ``+`` of a changed checkout is for ``sys.version`` only."""
    name = naming.nightly_name(make_interpreter(), make_revision(number=1, dirty=True))

    assert name == "demo-nightly-1-0123456789ab"


def test_a_source_archive_is_named_as_upstream_names_it() -> None:
    assert naming.source_name("pypy3.11-v7.3.23") == "pypy3.11-v7.3.23-src.tar.gz"


def test_archives_of_a_release_end_with_upstreams_name_of_the_platform() -> None:
    platform = make_platform(release_suffix="linux64", nightly_suffix="nightly64")

    stem = naming.archive_stem("pypy3.11-v7.3.23", platform, nightly=False)

    assert naming.archive_names(stem, os="linux", debug=False) == {
        ArtifactKind.ARCHIVE_GZ: "pypy3.11-v7.3.23-linux64.tar.gz",
        ArtifactKind.ARCHIVE_ZST: "pypy3.11-v7.3.23-linux64.tar.zst",
    }


def test_windows_gets_a_zip_file() -> None:
    names = naming.archive_names("pypy3.11-v7.3.23-win64", os="windows", debug=False)

    assert names == {ArtifactKind.ARCHIVE_ZIP: "pypy3.11-v7.3.23-win64.zip"}


def test_darwin_gets_the_same_archives_as_linux() -> None:
    names = [naming.archive_names("t", os=system, debug=True) for system in ("darwin", "linux")]

    assert names[0] == names[1]


@pytest.mark.parametrize("system", ["linux", "darwin", "windows"])
def test_debug_symbols_are_one_archive_more(system: str) -> None:
    without = naming.archive_names("t", os=system, debug=False)

    names = naming.archive_names("t", os=system, debug=True)

    assert names == {**without, ArtifactKind.DEBUG_ZST: "t-debug.tar.zst"}


def test_nightlies_may_name_a_platform_otherwise() -> None:
    platform = make_platform(release_suffix="linux64", nightly_suffix="nightly64")

    assert naming.archive_stem("n-1-a", platform, nightly=True) == "n-1-a-nightly64"


def test_an_identifier_names_interpreter_and_platform() -> None:
    assert naming.identifier("demo", AARCH64.identifier) == "demo-linux-aarch64"


def test_the_address_of_a_file_is_its_key_below_the_base() -> None:
    key = naming.store_key("pypy", "pypy3.11-v7.3.23", naming.manifest_name("pypy3.11-v7.3.23"))

    url = naming.public_url("https://downloads.example", key)

    assert url == ("https://downloads.example/pypy/pypy3.11-v7.3.23/pypy3.11-v7.3.23-manifest.json")


@pytest.mark.parametrize(
    "key",
    [
        "ledger.json",
        "demo/versions.json",
        "demo/demo-v1.0.0/SHA256SUMS.asc",
        "pypy/pypy3.11-v7.3.23/pypy3.11-v7.3.23-linux64.tar.gz",
        "a_b/c+d",
    ],
)
def test_a_store_key_is_returned_as_it_is(key: str) -> None:
    assert naming.check_key(key) == key


@pytest.mark.parametrize(
    "key",
    [
        pytest.param("", id="empty"),
        pytest.param("..", id="dot-dot"),
        pytest.param("../ledger.json", id="climbs"),
        pytest.param("demo/../ledger.json", id="climbs-inside"),
        pytest.param("/etc/passwd", id="absolute"),
        pytest.param("demo//x", id="empty-component"),
        pytest.param("demo/", id="trailing-slash"),
        pytest.param(".incoming/lock", id="hidden"),
        pytest.param("demo/.partial-1", id="hidden-inside"),
        pytest.param("demo\\x", id="backslash"),
        pytest.param("demo/x\n", id="trailing-newline"),
        pytest.param("demo/x?y", id="query"),
        pytest.param("demo/%2e%2e", id="percent"),
        pytest.param("demo/a b", id="blank"),
        pytest.param("demo/$(id)", id="shell"),
        pytest.param("_x", id="underscore-first"),
    ],
)
def test_a_key_that_could_reach_elsewhere_is_refused(key: str) -> None:
    with pytest.raises(ValueError, match="is not a store key"):
        naming.check_key(key)


@given(st.text("ab./\\-_%\n ", max_size=12))
def test_no_component_of_an_accepted_key_is_hidden_or_climbs(key: str) -> None:
    try:
        naming.check_key(key)
    except ValueError:
        return

    assert all(part[0].isalnum() for part in key.split("/"))
    assert not set(key) & set("\\%\n ")


@given(st.dates(min_value=date(1000, 1, 1)), st.integers(min_value=0))
def test_the_day_of_a_nightly_is_in_its_name(day: date, number: int) -> None:
    name = naming.nightly_release("pypy3.11", make_git_revision(number=number), day)

    assert naming.nightly_day(name) == day


@pytest.mark.parametrize(
    "name",
    [
        "pypy3.11-v7.3.23",
        "pypy-c-jit-188288-194f9f44b505",
        "pypy3.11-nightly-2026-02-30-188288-194f9f44b505",
        "pypy3.11-nightly-2026-02-03-188288-194f9f44b505x",
    ],
)
def test_other_names_have_no_day(name: str) -> None:
    assert naming.nightly_day(name) is None


def test_every_kind_of_file_has_a_type_and_archives_are_not_called_encoded() -> None:
    """A Content-Encoding would make clients store other bytes than were signed."""
    assert set(CONTENT_TYPES) == set(ArtifactKind)
    assert {kind for kinds in naming.ARCHIVE_SUFFIXES.values() for kind in kinds} == ARCHIVES
    assert {CONTENT_TYPES[kind] for kind in ARCHIVES} == {
        "application/gzip",
        "application/zip",
        "application/zstd",
    }


@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("https://robot:secret@git.test/a/b.git", "https://git.test/a/b.git"),
        ("https://robot:se@cret@git.test:8443/a", "https://git.test:8443/a"),
        ("ssh://git@git.test/a@b", "ssh://git.test/a@b"),
        ("file:///srv/a@b", "file:///srv/a@b"),
        ("https://git.test/a", "https://git.test/a"),
    ],
)
def test_a_public_address_says_nothing_of_who_logs_in(address: str, public: str) -> None:
    assert naming.public_address(address) == public
