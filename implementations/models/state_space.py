"""The S4 repository's model around its layers: residual blocks between an embedding and a decoder."""

from collections.abc import Callable, Iterable

from torch import Tensor, nn
from torch.nn import functional as F

from implementations.decoding import State, recurrent
from implementations.encoder import Classifier, Encoder, LanguageModel, MLPHead, TwoTower, embed
from implementations.ops.norms import SequenceNorm
from implementations.ops.ssm import NormKind, TiedDropout
from implementations.task import Task


class ResidualBlock(nn.Module):
    """`x + dropout(layer(norm x))`, or `norm(x + dropout(layer x))` where the norm comes last."""

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
        """That of the layer."""
        return recurrent(self.layer).state_after(self.norm(x) if self.prenorm else x, room)

    def step(self, x: Tensor, state: State, time: int) -> Tensor:
        """x `(batch, dim)` at a time step, to the same shape."""
        layer = recurrent(self.layer)
        if self.prenorm:
            return x + layer.step(self.norm(x), state, time)
        y: Tensor = self.norm(x + layer.step(x, state, time))
        return y


def backbone(
    task: Task,
    make_layer: Callable[[], nn.Module],
    *,
    layers: int,
    dim: int,
    norm: NormKind,
    prenorm: bool,
    dropout: float,
) -> nn.Module:
    """The S4 repository's model around its layers: embedding, residual blocks, a final norm if pre-norm.

    make_layer gives a fresh layer, `(batch, length, dim)` and padding mask to `(batch, length, dim)`.
    """
    blocks: Iterable[nn.Module] = [
        ResidualBlock(make_layer(), dim, norm, prenorm, dropout) for _ in range(layers)
    ]
    encoder = Encoder(embed(task, dim), blocks, final_norm=SequenceNorm(norm, dim) if prenorm else None)
    return with_decoder(task, encoder, dim)


def with_decoder(task: Task, encoder: Encoder, dim: int) -> nn.Module:
    """The encoder under a linear decoder of its masked mean; two towers meet in a layer with ReLU."""
    if task.head == "language-model":
        return LanguageModel(encoder, dim, task.vocabulary)
    if task.head == "classifier":
        return Classifier(encoder, nn.Linear(dim, task.classes))
    return TwoTower(encoder, MLPHead(4 * dim, dim, task.classes, F.relu))
