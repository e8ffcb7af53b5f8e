"""Norms over the channels of a step, for fusion with what comes before or after them."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from implementations.kernels.triton.launch import ACCUMULATORS, accumulator, blocks, launch, row_block
from implementations.kernels.triton.norm_kernels import moments_kernel, norm_backward_kernel
from implementations.kernels.triton.work import Work
from implementations.ops.norms import RMSNorm, ScaleNorm, SequenceNorm


@dataclass(frozen=True)
class RowNorm:
    """`gain·(x − mean)·rstd + shift` for each step; the mean is 0 unless centred."""

    gain: Tensor
    """`(dim,)`."""
    shift: Tensor
    """`(dim,)`."""
    centred: bool

    @classmethod
    def of(cls, norm: SequenceNorm, like: Tensor) -> "RowNorm | None":
        """The form of a norm of states like this one; None for batch norm, which is not one over channels."""
        module, dim, dtype = norm.norm, like.shape[-1], accumulator(like)
        zeros = torch.zeros(dim, dtype=dtype, device=like.device)
        if isinstance(module, nn.LayerNorm):
            gain = zeros + 1.0 if module.weight is None else module.weight.to(dtype)
            return cls(gain, zeros if module.bias is None else module.bias.to(dtype), centred=True)
        if isinstance(module, ScaleNorm):
            return cls(module.scalar.to(dtype).expand(dim).contiguous(), zeros, centred=False)
        if isinstance(module, RMSNorm):
            return cls(module.weight.to(dtype), zeros, centred=False)
        return None


def moments(x: Tensor, centred: bool) -> tuple[Tensor, Tensor]:
    """mean and rstd of each step of a contiguous x `(…, dim)`: `(steps,)` each."""
    dim, dtype = x.shape[-1], accumulator(x)
    rows = x.numel() // dim
    mean, rstd = x.new_empty(2, rows, dtype=dtype)
    tile_rows, channels = row_block(dim)
    grid = (blocks(rows, tile_rows),)
    launch(
        moments_kernel,
        grid,
        x,
        mean,
        rstd,
        rows,
        dim,
        CENTRED=centred,
        ROWS=tile_rows,
        CHANNELS=channels,
        ACC=ACCUMULATORS[dtype],
        work=lambda: Work((x, mean, rstd)),
    )
    return mean, rstd


def norm_backward(
    grad: Tensor, x: Tensor, mean: Tensor, rstd: Tensor, gain: Tensor, centred: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of x, gain and shift from that of the normed states; grad and x contiguous `(…, dim)`."""
    dim, dtype = x.shape[-1], accumulator(x)
    rows = x.numel() // dim
    tile_rows, channels = row_block(dim)
    grid = (blocks(rows, tile_rows),)
    grad_x = torch.empty_like(x)
    sums = x.new_empty(grid[0], 2, dim, dtype=dtype)
    launch(
        norm_backward_kernel,
        grid,
        grad,
        x,
        mean,
        rstd,
        gain,
        grad_x,
        sums,
        rows,
        dim,
        CENTRED=centred,
        ROWS=tile_rows,
        CHANNELS=channels,
        ACC=ACCUMULATORS[dtype],
        work=lambda: Work((grad, x, mean, rstd, grad_x, sums)),
    )
    grad_gain, grad_shift = sums.sum(dim=0)
    return grad_x, grad_gain, grad_shift
