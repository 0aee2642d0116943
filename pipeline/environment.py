"""Makes the images that steps run in, and says what is in them.

An image is found by a tag made from everything it is built from, so it is built once per engine.
Its *digest* is made from what it holds (base, Dockerfile, every package with its version): the
engine's own image id changes with each build, since layers carry the time they were made.
"""

import hashlib
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from pipeline.effects.archives import Entry, write_archive
from pipeline.effects.console import Step
from pipeline.effects.context import Context
from pipeline.effects.engine import WORKER_IMAGE
from pipeline.effects.files import write_atomically
from pipeline.effects.process import Tool
from pipeline.errors import CommandError, ImageError
from pipeline.model.base import canonical_json, content_key, pretty_json
from pipeline.model.bases import base_for
from pipeline.model.configs import Base, BootstrapBase, RegistryBase
from pipeline.model.platforms import OciNames, Placement, Platform
from pipeline.model.records import Environment

VERSION: Final = 1
REPOSITORY: Final = "rpython-pipeline"
WORKER: Final = "worker"
BASE_DOCKERFILE: Final = b'FROM scratch\nADD base.tar /\nCMD ["/bin/sh"]\n'
BOOTSTRAP_TIMEOUT: Final = 3600
# mmdebstrap gives every file this time, so that the same packages make the same tar file.
BOOTSTRAP_EPOCH: Final = "1"
MERGED_USR_HOOKS: Final = "/usr/share/mmdebstrap/hooks/merged-usr"
MMDEBSTRAP: Final = Tool(
    program="mmdebstrap",
    purpose="make a base image from Debian's packages",
    package="mmdebstrap",
)


def recorded_environment(ctx: Context, name: str, placement: Placement) -> Environment | None:
    """Return what is known of an environment without asking the engine, or None."""
    if not ctx.engine.contained:
        return _worker(ctx, name)
    try:
        return Environment.model_validate_json(_record_path(ctx, name, placement).read_bytes())
    except FileNotFoundError:
        return None


def ready_environment(ctx: Context, name: str, placement: Placement) -> Environment:
    """Return an environment whose image the engine holds, made if need be.

    Raises:
        ImageError: it cannot be bootstrapped, pulled or built.
        EngineUnavailableError: no engine answers.
    """
    recorded = recorded_environment(ctx, name, placement)
    if recorded is not None and ctx.engine.has_image(recorded.image_id):
        return recorded
    if not ctx.engine.contained:
        return _worker(ctx, name)
    with ctx.console.step(f"environment {name} for {_shown(placement)}") as step:
        image_id = _image(ctx, name, placement, step)
        environment = _described(ctx, name, placement, image_id)
    record_environment(ctx, placement, environment)
    return environment


def record_environment(ctx: Context, placement: Placement, environment: Environment) -> None:
    """Remember an environment whose image the engine holds."""
    path = _record_path(ctx, environment.name, placement)
    write_atomically(path, pretty_json(environment))


def recipe_key(ctx: Context, name: str, placement: Placement) -> str:
    """Return the digest of everything that an environment's image is built from."""
    return content_key(name, VERSION, **environment_recipe(ctx, name, placement))


def _worker(ctx: Context, name: str) -> Environment:
    """Return what the worker itself is, where there are no containers: its system and tools."""
    described = ctx.engine.describe()
    digest = hashlib.sha256(canonical_json(described)).hexdigest()
    return Environment(name=name, digest=digest, image_id=WORKER_IMAGE, packages=described)


def _shown(placement: Placement) -> str:
    host, target = placement.host.identifier, placement.target
    return host if target is None else f"{target.identifier} on {host}"


def environment_recipe(ctx: Context, name: str, placement: Placement) -> dict[str, object]:
    """Return everything that an environment's image is built from, as JSON data."""
    dockerfile = ctx.config.environments[name].dockerfile
    _, base = _base(ctx, name, placement)
    return {
        "version": VERSION,
        "base": _base_recipe(base),
        "dockerfile": _dockerfile(ctx, dockerfile).decode() if dockerfile else None,
        "arguments": _arguments(ctx, name, placement),
        "platform": str(placement.host.oci),
    }


def _base_recipe(base: Base) -> dict[str, object]:
    """Return what an image is made from; which platforms the config allows for it is not in it."""
    return base.model_dump(mode="json", exclude_none=True, exclude={"architectures", "libc"})


def _base(ctx: Context, name: str, placement: Placement) -> tuple[str, Base]:
    found = base_for(ctx.config, name, placement)
    if found is None:
        bases = ", ".join(ctx.config.environments[name].bases)
        msg = (
            f"environment {name}: none of its bases ({bases}) has {_shown(placement)}. Add one to "
            "environments.toml, or take the platform out of the interpreter's config."
        )
        raise ImageError(msg)
    return found


def _arguments(ctx: Context, name: str, placement: Placement) -> dict[str, str]:
    """Return what the environment's Dockerfile is told beside its base."""
    configured, target = ctx.config.environments[name].arguments, placement.target
    if target is None or target.debian_arch is None or target.cross is None:
        return configured
    told = {"TARGET_ARCH": target.debian_arch, "PREFIX": target.cross.prefix}
    return {**configured, **told, "LOADER": target.loader or ""}


def _record_path(ctx: Context, name: str, placement: Placement) -> Path:
    return ctx.work.path("cache", "environments", f"{recipe_key(ctx, name, placement)}.json")


def _dockerfile(ctx: Context, name: str) -> bytes:
    path = ctx.root / "dockerfiles" / name
    try:
        return path.read_bytes()
    except FileNotFoundError as error:
        msg = f"{path}: no such file, but environments.toml names it."
        raise ImageError(msg) from error


def _image(ctx: Context, name: str, placement: Placement, step: Step) -> str:
    """Return the id of the environment's image, built if this engine has none."""
    host, dockerfile = placement.host, ctx.config.environments[name].dockerfile
    base_name, base = _base(ctx, name, placement)
    if dockerfile is None:
        return _base_image(ctx, base_name, base, host, step)
    tag = _tag(name, host, environment_recipe(ctx, name, placement))
    if (found := ctx.engine.image_id(tag)) is not None:
        return found
    base_id = _base_image(ctx, base_name, base, host, step)
    step.phase(f"build {dockerfile}")
    files = [Entry(path="Dockerfile", content=_dockerfile(ctx, dockerfile))]
    return _build(ctx, files, tag, {"BASE": base_id, **_arguments(ctx, name, placement)}, host)


def _base_image(ctx: Context, name: str, base: Base, platform: Platform, step: Step) -> str:
    if isinstance(base, RegistryBase):
        step.phase(f"pull {base.reference}")
        image_id = ctx.engine.image_id(base.reference) or ctx.engine.pull(
            base.reference, oci_platform=str(platform.oci), on_line=step.phase
        )
    else:
        recipe = {"version": VERSION, "base": _base_recipe(base)}
        tag = _tag(f"base-{name}", platform, recipe)
        image_id = ctx.engine.image_id(tag) or _bootstrap(ctx, base, tag, platform, step)
    machine = ctx.engine.image_machine(image_id)
    if machine != _oci(platform).architecture:
        msg = (
            f"base {name}: the image is for {machine}, but {platform.identifier} needs "
            f"{_oci(platform).architecture}. Name a digest of that architecture in "
            "environments.toml."
        )
        raise ImageError(msg)
    return image_id


def _bootstrap(ctx: Context, base: BootstrapBase, tag: str, platform: Platform, step: Step) -> str:
    with tempfile.TemporaryDirectory(prefix="rpp-") as directory:
        tar = Path(directory, "base.tar")
        _mmdebstrap(ctx, base, platform, tar, step)
        step.phase("import the base image")
        files = [
            Entry(path="Dockerfile", content=BASE_DOCKERFILE),
            Entry(path="base.tar", content=tar),
        ]
        return _build(ctx, files, tag, {}, platform)


def _mmdebstrap(
    ctx: Context, base: BootstrapBase, platform: Platform, tar: Path, step: Step
) -> None:
    """Write a minimal Debian to *tar*; the first mirror that has the suite serves it."""
    failures = []
    for mirror in base.mirrors:
        step.phase(f"bootstrap {base.suite} from {mirror}")
        options = [
            "--variant=minbase",
            f"--architectures={platform.debian_arch}",
            f"--components={','.join(base.components)}",
            *([f"--include={','.join(base.include)}"] if base.include else []),
            *_keyring(ctx, base),
            *_left_out(base),
        ]
        try:
            ctx.process.run(
                ["mmdebstrap", *options, base.suite, tar, mirror, *(base.sources or ())],
                tool=MMDEBSTRAP,
                timeout=BOOTSTRAP_TIMEOUT,
                environment={"SOURCE_DATE_EPOCH": BOOTSTRAP_EPOCH},
            )
        except CommandError as error:
            failures.append(f"{mirror}: {error}")
            tar.unlink(missing_ok=True)
        else:
            return
    tried = "\n".join(failures)
    msg = (
        f"suite {base.suite} cannot be bootstrapped for {platform.debian_arch}. Check the network "
        f"and the mirrors in environments.toml; on Ubuntu install debian-archive-keyring.\n{tried}"
    )
    raise ImageError(msg)


def _left_out(base: BootstrapBase) -> Iterator[str]:
    """Yield options for what is left out; mmdebstrap configures the image's dpkg so, too."""
    if base.merged_usr:
        yield f"--hook-dir={MERGED_USR_HOOKS}"
    for pattern in base.path_exclude or ():
        yield f"--dpkgopt=path-exclude={pattern}"
    for pattern in base.path_include or ():
        yield f"--dpkgopt=path-include={pattern}"


def _keyring(ctx: Context, base: BootstrapBase) -> list[str]:
    if base.keyring is None:
        return []
    path = ctx.root / "dockerfiles" / "keyrings" / base.keyring
    if not path.is_file():
        msg = f"{path}: no such file, but environments.toml names it as a keyring."
        raise ImageError(msg)
    return [f"--keyring={path}"]


def _build(
    ctx: Context, files: list[Entry], tag: str, arguments: dict[str, str], platform: Platform
) -> str:
    log: list[str] = []
    with tempfile.TemporaryDirectory(prefix="rpp-") as directory:
        context = Path(directory, "context.tar")
        write_archive(context, files, epoch=int(BOOTSTRAP_EPOCH))
        return ctx.engine.build(
            context,
            tag=tag,
            arguments=arguments,
            oci_platform=str(platform.oci),
            on_line=log.append,
        )


def _tag(name: str, platform: Platform, recipe: dict[str, object]) -> str:
    digest = hashlib.sha256(canonical_json(recipe)).hexdigest()
    return f"{REPOSITORY}/{name}:{digest[:12]}-{_oci(platform).architecture}"


def _oci(platform: Platform) -> OciNames:
    if platform.oci is None:
        msg = f"{platform.identifier}: there are no containers of {platform.os}."
        raise ImageError(msg)
    return platform.oci


def _described(ctx: Context, name: str, placement: Placement, image_id: str) -> Environment:
    """Return the environment's record; its digest is of the recipe and of every package."""
    query = ("dpkg-query", "--show", "--showformat", "${Package} ${Version} ${Architecture}\\n")
    with ctx.engine.session(image_id) as session:
        listed = session.call(query)
    packages = tuple(sorted(listed.text.splitlines()))
    if listed.status != 0 or not packages:
        msg = f"environment {name}: its packages cannot be listed: {listed.last_lines}"
        raise ImageError(msg)
    recipe = environment_recipe(ctx, name, placement)
    contents = {"recipe": json.loads(canonical_json(recipe)), "packages": packages}
    digest = hashlib.sha256(canonical_json(contents)).hexdigest()
    return Environment(name=name, digest=digest, image_id=image_id, packages=packages)
