"""MEGA's gated attention with moving average in fused form, for MEGA's module."""

from torch import Tensor
from torch.nn import functional as F

from implementations.fused.dropout_rates import rate_of
from implementations.kernels.triton.attention import Attention, Bias, attention
from implementations.kernels.triton.ema import damped_ema
from implementations.kernels.triton.packing import Packing
from implementations.models.mega import MovingAverageGatedAttention


def mega_layer(layer: MovingAverageGatedAttention, x: Tensor, padding_mask: Tensor | None = None) -> Tensor:
    """Result of `layer(x, padding_mask)`, `(batch, length, dim)`.

    Raises ValueError for dropout of the attention's weights, which are never all in memory, and if the chunks
    do not divide the length.
    """
    config = layer.config
    u = layer.norm(x) if config.prenorm else x
    v = layer.hidden_dropout(F.silu(layer.v_proj(u)))
    dropout = rate_of(layer.dropout)
    m = damped_ema(layer.move, u, padding_mask, activated=True, dropout=dropout)
    widths = [config.dim, config.attention_dim, config.hidden, config.dim]
    update, z, r, candidate = layer.mx_proj(m).split(widths, dim=-1)
    q, k = (F.silu(z).unsqueeze(-2) * layer.gamma + layer.beta).to(v.dtype).unbind(dim=-2)
    attended = chunked_attention(layer, q, k, v, padding_mask) * F.silu(r)
    h = layer.dropout(F.silu(candidate + layer.h_proj(attended)))
    y: Tensor = x + update.sigmoid() * (h - x)
    return y if config.prenorm else layer.norm(y)


def chunked_attention(
    layer: MovingAverageGatedAttention, q: Tensor, k: Tensor, v: Tensor, padding_mask: Tensor | None
) -> Tensor:
    """Result of `layer.attention(q, k, v, padding_mask)`; each chunk is a packed row of its own."""
    config, (batch, length, hidden) = layer.config, v.shape
    if layer.training and config.attention_dropout > 0.0:
        raise ValueError("backend triton has no attention_dropout: the weights are never all there")
    size = min(config.chunk or length, length)
    if length % size:
        raise ValueError(f"{length} time steps are not a multiple of the chunk {size}: pad them")
    unseen = None if padding_mask is None else padding_mask.reshape(-1, size)
    if unseen is not None and config.attention == "softmax":
        # The softmax over a chunk of nothing but padding sees the padding.
        unseen = unseen & ~unseen.all(dim=1, keepdim=True)
    packing = Packing.rows_of(batch * length // size, size, unseen, v.device)
    out = attention(
        q.flatten(0, 1),
        k.flatten(0, 1),
        v.flatten(0, 1),
        packing,
        Attention(config.attention, layer.causal),
        Bias(layer.rel_pos_bias.by_distance(size), origin=size - 1, by_time=False),
    )
    return out.view(batch, length, hidden)
