"""The most arithmetic that this device does: the best of several large matrix products."""

from collections.abc import Callable

import torch

from bench.probes.clock import seconds_of
from bench.records.solo import Ceiling
from bench.suites.case import Precision

SIZES = {"cuda": 8192, "cpu": 1024}
"""Rows and columns of the square factors."""
TRIES = {"cuda": 10, "cpu": 5}
DTYPES: dict[Precision, torch.dtype] = {
    "bf16": torch.bfloat16,
    "bf16-pure": torch.bfloat16,
    "fp16": torch.float16,
    "fp64": torch.float64,
}
"""Types that products of a precision are computed in; float32 if it is not named."""


def product_ceiling(device: torch.device, precision: Precision) -> Ceiling:
    """FLOP/s of the best of several square matrix products, in a precision and with this process's threads.

    Whether CUDA may use TF32 is as the process has it.
    """
    size = SIZES[device.type]
    dtype = DTYPES.get(precision, torch.float32)
    a, b = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
    seconds = best_seconds(lambda: torch.mm(a, b), device)
    return Ceiling(flops_per_second=2 * size**3 / seconds, matrix=f"{size} × {size}, {precision}")


def best_seconds(action: Callable[[], object], device: torch.device) -> float:
    """Seconds of the fastest of several runs, after one that warms up."""
    action()
    return min(seconds_of(action, 1, device) for _ in range(TRIES[device.type]))
