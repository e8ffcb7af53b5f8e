"""linformer's attention in our Linformer's layers: the same parameters, and the same function.

It takes no mask: padded positions are projected like all others, as in ours.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn

from implementations.models.transformer import build_around
from implementations.settings import configured
from implementations.task import Task
from peers.frame import Adapter, Shape, bidirectional, package


@dataclass(frozen=True, kw_only=True)
class LinformerConfig(Shape):
    k: int = 256
    """Positions that keys and values are projected to."""
    attention_dropout: float = 0.1


def linformer_pip(task: Task, hyperparameters: Mapping[str, Any]) -> nn.Module:
    """A Linformer for a task. Raises NotInstalled, NotImplementedError for a language model."""
    linformer = package("linformer", "linformer")
    bidirectional(task, "linformer")
    config = configured(LinformerConfig, hyperparameters)

    def attention() -> nn.Module:
        return Adapter(
            linformer.LinformerSelfAttention(
                config.dim,
                task.length,
                k=config.k,
                heads=config.heads,
                dropout=config.attention_dropout,
            )
        )

    return build_around(task, config, attention)
