"""Official Transformer-XL modules: attention, layer, and the model over consecutive segments."""

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor, nn

from implementations.embeddings import token_embedding
from implementations.models.transformer_xl import TransformerXLConfig, TransformerXLLayer, TransformerXLStack
from implementations.official.options import check_options
from implementations.official.view import OfficialView, Unsupported, paths_of
from implementations.ops.segments import remember

Config = Mapping[str, Any]

LAYER_OPTIONS = ("what", "d", "h", "dh", "ff", "M", "pre", "same_length", "mem_len", "clamp_len")
MODEL_OPTIONS = ("V", "nl", "d", "h", "dh", "ff", "mem_len", "pre", "same_length", "clamp_len", "ext_len")


def attention(config: Config, variant: str | None) -> OfficialView:
    ours = _layer(config, variant).dec_attn
    return OfficialView(paths_of(ours), _length_first(ours))


def layer(config: Config, variant: str | None) -> OfficialView:
    ours = _layer(config, variant)
    return OfficialView(paths_of(ours), _length_first(ours))


def _layer(config: Config, variant: str | None) -> TransformerXLLayer:
    check_options(config, LAYER_OPTIONS)
    # The inputs say which keys are hidden and how distances are clamped.
    return TransformerXLLayer(_hyperparameters({"ff": 1, "nl": 1, **config, "same_length": False}, variant))


def _hyperparameters(config: Config, variant: str | None) -> TransformerXLConfig:
    if variant is not None:
        raise Unsupported(f"Transformer-XL has no variant {variant!r}")
    return TransformerXLConfig(
        layers=config["nl"],
        dim=config["d"],
        heads=config["h"],
        d_head=config.get("dh"),
        ffn=config["ff"],
        memory=config.get("mem_len", 0),
        same_length=config.get("same_length", False),
        clamp_length=_positive(config.get("clamp_len")),
        prenorm=config.get("pre", False),
        dropout=0.0,
    )


def _positive(length: int | None) -> int | None:
    """The length, or None for 0 and -1, with which the official code clamps nothing."""
    return length if length is not None and length > 0 else None


def _length_first(module: nn.Module) -> Callable[..., dict[str, Tensor]]:
    def call(
        x: Tensor,
        r: Tensor,
        r_w_bias: Tensor,
        r_r_bias: Tensor,
        attn_mask: Tensor | None = None,
        mems: Tensor | None = None,
    ) -> dict[str, Tensor]:
        x = x.transpose(0, 1)
        memory = x[:, :0] if mems is None else mems.transpose(0, 1)
        y = module(x, memory, r.squeeze(1), r_w_bias, r_r_bias, _hidden(attn_mask))
        return {"y": y.transpose(0, 1)}

    return call


def _hidden(attn_mask: Tensor | None) -> Tensor | None:
    """`(q, k)`, or `(q, k, batch)` if rows differ, to a mask that broadcasts to `(batch, heads, q, k)`."""
    if attn_mask is None or attn_mask.dim() == 2:
        return None if attn_mask is None else attn_mask.bool()
    return attn_mask.permute(2, 0, 1).unsqueeze(1).bool()


def model(config: Config, variant: str | None) -> OfficialView:
    """Embedding, layers and memory, without the adaptive softmax."""
    check_options(config, MODEL_OPTIONS)
    hyperparameters = _hyperparameters(config, variant)
    stack = TransformerXLStack(hyperparameters)
    embedding = token_embedding(config["V"], config["d"])

    def call(**segments: Tensor) -> dict[str, Tensor]:
        outputs: dict[str, Tensor] = {}
        # The official model also remembers what its last layer gives, which nothing reads.
        memory = [embedding(segments["tokens1"].T)[:, :0]] * (config["nl"] + 1)
        for number in range(1, len(segments) + 1):
            tokens = segments[f"tokens{number}"]
            states = stack.states(embedding(tokens.T) * config["d"] ** 0.5, memory[:-1], stack.reach())
            outputs[f"h{number}"] = states[-1].transpose(0, 1)
            # The extended context is seen again as the start of the next segment, and so not remembered.
            memory = [
                remember(before, state[:, : len(tokens) - config.get("ext_len", 0)], hyperparameters.memory)
                for before, state in zip(memory, states, strict=True)
            ]
        return outputs | {f"mems{i}": remembered.transpose(0, 1) for i, remembered in enumerate(memory)}

    return OfficialView({**paths_of(stack), "word_emb.emb_layers.0": embedding}, call)


MODULES: dict[str, Callable[[Config, str | None], OfficialView]] = {
    "RelPartialLearnableMultiHeadAttn": attention,
    "RelPartialLearnableDecoderLayer": layer,
    "MemTransformerLM": model,
}
