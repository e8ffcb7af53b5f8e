"""Dropout that draws the gaps between dropped elements instead of a number for every element."""

import math

import torch
from torch import Tensor


def dropped_indices(count: int, probability: float, device: torch.device | None = None) -> Tensor:
    """`(dropped,)` int64: each of `count` elements is dropped independently with that probability.

    The gap from one dropped element to the next is geometric, so the cost is that of the dropped elements
    alone. Draws from torch's global generator.
    """
    if probability >= 1.0:
        return torch.arange(count, device=device)
    expected = count * probability
    draws = int(expected + 6.0 * math.sqrt(expected) + 8.0)
    found, last = [], -1
    while last < count - 1:
        gaps = torch.rand(draws, device=device).neg_().log1p_().mul_(1.0 / math.log1p(-probability))
        indices = gaps.long().add_(1).cumsum_(0).add_(last)
        found.append(indices)
        last = int(indices[-1])
    indices = found[0] if len(found) == 1 else torch.cat(found)
    return indices[: int(torch.searchsorted(indices, count))]


def drop_(x: Tensor, dropped: Tensor | None, probability: float) -> Tensor:
    """Zero the dropped elements of a contiguous x and scale the others by `1/(1 − probability)`, in place.

    dropped: flat indices, or None for no dropout. Its own backward: the same on the gradient.
    """
    if dropped is None:
        return x
    scale = 0.0 if probability >= 1.0 else 1.0 / (1.0 - probability)
    x.mul_(scale).view(-1).index_fill_(0, dropped, 0.0)
    return x
