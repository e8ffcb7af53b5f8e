"""Official Luna modules: fairseq's LunarMultiheadAttention, LunarCausalAttention and LunaEncoderLayer."""

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from implementations.models.luna import CausalLunaAttention, LunaAttention, LunaLayer
from implementations.official.options import check_options
from implementations.official.view import OfficialView, Unsupported, boolean, paths_of

Config = Mapping[str, Any]

ATTENTION_OPTIONS = ("d", "h", "ph", "L", "tie")


class ZeroCentredLayerNorm(nn.LayerNorm):
    """The norm of the fairseq-apollo fork, whose weight is stored minus 1."""

    def forward(self, x: Tensor) -> Tensor:
        return F.layer_norm(x, self.normalized_shape, self.weight + 1, self.bias, self.eps)


def multihead_attention(config: Config, variant: str | None) -> OfficialView:
    _check(config, variant, ATTENTION_OPTIONS)
    attention = _attention(config)
    return OfficialView(paths_of(attention), _length_first(attention))


def causal_attention(config: Config, variant: str | None) -> OfficialView:
    _check(config, variant, ("d", "h", "L", "tie", "parallel"))
    attention = CausalLunaAttention(config["d"], config["h"], tie_kv=config.get("tie", True))

    def call(x: Tensor, px: Tensor, padding_mask: Tensor | None = None) -> dict[str, Tensor]:
        return {"y": attention(x.transpose(0, 1), px.transpose(0, 1)).transpose(0, 1)}

    return OfficialView(paths_of(attention), call)


def layer(config: Config, variant: str | None) -> OfficialView:
    _check(config, variant, (*ATTENTION_OPTIONS, "ff", "pre", "act", "repo"))
    activation = config.get("act", "relu")
    if activation not in ("gelu", "relu"):
        raise Unsupported(f"no activation {activation!r} in the Luna layer")
    dim = config["d"]
    ours = LunaLayer(
        _attention(config), dim, config["ff"], prenorm=config.get("pre", False), activation=activation
    )
    if config.get("repo") == "apollo":
        ours.self_attn_layer_norm = ZeroCentredLayerNorm(dim)
        ours.self_atten_proj_layer_norm = ZeroCentredLayerNorm(dim)
        ours.final_layer_norm = ZeroCentredLayerNorm(dim)
    return OfficialView(paths_of(ours), _length_first(ours))


def _attention(config: Config) -> LunaAttention:
    return LunaAttention(config["d"], config["h"], config.get("ph"), config.get("tie", True))


def _check(config: Config, variant: str | None, options: tuple[str, ...]) -> None:
    if variant is not None:
        raise Unsupported(f"Luna has no variant {variant!r}")
    check_options(config, options)


def _length_first(module: nn.Module) -> Callable[..., dict[str, Tensor]]:
    def call(
        x: Tensor, px: Tensor, padding_mask: Tensor | None = None, p_padding_mask: Tensor | None = None
    ) -> dict[str, Tensor]:
        y, py = module(x.transpose(0, 1), px.transpose(0, 1), boolean(padding_mask), boolean(p_padding_mask))
        return {"y": y.transpose(0, 1), "py": py.transpose(0, 1)}

    return call


MODULES: dict[str, Callable[[Config, str | None], OfficialView]] = {
    "LunarMultiheadAttention": multihead_attention,
    "LunarCausalAttention": causal_attention,
    "LunaEncoderLayer": layer,
}
