"""MEGA's gated attention with moving average on the CPU, for the module of `implementations.models.mega`."""

import torch
from torch import Tensor
from torch.nn import functional as F

from implementations.kernels.cpu.chunked_attention import fused_chunked_attention
from implementations.kernels.cpu.ema import fused_ema
from implementations.kernels.cpu.norms import row_norm
from implementations.models.mega import MovingAverageGatedAttention


def mega_layer(layer: MovingAverageGatedAttention, x: Tensor, padding_mask: Tensor | None = None) -> Tensor:
    """Result of `layer(x, padding_mask)`, `(batch, length, dim)`.

    Raises ValueError for dropout of the attention's weights, which are never all in memory, and if the chunks
    do not divide the length.
    """
    config = layer.config
    if layer.training and config.attention_dropout > 0.0:
        raise ValueError("backend cpu has no attention_dropout: the weights are never all there")
    u = row_norm(layer.norm, x) if config.prenorm else x
    v = layer.hidden_dropout(F.silu(layer.v_proj(u)))
    dropout = layer.dropout.p if layer.training else 0.0
    m = fused_ema(layer.move, u, padding_mask, activated=True, dropout=dropout)
    widths = [config.dim, config.attention_dim, config.hidden, config.dim]
    update, z, r, candidate = layer.mx_proj(m).split(widths, dim=-1)
    q, k = (F.silu(z).unsqueeze(-2) * layer.gamma + layer.beta).unbind(dim=-2)
    attended = fused_chunked_attention(
        q,
        k,
        v,
        layer.rel_pos_bias.by_distance,
        chunk=config.chunk,
        kind=config.attention,
        causal=layer.causal,
        padding_mask=padding_mask,
    )
    h = layer.dropout(F.silu(candidate + layer.h_proj(attended * F.silu(r))))
    y = torch.lerp(x, h, update.sigmoid())
    return y if config.prenorm else row_norm(layer.norm, y)
