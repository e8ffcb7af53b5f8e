"""Comparison of a variant with its reference, before it is timed.

The two are compared twice, in the phase and precision that is timed: on a pair of short sequences of unequal
lengths with weights far from initialisation, and on the case's own batch with the weights that are timed.
"""

import contextlib
import math
import time
from collections.abc import Iterator

import msgspec
from torch import nn

from bench.correctness.agreement import Compared, compare, worst
from bench.correctness.evaluation import Computed, evaluate, no_dropout, recomputed_layers
from bench.correctness.samples import PAIR_ACTIVATION, Sequences, move, own_sample, pair_sample, settle
from bench.records.run import Variant
from bench.steps.step import Step, autocast, build_model
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
    sample, found = _compare(_Forms(step, plain))
    output, gradient = worst(found.outputs), worst(found.gradients)
    return Variant(
        reference=reference or f"{name} (torch)",
        output_error=_finite(found.outputs[output].error),
        worst_output=output,
        gradient_error=_finite(found.gradients[gradient].error) if gradient else 0.0,
        worst_gradient=gradient,
        agrees=found.agrees,
        sample=sample.words,
        seconds=time.monotonic() - begin,
    )


class _Forms:
    """The step's model and its reference, which gets the model's weights whenever the two are compared."""

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
        """The reference in float64 at the model's weights; layers are computed twice, to save memory."""
        exactly = msgspec.structs.replace(self.plain, precision="fp64")
        self.reference.double().load_state_dict(self.step.model.state_dict())
        try:
            with recomputed_layers(self.reference):
                return evaluate(self.reference, sample.double(), exactly)
        finally:
            if self.plain.precision != "fp64":
                self.reference.float()


def _compare(forms: _Forms) -> tuple[Sequences, Compared]:
    """Compare on the pair; then, if the forms agree, on the case's own batch."""
    step = forms.step
    sample = pair_sample(step)
    with _weights_kept(step.model):
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
    with _weights_kept(step.model):
        with no_dropout(step.model), autocast(step.device, step.case.precision):
            settle(step.model, sample)
        return sample, forms.compare(sample, zeros)


@contextlib.contextmanager
def _weights_kept(model: nn.Module) -> Iterator[None]:
    kept = {name: value.clone() for name, value in model.state_dict().items()}
    try:
        yield
    finally:
        model.load_state_dict(kept)


def _finite(error: float) -> float | None:
    # JSON has no infinity.
    return error if math.isfinite(error) else None
