"""MEGA's gated attention with moving average on the CPU, for the module of `implementations.models.mega`."""

import torch
from torch import Tensor
from torch.nn import functional as F

from implementations.fused.dropout_rates import rate_of
from implementations.kernels.cpu.chunked_attention import Chunks
from implementations.kernels.cpu.ema import fused_ema
from implementations.kernels.cpu.mega_unit import Weights, gated_unit
from implementations.kernels.cpu.norms import row_norm
from implementations.models.mega import MovingAverageGatedAttention


def mega_layer(layer: MovingAverageGatedAttention, x: Tensor, padding_mask: Tensor | None = None) -> Tensor:
    """Result of `layer(x, padding_mask)`, `(batch, length, dim)`.

    Computed in float32 at least, and under autocast too; the result has the precision of x.
    Raises ValueError for dropout of the attention's weights, which are never all in memory, and if the chunks
    do not divide the length.
    """
    config = layer.config
    if layer.training and config.attention_dropout > 0.0:
        raise ValueError("backend cpu has no attention_dropout: the weights are never all there")
    chunks = Chunks.of(x.shape[1], config.chunk, config.attention, layer.causal, padding_mask)
    with torch.autocast(x.device.type, enabled=False):
        dtype = torch.promote_types(x.dtype, torch.float32)
        wide = x.to(dtype)
        u = row_norm(layer.norm, wide) if config.prenorm else wide
        v = F.linear(u, layer.v_proj.weight.to(dtype), layer.v_proj.bias.to(dtype))
        dropout = rate_of(layer.dropout)
        hidden_dropout = rate_of(layer.hidden_dropout)
        m = fused_ema(layer.move, u, padding_mask, activated=True, dropout=dropout)
        y = gated_unit(wide, m, v, _weights(layer, chunks.size, dtype), chunks, dropout, hidden_dropout)
        return (y if config.prenorm else row_norm(layer.norm, y)).to(x.dtype)


def _weights(layer: MovingAverageGatedAttention, size: int, dtype: torch.dtype) -> Weights:
    parameters = (
        layer.mx_proj.weight,
        layer.mx_proj.bias,
        layer.h_proj.weight,
        layer.h_proj.bias,
        layer.gamma,
        layer.beta,
        layer.rel_pos_bias.by_distance(size),
    )
    return Weights(*(parameter.to(dtype) for parameter in parameters))
