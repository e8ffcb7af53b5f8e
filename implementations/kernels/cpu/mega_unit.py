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

from implementations.kernels.cpu.chunked_attention import Chunks
from implementations.kernels.cpu.dropout import draw, drop_
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
        update, middle, candidate = self._split(projected)
        z, r = self._halves(F.silu(middle))
        dropped_values = draw(v.numel(), self.hidden_dropout)
        attention = self.chunks.attention(weights.by_distance)
        attended = attention.forward(*self._inputs(z, v, dropped_values)).view_as(v)
        candidate.add_(torch.addmm(weights.h_bias, attended * r, weights.h_weight.t()))
        dropped = draw(x.numel(), self.dropout)
        y = torch.lerp(x, drop_(F.silu(candidate), dropped, self.dropout), update.sigmoid())
        return y, Saved(x, m, v, projected, attended, dropped_values, dropped)

    def backward(self, grad: Tensor, saved: Saved) -> tuple[Tensor, ...]:
        """Gradients of x, m, v and the weights from that of the output."""
        weights = self.weights
        grad_projected = torch.empty_like(saved.projected)
        update, middle, candidate = self._split(saved.projected)
        grad_update, grad_middle, grad_candidate = self._split(grad_projected)

        gate = update.sigmoid()
        h = drop_(F.silu(candidate), saved.dropped, self.dropout)
        grad_h = grad * gate
        grad_x = grad - grad_h
        torch.mul(h.sub_(saved.x).mul_(gate), grad_x, out=grad_update)
        _silu_backward(drop_(grad_h, saved.dropped, self.dropout), candidate, grad_candidate)

        z, r = self._halves(F.silu(middle))
        grad_z, grad_r = self._halves(grad_middle)
        grad_h_weight = grad_candidate.t() @ (saved.attended * r)
        grad_gated = grad_candidate @ weights.h_weight
        torch.mul(grad_gated, saved.attended, out=grad_r)
        grad_q, grad_k, grad_v, grad_by_distance = self._attention_backward(grad_gated.mul_(r), z, saved)
        torch.addcmul(grad_q * weights.gamma[0], grad_k, weights.gamma[1], out=grad_z)
        _silu_backward(grad_middle, middle, grad_middle)

        return (
            grad_x,
            grad_projected @ weights.mx_weight,
            grad_v,
            *Weights(
                mx_weight=grad_projected.t() @ saved.m,
                mx_bias=grad_projected.sum(dim=0),
                h_weight=grad_h_weight,
                h_bias=grad_candidate.sum(dim=0),
                gamma=torch.stack([(part * z).sum(dim=0) for part in (grad_q, grad_k)]),
                beta=torch.stack([part.sum(dim=0) for part in (grad_q, grad_k)]),
                by_distance=grad_by_distance,
            ),
        )

    def _inputs(self, z: Tensor, v: Tensor, dropped_values: Tensor | None) -> list[Tensor]:
        """Queries, scaled, keys and values `(chunks, size, ·)`, of z after silu and v before it."""
        gamma, beta = self.weights.gamma, self.weights.beta
        q, k = (self.chunks.split(torch.addcmul(beta[part], z, gamma[part])) for part in (0, 1))
        values = drop_(F.silu(v), dropped_values, self.hidden_dropout)
        return [q.mul_(self.chunks.scale(q)), k, self.chunks.split(values)]

    def _attention_backward(
        self, grad: Tensor, z: Tensor, saved: Saved
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Gradients of queries before their scale, of keys, of v before silu and of the bias."""
        dropped, attention = saved.dropped_values, self.chunks.attention(self.weights.by_distance)
        grad_q, grad_k, grad_values, grad_by_distance = attention.backward(
            self.chunks.split(grad), *self._inputs(z, saved.v, dropped)
        )
        assert grad_by_distance is not None
        grad_q.mul_(self.chunks.scale(grad_q))
        grad_v = drop_(grad_values, dropped, self.hidden_dropout).flatten(0, 1)
        _silu_backward(grad_v, saved.v, grad_v)
        return grad_q.flatten(0, 1), grad_k.flatten(0, 1), grad_v, grad_by_distance

    def _split(self, projected: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Update gate, z with the output gate r, candidate."""
        dim = len(self.weights.h_weight)
        update, middle, candidate = torch.split(projected, [dim, projected.shape[1] - 2 * dim, dim], dim=1)
        return update, middle, candidate

    def _halves(self, middle: Tensor) -> tuple[Tensor, Tensor]:
        """z and r."""
        z = self.weights.gamma.shape[1]
        return middle[:, :z], middle[:, z:]


def _silu_backward(grad: Tensor, x: Tensor, out: Tensor) -> None:
    """Write the gradient of x to out, which may be grad itself."""
    torch.ops.aten.silu_backward.grad_input(grad, x, grad_input=out)
