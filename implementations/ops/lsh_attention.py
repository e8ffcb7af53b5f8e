"""Attention among positions that hash to the same bucket: sorted by bucket, cut into chunks.

Kitaev et al., ICLR 2020, arXiv 2001.04451, section 2. Sequences are `(rows, length, d_head)`, with batch and
heads in one dimension; queries and keys are the same vectors. A chunk of sorted positions attends itself and
the chunk before, in a ring over the chunks of all hash rounds.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

SELF_SCORE = -5e4
"""Score of a position with itself: it attends to itself only if it can see nothing else."""
COUNT_EPSILON = 1e-9
NORM_EPSILON = 1e-12


class LSHAttention(NamedTuple):
    """Result of hashed attention, by sorted chunk and by hash round."""

    output: Tensor
    """`(rows, length, d_head)`."""
    weights: Tensor
    """`(rows, chunks of all rounds, chunk, 2·chunk)`, summing to 1 over the keys."""
    positions: Tensor
    """`(rows, chunks, chunk)`: the positions in each chunk."""
    round_weights: Tensor
    """`(rows, rounds, length)`, summing to 1 over the rounds."""


def hash_buckets(x: Tensor, rotations: Tensor) -> Tensor:
    """Buckets: the nearest of random directions and their opposites, `argmax [xR; −xR]`, in each round.

    rotations: `(rows or 1, d_head, rounds, buckets/2)`. Returns `(rows, rounds, length)`, numbered so that
    no two rounds share a bucket.
    """
    with torch.no_grad():
        rotated = torch.einsum("nld,ndrb->nrlb", x, rotations.expand(x.shape[0], -1, -1, -1))
        half = rotated.shape[-1]
        nearest, farthest = rotated.max(dim=-1), rotated.min(dim=-1)
        buckets = torch.where(nearest.values >= -farthest.values, nearest.indices, farthest.indices + half)
        first = torch.arange(buckets.shape[1], device=x.device) * (2 * half)
        return buckets + first[:, None]


def lsh_attention(
    qk: Tensor,
    v: Tensor,
    buckets: Tensor,
    chunk: int,
    *,
    padding_mask: Tensor | None = None,
    causal: bool = False,
    across_buckets: bool = True,
    allow_duplicates: bool = True,
    dropout: Callable[[Tensor], Tensor] | None = None,
) -> LSHAttention:
    """Attend within reach in each round, and merge the rounds by the mass that each has seen.

    buckets: `(rows, rounds, length)`, the length a multiple of chunk; padding_mask: `(rows, length)` or None;
    across_buckets: attend to all positions within reach, whatever their bucket; allow_duplicates: a pair
    within reach in several rounds counts that often, else its score is lowered by the logarithm of their
    number.
    """
    _, rounds, length = buckets.shape
    order = (buckets * length + torch.arange(length, device=qk.device)).argsort(dim=-1)
    rank = order.argsort(dim=-1)
    positions = order.view(order.shape[0], -1, chunk)
    q = _take(qk, positions)
    scores = _scores(q, with_previous(_unit(q)))
    _mask_pairs(scores, positions, padding_mask, causal)
    if not across_buckets:
        own = buckets.gather(-1, order).view_as(positions)
        scores.masked_fill_(_pairs(own, torch.ne), _lowest(scores))
    if not allow_duplicates:
        counts = _rounds_within_reach(rank, positions, None if across_buckets else buckets)
        scores = scores - (counts.to(scores.dtype) + COUNT_EPSILON).log()
    mass = scores.logsumexp(dim=-1, keepdim=True)
    weights = (scores - mass).exp()
    seen = _mix(weights, with_previous(_take(v, positions)), dropout)
    by_round = _take(seen.reshape(-1, length, v.shape[-1]), rank.flatten(0, 1)).view(
        -1, rounds, length, v.shape[-1]
    )
    # Not `softmax`: a mass near SELF_SCORE has few digits left, and these are those of the official code.
    mass = mass.view(buckets.shape).gather(-1, rank)
    round_weights = (mass - mass.logsumexp(dim=1, keepdim=True)).exp()
    output = (by_round * round_weights.to(v.dtype).unsqueeze(-1)).sum(dim=1)
    return LSHAttention(output, weights, positions, round_weights)


def full_attention(
    qk: Tensor,
    v: Tensor,
    *,
    padding_mask: Tensor | None = None,
    causal: bool = False,
    dropout: Callable[[Tensor], Tensor] | None = None,
) -> Tensor:
    """The same attention over all positions, for sequences of one bucket; here padding hides itself too."""
    scores = _scores(qk, _unit(qk))
    positions = torch.arange(qk.shape[1], device=qk.device)
    scores = scores.masked_fill(positions[:, None] == positions, SELF_SCORE)
    hidden = None if padding_mask is None else padding_mask[:, :, None] | padding_mask[:, None, :]
    if causal:
        later = positions[:, None] < positions
        hidden = later if hidden is None else hidden | later
    if hidden is not None:
        scores = scores.masked_fill(hidden, -torch.finfo(scores.dtype).max)
    return _mix(scores.softmax(dim=-1), v, dropout)


def with_previous(x: Tensor) -> Tensor:
    """Each chunk followed by the one before it, in a ring: `(rows, chunks, chunk, …)` to 2·chunk."""
    return torch.cat([x, x.roll(1, dims=1)], dim=2)


def _unit(x: Tensor) -> Tensor:
    """Vectors of length 1, of x's type."""
    length = _full_range(x).norm(dim=-1, keepdim=True).clamp_min(NORM_EPSILON)
    unit: Tensor = (x / length).to(x.dtype)
    return unit


def _scores(q: Tensor, k: Tensor) -> Tensor:
    """`q kᵀ / √d_head`, in at least float32."""
    return _full_range(q @ k.mT) * float(q.shape[-1] ** -0.5)


def _full_range(x: Tensor) -> Tensor:
    """x in at least float32: half precision holds neither SELF_SCORE nor the epsilons."""
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x


def _mix(weights: Tensor, v: Tensor, dropout: Callable[[Tensor], Tensor] | None) -> Tensor:
    mixed: Tensor = (weights if dropout is None else dropout(weights)).to(v.dtype) @ v
    return mixed


def _take(x: Tensor, positions: Tensor) -> Tensor:
    """`(rows, length, d)` at positions `(rows, …)`: `(rows, …, d)`."""
    index = positions.flatten(1).unsqueeze(-1).expand(-1, -1, x.shape[-1])
    return x.gather(1, index).view(*positions.shape, x.shape[-1])


def _pairs(of_queries: Tensor, compare: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """Comparison of each query with each key within its reach.

    of_queries: `(rows, chunks, chunk)`. Returns booleans `(rows, chunks, chunk, 2·chunk)`.
    """
    return compare(of_queries.unsqueeze(-1), with_previous(of_queries).unsqueeze(-2))


def _mask_pairs(scores: Tensor, positions: Tensor, padding_mask: Tensor | None, causal: bool) -> None:
    """Hide padded and later positions, in place; a position itself is never hidden, but scores low."""
    if padding_mask is not None:
        padded = padding_mask.gather(1, positions.flatten(1)).view_as(positions)
        scores.masked_fill_(_pairs(padded, torch.logical_or), _lowest(scores))
    if causal:
        scores.masked_fill_(_pairs(positions, torch.lt), _lowest(scores))
    scores.masked_fill_(_pairs(positions, torch.eq), SELF_SCORE)


def _lowest(scores: Tensor) -> float:
    return -torch.finfo(scores.dtype).max


def _rounds_within_reach(rank: Tensor, positions: Tensor, buckets: Tensor | None) -> Tensor:
    """Number of rounds in which a query has each of its keys within reach: `(rows, chunks, chunk, 2·chunk)`.

    rank: `(rows, rounds, length)`, where a position went in each round; buckets: count a round only if both
    fell into the same bucket. The ring's seam, a chunk that reaches back into another round, does not count,
    as in the official code.
    """
    _, rounds, length = rank.shape
    chunk = positions.shape[-1]
    chunks = rounds * length // chunk
    home = rank // chunk + torch.arange(rounds, device=rank.device)[:, None] * (length // chunk)
    counts = torch.zeros((*positions.shape, 2 * chunk), dtype=torch.int8, device=rank.device)
    for turn in range(rounds):
        base = 0 if buckets is None else buckets[:, turn] * chunks
        here, next_chunk = (
            (base + place).gather(1, positions.flatten(1)).view_as(positions)
            for place in (home[:, turn], (home[:, turn] + 1) % chunks)
        )
        query = here.unsqueeze(-1)
        counts += query == with_previous(here).unsqueeze(-2)
        counts += query == with_previous(next_chunk).unsqueeze(-2)
    return counts
