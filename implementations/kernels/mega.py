"""MEGA and MEGA-chunk with fused primitives: the same parameters, the same function."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from implementations.kernels.backend import Backend, choose
from implementations.kernels.cpu.chunked_attention import fused_chunked_attention
from implementations.kernels.cpu.ema import fused_ema
from implementations.mega import MovingAverageGatedAttention
from implementations.mega import build as build_plain
from implementations.task import Task


class FusedGatedAttention(MovingAverageGatedAttention):
    """MovingAverageGatedAttention with the same parameters, arguments and result.

    backend: the kernels that compute it; see `implementations.kernels.backend.choose`.
    Raises ValueError for dropout of the attention's weights, which are never all there.
    """

    backend: Backend = "auto"

    def forward(self, x: Tensor, padding_mask: Tensor | None = None) -> Tensor:
        if choose(self.backend, x.device) != "triton":
            return super().forward(x, padding_mask)
        from implementations.kernels.triton.mega import mega_layer

        return mega_layer(self, x, padding_mask)

    def average(self, u: Tensor, padding_mask: Tensor | None) -> Tensor:
        if choose(self.backend, u.device) == "torch":
            return super().average(u, padding_mask)
        return fused_ema(self.move, u, padding_mask)

    def attention(self, q: Tensor, k: Tensor, v: Tensor, padding_mask: Tensor | None) -> Tensor:
        if choose(self.backend, q.device) == "torch":
            return super().attention(q, k, v, padding_mask)
        if self.training and self.config.attention_dropout > 0.0:
            raise ValueError("fused attention has no attention_dropout: the weights are never all there")
        return fused_chunked_attention(
            q,
            k,
            v,
            self.rel_pos_bias.by_distance,
            chunk=self.config.chunk,
            kind=self.config.attention,
            causal=self.causal,
            padding_mask=padding_mask,
        )


def build(task: Task, hyperparameters: Mapping[str, Any]) -> nn.Module:
    """MEGA for a task; see `implementations.mega.build`."""
    return build_plain(task, hyperparameters, FusedGatedAttention)
