"""Learned biases on attention scores by the distance of key and query."""

import torch
from torch import Tensor, nn

from implementations.ops.cut_normal import cut_normal_


class RelativeBias(nn.Module):
    """One learned number per distance: `bias_ij = table[clamp(origin + t_j − t_i)]`; the ends repeat.

    Parameter rel_pos_bias `(size,)`, initially `N(0, 0.02)` cut at two deviations.
    """

    def __init__(self, size: int, origin: int) -> None:
        super().__init__()
        self.origin = origin
        self.rel_pos_bias = nn.Parameter(cut_normal_(torch.empty(size), std=0.02))

    @classmethod
    def simple(cls, max_positions: int) -> "RelativeBias":
        """Distances between original positions, up to `max_positions − 1` either way."""
        return cls(2 * max_positions - 1, origin=max_positions - 1)

    @classmethod
    def local(cls, window: int) -> "RelativeBias":
        """Offsets between steps of the working memory: SeqBoat's `local_pos`, a table of `6·window − 1`."""
        return cls(6 * window - 1, origin=4 * window - 1)

    def forward(self, query_positions: Tensor, key_positions: Tensor) -> Tensor:
        """Positions int64 `(…, queries)` and `(…, keys)`; biases `(…, queries, keys)`."""
        distance = key_positions.unsqueeze(-2) - query_positions.unsqueeze(-1)
        index = (distance + self.origin).clamp(0, self.rel_pos_bias.numel() - 1)
        return self.rel_pos_bias.gather(0, index.flatten()).view_as(index)
