"""The tree of a package of kind ``pypy``: upstream's packager makes it, and here it is normalised.

The packager builds the cffi modules with the fresh interpreter, bundles libraries, splits off the
debug symbols and copies the standard library together: the layout that every client expects.
"""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Final

from pydantic import TypeAdapter, ValidationError

from pipeline.effects.archives import Entry, entries_of, write_archive
from pipeline.effects.context import Context, StageOutput
from pipeline.effects.files import sha256_of
from pipeline.errors import PackageError
from pipeline.model import naming
from pipeline.model.base import Model, pretty_json
from pipeline.model.configs import PyPyPackage
from pipeline.model.records import Environment
from pipeline.package.assembly import (
    Assembled,
    Assembly,
    Translated,
    assembly_log,
    run_assembly,
)
from pipeline.plan import Job
from pipeline.source.runner import BUILDER
from pipeline.translate.command import FIXED_VARIABLES, SEARCH_PATH
from pipeline.translate.compiler_cache import compiler_cache_archive, keep_compiler_cache

PACKAGER: Final = "steps/run_packager.py"
WHEELS: Final = "/build/in/wheels"
CROSS_TOOLS: Final = "/usr/local/cross"
MODULES_NAME: Final = "modules.json"
DEBUG_SUFFIX: Final = ".debug"
# What the packager or the build of the modules leaves behind; nothing may depend on it.
LEFT_BEHIND: Final = (".pyc", ".o", ".orig", "~")
LEFT_BEHIND_DIRECTORIES: Final = frozenset({"__pycache__", ".pytest_cache"})
# An assertion holds the name of its file, and that would name the build's paths.
COMPILER_FLAGS: Final = "-fmacro-prefix-map=/build/source=."
# Symbols of the libraries built into modules stay out of reach of other libraries in the process,
# and the linker is told what distributions tell it to harden what it links.
LINKER_FLAGS: Final = "-Wl,--exclude-libs,ALL -Wl,-z,relro,-z,now"


VARIABLES: Final = {
    **FIXED_VARIABLES,
    "CFLAGS": COMPILER_FLAGS,
    "LDFLAGS": LINKER_FLAGS,
    "PIP_DISABLE_PIP_VERSION_CHECK": "1",
    "PIP_FIND_LINKS": WHEELS,
    "PIP_NO_INDEX": "1",
    "PYTHONHASHSEED": "0",
    "PYTHONUNBUFFERED": "1",
}


class BuiltModules(Model):
    """What the packager did with each extension module, by its names for them."""

    built: tuple[str, ...]
    skipped: tuple[str, ...]
    failed: tuple[str, ...]


def packager_variables(job: Job) -> dict[str, str]:
    """Return the packager's environment.

    In a cross translation the fresh interpreter runs under QEMU, and the compiler that it starts is
    the cross compiler; without ``CC`` its modules would come out for the host, under the target's
    name. ``host_alias`` is for autoconf. The packager itself finds the target's tools first.
    """
    prefix = job.tool_prefix
    if not prefix:
        return VARIABLES
    return {
        **VARIABLES,
        "AR": f"{prefix}ar",
        "CC": f"{prefix}gcc",
        "LDSHARED": f"{prefix}gcc -shared",
        "PATH": f"{CROSS_TOOLS}:{SEARCH_PATH}",
        "RANLIB": f"{prefix}ranlib",
        "host_alias": prefix.removesuffix("-"),
    }


def given_inputs(ctx: Context, job: Job) -> dict[str, str]:
    """Return what the packager is given beside the translation: files by digest, and variables."""
    pins = {name: ctx.config.pins[name].sha256 for name in _config(job).pins}
    fixed = {PACKAGER: sha256_of(_packager(ctx)), "{openssl}": job.platform.openssl}
    return {**fixed, **pins, **packager_variables(job)}


def assemble(
    ctx: Context,
    job: Job,
    translated: Translated,
    environment: Environment,
    temporary: Path,
    stage: StageOutput,
) -> Assembled:
    """Run the packager and normalise its tree.

    Raises:
        PackageError: it failed, or built less than the config says it must.
        DownloadError, DigestMismatchError: a pinned file cannot be had.
    """
    package = _config(job)
    inputs = temporary / "in.tar"
    entries = list(_inputs(ctx, job, package, stage))
    write_archive(inputs, entries, epoch=job.revision.epoch, owner=BUILDER)
    cache = compiler_cache_archive(ctx, job, temporary)
    assembly = Assembly(
        command=("pypy", "/build/in/run_packager.py", "/build/in/settings.json"),
        inputs=(translated.source, translated.products, inputs, cache),
        timeout=package.timeout * job.run_factor,
        environment=packager_variables(job),
    )
    output = run_assembly(ctx, job, assembly, environment, temporary, stage)
    keep_compiler_cache(ctx, job, output)
    modules = _read_modules(output / MODULES_NAME)
    _check_modules(package, modules, assembly_log(ctx, job, stage))
    tree = output / "tree" / job.stem
    if not tree.is_dir():
        msg = f"the packager reported success, but wrote no directory {job.stem}."
        raise PackageError(msg)
    debug = tuple(debug_entries(tree, job.stem))
    if not debug:
        msg = "the packager left no debug symbols; upstream splits them off under Python 2.7 only."
        raise PackageError(msg)
    return Assembled(
        entries=tuple(tree_entries(tree, job.stem)),
        debug=debug,
        modules=tuple(sorted(modules.built)),
        skipped=tuple(sorted(modules.skipped)),
    )


def tree_entries(tree: Path, stem: str) -> Iterator[Entry]:
    """Yield what is packed of the packager's *tree*: all but debug symbols and left-overs."""
    return (
        entry
        for entry in entries_of(tree, stem)
        if not entry.path.endswith((DEBUG_SUFFIX, *LEFT_BEHIND))
        and LEFT_BEHIND_DIRECTORIES.isdisjoint(entry.path.split("/"))
    )


def debug_entries(tree: Path, stem: str) -> Iterator[Entry]:
    """Yield the debug symbols, at the same places below their own top directory.

    A debugger finds them when they are unpacked over the installed tree, beside their programs.
    """
    top = f"{stem}{naming.DEBUG_INFIX}"
    return (
        replace(entry, path=f"{top}{entry.path.removeprefix(stem)}", executable=False)
        for entry in entries_of(tree, stem)
        if entry.path.endswith(DEBUG_SUFFIX)
    )


def _inputs(ctx: Context, job: Job, package: PyPyPackage, stage: StageOutput) -> Iterator[Entry]:
    """Yield everything that the packager would otherwise fetch, and what it is told."""
    settings = {
        "stem": job.stem,
        "portable": package.portable,
        "without": package.without,
        "wheels": bool(package.wheels),
        "embedded": {
            module: {
                "file": ctx.config.pins[library.pin].filename,
                "sha256": ctx.config.pins[library.pin].sha256,
                "commands": [
                    [word.replace("{openssl}", job.platform.openssl) for word in command]
                    for command in library.commands
                ],
            }
            for module, library in package.embedded.items()
        },
    }
    yield Entry(path="build/in/settings.json", content=pretty_json(settings))
    yield Entry(path="build/in/run_packager.py", content=_packager(ctx))
    yield Entry(path=WHEELS.removeprefix("/"), directory=True)
    yield Entry(path="build/out/tree", directory=True)
    for library in package.embedded.values():
        path = _fetched(ctx, library.pin, stage)
        yield Entry(path=f"build/in/embedded/{path.name}", content=path)
    for name in package.wheels:
        path = _fetched(ctx, name, stage)
        yield Entry(path=f"{WHEELS.removeprefix('/')}/{path.name}", content=path)


def _fetched(ctx: Context, name: str, stage: StageOutput) -> Path:
    pin = ctx.config.pins[name]
    stage.step.phase(f"fetch {name} {pin.version}")
    directory = ctx.work.path("cache", "downloads")
    return ctx.http.download(pin, directory, lambda count: stage.step.advance(count, pin.size))


def _read_modules(path: Path) -> BuiltModules:
    try:
        data = json.loads(path.read_bytes())
        return TypeAdapter(BuiltModules).validate_python(data)
    except (OSError, ValueError, ValidationError) as error:
        msg = f"{MODULES_NAME}: cannot be read: {error}"
        raise PackageError(msg) from error


def _check_modules(package: PyPyPackage, modules: BuiltModules, log: Path) -> None:
    """A module that is expected and not there stops the release here."""
    missing = {*(set(package.modules) - set(modules.built)), *modules.failed}
    if missing:
        msg = (
            f"extension modules that must be there were not built: {', '.join(sorted(missing))}. "
            f"The compiler's messages are in {log}; a module that is left out on purpose belongs "
            "into package.without."
        )
        raise PackageError(msg)
    if unknown := sorted(set(modules.built) - set(package.modules)):
        msg = (
            f"extension modules were built that no gate knows: {', '.join(unknown)}. "
            "Add them to package.modules."
        )
        raise PackageError(msg)


def _packager(ctx: Context) -> Path:
    return ctx.root / "dockerfiles" / PACKAGER


def _config(job: Job) -> PyPyPackage:
    package = job.interpreter.package
    if not isinstance(package, PyPyPackage):
        msg = f"{job.identifier}: its package is of kind {package.kind}"
        raise TypeError(msg)
    return package
