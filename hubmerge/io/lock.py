"""One merge at a time in one folder: a lock that the system lets go of when its holder dies, however it dies."""

from __future__ import annotations

import errno
import os
from pathlib import Path

__all__ = ["lock_folder"]

_NO_LOCKS_HERE = {errno.ENOLCK, errno.ENOTSUP, errno.EINVAL, errno.ENOSYS}


def lock_folder(folder: Path) -> int | None:
    """Take the lock of an existing `folder`; returns the descriptor whose closing gives it back.

    None where there are no such locks (Windows, some network disks): two merges are then not kept apart.  Raises
    `BlockingIOError` when another process, or another merge of this one, has the lock or has taken the folder away.
    """
    if os.name != "posix":
        return None
    import fcntl

    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if not folder.exists() or not os.path.samestat(os.fstat(descriptor), folder.stat()):
            raise BlockingIOError(errno.EAGAIN, "the folder was taken away", str(folder))
    except OSError as error:
        os.close(descriptor)
        if error.errno in _NO_LOCKS_HERE:
            return None
        raise
    return descriptor
