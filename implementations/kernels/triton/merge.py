"""The end of a SeqBoat layer in one pass: active steps back in place, confidence, residual, silu and norm."""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from implementations.kernels.triton.launch import (
    ACCUMULATORS,
    accumulator,
    blocks,
    draw_seed,
    launch,
    row_block,
)
from implementations.kernels.triton.merge_kernels import merge_backward_kernel, merge_kernel
from implementations.kernels.triton.norms import RowNorm
from implementations.kernels.triton.packing import Packing
from implementations.kernels.triton.work import Work
from implementations.ops.configurator import LatentConfigurator


class _Merge(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        hx: Tensor,
        h: Tensor,
        x: Tensor,
        temp: Tensor | None,
        gain: Tensor | None,
        shift: Tensor | None,
        act_bias: Tensor | None,
        slot: Tensor,
        centred: bool,
        joint: bool,
        dropout: float,
    ) -> Tensor:
        dim, dtype = x.shape[-1], torch.promote_types(x.dtype, hx.dtype)
        y = torch.empty_like(x, dtype=dtype)
        rows, channels = row_block(dim)
        ctx.options = {
            "ROUTED": temp is not None,
            "JOINT": joint,
            "NORMED": gain is not None,
            "CENTRED": centred,
            "DROPOUT": dropout,
            "ROWS": rows,
            "CHANNELS": channels,
            "ACC": ACCUMULATORS[accumulator(x)],
        }
        seed = draw_seed(dropout, x)
        steps = x.numel() // dim
        norm = (x, x) if gain is None else (gain, shift)
        router = (x, x) if temp is None else (temp, act_bias)
        grid = (blocks(steps, rows),)
        launch(
            merge_kernel,
            grid,
            hx,
            h,
            x,
            slot,
            router,
            *norm,
            y,
            seed,
            steps,
            dim,
            **ctx.options,
            work=lambda: Work((hx, h, x, slot, y)),
        )
        ctx.save_for_backward(hx, h, x, temp, gain, act_bias, slot, seed)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        hx, h, x, temp, gain, act_bias, slot, seed = ctx.saved_tensors
        dim, dtype = x.shape[-1], accumulator(x)
        steps = x.numel() // dim
        programs, grad = blocks(steps, ctx.options["ROWS"]), grads[0].contiguous()
        grad_hx, grad_h, grad_x = torch.empty_like(hx), torch.zeros_like(h), torch.empty_like(x)
        grad_temp = x.new_empty(programs, dtype=dtype)
        grad_norm = x.new_empty(0 if gain is None else programs, 2, dim, dtype=dtype)
        launch(
            merge_backward_kernel,
            (programs,),
            hx,
            h,
            x,
            slot,
            (x, x) if temp is None else (temp, act_bias),
            x if gain is None else gain,
            grad,
            grad_hx,
            grad_h,
            grad_x,
            grad_temp,
            grad_norm,
            seed,
            steps,
            dim,
            **ctx.options,
            work=lambda: Work((hx, h, x, slot, grad, grad_hx, grad_h, grad_x, grad_temp, grad_norm)),
        )
        of_temp = None if temp is None else grad_temp.sum(dim=0, keepdim=True).to(temp.dtype)
        of_gain, of_shift = (None, None) if gain is None else grad_norm.sum(dim=0)
        return grad_hx, grad_h, grad_x, of_temp, of_gain, of_shift, None, None, None, None, None


def merge(
    hx: Tensor,
    h: Tensor,
    x: Tensor,
    packing: Packing,
    configurator: LatentConfigurator | None,
    *,
    norm: RowNorm | None = None,
    joint_dropout: bool = False,
    dropout: float = 0.0,
) -> Tensor:
    """`norm(silu(linear + confidence·h + x))`, with h of the active steps only; `(batch, length, dim)`.

    hx `(batch, length, 2 + dim)`: the configurator's logits, then linear; without a configurator linear
    alone, and the confidence is 1. h `(steps, dim)` packed; x `(batch, length, dim)`. Dropout acts on
    `linear + confidence·h` if it is joint, else on h.
    """
    y: Tensor = _Merge.apply(  # type: ignore[no-untyped-call]
        hx.contiguous(),
        h.contiguous(),
        x.contiguous(),
        None if configurator is None else configurator.temp,
        None if norm is None else norm.gain,
        None if norm is None else norm.shift,
        None if configurator is None else configurator.act_bias,
        packing.slot,
        norm is not None and norm.centred,
        joint_dropout,
        dropout,
    )
    return y
