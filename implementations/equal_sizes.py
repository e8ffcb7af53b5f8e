"""Equal parameters for every model: the width at which a model has about as many as are wanted.

`params:10M` names them as a mode of the hyper-parameters. Depth stays; the width is searched by counting, and
the other sizes follow it, as in the mode `matched`.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

TOLERANCE = 0.03
"""A model counts as one of that many parameters if it has no more and no less by this share."""
LAYERS = 4
"""Depth of every model, if no setting says otherwise."""
FORM = re.compile(r"params:(\d{1,15}(?:\.\d+)?)([KMBkmb])?")
UNITS = {"": 1, "K": 10**3, "M": 10**6, "B": 10**9}
FACTORS = (1, 3, 5)
"""Widths are one of these times a power of two at first: heads that are not a power of two divide some."""
NARROWEST, WIDEST = 4, 1 << 16
HOPELESS = 1024
"""A model that can't be built up to this width is not tried at wider ones."""

Counted = Callable[[int], int | None]
"""Parameters at a width; None if the model can't have it."""


class NoEqualSize(NotImplementedError):
    """A model that can't have that many parameters; the message names the nearest number, or says why."""


@dataclass(frozen=True)
class Sized:
    """A width, and the parameters that a model has there."""

    width: int
    parameters: int

    def off(self, target: int) -> float:
        """Distance from the target, as a share of it."""
        return abs(self.parameters / target - 1)


def parameters_wanted(mode: str) -> int | None:
    """Parameters in `params:10M`; None for another mode. Raises ValueError for `params:` without a number."""
    if not mode.startswith("params:"):
        return None
    match = FORM.fullmatch(mode)
    if not match or not (wanted := round(float(match[1]) * UNITS[(match[2] or "").upper()])):
        raise ValueError(f"{mode!r}: write the number of parameters as params:10M or params:500000")
    return wanted


def closest(count: Counted, target: int) -> Sized | None:
    """The coarsest width that is within the tolerance, else the nearest that can be had; None if none can.

    count: must not fall with the width. It is asked some ten times.
    """
    best: Sized | None = None
    for factor in FACTORS:
        found = _near(count, target, factor)
        if found and (best is None or found.off(target) < best.off(target)):
            best = found
        if best and best.off(target) <= TOLERANCE:
            break
    return best


def _near(count: Counted, target: int, factor: int) -> Sized | None:
    """Between two neighbours of `factor · 2^n`, halving the gap while there is a width in its middle."""
    low, high = _bracket(count, target, factor)
    best = min((one for one in (low, high) if one), key=lambda one: one.off(target), default=None)
    while low and high and best and best.off(target) > TOLERANCE and high.width - low.width > 1:
        middle = _sized(count, (low.width + high.width) // 2)
        if middle is None:
            break
        best = min(best, middle, key=lambda one: one.off(target))
        low, high = (middle, high) if middle.parameters < target else (low, middle)
    return best


def _bracket(count: Counted, target: int, factor: int) -> tuple[Sized | None, Sized | None]:
    """The widest of the sizes `factor · 2^n` that is below the target, and the next one."""
    low: Sized | None = None
    for width in _doubled(factor):
        sized = _sized(count, width)
        if sized is None:
            if low is not None or width > HOPELESS:
                return low, None
            continue
        if sized.parameters >= target:
            return low, sized
        low = sized
    return low, None


def _doubled(factor: int) -> Iterator[int]:
    width = factor * NARROWEST
    while width <= WIDEST:
        yield width
        width *= 2


def _sized(count: Counted, width: int) -> Sized | None:
    parameters = count(width)
    return None if parameters is None else Sized(width, parameters)
