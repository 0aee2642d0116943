"""Pins for cibuildwheel and manylinux: which archive wheels are built with.

Both name an interpreter by its tags, as ``pp311-pypy311_pp73``. All platforms of one Python version
must have the same ABI: with others, a project's wheels for Linux and for macOS would be for
different interpreters. So the newest release decides, and a platform that only has releases of
another ABI is left out.

cibuildwheel's lines have the form of its ``build-platforms.toml``: for Linux a path in an image of
manylinux, otherwise an address and a digest. manylinux's file is like its ``python_versions.json``.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from pipeline.errors import ConfigError
from pipeline.model.configs import PyPyPackage
from pipeline.model.layout import extension_suffix
from pipeline.model.ledger import Published
from pipeline.model.versions import numbers
from pipeline.publish.projections.documents import TOML_TYPE, json_document, text_document
from pipeline.publish.projections.selection import (
    KNOWN_IMPLEMENTATIONS,
    offered_finals,
    products_with,
    python_version,
)
from pipeline.publish.view import Document, View

CIBUILDWHEEL: Final = "definitions/cibuildwheel.toml"
MANYLINUX: Final = "definitions/manylinux.json"
# By PEP 425, as the library packaging has it.
TAG_PREFIXES: Final = {"pypy": "pp"}
# Neither tool knows older ones any more.
OLDEST: Final = (3, 8)
MANYLINUX_PREFIX: Final = "manylinux_"
# The tables of cibuildwheel's file, and what begins the platforms of each.
TABLES: Final = {"linux": MANYLINUX_PREFIX, "macos": "macosx_", "windows": "win_"}


@dataclass(frozen=True, kw_only=True)
class Pin:
    """The archive with which wheels of one Python version for one platform are built.

    ``python_tag`` is ``pp311``, ``abi_tag`` ``pypy311_pp73``, ``wheel`` ``manylinux_x86_64``.
    """

    python_version: str
    python_tag: str
    abi_tag: str
    wheel: str
    version: str
    url: str
    sha256: str

    @property
    def tags(self) -> str:
        """What manylinux calls the interpreter."""
        return f"{self.python_tag}-{self.abi_tag}"


def wheel_pins(view: View) -> dict[str, Document]:
    """Return the pins of each product that has an implementation they know.

    Raises:
        ConfigError: equally new releases of one Python version have different ABIs.
    """
    found = {}
    for product in products_with(view, KNOWN_IMPLEMENTATIONS):
        chosen = pins(view, product)
        found[f"{product}/{CIBUILDWHEEL}"] = text_document(_cibuildwheel(chosen), TOML_TYPE)
        found[f"{product}/{MANYLINUX}"] = json_document(_manylinux(chosen))
    return found


def pins(view: View, product: str) -> tuple[Pin, ...]:
    """Return for each Python version and platform the newest archive of the newest ABI.

    An interpreter that has no file of its own any more has no known ABI, so no pin.
    """
    lines: dict[str, list[Published]] = {}
    for item in offered_finals(view, product):
        if numbers(item.published.language_version) >= OLDEST and abi_tags(view, item.published):
            lines.setdefault(python_version(item.published), []).append(item.published)
    return tuple(
        pin for version in sorted(lines, key=numbers) for pin in _of_one_abi(view, lines[version])
    )


def abi_tags(view: View, event: Published) -> frozenset[str]:
    """Return the ABI's tags of a release's platforms, of which there is one: ``pypy311_pp73``.

    They follow from the names of extension modules: ``.pypy311-pp73-x86_64-linux-gnu.so``.
    """
    config = view.interpreters.get(event.interpreter)
    if event.implementation not in TAG_PREFIXES or config is None:
        return frozenset()
    package = config.package
    if not isinstance(package, PyPyPackage):
        return frozenset()
    suffixes = (
        extension_suffix(package, event.interpreter_version, platform)
        for _, platform in view.archives(event)
    )
    return frozenset("_".join(suffix.split(".")[1].split("-")[:2]) for suffix in suffixes)


def _of_one_abi(view: View, events: list[Published]) -> list[Pin]:
    """Return the pins of one Python version, whose releases are *events*, newest first."""
    newest = [item for item in events if item.interpreter_version == events[0].interpreter_version]
    tags = frozenset[str]().union(*(abi_tags(view, item) for item in newest))
    if len(tags) != 1:
        msg = (
            f"{', '.join(item.release for item in newest)}: by key package.extension_suffix of "
            f"their interpreters these have the ABIs {', '.join(sorted(tags))}; wheels would be "
            "built for different interpreters. Give them one, or release one as another product."
        )
        raise ConfigError(msg)
    chosen: dict[str, Pin] = {}
    for event in events:
        if abi_tags(view, event) == tags:
            for pin in _pins(view, event, *tags):
                chosen.setdefault(pin.wheel, pin)
    return [chosen[wheel] for wheel in sorted(chosen)]


def _pins(view: View, event: Published, abi_tag: str) -> Iterator[Pin]:
    python = python_version(event)
    for artifact, platform in view.archives(event):
        if platform.downstream.wheel is not None:
            yield Pin(
                python_version=python,
                python_tag=f"{TAG_PREFIXES[event.implementation]}{python.replace('.', '')}",
                abi_tag=abi_tag,
                wheel=platform.downstream.wheel,
                version=str(event.interpreter_version),
                url=view.url(event, artifact.filename),
                sha256=artifact.sha256,
            )


def _cibuildwheel(chosen: tuple[Pin, ...]) -> str:
    blocks = []
    for table, prefix in TABLES.items():
        lines = [f"  {_line(pin)}," for pin in chosen if pin.wheel.startswith(prefix)]
        blocks.append("\n".join((f"[{table}]", "python_configurations = [", *lines, "]", "")))
    return "\n".join(blocks)


def _line(pin: Pin) -> str:
    values = {"identifier": f"{pin.python_tag}-{pin.wheel}", "version": pin.python_version}
    if pin.wheel.startswith(MANYLINUX_PREFIX):
        values |= {"path_str": f"/opt/python/{pin.tags}"}
    else:
        values |= {"url": pin.url, "sha256": pin.sha256}
    # A string of JSON is one of TOML too, where it has no characters beyond U+FFFF.
    text = ", ".join(
        f"{key} = {json.dumps(value, ensure_ascii=False)}" for key, value in values.items()
    )
    return f"{{ {text} }}"


def _manylinux(chosen: tuple[Pin, ...]) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    for pin in chosen:
        if pin.wheel.startswith(MANYLINUX_PREFIX):
            found.setdefault(pin.tags, {})[pin.wheel.removeprefix(MANYLINUX_PREFIX)] = {
                "version": pin.version,
                "download_url": pin.url,
                "sha256": pin.sha256,
            }
    return found
