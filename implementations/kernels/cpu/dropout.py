"""Dropout that draws the gaps between dropped elements instead of a number for every element."""

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from implementations.ops.sizes import expected as expected_size


def dropped_indices(count: int, probability: float, device: torch.device | None = None) -> Tensor:
    """`(dropped,)` int64: each of `count` elements is dropped independently with that probability.

    The gap from one dropped element to the next is geometric, so the cost is that of the dropped elements
    alone. Draws from torch's global generator.
    """
    if probability >= 1.0 or count == 0:
        return torch.arange(count, device=device)
    expected = count * probability
    draws = int(expected + 6.0 * math.sqrt(expected) + 8.0)
    found, last = [], -1
    while last < count - 1:
        gaps = torch.rand(draws, device=device).neg_().log1p_().mul_(1.0 / math.log1p(-probability))
        indices = gaps.long().add_(1).cumsum_(0).add_(last)
        found.append(indices)
        if expected_size() is not None:
            return indices[: round(expected)]
        last = int(indices[-1])
    indices = found[0] if len(found) == 1 else torch.cat(found)
    return indices[: int(torch.searchsorted(indices, count))]


def draw(count: int, probability: float) -> Tensor | None:
    """Indices to drop, or None if the probability is 0."""
    return dropped_indices(count, probability) if probability else None


def drop_(x: Tensor, dropped: Tensor | None, probability: float) -> Tensor:
    """Zero the dropped elements of a contiguous x and scale the others by `1/(1 − probability)`, in place.

    dropped: flat indices, or None for no dropout. Its own backward: the same on the gradient.
    """
    if dropped is None:
        return x
    scale = 0.0 if probability >= 1.0 else 1.0 / (1.0 - probability)
    x.mul_(scale).view(-1).index_fill_(0, dropped, 0.0)
    return x


def copy(x: Tensor) -> Tensor:
    """A contiguous copy, to drop elements of."""
    return x.clone(memory_format=torch.contiguous_format)


class GapDropout(nn.Dropout):
    """nn.Dropout by gaps; on devices other than the CPU nn.Dropout itself."""

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or not self.p or x.device.type != "cpu":
            return super().forward(x)
        y: Tensor = _Dropout.apply(x, self.p)  # type: ignore[no-untyped-call]
        return y


def use_gap_dropout(model: nn.Module) -> nn.Module:
    """The model, with every nn.Dropout in it replaced by GapDropout."""
    for module in model.modules():
        for name, child in module.named_children():
            if type(child) is nn.Dropout:
                setattr(module, name, GapDropout(child.p))
    return model


class _Dropout(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, probability: float) -> Tensor:
        dropped = dropped_indices(x.numel(), probability, x.device)
        ctx.save_for_backward(dropped)
        ctx.probability = probability
        return drop_(copy(x), dropped, probability)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (dropped,) = ctx.saved_tensors
        return drop_(copy(grads[0]), dropped, ctx.probability), None
