"""The gated attention unit of a SeqBoat layer on the working memory of a tile: its scale, bias and layout."""

from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from implementations.kernels.cpu.band import Band, layout_of
from implementations.kernels.cpu.dense_attention import DenseRow
from implementations.kernels.cpu.gated_attention import Attention, GatedAttention, Unit
from implementations.kernels.cpu.gates import Gates, rotary_turns
from implementations.kernels.cpu.local_attention import Bias, RowAttention

if TYPE_CHECKING:
    from implementations.models.seqboat import SeqBoatLayer


class Memory(NamedTuple):
    """Steps that attention works on: the active steps of a tile's rows, or all of their steps."""

    steps: Tensor
    """`(active,)` int64: in the tile's rows one after another."""
    in_place: bool
    """Whether the working memory of the batch is the whole sequence; else it is the active steps."""
    hidden: Tensor | None
    """`(tile,)` boolean: steps of the tile that no query attends to; None if there are none."""
    tile: int
    """Steps of the tile."""
    length: int
    """Steps of a row."""
    most: int
    """Active steps of a row at most."""

    @property
    def size(self) -> int:
        return len(self.steps) if self.hidden is None else self.tile

    @property
    def times(self) -> Tensor:
        """`(active,)`: positions in their rows."""
        return self.steps % self.length


def unit_of(
    layer: "SeqBoatLayer",
    memory: Memory,
    weights: Unit,
    dropped_values: Tensor | None,
    hidden_dropout: float,
) -> GatedAttention:
    """Gated attention unit of a layer; dropped_values: flat indices of values to drop, or None."""
    config, turns = layer.config, None
    if config.relative_bias == "rotary":
        turns = rotary_turns(memory.times, config.attention_dim, weights.gamma.dtype)
    slots = memory.steps if len(memory.steps) < memory.size else None
    scale = _scale(layer, memory)
    gates = Gates(weights.gamma, weights.beta, scale, slots, turns, dropped_values, hidden_dropout)
    return GatedAttention(weights, _attention(layer, memory, weights.table), gates)


def _scale(layer: "SeqBoatLayer", memory: Memory) -> float | Tensor:
    """Factor of the queries, a number or `(active, 1)`."""
    config, steps = layer.config, memory.steps
    if config.attention == "softmax":
        return float(config.attention_dim**-0.5)
    if config.window is not None:
        return 1.0 / (config.window if layer.causal else 2 * config.window)
    if not layer.causal:
        return 1.0 / max(1, len(steps) if memory.hidden is None else int((~memory.hidden).sum()))
    index = steps if memory.in_place else torch.arange(len(steps), device=steps.device)
    return (index + 1).unsqueeze(-1).to(torch.promote_types(layer.gamma.dtype, torch.float32)).reciprocal()


def _attention(layer: "SeqBoatLayer", memory: Memory, table: Tensor | None) -> Attention:
    config, bias, sequence = layer.config, None, None
    if table is not None and layer.rel_pos_bias is not None:
        by_index = config.relative_bias == "local" or memory.size == memory.tile
        bias = Bias(table, layer.rel_pos_bias.origin, None if by_index else memory.times)
    if config.window is None:
        return DenseRow(memory.size, config.attention, layer.causal, bias, memory.hidden)
    packed, rows = memory.size < memory.tile, memory.tile // memory.length
    # Distances within a row are shorter than the row.
    reach = min(config.window, (memory.most if packed else memory.length) - 1)
    layout = layout_of(memory.size, reach, 0 if layer.causal else reach, 1 if packed else rows)
    if rows > 1 and (packed or isinstance(layout, Band)):
        steps = memory.steps if packed else torch.arange(memory.tile, device=memory.steps.device)
        sequence = (steps // memory.length).int()
    return RowAttention(layout, config.attention, bias, memory.hidden, sequence)
