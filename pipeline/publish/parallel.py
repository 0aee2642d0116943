"""Does one thing to several items at a time."""

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")


def each(parallel: int, action: Callable[[T], R], items: Iterable[T]) -> list[R]:
    """Return what *action* returns for each item, some at a time; the first error ends it."""
    with ThreadPoolExecutor(parallel) as pool:
        futures = [pool.submit(action, item) for item in items]
        try:
            return [future.result() for future in futures]
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
