"""Embeddings of tokens, reals and grey values, and absolute positions: how inputs become states.

Layouts are batch first: inputs `(batch, length)`, states `(batch, length, dim)`.
"""

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor, nn

from implementations.exact_buffers import kept_wide
from implementations.task import GREY_LEVELS, Grey, Task

Pixels = Literal["reals", "tokens"]
"""A model's way to read grey values: as reals, or each as one of 256 tokens."""


class Sinusoids(nn.Module):
    """Absolute positions `[sin(t f), cos(t f)]`, `f_i = 10000^(-2i/dim)`, times a learned scale or 1."""

    inv_freq: Tensor

    def __init__(self, dim: int, scale: float | None = None) -> None:
        super().__init__()
        self.register_buffer("inv_freq", 10000.0 ** (-torch.arange(0, dim, 2).float() / dim))
        self.scale = None if scale is None else nn.Parameter(torch.tensor([scale]))

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "Sinusoids":
        exact = self.inv_freq
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        # In half precision neighbours beyond 256 steps would have one position.
        self.inv_freq = kept_wide(exact, self.inv_freq)
        return self

    def forward(self, length: int) -> Tensor:
        """`(length, dim)` positions, in float32 at least."""
        return self._at(torch.arange(length, device=self.inv_freq.device, dtype=self.inv_freq.dtype))

    def at(self, time: int) -> Tensor:
        """`(dim,)`: the position of one time step."""
        return self._at(self.inv_freq.new_tensor([time]))[0]

    def _at(self, times: Tensor) -> Tensor:
        angle = torch.outer(times, self.inv_freq)
        positions = torch.cat([angle.sin(), angle.cos()], dim=-1)
        return positions if self.scale is None else positions * self.scale


class FairseqSinusoids(Sinusoids):
    """Sinusoids down to a frequency of 1/10000, `f_i = 10000^(-i/(dim/2 − 1))`, with times from `first`.

    fairseq counts the time steps of tokens from 2, one after the padding token's number.
    """

    def __init__(self, dim: int, first: int = 2) -> None:
        super().__init__(dim)
        half = dim // 2
        self.inv_freq = 10000.0 ** (-torch.arange(half).float() / (half - 1))
        self.first = first

    def _at(self, times: Tensor) -> Tensor:
        return super()._at(times + self.first)


class LearnedPositions(nn.Module):
    """A learned vector per position, `N(0, dim^-½)`."""

    def __init__(self, length: int, dim: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(length, dim) * dim**-0.5)

    def forward(self, length: int) -> Tensor:
        """`(length, dim)` positions."""
        return self.weight[:length]

    def at(self, time: int) -> Tensor:
        """`(dim,)`: the position of one time step."""
        return self.weight[time]


class RealEmbedding(nn.Module):
    """The real number `x` of a time step becomes `x·weight + bias`: (batch, length) to (batch, length, dim).

    Weight `N(0, 1)` and bias `N(0, 0.1)`, as in fairseq's LRA models.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(dim))
        self.bias = nn.Parameter(torch.randn(dim) * 0.1)

    def forward(self, x: Tensor) -> Tensor:
        return torch.addcmul(self.bias, x.unsqueeze(-1), self.weight)


class GreyEmbedding(nn.Embedding):
    """A grey value as a real becomes the vector of its level: (batch, length) to (batch, length, dim)."""

    def __init__(self, grey: Grey, dim: int) -> None:
        super().__init__(GREY_LEVELS, dim)
        nn.init.normal_(self.weight, std=dim**-0.5)
        self.grey = grey

    def forward(self, x: Tensor) -> Tensor:
        white = GREY_LEVELS - 1
        # Half precision tells grey values apart, but not after it has rounded the way back to their levels.
        wide = x.to(torch.promote_types(x.dtype, torch.float32))
        levels = (wide * self.grey.deviation + self.grey.mean) * white
        return super().forward(levels.round().clamp(0, white).long())


def token_embedding(vocabulary: int, dim: int) -> nn.Embedding:
    """Embedding of tokens, initially `N(0, dim^-½)`."""
    embedding = nn.Embedding(vocabulary, dim)
    nn.init.normal_(embedding.weight, std=dim**-0.5)
    return embedding


def embed(task: Task, dim: int, pixels: Pixels = "reals") -> nn.Module:
    """Embedding that a task's inputs need.

    pixels: how grey values are read. Raises ValueError for `tokens` if the reals are not grey levels.
    """
    if task.input == "tokens":
        return token_embedding(task.vocabulary, dim)
    if pixels == "reals":
        return RealEmbedding(dim)
    if task.grey is None:
        raise ValueError(f"the reals of the task {task.name!r} are not grey levels: pixels can't be 'tokens'")
    return GreyEmbedding(task.grey, dim)
