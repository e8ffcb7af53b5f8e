"""What a step costs without a clock: figures that are the same on every run of the same code."""

from collections.abc import Callable
from typing import Any

from torch import nn

from bench.probes.operators import Key, OperatorCosts
from bench.records.run import Exact

WHOLE_STEP: Key = ((), "step")


def count(step: Callable[[], Any], model: nn.Module) -> Exact:
    """Run a step twice: to settle, and to watch its operators and their memory."""
    step()
    with OperatorCosts(lambda _: WHOLE_STEP) as costs:
        step()
    return Exact(
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        flops=costs.flops[WHOLE_STEP],
        tensor_bytes=costs.peak,
        operators=costs.operators,
    )
