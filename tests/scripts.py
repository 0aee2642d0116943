"""The smoke scripts of ``translation_configs/pypy``, imported to be tried on crafted input."""

import importlib.util
from pathlib import Path
from types import ModuleType
from typing import Final

SCRIPTS: Final = Path(__file__).parents[1] / "translation_configs" / "pypy"


def smoke_script(name: str) -> ModuleType:
    """Return a new module of a script, which is not run as a program."""
    spec = importlib.util.spec_from_file_location(name, SCRIPTS / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
