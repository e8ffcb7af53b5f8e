"""Activation rates of models that decide, step by step, what to compute: reading them and setting them.

A *configurator* is any module with

- `act_bias`: a tensor of one element that shifts its decision;
- `margins(*inputs)`: for the inputs of its forward, a tensor `(steps,)` with one number per real step; its
  forward activates the steps whose margin exceeds act_bias, and no padding;
- `activation_rate()`: active steps over real steps in its last forward, a float;
- `activation_rates_by_sample()`: the same for each row of the batch, a list; only needed in training.

SeqBoat's is `implementations.ops.configurator.LatentConfigurator`; another model joins by following this
protocol.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

TOLERANCE = 0.005
"""Distance from the wanted rate that a threshold may have, for the sake of a wider gap around it."""


def configurators(model: nn.Module) -> list[Any]:
    """The model's configurators, in the order of its modules."""
    return [module for module in model.modules() if _is_configurator(module)]


def activation_rates(model: nn.Module) -> list[float]:
    """Active steps over real steps, by configurator, in the last forward pass; waits for the device.

    A configurator that ran more than once in that pass (two towers) reports its last run.
    Raises RuntimeError before the first forward pass.
    """
    return [configurator.activation_rate() for configurator in configurators(model)]


@contextmanager
def confidences(model: nn.Module) -> Iterator[list[Tensor]]:
    """Within this context, a list that each configurator's forward adds its mean confidence to, a scalar.

    The mean is over real steps; a gradient flows through it if the configurator's result has one.
    """
    found: list[Tensor] = []

    def hook(module: nn.Module, args: tuple[Any, ...], routing: Any) -> None:
        padding = args[1] if len(args) > 1 else None
        found.append((routing.confidence if padding is None else routing.confidence[~padding]).mean())

    hooks = [configurator.register_forward_hook(hook) for configurator in configurators(model)]
    try:
        yield found
    finally:
        for handle in hooks:
            handle.remove()


def calibrate(model: nn.Module, inputs: Tensor, lengths: Tensor | None, rate: float) -> list[float]:
    """Set every act_bias so that a share `rate` of the batch's real steps is active. Returns the rates.

    One forward pass `model(inputs, lengths)` sets the configurators as it comes to them, so that each sees
    the states that the thresholds before it make. Each threshold is put in the widest gap between two steps
    within half a percentage point of the rate, since one flipped step shifts all that follow it in the
    working memory. Rates 0 and 1 mean none and all. If steps tie, or are fewer than 100, the nearest possible
    rate is set. If a configurator runs more than once (two towers), its runs are taken together, by
    one more pass for each configurator.

    The model stays in its mode, and should run as it will be measured, autocast included. Dropout moves the
    states, so the rate of a training step scatters around the one set here; the random state is put back,
    and the next forward pass, which draws the same dropout, has it exactly. Gradients and the other
    buffers (BatchNorm's running statistics) are left as they were.
    Raises ValueError if the rate is outside [0, 1], the model has no configurator, or the batch has no
    real step.
    """
    if not 0.0 <= rate <= 1.0:
        raise ValueError(f"activation rate {rate}: it must lie between 0 and 1")
    found = configurators(model)
    if not found:
        raise ValueError(f"{type(model).__name__} has no configurator, so its activation rate cannot be set")

    reached: dict[nn.Module, float] = {}
    runs = dict.fromkeys(found, 0)

    def set_at_once(configurator: nn.Module, margins: Tensor) -> None:
        runs[configurator] += 1
        reached[configurator] = _set(configurator, margins, rate)

    _forward(model, inputs, lengths, set_at_once)
    if max(runs.values()) > 1:
        for configurator in found:
            reached[configurator] = _set(configurator, _margins(model, inputs, lengths, configurator), rate)
    return [reached.get(configurator, float("nan")) for configurator in found]


def threshold(margins: Tensor, rate: float) -> Tensor:
    """A number that about `rate` of the margins `(steps,)` exceed, in a wide gap between two of them."""
    ordered = margins.sort().values
    beyond = ordered[-1:] - ordered[:1] + 1.0
    ordered = torch.cat([ordered[:1] - beyond, ordered, ordered[-1:] + beyond])
    gaps = ordered.diff()
    distance = (torch.linspace(1.0, 0.0, len(gaps), dtype=torch.float64, device=gaps.device) - rate).abs()
    near = (distance <= TOLERANCE) & (gaps > 0)
    near[[0, -1]] = False  # all and none only if they are asked for
    if 0.0 < rate < 1.0 and near.any():
        cut = gaps.masked_fill(~near, 0.0).argmax()
    else:
        cut = distance.masked_fill(gaps <= 0, torch.inf).argmin()
    below, above = ordered[cut], ordered[cut + 1]
    middle = below + (above - below) / 2
    return torch.where(middle < above, middle, below)


def _is_configurator(module: nn.Module) -> bool:
    methods = (getattr(module, name, None) for name in ("margins", "activation_rate"))
    return all(map(callable, methods)) and isinstance(getattr(module, "act_bias", None), Tensor)


def _set(configurator: Any, margins: Tensor, rate: float) -> float:
    """Set the act_bias by these margins. Returns the rate that it gives on them."""
    if margins.numel() == 0:
        raise ValueError("the batch has no real step, so no activation rate can be set on it")
    configurator.act_bias.copy_(threshold(margins, rate))
    return float((margins > configurator.act_bias).double().mean())


def _margins(model: nn.Module, inputs: Tensor, lengths: Tensor | None, wanted: nn.Module) -> Tensor:
    """Margins of one configurator in all its runs of a forward pass."""
    runs: list[Tensor] = []

    def keep(configurator: nn.Module, margins: Tensor) -> None:
        if configurator is wanted:
            runs.append(margins)

    _forward(model, inputs, lengths, keep)
    return torch.cat(runs)


def _forward(model: nn.Module, inputs: Tensor, lengths: Tensor | None, before: Any) -> None:
    """One forward pass that leaves no trace; `before(configurator, margins)` comes before each decision."""

    def hook(module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        before(module, module.margins(*args, **kwargs))

    devices = [inputs.device] if inputs.is_cuda else []
    hooks = [module.register_forward_pre_hook(hook, with_kwargs=True) for module in configurators(model)]
    try:
        with _buffers_kept(model), torch.random.fork_rng(devices), torch.no_grad():
            model(inputs, lengths)
    finally:
        for handle in hooks:
            handle.remove()


@contextmanager
def _buffers_kept(model: nn.Module) -> Iterator[None]:
    """Within this context buffers may change; afterwards all but act_bias are as they were."""
    biases = {id(configurator.act_bias) for configurator in configurators(model)}
    kept = [(buffer, buffer.clone()) for buffer in model.buffers() if id(buffer) not in biases]
    try:
        yield
    finally:
        for buffer, value in kept:
            buffer.copy_(value)
