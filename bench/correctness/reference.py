"""Comparison of a variant with its reference, before it is timed.

The two are compared twice, in the phase and precision that is timed: on a pair of short sequences of unequal
lengths with weights far from initialisation, and on the case's own batch with the weights that are timed.
"""

import contextlib
import gc
import itertools
import math
import time
from collections.abc import Iterator

import msgspec
import torch
from torch import nn

from bench.correctness.agreement import Compared, compare, worst
from bench.correctness.evaluation import Computed, evaluate, no_dropout
from bench.correctness.samples import (
    LEAST_ACTIVATION,
    PAIR_ACTIVATION,
    Sequences,
    move,
    own_sample,
    pair_sample,
    settle,
    smaller_samples,
)
from bench.records.solo import Variant
from bench.steps.layers import layers_of, recomputed
from bench.steps.plugged import reference_of
from bench.steps.step import HELD_IN, Step, autocast, build_model, hold_in
from bench.suites.case import Case
from bench.system.out_of_memory import is_out_of_memory
from implementations import activation


def compare_with_reference(step: Step) -> Variant:
    """Largest relative errors of outputs and gradients against the plain form, at the same weights.

    Dropout is off. A model that has fused kernels of its own is its own reference, with the backend `torch`.
    A model that differs on the pair is not run on its own batch. Afterwards the step's weights are what they
    were. Raises ValueError if there is no reference, or if it has other parameters.
    """
    name = step.case.implementation
    reference = reference_of(step.case)
    if reference is None and step.backend == "torch":
        raise ValueError(f"{name} has no reference to compare with")
    plain = msgspec.structs.replace(step.case, implementation=reference or name, backend="torch")
    return Forms(step, plain).variant(reference or f"{name} (torch)")


class Forms:
    """The step's model and its reference, which gets the model's weights whenever the two are compared."""

    layers_twice = True
    """Whether layers are computed twice in float64, to save memory."""
    whole = True
    """Whether the batch that is timed was compared, as far as the comparison came."""

    def __init__(self, step: Step, plain: Case) -> None:
        self.step = step
        self.plain = plain
        self.reference = build_model(plain, step.task, step.device)

    def variant(self, reference: str) -> Variant:
        """Largest relative errors of outputs and gradients; reference: its name."""
        begin = time.monotonic()
        sample, found = self._compare_twice()
        output, gradient = worst(found.outputs), worst(found.gradients)
        return Variant(
            reference=reference,
            output_error=_finite(found.outputs[output].error),
            worst_output=output,
            gradient_error=_finite(found.gradients[gradient].error) if gradient else 0.0,
            worst_gradient=gradient,
            agrees=found.agrees,
            sample=sample.words,
            whole=self.whole,
            seconds=time.monotonic() - begin,
        )

    def _compare_twice(self) -> tuple[Sequences, Compared]:
        """Compare at weights far from initialisation; then, if the forms agree, at those that are timed."""
        step = self.step
        with _weights_kept(step.model):
            move(step.model)
            sample = self.sample_far_away()
            exact = self.exact(sample) if step.case.phase == "train" else None
            zeros = exact.zeros() if exact else frozenset()
            found = self.compare(sample, zeros, exact)
        if not found.agrees:
            return sample, found
        return self._compare_on_own(zeros)

    def _compare_on_own(self, zeros: frozenset[str]) -> tuple[Sequences, Compared]:
        """Compare at the weights and on the batch that are timed, or on as much of it as there is memory for:
        a variant is of use where its reference does not fit.
        """
        step, wanting = self.step, None
        for sample in itertools.chain([own_sample(step)], smaller_samples(step)):
            try:
                with _weights_kept(step.model):
                    with self.plainly():
                        settle(step.model, sample)
                    return sample, self.compare(sample, zeros)
            except Exception as error:
                if not is_out_of_memory(error):
                    raise wanting or error from None
                wanting = wanting or error.with_traceback(None)
            self.whole = False
            gc.collect()
            if step.device.type == "cuda":
                torch.cuda.empty_cache()
        assert wanting is not None, "there is a first sample"
        raise wanting

    def sample_far_away(self) -> Sequences:
        """The sample for moved weights; sets the activation rate on it."""
        sample = pair_sample(self.step)
        self.set_activation(sample)
        return sample

    def set_activation(self, sample: Sequences) -> None:
        model, rate = self.step.model, self.step.case.activation
        if rate is None or rate < LEAST_ACTIVATION:
            rate = PAIR_ACTIVATION
        if activation.configurators(model):
            with self.plainly():
                activation.calibrate(model, sample.inputs, sample.lengths, rate)

    @contextlib.contextmanager
    def plainly(self) -> Iterator[None]:
        """Within this context the step's model computes in the case's precision and without dropout."""
        step = self.step
        with no_dropout(step.model), autocast(step.device, step.case.precision):
            yield

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
