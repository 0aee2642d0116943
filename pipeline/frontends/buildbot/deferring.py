"""Coroutines for Twisted, which waits for deferreds."""

import functools
from collections.abc import Callable, Coroutine
from typing import Any, ParamSpec, TypeVar

from twisted.internet import defer

P = ParamSpec("P")
R = TypeVar("R")


def deferred(
    function: Callable[P, Coroutine[Any, Any, R]],
) -> Callable[P, "defer.Deferred[R]"]:
    """Make what Twisted waits for of a coroutine function."""

    @functools.wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> "defer.Deferred[R]":
        return defer.Deferred.fromCoroutine(function(*args, **kwargs))

    return call
