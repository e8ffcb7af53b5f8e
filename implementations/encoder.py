"""What all models share around their layers: embedding, layer stack, pooling and heads.

Layouts are batch first: tokens `(batch, length)`, states `(batch, length, dim)`, padding masks
`(batch, length)` boolean with True at padding. A layer is a module with `forward(x, padding_mask)`
that gives states of the same shape.
"""

import math
from collections.abc import Callable, Iterable
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from implementations.decoding import Generation, State, recurrent
from implementations.task import GREY_LEVELS, PADDING, Grey, Task

Output = Literal["own", "tied", "tied-bias"]
"""A language model's last projection: by weights of its own, by the embedding's, or by these with a bias."""
Pooling = Literal["mean", "first", "last"]

Pixels = Literal["reals", "tokens"]
"""How a model reads grey values: as reals, or each as one of 256 tokens."""


def padding_mask_of(lengths: Tensor | None, length: int) -> Tensor | None:
    """`(batch, length)` mask, True beyond each row's true length; None where every position is real."""
    if lengths is None:
        return None
    return torch.arange(length, device=lengths.device) >= lengths[:, None]


class Sinusoids(nn.Module):
    """Absolute positions `[sin(t f), cos(t f)]`, `f_i = 10000^(-2i/dim)`, times a learned scale or 1."""

    inv_freq: Tensor

    def __init__(self, dim: int, scale: float | None = None) -> None:
        super().__init__()
        self.register_buffer("inv_freq", 10000.0 ** (-torch.arange(0, dim, 2).float() / dim))
        self.scale = None if scale is None else nn.Parameter(torch.tensor([scale]))

    def forward(self, length: int) -> Tensor:
        """`(length, dim)` positions."""
        return self._at(torch.arange(length, device=self.inv_freq.device, dtype=self.inv_freq.dtype))

    def at(self, time: int) -> Tensor:
        """`(dim,)`: the position of one time step."""
        return self._at(self.inv_freq.new_tensor([time]))[0]

    def _at(self, times: Tensor) -> Tensor:
        angle = torch.outer(times, self.inv_freq)
        positions = torch.cat([angle.sin(), angle.cos()], dim=-1)
        return positions if self.scale is None else positions * self.scale


class FairseqSinusoids(Sinusoids):
    """Sinusoids down to a frequency of 1/10000, `f_i = 10000^(-i/(dim/2 − 1))`, with times from `first`.

    fairseq counts the time steps of tokens from 2, one after the padding token's number.
    """

    def __init__(self, dim: int, first: int = 2) -> None:
        super().__init__(dim)
        half = dim // 2
        self.inv_freq = 10000.0 ** (-torch.arange(half).float() / (half - 1))
        self.first = first

    def _at(self, times: Tensor) -> Tensor:
        return super()._at(times + self.first)


class LearnedPositions(nn.Module):
    """A learned vector a position, `N(0, dim^-½)`."""

    def __init__(self, length: int, dim: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(length, dim) * dim**-0.5)

    def forward(self, length: int) -> Tensor:
        """`(length, dim)` positions."""
        return self.weight[:length]

    def at(self, time: int) -> Tensor:
        """`(dim,)`: the position of one time step."""
        return self.weight[time]


class RealEmbedding(nn.Module):
    """A real number `x` a time step becomes `x·weight + bias`: (batch, length) to (batch, length, dim).

    Weight `N(0, 1)` and bias `N(0, 0.1)`, as in fairseq's LRA models.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(dim))
        self.bias = nn.Parameter(torch.randn(dim) * 0.1)

    def forward(self, x: Tensor) -> Tensor:
        return torch.addcmul(self.bias, x.unsqueeze(-1), self.weight)


class GreyEmbedding(nn.Embedding):
    """A grey value as a real becomes the vector of its level: (batch, length) to (batch, length, dim)."""

    def __init__(self, grey: Grey, dim: int) -> None:
        super().__init__(GREY_LEVELS, dim)
        nn.init.normal_(self.weight, std=dim**-0.5)
        self.grey = grey

    def forward(self, x: Tensor) -> Tensor:
        white = GREY_LEVELS - 1
        levels = (x * self.grey.deviation + self.grey.mean) * white
        return super().forward(levels.round().clamp(0, white).long())


def token_embedding(vocabulary: int, dim: int) -> nn.Embedding:
    """`N(0, dim^-½)`."""
    embedding = nn.Embedding(vocabulary, dim)
    nn.init.normal_(embedding.weight, std=dim**-0.5)
    return embedding


class Encoder(nn.Module):
    """Embedding, positions, norm, dropout; layers and a final norm; padded states are zero before and after.

    embeds_padding: padded states enter the layers as the padding token's embedding (S4).
    pad_to: the length is padded with the padding token to a multiple of this, and masked, where the
    sequence is longer (MEGA-chunk). Returns states of the padded length.
    """

    def __init__(
        self,
        embedding: nn.Module,
        layers: Iterable[nn.Module],
        *,
        positions: nn.Module | None = None,
        embedding_norm: nn.Module | None = None,
        final_norm: nn.Module | None = None,
        embedding_scale: float = 1.0,
        dropout: float = 0.0,
        embeds_padding: bool = False,
        pad_to: int = 1,
        padding_token: int = PADDING,
    ) -> None:
        super().__init__()
        self.embedding = embedding
        self.positions = positions
        self.embedding_norm = embedding_norm
        self.layers = nn.ModuleList(layers)
        self.final_norm = final_norm
        self.embedding_scale = embedding_scale
        self.dropout = nn.Dropout(dropout)
        self.embeds_padding = embeds_padding
        self.pad_to = pad_to
        self.padding_token = padding_token

    def forward(self, inputs: Tensor, lengths: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """inputs `(batch, length)`, lengths `(batch,)` or None where every position is real.

        Returns states `(batch, length, dim)` and the padding mask `(batch, length)` or None.
        """
        x, mask = self._embed(inputs, lengths)
        for layer in self.layers:
            x = layer(x, mask)
        return self._finish(x, mask), mask

    def prefill(self, tokens: Tensor, room: int) -> tuple[Tensor, State]:
        """States `(batch, length, dim)` of a prompt `(batch, length)`, and the layers' state after it.

        room: time steps that the state must be able to hold, the prompt included.
        """
        length = tokens.shape[1]
        x, mask = self._embed(tokens, None)
        parts = []
        for layer in self.layers:
            parts.append(recurrent(layer).state_after(x[:, :length], room))
            x = layer(x, mask)
        return self._finish(x, mask)[:, :length], State(parts=tuple(parts))

    def initial_state(self, batch: int, room: int) -> State:
        """The layers' state before the first token."""
        device = next(self.parameters()).device
        nothing = self.embedding(torch.zeros(batch, 0, dtype=torch.int64, device=device))
        return State(parts=tuple(recurrent(layer).state_after(nothing, room) for layer in self.layers))

    def step(self, tokens: Tensor, state: State, time: int) -> Tensor:
        """States `(batch, dim)` of tokens `(batch,)` at a time step; moves the layers' state on."""
        position = None if self.positions is None else self.positions.at(time)  # type: ignore[operator]
        x = self._enter(tokens, position)
        for layer, part in zip(self.layers, state.parts, strict=True):
            x = recurrent(layer).step(x, part, time)
        return self._finish(x, None)

    def _embed(self, inputs: Tensor, lengths: Tensor | None) -> tuple[Tensor, Tensor | None]:
        inputs, lengths = self._pad(inputs, lengths)
        mask = padding_mask_of(lengths, inputs.shape[1])
        x = self._enter(inputs, None if self.positions is None else self.positions(inputs.shape[1]))
        return (x if self.embeds_padding else _zero_padding(x, mask)), mask

    def _enter(self, inputs: Tensor, positions: Tensor | None) -> Tensor:
        x: Tensor = self.embedding(inputs)
        if self.embedding_scale != 1.0:
            x = x * self.embedding_scale
        if positions is not None:
            x = x + positions
        if self.embedding_norm is not None:
            x = self.embedding_norm(x)
        dropped: Tensor = self.dropout(x)
        return dropped

    def _finish(self, x: Tensor, mask: Tensor | None) -> Tensor:
        return _zero_padding(x if self.final_norm is None else self.final_norm(x), mask)

    def _pad(self, inputs: Tensor, lengths: Tensor | None) -> tuple[Tensor, Tensor | None]:
        batch, length = inputs.shape[:2]
        missing = -length % self.pad_to
        if missing == 0 or length < self.pad_to:
            return inputs, lengths
        if lengths is None:
            lengths = torch.full((batch,), length, device=inputs.device)
        return F.pad(inputs, (0, missing), value=self.padding_token), lengths


def _zero_padding(x: Tensor, mask: Tensor | None) -> Tensor:
    return x if mask is None else x.masked_fill(mask.unsqueeze(-1), 0.0)


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
        """Take in a prompt `(batch, length)` by the parallel form, of one token at least.

        Returns logits `(batch, length, vocabulary)` and what steps go on from. room: tokens that can be held,
        the prompt included. Raises NoRecurrentForm.
        """
        states, state = self.encoder.prefill(prompt, room)
        return self.projection(states), Generation(prompt.shape[1], state)

    @torch.no_grad()
    def step(self, tokens: Tensor, generation: Generation) -> Tensor:
        """Take in one token a sequence, `(batch,)`, and move on: logits `(batch, vocabulary)` of the next.

        Equal to `forward` of the whole sequence at this place. Dropout must be off.
        """
        logits: Tensor = self.projection(self.encoder.step(tokens, generation.state, generation.time))
        generation.time += 1
        return logits


def embed(task: Task, dim: int, pixels: Pixels = "reals") -> nn.Module:
    """The embedding that a task's inputs need.

    pixels: how grey values are read. Raises ValueError if reals that are not grey levels are to be tokens.
    """
    if task.input == "tokens":
        return token_embedding(task.vocabulary, dim)
    if pixels == "reals":
        return RealEmbedding(dim)
    if task.grey is None:
        raise ValueError(f"the reals of the task {task.name!r} are not grey levels: pixels can't be 'tokens'")
    return GreyEmbedding(task.grey, dim)


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
    """The encoder under the head that the task asks for: classifier, two towers or language model.

    dim: width of the encoder's states; hidden, dropout: width and dropout of the classifier's hidden layer;
    output: the language model's last projection.
    """
    if task.head == "language-model":
        return LanguageModel(encoder, dim, task.vocabulary, output)
    if task.head == "classifier":
        return Classifier(encoder, MLPHead(dim, hidden, task.classes, dropout=dropout), pooling)
    width = dim * (4 if interactions else 2)
    return TwoTower(encoder, MLPHead(width, hidden, task.classes, dropout=dropout), pooling, interactions)


def parameter_count(model: nn.Module) -> int:
    return sum(math.prod(p.shape) for p in model.parameters())
