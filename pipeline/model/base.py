"""What all models have in common: frozen, closed, and with one canonical JSON form."""

import hashlib
import json
from typing import Annotated, Any, Final

from pydantic import BaseModel, ConfigDict, StringConstraints

SHA256_PATTERN: Final = r"^[0-9a-f]{64}$"

MODEL_CONFIG: Final = ConfigDict(
    frozen=True, extra="forbid", allow_inf_nan=False, populate_by_name=True, protected_namespaces=()
)

Sha256 = Annotated[str, StringConstraints(pattern=SHA256_PATTERN)]
"""64 lower-case hex digits."""

Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9._-]*$", max_length=100)]
"""A name that is safe as one component of a path, a URL and an image reference."""

FileName = Annotated[
    str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._+-]*$", max_length=200)
]
"""One component of a path, as it may appear in a store."""

_COMPONENT: Final = r"[A-Za-z0-9_][A-Za-z0-9._+-]*"
RelativePath = Annotated[
    str, StringConstraints(pattern=rf"^{_COMPONENT}(/{_COMPONENT})*$", max_length=400)
]
"""A path that cannot leave the directory it is joined to: no component starts with a dot."""


class Model(BaseModel):
    """A frozen record; unknown keys are errors, so that a typing mistake is never ignored."""

    model_config = MODEL_CONFIG


def canonical_json(value: Any) -> bytes:
    """Return the one UTF-8 JSON form of *value*: keys sorted, no spaces, few escapes."""
    text = json.dumps(
        jsonable(value), sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    )
    return text.encode()


def pretty_json(value: Any) -> bytes:
    """Return *value* as JSON for people and files: keys sorted, two blanks, a final newline."""
    text = json.dumps(
        jsonable(value), sort_keys=True, indent=2, ensure_ascii=False, allow_nan=False
    )
    return f"{text}\n".encode()


def jsonable(value: Any) -> Any:
    """Return *value* made of JSON's types only; models may be nested in lists and mappings."""
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json", by_alias=True)
    if isinstance(value, dict):
        return {str(key): jsonable(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [jsonable(item) for item in value]
    return value


def content_key(stage: str, stage_version: int, **inputs: Any) -> str:
    """Return the sha256 that names a stage's output: everything that decides its bytes.

    Equal inputs give equal keys on every machine, so an output found under its key is the
    output: that is resume, cache and hand-over between machines in one mechanism.
    """
    decided_by = {"stage": stage, "stage_version": stage_version, "inputs": inputs}
    return hashlib.sha256(canonical_json(decided_by)).hexdigest()
