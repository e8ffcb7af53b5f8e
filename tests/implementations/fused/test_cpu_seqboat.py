"""The fused SeqBoat layer on the CPU, against the plain one: every option, in poisoned memory."""

import copy
import itertools
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call

from implementations.activation import threshold
from implementations.fused.seqboat import FusedSeqBoatLayer
from implementations.fused.seqboat_cpu import seqboat_layer
from implementations.kernels.cpu.band import layout_of
from implementations.models.seqboat import SeqBoatConfig, SeqBoatLayer

from ..kernels.cpu_oracle import check, distance, excess_of_errors, numbers

DIM = 8
SIZES = {"layers": 1, "dim": DIM, "hidden": 14, "attention_dim": 6, "states": 3}


class Call(nn.Module):
    """A form of the layer as a module with its parameters."""

    def __init__(self, layer: SeqBoatLayer, run: Callable[[SeqBoatLayer, Tensor], Tensor]) -> None:
        super().__init__()
        self.layer, self.run = layer, run

    def forward(self, x: Tensor) -> Tensor:
        return self.run(self.layer, x)


def layer_of(causal: bool = False, max_positions: int = 60, **options) -> SeqBoatLayer:
    torch.manual_seed(0)
    layer = SeqBoatLayer(
        SeqBoatConfig(**{**SIZES, "window": 12, **options}), causal=causal, max_positions=max_positions
    )
    for name, parameter in layer.named_parameters():
        if not name.startswith(("norm", "ema")):
            nn.init.normal_(parameter, std=0.4)
    return layer.double()


def activate(layer: SeqBoatLayer, x: Tensor, padding: Tensor | None, rate: float) -> None:
    """Set the rate, by a threshold in a wide gap."""
    if layer.configurator is None:
        return
    margins: list[Tensor] = []
    hook = layer.configurator.register_forward_pre_hook(lambda m, args: margins.append(m.margins(*args)))
    with torch.no_grad():
        layer(x, padding)
    hook.remove()
    layer.configurator.act_bias.copy_(threshold(margins[0], rate))


def compare(layer: SeqBoatLayer, x: Tensor, padding: Tensor | None = None, check=check) -> None:
    names = [f"layer.{name}" for name, _ in layer.named_parameters()]

    def form(run: Callable[[SeqBoatLayer, Tensor], Tensor]) -> Callable[..., Tensor]:
        call = Call(layer, run)
        return lambda x, *values: functional_call(call, dict(zip(names, values, strict=True)), (x,))

    check(
        form(lambda layer, x: layer(x, padding)),
        form(lambda layer, x: seqboat_layer(layer, x, padding)),
        x,
        *layer.parameters(),
    )


def padding_of(batch: int, length: int) -> Tensor:
    padding = torch.zeros(batch, length, dtype=torch.bool)
    padding[1, 2 * length // 3 :] = True
    return padding


ATTENTIONS = [
    {"attention": "softmax", "relative_bias": "local"},
    {"attention": "relu2", "relative_bias": "simple"},
    {"attention": "softmax", "relative_bias": "rotary"},
    {"attention": "laplace", "relative_bias": "simple", "window": None},
    {"attention": "softmax", "relative_bias": "rotary", "window": None},
]


@pytest.mark.usefixtures("cpu_kernels")
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("rate", [0.0, 0.02, 0.5, 0.95, 1.0])
@pytest.mark.parametrize("options", ATTENTIONS, ids=lambda o: "-".join(map(str, o.values())))
def test_rates(options: dict, rate: float, causal: bool) -> None:
    layer, x = layer_of(causal, **options), numbers(3, 90, DIM)
    for padding in (None, padding_of(3, 90)):
        activate(layer, x, padding, rate)
        compare(layer, x, padding)


@pytest.mark.usefixtures("cpu_kernels")
@pytest.mark.parametrize("options", ATTENTIONS, ids=lambda o: "-".join(map(str, o.values())))
def test_one_row_active_throughout(options: dict) -> None:
    """Then the working memory of every row is the whole sequence."""
    layer, x = layer_of(**options), numbers(3, 90, DIM)
    margins: list[Tensor] = []
    hook = layer.configurator.register_forward_pre_hook(lambda m, args: margins.append(m.margins(*args)))
    layer(x)
    hook.remove()
    rows = margins[0].view(3, 90)
    layer.configurator.act_bias.copy_(rows.amin(dim=1).max() - 1e-3)
    compare(layer, x)
    assert (rows > layer.configurator.act_bias).all(dim=1).sum() == 1


@pytest.mark.usefixtures("cpu_kernels")
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("options", ATTENTIONS, ids=lambda o: "-".join(map(str, o.values())))
def test_without_a_configurator(options: dict, causal: bool) -> None:
    layer, x = layer_of(causal, always_active=True, **options), numbers(2, 70, DIM)
    compare(layer, x)
    compare(layer, x, padding_of(2, 70))


@pytest.mark.usefixtures("cpu_kernels")
@pytest.mark.parametrize("prenorm", [False, True])
@pytest.mark.parametrize("norm", ["layernorm", "batchnorm", "scalenorm", "rmsnorm"])
def test_norms(norm: str, prenorm: bool) -> None:
    layer, x = layer_of(norm=norm, prenorm=prenorm, truncation=20), numbers(2, 50, DIM)
    activate(layer, x, None, 0.4)
    compare(layer, x)


@pytest.mark.usefixtures("cpu_kernels")
@pytest.mark.parametrize("length", [1, 2, 12, 13, 57])
def test_lengths(length: int) -> None:
    layer, x = layer_of(relative_bias="local"), numbers(2, length, DIM)
    activate(layer, x, None, 0.5)
    compare(layer, x)


def test_a_long_sequence_whose_average_hardly_decays() -> None:
    """Of 4,096 steps, with what the truncation cuts off as large as what it leaves."""
    layer, x = layer_of(relative_bias="local", window=128, truncation=1024), numbers(1, 4096, DIM)
    with torch.no_grad():
        layer.ema.delta.fill_(-8.0)
    activate(layer, x, None, 0.3)
    compare(layer, x)


@pytest.mark.usefixtures("cpu_kernels")
@pytest.mark.parametrize("scale", [0.05, 1.0])
@pytest.mark.parametrize("causal", [False, True])
def test_digits_of_float32(causal: bool, scale: float) -> None:
    """At a low temperature too, where the confidence is 1 but for a few ulps and 1 − p loses its digits.

    There the rounding of a few margins decides about the errors of both forms: the median of several inputs,
    of which gradients may be twice as far from float64 as the plain form's.
    """
    found: list[Tensor] = []
    for seed in range(5):
        layer = layer_of(causal, relative_bias="local", truncation=256)
        x = numbers(1, 700, DIM, seed=seed)
        nn.init.constant_(layer.configurator.temp, torch.tensor(scale).log().item())
        activate(layer, x, None, 0.4)
        compare(layer, x, check=lambda *form: found.append(excess_of_errors(*form)))
    excess = torch.stack(found).median(dim=0).values
    assert (excess <= 2 / 3).all(), excess


def test_activation_rate_and_hooks_are_the_plain_ones() -> None:
    layer, x = layer_of(), numbers(2, 40, DIM)
    activate(layer, x, None, 0.3)
    seen: list[Tensor] = []
    layer.configurator.register_forward_hook(lambda module, args, routing: seen.append(routing.active))
    layer(x)
    expected = layer.configurator.activation_rate()
    seqboat_layer(layer, x)
    assert layer.configurator.activation_rate() == expected
    assert torch.equal(*seen)


def test_the_graph_is_freed_by_the_backward_pass_and_not_before() -> None:
    layer, x = layer_of(), numbers(1, 30, DIM).requires_grad_()
    activate(layer, x, None, 0.5)
    y = seqboat_layer(layer, x).sum()
    first = torch.autograd.grad(y, x, retain_graph=True)[0]
    assert torch.equal(torch.autograd.grad(y, x)[0], first)
    with pytest.raises(RuntimeError, match="second time"):
        torch.autograd.grad(y, x)


@pytest.mark.usefixtures("cpu_kernels")
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("prenorm", [False, True])
@pytest.mark.parametrize(("batch", "length", "rate"), [(2, 60, 0.5), (2, 60, 1.0), (1, 1, 1.0)])
def test_gradients_under_dropout_are_those_of_the_same_mask(
    causal: bool, prenorm: bool, batch: int, length: int, rate: float
) -> None:
    """The pass is a function of x and the random state: its derivative along a direction, by differences."""
    layer = layer_of(causal, prenorm=prenorm, relative_bias="local", dropout=0.3, hidden_dropout=0.2)
    x, along, weights = (numbers(batch, length, DIM, seed=seed) for seed in range(3))
    activate(layer, x, None, rate)

    def run(x: Tensor) -> Tensor:
        torch.manual_seed(7)
        return (seqboat_layer(layer, x) * weights).sum()

    leaf = x.clone().requires_grad_()
    (grad,) = torch.autograd.grad(run(leaf), leaf)
    step = 1e-6
    with torch.no_grad():
        slope = (run(x + step * along) - run(x - step * along)) / (2 * step)
    torch.testing.assert_close((grad * along).sum(), slope, rtol=1e-6, atol=1e-6)
    assert distance(run(x).view(1), (seqboat_layer(layer.eval(), x) * weights).sum().view(1)) > 1e-3


@pytest.mark.parametrize("sizes", [{"causal": False}, {"causal": True, "prenorm": True}])
def test_gradients_are_the_same_on_two_threads(sizes: dict[str, bool]) -> None:
    """Of so many steps that each thread has sums of its own."""
    layer = layer_of(**sizes, max_positions=1100, relative_bias="local")
    x, weights = (numbers(1, 1100, DIM, seed=seed) for seed in range(2))
    activate(layer, x, None, 0.8)
    found = []
    for threads in (1, 2):
        torch.set_num_threads(threads)
        leaves = [x.clone().requires_grad_(), *layer.parameters()]
        found.append(torch.autograd.grad((seqboat_layer(layer, leaves[0]) * weights).sum(), leaves))
    for one, two in zip(*found, strict=True):
        torch.testing.assert_close(one, two, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(
    ("causal", "place"), list(itertools.product([False, True], ["average", "values", "branches"]))
)
def test_dropout_in_its_places_has_the_plain_mean_and_spread(causal: bool, place: str) -> None:
    """Of the average, of the values, and of the gated (or where causal of both) branches: sampled outputs of
    both forms agree in mean and in variance."""
    options = {"hidden_dropout": 0.4} if place == "values" else {"dropout": 0.4}
    layer = layer_of(causal, relative_bias="local", always_active=True, prenorm=True, **options)
    if place == "branches":
        nn.init.zeros_(layer.hx_proj.weight)  # no trace of the average's dropout on the linear branch
    rows, samples = numbers(1, 8, DIM).expand(30, -1, -1), 600
    statistics = []
    torch.manual_seed(11)
    with torch.no_grad():
        for run in (layer, lambda x: seqboat_layer(layer, x)):
            drawn = torch.cat([run(rows) for _ in range(samples // len(rows))])
            statistics.append((drawn.mean(dim=0), drawn.std(dim=0)))
    (mean, std), (fused_mean, fused_std) = statistics
    assert std.mean() > 1e-2
    assert ((mean - fused_mean).abs() <= 6.0 * std * (2 / samples) ** 0.5 + 1e-9).all()
    torch.testing.assert_close(fused_std.mean(), std.mean(), rtol=0.1, atol=0)


def test_half_precision_is_computed_in_single() -> None:
    layer = layer_of(relative_bias="local").float()
    x = numbers(1, 50, DIM).to(torch.bfloat16)
    activate(layer, x.float(), None, 0.5)
    y = seqboat_layer(layer, x)
    assert y.dtype == torch.bfloat16
    torch.testing.assert_close(y, layer(x.float()).to(torch.bfloat16))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.testing.assert_close(seqboat_layer(layer, x.float()), layer(x.float()), rtol=0.1, atol=0.1)


@pytest.mark.usefixtures("cpu_kernels")
@pytest.mark.parametrize("rate", [0.5, 1.0])
@pytest.mark.parametrize("steps", [1, 60, 70])
@pytest.mark.parametrize("options", ATTENTIONS)
def test_tiles_of_one_row_and_of_several(monkeypatch, steps: int, options: dict, rate: float) -> None:
    """Rows of 30 steps: each a block of its own, a tile of its own, two to a tile."""
    monkeypatch.setattr("implementations.kernels.cpu.tiles.STEPS", steps)
    layer, x = layer_of(**options), numbers(5, 30, DIM)
    for padding in (None, padding_of(5, 30)):
        activate(layer, x, padding, rate)
        compare(layer, x, padding)


def test_pairs_of_short_rows_take_no_more_scores_than_their_own(monkeypatch) -> None:
    """Of 64 rows of 64 steps, all active: a square each, in place of a band over all rows."""
    layouts = []
    monkeypatch.setattr(
        "implementations.fused.working_memory.layout_of",
        lambda *sizes: layouts.append(layout_of(*sizes)) or layouts[-1],
    )
    layer, x = layer_of(window=128, relative_bias="local"), numbers(64, 64, DIM)
    activate(layer, x, None, 1.0)
    seqboat_layer(layer, x)
    assert [layout.empty_scores(x, 0.0).numel() for layout in layouts] == [64 * 64 * 64]


@pytest.mark.parametrize("trained", [False, True])
def test_gradients_are_those_of_the_mode_of_the_forward_pass(trained: bool) -> None:
    """A layer in another mode by the time of its backward pass, as after an evaluation between the two."""
    layer = layer_of(relative_bias="local", dropout=0.5, hidden_dropout=0.5)
    x, parameters = numbers(2, 60, DIM), list(layer.parameters())

    def gradients(run: Callable[[SeqBoatLayer, Tensor], Tensor], later: bool) -> tuple[Tensor, ...]:
        torch.manual_seed(3)
        loss = run(layer.train(trained), x).square().sum()
        layer.train(later)
        return torch.autograd.grad(loss, parameters)

    expected = gradients(seqboat_layer, trained)
    torch.testing.assert_close(gradients(seqboat_layer, not trained), expected)
    if not trained:
        torch.testing.assert_close(gradients(SeqBoatLayer.forward, True), expected)


@pytest.mark.parametrize("name", ["dropout", "hidden_dropout"])
@pytest.mark.parametrize("causal", [False, True])
def test_a_dropout_module_s_own_mode_decides(causal: bool, name: str) -> None:
    layer, x = layer_of(causal, relative_bias="local", **{name: 0.5}), numbers(2, 60, DIM)
    layer.get_submodule(name).eval()
    torch.testing.assert_close(seqboat_layer(layer, x), layer(x))
    assert seqboat_layer(layer, x).equal(seqboat_layer(layer, x))
    layer.eval().get_submodule(name).train()
    assert not torch.allclose(seqboat_layer(layer, x), seqboat_layer(layer, x))


@pytest.mark.parametrize("norm", ["layernorm", "batchnorm", "scalenorm", "rmsnorm"])
@pytest.mark.parametrize("prenorm", [False, True])
def test_all_in_half_precision(prenorm: bool, norm: str) -> None:
    """Weights too: computed in float32 from what they are."""
    layer = FusedSeqBoatLayer(SeqBoatConfig(**SIZES, window=12, norm=norm, prenorm=prenorm)).bfloat16()
    wide, x = copy.deepcopy(layer).float(), numbers(2, 50, DIM).bfloat16()
    y = layer(x.requires_grad_())
    assert y.dtype == torch.bfloat16
    torch.testing.assert_close(y, wide(x.float()).bfloat16(), rtol=1e-2, atol=1e-2)
    y.square().sum().backward()
    assert all(p.grad.isfinite().all() for p in (x, *layer.parameters()))
