"""The plan as workflows of GitHub Actions: their text, and what their jobs tell one another. Pure.

A workflow's job is hostile to the one that signs, as a farm's worker is: what it claims is checked
here for whose it is, and by the verb that collects for what it is.
"""

import json
import posixpath
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from pipeline.errors import ConfigError, PlatformError
from pipeline.handover.places import of_worker
from pipeline.handover.prepare import workers_of
from pipeline.model.configs import Channel, ChannelConfig, Config, InterpreterConfig
from pipeline.model.farm import Claim, Claims, Collected, FailedJob, Prepared, PreparedJob
from pipeline.model.hosted import HostedConfig, Runner
from pipeline.model.platforms import Mode, Platform, ways
from pipeline.templates import rendered

CHANNELS: Final[tuple[Channel, ...]] = ("nightly", "release")
OWN_TOKEN: Final = "GITHUB_TOKEN"  # noqa: S105 - the variable's name
AS_CHANNEL: Final = "channel"
"""What the choices of a workflow say for: as ``channels.toml`` says."""
WORK: Final = "out"
WORKER_PREFIX: Final = "gha-"
LONGEST_REASON: Final = 1000


@dataclass(frozen=True, kw_only=True)
class PossibleJob:
    """What the workflows may be asked for; without a mode and a runner nobody can build it."""

    identifier: str
    platform: str
    mode: Mode | None = None
    runner: str | None = None


def workflow_files(config: Config, hosted: HostedConfig, lock: str) -> dict[str, str]:
    """Return every file that hosted CI needs, by its path in ``.github/``.

    Args:
        config: all configuration.
        hosted: what is known of the runners.
        lock: the text of ``uv.lock``, which pins the installer too.
    """
    files = {"uv.txt": requirement(lock, "uv")}
    files["workflows/ci.yml"] = rendered("workflows/ci.yml.jinja", {"hosted": hosted})
    for channel in CHANNELS:
        files[f"workflows/{channel}.yml"] = _channel_workflow(config, hosted, channel)
    return files


def _channel_workflow(config: Config, hosted: HostedConfig, channel: Channel) -> str:
    chosen = config.channels.release if channel == "release" else config.channels.nightly
    jobs = tuple(possible_jobs(config, hosted))
    values: dict[str, object] = {
        "channel": channel,
        "hosted": hosted,
        "environment": hosted.environments.of(channel),
        "jobs": jobs,
        "width": max(len(job.identifier) for job in jobs),
        "interpreters": sorted(config.interpreters),
        "platforms": tuple(dict.fromkeys(job.platform for job in jobs if job.runner)),
        "kinds": " ".join(f"--kind {row.kind}" for row in hosted.runners),
        "reads_public": chosen.is_s3,
        "secrets": secrets(chosen),
        "copies_to_github": chosen.github is not None and chosen.github.variable == OWN_TOKEN,
        "keeps_store": not chosen.is_s3,
        "store": posixpath.join(WORK, chosen.store),
    }
    return rendered("workflows/channel.yml.jinja", values)


def possible_jobs(config: Config, hosted: HostedConfig) -> Iterator[PossibleJob]:
    """Yield every interpreter on every platform of it, with the runner that the plan would take."""
    for name, interpreter in sorted(config.interpreters.items()):
        for platform_name in interpreter.platforms:
            platform = config.platforms[platform_name]
            mode, runner = _placed(config, hosted, interpreter, platform)
            yield PossibleJob(
                identifier=f"{name}-{platform_name}",
                platform=platform_name,
                mode=mode,
                runner=runner.label if runner is not None else None,
            )


def _placed(
    config: Config, hosted: HostedConfig, interpreter: InterpreterConfig, platform: Platform
) -> tuple[Mode, Runner] | tuple[None, None]:
    """Return the way that the plan takes, and the runner that has it."""
    runners = {row.worker: row for row in hosted.runners}
    kinds = tuple(runners)
    worker = workers_of(kinds, config.platforms, kinds[0]).of(platform.identifier)
    found = ways(platform, config.platforms, worker)
    if interpreter.translation.cross_environment is None:
        found.pop(Mode.CROSS, None)
    mode = next(iter(found), None)
    return (None, None) if mode is None else (mode, runners[worker])


def secrets(channel: ChannelConfig) -> dict[str, str]:
    """Return what the environment of a publication has beside the key: expressions, by variable.

    There is only what the channel uses.
    """
    found: dict[str, str] = {}
    if any(store.is_s3 for store in (channel, *channel.mirrors)):
        names = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
        found |= {name: f"secrets.{name}" for name in names}
    if channel.registry is not None:
        names = (channel.registry.username_variable, channel.registry.password_variable)
        found |= {name: f"secrets.{name}" for name in names}
    if channel.github is not None:
        name = channel.github.variable
        found[name] = "github.token" if name == OWN_TOKEN else f"secrets.{name}"
    return found


def requirement(lock: str, name: str) -> str:
    """Return what pip installs *name* from: the version and the digests that ``uv.lock`` has.

    Raises:
        ConfigError: the lock file does not have it.
    """
    packages: list[dict[str, Any]] = tomllib.loads(lock)["package"]
    found = next((row for row in packages if row["name"] == name), None)
    if found is None:
        msg = f"uv.lock: has no package {name}, which installs all others. Run: nox -s lock"
        raise ConfigError(msg)
    hashes = sorted(wheel["hash"] for wheel in found["wheels"])
    lines = [f"{name}=={found['version']}", *(f"    --hash={digest}" for digest in hashes)]
    header = "# Written by `python -m pipeline workflows` from uv.lock.\n"
    return header + " \\\n".join(lines) + "\n"


def worker_name(identifier: str) -> str:
    """Return the name under which a job's runner hands over: each may write below its own only."""
    return f"{WORKER_PREFIX}{identifier}"


def outputs(prepared: Prepared, hosted: HostedConfig) -> dict[str, str]:
    """Return what the job ``prepare`` tells the others, as outputs of a step.

    Raises:
        PlatformError: there is no runner for a job.
    """
    waiting = [job for job in prepared.jobs if not job.is_done]
    rows = [_row(job, hosted) for job in waiting]
    return {
        "run": prepared.run,
        "matrix": json.dumps({"include": rows}, separators=(",", ":")),
        "jobs": str(len(rows)),
        "releases": str(len(prepared.releases)),
    }


def _row(job: PreparedJob, hosted: HostedConfig) -> dict[str, str]:
    runner = hosted.runner_for(job.os, job.machine)
    if runner is None:
        msg = (
            f"{job.identifier} is to be built on {job.os} {job.machine}, but hosted.toml has no "
            "such runner. Add a [[runners]] table, or take the platform out of the channel."
        )
        raise PlatformError(msg)
    return {
        "identifier": job.identifier,
        "last": job.last,
        "runner": runner.label,
        "worker": worker_name(job.identifier),
    }


def refusal(prepared: Prepared, job: PreparedJob, claim: Claim) -> str | None:
    """Return why a claim is not one for *job*, or None if it is."""
    own = f"{of_worker(worker_name(job.identifier))}/"
    said = (claim.run, claim.identifier, claim.worker)
    if said != (prepared.run, job.identifier, worker_name(job.identifier)):
        return f"its claim is for {claim.identifier} in run {claim.run} as {claim.worker}"
    foreign = [stage.place for stage in claim.stages if not stage.place.startswith(own)]
    if foreign:
        return f"it claims {foreign[0]}, which is not below {own}"
    return None


def merged(
    prepared: Prepared, claims: Mapping[str, Claim], reasons: Mapping[str, str], log: str
) -> Claims:
    """Return the claims of all jobs; those without one have failed.

    Args:
        prepared: what was asked for.
        claims: what was claimed and may be, by identifier.
        reasons: why a job's claim was not taken, by identifier.
        log: the address at which people read what happened.
    """
    waiting = [job.identifier for job in prepared.jobs if not job.is_done]
    failed = tuple(
        FailedJob(identifier=name, reason=_reason(reasons.get(name, "it claims nothing"), log))
        for name in waiting
        if name not in claims
    )
    taken = tuple(claims[name] for name in waiting if name in claims)
    return Claims(run=prepared.run, claims=taken, failed=failed)


def _reason(why: str, log: str) -> str:
    room = LONGEST_REASON - len(log) - 6
    return f"{' '.join(why.split())[:room]}; see {log}"


def subjects(collected: Collected) -> str:
    """Return the new releases' files as a checksums file, for an attestation of them."""
    lines = (
        f"{file.sha256}  {release.release}/{file.filename}\n"
        for release in collected.releases
        if release.is_new
        for file in release.files
    )
    return "".join(lines)
