"""SeqBoat and SeqBoat-full with fused layers: the same parameters, the same function."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from implementations.fused.seqboat_cpu import seqboat_layer
from implementations.kernels.backend import Backend, choose
from implementations.kernels.cpu.dropout import use_gap_dropout
from implementations.models.seqboat import SeqBoatLayer
from implementations.models.seqboat import build as build_plain
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
            return seqboat_layer(self, x, padding_mask)
        from implementations.fused.seqboat_triton import seqboat_layer as triton_seqboat_layer

        return triton_seqboat_layer(self, x, padding_mask)


def build(task: Task, hyperparameters: Mapping[str, Any]) -> nn.Module:
    """The model of a task; see `implementations.models.seqboat.build`."""
    return use_gap_dropout(build_plain(task, hyperparameters, FusedSeqBoatLayer))
