"""Whole layers of SeqBoat and MEGA in fused form against the plain ones, and when the backend is there."""

import math
import subprocess
import sys
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from implementations.activation import threshold
from implementations.kernels.backend import use_backend
from implementations.kernels.triton import trial, unavailable
from implementations.models.mega import MegaConfig, MovingAverageGatedAttention
from implementations.models.seqboat import SeqBoatConfig, SeqBoatLayer
from implementations.registry import find
from implementations.task import Task

from ..kernels.triton_oracle import DEVICE, check, numbers, with_parameters

from implementations.fused.mega_triton import mega_layer  # isort: skip
from implementations.fused.seqboat_triton import seqboat_layer  # isort: skip
from implementations.kernels.triton.packing import Packing  # isort: skip

DIM, LENGTH = 6, 10
SIZES = {"layers": 1, "dim": DIM, "hidden": 10, "attention_dim": 4, "states": 2}
VARIANTS = [
    {"relative_bias": "simple"},
    {"relative_bias": "local", "prenorm": False, "norm": "scalenorm", "truncation": 7},
    {"relative_bias": "rotary", "attention": "relu2", "norm": "rmsnorm", "causal": True},
    {"relative_bias": "local", "norm": "batchnorm", "rate": 1.0},
    {"relative_bias": "local", "norm": "batchnorm", "prenorm": False, "rate": 0.0},
    {"relative_bias": "local", "always_active": True},
    {"relative_bias": "rotary", "capacity": 0.9, "causal": True},
    {"window": None, "attention": "laplace", "prenorm": False, "causal": True},
    {"window": None, "relative_bias": "rotary", "attention": "relu2", "rate": 0.95},
]


def spread(module: nn.Module) -> nn.Module:
    """In float64, with weights that matter."""
    torch.manual_seed(0)
    for name, parameter in module.named_parameters():
        if not name.startswith("norm"):
            nn.init.normal_(parameter, std=0.4)
    return module.to(DEVICE, torch.float64)


def activate(layer: SeqBoatLayer, x: Tensor, padding: Tensor, rate: float) -> None:
    """Put the threshold into a wide gap between the margins that the layer has on x."""
    margins: list[Tensor] = []
    assert layer.configurator is not None
    hook = layer.configurator.register_forward_pre_hook(lambda m, args: margins.append(m.margins(*args)))
    with torch.no_grad():
        layer(x, padding)
    hook.remove()
    layer.configurator.act_bias.copy_(threshold(margins[0], rate))


@pytest.mark.parametrize("options", VARIANTS, ids=lambda options: "-".join(map(str, options.values())))
def test_seqboat(options: dict[str, object]) -> None:
    extra = {"causal": False, "rate": 0.5, "capacity": None, "window": 5, **options}
    causal, rate, capacity = (extra.pop(name) for name in ("causal", "rate", "capacity"))
    layer = SeqBoatLayer(SeqBoatConfig(**SIZES, **extra), causal=causal, max_positions=9)  # type: ignore[arg-type]
    spread(layer)
    x = numbers(2, LENGTH, DIM)
    padding = torch.zeros(2, LENGTH, dtype=torch.bool, device=DEVICE)
    if rate != 0.95:
        padding[1, 7:] = True
    if layer.configurator is not None:
        activate(layer, x, padding, float(rate))  # type: ignore[arg-type]
    check(
        with_parameters(layer, lambda layer, x: layer(x, padding)),
        with_parameters(layer, lambda layer, x: seqboat_layer(layer, x, padding, capacity=capacity)),
        x,
        *layer.parameters(),
    )


@pytest.mark.parametrize("share", [0.01, 0.37, 1.0])
def test_a_capacity_is_rounded_up_as_counts_are(share: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else Triton compiles other kernels for it, and buffers do not begin at a multiple of 16 bytes."""
    given: list[int] = []
    of = Packing.of

    def packing(active: Tensor, dense: float, capacity: int) -> Packing:
        given.append(capacity)
        return of(active, dense, capacity)

    monkeypatch.setattr(Packing, "of", packing)
    layer = spread(SeqBoatLayer(SeqBoatConfig(**SIZES, window=5)))
    x = numbers(2, 29, DIM)
    layer.configurator.act_bias.fill_(1e9)
    seqboat_layer(layer, x, capacity=share)
    assert given == [16 * -(-math.ceil(share * 58) // 16)]


def test_a_hook_on_the_configurator_runs() -> None:
    """So that activation rates can be calibrated."""
    layer = spread(SeqBoatLayer(SeqBoatConfig(**SIZES, window=5)))
    seen: list[Tensor] = []
    layer.configurator.register_forward_pre_hook(lambda m, args: seen.append(m.margins(*args)))
    seqboat_layer(layer, numbers(1, 3, DIM))
    assert seen[0].shape == (3,)
    assert 0.0 <= layer.configurator.activation_rate() <= 1.0


@pytest.mark.parametrize(
    ("options", "causal"),
    [
        ({"chunk": 4}, False),
        ({"chunk": 4, "attention": "laplace", "relative_bias": "rotary"}, True),
        ({"attention": "relu2", "norm": "scalenorm", "prenorm": True}, False),
    ],
)
def test_mega(options: dict[str, object], causal: bool) -> None:
    config = MegaConfig(**{**SIZES, "ffn": 7, **options})  # type: ignore[arg-type]
    layer = spread(MovingAverageGatedAttention(config, causal=causal, max_positions=20))
    padding = torch.zeros(2, 8, dtype=torch.bool, device=DEVICE)
    padding[1, 3:] = True
    check(
        with_parameters(layer, lambda layer, x: layer(x, padding)),
        with_parameters(layer, lambda layer, x: mega_layer(layer, x, padding)),
        numbers(2, 8, DIM),
        *layer.parameters(),
    )


def test_mega_without_the_weights_has_no_dropout_of_them() -> None:
    layer = spread(MovingAverageGatedAttention(MegaConfig(**SIZES, ffn=7, attention_dropout=0.1)))
    with pytest.raises(ValueError, match="attention_dropout"):
        mega_layer(layer, numbers(1, 4, DIM))


def test_layers_train_with_dropout() -> None:
    """Every dropout at once: finite gradients everywhere, and another result each time."""
    options = {"dropout": 0.3, "hidden_dropout": 0.3, "window": 5}
    layer = spread(SeqBoatLayer(SeqBoatConfig(**SIZES, **options)))
    x = numbers(1, 8, DIM)
    first, second = (seqboat_layer(layer, x) for _ in range(2))
    assert not torch.equal(first, second)
    (first.square().sum()).backward()
    for name, parameter in layer.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
    layer.eval()
    torch.testing.assert_close(seqboat_layer(layer, x), layer(x))


def test_a_model_by_name_with_this_backend() -> None:
    task = Task("text", length=9, classes=3, vocabulary=20)
    sizes = {
        **SIZES,
        "layers": 2,
        "window": 4,
        "relative_bias": "local",
        "norm": "scalenorm",
        "prenorm": False,
    }
    plain = spread(find("seqboat").load()(task, sizes))
    fused = find("seqboat-fused").load()(task, sizes).to(DEVICE, torch.float64)
    fused.load_state_dict(plain.state_dict())
    inputs = torch.randint(1, 20, (2, 9), generator=torch.Generator().manual_seed(0)).to(DEVICE)
    lengths = torch.tensor([9, 6], device=DEVICE)
    results = [model(inputs, lengths) for model in (plain, use_backend(fused, "triton"))]
    torch.testing.assert_close(results[1], results[0], rtol=0.0, atol=1e-9)


def test_everything_dropped() -> None:
    layer = spread(SeqBoatLayer(SeqBoatConfig(**SIZES, window=5, dropout=1.0)))
    x = numbers(1, 3, DIM)
    torch.testing.assert_close(seqboat_layer(layer, x), layer(x))


def test_nothing_imports_triton_before_it_is_asked_for() -> None:
    modules = "implementations.models.seqboat, implementations.kernels.triton"
    script = f"import sys, {modules}; print('triton' in sys.modules)"
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "False"


@pytest.mark.parametrize(
    ("interpret", "installed", "device", "reason"),
    [
        ("0", True, "cpu", "CUDA devices, not on cpu"),
        ("1", True, "cpu", None),
        ("0", True, "cuda", None),
        ("1", False, "cuda", "not installed"),
    ],
)
def test_why_the_backend_is_unavailable(
    interpret: str, installed: bool, device: str, reason: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    find: Callable[[str], object] = lambda name: object() if installed else None  # noqa: E731
    monkeypatch.setattr("importlib.util.find_spec", find)
    monkeypatch.setenv("TRITON_INTERPRET", interpret)
    monkeypatch.setattr(trial, "failure", lambda device: None)
    found = unavailable(torch.device(device))
    if reason is None:
        assert found is None
    else:
        assert found is not None
        assert reason in found
        assert "\n" not in found
