"""Official Reformer modules: lucidrains' LSHAttention, LSHSelfAttention and Reformer of depth 1."""

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor, nn

from implementations.models.reformer import (
    AttentionStep,
    FeedForwardStep,
    ReformerAttention,
    ReformerConfig,
    ReformerStack,
)
from implementations.official.options import check_options
from implementations.official.view import OfficialView, Unsupported, boolean, paths_of
from implementations.ops.lsh_attention import LSHAttention, hash_buckets, lsh_attention, with_previous

Config = Mapping[str, Any]


def hashed_attention(config: Config, variant: str | None) -> OfficialView:
    _check(config, variant, ("dh", "bs", "nh", "causal", "attn", "dup", "across"))

    def call(
        qk: Tensor, v: Tensor, rotations: Tensor, padding_mask: Tensor | None = None
    ) -> dict[str, Tensor]:
        buckets = hash_buckets(qk, rotations)
        result = lsh_attention(
            qk,
            v,
            buckets,
            config["bs"],
            padding_mask=boolean(padding_mask),
            causal=config.get("causal", False),
            across_buckets=config.get("across", True),
            allow_duplicates=config.get("dup", True),
        )
        outputs = {"y": result.output, "buckets": buckets.flatten(1)}
        if config.get("attn", False):
            outputs["attn"] = attention_matrix(result)
        return outputs

    return OfficialView({}, call)


def attention_matrix(result: LSHAttention) -> Tensor:
    """`(rows, length, length)`: the weight of each key for each query, over all rounds."""
    rows, rounds, length = result.round_weights.shape
    keys = with_previous(result.positions).unsqueeze(-2)
    pairs = (result.positions.unsqueeze(-1) * length + keys).view(rows * rounds, -1)
    weights = result.weights.reshape(rows * rounds, -1)
    by_round = weights.new_zeros(rows * rounds, length * length).scatter_add(1, pairs, weights)
    return (by_round.view(rows, rounds, length, length) * result.round_weights.unsqueeze(-1)).sum(dim=1)


def self_attention(config: Config, variant: str | None) -> OfficialView:
    _check(config, variant, ("d", "h", "bs", "nh", "causal", "dup", "across"))
    attention = ReformerAttention(
        config["d"],
        config["h"],
        config["T"],
        bucket=config["bs"],
        hashes=config["nh"],
        causal=config.get("causal", False),
        across_buckets=config.get("across", True),
        allow_duplicates=config.get("dup", True),
    )

    def call(x: Tensor, rotations: Tensor, padding_mask: Tensor | None = None) -> dict[str, Tensor]:
        attention.rotations = rotations
        y, buckets = attention(x, boolean(padding_mask))
        return {"y": y} if buckets is None else {"y": y, "buckets": buckets.flatten(1)}

    paths = {name: target for name, target in paths_of(attention).items() if name != "rotations"}
    return OfficialView(paths, call)


def layer(config: Config, variant: str | None) -> OfficialView:
    _check(config, variant, ("d", "h", "bs", "nh", "mult", "causal", "dup", "across"))
    stack = ReformerStack(_layer_config(config), config["T"], config.get("causal", False))
    attend, feed_forward = stack.steps
    assert isinstance(attend, AttentionStep)
    assert isinstance(feed_forward, FeedForwardStep)
    block = "layers.blocks.0"
    paths: dict[str, nn.Module | nn.Parameter] = {
        **paths_of(attend, f"{block}.f.net"),
        f"{block}.g.net.norm": feed_forward.norm,
        f"{block}.g.net.fn.fn.w1": feed_forward.w1,
        f"{block}.g.net.fn.fn.w2": feed_forward.w2,
    }

    def call(x: Tensor, rotations: Tensor, padding_mask: Tensor | None = None) -> dict[str, Tensor]:
        attend.fn.rotations = rotations
        return {"y": stack(x, boolean(padding_mask))}

    return OfficialView(paths, call)


def _layer_config(config: Config) -> ReformerConfig:
    return ReformerConfig(
        layers=1,
        dim=config["d"],
        heads=config["h"],
        ffn=config["d"] * config.get("mult", 4),
        qkv=config["d"],
        bucket=config["bs"],
        hashes=config["nh"],
        across_buckets=config.get("across", True),
        allow_duplicates=config.get("dup", True),
        dropout=0.0,
        attention_dropout=0.0,
    )


def _check(config: Config, variant: str | None, options: tuple[str, ...]) -> None:
    if variant is not None:
        raise Unsupported(f"the Reformer has no variant {variant!r}")
    check_options(config, options)


MODULES: dict[str, Callable[[Config, str | None], OfficialView]] = {
    "LSHAttention": hashed_attention,
    "LSHSelfAttention": self_attention,
    "Reformer": layer,
}
