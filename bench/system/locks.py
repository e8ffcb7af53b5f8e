"""Locks between processes, each on an open file, which hold as long as it is open."""

import contextlib
import fcntl
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any


def lock(file: IO[Any], *, wait: bool) -> None:
    """Lock a file against other processes. Raises BlockingIOError if one has it and nobody is to wait."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        raise
    except OSError:
        return  # Some network file systems have no locks; to work without is better than not at all.


@contextlib.contextmanager
def locked(folder: Path, *, wait: bool) -> Iterator[None]:
    """Within this context no other process has the lock of a folder, which is made if it is not there.

    Raises BlockingIOError if another has it and nobody is to wait; OSError if the folder can't be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as file:
        lock(file, wait=wait)
        yield
