"""x-transformers' stack between our embedding and classifier: with attention materialised, and by SDPA."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn

from implementations.models.transformer import frame
from implementations.settings import configured
from implementations.task import Task
from peers.frame import Adapter, Shape, multiple, package


@dataclass(frozen=True, kw_only=True)
class XTransformersConfig(Shape):
    attention_dropout: float = 0.1
    prenorm: bool = False
    """Whether our frame adds a final norm; it must not: the stack is pre-norm and has its own."""


@dataclass(frozen=True, kw_only=True)
class XTransformersFlashConfig(XTransformersConfig):
    attention_dropout: float = 0.0


def build(task: Task, hyperparameters: Mapping[str, Any]) -> nn.Module:
    """A Transformer that materialises its attention matrices. Raises NotInstalled."""
    return _build(task, configured(XTransformersConfig, hyperparameters), flash=False)


def x_transformers_flash(task: Task, hyperparameters: Mapping[str, Any]) -> nn.Module:
    """A Transformer on `scaled_dot_product_attention`, by default without dropout of its weights.

    Raises NotInstalled.
    """
    return _build(task, configured(XTransformersFlashConfig, hyperparameters), flash=True)


def _build(task: Task, config: XTransformersConfig, flash: bool) -> nn.Module:
    x_transformers = package("x_transformers", "x-transformers")
    stack = (x_transformers.Decoder if task.causal else x_transformers.Encoder)(
        dim=config.dim,
        depth=config.layers,
        heads=config.heads,
        attn_dim_head=config.dim // config.heads,
        attn_flash=flash,
        attn_dropout=config.attention_dropout,
        ff_mult=multiple(config),
        ff_dropout=config.dropout,
    )
    return frame(task, config, [Adapter(stack, mask="mask")])
