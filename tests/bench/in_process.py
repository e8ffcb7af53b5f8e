"""`bench …` without a process of its own, which would load everything anew."""

import io
import os
import subprocess
import sys
from collections.abc import Mapping
from contextlib import chdir, redirect_stderr, redirect_stdout
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
