"""Which versions a PyPy source says it is, read from ``pypy/module/sys/version.py``. Pure.

The file assigns tuples to ``PYPY_VERSION`` and ``CPYTHON_VERSION``. It is parsed and never run.
"""

import ast
from typing import Final

from pipeline.errors import SourceError
from pipeline.model.versions import InterpreterVersion

INTERPRETER: Final = "PYPY_VERSION"
LANGUAGE: Final = "CPYTHON_VERSION"


def read_versions(text: str, where: str) -> tuple[InterpreterVersion, str]:
    """Return the interpreter's version and the full language version (``3.11.15``).

    Raises:
        SourceError: *text* does not assign them; *where* says which file of what it is.
    """
    try:
        assigned = dict(_assignments(ast.parse(text)))
        language = InterpreterVersion.from_source(assigned[LANGUAGE])
        return (
            InterpreterVersion.from_source(assigned[INTERPRETER]),
            f"{language.major}.{language.minor}.{language.micro}",
        )
    except (SyntaxError, ValueError, TypeError, KeyError) as error:
        msg = f"{where}: does not assign version tuples to {INTERPRETER} and {LANGUAGE}: {error}"
        raise SourceError(msg) from error


def _assignments(module: ast.Module) -> list[tuple[str, object]]:
    found = []
    for node in module.body:
        match node:
            case ast.Assign(targets=[ast.Name(id=name)], value=value) if name in (
                INTERPRETER,
                LANGUAGE,
            ):
                found.append((name, ast.literal_eval(value)))
    return found
