"""Interface of a workload: a deterministic batch for (seed, index), the same for every model of a suite."""

import hashlib
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt

from bench.errors import UsageError
from bench.workloads.splits import Split
from implementations.task import Task

Fill = Literal["full", "real"]
"""`full`: every position is real; `real`: true lengths, right-padded."""


@dataclass(frozen=True)
class Batch:
    """inputs `(batch, length)` int64 tokens or float32 reals (`(batch, 2, length)` for two towers);
    lengths `(batch,)` true lengths, or None if every position is real; targets `(batch,)` int64,
    or `(batch, length)` for a language model."""

    inputs: npt.NDArray[np.int64] | npt.NDArray[np.float32]
    lengths: npt.NDArray[np.int64] | None
    targets: npt.NDArray[np.int64]

    @property
    def tokens(self) -> int:
        """Positions that a step computes, padding included."""
        return int(self.inputs.size)

    @property
    def real_tokens(self) -> int:
        """Positions that hold data."""
        return self.tokens if self.lengths is None else int(self.lengths.sum())

    @property
    def digest(self) -> str:
        """Checksum of everything in the batch."""
        found = hashlib.sha256()
        for part in (self.inputs, self.lengths, self.targets):
            found.update(b"none" if part is None else f"{part.dtype} {part.shape} ".encode())
            found.update(b"" if part is None else np.ascontiguousarray(part).data)
        return found.hexdigest()[:16]


@dataclass(frozen=True)
class DataSource:
    """A source of batches; a workload uses the first of its sources that is there."""

    name: str
    kind: Literal["real", "generated", "synthetic"]
    """real: recorded data; generated: the task's own published procedure; synthetic: made up."""
    location: str | None
    """Path on this machine; None if it is missing."""
    obtain: str = ""
    """Steps to get it."""


class Workload(Protocol):
    """One task: the shapes that a model must accept, and batches of them."""

    name: str
    description: str
    max_length: int
    """Length of the longest sequence, in time steps."""
    published_length: int
    """Length of the published task, in time steps."""

    def task(self, length: int) -> Task:
        """The task that a model is built for at this length."""

    def batch(
        self, length: int, batch: int, fill: Fill, seed: int, index: int = 0, split: Split = "all"
    ) -> Batch:
        """The batch number `index` of that seed, from a part of the data."""

    def sequences(self, split: Split) -> int | None:
        """Sequences of a split; None if they are generated without end."""

    def data(self) -> str:
        """The data that the batches are made of, as every output states it."""

    def sources(self) -> tuple[DataSource, ...]:
        """Everything that the batches could be made of, the best first. Reads no data."""

    def show(self, batch: Batch, row: int = 0) -> str:
        """One sequence of a batch as a person reads it."""


def text_of(tokens: npt.NDArray[Any]) -> str:
    """Text of tokens that are bytes, byte b as token b + 1, without the padding."""
    return bytes((tokens[tokens > 0] - 1).astype(np.uint8)).decode("utf-8", "replace")


def used(sources: tuple[DataSource, ...]) -> DataSource:
    """The first source that is there. Raises UsageError if none is: how to get one."""
    for source in sources:
        if source.location is not None:
            return source
    ways = "; ".join(f"{source.name}: {source.obtain}" for source in sources)
    raise UsageError(f"none of the sources of this data is here: {ways or 'it names none'}")
