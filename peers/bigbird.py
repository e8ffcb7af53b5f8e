"""transformers' BigBird between our embedding and classifier, with the blocks of ours.

Positions are its own, learned, under a norm of its own.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor, nn

from implementations.fields import Count
from implementations.models.transformer import frame
from implementations.settings import configured
from implementations.task import Task
from peers.frame import Shape, bidirectional, package


@dataclass(frozen=True, kw_only=True)
class BigBirdConfig(Shape):
    block: int = 64
    random_blocks: Count = 3
    attention_dropout: float = 0.1
    prenorm: bool = False
    positions: Literal["sinusoidal", "learned", "none"] = "none"


class Stack(nn.Module):
    """BigBirdModel on states: `(batch, length, dim)` and padding mask to `(batch, length, dim)`."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor, padding_mask: Tensor | None = None) -> Tensor:
        mask = None if padding_mask is None else (~padding_mask).to(x.dtype)
        states: Tensor = self.model(inputs_embeds=x, attention_mask=mask).last_hidden_state
        return states


def transformers_bigbird(task: Task, hyperparameters: Mapping[str, Any]) -> nn.Module:
    """A BigBird for a task. Raises NotInstalled, NotImplementedError for a language model."""
    library = package("transformers", "transformers")
    bidirectional(task, "transformers' BigBird")
    config = configured(BigBirdConfig, hyperparameters)
    theirs = library.BigBirdConfig(
        vocab_size=1,  # of an embedding that nothing reads
        bos_token_id=0,
        eos_token_id=0,
        sep_token_id=0,
        hidden_size=config.dim,
        num_hidden_layers=config.layers,
        num_attention_heads=config.heads,
        intermediate_size=config.ffn,
        hidden_dropout_prob=config.dropout,
        attention_probs_dropout_prob=config.attention_dropout,
        max_position_embeddings=task.length + config.block,
        block_size=config.block,
        num_random_blocks=config.random_blocks,
        pad_token_id=0,
    )
    return frame(task, config, [Stack(library.BigBirdModel(theirs, add_pooling_layer=False))])
