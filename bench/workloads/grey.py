"""Grey pictures as sequences of reals, row by row."""

import math

import numpy as np
import numpy.typing as npt

from bench.errors import UsageError

Reals = npt.NDArray[np.float32]

SHADES = " .:-=+*#%@"


def side_of(name: str, length: int, sides: tuple[int, ...]) -> int:
    """The side of the square picture of that many pixels. Raises UsageError, naming the lengths there are."""
    side = math.isqrt(length)
    if side * side != length or side not in sides:
        known = ", ".join(str(known**2) for known in sides)
        raise UsageError(f"{name} gives square pictures, of lengths {known}, not {length}")
    return side


def as_text(pixels: Reals) -> str:
    """A picture `(length,)` in characters, two a pixel; at most 64 pixels wide."""
    side = math.isqrt(pixels.size)
    picture = pixels.reshape(side, side)
    if side > 64:
        step = side // 64
        picture = picture.reshape(64, step, 64, step).max(axis=(1, 3))
    low, high = float(picture.min()), float(picture.max())
    levels = ((picture - low) / max(high - low, 1e-12) * (len(SHADES) - 1)).round().astype(int)
    return "\n".join("".join(SHADES[level] * 2 for level in row).rstrip() for row in levels)
