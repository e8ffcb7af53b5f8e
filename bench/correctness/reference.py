"""Does a variant compute what its reference computes? Asked before it is timed, on a batch of its shape."""

import contextlib
import functools
import math
from collections.abc import Iterator

import msgspec
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from bench.records.run import Variant
from bench.steps.step import Step, build_model
from bench.steps.tolerance import LOOSE, LOOSE_GRADIENT_BOUND, OUTPUT_BOUND, relative_error
from bench.suites.case import Case
from implementations import registry

GRADIENT_FACTOR = 10.0
"""Gradients may differ by this much more than outputs."""
ROUNDING_FACTOR = 3.0
"""An output or a gradient that differs by more still agrees where float64 shows that it only rounds: where it
is no more than this many times as far from the exact one as the reference's own is."""
FLOAT64_BOUND = 1e-2
"""A reference whose float32 outputs are further than this from its float64 ones computes otherwise there,
as where a configurator chose other time steps: float64 then says nothing of rounding."""
SMALL = 1e-3
"""A gradient of a smaller share of the whole one is held to that share: it may hold little but rounding."""


def compare_with_reference(step: Step) -> Variant:
    """Relative errors of logits and gradients against the plain form, at the same parameters and batch.

    Dropout is off, and both have the activation thresholds of the model that is timed. A model that has fused
    kernels of its own is its own reference, with the backend `torch`. A model with batch norms is held to its
    reference on two sequences where the case has one. Raises ValueError where there is no reference, or where
    it has other parameters.
    """
    step = _telling(step)
    name = step.case.implementation
    reference_name = registry.find(name).reference
    if reference_name is None and step.backend == "torch":
        raise ValueError(f"{name} has no reference to compare with")
    plain = msgspec.structs.replace(step.case, implementation=reference_name or name, backend="torch")
    reference = build_model(plain, step.task, step.device)
    reference.load_state_dict(step.model.state_dict())
    theirs, their_gradients = _evaluate(reference, step)
    del reference
    ours, our_gradients = _evaluate(step.model, step)
    bound = OUTPUT_BOUND[step.case.precision]
    output_error = relative_error(ours, theirs)
    errors = _gradient_errors(our_gradients, their_gradients)
    outputs_agree = output_error <= bound
    apart = {name for name, error in errors.items() if not error <= _gradient_bound(name, bound)}
    if apart or not outputs_agree:
        exact, exact_gradients = _in_float64(plain, step)
        rounding = relative_error(theirs, exact)
        if rounding <= max(bound, FLOAT64_BOUND):
            outputs_agree |= relative_error(ours, exact) <= ROUNDING_FACTOR * rounding
            apart -= _as_near(our_gradients, their_gradients, exact_gradients)
    worst = max(apart or errors, key=lambda name: errors[name] / _gradient_bound(name, bound))
    return Variant(
        reference=reference_name or f"{name} (torch)",
        output_error=_finite(output_error),
        gradient_error=_finite(errors[worst]),
        worst_gradient=worst,
        agrees=outputs_agree and not apart,
    )


def _in_float64(plain: Case, step: Step) -> tuple[Tensor, dict[str, Tensor]]:
    """Logits and gradients of the reference in float64, at the step's parameters and batch."""
    exact = Step(msgspec.structs.replace(plain, precision="fp64", batch=step.case.batch), str(step.device))
    exact.model.load_state_dict(step.model.state_dict())
    _recompute_layers(exact.model)
    return _evaluate(exact.model, exact)


def _recompute_layers(model: nn.Module) -> None:
    """Let each layer keep its input only, and compute again in the backward pass: float64 needs room."""
    for layers in model.modules():
        if isinstance(layers, nn.ModuleList):
            for layer in layers:
                layer.forward = functools.partial(checkpoint, layer.forward, use_reentrant=False)


def _as_near(ours: dict[str, Tensor], theirs: dict[str, Tensor], exact: dict[str, Tensor]) -> set[str]:
    """Parameters whose gradient is hardly further from the exact one than the reference's own.

    What should be next to nothing holds rounding of all others, and may by luck hold little of it in one of
    the two: it is held to the rounding of the reference's whole gradient.
    """
    off = {name: (ours[name].double() - value).norm().item() for name, value in exact.items()}
    rounding = {name: (theirs[name].double() - value).norm().item() for name, value in exact.items()}
    least = SMALL * math.hypot(*(value.norm().item() for value in exact.values()))
    whole = math.hypot(*rounding.values())
    return {
        name
        for name, value in exact.items()
        if off[name] <= (ROUNDING_FACTOR * rounding[name] if value.norm().item() >= least else whole)
    }


def _telling(step: Step) -> Step:
    """A step whose output depends on what its layers compute.

    A batch norm over one sequence and then a mean over its time leave the norm's bias, whatever was computed:
    outputs of any two models are equal, and gradients are rounding.
    """
    if step.case.batch > 1 or not any(map(_is_batch_norm, step.model.modules())):
        return step
    pair = Step(msgspec.structs.replace(step.case, batch=2), str(step.device))
    pair.model.load_state_dict(step.model.state_dict())
    pair.calibrate()
    return pair


def _is_batch_norm(module: nn.Module) -> bool:
    return isinstance(module, nn.modules.batchnorm._BatchNorm)


def _gradient_errors(ours: dict[str, Tensor], theirs: dict[str, Tensor]) -> dict[str, float]:
    """By parameter, relative to its gradient, or to SMALL of the model's whole one where that is more: a bias
    in front of a batch norm has an analytically zero gradient, and holds rounding of others."""
    whole = math.sqrt(sum(value.double().square().sum().item() for value in theirs.values()))
    least = whole * SMALL

    def error(name: str, reference: Tensor) -> float:
        if reference.double().norm().item() >= least:
            return relative_error(ours[name], reference)
        distance = (ours[name].double() - reference.double()).norm().item() / least
        return math.inf if math.isnan(distance) else distance

    return {name: error(name, value) for name, value in theirs.items()}


def _finite(error: float) -> float | None:
    # JSON has no infinity.
    return error if math.isfinite(error) else None


def _gradient_bound(name: str, bound: float) -> float:
    return (
        max(LOOSE_GRADIENT_BOUND, bound * GRADIENT_FACTOR) if LOOSE.search(name) else bound * GRADIENT_FACTOR
    )


def _evaluate(model: nn.Module, step: Step) -> tuple[Tensor, dict[str, Tensor]]:
    """Logits and gradients by parameter name, without dropout."""
    with _no_dropout(model):
        model.zero_grad(set_to_none=True)
        logits = step.logits(model)
        step.loss_of(logits).backward()  # type: ignore[no-untyped-call]
        gradients = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
        model.zero_grad(set_to_none=True)
    return logits.detach(), gradients


@contextlib.contextmanager
def _no_dropout(model: nn.Module) -> Iterator[None]:
    """Evaluation mode, but for batch norms: those take the batch's statistics, as in training."""
    training = model.training
    model.eval()
    for module in model.modules():
        if _is_batch_norm(module):
            module.train(training)
    try:
        yield
    finally:
        model.train(training)
