"""Official Adaptive Span modules: attention of heads, with its projections, layer, and the whole model."""

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor, nn

from implementations.models.adaptive_span import (
    AdaptiveMask,
    AdaptiveSpanConfig,
    AdaptiveSpanLayer,
    AdaptiveSpanStack,
    windows,
)
from implementations.official.options import check_options
from implementations.official.view import OfficialView, Unsupported

Config = Mapping[str, Any]

OPTIONS = ("what", "V", "nl", "d", "h", "ff", "span", "adapt", "ramp", "spans", "cache_adapt")
SPAN_LOSS = 2e-3
"""Coefficient of the recorded span loss."""


def heads_attention(config: Config, variant: str | None) -> OfficialView:
    hyperparameters = _hyperparameters(config, variant)
    ours = AdaptiveSpanLayer(hyperparameters).attn.attn

    def call(query: Tensor, key: Tensor, value: Tensor, key_pe: Tensor) -> dict[str, Tensor]:
        q, k, v = (x.view(-1, hyperparameters.heads, *x.shape[1:]) for x in (query, key, value))
        return {"y": ours(q, k, v, key_pe, _window(ours, key_pe)).flatten(0, 1), **_span_loss(ours)}

    return OfficialView(_paths(ours), call)


def multi_head_attention(config: Config, variant: str | None) -> OfficialView:
    return _over_cache(AdaptiveSpanLayer(_hyperparameters(config, variant)).attn)


def layer(config: Config, variant: str | None) -> OfficialView:
    return _over_cache(AdaptiveSpanLayer(_hyperparameters(config, variant)))


def model(config: Config, variant: str | None) -> OfficialView:
    stack = AdaptiveSpanStack(_hyperparameters(config, variant))
    embedding = nn.Embedding(config["V"], config["d"])
    projection = nn.Linear(config["d"], config["V"])

    def call(**inputs: Tensor) -> dict[str, Tensor]:
        memory = [inputs[f"h_cache{i}"] for i in range(len(stack.layers))]
        outputs = _span_loss(stack)
        for number in range(1, 1 + sum(name.startswith("tokens") for name in inputs)):
            states, memory = stack.advance(embedding(inputs[f"tokens{number}"]), memory)
            outputs[f"logp{number}"] = projection(states).log_softmax(dim=-1)
        return outputs

    paths = {**_paths(stack), "key_pe": stack.key_pe, "in_emb": embedding, "out_emb": projection}
    return OfficialView(paths, call)


def _hyperparameters(config: Config, variant: str | None) -> AdaptiveSpanConfig:
    if variant is not None:
        raise Unsupported(f"Adaptive Span has no variant {variant!r}")
    check_options(config, OPTIONS)
    return AdaptiveSpanConfig(
        layers=config.get("nl", 1),
        dim=config["d"],
        heads=config["h"],
        ffn=config.get("ff", 1),
        span=config["span"],
        adaptive=config.get("adapt", False),
        ramp=config.get("ramp", 32),
        dropout=0.0,
    )


def _over_cache(ours: nn.Module) -> OfficialView:
    def call(x: Tensor, h_cache: Tensor, key_pe: Tensor) -> dict[str, Tensor]:
        return {"y": ours(x, h_cache, key_pe, _window(ours, key_pe)), **_span_loss(ours)}

    return OfficialView(_paths(ours), call)


def _paths(ours: nn.Module) -> dict[str, nn.Module | nn.Parameter]:
    """Every linear map, norm and mask under its official path."""
    return {
        name.replace("mask", "adaptive_span._mask"): part
        for name, part in ours.named_modules()
        if isinstance(part, nn.Linear | nn.LayerNorm | AdaptiveMask)
    }


def _masks(ours: nn.Module) -> list[AdaptiveMask]:
    return [part for part in ours.modules() if isinstance(part, AdaptiveMask)]


def _window(ours: nn.Module, key_pe: Tensor) -> int:
    return max(windows(_masks(ours)), default=key_pe.shape[-1])


def _span_loss(ours: nn.Module) -> dict[str, Tensor]:
    losses = [SPAN_LOSS * mask.loss() for mask in _masks(ours)]
    return {"span_loss": sum(losses[1:], start=losses[0])} if losses else {}


MODULES: dict[str, Callable[[Config, str | None], OfficialView]] = {
    "SeqAttention": heads_attention,
    "MultiHeadSeqAttention": multi_head_attention,
    "TransformerSeqLayer": layer,
    "TransformerSeq": model,
}
