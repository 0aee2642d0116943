"""Reads ``translation_configs/`` into a :class:`Config`, or says which key of which file is wrong.

This is the one place where configuration is parsed; everything behind it has types.
"""

import json
import posixpath
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any, Final, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from pipeline.errors import ConfigError, UnknownNameError, suggestion
from pipeline.model import homebrew, naming
from pipeline.model.base import pretty_json
from pipeline.model.bases import environments_for
from pipeline.model.configs import (
    ChannelConfig,
    ChannelsFile,
    Config,
    EnvironmentsFile,
    InterpreterConfig,
    PinsFile,
    PlatformsFile,
    PyPyPackage,
    ReleaseBootstrap,
    StoreConfig,
    TranslationConfig,
)
from pipeline.model.debian import DistributionsFile
from pipeline.model.farm import FarmConfig
from pipeline.model.homebrew import TapConfig
from pipeline.model.hosted import HostedConfig
from pipeline.model.platforms import Platform

M = TypeVar("M", bound=BaseModel)

TABLES: Final[dict[str, type[BaseModel]]] = {
    "pins": PinsFile,
    "environments": EnvironmentsFile,
    "platforms": PlatformsFile,
    "channels": ChannelsFile,
    "distributions": DistributionsFile,
}
"""The files that every command reads."""

ELSEWHERE: Final[dict[str, type[BaseModel]]] = {"farm": FarmConfig, "hosted": HostedConfig}
"""Files that only work on other machines needs; each other ``*.toml`` is one interpreter."""

WITHOUT_CPYEXT: Final = "--withoutmod-cpyext"
CPYEXT_COLLECTOR: Final = "incminimark"

SCHEMAS: Final[dict[str, type[BaseModel]]] = {
    **TABLES,
    **ELSEWHERE,
    "interpreter": InterpreterConfig,
}


def load_config(root: Path) -> Config:
    """Read and check every file in *root*.

    Raises:
        ConfigError: a file is missing, is not TOML, or does not fit its schema.
        UnknownNameError: a file names something that another file should define.
    """
    config = Config(
        root=PurePosixPath(root.as_posix()),
        platforms=_read(root / "platforms.toml", PlatformsFile).platforms,
        bases=(environments := _read(root / "environments.toml", EnvironmentsFile)).bases,
        environments=environments.environments,
        pins=_read(root / "pins.toml", PinsFile).pins,
        vendor=(distributions := _read(root / "distributions.toml", DistributionsFile)).vendor,
        suites=distributions.suites,
        interpreters=_read_interpreters(root),
        channels=_read(root / "channels.toml", ChannelsFile),
    )
    _check_references(config)
    return config


def load_farm(root: Path) -> FarmConfig:
    """Read ``farm.toml`` in *root*; what builds without a farm does not need it.

    Raises:
        ConfigError: it is missing, is not TOML, or does not fit its schema.
    """
    return _read(root / "farm.toml", FarmConfig)


def load_hosted(root: Path) -> HostedConfig:
    """Read ``hosted.toml`` in *root*; what builds without hosted CI does not need it.

    Raises:
        ConfigError: it is missing, is not TOML, or does not fit its schema.
    """
    return _read(root / "hosted.toml", HostedConfig)


def json_schemas() -> dict[str, bytes]:
    """Return the JSON Schema of every kind of file, by file name."""
    return {
        f"{name}.schema.json": pretty_json(model.model_json_schema(by_alias=True))
        for name, model in SCHEMAS.items()
    }


def _read_interpreters(root: Path) -> dict[str, InterpreterConfig]:
    found = {}
    for path in sorted(root.glob("*.toml")):
        if path.stem in TABLES or path.stem in ELSEWHERE:
            continue
        interpreter = _read(path, InterpreterConfig)
        if interpreter.interpreter != path.stem:
            msg = (
                f"{path}: key interpreter: is {interpreter.interpreter!r}, but the file's name "
                f"says {path.stem!r}. Name the file after the interpreter."
            )
            raise ConfigError(msg)
        found[path.stem] = interpreter
    return found


def _read(path: Path, model: type[M]) -> M:
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        msg = f"{path}: no such file. Run this from the project's root, or name it with --configs."
        raise ConfigError(msg) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        msg = f"{path}: not valid TOML: {error}"
        raise ConfigError(msg) from error
    try:
        # JSON mode takes TOML's lists for tuples, and its dates as text.
        return model.model_validate_json(json.dumps(data, default=str), strict=False)
    except ValidationError as error:
        raise ConfigError("\n".join(_explain(path, model, data, error))) from error


def _explain(
    path: Path, model: type[BaseModel], data: Any, error: ValidationError
) -> Iterator[str]:
    for detail in error.errors():
        key = ".".join(_key(data, detail["loc"])) or "the file"
        yield f"{path}: key {key}: {_complaint(model, detail)}"


def _key(data: Any, location: tuple[int | str, ...]) -> Iterator[str]:
    """Yield the parts of *location* that are keys of the file, without tags of chosen models."""
    for number, part in enumerate(location, start=1):
        is_tag = isinstance(data, dict) and part not in data and number < len(location)
        if is_tag:
            continue
        yield str(part)
        if isinstance(data, dict):
            data = data.get(part)
        elif isinstance(data, list) and isinstance(part, int):
            data = data[part]


def _complaint(model: type[BaseModel], detail: ErrorDetails) -> str:
    given = detail.get("input")
    context = detail.get("ctx", {})
    match detail["type"]:
        case "extra_forbidden":
            name = str(detail["loc"][-1])
            return f"is not known here. {suggestion(name, _siblings(model, detail['loc']))}"
        case "missing":
            return "is missing."
        case "literal_error" | "enum":
            allowed = [word.strip("' ") for word in _words(str(context.get("expected", "")))]
            return f"{given!r} is not one of its values. {suggestion(str(given), allowed)}"
        case homebrew.NOT_REPEATED:
            return f"{detail['msg']}."
        case _:
            return f"{detail['msg']} (it is {given!r})."


def _words(expected: str) -> list[str]:
    return expected.replace(" or ", ", ").split(", ")


def _siblings(model: type[BaseModel], location: tuple[int | str, ...]) -> list[str]:
    """Return the keys allowed in the table that holds the last part of *location*."""
    schema: Any = model.model_json_schema(by_alias=True)
    definitions = schema.get("$defs", {})
    for part in location[:-1]:
        schema = _resolved(_child(schema, part), definitions)
    return sorted(schema.get("properties", {}))


def _child(schema: Any, part: int | str) -> Any:
    if isinstance(part, int):
        return schema.get("items", {})
    if part in schema.get("properties", {}):
        return schema["properties"][part]
    if "patternProperties" in schema:
        return next(iter(schema["patternProperties"].values()))
    if isinstance(schema.get("additionalProperties"), dict):
        return schema["additionalProperties"]
    return schema  # a discriminator's value is a step of the location, but not of the schema


def _resolved(schema: Any, definitions: Any) -> Any:
    if "$ref" in schema:
        return definitions[schema["$ref"].rsplit("/", 1)[-1]]
    if "anyOf" in schema:  # a table that may be left out: itself, or null
        return _resolved(schema["anyOf"][0], definitions)
    if "discriminator" in schema:
        branches = [_resolved(branch, definitions) for branch in schema["oneOf"]]
        merged = {key: value for branch in branches for key, value in branch["properties"].items()}
        return {"properties": merged}
    return schema


def _check_references(config: Config) -> None:
    for name, environment in config.environments.items():
        where = f"environments.toml: key environments.{name}.bases"
        for base in environment.bases:
            known("base", base, config.bases, where=where)
    for name, interpreter in config.interpreters.items():
        _check_interpreter(config, f"{name}.toml", interpreter)
    _check_platforms(config)
    for channel in ("release", "nightly"):
        chosen: ChannelConfig = getattr(config.channels, channel)
        for interpreter_name in chosen.interpreters:
            where = f"channels.toml: key {channel}.interpreters"
            known("interpreter", interpreter_name, config.interpreters, where=where)
        for platform_name in () if isinstance(chosen.platforms, str) else chosen.platforms:
            where = f"channels.toml: key {channel}.platforms"
            known("platform", platform_name, config.platforms, where=where)
        for suite in chosen.apt.suites if chosen.apt is not None else ():
            known("suite", suite, config.suites, where=f"channels.toml: key {channel}.apt.suites")
        _check_mirrors(f"channels.toml: key {channel}.mirrors", chosen)
    _check_distributions(config)
    _check_shared_store(config.channels)


def _check_distributions(config: Config) -> None:
    """Look whether all environments are there that packages and images are made and tried in."""
    numbers: dict[str, str] = {}
    for name, suite in config.suites.items():
        other = numbers.setdefault(suite.number, name)
        if other != name:
            msg = (
                f"distributions.toml: key suites.{name}.number: {suite.number} is that of "
                f"suites.{other} already, and would give their packages the same names. Give one "
                "another number."
            )
            raise ConfigError(msg)
        for environment in (suite.environment, suite.clean):
            where = f"distributions.toml: key suites.{name}"
            known("environment", environment, config.environments, where=where)
    for name, interpreter in config.interpreters.items():
        for variant in interpreter.image.variants if interpreter.image is not None else ():
            where = f"{name}.toml: key image.variants"
            known("environment", variant.environment, config.environments, where=where)
        _check_installations(f"{name}.toml", interpreter)
    _check_own_names(config.interpreters)


def _check_installations(file: str, interpreter: InterpreterConfig) -> None:
    """Refuse packages or images that no test would try: installing alone shows little.

    Raises:
        ConfigError: there is no test for a client.
        UnknownNameError: a test is of a part that there is not, so it would never be run.
    """
    debian = interpreter.debian
    suffixes = {part.suffix: part for part in debian.parts} if debian is not None else {}
    for test in interpreter.install:
        for part in test.parts:
            known("part", part, suffixes, where=f"{file}: key install: test {test.name}: parts")
    made = {"apt": debian, "image": interpreter.image}
    for client in (client for client, table in made.items() if table is not None):
        if not any(not test.clients or client in test.clients for test in interpreter.install):
            msg = (
                f"{file}: key install: has no test for what {client} installs. Add an [[install]] "
                "table with a command that must work."
            )
            raise ConfigError(msg)


def _check_own_names(interpreters: Mapping[str, InterpreterConfig]) -> None:
    """Refuse two interpreters whose packages or tags would be the same.

    Raises:
        ConfigError: they would.
    """
    owners: dict[str, str] = {}
    for name, interpreter in interpreters.items():
        for key in _own_names(interpreter):
            other = owners.setdefault(key, name)
            if other != name:
                msg = f"{name}.toml: {key} is {other}.toml's already. Choose another name."
                raise ConfigError(msg)


def _own_names(interpreter: InterpreterConfig) -> Iterator[str]:
    """Yield what nobody else's packages and images may be called."""
    if interpreter.debian is not None:
        yield from (f"key debian.package: {name}" for name in interpreter.debian.names)
    if interpreter.image is not None:
        image = interpreter.image
        yield f"keys image.image and image.line: {image.image}:{image.line}"
    if interpreter.homebrew is not None:
        yield f"key homebrew.formula: {interpreter.homebrew.formula}"


def _check_mirrors(where: str, channel: ChannelConfig) -> None:
    """Refuse a mirror that is the store itself, or another mirror."""
    places = {_place(channel)}
    for mirror in channel.mirrors:
        if _place(mirror) in places:
            msg = f"{where}: {mirror.store} is the store itself or a mirror already. Take it out."
            raise ConfigError(msg)
        places.add(_place(mirror))


def _check_shared_store(channels: ChannelsFile) -> None:
    """Refuse channels that have one store and say other things of it.

    Each of them writes the indexes of all releases, and would undo what the other wrote.
    """
    release, nightly = channels.release, channels.nightly
    if _place(release) != _place(nightly):
        _check_taps(channels)
        return
    found: dict[str, tuple[object, object]] = {
        "base_url": (release.base_url, nightly.base_url),
        "mirrors": (_mirrors(release), _mirrors(nightly)),
        "apt": (release.apt, nightly.apt),
        "registry": (release.registry, nightly.registry),
        "tap": (release.tap, nightly.tap),
    }
    for key, (one, other) in found.items():
        if one != other:
            msg = (
                f"channels.toml: key nightly.{key}: is not release's, but both channels have the "
                f"store {nightly.store}. Make them the same, or give one another store."
            )
            raise ConfigError(msg)
    _check_signers(release, nightly)


def _check_signers(release: ChannelConfig, nightly: ChannelConfig) -> None:
    """Refuse channels of one apt repository if one trusts a key that the other does not.

    Each gives the repository's users the keys that it trusts, whoever signed the lists.
    """
    if release.apt is not None and (found := _signers(release) ^ _signers(nightly)):
        msg = (
            f"channels.toml: key nightly.signing: only one channel has {', '.join(sorted(found))} "
            f"as key or in trusted, but both write the apt repository of {nightly.store}. Add it "
            "to the other's trusted, or give one another store."
        )
        raise ConfigError(msg)


def _check_taps(channels: ChannelsFile) -> None:
    """Refuse one tap of two stores: each ledger's channel would remove the other's formulas."""
    one, other = channels.release.tap, channels.nightly.tap
    if one is not None and other is not None and _tap_place(one) == _tap_place(other):
        msg = (
            f"channels.toml: key nightly.tap.repository: {other.repository} ({other.branch}) is "
            "release's tap already, but the channels have two stores, and each would remove the "
            "other's formulas. Give one another repository or branch, or take it out."
        )
        raise ConfigError(msg)


def _tap_place(tap: TapConfig) -> tuple[str, str]:
    return tap.repository.rstrip("/").removesuffix(".git"), tap.branch


def _signers(channel: ChannelConfig) -> frozenset[str]:
    """Return the keys that may have signed apt's lists, all of which its users are given."""
    return frozenset((channel.signing.key, *channel.signing.trusted))


def _place(config: StoreConfig) -> tuple[str, str | None]:
    """Return what tells stores apart: two servers may have buckets of one name."""
    if config.is_s3:
        return config.store, config.s3.endpoint
    return posixpath.normpath(config.store), None


def _mirrors(channel: ChannelConfig) -> set[tuple[tuple[str, str | None], str]]:
    return {(_place(mirror), mirror.base_url) for mirror in channel.mirrors}


def _check_platforms(config: Config) -> None:
    for name, platform in config.platforms.items():
        if platform.identifier != name:
            msg = (
                f"platforms.toml: key platforms.{name}.identifier: is {platform.identifier!r}, "
                f"but the table's name says {name!r}. They must be the same."
            )
            raise ConfigError(msg)
        _check_hosts(config, platform)


def _check_hosts(config: Config, platform: Platform) -> None:
    """Refuse a host that computes otherwise than the target; RPython uses its own numbers."""
    where = f"platforms.toml: key platforms.{platform.identifier}.cross.hosts"
    for name in platform.cross.hosts if platform.cross is not None else ():
        host = known("platform", name, config.platforms, where=where)
        if (host.word_size, host.byte_order) != (platform.word_size, platform.byte_order):
            msg = (
                f"{where}: {name} has {host.word_size} bits and is {host.byte_order}-endian, but "
                f"{platform.identifier} has {platform.word_size} and is {platform.byte_order}-"
                "endian. Name a host that agrees, or take mode cross out."
            )
            raise ConfigError(msg)


def _check_interpreter(config: Config, file: str, interpreter: InterpreterConfig) -> None:
    if interpreter.product in naming.TOP_KEYS:
        msg = (
            f"{file}: key product: {interpreter.product} is the name of what every store has "
            "beside its products. Choose another."
        )
        raise ConfigError(msg)
    _check_collector(file, interpreter)
    _check_bootstrap(config, file, interpreter)
    for platform in interpreter.platforms:
        row = known("platform", platform, config.platforms, where=f"{file}: key platforms")
        _check_jit(file, interpreter.translation, row)
    for pin in interpreter.source.toolchain:
        known("pin", pin, config.pins, where=f"{file}: key source.toolchain")
    if isinstance(interpreter.package, PyPyPackage):
        for pin in interpreter.package.pins:
            known("pin", pin, config.pins, where=f"{file}: key package.embedded or package.wheels")
    for pin in interpreter.verify.toolchain:
        known("pin", pin, config.pins, where=f"{file}: key verify.toolchain")
    _check_environments(config, file, interpreter)
    _check_smoke_tests(config, file, interpreter)


def _check_environments(config: Config, file: str, interpreter: InterpreterConfig) -> None:
    translation = interpreter.translation
    named = {
        "translation.environment": (translation.environment,),
        "translation.cross_environment": (translation.cross_environment,),
        "verify.environments": interpreter.verify.environments,
    }
    for platform, own in translation.platforms.items():
        key = f"translation.platforms.{platform}"
        known(
            "platform", platform, dict.fromkeys(interpreter.platforms), where=f"{file}: key {key}"
        )
        named[f"{key}.environment"] = (own.environment,)
    for key, names in named.items():
        for name in filter(None, names):
            known("environment", name, config.environments, where=f"{file}: key {key}")
    for platform in interpreter.platforms:
        _check_verified(config, file, interpreter, config.platforms[platform])


def _check_verified(
    config: Config, file: str, interpreter: InterpreterConfig, platform: Platform
) -> None:
    """Refuse a platform on which a smoke test would never be run."""
    there = set(environments_for(config, interpreter.verify.environments, platform))
    for test in interpreter.verify.smoke:
        wanted = test.environments or interpreter.verify.environments
        if there.isdisjoint(wanted):
            msg = (
                f"{file}: key verify.smoke: test {test.name}: none of its environments "
                f"({', '.join(wanted)}) has a base for {platform.identifier}. Add one in "
                "environments.toml, or take the platform out of key platforms."
            )
            raise ConfigError(msg)


def _check_smoke_tests(config: Config, file: str, interpreter: InterpreterConfig) -> None:
    tests = Path(config.root) / interpreter.verify.test_files
    for test in interpreter.verify.smoke:
        if test.stdout_file is not None and not (tests / test.stdout_file).is_file():
            msg = f"{file}: key verify.smoke: test {test.name}: no file {tests / test.stdout_file}."
            raise ConfigError(msg)
        for name in test.environments:
            where = f"{file}: key verify.smoke: test {test.name}: environments"
            known("environment", name, dict.fromkeys(interpreter.verify.environments), where=where)
    for module, names in interpreter.verify.modules_only_in.items():
        for name in names:
            where = f"{file}: key verify.modules_only_in.{module}"
            known("environment", name, dict.fromkeys(interpreter.verify.environments), where=where)


def _check_bootstrap(config: Config, file: str, interpreter: InterpreterConfig) -> None:
    translation = interpreter.translation
    bootstraps = {
        "translation": translation.bootstrap,
        **{
            f"translation.platforms.{name}": own.bootstrap
            for name, own in translation.platforms.items()
        },
    }
    for key, bootstrap in bootstraps.items():
        if isinstance(bootstrap, ReleaseBootstrap):
            where = f"{file}: key {key}.bootstrap.interpreter"
            known("interpreter", bootstrap.interpreter, config.interpreters, where=where)


def _check_jit(file: str, translation: TranslationConfig, platform: Platform) -> None:
    """Refuse a JIT where the toolchain has no backend; it would fail after half an hour."""
    machine = platform.machine
    if not translation.jit or machine in (*translation.jit_machines, *translation.without_jit):
        return
    msg = (
        f"{file}: key translation.jit: is true, but the toolchain has no JIT backend for {machine} "
        f"({platform.identifier}; it has: {', '.join(translation.jit_machines)}). Take the "
        f"platform out, or add {machine!r} to translation.without_jit to translate with --opt=2."
    )
    raise ConfigError(msg)


def _check_collector(file: str, interpreter: InterpreterConfig) -> None:
    """Refuse cpyext with a collector that it cannot work with, as PyPy's own target does."""
    translation = interpreter.translation
    cpyext = (
        isinstance(interpreter.package, PyPyPackage)
        and WITHOUT_CPYEXT not in translation.target_options
    )
    if cpyext and translation.gc != CPYEXT_COLLECTOR:
        msg = (
            f"{file}: key translation.gc: is {translation.gc!r}, but cpyext works with "
            f"{CPYEXT_COLLECTOR!r} only. Change it, or add {WITHOUT_CPYEXT!r} to "
            "translation.target_options."
        )
        raise ConfigError(msg)


T = TypeVar("T")


def known(kind: str, name: str, table: Mapping[str, T], *, where: str) -> T:
    """Return ``table[name]``.

    Raises:
        UnknownNameError: there is no such entry; the message has the allowed names.
    """
    try:
        return table[name]
    except KeyError:
        raise UnknownNameError(kind, name, sorted(table), where=where) from None
