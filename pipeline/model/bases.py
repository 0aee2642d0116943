"""Which base image an environment is made on, for which platforms. Pure."""

from pipeline.model.configs import Base, Config
from pipeline.model.platforms import Placement, Platform


def base_for(config: Config, name: str, placement: Placement) -> tuple[str, Base] | None:
    """Return the first base of an environment that has the platforms; None if there is none. Pure.

    Compilers for the target and its libraries come from the same suite as the host's.
    """
    platforms = (placement.host, placement.target or placement.host)
    for base_name in config.environments[name].bases:
        base = config.bases[base_name]
        if all(
            row.debian_arch in base.architectures and row.libc in base.libc for row in platforms
        ):
            return base_name, base
    return None


def environments_for(config: Config, names: tuple[str, ...], platform: Platform) -> tuple[str, ...]:
    """Return those of the environments that have a base for *platform*; all, without containers."""
    if platform.oci is None:
        return names
    placement = Placement(host=platform)
    return tuple(name for name in names if base_for(config, name, placement) is not None)
