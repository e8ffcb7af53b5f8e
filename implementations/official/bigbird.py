"""Official BigBird modules: transformers' BigBirdBlockSparseAttention and BigBirdLayer."""

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor, nn

from implementations.models.bigbird import BigBirdMixer
from implementations.models.transformer import TransformerLayer
from implementations.official.options import check_options
from implementations.official.view import OfficialView, Unsupported, boolean
from implementations.ops.attention import MultiHeadAttention, merge_heads

Config = Mapping[str, Any]
Paths = dict[str, nn.Module | nn.Parameter]


class RecordedBlocks(BigBirdMixer):
    """The mixer with random blocks `(heads, blocks − 2, r)` that are given, not drawn, at any length."""

    given: Tensor

    def __init__(self, heads: int, max_length: int, block: int, random_blocks: int) -> None:
        super().__init__(heads, max_length, block, random_blocks)
        self.full_length = 0

    def random_blocks(self, blocks: int) -> Tensor:
        return self.given


def block_sparse_attention(config: Config, variant: str | None) -> OfficialView:
    attention, mixer = _attention(config, variant)

    def call(x: Tensor, rand_attn: Tensor, padding_mask: Tensor | None = None) -> dict[str, Tensor]:
        mixer.given = rand_attn
        return {"y": merge_heads(mixer(*attention.project(x), boolean(padding_mask)))}

    return OfficialView(_projections(attention), call)


def layer(config: Config, variant: str | None) -> OfficialView:
    attention, mixer = _attention(config, variant)
    ours = TransformerLayer(attention, config["d"], config["ff"], activation="gelu_tanh", norm_epsilon=1e-12)
    paths: Paths = {
        **_projections(attention, "attention.self."),
        "attention.output.dense": attention.out_proj,
        "attention.output.LayerNorm": ours.self_attn_layer_norm,
        "intermediate.dense": ours.fc1,
        "output.dense": ours.fc2,
        "output.LayerNorm": ours.final_layer_norm,
    }

    def call(x: Tensor, rand_attn: Tensor, padding_mask: Tensor | None = None) -> dict[str, Tensor]:
        mixer.given = rand_attn
        return {"y": ours(x, boolean(padding_mask))}

    return OfficialView(paths, call)


def _attention(config: Config, variant: str | None) -> tuple[MultiHeadAttention, RecordedBlocks]:
    if variant is not None:
        raise Unsupported(f"BigBird has no variant {variant!r}")
    check_options(config, ("d", "h", "bs", "r", "ff", "pattern"))
    mixer = RecordedBlocks(config["h"], config["T"], config["bs"], config["r"])
    return MultiHeadAttention(config["d"], config["h"], mixer), mixer


def _projections(attention: MultiHeadAttention, prefix: str = "") -> Paths:
    return {
        f"{prefix}query": attention.q_proj,
        f"{prefix}key": attention.k_proj,
        f"{prefix}value": attention.v_proj,
    }


MODULES: dict[str, Callable[[Config, str | None], OfficialView]] = {
    "BigBirdBlockSparseAttention": block_sparse_attention,
    "BigBirdLayer": layer,
}
