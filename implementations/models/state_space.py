"""The S4 repository's model around its layers: residual blocks between an embedding and a decoder."""

from collections.abc import Iterable
from dataclasses import dataclass

from torch import Tensor, nn

from implementations.decoding import State, recurrent
from implementations.embeddings import RealEmbedding
from implementations.encoder import Encoder
from implementations.fields import Config
from implementations.heads import Classifier, LanguageModel, Pooling, TwoTower
from implementations.ops.norms import SequenceNorm
from implementations.ops.ssm import NormKind, TiedDropout
from implementations.task import Task


@dataclass(frozen=True, kw_only=True)
class BackboneConfig(Config):
    """Hyper-parameters of the frame around a model's layers; a system's own config extends them."""

    layers: int
    dim: int
    norm: NormKind = "batchnorm"
    prenorm: bool = True
    pooling: Pooling = "mean"
    dropout: float = 0.0
    """Dropout of whole channels: within a layer, and of its output."""
    dt_min: float = 0.001
    dt_max: float = 0.1
    """Step sizes are initially log-uniform from dt_min to dt_max."""


class ResidualBlock(nn.Module):
    """`x + dropout(layer(norm x))`, or `norm(x + dropout(layer x))` if the norm comes last."""

    def __init__(self, layer: nn.Module, dim: int, norm: NormKind, prenorm: bool, dropout: float) -> None:
        super().__init__()
        self.layer = layer
        self.norm = SequenceNorm(norm, dim)
        self.prenorm = prenorm
        self.dropout = TiedDropout(dropout)

    def forward(self, x: Tensor, padding_mask: Tensor | None) -> Tensor:
        """x `(batch, length, dim)`, padding_mask `(batch, length)` or None."""
        if self.prenorm:
            y: Tensor = x + self.dropout(self.layer(self.norm(x), padding_mask))
        else:
            y = self.norm(x + self.dropout(self.layer(x, padding_mask)))
        return y

    def state_after(self, x: Tensor, room: int) -> State:
        """State of the layer."""
        return recurrent(self.layer).state_after(self.norm(x) if self.prenorm else x, room)

    def step(self, x: Tensor, state: State, time: int) -> Tensor:
        """x `(batch, dim)` at a time step, to the same shape."""
        layer = recurrent(self.layer)
        if self.prenorm:
            return x + layer.step(self.norm(x), state, time)
        y: Tensor = self.norm(x + layer.step(x, state, time))
        return y


def backbone(task: Task, config: BackboneConfig, layers: Iterable[nn.Module]) -> nn.Module:
    """The whole model: embedding, a residual block around each layer, a final norm if pre-norm, a decoder.

    layers: `(batch, length, dim)` and padding mask to `(batch, length, dim)`. As in the official code, padded
    steps enter the first block, and the batch statistics, as the padding token's own embedding; two documents
    are one batch, and meet in a layer with GELU.
    """
    dim = config.dim
    blocks = [ResidualBlock(layer, dim, config.norm, config.prenorm, config.dropout) for layer in layers]
    final_norm = SequenceNorm(config.norm, dim) if config.prenorm else None
    encoder = Encoder(embedding(task, dim), blocks, final_norm=final_norm, embeds_padding=True)
    if task.head == "language-model":
        return LanguageModel(encoder, dim, task.vocabulary)
    if task.head == "classifier":
        return Classifier(encoder, nn.Linear(dim, task.classes), config.pooling)
    head = nn.Sequential(nn.Linear(4 * dim, dim), nn.GELU(), nn.Linear(dim, task.classes))
    return TwoTower(encoder, head, config.pooling, jointly=True)


def embedding(task: Task, dim: int) -> nn.Module:
    """Embedding as torch initialises it: N(0, 1) for tokens; a linear layer, U(−1, 1), for reals."""
    if task.input == "tokens":
        return nn.Embedding(task.vocabulary, dim)
    reals = RealEmbedding(dim)
    nn.init.uniform_(reals.weight, -1, 1)
    nn.init.uniform_(reals.bias, -1, 1)
    return reals
