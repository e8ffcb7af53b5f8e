"""MEGA's fused layer on the CPU, against the plain one."""

import pytest
import torch
from torch import nn
from torch.func import functional_call

from implementations.fused.mega_cpu import mega_layer
from implementations.models.mega import MegaConfig, MovingAverageGatedAttention

from ..kernels.cpu_oracle import check, check_digits, numbers

DIM = 8
SIZES = {"layers": 1, "dim": DIM, "hidden": 14, "attention_dim": 6, "ffn": 4, "states": 3}


class Call(nn.Module):
    """A form of the layer as a module with its parameters."""

    def __init__(self, layer: MovingAverageGatedAttention, run) -> None:
        super().__init__()
        self.layer, self.run = layer, run

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.run(self.layer, x)


def compare(options: dict, causal: bool, padded: bool, check=check, length: int = 48) -> None:
    torch.manual_seed(0)
    layer = MovingAverageGatedAttention(MegaConfig(**SIZES, **options), causal=causal, max_positions=length)
    for name, parameter in layer.named_parameters():
        if not name.startswith(("norm", "move")):
            nn.init.normal_(parameter, std=0.4)
    layer = layer.double()
    padding = torch.arange(length) >= torch.tensor([length, 17])[:, None] if padded else None
    names = [f"layer.{name}" for name, _ in layer.named_parameters()]

    def form(run):
        call = Call(layer, run)
        return lambda x, *values: functional_call(call, dict(zip(names, values, strict=True)), (x,))

    check(
        form(lambda layer, x: layer(x, padding)),
        form(lambda layer, x: mega_layer(layer, x, padding)),
        numbers(2, length, DIM),
        *layer.parameters(),
    )


OPTIONS = [
    {"chunk": 12, "norm": "scalenorm"},
    {"chunk": 12, "norm": "batchnorm", "attention": "laplace", "prenorm": True, "truncation": 9},
    {"norm": "layernorm", "attention": "relu2", "prenorm": True},
    {"norm": "rmsnorm", "relative_bias": "rotary"},
]


@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("options", OPTIONS, ids=lambda o: "-".join(map(str, o.values())))
def test_options(options: dict, causal: bool, padded: bool) -> None:
    compare(options, causal, padded)


def test_digits_of_float32() -> None:
    compare(OPTIONS[0], False, False, check_digits, length=300)


def test_no_dropout_of_weights() -> None:
    layer = MovingAverageGatedAttention(MegaConfig(**SIZES, attention_dropout=0.1))
    with pytest.raises(ValueError, match="attention_dropout"):
        mega_layer(layer, torch.zeros(1, 4, DIM))
    mega_layer(layer.eval(), torch.zeros(1, 4, DIM))
