"""The user's folders: home, which may be missing, and that of caches."""

import os
from pathlib import Path


class NoHome(RuntimeError):
    """There is no home folder to keep anything in; the message says what to set."""


def expanded(path: str) -> Path:
    """A path with its `~` or `~user` replaced; that of nobody is left as it is, a name of no file."""
    try:
        return Path(os.path.expanduser(path))
    except ValueError:  # A name that no user can have.
        return Path(path)


def cache_folder() -> Path:
    """Folder of everything that this package keeps between runs. Raises NoHome."""
    base = os.environ.get("XDG_CACHE_HOME")
    try:
        return (Path(base) if base else Path.home() / ".cache") / "seqboat-bench"
    except RuntimeError:
        raise NoHome("no home folder: set HOME or XDG_CACHE_HOME") from None
