"""Does a step compute the same in its mode as op by op? Asked before it is timed.

Asked on the case's own batch: with weights far from initialisation, where no path of the model counts for
little, and then with the weights that are timed.
"""

import contextlib
from collections.abc import Iterator

import msgspec
from torch import Tensor

from bench.correctness.agreement import Compared, compare
from bench.correctness.evaluation import LOGITS, Computed, evaluate, no_dropout
from bench.correctness.reference import Forms
from bench.correctness.samples import Sequences, own_sample, settle
from bench.records.solo import Variant
from bench.steps import graphs, modes
from bench.steps.step import Step
from bench.suites.case import Mode

WITH_DROPOUT: tuple[Mode, ...] = ("checkpoint",)
"""Modes that must draw the random numbers that the plain step draws."""


def compare_with_eager(step: Step) -> Variant:
    """Largest relative errors of logits and gradients of a step in its mode against the plain step's.

    The step's weights are afterwards what they were.
    """
    plain = msgspec.structs.replace(step.case, mode="eager")
    return _InMode(step, plain).variant(f"{step.case.implementation} (eager)")


class _InMode(Forms):
    """A step in its mode, and a model of its own weights that computes op by op."""

    layers_twice = False  # What is computed again may be the fault that is looked for.

    def sample_far_away(self) -> Sequences:
        sample = own_sample(self.step)
        self.set_activation(sample)
        with self.plainly():
            settle(self.step.model, sample)
        return sample

    @contextlib.contextmanager
    def plainly(self) -> Iterator[None]:
        """The same, op by op."""
        with modes.left(self.step), super().plainly():
            yield

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
