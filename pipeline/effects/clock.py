"""The time of day; everything that asks for it asks here, so that tests decide what it is."""

from collections.abc import Callable
from datetime import UTC, datetime

Now = Callable[[], datetime]


def utc_now() -> datetime:
    """Return the present time, in UTC."""
    return datetime.now(tz=UTC)
