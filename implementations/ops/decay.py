"""Linear recurrences with a decay of their own at every step, in parallel and linear in their number.

Decays come as logarithms, `exp` of which is at most 1, so that no division by a product of them is needed.
"""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

GROUP = 16
"""Steps that are combined by one triangular matrix."""

INITIAL_STEPS = (1e-3, 1e-1)
INITIAL_RATES = (1.0, 16.0)


def initial_decay(heads: int) -> tuple[Tensor, Tensor]:
    """`dt_bias` and `A_log`, each `(heads,)`, of a selective decay `exp(−exp(A_log)·softplus(x + dt_bias))`.

    Steps `softplus(dt_bias)` are log-uniform in INITIAL_STEPS, rates `exp(A_log)` uniform in INITIAL_RATES,
    as in Mamba-2 (Dao and Gu, 2024).
    """
    low, high = (math.log(step) for step in INITIAL_STEPS)
    step = torch.empty(heads).uniform_(low, high).exp()
    inverse_softplus = step + torch.log(-torch.expm1(-step))
    return inverse_softplus, torch.empty(heads).uniform_(*INITIAL_RATES).log()


def between(log_decay: Tensor) -> Tensor:
    """`exp(Σ_{s < r ≤ t} log_decay_r)` at row t and column s ≤ t, else 0: `(…, n)` to `(…, n, n)`."""
    total = log_decay.cumsum(dim=-1)
    n = log_decay.shape[-1]
    later = torch.ones(n, n, dtype=torch.bool, device=log_decay.device).triu(1)
    # Masked before the exponential, whose gradient would be 0·∞ if it overflows.
    return (total.unsqueeze(-1) - total.unsqueeze(-2)).masked_fill(later, float("-inf")).exp()


def decayed_sums(log_decay: Tensor, inputs: Tensor) -> Tensor:
    """`s_t = exp(log_decay_t)·s_{t−1} + inputs_t` from zero.

    log_decay: `(…, length)`; inputs: `(…, length, size)`; returns every state, `(…, length, size)`.
    Groups of steps go through one matrix each, and the states at their ends through the same, again in
    groups: work is linear in the length, depth logarithmic.
    """
    length = inputs.shape[-2]
    if length <= GROUP:
        summed: Tensor = between(log_decay) @ inputs
        return summed
    missing = -length % GROUP
    decays = F.pad(log_decay, (0, missing)).view(*log_decay.shape[:-1], -1, GROUP)
    inputs = F.pad(inputs, (0, 0, 0, missing)).view(*decays.shape, -1)
    within = between(decays) @ inputs
    before = delayed(decayed_sums(decays.sum(dim=-1), within[..., -1, :]))
    states: Tensor = within + decays.cumsum(dim=-1).exp().unsqueeze(-1) * before.unsqueeze(-2)
    return states.flatten(-3, -2)[..., :length, :]


def delayed(states: Tensor) -> Tensor:
    """State before each step, zeros before the first: `(…, length, size)` to the same."""
    return F.pad(states[..., :-1, :], (0, 0, 1, 0))
