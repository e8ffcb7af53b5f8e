"""The gated attention unit of SeqBoat on the active steps of one row, forward and backward.

The plain form is `implementations.models.seqboat.SeqBoatLayer.gated_attention`.
"""

from dataclasses import dataclass
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from implementations.kernels.cpu.gates import Before, Gates
from implementations.kernels.cpu.layout import Layout


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


@dataclass(frozen=True)
class GatedAttention:
    """`confidence·(h_proj(attention(q, k, v)·r))` of one row: silu of mx_proj is z, r, v; z gives q and k."""

    weights: Unit
    attention: Attention
    gates: Gates

    def forward(self, m: Tensor, confidence: Tensor | None) -> tuple[Tensor, Saved]:
        """m `(dim, active)`, confidence `(active,)` or None for 1; returns `(dim, active)`."""
        weights = self.weights
        projected = torch.addmm(weights.mx_bias, m.t(), weights.mx_weight.t())
        r, *qkv = self.gates.inputs(self._parts(projected), self.attention.layout)
        attended = self.gates.take(self.attention.forward(*qkv))
        h = torch.addmm(weights.h_bias.unsqueeze(-1), weights.h_weight, (attended * r).t())
        return h if confidence is None else h.mul_(confidence), Saved(projected, attended)

    def backward(
        self, grad: Tensor, m: Tensor, confidence: Tensor | None, saved: Saved, total: Unit
    ) -> tuple[Tensor, Tensor | None]:
        """Gradients of m and of the confidence's logarithm (None without one) from that of the output.

        Adds the gradients of the parameters to total.
        """
        weights, layout = self.weights, self.attention.layout
        r, *qkv = self.gates.inputs(self._parts(saved.projected), layout)
        grad_h = grad if confidence is None else grad * confidence
        grad_gated = torch.mm(grad_h.t(), weights.h_weight)
        gated, upstream, sums = self.gates.gate_backward(grad_gated, saved.attended, r, layout)
        total.h_bias.add_(grad_h.sum(dim=1))
        total.h_weight.addmm_(grad_h, gated)

        *grad_qkv, grad_table = self.attention.backward(upstream, *qkv)
        if grad_table is not None and total.table is not None:
            total.table.add_(grad_table)
        grad_projected = torch.empty_like(saved.projected)
        before, grad_before = self._parts(saved.projected), self._parts(grad_projected)
        found = self.gates.backward(before, grad_before, grad_gated, saved.attended, *grad_qkv)
        total.gamma.add_(found.gamma)
        total.beta.add_(found.beta)
        total.mx_bias.add_(found.bias)
        total.mx_weight.addmm_(grad_projected.t(), m.t())
        grad_m = torch.mm(weights.mx_weight.t(), grad_projected.t())
        return grad_m, None if confidence is None else sums.addmv_(grad_h.t(), weights.h_bias)

    def _parts(self, projected: Tensor) -> Before:
        z, hidden = self.weights.gamma.shape[1], self.weights.h_weight.shape[1]
        return Before(*torch.split(projected, [z + hidden, hidden], dim=1))
