"""Locks on open files, which the system takes away when their holder dies, on every system.

On POSIX they are flock's, which who inherits the file holds too; on Windows a locked file cannot be
read by others.
"""

from typing import IO, Any

import portalocker
from portalocker import LockFlags
from portalocker.exceptions import LockException


def lock(stream: IO[Any], *, shared: bool = False) -> None:
    """Wait until the file is locked; it is until *stream* is closed everywhere."""
    portalocker.lock(stream, LockFlags.SHARED if shared else LockFlags.EXCLUSIVE)


def try_lock(stream: IO[Any], *, shared: bool = False) -> bool:
    """Lock the file if nobody holds it; return whether it is locked now."""
    how = LockFlags.SHARED if shared else LockFlags.EXCLUSIVE
    try:
        portalocker.lock(stream, how | LockFlags.NON_BLOCKING)
    except LockException as error:
        # Anything but "held elsewhere" is the system's word about the file.
        if isinstance(error.__cause__, OSError) and not isinstance(
            error.__cause__, BlockingIOError | PermissionError
        ):
            raise error.__cause__ from error
        return False
    return True
