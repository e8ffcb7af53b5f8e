"""Floor of a SeqBoat layer's training step: its FLOPs at the rate of a large matrix product.

What goes through memory, exponentials, dropout and norms are left out, so that no layer takes so little.
"""

import time
from collections.abc import Callable
from typing import NamedTuple

import torch

from implementations.models.seqboat import SeqBoatConfig

PASSES = 3
"""A matrix product forward is one of the same size for each of its two gradients."""


class Flops(NamedTuple):
    """Floating-point operations of a step, by stage."""

    ema: float
    hx_proj: float
    unit: float
    attention: float

    @classmethod
    def of(cls, config: SeqBoatConfig, steps: int, active: float, causal: bool = False) -> "Flops":
        """steps: of all rows, of which so many are active."""
        dim, hidden, z, window = config.dim, config.hidden, config.attention_dim, config.window
        assert window is not None
        directions, keys = (1, window + 1) if causal else (2, 2 * window + 1)
        return cls(
            # As a recurrence: a product and a sum for each state, one of each to read it out.
            ema=PASSES * directions * 4 * config.states * steps * dim,
            hx_proj=PASSES * 2 * steps * dim * (dim + 2),
            unit=PASSES * 2 * active * (dim * (z + 2 * hidden) + hidden * dim),
            attention=PASSES * 2 * active * keys * (z + hidden),
        )


def seconds(run: Callable[[], object], repeats: int = 15) -> float:
    """The least of several runs: what the machine's other work adds is not part of a stage."""
    times = []
    for _ in range(repeats + 1):
        begin = time.perf_counter()
        run()
        times.append(time.perf_counter() - begin)
    return min(times[1:])


def matrix_product_rate() -> float:
    """Floating-point operations a second of a product of two 1024 × 1024 matrices."""
    a, b = torch.randn(1024, 1024), torch.randn(1024, 1024)
    return 2 * 1024**3 / seconds(lambda: a @ b, 50)
