"""Ceph's S3 gateway on one node: a server that is not a mock, in a container.

The image is made of Debian's packages (no registry), once per engine: its tag is a digest of
everything that it is made from. Debian testing has the first Ceph (20.2) that keeps to all
conditions: 18.2, in Debian 13, refuses every ``If-Match`` with an ETag as it gives it itself, and
lets a multipart upload replace what is there.
"""

import contextlib
import hashlib
import subprocess
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import docker
import docker.errors
import requests
from docker.models.containers import Container

from tests.integration.s3 import ACCESS_KEY, SECRET_KEY, S3Server

SUITE: Final = "forky"
MIRROR: Final = "http://deb.debian.org/debian"
PACKAGES: Final = ("ceph-mon", "ceph-osd", "radosgw")
OPTIONS: Final = (
    "--variant=minbase",
    f"--include={','.join(PACKAGES)}",
    # A mirror may be days behind; its signature is checked all the same.
    '--aptopt=Acquire::Check-Valid-Until "false"',
    "--dpkgopt=path-exclude=/usr/share/doc/*",
    "--dpkgopt=path-exclude=/usr/share/locale/*",
    "--dpkgopt=path-exclude=/usr/share/man/*",
)
REPOSITORY: Final = "rpython-pipeline/test-ceph"
PORT: Final = 7480
# A server in which much was stored looks through all of it when it starts again.
START_TIMEOUT: Final = 300

START: Final = r"""#!/bin/sh
# One monitor, one object daemon on a sparse file, one gateway; no manager is needed for them.
# A second start finds the data and goes on with it.
set -eu
address='[v2:127.0.0.1:3300,v1:127.0.0.1:6789]'
cat > /etc/ceph/ceph.conf <<CONF
[global]
fsid = 5b1d1ea5-9d6f-4c0b-8c4f-5b2f9a3d7c01
mon host = $address
keyring = /ceph/keyring
mon data = /ceph/mon
osd data = /ceph/osd
rgw data = /ceph/rgw
run dir = /ceph
log to file = false
mon cluster log to file = false
mon allow pool size one = true
mon data avail crit = 1
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 1
osd pool default pg autoscale mode = off
osd crush chooseleaf type = 0
osd memory target = 939524096
bluestore block size = 8589934592
paxos propose interval = 0.05
rgw frontends = beast port=$PORT
CONF
if [ ! -e /ceph/made ]; then
    mkdir -p /ceph/mon /ceph/osd /ceph/rgw
    key='ceph-authtool /ceph/keyring --gen-key'
    $key --create-keyring -n mon. --cap mon 'allow *'
    $key -n client.admin --cap mon 'allow *' --cap osd 'allow *'
    $key -n osd.0 --cap mon 'allow profile osd' --cap osd 'allow *'
    fsid=$(ceph-conf --lookup fsid)
    monmaptool --create --fsid "$fsid" --addv one "$address" /ceph/monmap
    ceph-mon --mkfs -i one --monmap /ceph/monmap --keyring /ceph/keyring
fi
ceph-mon -f -i one &
until timeout 5 ceph mon stat; do sleep 0.2; done
if [ ! -e /ceph/made ]; then
    uuid=$(cat /proc/sys/kernel/random/uuid)
    ceph osd new "$uuid"
    ceph-osd --mkfs -i 0 --osd-uuid "$uuid"
    ceph osd crush add osd.0 1 root=default host=one
    touch /ceph/made
fi
ceph-osd -f -i 0 &
until ceph osd stat | grep -q '1 up'; do sleep 0.2; done
radosgw-admin user info --uid=tests > /dev/null 2>&1 ||
    radosgw-admin user create --uid=tests --display-name=tests \
        --access-key="$ACCESS_KEY" --secret-key="$SECRET_KEY" > /dev/null
radosgw -f -n client.admin &
trap 'kill $(jobs -p); wait' TERM
wait
"""


@dataclass(frozen=True, kw_only=True)
class Ceph(S3Server):
    """A gateway that runs in a container."""

    container: Container

    def restart(self) -> None:
        """Stop every daemon in good order and start them again on the same data."""
        self.container.restart(timeout=30)
        _wait_for(self.endpoint, self.container)


@contextmanager
def running_ceph() -> Iterator[Ceph]:
    """Run a gateway with empty storage; it is removed with its data at the end."""
    client = docker.from_env()
    container = client.containers.create(
        ceph_image(client),
        ["sh", "-c", START],
        name=f"rpp-test-ceph-{uuid.uuid4().hex[:12]}",
        environment={"PORT": str(PORT), "ACCESS_KEY": ACCESS_KEY, "SECRET_KEY": SECRET_KEY},
        volumes=["/ceph"],
    )
    try:
        container.start()
        container.reload()
        address = container.attrs["NetworkSettings"]["IPAddress"]
        endpoint = f"http://{address}:{PORT}"
        _wait_for(endpoint, container)
        yield Ceph(endpoint=endpoint, container=container)
    finally:
        container.remove(force=True, v=True)


def ceph_image(client: docker.DockerClient) -> str:
    """Return the image's tag, made now if this engine has none."""
    recipe = "\n".join((SUITE, MIRROR, *OPTIONS))
    tag = f"{REPOSITORY}:{hashlib.sha256(recipe.encode()).hexdigest()[:12]}"
    with contextlib.suppress(docker.errors.ImageNotFound):
        client.images.get(tag)
        return tag
    with tempfile.TemporaryDirectory(prefix="rpp-") as directory:
        tar = Path(directory, "ceph.tar")
        subprocess.run(
            ["mmdebstrap", *OPTIONS, SUITE, str(tar), MIRROR],
            check=True,
            capture_output=True,
            timeout=900,
        )
        repository, _, name = tag.partition(":")
        client.api.import_image_from_file(str(tar), repository=repository, tag=name)
    return tag


def _wait_for(endpoint: str, container: Container) -> None:
    deadline = time.monotonic() + START_TIMEOUT
    while time.monotonic() < deadline:
        with contextlib.suppress(requests.RequestException):
            if requests.get(endpoint, timeout=2).ok:
                return
        container.reload()
        if container.status not in ("created", "running", "restarting"):
            break
        time.sleep(0.2)
    raise AssertionError(container.logs(tail=30).decode(errors="replace"))
