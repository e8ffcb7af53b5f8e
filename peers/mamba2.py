"""Mamba-2's mixer by others in our Mamba-2's layers: transformers' plain form, and mamba-ssm's kernels."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn

from implementations.embeddings import embed
from implementations.encoder import Encoder
from implementations.heads import with_head
from implementations.ops.norms import RMSNorm
from implementations.settings import configured
from implementations.task import Task
from peers.frame import Adapter, Residual, Shape, package


@dataclass(frozen=True, kw_only=True)
class Mamba2Config(Shape):
    expand: int = 2
    """Width of all heads together over the model's."""
    head_dim: int = 64
    state_dim: int = 128
    """States per channel."""
    chunk: int = 64
    """Time steps that are computed in one masked product."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.expand * self.dim % self.head_dim:
            raise ValueError(f"heads of width {self.head_dim} do not divide {self.expand} × {self.dim}")


def transformers_mamba2(task: Task, hyperparameters: Mapping[str, Any]) -> nn.Module:
    """A Mamba-2 of transformers' mixers for a task. Raises NotInstalled."""
    library = package("transformers.models.mamba2.modeling_mamba2", "transformers")
    config = configured(Mamba2Config, hyperparameters)
    theirs = library.Mamba2Config(
        hidden_size=config.dim,
        num_hidden_layers=config.layers,
        num_heads=config.expand * config.dim // config.head_dim,
        head_dim=config.head_dim,
        state_size=config.state_dim,
        expand=config.expand,
        n_groups=1,
        chunk_size=config.chunk,
    )
    return _around(task, config, lambda index: Adapter(library.Mamba2Mixer(theirs, layer_idx=index)))


def mamba_ssm(task: Task, hyperparameters: Mapping[str, Any]) -> nn.Module:
    """A Mamba-2 of mamba-ssm's mixers for a task, which run on CUDA devices. Raises NotInstalled."""
    library = package("mamba_ssm", "mamba-ssm", extra="peers-cuda")
    config = configured(Mamba2Config, hyperparameters)

    def mixer(index: int) -> nn.Module:
        theirs = library.Mamba2(
            d_model=config.dim, d_state=config.state_dim, expand=config.expand, headdim=config.head_dim
        )
        return Adapter(theirs, cuda=True)

    return _around(task, config, mixer)


def _around(task: Task, config: Mamba2Config, mixer: Callable[[int], nn.Module]) -> nn.Module:
    encoder = Encoder(
        embed(task, config.dim),
        [Residual(RMSNorm(config.dim), mixer(index)) for index in range(config.layers)],
        final_norm=RMSNorm(config.dim),
    )
    return with_head(task, encoder, config.dim, config.dim, config.pooling)
