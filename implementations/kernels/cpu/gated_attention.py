"""The gated attention unit of SeqBoat on the active steps of one row, forward and backward.

The plain form is `implementations.models.seqboat.SeqBoatLayer.gated_attention`.
"""

from dataclasses import dataclass
from typing import NamedTuple, Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from implementations.kernels.cpu.band import Layout
from implementations.kernels.cpu.dropout import drop_
from implementations.ops.rotary import BASE


class Attention(Protocol):
    """Attention of one row, as `local_attention.RowAttention`."""

    @property
    def layout(self) -> Layout: ...

    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor: ...

    def backward(
        self, grad: Tensor, q: Tensor, k: Tensor, v: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor | None]: ...


class Unit(NamedTuple):
    """Parameters of the unit, or their gradients."""

    mx_weight: Tensor
    mx_bias: Tensor
    h_weight: Tensor
    h_bias: Tensor
    gamma: Tensor
    beta: Tensor
    table: Tensor | None
    """Table of the relative bias."""


class Saved(NamedTuple):
    """Tensors that the backward pass needs."""

    projected: Tensor
    """`(active, z + 2·hidden)`, before silu."""
    attended: Tensor
    """`(active, hidden)`, before the gate."""


class Inputs(NamedTuple):
    """Parts of silu of the projection, and q, k, v from them amid the zeros of attention's layout."""

    z: Tensor
    r: Tensor
    q: Tensor
    k: Tensor
    v: Tensor


@dataclass(frozen=True)
class GatedAttention:
    """`confidence·(h_proj(attention(q, k, v)·r))` of one row: silu of mx_proj is z, r, v; z gives q and k.

    scale: factor of the queries; counts: `(active, 1)`, by which they are divided too, or None.
    slots: positions of the active steps in the working memory, `(active,)` int64; None if they are all of it.
    turns: `(active, z/2)` complex, rotary angles, or None.
    dropped: flat indices of dropped values, with their probability.
    """

    weights: Unit
    attention: Attention
    scale: float
    counts: Tensor | None = None
    slots: Tensor | None = None
    turns: Tensor | None = None
    dropped: Tensor | None = None
    dropout: float = 0.0

    def forward(self, m: Tensor, confidence: Tensor | None) -> tuple[Tensor, Saved]:
        """m `(dim, active)`, confidence `(active,)` or None for 1; returns `(dim, active)`."""
        weights = self.weights
        projected = torch.addmm(weights.mx_bias, m.t(), weights.mx_weight.t())
        inputs = self._inputs(projected)
        attended = self._take(self.attention.forward(inputs.q, inputs.k, inputs.v))
        h = torch.addmm(weights.h_bias.unsqueeze(-1), weights.h_weight, (attended * inputs.r).t())
        return h if confidence is None else h.mul_(confidence), Saved(projected, attended)

    def backward(
        self, grad: Tensor, m: Tensor, confidence: Tensor | None, saved: Saved, total: Unit
    ) -> tuple[Tensor, Tensor | None]:
        """Gradients of m and of the confidence's logarithm (None without one) from that of the output.

        Adds the gradients of the parameters to total.
        """
        weights = self.weights
        z, r, *qkv = self._inputs(saved.projected)
        gated = saved.attended * r
        grad_h = grad if confidence is None else grad * confidence
        grad_gated = torch.mm(grad_h.t(), weights.h_weight)
        grad_log_confidence = None
        if confidence is not None:
            grad_log_confidence = (grad_gated * gated).sum(dim=1).addmv_(grad_h.t(), weights.h_bias)
        total.h_bias.add_(grad_h.sum(dim=1))
        total.h_weight.addmm_(grad_h, gated)

        grad_projected = torch.empty_like(saved.projected)
        grad_z, grad_r, grad_v = self._split(grad_projected)
        torch.mul(grad_gated, saved.attended, out=grad_r)
        upstream = self.attention.layout.empty_rows(grad, grad_gated.shape[1])
        if self.slots is None:
            torch.mul(grad_gated, r, out=upstream.rows)
        else:
            self._put(grad_gated * r, upstream.rows)
        grad_q, grad_k, grad_values, grad_table = self.attention.backward(upstream.whole, *qkv)
        if grad_table is not None and total.table is not None:
            total.table.add_(grad_table)
        grad_v.copy_(drop_(self._take(grad_values), self.dropped, self.dropout))
        grad_qk = self._turn(torch.stack([self._take(grad_q), self._take(grad_k)], dim=1), back=True)
        self._scale_queries(grad_qk)
        torch.sum(grad_qk * weights.gamma, dim=1, out=grad_z)
        total.beta.add_(grad_qk.sum(dim=0))
        total.gamma.add_(grad_qk.mul_(z.unsqueeze(1)).sum(dim=0))
        torch.ops.aten.silu_backward.grad_input(grad_projected, saved.projected, grad_input=grad_projected)
        total.mx_bias.add_(grad_projected.sum(dim=0))
        total.mx_weight.addmm_(grad_projected.t(), m.t())
        return torch.mm(weights.mx_weight.t(), grad_projected.t()), grad_log_confidence

    def _inputs(self, projected: Tensor) -> Inputs:
        """Inputs of attention and gate from the projection; computed once forward and again backward."""
        layout, (gamma, beta) = self.attention.layout, (self.weights.gamma, self.weights.beta)
        if self.slots is None and self.dropped is None:
            # The values stay where silu puts them, between the zeros of all columns.
            activated = layout.empty_rows(projected, projected.shape[1])
            z, r, _ = self._split(torch.ops.aten.silu.out(projected, out=activated.rows))
            values = self._split(activated.whole)[2]
        else:
            z, r, v = self._split(F.silu(projected))
            memory = layout.empty_rows(v, v.shape[1])
            self._put(drop_(v.contiguous(), self.dropped, self.dropout), memory.rows)
            values = memory.whole
        memory = layout.empty_rows(projected, gamma.numel())
        if self.slots is None and self.turns is None:
            qk = memory.rows.view(len(z), *gamma.shape)
            self._scale_queries(torch.addcmul(beta, z.unsqueeze(1), gamma, out=qk))
        else:
            qk = self._turn(torch.addcmul(beta, z.unsqueeze(1), gamma))
            self._scale_queries(qk)
            self._put(qk.flatten(1), memory.rows)
        q, k = memory.whole.chunk(2, dim=1)
        return Inputs(z, r, q, k, values)

    def _scale_queries(self, qk: Tensor) -> None:
        """Scale queries in place. qk `(active, 2, z)`: queries, or their gradients, in front of keys."""
        q = qk[:, 0].mul_(self.scale)
        if self.counts is not None:
            q.div_(self.counts)

    def _put(self, x: Tensor, memory: Tensor) -> None:
        """Put active steps `(active, ·)` into the working memory `(memory, ·)`."""
        if self.slots is None:
            memory.copy_(x)
        else:
            memory.zero_().index_copy_(0, self.slots, x)

    def _take(self, x: Tensor) -> Tensor:
        """Active steps of the working memory `(memory, ·)`."""
        return x if self.slots is None else x.index_select(0, self.slots)

    def _split(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        z = self.weights.gamma.shape[1]
        hidden = (x.shape[1] - z) // 2
        z_part, r_part, v_part = torch.split(x, [z, hidden, hidden], dim=1)
        return z_part, r_part, v_part

    def _turn(self, qk: Tensor, back: bool = False) -> Tensor:
        if self.turns is None:
            return qk
        turns = (self.turns.conj() if back else self.turns).unsqueeze(1)
        pairs = torch.view_as_complex(qk.view(*qk.shape[:2], -1, 2))
        return torch.view_as_real(pairs * turns).flatten(2)


def rotary_turns(positions: Tensor, dim: int, dtype: torch.dtype) -> Tensor:
    """`(steps, dim/2)` complex, `exp(i·t·10000^(−2c/dim))`: how rotary positions turn pairs of channels."""
    channels = torch.arange(0, dim, 2, device=positions.device, dtype=dtype)
    angle = positions.unsqueeze(-1).to(dtype) * BASE ** (-channels / dim)
    return torch.polar(torch.ones_like(angle), angle)
