"""Checkpoints: one safetensors file with weights, optimiser state and random state, exactly as they were.

Whatever else a training needs to continue is in the file's metadata, as JSON. Reading that needs no torch.
"""

import os
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
from safetensors import SafetensorError, safe_open

from bench.errors import UsageError
from bench.records.run import Trained
from bench.records.training import Evaluation, Recipe
from bench.suites.case import Case

if TYPE_CHECKING:
    from torch import Tensor

SCHEMA = 1
KEY = "seqboat_bench"
MODEL, OPTIMIZER, RANDOM = "model.", "optimizer.", "random."
"""Prefixes of the tensors' names."""


class Checkpoint(msgspec.Struct, frozen=True, kw_only=True):
    """The metadata of a checkpoint."""

    schema: int
    case: Case
    recipe: Recipe
    data: str
    step: int
    """Steps done; also the number of the next batch of training data."""
    seconds: float
    """Seconds of training, without evaluations."""
    losses: list[float]
    """Losses of the steps since the last Progress record, in nats."""
    evaluation: Evaluation | None
    """The latest one."""
    sources: dict[str, str] = {}
    """Digests of the model's source and hyper-parameters, and of a workload's that is the user's own."""

    def trained(self, path: Path) -> Trained:
        """The record that a run with this checkpoint keeps of it."""
        evaluation = self.evaluation
        return Trained(
            file=str(path),
            implementation=self.case.implementation,
            data=self.data,
            steps=self.step,
            of_steps=self.recipe.steps,
            batch=self.recipe.batch,
            seed=self.case.seed,
            accuracy=evaluation.accuracy if evaluation else None,
            bits_per_character=evaluation.bits_per_character if evaluation else None,
            activation_by_layer=[layer.mean for layer in evaluation.activation] if evaluation else [],
        )


def write(path: Path, checkpoint: Checkpoint, tensors: dict[str, "Tensor"]) -> None:
    """Write a checkpoint in place of an older one, never half. Raises UsageError if it cannot be written."""
    from safetensors.torch import save_file

    fresh = path.with_name(f"{path.name}.new")
    # A copy of each: tied weights share storage under two names, which the format does not support.
    copies = {name: tensor.detach().clone().contiguous() for name, tensor in tensors.items()}
    try:
        save_file(copies, fresh, metadata={KEY: msgspec.json.encode(checkpoint).decode()})
        with fresh.open("rb") as file:
            os.fsync(file.fileno())
        fresh.replace(path)
    except (OSError, SafetensorError) as error:
        raise UsageError(f"{path}: the checkpoint cannot be written ({error})") from None


def read(path: Path) -> Checkpoint:
    """The metadata alone. Raises UsageError if the file is not a checkpoint of a training."""
    try:
        with safe_open(path, framework="numpy") as file:
            text = (file.metadata() or {}).get(KEY)
    except (OSError, SafetensorError) as error:
        raise UsageError(f"{path}: cannot be read as a checkpoint ({error})") from None
    if text is None:
        raise UsageError(f"{path}: is not a checkpoint of bench train (its metadata has no {KEY!r})")
    try:
        checkpoint = msgspec.json.decode(text, type=Checkpoint)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise UsageError(f"{path}: is a checkpoint of another version ({error})") from None
    if checkpoint.schema != SCHEMA:
        raise UsageError(f"{path}: has schema {checkpoint.schema}, this version reads {SCHEMA}")
    return checkpoint


def tensors_of(path: Path, prefix: str) -> dict[str, "Tensor"]:
    """The tensors whose names begin with a prefix, without it, on the CPU. Raises UsageError."""
    try:
        with safe_open(path, framework="pt") as file:
            names = [name for name in file.keys() if name.startswith(prefix)]  # noqa: SIM118 - no dictionary
            return {name.removeprefix(prefix): file.get_tensor(name) for name in names}
    except (OSError, SafetensorError) as error:
        raise UsageError(f"{path}: cannot be read as a checkpoint ({error})") from None
