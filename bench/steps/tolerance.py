"""Tolerances: how far float arithmetic may carry two forms of one function apart."""

import math
import re
from typing import TYPE_CHECKING

from bench.suites.case import Precision

if TYPE_CHECKING:
    from torch import Tensor

OUTPUT_BOUND: dict[Precision, float] = {
    "fp64": 1e-9,
    "fp32": 1e-4,
    "tf32": 2e-2,
    "bf16": 5e-2,
    "bf16-pure": 5e-2,
    "fp16": 2e-2,
}
"""Largest relative error of an output, by the precision that it is computed in."""
LOOSE = re.compile(r"(^|\.)(temp|rel_pos_bias)(\.|$)")
"""Names of parameters whose gradient loses digits in any float32 form, the official one included."""
LOOSE_GRADIENT_BOUND = 1e-2
ROUNDING_FACTOR = 10.0
"""A tensor that differs by more than its bound still agrees if it is at most this many times as far from the
exact one as the reference is by its own rounding."""
ZERO_SHARE = 1e-9
"""A gradient whose norm in float64 is a smaller share of the whole gradient's is analytically zero."""
ROUNDING_SHARE = 2.0**-23
"""Size that float32 rounding gives such a gradient, about, as a share of the whole one."""


def relative_error(ours: "Tensor", reference: "Tensor") -> float:
    """`‖a − b‖ / ‖b‖`: 0 for two zeros; infinity for another shape, a NaN, or if only b is zero."""
    a, b = ours.detach().double(), reference.detach().double()
    if a.shape != b.shape:
        return math.inf
    return ratio((a - b).norm().item(), b.norm().item())


def ratio(distance: float, scale: float) -> float:
    """`distance / scale`: 0 for two zeros; infinity for a NaN or a distance from nothing."""
    if math.isnan(distance) or math.isnan(scale):
        return math.inf
    if scale == 0.0:
        return 0.0 if distance == 0.0 else math.inf
    return distance / scale
