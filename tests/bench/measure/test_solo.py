"""The solo pass: what it makes of a comparison with the reference that does not end well."""

import contextlib
from unittest.mock import Mock

import msgspec
import pytest

from bench.measure import solo as module
from bench.measure.display import describe
from bench.measure.procedure import Procedure
from bench.measure.solo import measure_exact, measure_solo
from bench.records.solo import Compilation, Decoding, Variant
from bench.suites.case import Case
from bench.suites.suite import Suite, Timing
from bench.workers.handle import WorkerFailed
from bench.workers.messages import (
    Check,
    Checked,
    Count,
    Counted,
    Decode,
    Decoded,
    MeasureMemory,
    MemoryMeasured,
    Prepare,
    Prepared,
    Warm,
    Warmed,
)

from ..made_up import CPU

DEADLINE = 7.0
AGREES = Variant(
    reference="seqboat", output_error=1e-6, gradient_error=1e-5, worst_gradient="weight", agrees=True
)
PREPARED = Prepared(parameters=1, tokens=256, real_tokens=256, backend="cpu")


class Scripted:
    """A worker, and where workers come from: gives the answers that it was told to."""

    def __init__(self, check: Checked | WorkerFailed) -> None:
        self.answers = {
            Prepare: PREPARED,
            Warm: Warmed(step_seconds=[0.1] * 3, stationary=True),
            MeasureMemory: MemoryMeasured(figures=[], activation=None),
            Check: check,
        }
        self.deadlines = {}
        self.printed = None

    def start(self, case):
        return contextlib.nullcontext(self)

    def ask(self, question, expected, deadline_seconds):
        self.deadlines[type(question)] = deadline_seconds
        answer = self.answers[type(question)]
        if isinstance(answer, WorkerFailed):
            raise answer
        return answer


@pytest.fixture
def plan():
    suite = Suite(
        name="made-up",
        description="one variant",
        workload="text",
        lengths=(256,),
        implementations=("seqboat-fused",),
        baseline="seqboat-fused",
        timing=Timing(deadline=f"{DEADLINE}s"),
    )
    return Procedure(suite, CPU)


def only_case(plan: Procedure) -> Case:
    (case,) = plan.suite.cases("cpu")
    return case


def test_a_comparison_has_time_for_the_reference_too(plan):
    worker = Scripted(Checked(AGREES))
    solo = measure_solo(only_case(plan), plan, worker)
    assert (solo.status, solo.variant) == ("ok", AGREES)
    assert worker.deadlines[MeasureMemory] <= DEADLINE < worker.deadlines[Check]


def test_compiling_is_not_of_the_deadline(plan):
    worker = Scripted(Checked(AGREES))
    compiled = Compilation(first_step_seconds=3 * DEADLINE, graph_breaks=0)
    worker.answers[Warm] = Warmed(step_seconds=[0.1] * 3, stationary=True, compiled=compiled)
    compiling = msgspec.structs.replace(only_case(plan), mode="compile")
    assert measure_solo(compiling, plan, worker).status == "ok"
    assert worker.deadlines[Warm] > 3 * DEADLINE
    assert worker.deadlines[MeasureMemory] > 2 * DEADLINE
    measure_solo(only_case(plan), plan, worker := Scripted(Checked(AGREES)))
    assert worker.deadlines[Warm] <= DEADLINE


@pytest.mark.parametrize("status", ["oom", "timeout", "crashed"])
def test_a_comparison_that_fails_says_that_it_was_one(plan, status):
    solo = measure_solo(only_case(plan), plan, Scripted(WorkerFailed(status, "no more")))
    assert (solo.status, solo.reason) == (status, "when it was compared with its reference: no more")


@pytest.mark.parametrize("phase", ["train", "forward"])
def test_a_variant_that_differs_is_wrong_in_every_phase(plan, phase):
    differs = Variant(
        reference="seqboat",
        output_error=0.3,
        worst_output="logits",
        gradient_error=0.0,
        worst_gradient="",
        agrees=False,
        sample="on its own batch",
    )
    case = msgspec.structs.replace(only_case(plan), phase=phase)
    solo = measure_solo(case, plan, Scripted(Checked(differs)))
    assert (solo.status, solo.variant) == ("wrong", differs)
    assert solo.reason == (
        "computes something else than seqboat: on its own batch, outputs differ by 3.0e-01 (logits)"
    )


def test_a_model_whose_costs_cannot_be_counted_runs_all_the_same(plan):
    worker = Scripted(Checked(None))
    worker.answers[Count] = Counted(None, "it is compiled")
    found = measure_exact(plan.suite.cases("cpu")[0], plan, worker)
    assert (found.status, found.exact, found.reason) == ("ok", None, "no exact costs: it is compiled")
    assert describe(found) == found.reason


def test_a_long_comparison_takes_no_time_from_decoding(plan, monkeypatch):
    """A comparison has deadlines of its own; what comes after it has what was left before."""
    clock = [0.0]

    class Slow(Scripted):
        def ask(self, question, expected, deadline_seconds):
            clock[0] += 3 * DEADLINE if isinstance(question, Check) else 0.0
            return super().ask(question, expected, deadline_seconds)

    monkeypatch.setattr(module, "time", Mock(monotonic=lambda: clock[0]))
    worker = Slow(Checked(AGREES))
    worker.answers[Decode] = Decoded(
        Decoding(tokens=32, state_bytes=1, prefill_seconds=1.0, parallel_error=0.0, agrees=True)
    )
    solo = measure_solo(msgspec.structs.replace(only_case(plan), phase="decode"), plan, worker)
    assert (solo.status, worker.deadlines[Decode]) == ("ok", DEADLINE)
