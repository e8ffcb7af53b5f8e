import math

import pytest
import torch
from torch import Tensor, nn

from implementations.activation import activation_rates, calibrate, configurators, threshold
from implementations.models.seqboat import build
from implementations.task import Task

TINY = {"layers": 3, "dim": 16, "hidden": 24, "attention_dim": 8, "states": 2, "window": 8}
TASK = Task("text", length=300, classes=2, vocabulary=60)


def tiny(**changes: object) -> nn.Module:
    torch.manual_seed(0)
    return build(TASK, {**TINY, **changes})


def batch(seed: int = 0, lengths: tuple[int, ...] = (300, 211)) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    tokens = torch.randint(1, 60, (len(lengths), max(lengths)), generator=generator)
    true = torch.tensor(lengths)
    tokens[torch.arange(max(lengths)) >= true[:, None]] = 0
    return tokens, true


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("window", [8, None])
def test_every_layer_reaches_the_rate(dtype: torch.dtype, window: int | None) -> None:
    model = tiny(window=window, relative_bias="rotary").to(dtype)
    for seed, rate in enumerate((0.05, 0.1, 0.3, 0.5, 0.7, 0.95)):
        inputs, lengths = batch(seed)
        for given in (lengths, None):
            reached = calibrate(model, inputs, given, rate)
            assert reached == pytest.approx([rate] * 3, abs=0.01)
            model(inputs, given)
            assert activation_rates(model) == pytest.approx(reached)


def test_rates_0_and_1_are_none_and_all() -> None:
    model = tiny()
    inputs, lengths = batch()
    for rate in (0.0, 1.0):
        assert calibrate(model, inputs, lengths, rate) == [rate] * 3
        model(inputs, lengths)
        assert activation_rates(model) == [rate] * 3
    assert all(map(math.isfinite, (c.act_bias.item() for c in configurators(model))))


def test_one_forward_pass_is_enough() -> None:
    model = tiny()
    passes = 0

    def count(*_: object) -> None:
        nonlocal passes
        passes += 1

    model.register_forward_hook(count)
    calibrate(model, *batch(), 0.4)
    assert passes == 1


def test_dropout_and_batch_norm_in_training() -> None:
    model = tiny(dropout=0.3, norm="batchnorm").train()
    inputs, lengths = batch()
    model(inputs, lengths).sum().backward()
    gradients = [p.grad.clone() for p in model.parameters() if p.grad is not None]
    buffers = {name: b.clone() for name, b in model.named_buffers() if "act_bias" not in name}
    random = torch.get_rng_state()

    reached = calibrate(model, inputs, lengths, 0.3)
    assert reached == pytest.approx([0.3] * 3, abs=0.01)
    assert model.training
    assert torch.equal(torch.get_rng_state(), random)
    assert all(torch.equal(b, buffers[n]) for n, b in model.named_buffers() if n in buffers)
    kept = [p.grad for p in model.parameters() if p.grad is not None]
    assert all(torch.equal(a, b) for a, b in zip(kept, gradients, strict=True))
    assert not any(c._forward_pre_hooks for c in configurators(model))

    model(inputs, lengths)  # the same dropout as the calibration's
    assert activation_rates(model) == pytest.approx(reached)


def test_two_towers_are_taken_together() -> None:
    torch.manual_seed(0)
    model = build(Task("retrieval", 120, 2, head="two-tower", vocabulary=60), TINY)
    inputs = torch.stack([batch(1, (120, 90))[0], batch(2, (120, 60))[0]], dim=1)
    lengths = torch.tensor([[120, 120], [90, 60]])
    counts = {c: [] for c in configurators(model)}
    reached = calibrate(model, inputs, lengths, 0.4)
    assert reached == pytest.approx([0.4] * 3, abs=0.01)
    for configurator, runs in counts.items():
        configurator.register_forward_hook(lambda m, i, routing, runs=runs: runs.append(routing.active.sum()))
    model(inputs, lengths)
    rates = [float(sum(runs)) / int(lengths.sum()) for runs in counts.values()]
    assert rates == pytest.approx(reached)


class Skipper(nn.Module):
    """Someone's own configurator: it skips the steps that are small."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("act_bias", torch.zeros(1))

    def margins(self, x: Tensor) -> Tensor:
        return x.abs().mean(-1).flatten()

    def forward(self, x: Tensor) -> Tensor:
        active = x.abs().mean(-1, keepdim=True) > self.act_bias
        self.rate = float(active.float().mean())
        return x * active

    def activation_rate(self) -> float:
        return self.rate


def test_a_model_of_another_kind_joins_by_the_protocol() -> None:
    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.skippers = nn.Sequential(Skipper(), nn.Linear(4, 4), Skipper())

        def forward(self, inputs: Tensor, lengths: Tensor | None) -> Tensor:
            return self.skippers(inputs)

    torch.manual_seed(0)
    model, inputs = Model(), torch.randn(2, 400, 4)
    reached = calibrate(model, inputs, None, 0.25)
    model(inputs, None)
    assert activation_rates(model) == pytest.approx(reached)
    assert reached == pytest.approx([0.25] * 2, abs=0.01)


def test_the_threshold_lies_in_the_widest_gap_near_the_quantile() -> None:
    margins = torch.arange(1000.0)
    margins[703:] += 5.0  # a gap two steps beyond the quantile
    margins[720:] += 50.0  # a wider one, too far away
    permuted = margins[torch.randperm(1000)]
    assert threshold(permuted, 0.3).item() == pytest.approx((702 + 708) / 2)


def test_ties_and_short_batches_reach_the_nearest_rate() -> None:
    ties = torch.tensor([0.0] * 6 + [1.0] * 4)
    assert (ties > threshold(ties, 0.55)).float().mean().item() == pytest.approx(0.4)
    assert not (torch.zeros(5) > threshold(torch.zeros(5), 0.3)).any()
    few = torch.tensor([3.0, 1.0, 2.0])
    assert (few > threshold(few, 0.6)).sum() == 2
    neighbours = torch.tensor([1.0, torch.nextafter(torch.tensor(1.0), torch.tensor(2.0))])
    assert (neighbours > threshold(neighbours, 0.5)).sum() == 1


def test_refusals_are_one_clear_line() -> None:
    model = tiny()
    inputs, lengths = batch()
    for rate in (-0.1, 1.5, float("nan")):
        with pytest.raises(ValueError, match="between 0 and 1"):
            calibrate(model, inputs, lengths, rate)
    with pytest.raises(ValueError, match="Linear has no configurator"):
        calibrate(nn.Linear(2, 2), inputs, lengths, 0.5)
    with pytest.raises(ValueError, match="has no configurator"):
        calibrate(tiny(always_active=True), inputs, lengths, 0.5)
    with pytest.raises(ValueError, match="no real step"):
        calibrate(model, inputs, torch.zeros_like(lengths), 0.5)
