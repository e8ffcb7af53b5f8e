"""Attention within a window, linear in the length, and over the whole sequence, with the same options."""

import torch
from torch import Tensor
from torch.nn import functional as F

from implementations.ops.attention_functions import AttentionKind, attend
from implementations.ops.relative_bias import RelativeBias


def local_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    window: int,
    *,
    kind: AttentionKind = "softmax",
    causal: bool = False,
    valid: Tensor | None = None,
    bias: RelativeBias | None = None,
    positions: Tensor | None = None,
) -> Tensor:
    """Each query i sees the keys j with `|i − j| ≤ window`, or `0 ≤ i − j ≤ window` if causal.

    q, k `(batch, length, dim)`, v `(batch, length, width)`; valid `(batch, length)` boolean, False at keys
    that no query sees; bias is added by the distance of positions `(batch, length)` int64, or of the indices
    i, j if positions is None. Softmax scores are `q·k/√dim`, others `q·k/(keys in reach)`, which are
    2·window or, if causal, window.
    Returns `(batch, length, width)`; zeros for a query that sees no key.

    Queries go in blocks of a window, each against its own and the neighbouring blocks of keys, so that
    time and memory are linear in the length.
    """
    length = q.shape[1]
    block = min(window, length)
    blocks = -(-length // block)
    before = 1 if blocks > 1 else 0
    after = 0 if causal else before

    def in_blocks(x: Tensor) -> Tensor:
        return F.pad(x, (0, 0, 0, blocks * block - length)).view(x.shape[0], blocks, block, -1)

    def with_neighbours(x: Tensor) -> Tensor:
        padded = F.pad(in_blocks(x), (0, 0, 0, 0, before, after))
        return torch.cat([padded[:, shift : shift + blocks] for shift in range(before + 1 + after)], dim=2)

    reach = window if causal else 2 * window
    scale = q.shape[-1] ** -0.5 if kind == "softmax" else 1.0 / reach
    scores = in_blocks(q * scale) @ with_neighbours(k).transpose(-1, -2)

    query_index = torch.arange(block, device=q.device)
    key_index = torch.arange(-before * block, (1 + after) * block, device=q.device)
    if bias is not None:
        if positions is None:
            scores = scores + bias(query_index, key_index)
        else:
            column = positions.unsqueeze(-1)
            scores = scores + bias(in_blocks(column).squeeze(-1), with_neighbours(column).squeeze(-1))

    back = query_index.unsqueeze(-1) - key_index
    in_reach = (back <= window) & (back >= (0 if causal else -window))
    seen = q.new_ones(1, length, dtype=torch.bool) if valid is None else valid
    allowed = in_reach & with_neighbours(seen.unsqueeze(-1)).transpose(-1, -2)
    return attend(scores, with_neighbours(v), allowed, kind).flatten(1, 2)[:, :length].contiguous()


def full_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    kind: AttentionKind = "softmax",
    causal: bool = False,
    valid: Tensor | None = None,
    bias: RelativeBias | None = None,
    positions: Tensor | None = None,
) -> Tensor:
    """Each query sees every key, or if causal those up to itself; arguments as in local_attention.

    Softmax scores are `q·k/√dim`; others `q·k/n`, n the valid keys of the row (at least 1) or, if causal,
    the index of the query + 1. Returns `(batch, length, width)`; zeros for a query that sees no key.
    """
    index = torch.arange(q.shape[1], device=q.device)
    if kind == "softmax":
        scaled = q * q.shape[-1] ** -0.5
    elif causal:
        scaled = q / (index + 1).unsqueeze(-1)
    elif valid is None:
        scaled = q / q.shape[1]
    else:
        scaled = q / valid.sum(dim=1).clamp(min=1)[:, None, None]
    scores = scaled @ k.transpose(-1, -2)
    if bias is not None:
        at = index if positions is None else positions
        scores = scores + bias(at, at)
    allowed = None if valid is None else valid.unsqueeze(1)
    if causal:
        earlier = index <= index.unsqueeze(-1)
        allowed = earlier if allowed is None else allowed & earlier
    return attend(scores, v, allowed, kind)
