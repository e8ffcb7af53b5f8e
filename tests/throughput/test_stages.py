"""Distance of each stage of a fused SeqBoat layer from what its arithmetic alone would take, in the Text
configuration, forward and backward.

The floor of a stage (`floor.py`) is its floating-point operations over the rate of a large matrix product,
measured here and now; the bytes are those of the tensors that it must read or write at least once.
"""

from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from implementations import activation
from implementations.fused.seqboat_cpu import seqboat_layer
from implementations.kernels.cpu.ema import fused_ema
from implementations.kernels.cpu.local_attention import fused_local_attention
from implementations.kernels.cpu.norms import channel_norm
from implementations.models.seqboat import SeqBoatConfig, SeqBoatLayer
from implementations.ops.ema import DampedEMA
from implementations.ops.norms import SequenceNorm
from implementations.ops.relative_bias import RelativeBias

from .floor import PASSES, Flops, matrix_product_rate, seconds

LENGTH, DIM, HIDDEN, Z, STATES, WINDOW, TRUNCATION = 4096, 128, 256, 64, 16, 128, 1024
CONFIG = SeqBoatConfig(
    layers=1, dim=DIM, hidden=HIDDEN, attention_dim=Z, states=STATES, window=WINDOW,
    truncation=TRUNCATION, norm="scalenorm", prenorm=False, relative_bias="local",
)  # fmt: skip


@dataclass(frozen=True)
class Stage:
    name: str
    flops: float
    floats: float
    run: Callable[[], object]


def both_ways(forward: Callable[..., Tensor], *inputs: Tensor) -> Callable[[], object]:
    leaves = [x.requires_grad_() for x in inputs]
    grad = torch.randn_like(forward(*leaves))
    return lambda: torch.autograd.grad(forward(*leaves), leaves, grad)


def products(rows: int, inputs: int, outputs: int) -> Callable[[], object]:
    """A linear map with time innermost, and its two gradients."""
    x, weight, grad = torch.randn(inputs, rows), torch.randn(outputs, inputs), torch.randn(outputs, rows)
    return lambda: (weight @ x, weight.t() @ grad, grad @ x.t())


def time_innermost(length: int = LENGTH) -> Tensor:
    return torch.randn(1, DIM, length).transpose(1, 2)


def layer_of(rate: float, x: Tensor) -> SeqBoatLayer:
    torch.manual_seed(0)
    layer = SeqBoatLayer(CONFIG)
    margins: list[Tensor] = []
    hook = layer.configurator.register_forward_pre_hook(lambda m, args: margins.append(m.margins(*args)))
    with torch.no_grad():
        layer(x)
    hook.remove()
    layer.configurator.act_bias.copy_(activation.threshold(margins[0], rate))
    return layer


def stages(active: int) -> list[Stage]:
    ema, norm, bias = (
        DampedEMA(DIM, STATES, True, TRUNCATION),
        SequenceNorm("scalenorm", DIM),
        RelativeBias.local(WINDOW),
    )
    q, k, v = torch.randn(1, active, Z), torch.randn(1, active, Z), torch.randn(1, active, HIDDEN)
    flops, states, projected = Flops.of(CONFIG, LENGTH, active), LENGTH * DIM, Z + 2 * HIDDEN

    def attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return fused_local_attention(q, k, v, WINDOW, bias=bias)

    linears = products(active, DIM, projected), products(active, HIDDEN, DIM)

    return [
        Stage(
            "EMA, silu",
            flops.ema,
            4 * states,
            both_ways(lambda x: fused_ema(ema, x, activated=True), time_innermost()),
        ),
        Stage("hx_proj", flops.hx_proj, 6 * states, products(LENGTH, DIM, DIM + 2)),
        Stage(
            "mx_proj, h_proj",
            flops.unit,
            PASSES * active * (2 * DIM + projected + HIDDEN),
            lambda: [linear() for linear in linears],
        ),
        Stage(
            "attention",
            flops.attention,
            4 * active * (Z + HIDDEN),
            both_ways(attention, q, k, v),
        ),
        Stage(
            "norm",
            0.0,
            5 * states,
            both_ways(lambda x: channel_norm(norm, x), torch.randn(1, DIM, 1, LENGTH)),
        ),
    ]


@pytest.mark.parametrize("rate", [0.1, 0.3, 0.5, 1.0])
def test_stages(rate: float) -> None:
    x = time_innermost()
    layer = layer_of(rate, x)
    parts = stages(round(rate * LENGTH))
    whole = Stage(
        "the whole layer",
        sum(part.flops for part in parts),
        sum(part.floats for part in parts),
        both_ways(lambda x, *parameters: seqboat_layer(layer, x), x, *layer.parameters()),
    )
    speed = matrix_product_rate()
    print(
        f"\nactivation {rate}, {LENGTH} steps, {torch.get_num_threads()} threads, {speed / 1e9:.0f} GFLOP/s"
    )
    print(f"{'stage':<18}{'MFLOP':>8}{'MB':>8}{'floor ms':>10}{'ms':>8}{'× floor':>9}")
    for part in [*parts, whole]:
        taken, floor = seconds(part.run), part.flops / speed
        times = f"{taken / floor:9.1f}" if floor else f"{'–':>9}"
        print(
            f"{part.name:<18}{part.flops / 1e6:8.0f}{part.floats * 4 / 1e6:8.1f}"
            f"{floor * 1e3:10.2f}{taken * 1e3:8.2f}{times}"
        )
