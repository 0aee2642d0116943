"""The workers of ``farm.toml``, and which of them is given which job."""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, Final

from buildbot.plugins import util, worker
from buildbot.util import datetime2epoch

from pipeline.farm import units
from pipeline.farm.settings import WORKER_FILE, MasterSettings, secret
from pipeline.frontends.buildbot import pacing
from pipeline.frontends.buildbot.builds import FAULT
from pipeline.frontends.buildbot.deferring import deferred
from pipeline.frontends.buildbot.orders import job_of
from pipeline.model.configs import Config
from pipeline.model.farm import (
    MASTERS_OWN,
    DockerLatent,
    Ec2Latent,
    FarmConfig,
    FarmWorker,
    KubernetesLatent,
    PreparedJob,
)

RELEASES_AT_A_TIME: Final = 8
COORDINATORS: Final = tuple(f"{MASTERS_OWN}{number + 1}" for number in range(RELEASES_AT_A_TIME))
"""Workers in the master's process that wait for units; a worker does a builder's builds in turn."""


def make_workers(settings: MasterSettings, farm: FarmConfig) -> list[Any]:
    """Return the workers of ``farm.toml``, and those in this process that do fan-outs."""
    found = [worker.LocalWorker(name, max_builds=1) for name in COORDINATORS]
    return found + [_worker(settings, name, row) for name, row in farm.workers.items()]


def _worker(settings: MasterSettings, name: str, row: FarmWorker) -> Any:
    options: dict[str, Any] = {"max_builds": row.builds}
    if row.latent is not None:
        options["build_wait_timeout"] = row.idle_minutes * pacing.MINUTE
    dials = {"masterFQDN": settings.public_host} if settings.public_host else {}
    match row.latent:
        case None:
            return worker.Worker(name, secret(settings, WORKER_FILE.format(name)), **options)
        case DockerLatent():
            return _docker_worker(name, row.latent, {**options, **dials})
        case KubernetesLatent():
            return _kubernetes_worker(name, row.latent, {**options, **dials})
        case Ec2Latent():
            password = secret(settings, WORKER_FILE.format(name))
            return _ec2_worker(name, password, row.latent, options)


def _docker_worker(name: str, latent: DockerLatent, options: dict[str, Any]) -> Any:
    """Return a worker that is a container; its password is made anew for each."""
    return worker.DockerLatentWorker(
        name,
        None,
        docker_host=latent.docker_host or "unix:///var/run/docker.sock",
        image=latent.image,
        volumes=list(latent.volumes),
        hostname=name,  # containers of its work are found again by it
        **options,
    )


def _kubernetes_worker(name: str, latent: KubernetesLatent, options: dict[str, Any]) -> Any:
    """Return a worker that is a pod; without an address the master must be one itself."""
    if latent.master_url is None:
        access = util.KubeInClusterConfigLoader()
    else:
        access = util.KubeHardcodedConfig(master_url=latent.master_url, namespace=latent.namespace)
    return worker.KubeLatentWorker(
        name, image=latent.image, namespace=latent.namespace, kube_config=access, **options
    )


def _ec2_worker(name: str, password: str, latent: Ec2Latent, options: dict[str, Any]) -> Any:
    """Return a worker that is a machine of Amazon's; it asks Amazon for the names at once."""
    return worker.EC2LatentWorker(
        name,
        password,
        latent.instance_type,
        ami=latent.image,
        region=latent.region,
        keypair_name=latent.key_name,
        security_name=latent.security_group,
        **options,
    )


@dataclass(frozen=True)
class Fit:
    """Says which worker is given which job."""

    config: Config
    farm: FarmConfig

    def misfit(self, job: PreparedJob | None, found: Any) -> str | None:
        """Return why a worker of Buildbot's is not given *job*, or None if it fits."""
        row = self.farm.workers.get(found.workername)
        if job is None or row is None:
            return "there is no such job" if job is None else "it is not in farm.toml"
        if row.latent is not None and not found.conn:
            return units.misfit(job, self.config.platforms, row, None)
        facts = units.read_facts(found.info.getProperty("facts"))
        if facts is None:
            return "it has not said what it can do (its file info/facts)"
        return units.misfit(job, self.config.platforms, row, facts)

    def can_start(self, _builder: Any, candidate: Any, request: Any) -> bool:
        """Whether a build may go to a worker (``canStartBuild``)."""
        return self.misfit(job_of(request.properties), candidate.worker) is None

    @deferred
    async def next_worker(self, builder: Any, candidates: list[Any], request: Any) -> Any:
        """Return who is asked first, or None to wait for who had it before (``nextWorker``)."""
        by_name = {candidate.worker.workername: candidate for candidate in candidates}
        last = await _previous(builder.master, request.id)
        wait = last.ended + self.farm.rejoin_seconds - builder.master.reactor.seconds()
        if wait > 0 and self._is_worth_waiting(builder, last, by_name):
            again = builder.botmaster.maybeStartBuildsForBuilder
            builder.master.reactor.callLater(wait + 0.1, again, builder.name)
            return None
        ranked = [
            units.Candidate(name, self.farm.workers[name], _busy(candidate.worker))
            for name, candidate in by_name.items()
            if name in self.farm.workers
        ]
        faulty = last.worker if last.is_faulty else None
        best = units.best(job_of(request.properties), ranked, last.worker, faulty)
        return None if best is None else by_name[best]

    def _is_worth_waiting(self, builder: Any, last: "_Previous", by_name: Collection[str]) -> bool:
        """Whether a better worker may soon be there than those that are free now.

        One that was lost may come back to its work; one that was not fit is not asked again while
        another could be.
        """
        if last.worker not in self.farm.workers:
            return False
        there = {found.worker.workername for found in builder.workers}
        if last.is_faulty:
            return set(by_name) == {last.worker} and there > {last.worker}
        return last.worker not in there

    def lacking(self, builder: Any, job: PreparedJob | None) -> str | None:
        """Return why no worker that is there could do a request, or None if one could.

        A *job* of None is a unit of the signer, a *builder* of None one that was taken away.
        """
        if builder is None:
            return "the farm's configuration has no builder for it any more"
        there = {found.worker.workername: found.worker for found in builder.workers}
        reasons = []
        for name in builder.config.workernames:
            reason: str | None = "it is not connected"
            if name in there:
                reason = None if job is None else self.misfit(job, there[name])
            if reason is None:
                return None
            reasons.append(f"{name}: {reason}")
        return "; ".join(reasons)


def _busy(found: Any) -> int:
    return sum(place.isBusy() for place in found.workerforbuilders.values())


@dataclass(frozen=True)
class _Previous:
    """Who had a request last, when that ended (seconds since 1970), and whether it was not fit."""

    worker: str | None
    ended: float
    is_faulty: bool = False


@deferred
async def _previous(master: Any, request: int) -> _Previous:
    builds = await master.data.get(("buildrequests", request, "builds"))
    if not builds:
        return _Previous(None, 0.0)
    last = max(builds, key=lambda build: build["buildid"])
    found = await master.data.get(("workers", last["workerid"]))
    properties = await master.data.get(("builds", last["buildid"], "properties"))
    ended = last["complete_at"]
    now = master.reactor.seconds()
    return _Previous(
        worker=found and found["name"],
        ended=now if ended is None else datetime2epoch(ended),
        is_faulty=FAULT in properties,
    )
