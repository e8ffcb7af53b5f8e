"""BigBird: block-sparse attention to global, neighbouring and random blocks (internal construction, ITC).

Zaheer et al., NeurIPS 2020, arXiv 2007.14062; layers as in the official PyTorch port: post-norm, norm
epsilon 1e-12, tanh form of GELU.

A sequence is cut into blocks. The first and the last block attend everywhere; block i of the others
attends `{0, i−1, i, i+1, last}` and some random blocks, gathered into one dense row: no mask over
(length, length) is made. As in the official code, a sequence of at most 5 + 2·(random blocks) blocks is
attended in full, and a length between two blocks is filled up with masked positions. Which block is last
depends on the padded length, so logits depend on the padding. There is no causal form.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from implementations.fields import Count
from implementations.models.transformer import Activation, FrameConfig, build_around
from implementations.ops.attention import MultiHeadAttention
from implementations.task import Task

PENALTY = -10000.0
"""Added to the score of a padded key."""


@dataclass(frozen=True, kw_only=True)
class BigBirdConfig(FrameConfig):
    """Hyper-parameters of BigBird."""

    qkv: int
    """Width of all heads together."""
    block: int = 64
    random_blocks: Count = 3
    activation: Activation = "gelu_tanh"
    norm_epsilon: float = 1e-12


def block_sparse_attention(
    q: Tensor, k: Tensor, v: Tensor, random_blocks: Tensor, block: int, padding_mask: Tensor | None = None
) -> Tensor:
    """Attention of heads `(batch, heads, length, d_head)` whose length is a multiple of `block`, at least 4.

    random_blocks: `(heads, blocks − 2, r)` indices of key blocks for the query blocks 1 … blocks − 2; a
    key block listed twice counts twice. padding_mask: `(batch, length)` or None.
    """
    penalty = _penalty(q, padding_mask)
    blocks = q.view(*q.shape[:2], -1, block, q.shape[-1])
    ends = attend(torch.cat([blocks[:, :, 0], blocks[:, :, -1]], dim=-2), k, v, penalty)
    keys, repeated = key_blocks(random_blocks)
    gathered_penalty = _gathered_penalty(q, penalty, keys, repeated, block)
    middle = attend(
        blocks[:, :, 1:-1], _gather(k, keys, block), _gather(v, keys, block), gathered_penalty
    ).flatten(2, 3)
    return torch.cat([ends[:, :, :block], middle, ends[:, :, block:]], dim=-2)


def attend(q: Tensor, k: Tensor, v: Tensor, penalty: Tensor | None) -> Tensor:
    """`softmax(q kᵀ / √d_head + penalty) v` over the last two dimensions."""
    scores = (q * q.shape[-1] ** -0.5) @ k.mT
    if penalty is not None:
        scores = scores + penalty
    mixed: Tensor = scores.softmax(dim=-1) @ v
    return mixed


def key_blocks(random_blocks: Tensor) -> tuple[Tensor, Tensor]:
    """Key blocks that each query block attends to, without the first and the last query block.

    Returns indices `(heads, blocks − 2, 5 + r)`, and a mask `(blocks − 2, 5 + r)` of those that repeat a
    global block: the left neighbour of block 1, the right one of the last but one.
    """
    heads, rows, count = random_blocks.shape
    row = torch.arange(1, rows + 1, device=random_blocks.device)
    last = torch.full_like(row, rows + 1)
    fixed = torch.stack([torch.zeros_like(row), row - 1, row, row + 1, last], dim=-1)
    repeated = torch.zeros(rows, 5 + count, dtype=torch.bool, device=row.device)
    repeated[0, 1] = repeated[-1, 3] = True
    return torch.cat([fixed.expand(heads, -1, -1), random_blocks], dim=-1), repeated


def _gather(x: Tensor, keys: Tensor, block: int) -> Tensor:
    """The blocks of x that each row attends: `(batch, heads, rows, (5 + r)·block, d_head)`."""
    batch, heads, length, width = x.shape
    count = length // block
    head = torch.arange(heads, device=x.device)[:, None, None]
    flat = x.reshape(batch, heads * count, block, width).index_select(1, (head * count + keys).flatten())
    return flat.view(batch, *keys.shape[:2], -1, width)


def _gathered_penalty(
    q: Tensor, penalty: Tensor | None, keys: Tensor, repeated: Tensor, block: int
) -> Tensor:
    """`(batch or 1, heads or 1, rows, 1, (5 + r)·block)`."""
    hidden = q.new_zeros(repeated.shape).masked_fill(repeated, float("-inf"))
    hidden = hidden.repeat_interleave(block, dim=-1)[None, None, :, None]
    if penalty is None:
        return hidden
    of_blocks = penalty.view(penalty.shape[0], -1, block)[:, keys]
    return hidden + of_blocks.flatten(-2).unsqueeze(-2)


def _penalty(q: Tensor, padding_mask: Tensor | None) -> Tensor | None:
    """`(batch, 1, 1, length)`: addend of the scores of each key."""
    return None if padding_mask is None else padding_mask.to(q.dtype)[:, None, None, :] * PENALTY


class BigBirdMixer(nn.Module):
    """Block-sparse attention on heads; see MultiHeadAttention for the calling convention.

    Random blocks are distinct, and not among those that the row attends already. They are the highest of a
    buffer of priorities drawn at build, so that every length has its own blocks, the same in each pass.
    Raises ValueError on sequences longer than max_length.
    """

    priorities: Tensor

    def __init__(self, heads: int, max_length: int, block: int, random_blocks: int) -> None:
        super().__init__()
        self.block = block
        self.count = random_blocks
        self.full_length = (5 + 2 * random_blocks) * block
        blocks = -(-max_length // block)
        self.register_buffer("priorities", torch.rand(heads, blocks, blocks))

    def forward(self, q: Tensor, k: Tensor, v: Tensor, padding_mask: Tensor | None = None) -> Tensor:
        if q.shape[-2] <= self.full_length:
            mixed = attend(q, k, v, _penalty(q, padding_mask))
        else:
            mixed = self._sparse(q, k, v, padding_mask)
        return mixed if padding_mask is None else mixed.masked_fill(padding_mask[:, None, :, None], 0.0)

    def random_blocks(self, blocks: int) -> Tensor:
        """`(heads, blocks − 2, r)` key blocks of the query blocks 1 … blocks − 2."""
        longest = self.priorities.shape[-1]
        if blocks > longest:
            raise ValueError(
                f"BigBird was built for at most {longest} blocks of {self.block}, this sequence has {blocks}"
            )
        row = torch.arange(1, blocks - 1, device=self.priorities.device)[:, None]
        key = torch.arange(blocks, device=row.device)
        attended = ((key - row).abs() <= 1) | (key == 0) | (key == blocks - 1)
        free = self.priorities[:, 1 : blocks - 1, :blocks].masked_fill(attended, -1.0)
        return free.topk(self.count, dim=-1).indices

    def _sparse(self, q: Tensor, k: Tensor, v: Tensor, padding_mask: Tensor | None) -> Tensor:
        batch, _, length, _ = q.shape
        missing = -length % self.block
        if missing:
            q, k, v = (F.pad(x, (0, 0, 0, missing)) for x in (q, k, v))
            if padding_mask is None:
                padding_mask = torch.zeros(batch, length, dtype=torch.bool, device=q.device)
            padding_mask = F.pad(padding_mask, (0, missing), value=True)
        random_blocks = self.random_blocks(q.shape[-2] // self.block)
        mixed = block_sparse_attention(q, k, v, random_blocks, self.block, padding_mask)
        return mixed[:, :, :length]


def build(task: Task, hyperparameters: Mapping[str, Any]) -> nn.Module:
    """BigBird for a task; see BigBirdConfig.

    Raises TypeError on unknown hyper-parameters, ValueError for a language model.
    """
    config = BigBirdConfig(**hyperparameters)
    if task.causal:
        raise ValueError("BigBird's global blocks see the whole sequence: it has no causal form")
    return build_around(task, config, lambda: attention(config, task.length))


def attention(config: BigBirdConfig, max_length: int) -> MultiHeadAttention:
    """One layer's attention, with random blocks of its own."""
    mixer = BigBirdMixer(config.heads, max_length, config.block, config.random_blocks)
    return MultiHeadAttention(config.dim, config.heads, mixer, inner=config.qkv)
