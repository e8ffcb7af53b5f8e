"""Pathfinder pictures: two long contours of dashes among short ones; two discs lie on tips of contours.

The question is whether the discs mark the two ends of one contour (Houtkamp & Roelfsema 2010; Linsley et al.
2018, arXiv 1805.08315; made a task of the Long Range Arena by Tay et al., arXiv 2011.04006). Both kinds of
picture hold the same dashes, so that only following a contour tells them apart.
"""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

WALKS = 32
"""Contours begun at once; the first that finds room is taken."""
ATTEMPTS = 4
"""Attempts at a contour before the whole picture is begun again."""
PICTURES = 1000
"""Attempts at a picture; hardly ever more than a few are needed."""
TURNS = 4
"""Turns tried for the next dash of a contour."""
NEIGHBOURS = 2
"""Dashes of its own that a contour may come close to."""


@dataclass(frozen=True)
class Geometry:
    """Lengths in pixels, angles in radians, grey values from 0 to 1."""

    side: int
    dashes: int
    """Dashes in each of the two long contours."""
    dash: float
    thickness: float
    distractors: int
    distractor_dashes: int
    contrast: float
    gap: float
    """Gap between the dashes of a contour."""
    clearance: float
    """Distance from dash to dash, unless they are neighbours; contours cannot cross if it is more than
    (dash + gap) / √2."""
    disc: float
    """Radius of the marks."""
    turn: float = 0.35
    """Standard deviation of the turn from a dash to the next."""
    largest_turn: float = 0.7
    antialias: int = 2
    """Samples per pixel, in each direction."""


@dataclass(frozen=True)
class Contour:
    """Dashes one after the other: middles `(dashes, 2)` as x, y, and directions `(dashes,)`."""

    middles: Floats
    angles: Floats

    def ends(self, dash: float) -> Floats:
        """The two outer ends `(2, 2)`."""
        reach = dash / 2 * _unit(self.angles[[0, -1]]) * np.array([[-1.0], [1.0]])
        ends: Floats = self.middles[[0, -1]] + reach
        return ends


def picture(geometry: Geometry, connected: bool, generator: np.random.Generator) -> npt.NDArray[np.uint8]:
    """A picture `(side, side)`: the discs mark one contour's two ends (connected) or an end of either."""
    contours = _contours(geometry, generator)
    ends = np.stack([contour.ends(geometry.dash) for contour in contours[:2]])
    one, its_end, other_end = generator.integers(2, size=3)
    discs = ends[one] if connected else np.stack([ends[one, its_end], ends[1 - one, other_end]])
    return _draw(geometry, contours, discs)


def _contours(geometry: Geometry, generator: np.random.Generator) -> list[Contour]:
    counts = [geometry.dashes] * 2 + [geometry.distractor_dashes] * geometry.distractors
    for _ in range(PICTURES):
        contours: list[Contour] = []
        taken = np.zeros((0, 2))
        for count in counts:
            contour = _contour(geometry, count, taken, generator)
            if contour is None:
                break
            contours.append(contour)
            taken = np.concatenate([taken, contour.middles, contour.ends(geometry.dash)])
        if len(contours) == len(counts):
            return contours
    raise RuntimeError(f"none of {PICTURES} pictures of side {geometry.side} found room for its contours")


def _contour(
    geometry: Geometry, dashes: int, taken: Floats, generator: np.random.Generator
) -> Contour | None:
    """A contour clear of the points `taken` `(points, 2)`; None if none was found."""
    for _ in range(ATTEMPTS):
        middles, angles = _walks(geometry, dashes, taken, generator)
        if len(angles):
            return Contour(middles[0], angles[0])
    return None


def _walks(
    geometry: Geometry, dashes: int, taken: Floats, generator: np.random.Generator
) -> tuple[Floats, Floats]:
    """Random walks that found room: middles `(walks, dashes, 2)` and angles `(walks, dashes)`."""
    step = geometry.dash + geometry.gap
    middles = generator.uniform(0, geometry.side, size=(WALKS, 1, 2))
    angles = generator.uniform(-math.pi, math.pi, size=(WALKS, 1))
    clear = _clear(geometry, middles, angles, taken) & _clear(geometry, middles, angles + math.pi, taken)
    middles, angles = middles[clear[:, 0]], angles[clear[:, 0]]
    while 0 < angles.size < len(angles) * dashes:
        turns = generator.normal(0, geometry.turn, size=(len(angles), TURNS))
        turned = angles[:, -1:] + turns.clip(-geometry.largest_turn, geometry.largest_turn)
        # A turn happens in the middle of the gap: half a step in the old direction, half in the new.
        places = middles[:, -1:] + step / 2 * (_unit(angles[:, -1:]) + _unit(turned))
        clear = _clear(geometry, places, turned, taken)
        clear &= _apart(geometry, places, middles[:, None, :-NEIGHBOURS])
        alive = np.flatnonzero(clear.any(axis=1))
        chosen = clear[alive].argmax(axis=1)
        middles = np.concatenate([middles[alive], places[alive, chosen][:, None]], axis=1)
        angles = np.concatenate([angles[alive], turned[alive, chosen][:, None]], axis=1)
    return middles, angles


def _clear(geometry: Geometry, middles: Floats, angles: Floats, taken: Floats) -> npt.NDArray[np.bool_]:
    """`(walks, turns)`: whether a dash, with the gap ahead of it, lies inside the picture and apart from the
    points `taken` `(points, 2)`."""
    ahead = middles + (geometry.dash / 2 + geometry.gap) * _unit(angles)
    margin = geometry.disc
    inside = ((ahead > margin) & (ahead < geometry.side - margin)).all(axis=-1)
    clear: npt.NDArray[np.bool_] = inside & _apart(geometry, middles, taken) & _apart(geometry, ahead, taken)
    return clear


def _apart(geometry: Geometry, points: Floats, others: Floats) -> npt.NDArray[np.bool_]:
    """`(walks, turns)`: whether points `(walks, turns, 2)` keep clear of all `others` `(…, points, 2)`."""
    distances = np.square(points[:, :, None] - others).sum(axis=-1)
    apart: npt.NDArray[np.bool_] = (distances > geometry.clearance**2).all(axis=-1)
    return apart


def _unit(angles: Floats) -> Floats:
    return np.stack([np.cos(angles), np.sin(angles)], axis=-1)


def _draw(geometry: Geometry, contours: list[Contour], discs: Floats) -> npt.NDArray[np.uint8]:
    scale = geometry.antialias
    canvas = np.zeros((geometry.side * scale, geometry.side * scale))
    middles = np.concatenate([contour.middles for contour in contours])
    directions = _unit(np.concatenate([contour.angles for contour in contours]))
    reach, radius = geometry.dash / 2, geometry.thickness / 2
    _stroke(canvas, scale, middles, directions * reach, radius, geometry.contrast)
    _stroke(canvas, scale, discs, np.zeros_like(discs), geometry.disc, 1.0)
    blocks = canvas.reshape(geometry.side, scale, geometry.side, scale)
    pixels: npt.NDArray[np.uint8] = (blocks.mean(axis=(1, 3)) * 255).round().astype(np.uint8)
    return pixels


def _stroke(canvas: Floats, scale: int, middles: Floats, reaches: Floats, radius: float, grey: float) -> None:
    """Draw round-ended strokes `middles ± reaches` `(strokes, 2)`, soft over one sample of the canvas."""
    half = math.ceil((np.linalg.norm(reaches, axis=-1).max() + radius) * scale) + 1
    offsets = np.arange(-half, half + 1)
    origins = np.floor(middles * scale).astype(int)
    columns = origins[:, 0, None, None] + offsets
    rows = origins[:, 1, None, None] + offsets[:, None]
    x = (columns + 0.5) / scale - middles[:, 0, None, None]
    y = (rows + 0.5) / scale - middles[:, 1, None, None]
    length = np.square(reaches).sum(axis=-1)[:, None, None]
    along = (x * reaches[:, 0, None, None] + y * reaches[:, 1, None, None]) / np.maximum(length, 1e-12)
    along = along.clip(-1, 1)
    distances = np.hypot(x - along * reaches[:, 0, None, None], y - along * reaches[:, 1, None, None])
    cover = ((radius - distances) * scale + 0.5).clip(0, 1) * grey
    rows, columns = (grid.clip(0, len(canvas) - 1) for grid in np.broadcast_arrays(rows, columns))
    np.maximum.at(canvas, (rows, columns), cover)
