"""When a request is sent again: one policy for downloads, stores and other services.

Faults of the network, and answers that say "later" (408, 429, 5xx), are tried again after a wait
that doubles, or that the server asked for (``Retry-After``, RFC 9110 section 10.2.3). Every other
answer in 4xx says that the request itself is wrong: sending it again would change nothing. A
request behind which there is no return (the ledger's replacement, making a release public) is
tried once; who sent it looks at what became of it.
"""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Final, TypeVar

T = TypeVar("T")

RETRIED_STATUS: Final = frozenset({408, 429, 500, 502, 503, 504})

logger = logging.getLogger(__name__)


class RetryableError(Exception):
    """A fault that may pass; ``wait`` is what the server asked for, in seconds."""

    def __init__(self, message: str, wait: float | None = None) -> None:
        super().__init__(message)
        self.wait = wait


class GaveUpError(Exception):
    """Every attempt met a fault that may pass; the cause is the last one."""


@dataclass(frozen=True, kw_only=True)
class RetryPolicy:
    """How often and after which waits, in seconds; the n-th wait is ``first_wait * 2**n``."""

    attempts: int = 5
    first_wait: float = 2.0
    longest_wait: float = 60.0
    sleep: Callable[[float], None] = time.sleep

    def call(self, what: str, action: Callable[[], T]) -> T:
        """Return what *action* returns, called again while it raises RetryableError.

        Raises:
            GaveUpError: the last attempt failed like those before.
        """
        for attempt in range(self.attempts):
            try:
                return action()
            except RetryableError as error:
                if attempt + 1 == self.attempts:
                    msg = f"{error} ({self.attempts} attempts)"
                    raise GaveUpError(msg) from error
                asked = error.wait if error.wait is not None else self.first_wait * 2.0**attempt
                wait = min(asked, self.longest_wait)
                logger.info("%s: %s; again in %.0f s", what, error, wait)
                self.sleep(wait)
        raise AssertionError  # the loop returns or raises


PATIENT: Final = RetryPolicy(attempts=14)
"""For work that nobody waits beside: a server may be away for nine minutes."""


def asked_wait(retry_after: str | None, now: Callable[[], float] = time.time) -> float | None:
    """Return the seconds that a ``Retry-After`` header asks for, a number or a date, or None."""
    if retry_after is None:
        return None
    if retry_after.isascii() and retry_after.isdigit():
        return float(retry_after)
    try:
        return max(0.0, parsedate_to_datetime(retry_after).timestamp() - now())
    except (ValueError, OverflowError):
        return None
