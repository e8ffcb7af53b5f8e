"""Pathfinder: do the two discs mark the ends of one contour? 32 × 32 grey values in reading order.

Read from the user's LRA folder if it has pictures of that size, else generated.
Published: contours of 14 dashes of length 2, thickness ½, 5 distractors of 4 dashes, contrast ¾, antialias 2.
"""

from dataclasses import dataclass, replace

import numpy as np

from bench.workloads import contours, files, grey, pathfinder_files
from bench.workloads.base import Batch, DataSource, Fill, used
from bench.workloads.contours import Geometry
from bench.workloads.splits import Split, generator_of
from implementations.task import Task

GEOMETRY = Geometry(
    side=32,
    dashes=14,
    dash=2.0,
    thickness=0.5,
    distractors=5,
    distractor_dashes=4,
    contrast=0.75,
    gap=0.7,
    clearance=2.6,
    disc=1.5,
)


@dataclass(frozen=True)
class Pathfinder:
    """Pictures of one published geometry, and of half and twice its size."""

    name: str
    description: str
    task_name: str
    geometry: Geometry

    @property
    def published_length(self) -> int:
        return self.geometry.side**2

    @property
    def max_length(self) -> int:
        return self.sides[-1] ** 2

    @property
    def sides(self) -> tuple[int, ...]:
        return self.geometry.side // 2, self.geometry.side, self.geometry.side * 2

    def task(self, length: int) -> Task:
        return Task(self.task_name, length=length, classes=2, input="reals")

    def sources(self) -> tuple[DataSource, ...]:
        folder = pathfinder_files.folder_of(self.geometry.side)
        return (
            DataSource(
                "LRA's pictures",
                "real",
                None if folder is None else str(folder),
                f"unpack lra_release.gz and name its folder in {files.LRA_VARIABLE}",
            ),
            DataSource("generator", "generated", "built in, the published geometry"),
        )

    def sequences(self, split: Split) -> int | None:
        side = self.geometry.side
        folder = pathfinder_files.folder_of(side)
        return None if folder is None else len(pathfinder_files.listed(folder, side).part(split).paths)

    def data(self) -> str:
        if used(self.sources()).kind == "generated":
            return "generated, in the published geometry"
        side = self.geometry.side
        folder = pathfinder_files.folder_of(side)
        assert folder is not None
        return f"LRA's, {len(pathfinder_files.listed(folder, side).labels)} pictures of {side} × {side}"

    def batch(
        self, length: int, batch: int, fill: Fill, seed: int, index: int = 0, split: Split = "all"
    ) -> Batch:
        """Pictures as grey values from -1 to 1: the user's if there are some of that size, else drawn,
        either label with probability ½. Batches are always full."""
        side = grey.side_of(self.name, length, self.sides)
        generator = generator_of(seed, index, length, split)
        folder = pathfinder_files.folder_of(side)
        if folder is None:
            geometry = _scaled(self.geometry, side)
            labels = generator.integers(2, size=batch)
            pictures = [contours.picture(geometry, bool(label), generator) for label in labels]
        else:
            listed = pathfinder_files.listed(folder, side).part(split)
            chosen = generator.integers(len(listed.labels), size=batch)
            labels = listed.labels[chosen]
            pictures = [listed.read(int(number)) for number in chosen]
        pixels = np.stack(pictures).reshape(batch, length).astype(np.float32)
        return Batch(inputs=pixels / np.float32(127.5) - 1, lengths=None, targets=labels)

    def show(self, batch: Batch, row: int = 0) -> str:
        words = "the ends of one contour" if batch.targets[row] else "an end of either contour"
        return f"{grey.as_text(batch.inputs[row].astype(np.float32))}\nthe discs mark {words}"


def _scaled(geometry: Geometry, side: int) -> Geometry:
    factor = side / geometry.side
    return replace(
        geometry,
        side=side,
        dash=geometry.dash * factor,
        thickness=geometry.thickness * factor,
        gap=geometry.gap * factor,
        clearance=geometry.clearance * factor,
        disc=geometry.disc * factor,
    )


WORKLOAD = Pathfinder(
    "pathfinder", "do two discs mark the ends of one contour, 32 × 32 (2 classes)", "pathfinder", GEOMETRY
)
