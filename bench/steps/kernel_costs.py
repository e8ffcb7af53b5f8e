"""Costs of a CUDA step from shapes alone, kernel by kernel: bytes, FLOPs by unit, and launches.

Operators are those that the step dispatches, counted by `bench.probes.operators`. Triton's kernels give
their own account (`implementations.kernels.triton.work`). Nothing is computed, and no GPU is needed.
"""

from collections.abc import Iterable
from typing import Any, NamedTuple
from unittest import mock

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from bench.probes.operators import bytes_of, flops_of, is_product
from bench.probes.tensor_bytes import TensorBytes
from bench.steps.prediction import on_shapes
from bench.suites.case import Case
from implementations.kernels.cpu.dropout import GapDropout
from implementations.kernels.triton.work import Work, counted

IN_FLOAT32 = {
    *("softmax", "log_softmax", "layer_norm", "cross_entropy", "nll_loss", "norm", "softplus"),
    *("exp", "expm1", "log", "log1p", "pow", "rsqrt", "reciprocal", "sum", "prod", "cumsum", "cumprod"),
}
"""Functions that autocast computes in float32 on CUDA, and not all of them on a CPU."""
HALVES = (torch.bfloat16, torch.float16)


class Kernel(NamedTuple):
    """One launch."""

    name: str
    bytes: int
    products: int
    """FLOPs of matrix products, as many as the units compute."""
    other: int
    """FLOPs on plain units."""
    half: bool = False
    """Whether the products are of bfloat16 or float16."""
    triton: bool = False
    tf32: int = 0
    """FLOPs of products in TF32, whatever the step's others are in."""


class StepCosts(NamedTuple):
    """Every launch of a step, and the most bytes of tensors that are live at once."""

    kernels: list[Kernel]
    peak: int

    @property
    def bytes(self) -> int:
        return sum(kernel.bytes for kernel in self.kernels)

    @property
    def products(self) -> int:
        return sum(kernel.products + kernel.tf32 for kernel in self.kernels)

    @property
    def other(self) -> int:
        return sum(kernel.other for kernel in self.kernels)

    @property
    def triton_launches(self) -> int:
        return sum(kernel.triton for kernel in self.kernels)


def costs_of(case: Case) -> StepCosts:
    """Costs of a case's step on a CUDA device, by whose rules dropout and autocast go."""
    watched = KernelCosts()

    def launched(name: str, work: Work) -> None:
        half = work.moves[0].dtype in HALVES
        costs = (work.bytes, work.products + work.repeated, work.other)
        watched.kernels.append(Kernel(name, *costs, half, triton=True, tf32=3 * work.tf32))

    plain_dropout = mock.patch.object(GapDropout, "forward", nn.Dropout.forward)
    with counted(launched), on_shapes(case) as step, plain_dropout, _AsOnCuda():
        # The first step makes the optimiser's state.
        step()
        watched.begin(step.live())
        with watched:
            step()
    return StepCosts(watched.kernels, watched.peak)


class KernelCosts(TensorBytes):  # type: ignore[no-untyped-call]
    """Within this context, a list of the operators that launch something, one kernel each."""

    def __init__(self) -> None:
        super().__init__()
        self.kernels: list[Kernel] = []

    def begin(self, live: Iterable[Tensor]) -> None:
        """Forget what was counted; these tensors are there."""
        self.kernels.clear()
        self._live = live

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = super().__torch_dispatch__(func, types, args, kwargs)
        if result is NotImplemented:
            return result
        moved = bytes_of(func, args, result)
        if moved and func.namespace not in ("prim", "prims"):
            flops, product = flops_of(func, args, kwargs or {}, result), is_product(func)
            half = isinstance(result, Tensor) and result.dtype in HALVES
            split = (flops, 0) if product else (0, flops)
            self.kernels.append(Kernel(func._overloadpacket.__name__, moved, *split, half))
        return result


class _AsOnCuda(TorchFunctionMode):
    """Within this context the CPU takes the operators that CUDA takes: dropout in one kernel, with a mask of
    booleans, and by autocast more functions in float32."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func is F.dropout:
            return _dropout(*args, **kwargs)
        if getattr(func, "__name__", "") in IN_FLOAT32 and torch.is_autocast_enabled("cpu"):
            args = tuple(_widened(value) for value in args)
        return func(*args, **kwargs)


def _dropout(x: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
    return torch.native_dropout(x, p, True)[0] if training and p else x


def _widened(value: Any) -> Any:
    return value.float() if isinstance(value, Tensor) and value.dtype in HALVES else value
