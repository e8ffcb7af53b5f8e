"""A SeqBoat layer in fused form, for the layer of `implementations.models.seqboat`.

Matrix products are torch's; everything between them is one kernel each way.
"""

import math

import torch
from torch import Tensor

from implementations.fused.dropout_rates import rate_of
from implementations.kernels.triton.attention import Attention, Bias, attention
from implementations.kernels.triton.ema import damped_ema
from implementations.kernels.triton.gates import gates
from implementations.kernels.triton.merge import merge
from implementations.kernels.triton.norms import RowNorm
from implementations.kernels.triton.packing import Packing, in_whole_blocks, pack
from implementations.models.seqboat import SeqBoatLayer
from implementations.ops import sizes
from implementations.ops.configurator import LatentConfigurator, Routing


def seqboat_layer(
    layer: SeqBoatLayer, x: Tensor, padding_mask: Tensor | None = None, *, capacity: float | None = None
) -> Tensor:
    """Result of `layer(x, padding_mask)`, `(batch, length, dim)`.

    Waits for the device once, for the number of active steps. With a capacity, the largest share of the
    batch's steps that may be active, it does not wait, so that a CUDA graph can hold it: buffers and matrix
    products are then as large as the capacity, and more active steps are an error, which the device raises.
    """
    config = layer.config
    norm = RowNorm.of(layer.norm, x)
    dropout = rate_of(layer.dropout)
    u = layer.norm(x) if config.prenorm and norm is None else x
    m = damped_ema(
        layer.ema, u, padding_mask, norm=norm if config.prenorm else None, activated=True, dropout=dropout
    )
    hx = layer.hx_proj(m)
    packing = _packing(layer, hx, padding_mask, capacity)
    packed = m.flatten(0, 1) if layer.configurator is None else pack(m, packing)
    y = merge(
        hx,
        _gated_attention(layer, packed, packing, x.shape[1]),
        x,
        packing,
        layer.configurator,
        norm=None if config.prenorm else norm,
        joint_dropout=layer.causal,
        dropout=dropout,
    )
    return y if config.prenorm or norm is not None else layer.norm(y)


def _packing(layer: SeqBoatLayer, hx: Tensor, padding_mask: Tensor | None, capacity: float | None) -> Packing:
    batch, length, _ = hx.shape
    if layer.configurator is None:
        return Packing.rows_of(batch, length, padding_mask, hx.device)
    active = _decided(layer.configurator, hx[..., :2], padding_mask)
    capacity = sizes.capacity() if capacity is None else capacity
    most = None if capacity is None else in_whole_blocks(math.ceil(capacity * batch * length))
    return Packing.of(active, layer.dense, most)


@torch.no_grad()
def _decided(configurator: LatentConfigurator, logits: Tensor, padding_mask: Tensor | None) -> Tensor:
    """Active steps; the merge computes the probabilities, so they are computed here for hooks alone."""
    if configurator._forward_hooks or configurator._forward_pre_hooks:
        routing: Routing = configurator(logits, padding_mask)
        return routing.active
    return configurator.decide(logits, padding_mask)


def _gated_attention(layer: SeqBoatLayer, packed: Tensor, packing: Packing, length: int) -> Tensor:
    """The gated attention unit: packed `(steps, dim)` to the same shape, without dropout of its output."""
    config, bias = layer.config, layer.rel_pos_bias
    q, k, r, v = gates(
        layer.mx_proj(packed),
        layer.gamma,
        layer.beta,
        packing,
        rotary_length=length if config.relative_bias == "rotary" else None,
        dropout=rate_of(layer.hidden_dropout),
    )
    how = Attention(config.attention, layer.causal, config.window)
    by_time = config.relative_bias == "simple"
    table = None if bias is None else Bias(bias.rel_pos_bias, bias.origin, by_time)
    h: Tensor = layer.h_proj(attention(q, k, v, packing, how, table) * r)
    return h
