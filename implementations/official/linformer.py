"""Official Linformer modules: lucidrains' LinformerSelfAttention, and Linformer of depth 1."""

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor, nn

from implementations.models.linformer import LinformerAttention
from implementations.models.transformer import TransformerLayer
from implementations.official.options import check_options
from implementations.official.view import OfficialView, Unsupported, paths_of

Config = Mapping[str, Any]


def self_attention(config: Config, variant: str | None) -> OfficialView:
    attention = _attention(config, variant)

    def call(x: Tensor, context: Tensor | None = None) -> dict[str, Tensor]:
        return {"y": attention(x, context=context)}

    return OfficialView(paths_of(attention), call)


def layer(config: Config, variant: str | None) -> OfficialView:
    attention = _attention(config, variant)
    ours = TransformerLayer(attention, config["d"], config["d"] * 4, prenorm=True)
    paths: dict[str, nn.Module | nn.Parameter] = {
        "net.layers.0.0.norm": ours.self_attn_layer_norm,
        "net.layers.0.0.fn": attention,
        "net.layers.0.1.norm": ours.final_layer_norm,
        "net.layers.0.1.fn.w1": ours.fc1,
        "net.layers.0.1.fn.w2": ours.fc2,
    }
    return OfficialView(paths, lambda x: {"y": ours(x)})


def _attention(config: Config, variant: str | None) -> LinformerAttention:
    if variant is not None:
        raise Unsupported(f"the Linformer has no variant {variant!r}")
    check_options(config, ("d", "h", "dh", "N", "k", "share", "one", "ctx"))
    return LinformerAttention(
        config["d"],
        config["h"],
        config["N"],
        config["k"],
        inner=config["h"] * config["dh"] if "dh" in config else None,
        share_kv=config.get("share", False),
        one_kv_head=config.get("one", False),
    )


MODULES: dict[str, Callable[[Config, str | None], OfficialView]] = {
    "LinformerSelfAttention": self_attention,
    "Linformer": layer,
}
