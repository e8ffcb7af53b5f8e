"""Performer: softmax attention estimated by positive orthogonal random features (FAVOR+), linear in L.

Choromanski et al., ICLR 2021, arXiv 2009.14794. Layers are pre-norm, as in the official PyTorch port;
its periodic redraw of the projection is left out: the projection is a buffer drawn at build.

Two traits of the official code are kept. Padding zeroes the values only: padded keys still count in the
denominator and in the maximum that stabilises the key features, so logits depend on the padding. And
that maximum, a constant to the gradient, runs over all keys: in the causal form the gradient of an output
with respect to later inputs is zero, yet through the 1e-4 beside the exponential its value feels them.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from implementations.fields import Count
from implementations.models.transformer import FrameConfig, build_around
from implementations.ops.attention import MultiHeadAttention
from implementations.ops.causal_products import causal_products
from implementations.task import Task

Kernel = Literal["softmax", "relu", "none"]

SOFTMAX_EPSILON = 1e-4
RELU_EPSILON = 1e-3
CAUSAL_EPSILON = 1e-6
"""Added to the running sum of the keys' features."""


@dataclass(frozen=True, kw_only=True)
class PerformerConfig(FrameConfig):
    """Hyper-parameters of the Performer."""

    qkv: int
    """Width of all heads together."""
    features: Count | None = None
    """Random features per head; `d_head·ln(d_head)` by default. 0, for the ReLU kernel: no projection."""
    kernel: Kernel = "softmax"
    qkv_bias: bool = True
    prenorm: bool = True


def orthogonal_projection(features: int, dim: int) -> Tensor:
    """`(features, dim)`: rows orthogonal in blocks of `dim`, with the lengths of Gaussian vectors."""
    blocks = math.ceil(features / dim)
    directions, triangle = torch.linalg.qr(torch.randn(blocks, dim, dim))
    # Householder QR fixes signs, so that directions crowd one half of the space; undone, they are uniform.
    directions = directions * triangle.diagonal(dim1=-2, dim2=-1).sign().unsqueeze(-2)
    lengths = torch.randn(features, dim).norm(dim=-1, keepdim=True)
    rows: Tensor = directions.mT.flatten(0, 1)[:features] * lengths
    return rows


def softmax_features(x: Tensor, projection: Tensor, over: tuple[int, ...]) -> Tensor:
    """Positive features whose inner products estimate `exp(q·k/√d)` (paper, lemma 1): `(…, length, m)`.

    x: `(…, length, d)`; over: the dimensions of the features whose maximum is taken out.
    """
    x = _scaled(x)
    projected = x @ projection.mT
    stabiliser = projected.detach().amax(dim=over, keepdim=True)
    half_norm = x.square().sum(dim=-1, keepdim=True) / 2
    features: Tensor = (projected - half_norm - stabiliser).exp() + SOFTMAX_EPSILON
    return features / math.sqrt(projection.shape[0])


def relu_features(x: Tensor, projection: Tensor | None) -> Tensor:
    """`relu(x P / d^¼) + 1e-3`, or `relu(x) + 1e-3` without P: `(…, length, d)` to `(…, length, m or d)`."""
    return F.relu(x if projection is None else _scaled(x) @ projection.mT) + RELU_EPSILON


def _scaled(x: Tensor) -> Tensor:
    return x / math.sqrt(math.sqrt(x.shape[-1]))


def linear_attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """`q (kᵀ v) / (q Σk)` on features `(…, length, m)` and values `(…, length, d)`."""
    sums: Tensor = q @ (k.mT @ v)
    return sums / (q @ k.sum(dim=-2).unsqueeze(-1))


def causal_linear_attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """The same with sums over positions up to the query's own only."""
    ones = v.new_ones((*v.shape[:-1], 1))
    sums = causal_products(q, k, torch.cat([v, ones], dim=-1))
    return sums[..., :-1] / (sums[..., -1:] + CAUSAL_EPSILON * q.sum(dim=-1, keepdim=True))


class FavorMixer(nn.Module):
    """FAVOR+ on heads `(batch, heads, length, d_head)`; see MultiHeadAttention for the calling convention.

    kernel: features that estimate the softmax, those of the generalised ReLU kernel, or none (softmax of
    queries over their channels, of keys over the length: Efficient Attention).
    """

    projection_matrix: Tensor | None

    no_recurrent_form = "the maximum that steadies the key features runs over the whole sequence"

    def __init__(
        self, d_head: int, features: int | None = None, kernel: Kernel = "softmax", causal: bool = False
    ) -> None:
        super().__init__()
        if kernel not in ("softmax", "relu", "none"):
            raise ValueError(f"unknown Performer kernel {kernel!r}: choose softmax, relu or none")
        if features == 0 and kernel == "softmax":
            raise ValueError("the Performer's softmax kernel needs random features: features can't be 0")
        self.kernel = kernel
        self.causal = causal
        if features is None:
            features = int(d_head * math.log(d_head))
        drawn = kernel != "none" and features > 0
        self.register_buffer("projection_matrix", orthogonal_projection(features, d_head) if drawn else None)

    def forward(self, q: Tensor, k: Tensor, v: Tensor, padding_mask: Tensor | None = None) -> Tensor:
        if padding_mask is not None:
            v = v.masked_fill(padding_mask[:, None, :, None], 0.0)
        if q.dtype is not torch.float16:
            return self._attend(q, k, v)
        # Small denominators: the gradient of their reciprocals is beyond float16.
        with torch.autocast(q.device.type, enabled=False):
            return self._attend(q.float(), k.float(), v.float()).half()

    def _attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        attend = causal_linear_attention if self.causal else linear_attention
        return attend(*self._features(q, k), v)

    def _features(self, q: Tensor, k: Tensor) -> tuple[Tensor, Tensor]:
        if self.kernel == "none":
            return q.softmax(dim=-1), k.exp() if self.causal else k.softmax(dim=-2)
        projection = None if self.projection_matrix is None else self.projection_matrix.to(q.dtype)
        if self.kernel == "relu":
            return relu_features(q, projection), relu_features(k, projection)
        assert projection is not None
        return softmax_features(q, projection, over=(-1,)), softmax_features(k, projection, over=(-2, -1))


def build(task: Task, hyperparameters: Mapping[str, Any]) -> nn.Module:
    """The Performer for a task; see PerformerConfig. Raises TypeError on unknown hyper-parameters."""
    config = PerformerConfig(**hyperparameters)
    return build_around(task, config, lambda: attention(config, task.causal))


def attention(config: PerformerConfig, causal: bool) -> MultiHeadAttention:
    """One layer's attention, with a projection of its own."""
    mixer = FavorMixer(config.qkv // config.heads, config.features, config.kernel, causal)
    return MultiHeadAttention(config.dim, config.heads, mixer, inner=config.qkv, qkv_bias=config.qkv_bias)
