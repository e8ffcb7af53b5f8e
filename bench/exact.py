"""What a step costs without a clock: figures that are the same on every run of the same code."""

from collections.abc import Callable
from typing import Any

from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from bench.probes.tensor_bytes import TensorBytes
from bench.record import Exact


def count(step: Callable[[], Any], model: nn.Module) -> Exact:
    """Run a step three times: to settle, to watch its memory and operators, and to count its FLOPs."""
    step()
    with TensorBytes() as watched:
        step()
    with FlopCounterMode(display=False) as counter:
        step()
    return Exact(
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        flops=int(counter.get_total_flops()),
        tensor_bytes=watched.peak,
        operators=watched.operators,
    )
