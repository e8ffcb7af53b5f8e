"""Linformer: keys and values projected along the length to k positions, linear in L.

Wang et al. 2020, arXiv 2006.04768. Each layer has one pair of projections, shared by its heads; they fix
the longest sequence it takes, and a shorter one uses their first rows. Layers are pre-norm, as in the
official PyTorch port. As there, padding is not masked: padded positions are projected like all others,
so logits depend on the padding. The projection mixes all positions: there is no causal form.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from implementations.models.transformer import FrameConfig, build_around
from implementations.ops.attention import merge_heads, split_heads
from implementations.task import Task


@dataclass(frozen=True, kw_only=True)
class LinformerConfig(FrameConfig):
    """Hyper-parameters of the Linformer."""

    qkv: int
    """Width of all heads together."""
    k: int = 256
    """Positions that keys and values are projected to."""
    share_kv: bool = False
    one_kv_head: bool = False
    attention_dropout: float = 0.1
    prenorm: bool = True


class LinformerAttention(nn.Module):
    """`softmax(q (Eᵀ k)ᵀ / √d_head) Fᵀ v` with learned E, F `(max_length, k)` (paper, equation 7).

    states `(batch, length, dim)` to the same; share_kv: F and the value projection are E and the key
    projection; one_kv_head: keys and values of one head serve all. Raises ValueError on sequences longer
    than max_length.
    """

    def __init__(
        self,
        dim: int,
        heads: int,
        max_length: int,
        k: int,
        *,
        inner: int | None = None,
        share_kv: bool = False,
        one_kv_head: bool = False,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        inner = inner or dim
        if inner % heads:
            raise ValueError(f"{heads} heads do not divide the attention width {inner}")
        self.heads = heads
        self.kv_heads = 1 if one_kv_head else heads
        self.share_kv = share_kv
        kv_width = inner // heads * self.kv_heads
        self.to_q = nn.Linear(dim, inner, bias=False)
        self.to_k = nn.Linear(dim, kv_width, bias=False)
        self.proj_k = length_projection(max_length, k)
        if not share_kv:
            self.to_v = nn.Linear(dim, kv_width, bias=False)
            self.proj_v = length_projection(max_length, k)
        self.to_out = nn.Linear(inner, dim)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, padding_mask: Tensor | None = None, context: Tensor | None = None) -> Tensor:
        """context: states `(batch, length, dim)` that keys and values come from, x itself by default."""
        source = x if context is None else context
        q = split_heads(self.to_q(x), self.heads)
        k = self._project(self.to_k(source), self.proj_k)
        v = k if self.share_kv else self._project(self.to_v(source), self.proj_v)
        weights = ((q * q.shape[-1] ** -0.5) @ k.mT).softmax(dim=-1)
        mixed: Tensor = self.to_out(merge_heads(self.dropout(weights) @ v))
        return mixed

    def _project(self, states: Tensor, projection: Tensor) -> Tensor:
        """`(batch, length, width)` to heads `(batch, kv_heads, k, d_head)`."""
        length, longest = states.shape[1], projection.shape[0]
        if length > longest:
            raise ValueError(f"Linformer was built for sequences of at most {longest}, this one has {length}")
        return split_heads(projection[:length].mT @ states, self.kv_heads)


def length_projection(max_length: int, k: int) -> nn.Parameter:
    """`(max_length, k)`, uniform within ±k^-½."""
    return nn.Parameter(torch.empty(max_length, k).uniform_(-(k**-0.5), k**-0.5))


def build(task: Task, hyperparameters: Mapping[str, Any]) -> nn.Module:
    """The Linformer for a task; see LinformerConfig.

    Raises TypeError on unknown hyper-parameters, ValueError for a language model.
    """
    config = LinformerConfig(**hyperparameters)
    if task.causal:
        raise ValueError("the Linformer mixes all positions in its projection: it has no causal form")
    return build_around(task, config, lambda: attention(config, task.length))


def attention(config: LinformerConfig, max_length: int) -> LinformerAttention:
    """One layer's attention, with a pair of projections of its own."""
    return LinformerAttention(
        config.dim,
        config.heads,
        max_length,
        config.k,
        inner=config.qkv,
        share_kv=config.share_kv,
        one_kv_head=config.one_kv_head,
        dropout=config.attention_dropout,
    )
