"""Outputs and gradients of a form of a model on a sample, in rows that can be compared."""

import contextlib
import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from bench.correctness.samples import Sequences, is_batch_norm
from bench.steps.layers import layers_of
from bench.steps.step import autocast
from bench.steps.tolerance import ZERO_SHARE
from bench.suites.case import Case
from implementations.encoder import padding_mask_of

LOGITS = "logits"


@dataclass(frozen=True)
class Computed:
    """Tensors by name, each `(rows, features)`.

    Outputs: logits and each layer's output, one row per real position. Gradients: of each layer's output, one
    row per real position, and of parameters, one row each; none if nothing is differentiated.
    """

    outputs: dict[str, Tensor] = field(default_factory=dict)
    gradients: dict[str, Tensor] = field(default_factory=dict)

    def whole_gradient(self) -> float:
        """Norm of the gradients of all parameters together."""
        return math.hypot(*self._parameter_norms().values())

    def zeros(self) -> frozenset[str]:
        """Parameters whose gradient is analytically zero, if this was computed in float64."""
        least = ZERO_SHARE * self.whole_gradient()
        return frozenset(name for name, norm in self._parameter_norms().items() if norm <= least)

    def _parameter_norms(self) -> dict[str, float]:
        gradients = self.gradients.items()
        return {name: value.double().norm().item() for name, value in gradients if name not in self.outputs}


def evaluate(
    model: nn.Module, sample: Sequences, case: Case, *, layers: bool = True, dropout: bool = False
) -> Computed:
    """Run a model in the phase and precision of a case.

    A layer is a member of a `ModuleList`; its output is compared if it is `(batch, length, dim)`.
    layers: whether they are watched. dropout: whether there is any, as the case has it; then from a random
    state that is the same in every call.
    """
    found = Computed()
    training = case.phase == "train"
    with (
        _seeded() if dropout else no_dropout(model),
        _gathering(model, found) if layers else contextlib.nullcontext(),
        torch.set_grad_enabled(training),
    ):
        model.zero_grad(set_to_none=True)
        with autocast(sample.inputs.device, case.precision):
            logits = _logits(model, sample)
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
        if training:
            sample.loss(logits).backward()  # type: ignore[no-untyped-call]
            for name, parameter in model.named_parameters():
                gradient = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
                found.gradients[name] = _as_real(gradient).reshape(1, -1)
            model.zero_grad(set_to_none=True)
    real = None
    if logits.dim() == 3 and sample.lengths is not None:
        real = ~_mask(sample.lengths, logits.shape[1])
    found.outputs[LOGITS] = _rows(logits.detach(), real)
    return found


def _logits(model: nn.Module, sample: Sequences) -> Tensor:
    if sample.context is None:
        logits: Tensor = model(sample.inputs, sample.lengths)
        return logits
    prompt, rest = sample.inputs[:, : sample.context], sample.inputs[:, sample.context :]
    first, generation = model.prefill(prompt, sample.inputs.shape[1])  # type: ignore[operator]
    steps = [model.step(tokens, generation) for tokens in rest.unbind(dim=1)]  # type: ignore[operator]
    return torch.cat([first, torch.stack(steps, dim=1)], dim=1)


@contextlib.contextmanager
def _gathering(model: nn.Module, found: Computed) -> Iterator[None]:
    """Within this context, keep each layer's output and its gradient; a layer that runs twice has two."""
    runs: Counter[str] = Counter()

    def listen(name: str, layer: nn.Module) -> Any:
        def hook(layer: nn.Module, args: tuple[Any, ...], states: Any) -> None:
            if not isinstance(states, Tensor) or states.dim() != 3:
                return
            runs[name] += 1
            key = f"the states after {name}" + (f", run {runs[name]}" if runs[name] > 1 else "")
            real = _real_positions(args, states)
            found.outputs[key] = _rows(states.detach(), real)

            def keep(gradient: Tensor) -> None:
                found.gradients[key] = _rows(gradient, real)

            if states.requires_grad:
                states.register_hook(keep)  # type: ignore[no-untyped-call]

        return layer.register_forward_hook(hook)

    hooks = [listen(name, layer) for name, layer in layers_of(model)]
    try:
        yield
    finally:
        for handle in hooks:
            handle.remove()


def _real_positions(args: tuple[Any, ...], states: Tensor) -> Tensor | None:
    """`(batch, length)`, from the padding mask that a layer was given; None if every position is real."""
    for mask in args:
        if isinstance(mask, Tensor) and mask.dtype is torch.bool and mask.shape == states.shape[:2]:
            return ~mask
    return None


def _rows(x: Tensor, real: Tensor | None) -> Tensor:
    return x.flatten(0, -2) if real is None else x[real]


def _mask(lengths: Tensor, length: int) -> Tensor:
    mask = padding_mask_of(lengths, length)
    assert mask is not None
    return mask


def _as_real(x: Tensor) -> Tensor:
    return torch.view_as_real(x) if x.is_complex() else x


@contextlib.contextmanager
def _seeded() -> Iterator[None]:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


@contextlib.contextmanager
def no_dropout(model: nn.Module) -> Iterator[None]:
    """Evaluation mode, except for batch norms: those use the batch's statistics, as in training."""
    training = model.training
    model.eval()
    for module in model.modules():
        if is_batch_norm(module):
            module.train(training)
    try:
        yield
    finally:
        model.train(training)
