"""The append-only file of a run or of a training: one line of JSON per record.

A record is written, flushed and synced as its measurement finishes, so that a crash costs at most one.
"""

import contextlib
import os
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec

from bench.errors import ResultError
from bench.records.reading import Results, read_kinds
from bench.system.locks import lock

RUNS = Path("results") / "runs"
"""Folder of runs for which no other is named."""


class NotWritten(ResultError):
    """A record that the disk did not take; those before it are kept."""


class RecordFile:
    """Appends records to one file, and locks it meanwhile, so that two runs never mix in one file."""

    def __init__(self, path: Path, *, resume: bool = False) -> None:
        self.path = path
        self.count = 0
        self._is_new = not resume
        if path.exists() and not resume:
            raise ResultError(f"{path}: exists already; continue it with --resume or choose another --out")
        try:
            if not resume:
                _make_folder(path.parent)
            self._file = path.open("r+b" if resume else "xb")
        except OSError as error:
            what = "continued" if resume else "written"
            raise ResultError(
                f"{path}: cannot be {what} ({error.strerror}); choose another place with --out"
            ) from None
        try:
            self._lock()
            if resume:
                self._resume()
        except BaseException:
            self._close()
            raise

    def append(self, record: msgspec.Struct) -> None:
        """Write and sync one record. Raises NotWritten if the disk does not take it."""
        try:
            self._file.write(msgspec.json.encode(record) + b"\n")
            self._file.flush()
            os.fsync(self._file.fileno())
        except OSError as error:
            kept = f"; the {self.count} before it are kept" if self.count else ""
            raise NotWritten(
                f"{self.path}: record {self.count + 1} could not be written ({error.strerror}){kept}"
            ) from None
        self.count += 1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close()

    def _close(self) -> None:
        """Close the file, and remove a new one that is still empty: it would block the next run."""
        # A failed append has been reported already; closing would only repeat its flush.
        with contextlib.suppress(OSError):
            self._file.close()
        if self._is_new and self.path.exists() and self.path.stat().st_size == 0:
            self.path.unlink()

    def _lock(self) -> None:
        try:
            lock(self._file, wait=False)
        except BlockingIOError:
            raise ResultError(
                f"{self.path}: another run is writing to it; let it end, or choose another file with --out"
            ) from None

    def _resume(self) -> None:
        """Drop what a crash left after the last whole line."""
        self._file.seek(0)
        content = self._file.read()
        self.count = content.count(b"\n")
        self._file.seek(content.rfind(b"\n") + 1)
        self._file.truncate()


class ResultFile(RecordFile):
    """The file of a run. uninterrupted: context in which a record is written whole; an exception at its end
    ends the run."""

    def __init__(
        self,
        path: Path,
        uninterrupted: Callable[[], AbstractContextManager[None]] = contextlib.nullcontext,
        *,
        resume: bool = False,
    ) -> None:
        self._uninterrupted = uninterrupted
        self.earlier: list[Results] = []
        """Contents of a resumed file by kind of device; empty if nothing is there yet."""
        super().__init__(path, resume=resume)

    def append(self, record: msgspec.Struct) -> None:
        """Write and sync one record. Raises NotWritten if the disk does not take it."""
        with self._uninterrupted():
            super().append(record)

    def _resume(self) -> None:
        content = self._file.read()
        if b"\n" in content or not _is_torn_header(content):
            self.earlier = read_kinds(self.path)
        super()._resume()


def _is_torn_header(content: bytes) -> bool:
    """Whether a file holds at most the beginning of its first record."""
    beginning = b'{"type":"header",'
    return content[: len(beginning)] == beginning[: len(content)]


def _make_folder(folder: Path) -> None:
    """Make a folder; `results/runs`, when it is new, is one that git ignores.

    Else a run would leave a working tree with something uncommitted, and the next run of the same commit
    would be one of changed code.
    """
    runs = next((path for path in (folder, *folder.parents) if path.parts[-2:] == RUNS.parts), None)
    is_new = runs is not None and not runs.exists()
    folder.mkdir(parents=True, exist_ok=True)
    if runs is not None and is_new:
        (runs / ".gitignore").write_text("*\n")
