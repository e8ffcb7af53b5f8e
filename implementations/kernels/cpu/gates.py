"""Passes between the products of a gated attention unit, forward and backward: in C, if it can be.

silu of what comes before is z beside the gate r `(steps, z + hidden)`, and the values v `(steps, hidden)`;
`z·gamma + beta`, turned and scaled, gives queries and keys. They lie amid the zeros of attention's layout.
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from implementations.kernels.cpu.dropout import drop_
from implementations.kernels.cpu.layout import Layout
from implementations.kernels.cpu.native import gates as native
from implementations.kernels.cpu.native.calls import usable
from implementations.ops.rotary import BASE


class Before(NamedTuple):
    """Tensors before silu, or their gradients: views whose rows are contiguous."""

    z_and_r: Tensor
    v: Tensor


class Inputs(NamedTuple):
    """The gate `(steps, hidden)`, and q, k, v of the working memory amid zeros."""

    r: Tensor
    q: Tensor
    k: Tensor
    v: Tensor


class Gradients(NamedTuple):
    """Gradients of gamma and beta, and of biases added to z beside r beside v."""

    gamma: Tensor
    beta: Tensor
    bias: Tensor


@dataclass(frozen=True)
class Gates:
    """gamma and beta `(2, z)`; scale: factor of the queries, a number or `(steps, 1)`.

    slots: places of the steps in the working memory, `(steps,)` int64; None if they are all of it.
    turns: `(steps, z/2)` complex, rotary angles, or None. dropped: flat indices of dropped values, with their
    probability.
    """

    gamma: Tensor
    beta: Tensor
    scale: float | Tensor
    slots: Tensor | None = None
    turns: Tensor | None = None
    dropped: Tensor | None = None
    dropout: float = 0.0

    def inputs(self, before: Before, layout: Layout) -> Inputs:
        """Inputs of attention and gate; computed once forward and again backward."""
        z, hidden = self.gamma.shape[1], before.v.shape[1]
        values, memory = layout.empty_rows(before.v, hidden), layout.empty_rows(before.v, 2 * z)
        if self._in_c(before.v):
            for rows in () if self.slots is None else (values.rows, memory.rows):
                rows.zero_()
            how = (self.gamma, self.beta, self._scales(before.v), self._cosines(), self.slots)
            r: Tensor = native.unit_inputs(*before, *how, values.rows, memory.rows)
        else:
            v = F.silu(before.v)
            self._put(drop_(v, self.dropped, self.dropout), values.rows)
            activated, r = torch.split(F.silu(before.z_and_r), [z, hidden], dim=1)
            qk = self._turn(torch.addcmul(self.beta, activated.unsqueeze(1), self.gamma))
            qk[:, 0].mul_(self.scale)
            self._put(qk.flatten(1), memory.rows)
        q, k = memory.whole.chunk(2, dim=1)
        return Inputs(r, q, k, values.whole)

    def gate_backward(
        self, grad_gated: Tensor, attended: Tensor, r: Tensor, layout: Layout
    ) -> tuple[Tensor, Tensor, Tensor]:
        """`attended·r`; the gradient of what attention gave amid zeros; `Σ grad_gated·attended·r` `(steps,)`.

        grad_gated, attended, r `(steps, hidden)`.
        """
        upstream = layout.empty_rows(grad_gated, grad_gated.shape[1])
        if self._in_c(grad_gated):
            if self.slots is not None:
                upstream.rows.zero_()
            gated, sums = native.gate_backward(
                grad_gated, attended.contiguous(), r, self.slots, upstream.rows
            )
            return gated, upstream.whole, sums
        gated = attended * r
        self._put(grad_gated * r, upstream.rows)
        return gated, upstream.whole, (grad_gated * gated).sum(dim=1)

    def backward(
        self, before: Before, grad: Before, grad_gated: Tensor, attended: Tensor, *grad_qkv: Tensor
    ) -> Gradients:
        """Write to grad the gradients of what is before, from those of the gated output and of q, k, v.

        grad_gated, attended `(steps, hidden)`; those of q, k, v `(memory, ·)`.
        """
        if self._in_c(before.v):
            how = (self.gamma, self._scales(before.v), self._cosines(), self.slots)
            given = (part.contiguous() for part in (grad_gated, attended, *grad_qkv))
            return Gradients(*native.unit_backward(*before, *how, *given, *grad))
        widths = [self.gamma.shape[1], grad_gated.shape[1]]
        grad_z, grad_r = torch.split(grad.z_and_r, widths, dim=1)
        grad_q, grad_k, grad_v = map(self.take, grad_qkv)
        torch.mul(grad_gated, attended, out=grad_r)
        grad_qk = self._turn(torch.stack([grad_q, grad_k], dim=1), back=True)
        grad_qk[:, 0].mul_(self.scale)
        torch.sum(grad_qk * self.gamma, dim=1, out=grad_z)
        grad_beta = grad_qk.sum(dim=0)
        z = F.silu(before.z_and_r[:, : grad_z.shape[1]])
        grad_gamma = grad_qk.mul_(z.unsqueeze(1)).sum(dim=0)
        silu_backward(grad.z_and_r, before.z_and_r, grad.z_and_r)
        silu_backward(drop_(grad_v.contiguous(), self.dropped, self.dropout), before.v, grad.v)
        return Gradients(grad_gamma, grad_beta, torch.cat([part.sum(dim=0) for part in grad]))

    def take(self, x: Tensor) -> Tensor:
        """The steps out of the working memory `(memory, ·)`."""
        return x if self.slots is None else x.index_select(0, self.slots)

    def _in_c(self, x: Tensor) -> bool:
        return self.dropped is None and usable(x)

    def _scales(self, x: Tensor) -> Tensor:
        """`(steps,)`: factors of the queries."""
        if isinstance(self.scale, Tensor):
            return self.scale.flatten().to(x.dtype)
        return x.new_full((len(x),), self.scale)

    def _cosines(self) -> Tensor | None:
        """`(steps, z/2, 2)`: cosine and sine of each angle."""
        return None if self.turns is None else torch.view_as_real(self.turns)

    def _turn(self, qk: Tensor, back: bool = False) -> Tensor:
        if self.turns is None:
            return qk
        turns = (self.turns.conj() if back else self.turns).unsqueeze(1)
        pairs = torch.view_as_complex(qk.view(*qk.shape[:2], -1, 2))
        return torch.view_as_real(pairs * turns).flatten(2)

    def _put(self, x: Tensor, memory: Tensor) -> None:
        """Put steps `(steps, ·)` into the working memory `(memory, ·)`."""
        if self.slots is None:
            memory.copy_(x)
        else:
            memory.zero_().index_copy_(0, self.slots, x)


def silu_backward(grad: Tensor, x: Tensor, out: Tensor) -> None:
    """Write the gradient of x to out, which may be grad itself, from that of silu of x."""
    torch.ops.aten.silu_backward.grad_input(grad, x, grad_input=out)


def rotary_turns(positions: Tensor, dim: int, dtype: torch.dtype) -> Tensor:
    """`(steps, dim/2)` complex, `exp(i·t·10000^(−2c/dim))`: how rotary positions turn pairs of channels."""
    channels = torch.arange(0, dim, 2, device=positions.device, dtype=dtype)
    angle = positions.unsqueeze(-1).to(dtype) * BASE ** (-channels / dim)
    return torch.polar(torch.ones_like(angle), angle)
