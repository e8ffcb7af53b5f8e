"""The Long Range Arena's own Pathfinder pictures, of the hard set: PNG files, and text tables that list them.

A line of a table `metadata/NUMBER.npy`, which is text despite its name, begins with the folder of a picture,
its file, a number and the label.
"""

import functools
import io
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

import numpy as np
import numpy.typing as npt

from bench.errors import UsageError
from bench.system.extras import require
from bench.workloads import files
from bench.workloads.splits import Splittable

HARD_SET = "curv_contour_length_14"
SIDES = (32, 64, 128)


@dataclass(frozen=True)
class Pictures(Splittable):
    """Files of pictures, `side` pixels wide and high, and their labels `(pictures,)`."""

    side: int
    paths: tuple[Path, ...]
    labels: npt.NDArray[np.int64]

    def keys(self) -> Iterable[bytes]:
        return ("/".join(path.parts[-2:]).encode() for path in self.paths)

    def take(self, numbers: npt.NDArray[np.int64]) -> Self:
        return replace(self, paths=tuple(self.paths[n] for n in numbers), labels=self.labels[numbers])

    def read(self, number: int) -> npt.NDArray[np.uint8]:
        """Grey values `(side, side)` of a picture. Raises UsageError if the file is not one of that size."""
        path = self.paths[number]
        image = require("PIL.Image", "data")
        try:
            with image.open(io.BytesIO(path.read_bytes())) as picture:
                pixels: npt.NDArray[np.uint8] = np.asarray(picture.convert("L"))
        except (OSError, ValueError) as error:
            raise UsageError(f"{path}: is not a picture that can be read ({error})") from None
        if pixels.shape != (self.side, self.side):
            height, width = pixels.shape
            raise UsageError(f"{path}: has {width} × {height} pixels, not {self.side} × {self.side}")
        return pixels


def folder_of(side: int) -> Path | None:
    """The folder of the hard set at that size in the user's LRA folder; None if it is not there."""
    return files.lra_folder(f"pathfinder{side}/{HARD_SET}") if side in SIDES else None


@functools.cache
def listed(folder: Path, side: int) -> Pictures:
    """Pictures that a folder's tables list. Raises UsageError if a table is missing or wrong."""
    tables = sorted((folder / "metadata").glob("*.npy"), key=lambda path: (len(path.stem), path.stem))
    paths: list[Path] = []
    labels: list[int] = []
    for table in tables:
        for number, line in enumerate(_lines(table), 1):
            columns = line.split()
            if len(columns) < 4 or columns[3] not in ("0", "1"):
                raise UsageError(
                    f"{table}, line {number}: does not list a picture (folder, file, number, label 0 or 1)"
                )
            paths.append(folder / columns[0] / columns[1])
            labels.append(int(columns[3]))
    if not paths:
        raise UsageError(f"{folder}: its folder metadata lists no pictures; unpack lra_release.gz anew")
    return Pictures(side, tuple(paths), np.array(labels, dtype=np.int64))


def _lines(table: Path) -> list[str]:
    try:
        return table.read_text(encoding="ascii").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{table}: is not a table of pictures ({error})") from None
