"""Agreement of two forms of a model: the rule, tensor by tensor and row by row.

A tensor agrees if its worst row is within a bound, or not much further from the exact tensor than the
reference's own rounding. Each tensor is measured by itself: a small one is not lost beside larger ones.
"""

import functools
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from bench.correctness.evaluation import LOGITS, Computed
from bench.steps.tolerance import (
    LOOSE,
    LOOSE_GRADIENT_BOUND,
    OUTPUT_BOUND,
    ROUNDING_FACTOR,
    ROUNDING_SHARE,
    ratio,
)
from bench.suites.case import Precision

GRADIENT_FACTOR = 10.0
"""Gradients may differ by this much more than outputs, up to LARGEST_GRADIENT_BOUND."""
LARGEST_GRADIENT_BOUND = 5e-2
"""Half of a gradient may not be missing in any precision: beyond this, float64 tells rounding from faults."""
FLOAT64_BOUND = 1e-2
"""A reference whose logits are further than this, and ten bounds, from its float64 ones computes something
else there, for instance as a configurator chose other time steps: float64 says nothing of rounding."""


class Difference(NamedTuple):
    """Difference of one tensor in two forms."""

    error: float
    """Error of the worst row, relative to the reference's root mean square row."""
    bound: float
    agrees: bool


Differences = Mapping[str, Difference]


@dataclass(frozen=True)
class Compared:
    """Everything that two forms computed on a sample, compared; at least the logits."""

    outputs: Differences
    gradients: Differences

    @property
    def agrees(self) -> bool:
        return all(found.agrees for kind in (self.outputs, self.gradients) for found in kind.values())


def worst(differences: Differences) -> str:
    """Name of the tensor that is furthest beyond its bound, or nearest to it; empty if there is none."""

    def urgency(name: str) -> tuple[bool, float]:
        found = differences[name]
        return not found.agrees, found.error / found.bound

    return max(differences, key=urgency, default="")


def compare(
    ours: Computed,
    theirs: Computed,
    exact: Callable[[], Computed],
    precision: Precision,
    zeros: frozenset[str] = frozenset(),
) -> Compared:
    """Compare what a form computed with what its reference computed.

    exact: what the reference computes in float64; called only if a tensor is beyond its bound.
    zeros: parameters whose gradient is analytically zero: the reference's is rounding, and so must ours be.
    One that is more than rounding here was zero on another sample only, and is compared as all others are.
    """
    bound = OUTPUT_BOUND[precision]
    furthest = max(ROUNDING_FACTOR * bound, FLOAT64_BOUND)
    exact = functools.cache(exact)

    @functools.cache
    def float64_tells() -> bool:
        return row_error(theirs.outputs[LOGITS], exact().outputs[LOGITS]) <= furthest

    def differ(a: Tensor, b: Tensor, bound: float, exactly: Callable[[], Tensor]) -> Difference:
        error = row_error(a, b)
        agrees = error <= bound or (a.shape == b.shape and float64_tells() and only_rounds(a, b, exactly()))
        return Difference(error, bound, agrees)

    def output(name: str) -> Difference:
        return differ(ours.outputs[name], theirs.outputs[name], bound, lambda: exact().outputs[name])

    def gradient(name: str) -> Difference:
        a, b = ours.gradients[name], theirs.gradients[name]
        if name in zeros and _norm(b) <= ROUNDING_FACTOR * least:
            allowed = ROUNDING_FACTOR * max(_norm(b), least)
            return Difference(ratio(_norm(a), allowed), 1.0, _norm(a) <= allowed)
        return differ(a, b, gradient_bound(name, bound, b.numel()), lambda: exact().gradients[name])

    least = ROUNDING_SHARE * theirs.whole_gradient()
    return Compared(
        outputs={name: output(name) for name in theirs.outputs if name in ours.outputs},
        gradients={name: gradient(name) for name in theirs.gradients if name in ours.gradients},
    )


def gradient_bound(name: str, output_bound: float, numbers: int = 2) -> float:
    """The largest relative error of a gradient, by the parameter's name and how many numbers it has.

    Rounding of a single number is one draw, which says nothing about the next one: it has no largest bound.
    """
    bound = output_bound * GRADIENT_FACTOR
    if numbers > 1:
        bound = max(output_bound, min(bound, LARGEST_GRADIENT_BOUND))
    return max(LOOSE_GRADIENT_BOUND, bound) if LOOSE.search(name) else bound


def row_error(ours: Tensor, reference: Tensor) -> float:
    """The largest distance of two rows `(rows, features)`, over the reference's root mean square row.

    Infinity for a NaN, another shape, or a difference from nothing.
    """
    if ours.shape != reference.shape:
        return math.inf
    return ratio(_furthest(ours, reference), _norm(reference) / math.sqrt(max(1, len(reference))))


def only_rounds(ours: Tensor, reference: Tensor, exact: Tensor) -> bool:
    """Whether ours is not much further from the exact tensor than the reference is by its own rounding.

    A reference that overflows, or is not a number, says nothing about rounding.
    """
    allowed = ROUNDING_FACTOR * _furthest(reference, exact)
    return math.isfinite(allowed) and _furthest(ours, exact) <= allowed


def _furthest(a: Tensor, b: Tensor) -> float:
    """Distance of the two rows that are furthest apart; NaN if any is."""
    return float((a.double() - b.double()).norm(dim=1).max()) if a.numel() else 0.0


def _norm(x: Tensor) -> float:
    return float(torch.linalg.vector_norm(x, dtype=torch.float64))
