"""Data sets on this machine: the user's folders, files inside installed packages, lines of big tables."""

import bz2
import hashlib
import importlib.util
import os
from pathlib import Path

import numpy as np
import numpy.typing as npt

from bench.errors import UsageError

LRA_VARIABLE = "SEQBOAT_BENCH_LRA"
"""Environment variable that names the unpacked `lra_release` folder of the Long Range Arena."""

SCAN_BYTES = 1 << 26
WHOLE_BYTES = 1 << 28
"""Files up to this size are read whole for their checksum, larger ones in pieces that are spread evenly."""
PIECES, PIECE_BYTES = 1024, 1 << 16


def reinstall(path: Path, error: Exception) -> UsageError:
    """The error of a file of an installed package that can't be read, which says what to do."""
    return UsageError(f"{path}: cannot be read ({error}); reinstall with pip install 'seqboat-bench[data]'")


def decompressed(archive: Path) -> bytes:
    """Content of a .bz2 of an installed package. Raises UsageError, which says how to reinstall it."""
    try:
        return bz2.decompress(archive.read_bytes())
    except (OSError, ValueError) as error:
        raise reinstall(archive, error) from None


def fingerprint(path: Path) -> str:
    """Checksum of a file, in words. Raises UsageError if the file can't be read.

    For a large file it is a checksum of its size and of pieces, and says so.
    """
    try:
        size = path.stat().st_size
        found = hashlib.sha256(f"{size} ".encode() if size > WHOLE_BYTES else b"")
        with path.open("rb") as file:
            if size <= WHOLE_BYTES:
                while piece := file.read(SCAN_BYTES):
                    found.update(piece)
            else:
                for number in range(PIECES):
                    file.seek(number * (size - PIECE_BYTES) // (PIECES - 1))
                    found.update(file.read(PIECE_BYTES))
    except OSError as error:
        raise UsageError(f"{path}: cannot be read ({error.strerror})") from None
    words = "sha256" if size <= WHOLE_BYTES else f"sha256 of {PIECES} pieces"
    return f"{words} {found.hexdigest()[:16]}"


def expanded(path: str) -> Path:
    """A path with its `~` or `~user` replaced; that of nobody is left as it is, a name of no file.

    As `implementations.folders` has it, which the older revision that a gate's worker may import lacks.
    """
    try:
        return Path(os.path.expanduser(path))
    except ValueError:  # A name that no user can have.
        return Path(path)


def user_folder(variable: str) -> Path | None:
    """The folder that an environment variable names, None if it is unset.

    Raises UsageError if there is no such folder: a name that was given is never silently passed over.
    """
    name = os.environ.get(variable)
    if not name:
        return None
    folder = expanded(name)
    if not folder.is_dir():
        raise UsageError(f"{variable}={name}: no such folder")
    return folder


def lra_file(relative: str) -> Path | None:
    """A file of the user's LRA folder, which may be the folder above it; None if it is not there."""
    return next((path for path in _lra_paths(relative) if path.is_file()), None)


def lra_folder(relative: str) -> Path | None:
    """A folder in the user's LRA folder, which may be the folder above it; None if it is not there."""
    return next((path for path in _lra_paths(relative) if path.is_dir()), None)


def _lra_paths(relative: str) -> tuple[Path, ...]:
    folder = user_folder(LRA_VARIABLE)
    return () if folder is None else (folder / relative, folder / "lra_release" / relative)


def package_file(package: str, pattern: str) -> Path | None:
    """The first file of that pattern in an installed package, which is not imported; None without it."""
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        return None
    return min(Path(spec.origin).parent.glob(pattern), default=None)


class Lines:
    """The lines of a file by number, without the file in memory: it may be several gigabytes."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._content: npt.NDArray[np.uint8] = np.memmap(path, dtype=np.uint8, mode="r")
        except (OSError, ValueError) as error:
            raise UsageError(f"{path}: cannot be read ({error})") from None
        self._ends = np.concatenate([*self._newlines(), [self._content.size]])
        if self._ends.size > 1 and self._ends[-2] == self._content.size - 1:
            self._ends = self._ends[:-1]

    def _newlines(self) -> list[npt.NDArray[np.int64]]:
        newline = ord("\n")
        return [
            begin + np.flatnonzero(self._content[begin : begin + SCAN_BYTES] == newline)
            for begin in range(0, self._content.size, SCAN_BYTES)
        ]

    def __len__(self) -> int:
        return int(self._ends.size)

    def __getitem__(self, number: int) -> bytes:
        begin = 0 if number == 0 else int(self._ends[number - 1]) + 1
        return self._content[begin : self._ends[number]].tobytes().rstrip(b"\r")
