"""`bench …` without a process of its own, which would load everything anew."""

import io
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import chdir, contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from unittest.mock import patch

from bench import cli


def bench(
    *words: str | Path, cwd: Path | str | None = None, env: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Its exit code and what it printed, as `subprocess.run` tells them.

    cwd: the current folder meanwhile. env: changes of the environment meanwhile.
    """
    streams = [io.TextIOWrapper(io.BytesIO(), encoding="utf-8") for _ in range(2)]
    with (
        chdir(cwd or "."),
        patch.dict(os.environ, env or {}),
        patch.object(sys, "argv", ["bench", *map(str, words)]),
        patch.object(sys, "path", list(sys.path)),
        redirect_stdout(streams[0]),
        redirect_stderr(streams[1]),
    ):
        code = _exit_code()
    for stream in streams:
        stream.flush()
    stdout, stderr = (stream.buffer.getvalue().decode() for stream in streams)  # type: ignore[attr-defined]
    return subprocess.CompletedProcess(words, code, stdout, stderr)


def _exit_code() -> int:
    try:
        cli.main()
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    return 0


@contextmanager
def ctrl_c(when: Callable[[], bool], seconds: float = 120.0) -> Iterator[None]:
    """Ctrl-C in this process once a condition holds, or after so long; none after what is done within."""
    ended = threading.Event()

    def wait() -> None:
        end = time.monotonic() + seconds
        while not ended.wait(0.05):
            if when() or time.monotonic() > end:
                os.kill(os.getpid(), signal.SIGINT)
                return

    thread = threading.Thread(target=wait)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
