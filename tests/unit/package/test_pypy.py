"""The tree of PyPy: what upstream's packager is given, and what is kept of what it makes."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import pytest

from pipeline.effects.engine import ContainerStep
from pipeline.environment import ready_environment
from pipeline.errors import PackageError
from pipeline.model.configs import Config, PyPyPackage
from pipeline.model.platforms import Mode
from pipeline.package.assembly import Assembled, Translated
from pipeline.package.pypy import (
    VARIABLES,
    assemble,
    debug_entries,
    given_inputs,
    packager_variables,
    tree_entries,
)
from pipeline.plan import Job
from tests.factories import (
    changed,
    make_config,
    make_pin,
    make_platform,
    make_pypy_job,
    make_pypy_package,
)
from tests.fakes import (
    Ran,
    World,
    given_files,
    make_job,
    make_world,
    replace_text,
    stage_output,
    write_text,
)

STEM: Final = "pypy3.11-v7.3.23-linux64"
WHEEL: Final = make_pin(filename="pip-24.0-py3-none-any.whl")


@pytest.fixture
def package() -> PyPyPackage:
    """What PyPy says of its archives, with a pinned wheel."""
    return make_pypy_package(wheels=("pip",), without=("_tkinter",))


@pytest.fixture
def job(package: PyPyPackage) -> Job:
    job = make_pypy_job()
    return changed(job, interpreter=changed(job.interpreter, package=package))


@pytest.fixture
def world(tmp_path: Path) -> World:
    """The toy's world with the shipped pins; every download is what its file is called."""
    made = make_world(tmp_path / "project")
    shipped = make_config(pins={**make_config().pins, "pip": WHEEL})
    made.http.files.update({pin.filename: pin.filename.encode() for pin in shipped.pins.values()})
    return replace(made, ctx=replace(made.ctx, config=with_environments(made.ctx.config, shipped)))


def with_environments(toy: Config, shipped: Config) -> Config:
    """Return the shipped configuration with the toy's images."""
    return changed(shipped, bases=toy.bases, environments=toy.environments)


@dataclass(frozen=True, kw_only=True)
class Packager:
    """What upstream's packager does in a container."""

    built: Sequence[str]
    skipped: Sequence[str] = ()
    failed: Sequence[str] = ()
    top: str = STEM
    symbols: str = "bin/pypy3.11.debug"

    def __call__(self, step: ContainerStep) -> Ran:
        """Make a small tree, and tell what became of each module."""
        modules = {"built": self.built, "skipped": self.skipped, "failed": self.failed}
        tree = f"tree/{self.top}"
        return Ran(
            lines=(step.name,),
            files={
                "modules.json": json.dumps(modules).encode(),
                "ccache/0/object": b"compiled",
                f"{tree}/LICENSE": b"MIT\n",
                f"{tree}/bin/pypy3.11": b"\x7fELF",
                f"{tree}/{self.symbols}": b"symbols",
                f"{tree}/lib/pypy3.11/os.py": b"",
                f"{tree}/lib/pypy3.11/__pycache__/os.pypy311.pyc": b"",
            },
            links={f"{tree}/bin/pypy3": "pypy3.11"},
        )


def assembled(world: World, job: Job) -> Assembled:
    environment = ready_environment(world.ctx, "translate", job.placement)
    temporary = world.ctx.root / "temporary"
    temporary.mkdir()
    for name in ("source.tar", "products.tar"):
        (world.ctx.root / name).write_bytes(b"")
    translated = Translated(
        source=world.ctx.root / "source.tar", products=world.ctx.root / "products.tar"
    )
    with stage_output(world.ctx) as stage:
        return assemble(world.ctx, job, translated, environment, temporary, stage)


def test_the_tree_is_what_the_packager_made_without_what_it_left_behind(
    world: World, job: Job, package: PyPyPackage
) -> None:
    world.engine.scripts["package"] = Packager(built=[*package.modules], skipped=["_tkinter"])

    tree = assembled(world, job)

    assert [(entry.path, entry.executable, entry.link) for entry in tree.entries] == [
        (f"{STEM}/LICENSE", False, None),
        (f"{STEM}/bin/pypy3", False, "pypy3.11"),
        (f"{STEM}/bin/pypy3.11", True, None),
        (f"{STEM}/lib/pypy3.11/os.py", False, None),
    ]
    assert [entry.path for entry in tree.debug] == [f"{STEM}-debug/bin/pypy3.11.debug"]
    assert tree.modules == tuple(sorted(package.modules))
    assert tree.skipped == ("_tkinter",)


def test_the_packager_finds_everything_that_it_would_fetch(
    world: World, job: Job, package: PyPyPackage
) -> None:
    seen: dict[str, bytes] = {}
    usual = Packager(built=[*package.modules])

    def look(step: ContainerStep) -> Ran:
        seen.update(given_files(replace(step, inputs=step.inputs[2:])))
        return usual(step)

    world.engine.scripts["package"] = look

    assembled(world, job)

    settings = json.loads(seen.pop("build/in/settings.json"))
    pins = world.ctx.config.pins
    libraries = {
        pins[library.pin].filename: pins[library.pin] for library in package.embedded.values()
    }
    assert {name: data.decode() for name, data in seen.items()} == {
        "build/in/run_packager.py": "import json\n",
        f"build/in/wheels/{WHEEL.filename}": WHEEL.filename,
        **{f"build/in/embedded/{name}": name for name in libraries},
    }
    assert (settings["stem"], settings["portable"]) == (STEM, package.portable)
    assert settings["wheels"] is True
    assert settings["without"] == ["_tkinter"]
    assert {item["file"]: item["sha256"] for item in settings["embedded"].values()} == {
        name: pin.sha256 for name, pin in libraries.items()
    }
    assert settings["embedded"]["_ssl"]["commands"][0][3:5] == ["./Configure", "linux-x86_64"]
    assert settings["embedded"]["lzma"]["commands"] == [
        list(command) for command in package.embedded["lzma"].commands
    ]


@pytest.mark.parametrize("wheels", [(), ("pip",)], ids=["none", "one"])
def test_the_packager_is_told_whether_there_are_wheels(
    wheels: tuple[str, ...], world: World, job: Job
) -> None:
    package = make_pypy_package(wheels=wheels)
    job = changed(job, interpreter=changed(job.interpreter, package=package))
    seen: dict[str, bytes] = {}
    usual = Packager(built=[*package.modules])

    def look(step: ContainerStep) -> Ran:
        seen.update(given_files(replace(step, inputs=step.inputs[2:3])))
        return usual(step)

    world.engine.scripts["package"] = look

    assembled(world, job)

    assert json.loads(seen["build/in/settings.json"])["wheels"] is bool(wheels)
    assert len([name for name in seen if name.startswith("build/in/wheels/")]) == len(wheels)


def test_the_packager_runs_with_a_fixed_environment_and_asks_no_index(
    world: World, job: Job, package: PyPyPackage
) -> None:
    world.engine.scripts["package"] = Packager(built=[*package.modules])

    assembled(world, job)

    (step,) = world.engine.steps
    assert step.command == ("pypy", "/build/in/run_packager.py", "/build/in/settings.json")
    assert [path.name for path in step.inputs] == [
        *("source.tar", "products.tar", "in.tar", "ccache.tar")
    ]
    assert step.timeout == package.timeout
    assert (step.environment["PIP_NO_INDEX"], step.environment["PIP_FIND_LINKS"]) == (
        "1",
        "/build/in/wheels",
    )
    assert step.environment["PYTHONHASHSEED"] == "0"
    assert step.environment["SOURCE_DATE_EPOCH"] == str(job.revision.epoch)


def test_what_the_compiler_cache_learnt_is_kept(
    world: World, job: Job, package: PyPyPackage
) -> None:
    world.engine.scripts["package"] = Packager(built=[*package.modules])

    assembled(world, job)

    kept = world.ctx.work.path("cache", "ccache", "linux-x86_64", "released", "0", "object")
    assert kept.read_bytes() == b"compiled"


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        pytest.param(
            {"built": ["_ssl"], "failed": ["lzma"]},
            "extension modules that must be there were not built: lzma. The compiler",
            id="failed",
        ),
        pytest.param(
            {"built": ["_ssl"]},
            "extension modules that must be there were not built: lzma. The compiler",
            id="missing",
        ),
        pytest.param(
            {"built": ["_ssl"], "skipped": ["lzma"]},
            "extension modules that must be there were not built: lzma. The compiler",
            id="skipped",
        ),
        pytest.param(
            {"built": ["_ssl", "lzma"], "failed": ["_other"]},
            "extension modules that must be there were not built: _other. The compiler",
            id="failed and not asked for",
        ),
        pytest.param(
            {"built": ["_ssl", "lzma", "_new"]},
            "extension modules were built that no gate knows: _new.",
            id="unknown",
        ),
    ],
)
def test_other_modules_than_those_that_are_wanted_stop_the_release(
    change: Mapping[str, Sequence[str]], expected: str, world: World, job: Job
) -> None:
    modules = {"_ssl": ("ssl",), "lzma": ("lzma",)}
    package = make_pypy_package(modules=modules, embedded={})
    job = changed(job, interpreter=changed(job.interpreter, package=package))
    world.engine.scripts["package"] = Packager(
        built=change["built"], skipped=change.get("skipped", ()), failed=change.get("failed", ())
    )

    with pytest.raises(PackageError) as caught:
        assembled(world, job)

    assert str(caught.value).startswith(expected)


def test_modules_that_failed_and_modules_that_are_missing_are_told_at_once(
    world: World, job: Job
) -> None:
    modules = {name: (name,) for name in ("_ssl", "gdbm", "lzma", "syslog")}
    package = make_pypy_package(modules=modules, embedded={})
    job = changed(job, interpreter=changed(job.interpreter, package=package))
    world.engine.scripts["package"] = Packager(built=["_ssl"], failed=["lzma", "_other"])

    with pytest.raises(
        PackageError, match="were not built: _other, gdbm, lzma, syslog\\. The compiler"
    ):
        assembled(world, job)


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(None, id="missing"),
        pytest.param(b"", id="empty"),
        pytest.param(b"[]", id="a list"),
        pytest.param(b'{"built": []}', id="a part"),
        pytest.param(b'{"built": [], "skipped": [], "failed": 1}', id="a number"),
        pytest.param(b"\xff", id="not text"),
    ],
)
def test_a_packager_that_does_not_say_what_it_built_is_a_failure(
    content: bytes | None, world: World, job: Job
) -> None:
    files: dict[str, bytes | Path] = {f"tree/{STEM}/LICENSE": b""}
    if content is not None:
        files["modules.json"] = content
    world.engine.scripts["package"] = lambda _step: Ran(files=files)

    with pytest.raises(PackageError, match=r"modules\.json: cannot be read"):
        assembled(world, job)


def test_a_packager_that_makes_another_directory_is_refused(
    world: World, job: Job, package: PyPyPackage
) -> None:
    world.engine.scripts["package"] = Packager(built=[*package.modules], top="pypy-nightly")

    with pytest.raises(PackageError, match=f"reported success, but wrote no directory {STEM}"):
        assembled(world, job)


def test_a_packager_that_leaves_no_debug_symbols_is_refused(
    world: World, job: Job, package: PyPyPackage
) -> None:
    world.engine.scripts["package"] = Packager(built=[*package.modules], symbols="bin/pypy3.11.sym")

    with pytest.raises(PackageError, match="the packager left no debug symbols; upstream splits"):
        assembled(world, job)


def test_another_kind_of_package_is_not_assembled_here(tmp_path: Path) -> None:
    toy = make_world(tmp_path / "project")

    with pytest.raises(TypeError, match="toy-linux-x86_64: its package is of kind plain"):
        assembled(toy, make_job(toy.ctx))


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A tree as the packager leaves it."""
    names = (
        *("bin/pypy3.11", "bin/pypy3.11.debug", "bin/libpypy3.11-c.so.debug"),
        *("lib/pypy3.11/os.py", "lib/pypy3.11/os.py.orig", "lib/pypy3.11/os.py~"),
        *("lib/pypy3.11/_ssl.o", "lib/pypy3.11/old.pyc", "lib/pypy3.11/debugger.py"),
        *("lib/pypy3.11/__pycache__/os.py", "lib/pypy3.11/.pytest_cache/README.md"),
    )
    for name in names:
        write_text(tmp_path / "tree" / name, name)
    (tmp_path / "tree" / "bin" / "pypy3.11.debug").chmod(0o755)
    return tmp_path / "tree"


def test_symbols_and_left_overs_are_not_in_the_tree(tree: Path) -> None:
    assert [entry.path for entry in tree_entries(tree, "t")] == [
        *("t/bin/pypy3.11", "t/lib/pypy3.11/debugger.py", "t/lib/pypy3.11/os.py")
    ]


def test_symbols_are_where_a_debugger_finds_them_and_no_programs(tree: Path) -> None:
    entries = list(debug_entries(tree, "t"))

    assert [(entry.path, entry.executable) for entry in entries] == [
        ("t-debug/bin/libpypy3.11-c.so.debug", False),
        ("t-debug/bin/pypy3.11.debug", False),
    ]


def test_every_pin_and_the_packager_s_driver_are_inputs(
    world: World, job: Job, package: PyPyPackage
) -> None:
    before = given_inputs(world.ctx, job)
    replace_text(world.ctx.root / "dockerfiles" / "steps" / "run_packager.py", "json", "os")

    after = given_inputs(world.ctx, job)

    digests = {name: world.ctx.config.pins[name].sha256 for name in package.pins}
    script = hashlib.sha256(b"import json\n").hexdigest()
    fixed = {"steps/run_packager.py": script, "{openssl}": "linux-x86_64"}
    assert before == {**fixed, **digests, **VARIABLES}
    assert after != before


def test_openssl_s_name_of_the_platform_is_an_input(world: World, job: Job) -> None:
    other = changed(job, platform=changed(job.platform, openssl="linux-x86_64-clang"))

    assert given_inputs(world.ctx, other) != given_inputs(world.ctx, job)


def test_what_the_compiler_and_the_linker_are_told_decides_the_archives(
    world: World, job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = given_inputs(world.ctx, job)

    monkeypatch.setitem(VARIABLES, "LDFLAGS", "-Wl,-z,now")

    assert given_inputs(world.ctx, job) != before


def test_in_a_cross_translation_the_packager_compiles_for_the_target(
    world: World, job: Job
) -> None:
    platform = make_platform("linux-aarch64")
    cross = changed(job, platform=platform, mode="cross")

    variables = packager_variables(cross)

    assert variables == {
        **VARIABLES,
        "AR": "aarch64-linux-gnu-ar",
        "CC": "aarch64-linux-gnu-gcc",
        "LDSHARED": "aarch64-linux-gnu-gcc -shared",
        "PATH": "/usr/local/cross:/usr/lib/ccache:/usr/local/bin:/usr/bin:/bin",
        "RANLIB": "aarch64-linux-gnu-ranlib",
        "host_alias": "aarch64-linux-gnu",
    }
    assert given_inputs(world.ctx, cross).items() >= variables.items()


@pytest.mark.parametrize("mode", ["native", "emulated"])
def test_otherwise_the_packager_finds_the_compiler_itself(mode: str, job: Job) -> None:
    platform = make_platform("linux-aarch64")

    assert packager_variables(changed(job, platform=platform, mode=mode)) == VARIABLES


@pytest.mark.parametrize(
    ("mode", "host", "factor"),
    [
        ("native", "linux-aarch64", 1),
        ("cross", "linux-x86_64", 20),
        ("emulated", "linux-aarch64", 20),
    ],
)
def test_an_interpreter_that_is_emulated_may_build_its_modules_for_longer(
    mode: str, host: str, factor: int, *, world: World, job: Job, package: PyPyPackage
) -> None:
    world.engine.scripts["package"] = Packager(built=[*package.modules], skipped=["_tkinter"])
    where = {"platform": make_platform("linux-aarch64"), "host": make_platform(host)}
    emulated = job.model_copy(update={**where, "mode": Mode(mode)})
    world.engine.machine = str(make_platform(host).debian_arch)

    assembled(world, emulated)

    (step,) = world.engine.steps
    assert step.timeout == factor * package.timeout
    assert packager_variables(emulated).items() <= step.environment.items()
