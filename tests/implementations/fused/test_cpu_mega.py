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


@pytest.mark.usefixtures("cpu_kernels")
@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("options", OPTIONS, ids=lambda o: "-".join(map(str, o.values())))
def test_options(options: dict, causal: bool, padded: bool) -> None:
    compare(options, causal, padded)


@pytest.mark.usefixtures("cpu_kernels")
def test_digits_of_float32() -> None:
    compare(OPTIONS[0], False, False, check_digits, length=300)


def test_no_dropout_of_weights() -> None:
    layer = MovingAverageGatedAttention(MegaConfig(**SIZES, attention_dropout=0.1))
    with pytest.raises(ValueError, match="attention_dropout"):
        mega_layer(layer, torch.zeros(1, 4, DIM))
    mega_layer(layer.eval(), torch.zeros(1, 4, DIM))


@pytest.mark.usefixtures("cpu_kernels")
def test_gradients_under_dropout_are_those_of_the_same_mask() -> None:
    """The derivative along a direction, by differences; a second backward pass gives the same gradient."""
    torch.manual_seed(0)
    layer = MovingAverageGatedAttention(MegaConfig(**SIZES, chunk=12, dropout=0.3, hidden_dropout=0.2))
    for parameter in layer.double().parameters():
        nn.init.normal_(parameter, std=0.4)
    x, along, weights = (numbers(2, 24, DIM, seed=seed) for seed in (0, 1, 2))

    def run(x: torch.Tensor) -> torch.Tensor:
        torch.manual_seed(7)
        return (mega_layer(layer, x) * weights).sum()

    leaf = x.clone().requires_grad_()
    result = run(leaf)
    (grad,) = torch.autograd.grad(result, leaf, retain_graph=True)
    assert torch.equal(torch.autograd.grad(result, leaf)[0], grad)
    step = 1e-6
    with torch.no_grad():
        slope = (run(x + step * along) - run(x - step * along)) / (2 * step)
        torch.testing.assert_close((grad * along).sum(), slope, rtol=1e-6, atol=1e-6)
        assert (run(x) - (mega_layer(layer.eval(), x) * weights).sum()).abs() > 1e-3


def test_dropout_in_its_places_has_the_plain_mean_and_spread() -> None:
    """The average, the values and the candidate are dropped: sampled outputs of both forms agree."""
    torch.manual_seed(0)
    layer = MovingAverageGatedAttention(
        MegaConfig(**SIZES, chunk=4, dropout=0.4, hidden_dropout=0.3)
    ).double()
    for parameter in layer.parameters():
        nn.init.normal_(parameter, std=0.4)
    x, samples = numbers(1, 8, DIM), 500
    with torch.no_grad():
        drawn = [
            torch.stack([run(x) for _ in range(samples)]) for run in (layer, lambda x: mega_layer(layer, x))
        ]
    (mean, std), (fused_mean, fused_std) = ((d.mean(dim=0), d.std(dim=0)) for d in drawn)
    assert ((mean - fused_mean).abs() <= 6.0 * std * (2 / samples) ** 0.5 + 1e-9).all()
    torch.testing.assert_close(fused_std.mean(), std.mean(), rtol=0.1, atol=0)


def test_memory_between_the_passes_is_that_of_what_cannot_be_computed_again_cheaply() -> None:
    """Per step x, the average with its spectra, m, y, v, the projection and what attention gives."""
    layer = MovingAverageGatedAttention(
        MegaConfig(layers=1, dim=16, hidden=32, attention_dim=8, ffn=4, chunk=32, truncation=1)
    )
    kept: dict[int, int] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    x = torch.randn(1, 1024, 16, requires_grad=True)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        mega_layer(layer, x)
    floats = sum(kept.values()) / 4 / 1024
    widths = 6 * 16 + 32 + (16 + 8 + 32 + 16) + 32
    assert floats <= widths + 12, floats
