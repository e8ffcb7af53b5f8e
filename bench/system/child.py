"""Running a module of ours as a child process: its answer, or why there is none.

The answer travels in a file of its own, so that libraries may print what they like.
"""

import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping


class ChildFailed(Exception):
    """A child that ended without an answer; the message is the last line of its standard error."""


def ask(
    module: str, *words: str, question: bytes = b"", environment: Mapping[str, str] | None = None
) -> bytes:
    """Run `python -m module` with some arguments and a question on its standard input; return its answer.

    Safe path: no module is imported from the current folder.
    environment: variables in place of this process's. Raises ChildFailed.
    """
    with tempfile.TemporaryFile() as file:
        handle = file.fileno()
        child = subprocess.run(
            [sys.executable, "-P", "-m", module, *words, str(handle)],
            input=question,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            env=environment,
            pass_fds=[handle],
            check=False,
        )
        file.seek(0)
        answered = file.read()
    if child.returncode != 0 or not answered:
        lines = child.stderr.decode(errors="replace").strip().splitlines()
        raise ChildFailed(lines[-1] if lines else f"{module} ended with exit code {child.returncode}")
    return answered


def answer(content: bytes) -> None:
    """In the child: hand the answer over."""
    with os.fdopen(int(sys.argv[-1]), "wb") as file:
        file.write(content)
