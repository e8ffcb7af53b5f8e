"""The user's files as workloads, without a line of code: `tokens:file.npy` and `text:file.txt`.

Both are language modelling over one stream. The files are memory-mapped: they may be larger than memory.
"""

import functools
from abc import ABC, abstractmethod
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar
from zipfile import BadZipFile

import numpy as np
import numpy.typing as npt

from bench.errors import UsageError
from bench.workloads.base import Batch, DataSource, Fill, text_of
from bench.workloads.files import SCAN_BYTES, expanded, fingerprint
from bench.workloads.splits import Split
from bench.workloads.stream import MAX_LENGTH, excerpts, part_of
from implementations.errors import RegistryError
from implementations.task import Task

BYTES = 256
LARGEST_VOCABULARY = 1 << 31
SHOWN = 1024
"""Time steps that `bench data` looks at."""


class Stream(ABC):
    """Language modelling over a file. Raises UsageError, which names the file, if it is not fit for that."""

    kind: ClassVar[str]
    unit: ClassVar[str]

    def __init__(self, name: str, path: Path, vocabulary: int | None) -> None:
        self.name = name
        self.path = path
        self.content = self._open()
        self.description = f"language modelling of {path.name}, {self.kind}"
        if self.content.size < 2:
            raise UsageError(f"{path}: holds {self.content.size} {self.unit}, too few for one and its target")
        self.max_length = min(self.content.size - 1, MAX_LENGTH)
        self.published_length = min(self.max_length, SHOWN)
        self._given = vocabulary

    @abstractmethod
    def _open(self) -> npt.NDArray[Any]:
        """The stream `(size,)` of whole numbers."""

    @abstractmethod
    def _count(self) -> int:
        """Distinct values that the stream may have, from 0."""

    @cached_property
    def vocabulary(self) -> int:
        """Size of the stream's vocabulary without the padding token: as given, else counted."""
        return self._given or self._count()

    def task(self, length: int) -> Task:
        """The task enwik8, whose published hyper-parameters are borrowed, with this vocabulary."""
        size = self.vocabulary + 1
        return Task("enwik8", length=length, classes=size, head="language-model", vocabulary=size)

    def batch(
        self, length: int, batch: int, fill: Fill, seed: int, index: int = 0, split: Split = "all"
    ) -> Batch:
        """Excerpts that start anywhere; the targets are one step ahead. Batches are always full."""
        content = part_of(self.content, split)
        if not 1 <= length <= MAX_LENGTH:
            raise UsageError(f"{self.name} gives lengths from 1 to {MAX_LENGTH}, not {length}")
        if content.size <= length:
            where = "" if split == "all" else f" for {split}"
            raise UsageError(
                f"{self.path}: {content.size} {self.unit}{where} are too few for a sequence of {length} and "
                "its target"
            )
        found = excerpts(content, length, batch, seed, index, split)
        tokens = (found.inputs, found.targets)
        low, high = min(int(part.min()) for part in tokens) - 1, max(int(part.max()) for part in tokens) - 1
        if low < 0 or high >= self.vocabulary:
            raise UsageError(
                f"{self.path}: holds {high if low >= 0 else low}, which is not in a vocabulary of "
                f"{self.vocabulary} (0 to {self.vocabulary - 1})"
            )
        return found

    def sequences(self, split: Split) -> int | None:
        return None

    def sources(self) -> tuple[DataSource, ...]:
        return (DataSource("a file of your own", "real", str(self.path)),)

    @cached_property
    def _data(self) -> str:
        counted = "" if self._given is None else ", as given"
        return (
            f"{self.path.name}, {self.content.size} {self.unit}, vocabulary {self.vocabulary}{counted} "
            f"({fingerprint(self.path)})"
        )

    def data(self) -> str:
        return self._data

    @abstractmethod
    def show(self, batch: Batch, row: int = 0) -> str:
        """One sequence of a batch as a person reads it."""


class Tokens(Stream):
    """Tokens of a NumPy file, whole numbers from 0 in one dimension."""

    kind, unit = "tokens", "tokens"

    def _open(self) -> npt.NDArray[Any]:
        try:
            content = np.load(self.path, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError, EOFError, BadZipFile) as error:
            raise UsageError(f"{self.path}: is not a NumPy array that can be mapped ({error})") from None
        if not isinstance(content, np.ndarray):
            raise UsageError(f"{self.path}: holds several arrays; save one, as .npy")
        if content.ndim != 1 or content.dtype.kind not in "ui":
            shape = " × ".join(map(str, content.shape)) or "a single value"
            raise UsageError(
                f"{self.path}: holds {shape} of {content.dtype}; give whole numbers in one dimension"
            )
        return content

    def _count(self) -> int:
        step = SCAN_BYTES // self.content.itemsize
        pieces = [self.content[begin : begin + step] for begin in range(0, self.content.size, step)]
        low, high = min(int(piece.min()) for piece in pieces), max(int(piece.max()) for piece in pieces)
        if low < 0 or high >= LARGEST_VOCABULARY:
            wrong = low if low < 0 else high
            raise UsageError(
                f"{self.path}: holds the token {wrong}; tokens are 0 to {LARGEST_VOCABULARY - 1}"
            )
        return high + 1

    def show(self, batch: Batch, row: int = 0) -> str:
        return " ".join(map(str, batch.inputs[row] - 1))


class Text(Stream):
    """The bytes of a text file."""

    kind, unit = "byte by byte", "bytes"

    def _open(self) -> npt.NDArray[Any]:
        try:
            return np.memmap(self.path, dtype=np.uint8, mode="r")
        except (OSError, ValueError) as error:
            raise UsageError(f"{self.path}: cannot be read ({error})") from None

    def _count(self) -> int:
        return BYTES

    def show(self, batch: Batch, row: int = 0) -> str:
        return text_of(batch.inputs[row])


SCHEMES: Mapping[str, type[Stream]] = {"tokens": Tokens, "text": Text}


def is_own_file(name: str) -> bool:
    """Whether a workload's name names a file, such as `tokens:corpus.npy`."""
    return name.partition(":")[0] in SCHEMES and ":" in name


def load(name: str) -> Stream:
    """The workload of a file, with or without `(vocabulary=N)` after its name. Raises UsageError."""
    scheme, _, rest = name.partition(":")
    path, values = expanded(rest), dict[str, Any]()
    if rest.endswith(")") and not path.exists():
        from implementations import settings

        try:
            setting = settings.parse(rest)
        except RegistryError as error:
            raise UsageError(f"workload {error}") from None
        path, values = expanded(setting.use), dict(setting.values)
    if not path.is_file():
        raise UsageError(f"workload {name}: {path}: no such file")
    vocabulary = values.pop("vocabulary", None)
    if values:
        raise UsageError(f"workload {name}: unknown setting {next(iter(values))!r}; known: vocabulary")
    if vocabulary is not None and (
        not isinstance(vocabulary, int) or not 1 <= vocabulary < LARGEST_VOCABULARY
    ):
        raise UsageError(f"workload {name}: vocabulary={vocabulary!r}: give a whole number above 0")
    found = path.stat()
    return _opened(scheme, name, path.resolve(), vocabulary, found.st_size, found.st_mtime_ns)


@functools.lru_cache(maxsize=8)
def _opened(scheme: str, name: str, path: Path, vocabulary: int | None, size: int, changed: int) -> Stream:
    """The workload of a file; cached, so that each state of the file is opened, counted and summed once."""
    return SCHEMES[scheme](name, path, vocabulary)
