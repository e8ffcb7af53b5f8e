"""Places of points' names in a chart, so that no name covers another name or a point."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from scipy.optimize import isotonic_regression

LINE = 14.0
"""Pixels from one line of names to the next."""
LETTER = 6.0
"""Pixels of a letter, about: the font is that of whoever looks at the chart."""


@dataclass(frozen=True)
class Axis:
    """An axis from `low` to `high` over some pixels, linear or logarithmic."""

    low: float
    high: float
    pixels: float
    log: bool = False

    @classmethod
    def around(cls, values: Sequence[float], pixels: float, padding: float, log: bool = False) -> "Axis":
        """The axis on which some values leave that many pixels free at either end."""
        numbers = [math.log(value) if log else value for value in values]
        least, most = min(numbers), max(numbers)
        # Closer, and places between them could not be told apart; logarithms near 0 would never be close.
        if math.isclose(min(values), max(values)):
            least, most = least - 0.5, most + 0.5
        free = (most - least) * padding / (pixels - 2 * padding)
        low, high = least - free, most + free
        return cls(math.exp(low), math.exp(high), pixels, log) if log else cls(low, high, pixels)

    def pixel(self, value: float) -> float:
        if self.log:
            return self.pixels * math.log(value / self.low) / math.log(self.high / self.low)
        return self.pixels * (value - self.low) / (self.high - self.low)

    def value(self, pixel: float) -> float:
        part = pixel / self.pixels
        if self.log:
            return self.low * math.exp(part * math.log(self.high / self.low))
        return self.low + part * (self.high - self.low)


@dataclass(frozen=True)
class Box:
    """A rectangle in pixels, by its centre."""

    x: float
    y: float
    width: float
    height: float

    def overlap(self, other: "Box") -> float:
        """The area that both cover."""
        return _shared(self.x, self.width, other.x, other.width) * _shared(
            self.y, self.height, other.y, other.height
        )

    def nearest(self, x: float, y: float) -> tuple[float, float]:
        """The place in it that is nearest to another."""
        return (
            min(max(x, self.x - self.width / 2), self.x + self.width / 2),
            min(max(y, self.y - self.height / 2), self.y + self.height / 2),
        )


def _shared(middle: float, length: float, other_middle: float, other_length: float) -> float:
    """Length that two intervals have in common."""
    ends = min(middle + length / 2, other_middle + other_length / 2)
    begins = max(middle - length / 2, other_middle - other_length / 2)
    return max(0.0, ends - begins)


def place(
    points: Sequence[dict[str, Any]],
    x: tuple[str, Axis],
    y: tuple[str, Axis],
    lines: Sequence[Sequence[tuple[float, float]]] = (),
) -> list[dict[str, Any]]:
    """The points with `label_x` and `label_y`, the centre of their `label`, in the units of the axes.

    x, y: the name of the value, and its axis. lines: what else names stay away from, each by its corners in
    the units of the axes. `radius` of a point is in pixels. Names stand beside their points where they can;
    `far` says that one had to go further away and wants a line from its point to `line_x` and `line_y`.
    """
    (across, x_axis), (along, y_axis) = x, y
    centres = [(x_axis.pixel(point[across]), y_axis.pixel(point[along])) for point in points]
    taken = [
        Box(*centre, 2 * p["radius"], 2 * p["radius"]) for centre, p in zip(centres, points, strict=True)
    ]
    for line in lines:
        corners = [(x_axis.pixel(left), y_axis.pixel(up)) for left, up in line]
        taken += [dot for ends in pairwise(corners) for dot in _dots(*ends)]
    frame = Box(x_axis.pixels / 2, y_axis.pixels / 2, x_axis.pixels, y_axis.pixels)
    placed = []
    for centre, point in zip(centres, points, strict=True):
        width = LETTER * len(point["label"])
        boxes = [
            Box(centre[0] + dx, centre[1] + dy, width, LINE) for dx, dy in _offsets(point["radius"], width)
        ]
        costs = [_cost(box, frame, taken) for box in boxes]
        best = boxes[costs.index(min(costs))]
        far = boxes.index(best) >= NEAR
        end = best.nearest(*centre)
        taken += [best, *(_dots(centre, end) if far else [])]
        placed.append(
            {
                **point,
                "label_x": x_axis.value(best.x),
                "label_y": y_axis.value(best.y),
                "line_x": x_axis.value(end[0]),
                "line_y": y_axis.value(end[1]),
                "far": far,
            }
        )
    return placed


def _cost(box: Box, frame: Box, taken: Sequence[Box]) -> float:
    """Share of a name that lies outside the chart, or on something else."""
    outside = box.width * box.height - box.overlap(frame)
    return outside + sum(
        box.overlap(other)
        for other in taken
        # Most are far away, which is quickly seen.
        if 2 * abs(box.x - other.x) < box.width + other.width
        and 2 * abs(box.y - other.y) < box.height + other.height
    )


DOT = 3.0
"""Pixels of the squares that stand for a line."""


def _dots(begin: tuple[float, float], end: tuple[float, float]) -> list[Box]:
    steps = max(1, math.ceil(math.dist(begin, end) / DOT))
    parts = [number / steps for number in range(steps + 1)]
    return [
        Box(begin[0] + part * (end[0] - begin[0]), begin[1] + part * (end[1] - begin[1]), DOT, DOT)
        for part in parts
    ]


def spread(wanted: Sequence[float], room: float, gap: float = LINE) -> list[float]:
    """Places from 0 to `room`, `gap` apart at least, in the order of those wanted and as near to them."""
    order = sorted(range(len(wanted)), key=lambda number: wanted[number])
    shifted = [wanted[place] - rank * gap for rank, place in enumerate(order)]
    fitted = isotonic_regression(shifted).x.tolist() if shifted else []
    most = max(0.0, room - (len(order) - 1) * gap)
    places = {
        place: min(max(float(fit), 0.0), most) + rank * gap
        for rank, (place, fit) in enumerate(zip(order, fitted, strict=True))
    }
    return [places[number] for number in range(len(wanted))]


NEAR = 4
"""Number of the offsets that are beside the point."""


def _offsets(radius: float, width: float) -> Iterator[tuple[float, float]]:
    """Above, below, right and left, then further away."""
    away = radius + LINE / 2 + 2
    aside = radius + width / 2 + 4
    yield from ((0.0, away), (0.0, -away), (aside, 0.0), (-aside, 0.0))
    for lines in range(1, 6):
        for sign in (1, -1):
            for shift in (0.0, width / 2, -width / 2):
                yield shift, sign * (away + lines * LINE)
