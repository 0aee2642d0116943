"""Which ways there are to translate for a platform, and what its row of the table must say."""

from typing import Any

import pytest
from pydantic import ValidationError

from pipeline.model.platforms import LINUX, Mode, OciNames, Platform, Worker, ways
from tests.factories import changed, make_config, make_platform

ROWS = make_config().platforms
X86_64 = Worker(os="linux", machine="x86_64")
AARCH64 = Worker(os="linux", machine="aarch64")
MAC = Worker(os="darwin", machine="arm64")
WINDOWS = Worker(os="windows", machine="AMD64")


def ways_of(name: str, worker: Worker, **overrides: Any) -> list[tuple[Mode, str]]:
    """Return the ways to translate for a row of the table, each with the toolchain's platform."""
    found = ways(make_platform(name, **overrides), ROWS, worker)
    return [(mode, host.identifier) for mode, host in found.items()]


@pytest.mark.parametrize(
    ("name", "worker", "expected"),
    [
        pytest.param(
            "linux-x86_64",
            X86_64,
            [(Mode.NATIVE, "linux-x86_64")],
            id="its-own-machine",
        ),
        pytest.param(
            "linux-aarch64",
            X86_64,
            [(Mode.CROSS, "linux-x86_64"), (Mode.EMULATED, "linux-aarch64")],
            id="another-machine",
        ),
        pytest.param(
            "linux-aarch64",
            AARCH64,
            [(Mode.NATIVE, "linux-aarch64")],
            id="a-cross-compiler-is-not-for-every-worker",
        ),
        pytest.param(
            "linux-i686",
            X86_64,
            [(Mode.NATIVE, "linux-i686")],
            id="32-bits-of-the-same-processor",
        ),
        pytest.param(
            "linux-armhf",
            X86_64,
            [(Mode.CROSS, "linux-i686"), (Mode.EMULATED, "linux-armhf")],
            id="by-a-host-that-runs-on-the-worker",
        ),
        pytest.param("linux-s390x", X86_64, [(Mode.EMULATED, "linux-s390x")], id="other-bytes"),
        pytest.param("linux-musl-x86_64", X86_64, [(Mode.CROSS, "linux-x86_64")], id="musl"),
        pytest.param("linux-riscv64", AARCH64, [], id="in-no-way"),
    ],
)
def test_each_mode_that_a_worker_can_do_has_the_toolchains_platform(
    name: str, worker: Worker, expected: list[tuple[Mode, str]]
) -> None:
    assert ways_of(name, worker) == expected


@pytest.mark.parametrize(
    ("name", "worker", "expected"),
    [
        ("linux-x86_64", X86_64, [(Mode.NATIVE, "linux-x86_64")]),
        ("linux-aarch64", X86_64, []),
        ("linux-s390x", X86_64, []),
        ("linux-aarch64", MAC, []),
        ("macos-arm64", MAC, [(Mode.NATIVE, "macos-arm64")]),
    ],
)
def test_without_containers_a_worker_works_for_itself_alone(
    name: str, worker: Worker, expected: list[tuple[Mode, str]]
) -> None:
    assert ways_of(name, changed(worker, containers=False)) == expected


def test_the_table_decides_which_way_is_best() -> None:
    modes = (Mode.EMULATED, Mode.CROSS)

    assert [mode for mode, _ in ways_of("linux-aarch64", X86_64, modes=modes)] == list(modes)


def test_the_first_host_that_the_worker_can_run_is_taken() -> None:
    cross = {"prefix": "aarch64-linux-gnu", "hosts": ["linux-ppc64le", "linux-x86_64"]}
    also_there = {**cross, "hosts": ["linux-i686", "linux-x86_64"]}

    hosts = [
        dict(ways_of("linux-aarch64", X86_64, cross=table))[Mode.CROSS]
        for table in (cross, also_there)
    ]

    assert hosts == ["linux-x86_64", "linux-i686"]


@pytest.mark.parametrize(
    ("worker", "name"), [(MAC, "linux-aarch64"), (WINDOWS, "linux-x86_64")], ids=["mac", "windows"]
)
def test_a_container_does_what_is_for_linux_on_any_system(worker: Worker, name: str) -> None:
    """Each system has its own name of the machine."""
    assert ways_of(name, worker)[0] == (Mode.NATIVE, name)


@pytest.mark.parametrize(
    ("name", "worker"), [("macos-arm64", MAC), ("windows-x86_64", WINDOWS)], ids=["mac", "windows"]
)
def test_what_has_no_containers_is_done_on_its_own_system(name: str, worker: Worker) -> None:
    assert ways_of(name, worker) == [(Mode.NATIVE, name)]


@pytest.mark.parametrize(
    ("name", "worker"),
    [("macos-x86_64", X86_64), ("macos-x86_64", MAC), ("windows-x86_64", X86_64)],
    ids=["another-system", "another-machine", "windows-on-linux"],
)
def test_what_has_no_containers_is_done_nowhere_else(name: str, worker: Worker) -> None:
    assert ways_of(name, worker) == []


@pytest.mark.parametrize("row", ROWS.values(), ids=ROWS)
def test_every_shipped_platform_can_be_translated_somewhere(row: Platform) -> None:
    workers = [Worker(os=row.os, machine=row.runs_on[0]), X86_64]

    assert any(ways(row, ROWS, worker) for worker in workers)


@pytest.mark.parametrize("row", ROWS.values(), ids=ROWS)
def test_a_shipped_platform_is_of_one_processor(row: Platform) -> None:
    """Files of one platform must not be taken for another one's, nor two for the same."""
    assert row.machine in row.runs_on
    assert [other for other in ROWS.values() if other.release_suffix == row.release_suffix] == [row]
    assert [other for other in ROWS.values() if other.nightly_suffix == row.nightly_suffix] == [row]
    assert [other for other in ROWS.values() if other.uv == row.uv] == [row]
    if row.versions_json is not None:
        same = [other for other in ROWS.values() if other.versions_json == row.versions_json]
        assert same == [row]
    pyenv = row.downstream.pyenv
    assert pyenv is None or [o for o in ROWS.values() if o.downstream.pyenv == pyenv] == [row]
    wheel = row.downstream.wheel
    assert wheel is None or [o for o in ROWS.values() if o.downstream.wheel == wheel] == [row]
    image = row.downstream.bashbrew
    assert image is None or [o for o in ROWS.values() if o.downstream.bashbrew == image] == [row]


@pytest.mark.parametrize(
    ("name", "loader", "floor"),
    [
        ("linux-x86_64", "ld-linux-x86-64.so.2", "2.31"),
        ("linux-musl-x86_64", "ld-musl-x86_64.so.1", None),
        ("macos-arm64", None, None),
        ("windows-x86_64", None, None),
    ],
)
def test_only_programs_of_linux_have_a_loader_and_only_glibc_a_floor(
    name: str, loader: str | None, floor: str | None
) -> None:
    row = make_platform(name)

    assert (row.loader, row.glibc_floor) == (loader, floor)


@pytest.mark.parametrize(
    ("name", "overrides", "expected"),
    [
        ("linux-x86_64", {"modes": ("native", "cross")}, "mode cross and the table cross"),
        ("linux-aarch64", {"cross": None}, "mode cross and the table cross"),
        ("linux-x86_64", {"libc": None}, "a platform of Linux has libc, debian_arch, oci"),
        ("linux-x86_64", {"debian_arch": None}, "a platform of Linux has libc, debian_arch, oci"),
        ("linux-x86_64", {"emulator": None}, "a platform of Linux has libc, debian_arch, oci"),
        ("macos-arm64", {"emulator": "qemu-arm64"}, "only platforms of Linux have"),
        ("macos-arm64", {"modes": ("native", "emulated")}, "only platforms of Linux have"),
        ("macos-arm64", {"libc": "musl"}, "only platforms of Linux have"),
        ("windows-x86_64", {"os": "darwin"}, "programs of darwin are of format macho"),
        ("linux-musl-x86_64", {"libc": "glibc"}, r"libc = glibc and binaries\.glibc_floor"),
    ],
)
def test_a_row_that_does_not_fit_together_is_refused(
    name: str, overrides: dict[str, Any], expected: str
) -> None:
    with pytest.raises(ValidationError, match=expected):
        make_platform(name, **overrides)


def test_a_floor_of_glibc_is_for_glibc() -> None:
    row = make_platform("linux-musl-x86_64")

    with pytest.raises(ValidationError, match="belong together"):
        changed(row, binaries={**row.binaries.model_dump(), "glibc_floor": "2.31"})


def test_an_emulator_is_one_of_qemu() -> None:
    """Its name becomes the name of a file of the kernel's list."""
    with pytest.raises(ValidationError, match="emulator"):
        make_platform(emulator="../status")


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (OciNames(os="linux", architecture="amd64"), "linux/amd64"),
        (OciNames(os="linux", architecture="arm", variant="v7"), "linux/arm/v7"),
    ],
    ids=["plain", "variant"],
)
def test_a_containers_platform_is_written_as_docker_reads_it(
    names: OciNames, expected: str
) -> None:
    assert str(names) == expected


def test_containers_are_of_linux() -> None:
    assert {row.os for row in ROWS.values() if row.oci is not None} == {LINUX}
