"""Sizes that depend on values: how many steps are active, how many elements are dropped.

Reading such a size waits for the device. Within `shapes_only` none is read, and an expected size replaces it:
so tensors without values, which only have shapes, can go through a model.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
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


_expected: ContextVar[Expected | None] = ContextVar("expected", default=None)


@contextmanager
def shapes_only(activation: float | None = None) -> Iterator[None]:
    """Within this context sizes are expected, not read. activation: active steps of a row over its length."""
    token = _expected.set(Expected(activation))
    try:
        yield
    finally:
        _expected.reset(token)


def expected() -> Expected | None:
    """Expected sizes, or None if sizes are read from values."""
    return _expected.get()


def most_active(active: Tensor) -> int:
    """Active steps of the densest row of `(batch, length)` boolean."""
    if (assumed := expected()) is not None:
        return assumed.active(active.shape[1])
    return int(active.sum(dim=1).max())


def active_steps(active: Tensor) -> Tensor:
    """`(active,)` int64: the steps at which a row `(length,)` boolean is active."""
    if (assumed := expected()) is not None:
        return torch.empty(assumed.active(len(active)), dtype=torch.int64, device=active.device)
    return active.nonzero().squeeze(-1)
