"""s5-pytorch's blocks between our embedding and classifier, with the state and block sizes of our S5.

It keeps both states of every conjugate pair, ours keeps one. It takes no mask: padding changes logits.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn

from implementations.embeddings import embed
from implementations.encoder import Encoder
from implementations.fields import Count
from implementations.heads import with_head
from implementations.settings import configured
from implementations.task import Task
from peers.frame import Adapter, Shape, bidirectional, package


@dataclass(frozen=True, kw_only=True)
class S5Config(Shape):
    state: Count = 0
    """States per layer, counting both conjugates; 0 for three quarters of the width."""
    blocks: int = 12
    """Copies of the HiPPO matrix that the state starts as."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.state:
            object.__setattr__(self, "state", self.dim * 3 // 4)


def build(task: Task, hyperparameters: Mapping[str, Any]) -> nn.Module:
    """An S5 for a task. Raises NotInstalled, NotImplementedError for a language model."""
    s5 = package("s5", "s5-pytorch")
    bidirectional(task, "s5-pytorch")
    config = configured(S5Config, hyperparameters)
    layers = [
        s5.S5Block(
            config.dim,
            config.state,
            bidir=True,
            block_count=config.blocks,
            ff_dropout=config.dropout,
            attn_dropout=config.dropout,
        )
        for _ in range(config.layers)
    ]
    encoder = Encoder(
        embed(task, config.dim),
        [Adapter(layer) for layer in layers],
        final_norm=nn.LayerNorm(config.dim),
        dropout=config.dropout,
    )
    return with_head(task, encoder, config.dim, config.dim, config.pooling)
