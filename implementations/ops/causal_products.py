"""Causal attention without a softmax: running sums of outer products, in time linear in the length."""

import torch
from torch import Tensor
from torch.nn import functional as F

CHUNK = 128


def causal_products(q: Tensor, k: Tensor, v: Tensor, chunk: int = CHUNK) -> Tensor:
    """`y_t = Σ_{s ≤ t} (q_t · k_s) v_s`.

    q, k: `(…, length, features)`; v: `(…, length, width)`; returns `(…, length, width)`.
    Within a chunk the products are a masked matrix; earlier steps come in as one running state
    `(features, width)` per chunk, so that states of single time steps are never held.
    """
    length = q.shape[-2]
    chunk = max(1, min(chunk, length))
    q, k, v = (_split(x, chunk) for x in (q, k, v))
    within = (q @ k.mT).tril() @ v
    y: Tensor = within + q @ _states_before(k.mT @ v)
    return y.flatten(-3, -2)[..., :length, :]


def _split(x: Tensor, chunk: int) -> Tensor:
    """`(…, length, width)` to `(…, chunks, chunk, width)`, the last chunk filled with zeros."""
    return F.pad(x, (0, 0, 0, -x.shape[-2] % chunk)).view(*x.shape[:-2], -1, chunk, x.shape[-1])


def _states_before(states: Tensor) -> Tensor:
    """Sum of the states of all earlier chunks: `(…, chunks, features, width)` to the same."""
    first = torch.zeros_like(states[..., :1, :, :])
    return torch.cat([first, states[..., :-1, :, :].cumsum(dim=-3)], dim=-3)
