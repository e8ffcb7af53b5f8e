"""The task that a model is built for. Imports no torch, so that suites can be read without it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

PADDING = 0
"""The token that fills a row beyond its true length; real tokens count from 1."""


GREY_LEVELS = 256
"""Values that a pixel can have, from 0."""


@dataclass(frozen=True)
class Grey:
    """Scale of grey levels as reals: `(level/255 − mean)/deviation`."""

    mean: float
    deviation: float


GREY: Mapping[str, Grey] = {
    "image": Grey(mean=0.48, deviation=0.24),
    "pathfinder": Grey(mean=0.5, deviation=0.5),
    "path_x": Grey(mean=0.5, deviation=0.5),
}
"""The published scale of each task of pictures (MEGA's `--pixel-normalization`)."""


@dataclass(frozen=True)
class Task:
    """Shapes of the inputs and outputs that a model must accept and give.

    inputs: `(batch, length)` int64 tokens, or float reals (`input="reals"`);
        `(batch, 2, length)` for a two-tower task.
    outputs: `(batch, classes)`, or `(batch, length, classes)` for a language model.
    """

    name: str
    """Key of the published hyper-parameters: text, listops, retrieval, image, pathfinder, …"""
    length: int
    """The longest sequence the model must take, in time steps."""
    classes: int
    head: Literal["classifier", "two-tower", "language-model"] = "classifier"
    input: Literal["tokens", "reals"] = "tokens"
    vocabulary: int = 0
    """Number of distinct tokens, including the padding token; 0 if the input is reals."""

    @property
    def grey(self) -> Grey | None:
        """Scale of its reals, if they are grey levels, which a model may also read as tokens."""
        return GREY.get(self.name) if self.input == "reals" else None

    @property
    def causal(self) -> bool:
        return self.head == "language-model"
