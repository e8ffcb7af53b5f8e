"""Training and validation parts of a workload, disjoint by document, picture, clip or random stream."""

import functools
import zlib
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from typing import Literal, Self

import numpy as np
import numpy.typing as npt

Split = Literal["all", "train", "validation"]
"""all: everything there is, as timing has it."""

PARTS = 10
"""One part in so many is for validation."""

_STREAMS: Mapping[Split, tuple[int, ...]] = {"all": (), "train": (1,), "validation": (2,)}


def generator_of(seed: int, index: int, length: int, split: Split) -> np.random.Generator:
    """Randomness for a batch; no two splits share a stream."""
    return np.random.default_rng([seed, index, length, *_STREAMS[split]])


class Splittable(ABC):
    """Items that fall into parts by a checksum of each one's key.

    So an item stays in its part whatever stands beside it, and copies of it are all in the same one.
    """

    @abstractmethod
    def keys(self) -> Iterable[bytes]:
        """A key for each item."""

    @abstractmethod
    def take(self, numbers: npt.NDArray[np.int64]) -> Self:
        """These items alone."""

    def part(self, split: Split) -> Self:
        """The items of a split."""
        return self if split == "all" else self._parts[split]

    @functools.cached_property
    def _parts(self) -> Mapping[Split, Self]:
        held_out = np.array([zlib.crc32(key) % PARTS == 0 for key in self.keys()], dtype=bool)
        return {
            "train": self.take(np.flatnonzero(~held_out)),
            "validation": self.take(np.flatnonzero(held_out)),
        }
