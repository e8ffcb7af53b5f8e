"""The table's memory figure, as a worker measures it."""

import msgspec
import pytest

from bench.measure.procedure import Procedure
from bench.suites import reading as suites
from bench.workers.forkserver import ForkServer
from bench.workers.messages import (
    Count,
    Counted,
    MeasureMemory,
    MemoryMeasured,
    Predict,
    Predicted,
    Prepared,
    Warm,
    Warmed,
)

from ..made_up import CPU

pytestmark = pytest.mark.usefixtures("plug_ins")

SUITE = suites.load("ci")
PLAN = Procedure(SUITE, msgspec.structs.replace(CPU, threads=1))
CASE = msgspec.structs.replace(SUITE.cases("cpu")[0], activation=None)


@pytest.fixture(scope="module")
def server():
    with ForkServer(PLAN.threads, PLAN.sources) as server:
        yield server


def measured(server, case):
    """Parameters, and the figure with the reason where there is none."""
    with server.start(case) as worker:
        prepared = worker.ask(PLAN.prepare(case), Prepared, 60)
        worker.ask(Warm(1, 1, 1.0), Warmed, 60)
        figures = worker.ask(MeasureMemory(), MemoryMeasured, 60).figures
    return prepared.parameters, next(figure for figure in figures if figure.kind == "tensor_bytes")


@pytest.mark.parametrize(("implementation", "length"), [("transformer", 256), ("fault_models:tiny", 64)])
def test_a_dense_model_takes_what_its_shapes_say(server, implementation, length):
    """Parameters, gradients and Adam's two moments are part of it, though they were there before."""
    case = msgspec.structs.replace(CASE, implementation=implementation, length=length)
    parameters, figure = measured(server, case)
    with server.start(case) as worker:
        predicted = worker.ask(Predict(case, "cpu"), Predicted, 60).prediction
    assert figure.bytes == predicted.tensor_bytes
    assert figure.bytes >= 16 * parameters


@pytest.mark.parametrize(
    ("model", "reason"),
    [("compiled", "the model is compiled"), ("sparse", "sparse or jagged"), ("jagged", "AssertionError")],
)
def test_what_has_no_prediction_says_so(server, model, reason):
    case = msgspec.structs.replace(CASE, implementation=f"fault_models:{model}", length=64)
    with server.start(case) as worker:
        found = worker.ask(Predict(case, "cpu"), Predicted, 60).prediction
    assert (found.tensor_bytes, reason in found.reason) == (None, True)


def test_a_compiled_model_has_no_figure(server):
    case = msgspec.structs.replace(CASE, implementation="fault_models:compiled", length=64)
    _, figure = measured(server, case)
    assert (figure.bytes, figure.unavailable) == (
        None,
        "the model is compiled, and what compiled code keeps is not seen",
    )
    with server.start(case) as worker:
        worker.ask(PLAN.prepare(case), Prepared, 60)
        counted = worker.ask(Count(), Counted, 60)
    assert (counted.exact, counted.unavailable) == (None, figure.unavailable)
