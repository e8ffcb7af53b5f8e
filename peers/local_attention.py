"""local-attention's attention in the layers of our Transformer's relatives: windows with their neighbours.

Positions are its own, by rotation. None of ours is local attention alone; the nearest is BigBird.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from torch import nn

from implementations.models.transformer import build_around
from implementations.settings import configured
from implementations.task import Task
from peers.frame import Adapter, Shape, package


@dataclass(frozen=True, kw_only=True)
class LocalAttentionConfig(Shape):
    window: int = 128
    """Positions of a window; each attends to its own window and the neighbouring ones."""
    attention_dropout: float = 0.1
    positions: Literal["sinusoidal", "learned", "none"] = "none"


def build(task: Task, hyperparameters: Mapping[str, Any]) -> nn.Module:
    """A Transformer with local attention for a task. Raises NotInstalled."""
    local_attention = package("local_attention", "local-attention")
    config = configured(LocalAttentionConfig, hyperparameters)

    def attention() -> nn.Module:
        return Adapter(
            local_attention.LocalMHA(
                dim=config.dim,
                window_size=config.window,
                dim_head=config.dim // config.heads,
                heads=config.heads,
                causal=task.causal,
                dropout=config.attention_dropout,
            ),
            mask="mask",
        )

    return build_around(task, config, attention)
