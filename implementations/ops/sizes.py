"""Sizes that depend on values: how many steps are active, how many elements are dropped.

Reading such a size waits for the device. Within `shapes_only` none is read, and an expected size replaces it:
so tensors without values, which only have shapes, can go through a model. Within
`within_capacity` there is room for as much as is expected: so a CUDA graph, which can't wait, holds a model.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor


class SizeUnknown(RuntimeError):
    """A size that depends on values, and for which nothing is expected."""


@dataclass(frozen=True)
class Expected:
    """Expected sizes, in place of sizes that would be read."""

    activation: float | None
    """Active steps of every row over its length; None if unknown."""

    def active(self, length: int) -> int:
        """Active steps of a row. Raises SizeUnknown."""
        if self.activation is None:
            raise SizeUnknown("how many steps are active depends on values: give an activation rate")
        return round(self.activation * length)


# Plain variables, which torch.compile can follow into a model; it can't follow a ContextVar.
_capacity: float | None = None
_expected: Expected | None = None


@contextmanager
def shapes_only(activation: float | None = None) -> Iterator[None]:
    """Within this context sizes are expected, not read. activation: active steps of a row over its length."""
    global _expected
    before, _expected = _expected, Expected(activation)
    try:
        yield
    finally:
        _expected = before


@contextmanager
def within_capacity(share: float) -> Iterator[None]:
    """Within this context no size is read: there is room for that share of a row's steps, whatever is active.

    More active steps than that are an error, which the device raises.
    """
    global _capacity
    before, _capacity = _capacity, share
    try:
        yield
    finally:
        _capacity = before


def capacity() -> float | None:
    """The share of a row's steps that there is room for, or None where sizes are read."""
    return _capacity


def expected() -> Expected | None:
    """Expected sizes, or None if sizes are read from values."""
    return _expected


def most_active(active: Tensor) -> int:
    """Active steps of the densest row of `(batch, length)` boolean."""
    if (assumed := expected()) is not None:
        return assumed.active(active.shape[1])
    most = active.sum(dim=1).max()
    if (share := capacity()) is not None:
        room = min(active.shape[1], math.ceil(share * active.shape[1]))
        torch._assert_async(most <= room, f"more than {room} active steps: the capacity")
        return room
    return int(most)


def active_steps(active: Tensor) -> Tensor:
    """`(active,)` int64: the steps at which a row `(length,)` boolean is active."""
    if (assumed := expected()) is not None:
        return torch.empty(assumed.active(len(active)), dtype=torch.int64, device=active.device)
    return active.nonzero().squeeze(-1)
