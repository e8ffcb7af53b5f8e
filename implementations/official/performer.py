"""Official Performer modules: lucidrains' FastAttention, SelfAttention and Performer of depth 1."""

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor, nn

from implementations.models.performer import FavorMixer
from implementations.models.transformer import TransformerLayer
from implementations.official.options import check_options
from implementations.official.view import OfficialView, Unsupported, boolean, paths_of
from implementations.ops.attention import MultiHeadAttention

Config = Mapping[str, Any]

ATTENTION_NAMES = {
    "q_proj": "to_q",
    "k_proj": "to_k",
    "v_proj": "to_v",
    "out_proj": "to_out",
    "mixer": "fast_attention",
}
IGNORED = ("calls_since_last_redraw", "projection_matrix")
"""Buffers without a counterpart: the counter of redraws, and the projection of an attention without one."""
OPTIONS = ("d", "h", "dh", "m", "kernel", "causal", "mult", "qkv_bias", "attn_out_bias")


def fast_attention(config: Config, variant: str | None) -> OfficialView:
    mixer = _mixer(config, variant)

    def call(q: Tensor, k: Tensor, v: Tensor) -> dict[str, Tensor]:
        return {"y": mixer(q, k, v)}

    return OfficialView({"": mixer}, call, IGNORED)


def self_attention(config: Config, variant: str | None) -> OfficialView:
    attention = _attention(config, variant, qkv_bias=False)
    return OfficialView(paths_of(attention, renames=ATTENTION_NAMES), _batch_first(attention), IGNORED)


def layer(config: Config, variant: str | None) -> OfficialView:
    attention = _attention(config, variant, qkv_bias=True)
    ours = TransformerLayer(attention, config["d"], config["d"] * config.get("mult", 4), prenorm=True)
    paths: dict[str, nn.Module | nn.Parameter] = {
        "net.layers.0.0.norm": ours.self_attn_layer_norm,
        **paths_of(attention, "net.layers.0.0.fn", ATTENTION_NAMES),
        "net.layers.0.1.norm": ours.final_layer_norm,
        "net.layers.0.1.fn.fn.w1": ours.fc1,
        "net.layers.0.1.fn.fn.w2": ours.fc2,
    }
    return OfficialView(paths, _batch_first(ours), IGNORED)


def _mixer(config: Config, variant: str | None) -> FavorMixer:
    if variant is not None:
        raise Unsupported(f"the Performer has no variant {variant!r}")
    check_options(config, OPTIONS)
    kernel = config.get("kernel", "softmax")
    if kernel not in ("softmax", "relu", "none"):
        raise Unsupported(f"no kernel {kernel!r} in the Performer")
    return FavorMixer(_head_width(config), config.get("m"), kernel, config.get("causal", False))


def _attention(config: Config, variant: str | None, qkv_bias: bool) -> MultiHeadAttention:
    return MultiHeadAttention(
        config["d"],
        config["h"],
        _mixer(config, variant),
        inner=config["h"] * _head_width(config),
        bias=config.get("attn_out_bias", True),
        qkv_bias=config.get("qkv_bias", qkv_bias),
    )


def _head_width(config: Config) -> int:
    return int(config["dh"]) if "dh" in config else int(config["d"]) // int(config["h"])


def _batch_first(module: nn.Module) -> Callable[..., dict[str, Tensor]]:
    def call(x: Tensor, padding_mask: Tensor | None = None) -> dict[str, Tensor]:
        return {"y": module(x, boolean(padding_mask))}

    return call


MODULES: dict[str, Callable[[Config, str | None], OfficialView]] = {
    "FastAttention": fast_attention,
    "SelfAttention": self_attention,
    "Performer": layer,
}
