"""Linear recurrences over time, computed by a parallel scan."""

from typing import Any

import torch
from torch import Tensor

BLOCK = 256
"""Steps whose powers of the decay are held at once if only the last state is wanted."""


def linear_scan(decay: Tensor, inputs: Tensor, reverse: bool = False) -> Tensor:
    """`x_t = decay·x_{t−1} + inputs_t` from zero; with reverse it runs back in time, `x_{t+1}` for `x_{t−1}`.

    decay: `(state,)`; inputs: `(batch, length, state)`, real or complex as decay is. Returns every state,
    `(batch, length, state)`.

    The associative scan of Brent and Kung (1982) with the operator of Blelloch (1990), whose left factors are
    powers of the one decay here: depth 2·log₂ length, 2·length multiply-adds per state, no memory beyond the
    result. It never raises the decay to a negative power, so it is as stable as the recurrence itself. Its
    gradient is the same scan in the other direction, which keeps only the states.
    """
    states: Tensor = _LinearScan.apply(decay, inputs, reverse)  # type: ignore[no-untyped-call]
    return states


class _LinearScan(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, decay: Tensor, inputs: Tensor, reverse: bool) -> Tensor:
        states = inputs.clone(memory_format=torch.contiguous_format)
        _scan_(decay.resolve_conj(), states, reverse)
        ctx.save_for_backward(decay, states)
        ctx.reverse = reverse
        return states

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None]:
        decay, states = ctx.saved_tensors
        grad_inputs = linear_scan(decay.conj(), grad, not ctx.reverse)
        earlier, later = slice(None, -1), slice(1, None)
        source, target = (later, earlier) if ctx.reverse else (earlier, later)
        grad_decay = (states[:, source].conj() * grad_inputs[:, target]).sum(dim=(0, 1))
        return grad_decay, grad_inputs, None


def _scan_(decay: Tensor, x: Tensor, reverse: bool) -> None:
    """The scan in place: each odd step takes in the one before it, the odd steps are scanned (by decay²), and
    each even step takes in the odd one before it."""
    length = x.shape[1]
    if length < 2:
        return
    if reverse:  # steps are counted from the end
        even, odd = x[:, (length - 1) % 2 :: 2], x[:, length % 2 :: 2]
        before_odd, after_odd = even[:, -odd.shape[1] :], even[:, :-1]
        before_even = odd[:, odd.shape[1] - after_odd.shape[1] :]
    else:
        even, odd = x[:, 0::2], x[:, 1::2]
        before_odd, after_odd = even[:, : odd.shape[1]], even[:, 1:]
        before_even = odd[:, : after_odd.shape[1]]
    odd.addcmul_(decay, before_odd)
    _scan_(decay * decay, odd, reverse)
    after_odd.addcmul_(decay, before_even)


def final_state(log_decay: Tensor, inputs: Tensor) -> Tensor:
    """`s_t = exp(log_decay)·s_{t−1} + x_t` from zero, after the last step, for every channel and state.

    log_decay `(dim, states)`, real or complex; inputs `(batch, length, dim)`; length may be 0.
    Returns `(batch, dim, states)` in the type of log_decay.
    """
    inputs = inputs.to(log_decay.dtype)
    state = inputs.new_zeros(inputs.shape[0], *log_decay.shape)
    for block in torch.split(inputs, BLOCK, dim=1):
        ages = torch.arange(block.shape[1] - 1, -1, -1, device=inputs.device)
        powers = torch.exp(log_decay.unsqueeze(-1) * ages)
        state = state * torch.exp(log_decay * block.shape[1])
        state = state + torch.einsum("bld,dnl->bdn", block, powers)
    return state
