"""The table of all kinds of projections."""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final

from pipeline.publish.projections.checksums import checksum_pages
from pipeline.publish.projections.conda import conda_recipes
from pipeline.publish.projections.docker_library import docker_library_input
from pipeline.publish.projections.homebrew import homebrew_formulas
from pipeline.publish.projections.homebrew_core import source_formulas
from pipeline.publish.projections.latest import latest
from pipeline.publish.projections.nix import nix_expressions
from pipeline.publish.projections.pages import pages
from pipeline.publish.projections.pins import wheel_pins
from pipeline.publish.projections.pyenv import pyenv_definitions
from pipeline.publish.projections.uv import uv_indexes
from pipeline.publish.projections.versions import versions_indexes
from pipeline.publish.projections.yanked import yanked_lists
from pipeline.publish.view import Projection, View

Kind = Callable[[View], Mapping[str, Projection]]
"""Gives the projections of one kind for every product, by store key; pure."""

KINDS: Final[Mapping[str, Kind]] = MappingProxyType(
    {
        "versions": versions_indexes,
        "yanked": yanked_lists,
        "uv": uv_indexes,
        "checksums": checksum_pages,
        "latest": latest,
        "pyenv": pyenv_definitions,
        "pins": wheel_pins,
        "docker-library": docker_library_input,
        "homebrew": homebrew_formulas,
        "homebrew-core": source_formulas,
        "conda": conda_recipes,
        "nix": nix_expressions,
        "pages": pages,
    }
)
