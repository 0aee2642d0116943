"""Where things are in the hand-over store. Pure.

Below ``trusted/`` only the signer writes: what a run is, environments, sources. Below
``workers/NAME/`` the worker NAME alone does, so that a place says who made what is there.
"""

from typing import Final

TRUSTED: Final = "trusted"
WORKERS: Final = "workers"


def of_worker(name: str) -> str:
    """Return the directory that the worker *name* may write to."""
    return f"{WORKERS}/{name}"


def stage_place(owner: str, stage: str, key: str) -> str:
    """Return where *owner* (``trusted`` or a worker's directory) hands over a stage's output."""
    return f"{owner}/{stage}/{key}.tar"


def run_place(run: str) -> str:
    """Return where the document of a run is."""
    return f"{TRUSTED}/runs/{run}.json"


def environment_place(recipe: str) -> str:
    """Return where it says which image an environment of this recipe has."""
    return f"{TRUSTED}/environments/{recipe}.json"


def image_place(digest: str) -> str:
    """Return where the image of the environment with this *digest* is."""
    return f"{TRUSTED}/images/{digest}.tar.zst"


def bootstrap_place(sha256: str) -> str:
    """Return where the archive of a released bootstrap interpreter is."""
    return f"{TRUSTED}/bootstraps/{sha256}.tar.zst"


def is_workers(place: str, stage: str, key: str) -> bool:
    """Whether *place* is one where a worker hands over this output of this stage."""
    owner = place.removesuffix(f"/{stage}/{key}.tar")
    return owner != place and owner.startswith(f"{WORKERS}/") and owner.count("/") == 1
