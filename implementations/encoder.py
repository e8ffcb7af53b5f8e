"""Parts that all models share around their layers: embedding, positions, the stack of layers, padding.

Layouts are batch first: tokens `(batch, length)`, states `(batch, length, dim)`, padding masks
`(batch, length)` boolean with True at padding. A layer is a module with `forward(x, padding_mask)`
that gives states of the same shape.
"""

import math
from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from implementations.decoding import State, recurrent
from implementations.task import PADDING


def padding_mask_of(lengths: Tensor | None, length: int) -> Tensor | None:
    """`(batch, length)` mask, True beyond each row's true length; None if every position is real."""
    if lengths is None:
        return None
    return torch.arange(length, device=lengths.device) >= lengths[:, None]


class Encoder(nn.Module):
    """Embedding, positions, norm, dropout; layers and a final norm; padded states are zero before and after.

    embeds_padding: padded states enter the layers as the padding token's embedding (S4).
    pad_to: a longer sequence is padded with the padding token to a multiple of this, and masked
    (MEGA-chunk). Returns states of the padded length.
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
        """inputs `(batch, length)`, lengths `(batch,)` or None if every position is real.

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
        """States `(batch, dim)` of tokens `(batch,)` at a time step; updates the layers' state."""
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
            x = x + positions.to(x.dtype)
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


def parameter_count(model: nn.Module) -> int:
    return sum(math.prod(p.shape) for p in model.parameters())
