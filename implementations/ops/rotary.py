"""Rotary positions (Su et al. 2021, RoFormer)."""

import torch
from torch import Tensor

BASE = 10000.0


def rotate(x: Tensor, positions: Tensor) -> Tensor:
    """Turn each pair of neighbouring channels `(2i, 2i+1)` by the angle `t·10000^(−2i/dim)`.

    x `(batch, length, dim)` with an even dim; positions t `(batch, length)` or `(length,)`.
    Angles are computed in float32 at least. Returns the shape and precision of x.
    """
    dtype = torch.promote_types(x.dtype, torch.float32)
    channels = torch.arange(0, x.shape[-1], 2, device=x.device, dtype=dtype)
    angle = positions.unsqueeze(-1).to(dtype) * BASE ** (-channels / x.shape[-1])
    cos, sin = angle.cos().to(x.dtype), angle.sin().to(x.dtype)
    even, odd = x[..., 0::2], x[..., 1::2]
    return torch.stack([even * cos - odd * sin, odd * cos + even * sin], dim=-1).flatten(-2)
