"""Does a step compute the same in its mode as op by op? Asked before it is timed.

Asked on the case's own batch: with weights far from initialisation, where no path of the model counts for
little, and then with the weights that are timed.
"""

import contextlib
import time
from collections.abc import Iterator

import msgspec
from torch import Tensor

from bench.correctness.agreement import Compared, compare, worst
from bench.correctness.evaluation import LOGITS, Computed, evaluate, no_dropout
from bench.correctness.reference import Forms, finite, weights_kept
from bench.correctness.samples import PAIR_ACTIVATION, Sequences, move, own_sample, settle
from bench.records.solo import Variant
from bench.steps import graphs, modes
from bench.steps.step import Step, autocast
from bench.suites.case import Mode
from implementations import activation

WITH_DROPOUT: tuple[Mode, ...] = ("checkpoint",)
"""Modes that must draw the random numbers that the plain step draws."""


def compare_with_eager(step: Step) -> Variant:
    """Largest relative errors of logits and gradients of a step in its mode against the plain step's.

    The step's weights are afterwards what they were.
    """
    begin = time.monotonic()
    plain = msgspec.structs.replace(step.case, mode="eager")
    sample, found = _compare(_InMode(step, plain))
    output, gradient = worst(found.outputs), worst(found.gradients)
    return Variant(
        reference=f"{step.case.implementation} (eager)",
        output_error=finite(found.outputs[output].error),
        worst_output=output,
        gradient_error=finite(found.gradients[gradient].error) if gradient else 0.0,
        worst_gradient=gradient,
        agrees=found.agrees,
        sample=sample.words,
        seconds=time.monotonic() - begin,
    )


class _InMode(Forms):
    """A step in its mode, and a model of its own weights that computes op by op."""

    layers_twice = False  # What is computed again may be the fault that is looked for.

    def compare(self, sample: Sequences, zeros: frozenset[str], exact: Computed | None = None) -> Compared:
        case = self.step.case
        dropout = case.mode in WITH_DROPOUT
        self.reference.load_state_dict(self.step.model.state_dict())
        if case.mode == "graph":
            theirs, ours = self._replayed()
        else:
            theirs = evaluate(self.reference, sample, self.plain, layers=False, dropout=dropout)
            with modes.compiled_anew() if case.mode == "compile" else contextlib.nullcontext():
                ours = evaluate(self.step.model, sample, case, layers=False, dropout=dropout)
        return compare(ours, theirs, lambda: exact or self.exact(sample), case.precision, zeros)

    def _replayed(self) -> tuple[Computed, Computed]:
        """A step without dropout, op by op and then from a graph of it: the loss, and all gradients."""
        step = self.step
        with modes.left(step), no_dropout(step.model):
            plain = _computed(step, step.run())
            replayed = graphs.captured(step, graphs.graph_for(step.device))
            for parameter in step.model.parameters():
                if parameter.grad is not None:
                    parameter.grad.zero_()
            return plain, _computed(step, replayed())


def _computed(step: Step, loss: Tensor) -> Computed:
    gradients = {
        name: parameter.grad.detach().clone().reshape(1, -1)
        for name, parameter in step.model.named_parameters()
        if parameter.grad is not None
    }
    return Computed({LOGITS: loss.detach().clone().reshape(1, 1)}, gradients)


def _compare(forms: _InMode) -> tuple[Sequences, Compared]:
    step = forms.step
    sample = own_sample(step)
    with weights_kept(step.model):
        move(step.model)
        with _plainly(step):
            if activation.configurators(step.model):
                activation.calibrate(
                    step.model, sample.inputs, sample.lengths, step.case.activation or PAIR_ACTIVATION
                )
            settle(step.model, sample)
        exact = forms.exact(sample) if step.case.phase == "train" else None
        zeros = exact.zeros() if exact else frozenset()
        found = forms.compare(sample, zeros, exact)
    if not found.agrees:
        return sample, found
    with weights_kept(step.model):
        with _plainly(step):
            settle(step.model, sample)
        return sample, forms.compare(sample, zeros)


@contextlib.contextmanager
def _plainly(step: Step) -> Iterator[None]:
    """Within this context the step's model computes op by op, in the case's precision and without dropout."""
    with modes.left(step), no_dropout(step.model), autocast(step.device, step.case.precision):
        yield
