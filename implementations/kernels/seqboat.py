"""SeqBoat and SeqBoat-full with fused layers: the same parameters, the same function."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from implementations.kernels.backend import Backend, choose
from implementations.kernels.cpu.norms import fused_norm
from implementations.kernels.cpu.seqboat import fused_layer
from implementations.seqboat import SeqBoatLayer
from implementations.seqboat import build as build_plain
from implementations.task import Task


class FusedSeqBoatLayer(SeqBoatLayer):
    """SeqBoatLayer with the same parameters, arguments and result.

    backend: the kernels that compute it; see `implementations.kernels.backend.choose`.
    """

    backend: Backend = "auto"

    def forward(self, x: Tensor, padding_mask: Tensor | None = None) -> Tensor:
        chosen = choose(self.backend, x.device)
        if chosen == "torch":
            return super().forward(x, padding_mask)
        if chosen == "cpu":
            return self._on_cpu(x, padding_mask)
        from implementations.kernels.triton.seqboat import seqboat_layer

        return seqboat_layer(self, x, padding_mask)

    def _on_cpu(self, x: Tensor, padding_mask: Tensor | None) -> Tensor:
        """States have time innermost in memory, as a transposed view, from one layer to the next."""
        states = x.transpose(1, 2).contiguous()
        u = fused_norm(self.norm, states) if self.config.prenorm else states
        y = fused_layer(self, states, u, padding_mask)
        if not self.config.prenorm:
            y = fused_norm(self.norm, y)
        return y.transpose(1, 2)


def build(task: Task, hyperparameters: Mapping[str, Any]) -> nn.Module:
    """The model of a task; see `implementations.seqboat.build`."""
    return build_plain(task, hyperparameters, FusedSeqBoatLayer)
