"""SeqBoat and SeqBoat-full with fused layers: the same parameters, the same function."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from implementations.kernels.cpu.norms import fused_norm
from implementations.kernels.cpu.seqboat import fused_layer
from implementations.seqboat import SeqBoatLayer
from implementations.seqboat import build as build_plain
from implementations.task import Task


class FusedSeqBoatLayer(SeqBoatLayer):
    """SeqBoatLayer with the same parameters, arguments and result.

    States are kept with time innermost in memory, as a transposed view, from one layer to the next.
    """

    def forward(self, x: Tensor, padding_mask: Tensor | None = None) -> Tensor:
        states = x.transpose(1, 2).contiguous()
        u = fused_norm(self.norm, states) if self.config.prenorm else states
        y = fused_layer(self, states, u, padding_mask)
        if not self.config.prenorm:
            y = fused_norm(self.norm, y)
        return y.transpose(1, 2)


def build(task: Task, hyperparameters: Mapping[str, Any]) -> nn.Module:
    """The model of a task; see `implementations.seqboat.build`."""
    return build_plain(task, hyperparameters, FusedSeqBoatLayer)
