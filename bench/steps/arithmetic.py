"""A step's FLOPs, and its device's ceiling measured beside it."""

import contextlib
import sys
from collections.abc import Iterator
from typing import Any
from unittest import mock

from bench.probes.ceiling import product_ceiling
from bench.probes.operators import WHOLE_STEP, OperatorCosts
from bench.records.solo import Arithmetic, Ceiling
from bench.steps import modes
from bench.steps.step import Step
from bench.system.out_of_memory import is_out_of_memory

TRITON = "what a Triton kernel computes is not seen"


def arithmetic_of(step: Step) -> Arithmetic:
    """Count the FLOPs of one plain step of a warm model, then measure the device's ceiling.

    Our Triton kernels tell theirs: products in whole blocks, each once; not arithmetic of single elements.

    Plain whatever the mode: what layers compute again is no more of the model, and watching sees neither
    compiled code nor a graph.
    """
    with (
        modes.left(step),
        _triton_launches() as launches,
        _accounts() as accounts,
        OperatorCosts(lambda _: WHOLE_STEP) as costs,
    ):
        step()
    hidden = len(launches) > len(accounts)
    return Arithmetic(
        flops=None if hidden else costs.flops[WHOLE_STEP] + sum(accounts),
        unavailable=TRITON if hidden else None,
        uncounted=sorted(costs.uncounted),
        ceiling=_ceiling(step),
    )


@contextlib.contextmanager
def _triton_launches() -> Iterator[list[str]]:
    """Within this context, a list that every launch of a Triton kernel adds the kernel's name to."""
    found: list[str] = []
    if "triton" not in sys.modules:
        yield found
        return
    from triton.runtime.jit import KernelInterface

    launcher = KernelInterface.__getitem__

    def seen(kernel: Any, grid: Any) -> Any:
        found.append(str(getattr(kernel, "__name__", kernel)))
        return launcher(kernel, grid)

    with mock.patch.object(KernelInterface, "__getitem__", seen):
        yield found


@contextlib.contextmanager
def _accounts() -> Iterator[list[int]]:
    """Within this context, a list that every launch of one of our Triton kernels adds its FLOPs to."""
    found: list[int] = []
    if "triton" not in sys.modules:
        yield found
        return
    from implementations.kernels.triton.work import counted

    with counted(lambda _, work: found.append(work.flops), run=True):
        yield found


def _ceiling(step: Step) -> Ceiling | None:
    """None if the product finds no room beside the model, which is not the model's fault."""
    try:
        return product_ceiling(step.device, step.case.precision)
    except Exception as error:
        if is_out_of_memory(error):
            return None
        raise
