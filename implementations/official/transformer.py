"""Official Transformer modules: fairseq's multi-head attention, sentence encoder layer and encoder layer."""

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor

from implementations.models.transformer import TransformerLayer
from implementations.official.options import check_options
from implementations.official.view import OfficialView, Unsupported, boolean, paths_of
from implementations.ops.attention import MultiHeadAttention, SDPAMixer, SoftmaxMixer

Config = Mapping[str, Any]


def _attention(config: Config, variant: str | None) -> MultiHeadAttention:
    if variant not in (None, "sdpa"):
        raise Unsupported(f"the Transformer has no variant {variant!r}")
    check_options(config, ("d", "h", "ff", "act", "causal", "need_weights", "wstd"))
    mixer = SoftmaxMixer if variant is None else SDPAMixer
    return MultiHeadAttention(config["d"], config["h"], mixer(causal=config.get("causal", False)))


def multihead_attention(config: Config, variant: str | None) -> OfficialView:
    attention = _attention(config, variant)
    mixer = attention.mixer
    need_weights = config.get("need_weights", False)
    if need_weights and not isinstance(mixer, SoftmaxMixer):
        raise Unsupported("scaled_dot_product_attention gives no attention weights")

    def call(x: Tensor, padding_mask: Tensor | None = None) -> dict[str, Tensor]:
        states, mask = x.transpose(0, 1), boolean(padding_mask)
        outputs = {"y": attention(states, mask).transpose(0, 1)}
        if need_weights and isinstance(mixer, SoftmaxMixer):
            q, k, _ = attention.project(states)
            outputs["attn_mean"] = mixer.weights(q, k, mask).mean(dim=1)
        return outputs

    return OfficialView(paths_of(attention), call)


def layer(config: Config, variant: str | None, prenorm: bool) -> OfficialView:
    activation = config.get("act", "gelu")
    if activation not in ("gelu", "relu"):
        raise Unsupported(f"no activation {activation!r} in the Transformer layer")
    ours = TransformerLayer(
        _attention(config, variant), config["d"], config["ff"], prenorm=prenorm, activation=activation
    )

    def call(x: Tensor, padding_mask: Tensor | None = None) -> dict[str, Tensor]:
        return {"y": ours(x.transpose(0, 1), boolean(padding_mask)).transpose(0, 1)}

    return OfficialView(paths_of(ours), call)


MODULES: dict[str, Callable[[Config, str | None], OfficialView]] = {
    "MultiheadAttention": multihead_attention,
    "TransformerSentenceEncoderLayer": lambda config, variant: layer(config, variant, prenorm=False),
    "TransformerEncoderLayer": lambda config, variant: layer(config, variant, prenorm=True),
}
