"""The gated attention unit of SeqBoat on the active steps of one row, forward and backward.

The plain form is `implementations.seqboat.SeqBoatLayer.gated_attention`.
"""

from dataclasses import dataclass
from typing import NamedTuple, Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from implementations.kernels.cpu.dropout import drop_
from implementations.ops.rotary import BASE


class Attention(Protocol):
    """Attention of one row, as `local_attention.RowAttention`: q, k `(steps, z)`, v `(steps, hidden)`."""

    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor: ...

    def backward(
        self, grad: Tensor, q: Tensor, k: Tensor, v: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor | None]: ...


class Unit(NamedTuple):
    """Parameters of the unit, or their gradients."""

    mx_weight: Tensor
    mx_bias: Tensor
    gamma: Tensor
    beta: Tensor
    table: Tensor | None
    """Of the relative bias."""


class Saved(NamedTuple):
    """What the backward pass needs."""

    projected: Tensor
    """`(active, z + 2·hidden)`, before silu."""
    attended: Tensor
    """`(active, hidden)`, before the gate."""


@dataclass(frozen=True)
class GatedAttention:
    """`attention(q, k, v)·r` of one row, where silu of a projection splits into z, r, v, and z gives q and k.

    scale: factor of the queries, a number or `(active, 1)`.
    slots: where the active steps stand in the working memory, `(active,)` int64; None where they are it.
    memory: steps of the working memory. turns: `(active, z/2)` complex, rotary angles, or None.
    dropped: flat indices of dropped values, with their probability.
    """

    weights: Unit
    attention: Attention
    scale: float | Tensor
    memory: int
    slots: Tensor | None = None
    turns: Tensor | None = None
    dropped: Tensor | None = None
    dropout: float = 0.0

    def forward(self, m: Tensor) -> tuple[Tensor, Saved]:
        """m `(dim, active)`; returns `(active, hidden)`."""
        projected = torch.addmm(self.weights.mx_bias, m.t(), self.weights.mx_weight.t())
        z, r, v = self._split(F.silu(projected))
        attended = self._take(self.attention.forward(*self._inputs(z, v)))
        return attended * r, Saved(projected, attended)

    def gated(self, saved: Saved) -> Tensor:
        """The output `(active, hidden)` again."""
        _, r, _ = self._split(saved.projected)
        return F.silu(r).mul_(saved.attended)

    def backward(self, grad: Tensor, m: Tensor, saved: Saved, total: Unit) -> Tensor:
        """The gradient of m from that of the output; adds the parameters' gradients to total."""
        activated = F.silu(saved.projected)
        z, r, v = self._split(activated)
        grad_activated = torch.empty_like(activated)
        grad_z, grad_r, grad_v = self._split(grad_activated)
        torch.mul(grad, saved.attended, out=grad_r)
        grad_q, grad_k, grad_values, grad_table = self.attention.backward(
            self._put(grad * r), *self._inputs(z, v)
        )
        if grad_table is not None and total.table is not None:
            total.table.add_(grad_table)
        grad_v.copy_(drop_(self._take(grad_values), self.dropped, self.dropout))
        grad_q = self._turn(self._take(grad_q) * self.scale, back=True)
        grad_k = self._turn(self._take(grad_k), back=True)
        gamma = self.weights.gamma
        torch.mul(grad_q, gamma[0], out=grad_z).addcmul_(grad_k, gamma[1])
        for row, grad_row in enumerate((grad_q, grad_k)):
            total.beta[row] += grad_row.sum(dim=0)
            total.gamma[row] += (grad_row * z).sum(dim=0)
        grad_projected = torch.ops.aten.silu_backward(grad_activated, saved.projected)
        total.mx_bias.add_(grad_projected.sum(dim=0))
        total.mx_weight.addmm_(grad_projected.t(), m.t())
        return torch.mm(self.weights.mx_weight.t(), grad_projected.t())

    def _split(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        z = self.weights.gamma.shape[1]
        hidden = (x.shape[1] - z) // 2
        z_part, r_part, v_part = x.split([z, hidden, hidden], dim=1)
        return z_part, r_part, v_part

    def _inputs(self, z: Tensor, v: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        gamma, beta = self.weights.gamma, self.weights.beta
        q = self._turn(torch.addcmul(beta[0], z, gamma[0])).mul_(self.scale)
        k = self._turn(torch.addcmul(beta[1], z, gamma[1]))
        if self.dropped is not None:
            v = drop_(v.clone(memory_format=torch.contiguous_format), self.dropped, self.dropout)
        return self._put(q), self._put(k), self._put(v)

    def _put(self, x: Tensor) -> Tensor:
        """Active steps into the working memory, zeros elsewhere."""
        return x if self.slots is None else x.new_zeros(self.memory, x.shape[1]).index_copy_(0, self.slots, x)

    def _take(self, x: Tensor) -> Tensor:
        return x if self.slots is None else x.index_select(0, self.slots)

    def _turn(self, x: Tensor, back: bool = False) -> Tensor:
        if self.turns is None:
            return x
        pairs = torch.view_as_complex(x.unflatten(1, (-1, 2)))
        return torch.view_as_real(pairs * (self.turns.conj() if back else self.turns)).flatten(1)


def rotary_turns(positions: Tensor, dim: int, dtype: torch.dtype) -> Tensor:
    """`(steps, dim/2)` complex: `exp(i·t·10000^(−2c/dim))`, by which rotary positions turn a pair of channels."""
    channels = torch.arange(0, dim, 2, device=positions.device, dtype=dtype)
    angle = positions.unsqueeze(-1).to(dtype) * BASE ** (-channels / dim)
    return torch.polar(torch.ones_like(angle), angle)
