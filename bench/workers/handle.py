"""A worker seen from the parent: ask it, wait for its answer, see how it ended.

The parent sleeps in a blocking read while the worker works; it never polls, since that would steal a
core from what is being timed.
"""

import contextlib
import os
import re
import select
import signal
import time
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import IO, TypeVar

import msgspec

from bench.records.solo import Status
from bench.suites.case import Case
from bench.workers.messages import Answer, Failure, Question

A = TypeVar("A", bound=msgspec.Struct)

DEVICE_ASSERT = "device-side assert"
CAPACITY = re.compile(r"more than \d+ active steps: the capacity")
"""Words of `implementations.ops.sizes` and of the Triton form."""
PRINTED_BYTES = 4000
"""Bytes that are kept of what a worker prints, the last ones."""


class WorkerFailed(Exception):
    """A worker that failed, died or passed its deadline: its status and the reason in one line."""

    def __init__(self, status: Status, reason: str, traceback: str | None = None) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason
        self.traceback = traceback
        """Python's traceback, in the worker."""
        self.printed: str | None = None
        """The end of what the worker and its model printed."""


class WorkerProcess:
    """One process for one case."""

    def __init__(
        self,
        case: Case,
        pid: int,
        exit_code_of: Callable[[int], int],
        questions: int,
        answers: int,
        stderr: IO[bytes],
    ) -> None:
        """exit_code_of: waits for the end of a worker, which only the process that forked it can do."""
        self.case = case
        self.pid = pid
        self._exit_code_of = exit_code_of
        self._questions = os.fdopen(questions, "wb")
        self._answers = answers
        self._stderr = stderr
        self._exit_code: int | None = None
        self._unread = b""

    def ask(self, question: Question, expected: type[A], deadline_seconds: float) -> A:
        """Send a question and wait for its answer. Raises WorkerFailed."""
        self.send(question)
        return self.receive(expected, deadline_seconds)

    def send(self, question: Question) -> None:
        """Send a question without waiting for the answer."""
        try:
            self._questions.write(msgspec.json.encode(question) + b"\n")
            self._questions.flush()
        except BrokenPipeError:
            raise self._death() from None

    def receive(self, expected: type[A], deadline_seconds: float) -> A:
        """Wait for the answer to the last question. Raises WorkerFailed."""
        line = self._read_line(deadline_seconds)
        try:
            answer: Answer = msgspec.json.decode(line, type=Answer)
        except (msgspec.DecodeError, UnicodeDecodeError):
            raise WorkerFailed(
                "error", "sent something that is not an answer; does the model write to it?"
            ) from None
        if isinstance(answer, Failure):
            reason = self._in_full(answer.reason)
            raise WorkerFailed(answer.kind, reason, answer.traceback)
        if not isinstance(answer, expected):
            raise WorkerFailed("error", f"answered {type(answer).__name__}, not {expected.__name__}")
        return answer

    def _in_full(self, reason: str) -> str:
        """A failure's reason, with what a device says of a failed assertion on standard error alone."""
        found = CAPACITY.search(self.printed or "") if DEVICE_ASSERT in reason else None
        return reason if found is None else f"{reason} ({found.group()})"

    def stop(self) -> None:
        """Take the worker, and what it started, off the processor until it is awake again."""
        self._signal(signal.SIGSTOP)

    @contextlib.contextmanager
    def awake(self) -> Iterator["WorkerProcess"]:
        """Within this context a stopped worker runs; then it is stopped again."""
        self._signal(signal.SIGCONT)
        yield self
        self.stop()

    @property
    def printed(self) -> str | None:
        """The end of what the worker and its model have printed; None if nothing."""
        handle = self._stderr.fileno()
        # The worker writes at this file's position, which must therefore not be moved.
        begin = max(0, os.fstat(handle).st_size - PRINTED_BYTES)
        return os.pread(handle, PRINTED_BYTES, begin).decode(errors="replace") or None

    def kill(self) -> None:
        """End the worker and everything that it started."""
        if self._exit_code is None:
            self._signal(signal.SIGKILL)
            self._wait()
        # Questions that it has not read are of no use any more.
        with contextlib.suppress(BrokenPipeError):
            self._questions.close()
        # Once: another's may have the number by now.
        if self._answers >= 0:
            os.close(self._answers)
            self._answers = -1
        self._stderr.close()

    def __enter__(self) -> "WorkerProcess":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if isinstance(error, WorkerFailed):
            error.printed = self.printed
        self.kill()

    def _signal(self, number: signal.Signals) -> None:
        # It may have ended by itself in between.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, number)

    def _read_line(self, deadline_seconds: float) -> bytes:
        end = time.monotonic() + deadline_seconds
        while b"\n" not in self._unread:
            readable, _, _ = select.select([self._answers], [], [], max(0.0, end - time.monotonic()))
            if not readable:
                raise WorkerFailed("timeout", f"gave no answer within {deadline_seconds:.0f} s")
            chunk = os.read(self._answers, 1 << 16)
            if not chunk:
                raise self._death()
            self._unread += chunk
        line, _, self._unread = self._unread.partition(b"\n")
        return line

    def _wait(self) -> int:
        if self._exit_code is None:
            self._exit_code = self._exit_code_of(self.pid)
        return self._exit_code

    def _death(self) -> WorkerFailed:
        code = self._wait()
        if code == -signal.SIGKILL:
            return WorkerFailed("oom", "killed, most likely by the kernel for want of memory")
        return WorkerFailed("crashed", last_words(self._stderr, code))


def last_words(stderr: IO[bytes], code: int) -> str:
    """A process's exit code, and the last line that it wrote."""
    how = f"died of {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
    stderr.seek(0)
    lines = stderr.read().decode(errors="replace").split("\n")
    last = next((line.strip() for line in reversed(lines) if line.strip()), "")
    return f"{how}: {last[:200]}" if last else how
