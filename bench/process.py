"""A worker seen from the parent: start it, ask it, wait for its answer, see how it ended.

The parent sleeps in a blocking read while the worker works; it never polls, since that would steal a
core from what is being timed.
"""

import contextlib
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import TypeVar

import msgspec

from bench.case import Case
from bench.messages import Answer, Failure, Question
from bench.record import Status

A = TypeVar("A", bound=msgspec.Struct)

_STATUS: dict[str, Status] = {"oom": "oom", "nan": "nan", "error": "error", "unsupported": "unsupported"}


class WorkerFailed(Exception):
    """A worker that failed, died or passed its deadline: its status and the reason in one line."""

    def __init__(self, status: Status, reason: str) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason


class WorkerProcess:
    """One child process for one case."""

    def __init__(self, case: Case, threads: int, source: Path | None = None) -> None:
        self.case = case
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115  (closed by kill)
        environment = os.environ | {"OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)}
        if source is not None:
            environment |= _import_first(source)
        self._process = subprocess.Popen(
            # Safe path: the folder we are in must not come before a source that is asked for.
            [sys.executable, *(["-P"] if source is not None else []), "-m", "bench.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._stderr,
            env=environment,
            # Its own session: a Ctrl-C in the terminal reaches the parent alone, which then decides.
            start_new_session=True,
        )
        self._unread = b""

    @property
    def pid(self) -> int:
        return self._process.pid

    def ask(self, question: Question, expected: type[A], deadline_seconds: float) -> A:
        """Send a question and wait for its answer. Raises WorkerFailed."""
        self.send(question)
        return self.receive(expected, deadline_seconds)

    def send(self, question: Question) -> None:
        """Send a question without waiting for the answer."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(msgspec.json.encode(question) + b"\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise self._death() from None

    def receive(self, expected: type[A], deadline_seconds: float) -> A:
        """Wait for the answer to the last question. Raises WorkerFailed."""
        line = self._read_line(deadline_seconds)
        try:
            answer: Answer = msgspec.json.decode(line, type=Answer)
        except (msgspec.DecodeError, UnicodeDecodeError):
            raise WorkerFailed("error", "gave an answer that is none; does the model write to it?") from None
        if isinstance(answer, Failure):
            raise WorkerFailed(_STATUS[answer.kind], answer.reason)
        if not isinstance(answer, expected):
            raise WorkerFailed("error", f"answered {type(answer).__name__}, not {expected.__name__}")
        return answer

    def kill(self) -> None:
        """End the worker and everything that it started."""
        if self._process.poll() is None:
            # It may have ended by itself in between.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                # What it had not read is of no use any more.
                with contextlib.suppress(BrokenPipeError):
                    stream.close()
        self._stderr.close()

    def __enter__(self) -> "WorkerProcess":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()

    def _read_line(self, deadline_seconds: float) -> bytes:
        assert self._process.stdout is not None
        stdout = self._process.stdout.fileno()
        end = time.monotonic() + deadline_seconds
        while b"\n" not in self._unread:
            readable, _, _ = select.select([stdout], [], [], max(0.0, end - time.monotonic()))
            if not readable:
                raise WorkerFailed("timeout", f"gave no answer within {deadline_seconds:.0f} s")
            chunk = os.read(stdout, 1 << 16)
            if not chunk:
                raise self._death()
            self._unread += chunk
        line, _, self._unread = self._unread.partition(b"\n")
        return line

    def _death(self) -> WorkerFailed:
        code = self._process.wait()
        if code == -signal.SIGKILL:
            return WorkerFailed("oom", "killed, most likely by the kernel for want of memory")
        how = f"died of {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
        return WorkerFailed("crashed", f"{how}{self._last_words()}")

    def _last_words(self) -> str:
        self._stderr.seek(0)
        lines = self._stderr.read().decode(errors="replace").split("\n")
        last = next((line.strip() for line in reversed(lines) if line.strip()), "")
        return f": {last[:200]}" if last else ""


def _import_first(source: Path) -> dict[str, str]:
    """Environment of a worker that imports `implementations` from a folder, and this very `bench`."""
    harness = Path(__file__).resolve().parents[1]
    paths = [str(source), str(harness), os.environ.get("PYTHONPATH", ""), os.getcwd()]
    return {"PYTHONPATH": os.pathsep.join(path for path in paths if path)}
