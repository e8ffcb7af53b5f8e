"""The gated unit of a MEGA layer, after its average and up to its residual gate, forward and backward.

The plain form is `implementations.models.mega.MovingAverageGatedAttention`. All steps of a batch lie one
after another. What is cheap is computed again in the backward pass.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from implementations.kernels.cpu.band import Square
from implementations.kernels.cpu.chunked_attention import Chunks
from implementations.kernels.cpu.dropout import draw, drop_
from implementations.kernels.cpu.gates import Before, Gates, silu_backward
from implementations.kernels.cpu.layout import Layout
from implementations.kernels.cpu.native.calls import draw_seed, usable
from implementations.kernels.cpu.native.gates import output_backward, output_forward
from implementations.kernels.cpu.saved import load, save


class Weights(NamedTuple):
    """Parameters of the unit, or their gradients."""

    mx_weight: Tensor
    mx_bias: Tensor
    h_weight: Tensor
    h_bias: Tensor
    gamma: Tensor
    beta: Tensor
    by_distance: Tensor
    """`(2·size − 1,)`: a key's bias by its distance."""


class Saved(NamedTuple):
    """Tensors that the backward pass needs."""

    x: Tensor
    m: Tensor
    v: Tensor
    projected: Tensor
    """`(steps, dim + z + hidden + dim)`: mx_proj of m, the candidate with what attention adds."""
    attended: Tensor
    """`(steps, hidden)`, before the gate."""
    dropped_values: Tensor | None
    dropped: Tensor | None
    seed: int | None
    """Seed of the output's dropout, if it was computed in C."""


def gated_unit(
    x: Tensor, m: Tensor, v: Tensor, weights: Weights, chunks: Chunks, dropout: float, hidden_dropout: float
) -> Tensor:
    """`x + σ(update)·(h − x)`, of the layer's input x, the average m after silu, and v_proj before silu.

    x, m `(batch, length, dim)`, v `(batch, length, hidden)`, all float32 or all float64; the shape of x.
    """
    rows = (part.flatten(0, 1) for part in (x, m, v))
    y: Tensor = _Unit.apply(chunks, dropout, hidden_dropout, *rows, *weights)  # type: ignore[no-untyped-call]
    return y.view_as(x)


class _Unit(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        chunks: Chunks,
        dropout: float,
        hidden_dropout: float,
        x: Tensor,
        m: Tensor,
        v: Tensor,
        *weights: Tensor,
    ) -> Tensor:
        ctx.settings = chunks, dropout, hidden_dropout
        y, saved = GatedUnit(Weights(*weights), *ctx.settings).forward(x, m, v)
        save(ctx, (weights, saved))
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        weights, saved = load(ctx)
        unit = GatedUnit(Weights(*weights), *ctx.settings)
        return None, None, None, *unit.backward(grads[0].contiguous(), saved)


@dataclass(frozen=True)
class GatedUnit:
    """The unit on steps one after another: x, m `(steps, dim)`, v `(steps, hidden)`."""

    weights: Weights
    chunks: Chunks
    dropout: float
    hidden_dropout: float

    def forward(self, x: Tensor, m: Tensor, v: Tensor) -> tuple[Tensor, Saved]:
        weights = self.weights
        projected = torch.addmm(weights.mx_bias, m, weights.mx_weight.t())
        _, middle, candidate = self._split(projected)
        dropped_values = draw(v.numel(), self.hidden_dropout)
        r, *qkv = self._gates(v, dropped_values).inputs(Before(middle, v), self._layout(v))
        attention = self.chunks.attention(weights.by_distance)
        attended = attention.forward(*map(self.chunks.split, qkv)).view_as(v)
        candidate.add_(torch.addmm(weights.h_bias, attended * r, weights.h_weight.t()))
        y, dropped, seed = self._output(projected, x)
        return y, Saved(x, m, v, projected, attended, dropped_values, dropped, seed)

    def backward(self, grad: Tensor, saved: Saved) -> tuple[Tensor, ...]:
        """Gradients of x, m, v and the weights from that of the output."""
        weights, chunks = self.weights, self.chunks
        grad_projected = torch.empty_like(saved.projected)
        _, middle, _ = self._split(saved.projected)
        _, grad_middle, grad_candidate = self._split(grad_projected)
        grad_x, (grad_update_bias, grad_h_bias) = self._output_backward(grad, saved, grad_projected)

        gates, before = self._gates(saved.v, saved.dropped_values), Before(middle, saved.v)
        r, *qkv = gates.inputs(before, self._layout(saved.v))
        grad_gated = grad_candidate @ weights.h_weight
        gated, upstream, _ = gates.gate_backward(grad_gated, saved.attended, r, self._layout(saved.v))
        grad_h_weight = grad_candidate.t() @ gated
        *grad_qkv, grad_by_distance = chunks.attention(weights.by_distance).backward(
            *map(chunks.split, (upstream, *qkv))
        )
        assert grad_by_distance is not None
        grad_v = torch.empty_like(saved.v)
        flat = (part.flatten(0, 1) for part in grad_qkv if part is not None)
        found = gates.backward(before, Before(grad_middle, grad_v), grad_gated, saved.attended, *flat)
        return (
            grad_x,
            grad_projected @ weights.mx_weight,
            grad_v,
            *Weights(
                mx_weight=grad_projected.t() @ saved.m,
                mx_bias=torch.cat([grad_update_bias, found.bias[: middle.shape[1]], grad_h_bias]),
                h_weight=grad_h_weight,
                h_bias=grad_h_bias,
                gamma=found.gamma,
                beta=found.beta,
                by_distance=grad_by_distance,
            ),
        )

    def _output(self, projected: Tensor, x: Tensor) -> tuple[Tensor, Tensor | None, int | None]:
        """`x + σ(update)·(dropout(silu(candidate)) − x)`; indices of what was dropped, or in C the seed."""
        if usable(x):
            seed = draw_seed(self.dropout)
            return output_forward(projected, x.contiguous(), self.dropout, seed), None, seed
        update, _, candidate = self._split(projected)
        dropped = draw(x.numel(), self.dropout)
        return torch.lerp(x, drop_(F.silu(candidate), dropped, self.dropout), update.sigmoid()), dropped, None

    def _output_backward(self, grad: Tensor, saved: Saved, grad_projected: Tensor) -> tuple[Tensor, Tensor]:
        """The gradient of x, and those of biases of update and candidate `(2, dim)`; writes theirs."""
        if saved.seed is not None:
            how = (grad_projected, self.dropout, saved.seed)
            grad_x, grad_bias = output_backward(grad, saved.projected, saved.x.contiguous(), *how)
            return grad_x, grad_bias
        update, _, candidate = self._split(saved.projected)
        grad_update, _, grad_candidate = self._split(grad_projected)
        gate = update.sigmoid()
        h = drop_(F.silu(candidate), saved.dropped, self.dropout)
        grad_h = grad * gate
        grad_x = grad - grad_h
        torch.mul(h.sub_(saved.x).mul_(gate), grad_x, out=grad_update)
        silu_backward(drop_(grad_h, saved.dropped, self.dropout), candidate, grad_candidate)
        return grad_x, torch.stack([grad_update.sum(dim=0), grad_candidate.sum(dim=0)])

    def _gates(self, v: Tensor, dropped_values: Tensor | None) -> Gates:
        gamma, beta = self.weights.gamma, self.weights.beta
        scale = self.chunks.scales(v, gamma.shape[1])
        return Gates(gamma, beta, scale, dropped=dropped_values, dropout=self.hidden_dropout)

    def _layout(self, v: Tensor) -> Layout:
        size = self.chunks.size
        return Square(len(v), size - 1, size - 1, len(v) // size)

    def _split(self, projected: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Update gate, z with the output gate r, candidate."""
        dim = len(self.weights.h_weight)
        update, middle, candidate = torch.split(projected, [dim, projected.shape[1] - 2 * dim, dim], dim=1)
        return update, middle, candidate
