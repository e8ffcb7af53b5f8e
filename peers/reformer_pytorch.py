"""reformer-pytorch's reversible stack between our embedding and classifier, with the options of our Reformer.

It draws its rotations anew at every step, ours draws them once: both hash, neither is cheaper for it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn

from implementations.models.transformer import frame
from implementations.settings import configured
from implementations.task import Task
from peers.frame import Adapter, Shape, bidirectional, multiple, package


@dataclass(frozen=True, kw_only=True)
class ReformerConfig(Shape):
    bucket: int = 64
    """Positions per bucket, on average."""
    hashes: int = 4
    """Rounds of hashing."""
    attention_dropout: float = 0.1


def build(task: Task, hyperparameters: Mapping[str, Any]) -> nn.Module:
    """A Reformer for a task. Raises NotInstalled, NotImplementedError for a language model."""
    reformer = package("reformer_pytorch", "reformer-pytorch")
    bidirectional(task, "reformer-pytorch")
    config = configured(ReformerConfig, hyperparameters)
    stack = reformer.Reformer(
        config.dim,
        config.layers,
        heads=config.heads,
        bucket_size=config.bucket,
        n_hashes=config.hashes,
        ff_chunks=1,
        ff_mult=multiple(config),
        lsh_dropout=config.attention_dropout,
        ff_dropout=config.activation_dropout,
        post_attn_dropout=config.dropout,
        lsh_attend_across_buckets=False,
        lsh_allow_duplicate_attention=False,
    )
    return frame(task, config, [Adapter(reformer.Autopadder(stack), mask="input_mask")])
