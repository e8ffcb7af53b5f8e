"""Training and validation parts of a workload, disjoint by document, picture, clip or random stream."""

import functools
import zlib
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from typing import Literal, Self

import numpy as np
import numpy.typing as npt

from bench.errors import UsageError

Split = Literal["all", "train", "validation"]
"""all: everything there is, which is what timing uses."""

PARTS = 10
"""One item in so many is for validation."""

_STREAMS: Mapping[Split, tuple[int, ...]] = {"all": (), "train": (1,), "validation": (2,)}


def generator_of(seed: int, index: int, length: int, split: Split) -> np.random.Generator:
    """Randomness for a batch; no two splits share a stream."""
    return np.random.default_rng([seed, index, length, *_STREAMS[split]])


class Splittable(ABC):
    """Items that fall into parts by a checksum of each one's key.

    So an item stays in its part whatever other items there are, and all copies of it are in the same part.
    """

    @abstractmethod
    def keys(self) -> Iterable[bytes]:
        """A key for each item."""

    @abstractmethod
    def take(self, numbers: npt.NDArray[np.int64]) -> Self:
        """The items with these numbers."""

    def part(self, split: Split) -> Self:
        """The items of a split. Raises UsageError if it has none."""
        if split == "all":
            return self
        if not (self._held_out == (split == "validation")).any():
            raise UsageError(
                f"the data has {len(self._held_out)} sequences, of which none falls into the {split} part: "
                "more are needed"
            )
        return self._parts[split]

    @functools.cached_property
    def _held_out(self) -> npt.NDArray[np.bool_]:
        return np.array([zlib.crc32(key) % PARTS == 0 for key in self.keys()], dtype=bool)

    @functools.cached_property
    def _parts(self) -> Mapping[Split, Self]:
        return {
            "train": self.take(np.flatnonzero(~self._held_out)),
            "validation": self.take(np.flatnonzero(self._held_out)),
        }
