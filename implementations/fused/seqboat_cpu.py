"""A fused SeqBoat layer on the CPU, with a backward pass by hand.

The plain form is `implementations.models.seqboat.SeqBoatLayer`. Time is innermost in memory, so that the EMA
needs no transposition.
"""

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from implementations.fused.seqboat_passes import Pass, Weights
from implementations.kernels.cpu.norms import channel_norm, silu_of
from implementations.kernels.cpu.saved import load, save
from implementations.kernels.cpu.tiles import innermost, time_innermost, time_outermost

if TYPE_CHECKING:
    from implementations.models.seqboat import SeqBoatLayer


def seqboat_layer(layer: "SeqBoatLayer", x: Tensor, padding_mask: Tensor | None = None) -> Tensor:
    """Result of `layer(x, padding_mask)`, `(batch, length, dim)`.

    States have time innermost in memory, as a transposed view, from one layer to the next.
    Computed in float32 at least, and under autocast too; the result has the precision of x.
    """
    with torch.autocast(x.device.type, enabled=False):
        dtype = torch.promote_types(x.dtype, torch.float32)
        # A row that attends to all of itself is computed alone.
        states = time_innermost(x.to(dtype), together=layer.config.window is not None)
        u = channel_norm(layer.norm, states) if layer.config.prenorm else None
        sums: Tensor = _FusedLayer.apply(  # type: ignore[no-untyped-call]
            layer, padding_mask, states, u, *_parameters(layer, dtype)
        )
        y = silu_of(sums) if layer.config.prenorm else channel_norm(layer.norm, sums, activated=True)
        return time_outermost(y).to(x.dtype)


def _parameters(layer: "SeqBoatLayer", dtype: torch.dtype) -> Weights:
    bias, configurator = layer.rel_pos_bias, layer.configurator
    parameters = (
        layer.ema.omega,
        layer.hx_proj.weight,
        layer.hx_proj.bias,
        layer.mx_proj.weight,
        layer.mx_proj.bias,
        layer.h_proj.weight,
        layer.h_proj.bias,
        layer.gamma,
        layer.beta,
        None if bias is None else bias.rel_pos_bias,
        None if configurator is None else configurator.temp,
    )
    wide = (None if p is None else p.to(dtype) for p in parameters)
    return Weights(*layer.ema.coefficients(dtype), *wide)  # type: ignore[arg-type]


class _FusedLayer(torch.autograd.Function):
    """`branches + x` of states x and their norm u (None for x itself)."""

    @staticmethod
    def forward(
        ctx: Any,
        layer: "SeqBoatLayer",
        padding_mask: Tensor | None,
        x: Tensor,
        u: Tensor | None,
        *parameters: Tensor,
    ) -> Tensor:
        # The backward pass is this one's, whichever mode the layer is in by then.
        run = Pass(layer, x.shape[-1])
        ctx.run, ctx.normed = run, u is not None
        out, tape = run.forward(x, x if u is None else u, padding_mask, Weights(*parameters))
        save(ctx, tape)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        tape = load(ctx)
        # What follows the sums is one operator, whose gradient is nobody else's: it is written over.
        grad_x = innermost(grads[0])
        grad_u = torch.empty_like(grad_x) if ctx.normed else grad_x
        total = ctx.run.backward(grad_x, grad_u, tape)
        return None, None, grad_x, grad_u if ctx.normed else None, *total
