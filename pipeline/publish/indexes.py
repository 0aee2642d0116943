"""Reads and writes single projections, several at a time."""

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from pipeline.effects.store import Store
from pipeline.errors import PipelineError
from pipeline.publish.view import Document, Pointer, Projection

PARALLEL: Final = 8

Action = Callable[[Store, str, Projection], bool]
"""Does something about the projection that belongs under a key of a store."""


def each_index(
    store: Store, indexes: Mapping[str, Projection], action: Action
) -> Iterator[tuple[str, bool]]:
    """Yield what *action* says of each index; some are asked for at a time.

    Their order does not matter, since all that any index names is there. The first error is
    raised after the others were yielded.
    """
    failures: list[PipelineError] = []
    with ThreadPoolExecutor(PARALLEL) as pool:
        futures = {
            key: pool.submit(action, store, key, projection) for key, projection in indexes.items()
        }
    for key, future in futures.items():
        try:
            yield key, future.result()
        except PipelineError as error:
            failures.append(error)
    if failures:
        raise failures[0]


def is_there(store: Store, key: str, projection: Projection) -> bool:
    """Whether the store has it as it should be."""
    match projection:
        case Pointer(target=target):
            return store.target(key) == target
        case Document(data=data):
            present = store.read(key)
            return present is not None and present.data == data


def write(store: Store, key: str, projection: Projection) -> bool:
    """Make it as it should be; return whether it was not.

    Raises:
        ConflictError: another writes it right now.
        UncertainError: the answer was lost.
    """
    match projection:
        case Pointer(target=target):
            return store.point(key, target)
        case Document(data=data, content_type=content_type):
            present = store.read(key)
            if present is not None and present.data == data:
                return False
            tag = None if present is None else present.tag
            store.replace(key, data, tag=tag, content_type=content_type)
            return True
