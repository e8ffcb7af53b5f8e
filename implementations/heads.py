"""Parts that models share above their layers: pooling, and the heads of classifiers and language models.

Layouts are batch first: inputs `(batch, length)`, states `(batch, length, dim)`.
"""

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from implementations.decoding import Generation
from implementations.encoder import Encoder
from implementations.task import Task

Output = Literal["own", "tied", "tied-bias"]
"""A language model's last projection: with its own weights, the embedding's, or those and a bias."""
Pooling = Literal["mean", "first", "last"]


class Pool(nn.Module):
    """Mean, first or last of the real states: `(batch, length, dim)` to `(batch, dim)`."""

    def __init__(self, encoder: Encoder, kind: Pooling = "mean") -> None:
        super().__init__()
        self.encoder = encoder
        self.kind = kind

    def forward(self, inputs: Tensor, lengths: Tensor | None) -> Tensor:
        states: Tensor = self.encoder(inputs, lengths)[0]
        if self.kind == "first":
            return states[:, 0]
        if self.kind == "last":
            rows = torch.arange(len(states), device=states.device)
            return states[rows, -1 if lengths is None else lengths - 1]
        count = inputs.shape[1] if lengths is None else lengths.to(states.dtype)[:, None]
        return states.sum(dim=1) / count


class MLPHead(nn.Module):
    """The fairseq LRA classifier: Linear, dropout, activation, projection without bias; Xavier uniform."""

    def __init__(
        self,
        dim: int,
        hidden: int,
        classes: int,
        activation: Callable[[Tensor], Tensor] = F.gelu,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.hidden = nn.Linear(dim, hidden)
        self.dropout = nn.Dropout(dropout)
        self.activation = activation
        self.projection = nn.Linear(hidden, classes, bias=False)
        for layer in (self.hidden, self.projection):
            nn.init.xavier_uniform_(layer.weight)
        nn.init.zeros_(self.hidden.bias)

    def forward(self, representation: Tensor) -> Tensor:
        logits: Tensor = self.projection(self.activation(self.dropout(self.hidden(representation))))
        return logits


class Classifier(nn.Module):
    """One label each: inputs `(batch, length)`, lengths `(batch,)` or None; logits `(batch, classes)`."""

    def __init__(self, encoder: Encoder, head: nn.Module, pooling: Pooling = "mean") -> None:
        super().__init__()
        self.pool = Pool(encoder, pooling)
        self.head = head

    def forward(self, inputs: Tensor, lengths: Tensor | None = None) -> Tensor:
        logits: Tensor = self.head(self.pool(inputs, lengths))
        return logits


class TwoTower(nn.Module):
    """Two documents through one encoder: inputs `(batch, 2, length)`, lengths `(batch, 2)` or None.

    The head reads `[second, first, first·second, first − second]` with `interactions`, where first and
    second are the documents' representations; without it `[second, first]`. jointly: the encoder takes both
    documents as one batch, so that a batch norm's statistics are those of both.
    """

    def __init__(
        self,
        encoder: Encoder,
        head: nn.Module,
        pooling: Pooling = "mean",
        interactions: bool = True,
        jointly: bool = False,
    ) -> None:
        super().__init__()
        self.pool = Pool(encoder, pooling)
        self.head = head
        self.interactions = interactions
        self.jointly = jointly

    def forward(self, inputs: Tensor, lengths: Tensor | None = None) -> Tensor:
        if self.jointly:
            both: Tensor = self.pool(inputs.flatten(0, 1), None if lengths is None else lengths.flatten())
            return self.classify(*both.view(len(inputs), 2, -1).unbind(1))
        first, second = (
            self.pool(inputs[:, tower], None if lengths is None else lengths[:, tower]) for tower in (0, 1)
        )
        return self.classify(first, second)

    def classify(self, first: Tensor, second: Tensor) -> Tensor:
        """Logits of two representations `(batch, dim)`."""
        parts = [second, first]
        if self.interactions:
            parts += [first * second, first - second]
        logits: Tensor = self.head(torch.cat(parts, dim=-1))
        return logits


class LanguageModel(nn.Module):
    """Next token at every step: inputs `(batch, length)`; logits `(batch, length, vocabulary)`.

    output: see `Output`. tied and tied-bias need an encoder that embeds tokens.
    """

    def __init__(self, encoder: Encoder, dim: int, vocabulary: int, output: Output = "own") -> None:
        super().__init__()
        self.encoder = encoder
        self.projection = nn.Linear(dim, vocabulary, bias=output != "tied")
        if output == "own":
            nn.init.normal_(self.projection.weight, std=dim**-0.5)
        else:
            assert isinstance(encoder.embedding, nn.Embedding)
            self.projection.weight = encoder.embedding.weight
        if output != "tied":
            nn.init.zeros_(self.projection.bias)

    def forward(self, inputs: Tensor, lengths: Tensor | None = None) -> Tensor:
        states, _ = self.encoder(inputs, lengths)
        logits: Tensor = self.projection(states[:, : inputs.shape[1]])
        return logits

    @torch.no_grad()
    def begin(self, batch: int, room: int) -> Generation:
        """Empty sequences with room for that many tokens. Raises NoRecurrentForm."""
        return Generation(0, self.encoder.initial_state(batch, room))

    @torch.no_grad()
    def prefill(self, prompt: Tensor, room: int) -> tuple[Tensor, Generation]:
        """Take in a prompt `(batch, length)` of at least one token by the parallel form.

        Returns logits `(batch, length, vocabulary)` and the generation that steps continue. room: tokens that
        can be held, including the prompt. Raises NoRecurrentForm.
        """
        states, state = self.encoder.prefill(prompt, room)
        return self.projection(states), Generation(prompt.shape[1], state)

    @torch.no_grad()
    def step(self, tokens: Tensor, generation: Generation) -> Tensor:
        """Take in one token per sequence, `(batch,)`. Returns logits `(batch, vocabulary)` of the next.

        Equal to `forward` of the whole sequence at this step. Dropout must be off.
        """
        logits: Tensor = self.projection(self.encoder.step(tokens, generation.state, generation.time))
        generation.time += 1
        return logits


def with_head(
    task: Task,
    encoder: Encoder,
    dim: int,
    hidden: int,
    pooling: Pooling = "mean",
    interactions: bool = True,
    dropout: float = 0.0,
    output: Output = "own",
) -> nn.Module:
    """The encoder under the head that the task needs: classifier, two towers or language model.

    dim: width of the encoder's states; hidden, dropout: width and dropout of the classifier's hidden layer;
    output: the language model's last projection.
    """
    if task.head == "language-model":
        return LanguageModel(encoder, dim, task.vocabulary, output)
    if task.head == "classifier":
        return Classifier(encoder, MLPHead(dim, hidden, task.classes, dropout=dropout), pooling)
    width = dim * (4 if interactions else 2)
    return TwoTower(encoder, MLPHead(width, hidden, task.classes, dropout=dropout), pooling, interactions)
