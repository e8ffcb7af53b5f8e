"""The norms of MEGA and SeqBoat over states `(batch, length, dim)`."""

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from implementations.ops.batch_norm import batch_norm

NormKind = Literal["layernorm", "batchnorm", "scalenorm", "rmsnorm"]

EPSILON = 1e-5


class ScaleNorm(nn.Module):
    """`x·rsqrt(mean(x²) + ε)·g` with one learned scalar g."""

    def __init__(self) -> None:
        super().__init__()
        self.scalar = nn.Parameter(torch.ones(1))

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.rsqrt(x.square().mean(dim=-1, keepdim=True) + EPSILON) * self.scalar


class RMSNorm(nn.Module):
    """`x·rsqrt(mean(x²) + ε)·g` with a learned vector g `(dim,)`."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(dim))

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.rsqrt(x.square().mean(dim=-1, keepdim=True) + EPSILON) * self.weight


class BatchNorm(nn.BatchNorm1d):
    """Statistics over batch and length, padding included, of states `(batch, length, dim)`."""

    running_mean: Tensor
    running_var: Tensor
    num_batches_tracked: Tensor
    momentum: float

    def forward(self, x: Tensor) -> Tensor:
        rows = x.reshape(-1, x.shape[-1])
        if not self.training:
            return self.over_channels(rows).view_as(x)
        y, mean, variance = batch_norm(rows, self.weight, self.bias, self.eps)
        with torch.no_grad():
            self.num_batches_tracked.add_(1)
            self.running_mean.lerp_(mean.to(self.running_mean.dtype), self.momentum)
            self.running_var.lerp_(variance.to(self.running_var.dtype), self.momentum)
        return y.view_as(x)

    def over_channels(self, x: Tensor) -> Tensor:
        """The same of states `(blocks, dim, steps)` or `(rows, dim)`, in their precision or a higher one."""
        if x.dtype == self.running_mean.dtype:
            return super().forward(x)
        # torch takes no weights in half precision beside states in float32.
        wide = torch.promote_types(x.dtype, torch.float32)
        statistics = self.running_mean.to(wide), self.running_var.to(wide)
        y = F.batch_norm(x, *statistics, *self._affine(wide), self.training, self.momentum, self.eps)
        if self.training:
            with torch.no_grad():
                self.num_batches_tracked.add_(1)
                self.running_mean.copy_(statistics[0])
                self.running_var.copy_(statistics[1])
        return y

    def _affine(self, dtype: torch.dtype) -> tuple[Tensor | None, Tensor | None]:
        """Weight and bias in a precision; None without them."""
        weight, bias = (None if p is None else p.to(dtype) for p in (self.weight, self.bias))
        return weight, bias


class SequenceNorm(nn.Module):
    """One of the four norms by name; parameters under `norm`, as in the official code."""

    def __init__(self, kind: NormKind, dim: int, affine: bool = True) -> None:
        super().__init__()
        self.norm: nn.Module
        if kind == "layernorm":
            self.norm = nn.LayerNorm(dim, eps=EPSILON, elementwise_affine=affine)
        elif kind == "batchnorm":
            self.norm = BatchNorm(dim, eps=EPSILON, affine=affine)
        elif kind == "scalenorm":
            self.norm = ScaleNorm()
        elif kind == "rmsnorm":
            self.norm = RMSNorm(dim)
        else:
            raise ValueError(f"unknown norm {kind!r}: choose layernorm, batchnorm, scalenorm or rmsnorm")

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.norm(x)
        return y
