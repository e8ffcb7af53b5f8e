"""performer-pytorch's attention in our Performer's layers: the same parameters, and the same function.

Its redraw of the projection is left out, as in ours. Padding zeroes values only.
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
class PerformerConfig(Shape):
    features: int = 256
    """Random features per head."""


def build(task: Task, hyperparameters: Mapping[str, Any]) -> nn.Module:
    """A Performer for a task. Raises NotInstalled, NotImplementedError for a language model."""
    performer = package("performer_pytorch", "performer-pytorch")
    bidirectional(task, "performer-pytorch")
    config = configured(PerformerConfig, hyperparameters)

    def attention() -> nn.Module:
        return Adapter(
            performer.SelfAttention(
                config.dim,
                heads=config.heads,
                dim_head=config.dim // config.heads,
                nb_features=config.features,
                qkv_bias=True,
            ),
            mask="mask",
        )

    return build_around(task, config, attention)
