"""flash-linear-attention's Gated DeltaNet in our Gated DeltaNet's layers, on CUDA devices."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import nn

from implementations.embeddings import embed
from implementations.encoder import Encoder
from implementations.fields import Count
from implementations.heads import with_head
from implementations.models.gated_deltanet import GatedFeedForward
from implementations.ops.norms import RMSNorm
from implementations.settings import configured
from implementations.task import Task
from peers.frame import Adapter, Residual, Shape, package


@dataclass(frozen=True, kw_only=True)
class GatedDeltaNetConfig(Shape):
    WIDER: ClassVar[int] = 3

    heads: int = 3
    head_dim: Count = 0
    """Width of a head's queries and keys; 0 for a quarter of the model's."""
    value_expand: int = 2
    """Width of a head's values over that of its keys."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.head_dim:
            object.__setattr__(self, "head_dim", self.dim // 4)


def fla_gated_deltanet(task: Task, hyperparameters: Mapping[str, Any]) -> nn.Module:
    """A Gated DeltaNet of fla's mixers for a task. Raises NotInstalled."""
    library = package("fla.layers", "flash-linear-attention", extra="peers-cuda")
    config = configured(GatedDeltaNetConfig, hyperparameters)

    def layers() -> Iterator[nn.Module]:
        for index in range(config.layers):
            mixer = library.GatedDeltaNet(
                hidden_size=config.dim,
                expand_v=config.value_expand,
                head_dim=config.head_dim,
                num_heads=config.heads,
                layer_idx=index,
            )
            yield Residual(RMSNorm(config.dim), Adapter(mixer, cuda=True))
            yield Residual(RMSNorm(config.dim), GatedFeedForward(config.dim, config.ffn))

    encoder = Encoder(embed(task, config.dim), layers(), final_norm=RMSNorm(config.dim))
    return with_head(task, encoder, config.dim, config.ffn, config.pooling)
