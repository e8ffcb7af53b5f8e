"""Comparison of a variant with its reference, before it is timed.

The two are compared twice, in the phase and precision that is timed: on a pair of short sequences of unequal
lengths with weights far from initialisation, and on the case's own batch with the weights that are timed.
"""

import contextlib
import math
import time
from collections.abc import Iterator

import msgspec
import torch
from torch import nn

from bench.correctness.agreement import Compared, compare, worst
from bench.correctness.evaluation import Computed, evaluate, no_dropout
from bench.correctness.samples import PAIR_ACTIVATION, Sequences, move, own_sample, pair_sample, settle
from bench.records.solo import Variant
from bench.steps.layers import layers_of, recomputed
from bench.steps.step import HELD_IN, Step, autocast, build_model, hold_in
from bench.suites.case import Case
from implementations import activation, registry


def compare_with_reference(step: Step) -> Variant:
    """Largest relative errors of outputs and gradients against the plain form, at the same weights.

    Dropout is off. A model that has fused kernels of its own is its own reference, with the backend `torch`.
    A model that differs on the pair is not run on its own batch. Afterwards the step's weights are what they
    were. Raises ValueError if there is no reference, or if it has other parameters.
    """
    begin = time.monotonic()
    name = step.case.implementation
    reference = registry.find(name).reference
    if reference is None and step.backend == "torch":
        raise ValueError(f"{name} has no reference to compare with")
    plain = msgspec.structs.replace(step.case, implementation=reference or name, backend="torch")
    sample, found = _compare(Forms(step, plain))
    output, gradient = worst(found.outputs), worst(found.gradients)
    return Variant(
        reference=reference or f"{name} (torch)",
        output_error=finite(found.outputs[output].error),
        worst_output=output,
        gradient_error=finite(found.gradients[gradient].error) if gradient else 0.0,
        worst_gradient=gradient,
        agrees=found.agrees,
        sample=sample.words,
        seconds=time.monotonic() - begin,
    )


class Forms:
    """The step's model and its reference, which gets the model's weights whenever the two are compared."""

    layers_twice = True
    """Whether layers are computed twice in float64, to save memory."""

    def __init__(self, step: Step, plain: Case) -> None:
        self.step = step
        self.plain = plain
        self.reference = build_model(plain, step.task, step.device)

    def compare(self, sample: Sequences, zeros: frozenset[str], exact: Computed | None = None) -> Compared:
        """Compare on a sample. zeros: parameters whose gradient is analytically zero; exact: if known."""
        case = self.step.case
        self.reference.load_state_dict(self.step.model.state_dict())
        theirs = evaluate(self.reference, sample, self.plain)
        ours = evaluate(self.step.model, sample, case)
        return compare(ours, theirs, lambda: exact or self.exact(sample), case.precision, zeros)

    def exact(self, sample: Sequences) -> Computed:
        """The reference in float64 at the model's weights."""
        exactly = msgspec.structs.replace(self.plain, precision="fp64")
        self.reference.double().load_state_dict(self.step.model.state_dict())
        try:
            with recomputed([layer for _, layer in layers_of(self.reference) if self.layers_twice]):
                return evaluate(self.reference, sample.double(), exactly)
        finally:
            hold_in(self.reference, HELD_IN.get(self.plain.precision, torch.float32))


def _compare(forms: Forms) -> tuple[Sequences, Compared]:
    """Compare on the pair; then, if the forms agree, on the case's own batch."""
    step = forms.step
    sample = pair_sample(step)
    with weights_kept(step.model):
        move(step.model)
        if activation.configurators(step.model):
            with no_dropout(step.model), autocast(step.device, step.case.precision):
                rate = step.case.activation or PAIR_ACTIVATION
                activation.calibrate(step.model, sample.inputs, sample.lengths, rate)
        exact = forms.exact(sample) if step.case.phase == "train" else None
        zeros = exact.zeros() if exact else frozenset()
        found = forms.compare(sample, zeros, exact)
    if not found.agrees:
        return sample, found
    sample = own_sample(step)
    with weights_kept(step.model):
        with no_dropout(step.model), autocast(step.device, step.case.precision):
            settle(step.model, sample)
        return sample, forms.compare(sample, zeros)


@contextlib.contextmanager
def weights_kept(model: nn.Module) -> Iterator[None]:
    kept = {name: value.clone() for name, value in model.state_dict().items()}
    try:
        yield
    finally:
        model.load_state_dict(kept)


def finite(error: float) -> float | None:
    # JSON has no infinity.
    return error if math.isfinite(error) else None
