"""Findings about a case's step that need no state of the worker's: an answer from the step alone."""

from typing import TYPE_CHECKING, Any

from bench.errors import UsageError
from bench.records.solo import Activation, MemoryFigure, MetricFigure
from bench.suites.case import Case
from bench.workers.failures import failure_of
from bench.workers.messages import (
    ArithmeticMeasured,
    BusyMeasured,
    Check,
    Checked,
    Counted,
    Decoded,
    EnergyMeasured,
    EvaluateMetric,
    Imported,
    MemoryMeasured,
    MetricEvaluated,
    Predict,
    Predicted,
)

if TYPE_CHECKING:
    from bench.steps.step import Step


def imported(case: Case) -> Imported:
    """Import a case's model. Raises whatever its module raises."""
    from bench.system import own_models
    from implementations import registry

    own_models.load(registry.find(case.implementation))
    return Imported()


def predicted(question: Predict) -> Predicted:
    from bench.steps.prediction import predict

    return Predicted(predict(question.case, question.device))


def remarks(step: "Step") -> list[str]:
    """Lines of a model about itself, and a line on an optimiser of its own."""
    from bench.steps import plugged

    optimizer = plugged.own_optimizer(step.case, step.optimizer)
    own = [] if optimizer is None else [f"steps by an optimiser of its own, {optimizer}"]
    return [*plugged.remarks(step.model), *own]


def activation(step: "Step") -> Activation | None:
    rates = step.activation_rates()
    return Activation(sum(rates) / len(rates), rates) if rates else None


def memory(step: "Step", idle_bytes: int) -> MemoryMeasured:
    """Peak memory of one more step. idle_bytes: of the device before the model was built."""
    from bench.probes.memory import peak_of
    from bench.steps.plugged import computed_by, weights_of

    before = weights_of(step.model)
    figures, growth = peak_of(step, step.device, step.live(), idle_bytes, step.own_bytes)
    if step.case.mode == "graph":
        figures = [_unseen_in_a_graph(figure) for figure in figures]
    return MemoryMeasured(
        figures,
        activation(step),
        computed_by(step.model) or step.cpu_kernels,
        moved=weights_of(step.model) != before,
        growth_bytes=growth,
    )


def _unseen_in_a_graph(figure: MemoryFigure) -> MemoryFigure:
    """The figure without its bytes: torch's allocator counts a graph's tensors as reserved alone."""
    if figure.kind not in ("allocated", "requested"):
        return figure
    return MemoryFigure(kind=figure.kind, bytes=None, unavailable="a graph's tensors are not counted")


def checked(step: "Step", question: Check) -> Checked:
    from bench.correctness.modes import compare_with_eager
    from bench.correctness.reference import compare_with_reference
    from bench.steps import modes
    from bench.system import allocator

    allocator.give_back()
    variant = in_mode = None
    if question.reference:
        with modes.left(step):
            variant = compare_with_reference(step)
    if step.case.mode != "eager" and (variant is None or variant.agrees):
        in_mode = compare_with_eager(step)
    return Checked(variant, in_mode)


def decoded(step: "Step") -> Decoded:
    from bench.steps.decoding import DecodeStep

    assert isinstance(step, DecodeStep), "only cases of the phase decode are asked"
    return Decoded(step.decoding())


def counted(step: "Step") -> Counted:
    from bench.probes.operators import count
    from bench.probes.tensor_bytes import COMPILED, is_compiled

    exact = count(step, step.model, step.live)
    return Counted(None, unavailable=COMPILED) if is_compiled() else Counted(exact)


def energy(step: "Step", nvml: Any) -> EnergyMeasured:
    """nvml: the device's own, as of `bench.probes.nvml.open_device`; None on a CPU."""
    from bench.probes.energy import energy_of
    from bench.probes.nvml import energy_millijoules

    return EnergyMeasured(energy_of(lambda n: step.timed(n).seconds, lambda: energy_millijoules(nvml)))


def measured(step: "Step", question: EvaluateMetric) -> MetricEvaluated:
    """Evaluate a metric; an exception costs only the metric's own figure."""
    from bench.suites import metrics

    step()
    try:
        figure = metrics.checked(metrics.load(question.metric)(step))
    except Exception as error:
        plain = isinstance(error, metrics.NoFigure | UsageError)
        reason = str(error) if plain else failure_of(error).reason
        return MetricEvaluated(MetricFigure(metric=question.metric, failure=reason))
    return MetricEvaluated(MetricFigure(metric=question.metric, **figure._asdict()))


def busy(step: "Step") -> BusyMeasured:
    from bench.probes.gpu_busy import busy_of

    return BusyMeasured(busy_of(step, step.device))


def arithmetic(step: "Step") -> ArithmeticMeasured:
    from bench.steps.arithmetic import arithmetic_of

    return ArithmeticMeasured(arithmetic_of(step))
