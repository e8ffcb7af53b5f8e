"""The console of displays: a program keeps running when its terminal or its reader has gone."""

import os
import shutil
import sys
from typing import TYPE_CHECKING, Any, TextIO, cast

if TYPE_CHECKING:
    from rich.console import Console


class PatientStream:
    """A stream that takes what is written, even if nobody reads it any more."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        try:
            self._stream.write(text)
        except OSError:
            lead_nowhere(self._stream)
        return len(text)

    def flush(self) -> None:
        try:
            self._stream.flush()
        except OSError:
            lead_nowhere(self._stream)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def patient_console() -> "Console":
    """A console on standard error that outlives its reader."""
    from rich.console import Console

    return Console(file=cast(TextIO, PatientStream(sys.stderr)))


def width_of(stream: TextIO) -> int | None:
    """Characters per line: of the terminal, or as COLUMNS says; None for a file or pipe without it."""
    if stream.isatty():
        return shutil.get_terminal_size().columns
    columns = os.environ.get("COLUMNS", "")
    return int(columns) if columns.isdecimal() and int(columns) > 0 else None


def takes_marks(stream: TextIO) -> bool:
    """Whether a stream shows bold and colours, and its user wants them (https://no-color.org)."""
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def lead_nowhere(stream: TextIO) -> None:
    """Point a failed stream at /dev/null: writing what it still holds, as at exit, would fail again."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
