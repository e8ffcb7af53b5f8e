"""Decoding: a language model takes one token after another, and keeps a state of those before.

A layer that can do so is `Recurrent`. Its state holds what depends on the sequence, and is updated in place,
as a cache is; `LanguageModel` (implementations/heads.py) puts the layers' states together. A module that
cannot says why in an attribute `no_recurrent_form`.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor


class NoRecurrentForm(NotImplementedError):
    """A model that cannot take one token after another; the message says why."""


@dataclass(frozen=True)
class State:
    """State that a module keeps of the sequence so far."""

    memory: tuple[Tensor, ...] = ()
    """Tensors that depend on the sequence; a step changes them in place."""
    constants: tuple[Tensor, ...] = ()
    """Tensors that depend on the parameters alone, computed once."""
    parts: tuple["State", ...] = ()
    """States of submodules."""

    def tensors(self) -> Iterator[Tensor]:
        """All memory, including that of the parts."""
        yield from self.memory
        for part in self.parts:
            yield from part.tensors()


@dataclass
class Generation:
    """A batch of sequences that are being generated."""

    time: int
    """Tokens taken in so far."""
    state: State

    def rewind(self, time: int) -> None:
        """Go back to a time; the caller restores the state's tensors to what they were then."""
        self.time = time

    @property
    def bytes(self) -> int:
        """Bytes of all memory, for the whole batch; caches count in full, including room that is free."""
        return sum(tensor.numel() * tensor.element_size() for tensor in self.state.tensors())


class Recurrent(Protocol):
    """A layer that computes `forward` of a sequence one time step after another."""

    def state_after(self, x: Tensor, room: int) -> State:
        """State after a sequence `(batch, length, dim)`, which may be empty.

        room: time steps that it must be able to hold, including those of x.
        """

    def step(self, x: Tensor, state: State, time: int) -> Tensor:
        """Output `(batch, dim)` at a time step, for x `(batch, dim)`; updates the state."""


def recurrent(module: Any) -> Recurrent:
    """The module as a recurrent layer. Raises NoRecurrentForm, with the reason that the module gives."""
    if hasattr(module, "state_after") and hasattr(module, "step"):
        layer: Recurrent = module
        return layer
    reason = getattr(module, "no_recurrent_form", f"{type(module).__name__} has no step")
    raise NoRecurrentForm(f"no recurrent form: {reason}")


def cache(x: Tensor, room: int, reach: int | None = None) -> Tensor:
    """`(…, length, width)` in a buffer of `(…, min(reach, room), width)`: step t lies at t modulo its size.

    reach: number of latest steps that are kept; None for all. Places without a step yet are zeros.
    """
    size = room if reach is None else min(reach, room)
    length = x.shape[-2]
    buffer = x.new_zeros(*x.shape[:-2], size, x.shape[-1])
    kept = torch.arange(max(0, length - size), length, device=x.device)
    buffer[..., kept % size, :] = x[..., kept, :]
    return buffer


def distances(time: int, size: int, device: torch.device) -> Tensor:
    """`(size,)`: steps between `time` and the writing of each place of a cache, at most size − 1."""
    return (time - torch.arange(size, device=device)) % size


def window(x: Tensor, size: int) -> Tensor:
    """The last `size` steps of `(batch, length, dim)`, zeros before the first: `(batch, size, dim)`."""
    kept = x[:, max(0, x.shape[1] - size) :]
    missing = x.new_zeros(x.shape[0], size - kept.shape[1], x.shape[2])
    return torch.cat([missing, kept], dim=1)


def push(steps: Tensor, x: Tensor) -> None:
    """Append x `(batch, dim)` to a window `(batch, size, dim)` in place; its oldest step falls out."""
    steps.copy_(torch.cat([steps[:, 1:], x.unsqueeze(1)], dim=1))
