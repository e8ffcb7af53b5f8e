"""MEGA and MEGA-chunk with fused primitives: the same parameters, the same function."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from implementations.fused.mega_cpu import mega_layer
from implementations.kernels.backend import Backend, choose
from implementations.kernels.cpu.dropout import use_gap_dropout
from implementations.models.mega import MovingAverageGatedAttention
from implementations.models.mega import build as build_plain
from implementations.task import Task


class FusedGatedAttention(MovingAverageGatedAttention):
    """MovingAverageGatedAttention with the same parameters, arguments and result.

    backend: the kernels that compute it; see `implementations.kernels.backend.choose`.
    Raises ValueError for dropout of the attention's weights, which are never all in memory.
    """

    backend: Backend = "auto"

    def forward(self, x: Tensor, padding_mask: Tensor | None = None) -> Tensor:
        chosen = choose(self.backend, x.device)
        if chosen == "torch":
            return super().forward(x, padding_mask)
        if chosen == "cpu":
            return mega_layer(self, x, padding_mask)
        from implementations.fused.mega_triton import mega_layer as triton_mega_layer

        return triton_mega_layer(self, x, padding_mask)


def build(task: Task, hyperparameters: Mapping[str, Any]) -> nn.Module:
    """MEGA for a task; see `implementations.models.mega.build`."""
    return use_gap_dropout(build_plain(task, hyperparameters, FusedGatedAttention))
