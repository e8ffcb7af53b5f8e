"""Exceptions of a worker as failures of its row."""

import re
import traceback

from bench.system.out_of_memory import is_out_of_memory
from bench.workers.messages import Failure, FailureKind

TRACEBACK_CHARACTERS = 8000
REASON_CHARACTERS = 300

ADVICE = re.compile(
    r"\s*(Search for `cuda|CUDA kernel errors might be|For debugging consider|Compile with `TORCH_).*"
)
"""Advice that torch appends to every error of CUDA."""


class Faulty(Exception):
    """Steps that ran, but whose times are worth nothing."""

    def __init__(self, kind: FailureKind, reason: str) -> None:
        super().__init__(reason)
        self.kind = kind


def failure_of(error: Exception) -> Failure:
    """An exception as the worker's answer."""
    if isinstance(error, Faulty):
        return Failure(error.kind, str(error))
    if isinstance(error, MemoryError):
        return Failure("oom", "out of memory")
    trace = "".join(traceback.format_exception(error))
    return Failure(*_classify(error), trace[-TRACEBACK_CHARACTERS:])


def _classify(error: Exception) -> tuple[FailureKind, str]:
    text = ADVICE.sub("", " ".join(str(error).split())) or type(error).__name__
    if is_out_of_memory(error):
        return "oom", _shortened(text)
    if isinstance(error, NotImplementedError):
        return "unsupported", _shortened(text)
    return "error", f"{type(error).__name__}: {_shortened(text)}"


def _shortened(text: str) -> str:
    return text if len(text) <= REASON_CHARACTERS else f"{text[: REASON_CHARACTERS - 1]}…"
