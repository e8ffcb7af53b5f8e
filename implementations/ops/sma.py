"""Sparse modular activation (Ren et al., NeurIPS 2023): a module runs on active steps only."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from implementations.ops.sizes import most_active


@dataclass(frozen=True)
class ActiveSteps:
    """Positions of a batch's active steps, in the sequence and in the working memory."""

    active: Tensor
    """`(batch, length)` boolean, True at active steps."""
    positions: Tensor
    """`(batch, memory)` int64, the original position of each step of the working memory."""
    valid: Tensor
    """`(batch, memory)` boolean, False where the working memory does not hold an active step."""
    compressed: bool
    """False if the working memory is the whole sequence, with its inactive steps masked in place."""


def compressed_steps(active: Tensor) -> ActiveSteps:
    """Working memory with each row's active steps at its front, in order.

    active `(batch, length)` boolean. The memory is as long as the densest row has active steps, and at least
    1. Waits for the device once: that length depends on the data.
    """
    counts = active.sum(dim=1, keepdim=True)
    memory = max(1, most_active(active))
    time = torch.arange(active.shape[1], device=active.device)
    # Inactive steps all fall into one slot beyond the memory, which is cut off.
    slots = torch.where(active, _slots(active), memory)
    positions = counts.new_zeros(active.shape[0], memory + 1).scatter(1, slots, time.expand_as(slots))
    valid = torch.arange(memory, device=active.device) < counts
    return ActiveSteps(active, positions[:, :memory], valid, compressed=True)


def steps_in_place(active: Tensor) -> ActiveSteps:
    """Working memory that is the whole sequence, inactive steps masked. active `(batch, length)` boolean."""
    time = torch.arange(active.shape[1], device=active.device)
    return ActiveSteps(active, time.expand(active.shape), active, compressed=False)


def choose_steps(active: Tensor, dense: float = 1.0) -> ActiveSteps:
    """Compressed steps, but steps in place for the whole batch once its densest row is `dense` or denser.

    active `(batch, length)` boolean; dense: active steps over length, padding counted as inactive.
    At that edge rows are not independent of each other: one row decides for all, as in the official code.
    """
    steps = compressed_steps(active)
    return steps if steps.positions.shape[1] < dense * active.shape[1] else steps_in_place(active)


def compress(x: Tensor, steps: ActiveSteps) -> Tensor:
    """Active steps to the front, then zeros: `(batch, length, dim)` to `(batch, memory, dim)`."""
    if not steps.compressed:
        return x
    return _take(x, steps.positions).masked_fill(~steps.valid.unsqueeze(-1), 0.0)


def extract(h: Tensor, steps: ActiveSteps) -> Tensor:
    """Back in place, zeros at inactive steps: `(batch, memory, dim)` to `(batch, length, dim)`."""
    if steps.compressed:
        h = _take(h, _slots(steps.active))
    return h.masked_fill(~steps.active.unsqueeze(-1), 0.0)


def latest(x: Tensor, active: Tensor, size: int) -> Tensor:
    """The latest active steps of `(batch, length, …)`, which may be empty: `(batch, size, …)`.

    Active step i of a row lies at i modulo size; places without one are zeros. active `(batch, length)`.
    """
    index = active.cumsum(dim=1) - 1
    kept = active & (index >= active.sum(dim=1, keepdim=True) - size)
    # All others fall into one place more, which is cut off.
    places = torch.where(kept, index % size, size)
    held = x.new_zeros(x.shape[0], size + 1, *x.shape[2:])
    rows = torch.arange(x.shape[0], device=x.device).unsqueeze(1)
    held[rows.expand_as(places), places] = x
    return held[:, :size].clone()


def sparse_modular_activation(
    x: Tensor, steps: ActiveSteps, confidence: Tensor, module: Callable[[Tensor, ActiveSteps], Tensor]
) -> Tensor:
    """The module on the working memory, back in place, times the confidence (equation 4 of the paper).

    x `(batch, length, dim)`; confidence `(batch, length)`; the module maps `(batch, memory, dim)`, and where
    these steps stand, to `(batch, memory, width)`. Returns `(batch, length, width)`, zeros at inactive steps.
    """
    return extract(module(compress(x, steps), steps), steps) * confidence.unsqueeze(-1)


def _slots(active: Tensor) -> Tensor:
    """`(batch, length)`: the step of the working memory that an active step becomes."""
    return (active.cumsum(dim=1) - 1).clamp(min=0)


def _take(x: Tensor, index: Tensor) -> Tensor:
    """`y[b, i] = x[b, index[b, i]]`: rows `(batch, length, dim)`, index `(batch, steps)`."""
    row = torch.arange(x.shape[0], device=x.device).unsqueeze(-1) * x.shape[1]
    return x.flatten(0, 1).index_select(0, (index + row).flatten()).view(*index.shape, x.shape[-1])
