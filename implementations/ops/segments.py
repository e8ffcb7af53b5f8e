"""Segment-level recurrence: a long sequence goes through a stack of layers in segments, one after another.

A layer sees its own segment and a memory of the states before it. The memory carries no gradient, so that
a segment costs the same wherever it stands, and time and memory are linear in the length.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable

import torch
from torch import Tensor, nn

Memory = list[Tensor]
"""States before a segment, one `(batch, ≤ memory, dim)` per layer: what the layer took in."""


class SegmentedStack(nn.Module, ABC):
    """Causal layers over segments: states `(batch, length, dim)` to the same.

    Padding is at the right, where nothing real sees it; the mask is not needed.
    """

    def __init__(self, layers: Iterable[nn.Module], segment: int) -> None:
        super().__init__()
        if segment < 1:
            raise ValueError(f"a segment of {segment} time steps")
        self.layers = nn.ModuleList(layers)
        self.segment = segment

    @abstractmethod
    def states(self, x: Tensor, memory: Memory, reach: list[int]) -> list[Tensor]:
        """Run one segment `(batch, ≤ segment, dim)` after a memory. Returns the inputs of each layer, and the
        output of the last. reach: the current result of `reach()`."""

    @abstractmethod
    def reach(self) -> list[int]:
        """Number of states before a segment that each layer remembers; may wait for the device."""

    def advance(self, x: Tensor, memory: Memory) -> tuple[Tensor, Memory]:
        """Run one segment `(batch, ≤ segment, dim)` after a memory. Returns its states and the new memory."""
        reach = self.reach()
        *taken_in, last = self.states(x, memory, reach)
        return last, _remembered(memory, taken_in, reach)

    def taken_in(self, x: Tensor) -> list[Tensor]:
        """Inputs of each layer for a whole sequence, which may be empty."""
        memory, reach = self.empty_memory(x), self.reach()
        segments = [memory]
        for segment in torch.split(x, self.segment, dim=1) if x.shape[1] else ():
            segments.append(self.states(segment, memory, reach)[:-1])
            memory = _remembered(memory, segments[-1], reach)
        return [torch.cat(states, dim=1) for states in zip(*segments, strict=True)]

    def empty_memory(self, x: Tensor) -> Memory:
        """The memory before the first segment."""
        return [x.new_empty(x.shape[0], 0, x.shape[2]) for _ in self.layers]

    def forward(self, x: Tensor, padding_mask: Tensor | None = None) -> Tensor:
        memory = self.empty_memory(x)
        segments = []
        for segment in torch.split(x, self.segment, dim=1):
            states, memory = self.advance(segment, memory)
            segments.append(states)
        return torch.cat(segments, dim=1)


def _remembered(memory: Memory, taken_in: list[Tensor], reach: list[int]) -> Memory:
    return [remember(*layer) for layer in zip(memory, taken_in, reach, strict=True)]


def remember(memory: Tensor, x: Tensor, size: int) -> Tensor:
    """The last `size` states of a memory `(batch, m, dim)` followed by x, without gradient."""
    if size <= x.shape[1]:
        return x[:, x.shape[1] - size :].detach()
    return torch.cat([memory, x], dim=1)[:, -size:].detach()
