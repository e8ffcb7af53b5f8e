"""A workload that somebody else has written, checked against what a workload promises."""

import contextlib
import inspect
import sys
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from bench.errors import UsageError
from bench.workloads.base import Batch, DataSource, Fill
from bench.workloads.splits import Split
from implementations.task import Task

T = TypeVar("T")

SHOWN = 1024
"""Time steps that `bench data` looks at if the workload has no `published_length`."""
HEADS, INPUTS = ("classifier", "two-tower", "language-model"), ("tokens", "reals")


class Others:
    """Somebody else's object as a workload: optional members get defaults, and what it gives is checked.

    Every method raises UsageError, which names the workload and what is wrong, if theirs does not follow
    `bench.Workload`.
    """

    def __init__(self, name: str, theirs: Any) -> None:
        if inspect.isclass(theirs):
            raise UsageError(
                f"workload {name}: is a class; name an object of it, WORKLOAD = {theirs.__name__}()"
            )
        self.name = name
        self._theirs = theirs
        for method in ("task", "batch", "data"):
            if not callable(self._member(method)):
                raise self._wrong(f"has no method {method}(), which a workload needs")
        self.max_length = self._length("max_length", None)
        self.published_length = self._length("published_length", min(SHOWN, self.max_length))
        self.description = str(self._member("description", "")) or _first_line(theirs)

    def task(self, length: int) -> Task:
        found = self._call("task", length)
        if not isinstance(found, Task):
            raise self._wrong(f"task({length}) gives {type(found).__name__}; give a bench.Task")
        if found.head not in HEADS or found.input not in INPUTS:
            raise self._wrong(f"task({length}) has head {found.head!r} and input {found.input!r}")
        if not (_is_whole(found.classes) and _is_whole(found.vocabulary) and isinstance(found.name, str)):
            raise self._wrong(
                f"task({length}) has the name {found.name!r}, {found.classes!r} classes and a vocabulary of "
                f"{found.vocabulary!r}; give a text and whole numbers"
            )
        if found.classes < 1 or (found.input == "tokens" and found.vocabulary < 2):
            raise self._wrong(
                f"task({length}) has {found.classes} classes and a vocabulary of {found.vocabulary}, the "
                "padding token 0 included"
            )
        return found

    def batch(
        self, length: int, batch: int, fill: Fill, seed: int, index: int = 0, split: Split = "all"
    ) -> Batch:
        if not 1 <= length <= self.max_length:
            raise UsageError(f"{self.name} gives lengths from 1 to {self.max_length}, not {length}")
        found = self._call("batch", length, batch, fill, seed, index, split)
        if not isinstance(found, Batch):
            raise self._wrong(f"batch(…) gives {type(found).__name__}; give a bench.Batch")
        return self._checked(found, self.task(length), length, batch)

    def data(self) -> str:
        return str(self._call("data"))

    def sequences(self, split: Split) -> int | None:
        count = self._optional("sequences", lambda: None, split)
        if count is not None and not (_is_whole(count) and count > 0):
            raise self._wrong(f"sequences({split!r}) gives {count!r}; give a number above 0, or None")
        return None if count is None else int(count)

    def sources(self) -> tuple[DataSource, ...]:
        found = self._optional("sources", lambda: (DataSource(self.data(), "real", self.name),))
        if not isinstance(found, tuple | list) or not all(isinstance(one, DataSource) for one in found):
            raise self._wrong("sources() gives no tuple of bench.workloads.base.DataSource")
        return tuple(found)

    def show(self, batch: Batch, row: int = 0) -> str:
        return str(self._optional("show", lambda: " ".join(map(str, batch.inputs[row].ravel())), batch, row))

    def same_again(self, length: int, fill: Fill, seed: int) -> None:
        """Raise UsageError if the same seed gives other batches: every model would have data of its own."""
        first, again = (self.batch(length, 1, fill, seed) for _ in range(2))
        if not all(np.array_equal(_part(first, name), _part(again, name)) for name in PARTS):
            raise self._wrong(
                "batch(…) gives another batch when it is asked again with the same seed and index"
            )

    def _checked(self, found: Batch, task: Task, length: int, batch: int) -> Batch:
        towers = (2,) if task.head == "two-tower" else ()
        inputs = self._array("inputs", found.inputs, (batch, *towers, length), task.input)
        steps = (length,) if task.head == "language-model" else ()
        targets = self._array("targets", found.targets, (batch, *steps), "tokens")
        self._within("targets", targets, 0, task.classes - 1)
        if task.input == "tokens":
            self._within("inputs", inputs, 0, task.vocabulary - 1)
        elif not np.isfinite(inputs).all():
            raise self._wrong("batch(…).inputs holds values that are not finite")
        lengths = found.lengths
        if lengths is not None:
            lengths = self._array("lengths", lengths, (batch, *towers), "tokens")
            self._within("lengths", lengths, 1, length)
        return Batch(inputs=inputs, lengths=lengths, targets=targets)

    def _array(self, name: str, value: Any, shape: tuple[int, ...], kind: str) -> npt.NDArray[Any]:
        """An int64 or float32 array of that shape, contiguous."""
        try:
            array = np.asarray(value)
        except (ValueError, TypeError, RuntimeError) as error:
            raise self._wrong(f"batch(…).{name} is not an array ({' '.join(str(error).split())})") from None
        if array.shape != shape:
            raise self._wrong(f"batch(…).{name} has the shape {array.shape}; give {shape}")
        wanted, kinds = (np.int64, "ui") if kind == "tokens" else (np.float32, "f")
        if array.dtype.kind not in kinds:
            raise self._wrong(f"batch(…).{name} holds {array.dtype}; give {np.dtype(wanted)}")
        return np.ascontiguousarray(array, dtype=wanted)

    def _within(self, name: str, values: npt.NDArray[Any], low: int, high: int) -> None:
        found = (int(values.min()), int(values.max()))
        for value in found:
            if not low <= value <= high:
                raise self._wrong(f"batch(…).{name} holds {value}; give {low} to {high}")

    def _length(self, name: str, default: int | None) -> int:
        value = self._member(name, default)
        if not _is_whole(value) or value < 1:
            raise self._wrong(f"{name} is {value!r}; give the time steps of its longest sequence")
        return int(value)

    def _optional(self, method: str, default: Callable[[], T], *arguments: Any) -> Any:
        if not callable(self._member(method)):
            return default()
        return self._call(method, *arguments)

    def _call(self, method: str, *arguments: Any) -> Any:
        return self._asked(f"{method}(…)", lambda: getattr(self._theirs, method)(*arguments))

    def _member(self, name: str, default: Any = None) -> Any:
        return self._asked(name, lambda: getattr(self._theirs, name, default))

    def _asked(self, what: str, ask: Callable[[], T]) -> T:
        try:
            # What it prints must not get into a table, or into JSON.
            with contextlib.redirect_stdout(sys.stderr):
                return ask()
        except UsageError:
            raise
        except Exception as error:
            reason = " ".join(f"{type(error).__name__}: {error}".split())
            raise self._wrong(f"{what} raised {reason}") from error

    def _wrong(self, problem: str) -> UsageError:
        return UsageError(f"workload {self.name}: {problem}")


PARTS = ("inputs", "lengths", "targets")


def _part(batch: Batch, name: str) -> npt.NDArray[Any]:
    value = getattr(batch, name)
    return np.empty(0) if value is None else value


def _is_whole(value: object) -> bool:
    return isinstance(value, int | np.integer) and not isinstance(value, bool)


def _first_line(theirs: Any) -> str:
    return (inspect.getdoc(type(theirs)) or type(theirs).__name__).splitlines()[0]
