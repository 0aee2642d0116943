"""Makes the images that steps run in, and says what is in them.

An image is found by a tag made from everything it is built from, so it is built once per engine.
Its *digest* is made from what it holds (base, Dockerfile, every package with its version): the
engine's own image id changes with each build, since layers carry the time they were made.
"""

import hashlib
import json
import tempfile
from pathlib import Path
from typing import Final

from pipeline.config import known
from pipeline.effects.archives import Entry, write_archive
from pipeline.effects.console import Step
from pipeline.effects.context import Context
from pipeline.effects.files import write_atomically
from pipeline.effects.process import Tool
from pipeline.errors import CommandError, ImageError
from pipeline.model.base import canonical_json, content_key, pretty_json
from pipeline.model.configs import BootstrapBase, RegistryBase
from pipeline.model.platforms import Platform
from pipeline.model.records import Environment

VERSION: Final = 1
REPOSITORY: Final = "rpython-pipeline"
BASE_DOCKERFILE: Final = b'FROM scratch\nADD base.tar /\nCMD ["/bin/sh"]\n'
BOOTSTRAP_TIMEOUT: Final = 3600
# mmdebstrap gives every file this time, so that the same packages make the same tar file.
BOOTSTRAP_EPOCH: Final = "1"
MMDEBSTRAP: Final = Tool(
    program="mmdebstrap",
    purpose="make a base image from Debian's packages",
    package="mmdebstrap",
)


def recorded_environment(ctx: Context, name: str, platform: Platform) -> Environment | None:
    """Return what is known of an environment without asking the engine, or None."""
    try:
        return Environment.model_validate_json(_record_path(ctx, name, platform).read_bytes())
    except FileNotFoundError:
        return None


def ready_environment(ctx: Context, name: str, platform: Platform) -> Environment:
    """Return an environment whose image the engine holds, made if need be.

    Raises:
        ImageError: it cannot be bootstrapped, pulled or built.
        EngineUnavailableError: no engine answers.
    """
    recorded = recorded_environment(ctx, name, platform)
    if recorded is not None and ctx.engine.has_image(recorded.image_id):
        return recorded
    with ctx.console.step(f"environment {name} for {platform.identifier}") as step:
        image_id = _image(ctx, name, platform, step)
        environment = _described(ctx, name, platform, image_id)
    write_atomically(_record_path(ctx, name, platform), pretty_json(environment))
    return environment


def environment_recipe(ctx: Context, name: str, platform: Platform) -> dict[str, object]:
    """Return everything that an environment's image is built from, as JSON data."""
    config = ctx.config.environments[name]
    base = known("base", config.base, ctx.config.bases, where="environments.toml")
    return {
        "version": VERSION,
        "base": base.model_dump(mode="json", exclude_none=True),
        "dockerfile": _dockerfile(ctx, config.dockerfile).decode() if config.dockerfile else None,
        "platform": str(platform.oci),
    }


def _record_path(ctx: Context, name: str, platform: Platform) -> Path:
    recipe = environment_recipe(ctx, name, platform)
    return ctx.work.path("cache", "environments", f"{content_key(name, VERSION, **recipe)}.json")


def _dockerfile(ctx: Context, name: str) -> bytes:
    path = ctx.root / "dockerfiles" / name
    try:
        return path.read_bytes()
    except FileNotFoundError as error:
        msg = f"{path}: no such file, but environments.toml names it."
        raise ImageError(msg) from error


def _image(ctx: Context, name: str, platform: Platform, step: Step) -> str:
    """Return the id of the environment's image, built if this engine has none."""
    config = ctx.config.environments[name]
    if config.dockerfile is None:
        return _base_image(ctx, config.base, platform, step)
    tag = _tag(name, platform, environment_recipe(ctx, name, platform))
    if (found := ctx.engine.image_id(tag)) is not None:
        return found
    base_id = _base_image(ctx, config.base, platform, step)
    step.phase(f"build {config.dockerfile}")
    files = [Entry(path="Dockerfile", content=_dockerfile(ctx, config.dockerfile))]
    return _build(ctx, files, tag, {"BASE": base_id}, platform)


def _base_image(ctx: Context, name: str, platform: Platform, step: Step) -> str:
    base = ctx.config.bases[name]
    if isinstance(base, RegistryBase):
        step.phase(f"pull {base.reference}")
        image_id = ctx.engine.image_id(base.reference) or ctx.engine.pull(
            base.reference, oci_platform=str(platform.oci), on_line=step.phase
        )
    else:
        recipe = {"version": VERSION, "base": base.model_dump(mode="json", exclude_none=True)}
        tag = _tag(f"base-{name}", platform, recipe)
        image_id = ctx.engine.image_id(tag) or _bootstrap(ctx, base, tag, platform, step)
    machine = ctx.engine.image_machine(image_id)
    if machine != platform.oci.architecture:
        msg = (
            f"base {name}: the image is for {machine}, but {platform.identifier} needs "
            f"{platform.oci.architecture}. Name a digest of that architecture in environments.toml."
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
        ]
        try:
            ctx.process.run(
                ["mmdebstrap", *options, base.suite, tar, mirror],
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
    return f"{REPOSITORY}/{name}:{digest[:12]}-{platform.oci.architecture}"


def _described(ctx: Context, name: str, platform: Platform, image_id: str) -> Environment:
    """Return the environment's record; its digest is of the recipe and of every package."""
    query = ("dpkg-query", "--show", "--showformat", "${Package} ${Version} ${Architecture}\\n")
    with ctx.engine.session(image_id) as session:
        listed = session.call(query)
    packages = tuple(sorted(listed.text.splitlines()))
    if listed.status != 0 or not packages:
        msg = f"environment {name}: its packages cannot be listed: {listed.last_lines}"
        raise ImageError(msg)
    recipe = environment_recipe(ctx, name, platform)
    contents = {"recipe": json.loads(canonical_json(recipe)), "packages": packages}
    digest = hashlib.sha256(canonical_json(contents)).hexdigest()
    return Environment(name=name, digest=digest, image_id=image_id, packages=packages)
