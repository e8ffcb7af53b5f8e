"""Decoding with a cache of transformers that has its full size from the start and is written in place."""

import copy
import inspect
from collections.abc import Iterator
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from implementations.decoding import Generation, NoRecurrentForm, State

NAMES = ("cache", "past_key_values", "cache_params")
"""Names of a cache in versions of transformers."""


@dataclass(frozen=True)
class CacheState(State):
    """All tensors of a cache."""

    cache: Any = None

    def tensors(self) -> Iterator[Tensor]:
        for layer in self.cache.layers:
            yield from _tensors(vars(layer))


@dataclass
class CachedGeneration(Generation):
    """A generation whose cache also keeps plain numbers."""

    kept: list[dict[str, Any]] = field(default_factory=list)
    """Plain numbers of each layer, after the prompt."""

    @classmethod
    def after_prompt(cls, time: int, cache: Any) -> "CachedGeneration":
        return cls(time, CacheState(cache=cache), [_plain(vars(layer)) for layer in cache.layers])

    @property
    def cache(self) -> Any:
        assert isinstance(self.state, CacheState)
        return self.state.cache

    def rewind(self, time: int) -> None:
        super().rewind(time)
        for layer, kept in zip(self.cache.layers, self.kept, strict=True):
            vars(layer).update(copy.deepcopy(kept))


class CachedLanguageModel(nn.Module):
    """A language model of transformers: tokens `(batch, length)` to logits `(batch, length, vocabulary)`."""

    def __init__(self, model: nn.Module, library: ModuleType) -> None:
        super().__init__()
        self.model = model
        self._library = library

    def forward(self, inputs: Tensor, lengths: Tensor | None = None) -> Tensor:
        logits: Tensor = self.model(input_ids=inputs, use_cache=False).logits
        return logits

    @torch.no_grad()
    def prefill(self, prompt: Tensor, room: int) -> tuple[Tensor, Generation]:
        """See `LanguageModel.prefill`. Raises NoRecurrentForm for a model without such a cache."""
        cache = self._cache(room)
        logits: Tensor = self.model(input_ids=prompt, use_cache=True, **{self._name: cache}).logits
        return logits, CachedGeneration.after_prompt(prompt.shape[1], cache)

    @torch.no_grad()
    def step(self, tokens: Tensor, generation: CachedGeneration) -> Tensor:
        """See `LanguageModel.step`."""
        options = {self._name: generation.cache}
        logits: Tensor = self.model(input_ids=tokens[:, None], use_cache=True, **options).logits[:, -1]
        generation.time += 1
        return logits

    @property
    def _name(self) -> str:
        takes = inspect.signature(self.model.forward).parameters
        name = next((name for name in NAMES if name in takes), None)
        if name is None:
            raise NoRecurrentForm(f"no recurrent form: {type(self.model).__name__} takes no cache")
        return name

    def _cache(self, room: int) -> Any:
        if any(hasattr(module, "_setup_cache") for module in self.model.modules()):
            raise NoRecurrentForm(
                f"no recurrent form: {type(self.model).__name__} keeps states in modules, outside its cache"
            )
        try:
            return self._library.StaticCache(config=self.model.config, max_cache_len=room)
        except Exception as error:
            reason = " ".join(f"{type(error).__name__}: {error}".split())
            raise NoRecurrentForm(
                f"no recurrent form: transformers makes no static cache ({reason})"
            ) from error


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, dict):
        for part in value.values():
            yield from _tensors(part)


def _plain(values: dict[str, Any]) -> dict[str, Any]:
    """Numbers, and mappings of numbers, among some values."""
    found = {}
    for name, value in values.items():
        parts = value.values() if isinstance(value, dict) else (value,)
        if all(isinstance(part, int | float | bool) for part in parts):
            found[name] = copy.deepcopy(value)
    return found
