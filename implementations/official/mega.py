"""Official MEGA modules (facebookresearch/mega): layers, EMA, relative biases and the LRA classifier."""

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from implementations.embeddings import RealEmbedding, token_embedding
from implementations.encoder import Encoder
from implementations.fused.mega import FusedGatedAttention
from implementations.heads import Classifier, MLPHead, TwoTower
from implementations.kernels.cpu.ema import fused_ema
from implementations.models.mega import (
    FeedForward,
    MegaConfig,
    MegaLayer,
    MovingAverageGatedAttention,
    RotaryRelativeBias,
    SimpleRelativeBias,
)
from implementations.official.view import OfficialView, Unsupported, named, paths_of
from implementations.ops.ema import DampedEMA
from implementations.ops.norms import SequenceNorm

Config = Mapping[str, Any]
Paths = dict[str, nn.Module | nn.Parameter]

SHARED = {
    "chunk_size": "chunk",
    "truncation": "truncation",
    "rel_pos_bias": "relative_bias",
    "attention_activation": "attention",
    "norm_type": "norm",
    "prenorm": "prenorm",
}
ATTENTION = SHARED | {
    "embed_dim": "dim",
    "zdim": "attention_dim",
    "hdim": "hidden",
    "ndim": "states",
    "norm_affine": "norm_affine",
}
ENCODER_LAYER = SHARED | {
    "embedding_dim": "dim",
    "hidden_dim": "hidden",
    "ffn_hidden_dim": "ffn",
    "z_dim": "attention_dim",
    "n_dim": "states",
}
CLASSIFIER = {
    "encoder_layers": "layers",
    "encoder_embed_dim": "dim",
    "encoder_hidden_dim": "hidden",
    "encoder_ffn_embed_dim": "ffn",
    "z_dim": "attention_dim",
    "n_dim": "states",
    "chunk_size": "chunk",
    "truncation_length": "truncation",
    "rel_pos_bias": "relative_bias",
    "attention_activation_fn": "attention",
    "norm_type": "norm",
    "encoder_normalize_before": "prenorm",
}
"""Official keyword arguments by class, with our names for them."""

ENCODER_LAYER_DEFAULTS = {
    "embedding_dim": 128,
    "hidden_dim": 256,
    "ffn_hidden_dim": 256,
    "z_dim": 64,
    "n_dim": 16,
    "prenorm": True,
}

REQUIRED = {
    "activation": "silu",
    "activation_fn": "silu",
    "layer_type": "mega",
    "classifier_layers": 1,
    "normalize_embedding": False,
    "use_p": False,
}
"""Options with one value that has a counterpart here."""

INERT = {
    *("dropout", "attention_dropout", "hidden_dropout", "act_dropout", "feature_dropout"),
    *("bidirectional", "max_positions", "export", "apply_bert_init", "max_update", "input_type"),
    *("sen_rep_type", "sentence_class_num", "classifier_in_dim", "classifier_out_dim"),
    *("classifier_activation_fn", "use_nli"),
}
"""Options that do not affect the layer's function, or that are read elsewhere."""

CLASSIFIER_ACTIVATIONS: Mapping[str, Callable[[Tensor], Tensor]] = {
    "gelu": F.gelu,
    "relu": F.relu,
    "silu": F.silu,
    "tanh": lambda x: x.tanh(),
}


def attention_layer(config: Config, variant: str | None) -> OfficialView:
    kwargs = config["kwargs"]
    ours = _mega_config({"prenorm": True, "ndim": 2, **kwargs}, ATTENTION)
    mega = _attention_class(variant)(
        ours,
        causal=config.get("attn_mask") is not None,
        bidirectional=kwargs.get("bidirectional", False),
        max_positions=kwargs.get("max_positions", 1024),
    )
    return OfficialView(paths_of(mega), _length_first(mega))


def encoder_layer(config: Config, variant: str | None) -> OfficialView:
    kwargs = config["kwargs"]
    block = _layer(_mega_config(ENCODER_LAYER_DEFAULTS | kwargs, ENCODER_LAYER), kwargs, variant)
    return OfficialView(paths_of(block), _length_first(block))


def ema(config: Config, variant: str | None) -> OfficialView:
    kwargs = config["kwargs"]
    average = DampedEMA.forward if _attention_class(variant) is MovingAverageGatedAttention else fused_ema
    move = DampedEMA(
        kwargs["embed_dim"],
        kwargs.get("ndim", 2),
        kwargs.get("bidirectional", False),
        kwargs.get("truncation"),
    )

    def silu_of_ema(x: Tensor, padding_mask: Tensor | None = None) -> Tensor:
        return F.silu(average(move, x, padding_mask))

    return OfficialView(paths_of(move), _length_first(silu_of_ema))


def position_bias(config: Config, variant: str | None) -> OfficialView:
    kwargs = config["kwargs"]
    bias: SimpleRelativeBias | RotaryRelativeBias
    if config["class"].startswith("Simple"):
        bias = SimpleRelativeBias(kwargs["max_positions"])
    else:
        bias = RotaryRelativeBias(kwargs["embed_dim"])
    return OfficialView(paths_of(bias), lambda: {"y": bias(config["seq_len"])})


def lra_model(config: Config, variant: str | None) -> OfficialView:
    kwargs = config["kwargs"]
    ours = _mega_config(kwargs, CLASSIFIER)
    encoder = Encoder(
        RealEmbedding(ours.dim)
        if kwargs["input_type"] == "image"
        else token_embedding(config["vocab_size"], ours.dim),
        [_layer(ours, kwargs, variant) for _ in range(ours.layers)],
        final_norm=SequenceNorm(ours.norm, ours.dim) if ours.prenorm else None,
        pad_to=ours.chunk or 1,
        padding_token=config.get("padding_idx", 1),
    )
    head = MLPHead(
        kwargs["classifier_in_dim"],
        kwargs["classifier_out_dim"],
        kwargs["sentence_class_num"],
        named(CLASSIFIER_ACTIVATIONS, kwargs.get("classifier_activation_fn", "gelu")),
    )
    pooling = named({"mp": "mean", "cls": "first"}, kwargs.get("sen_rep_type", "cls"))
    one = Classifier(encoder, head, pooling)
    two = TwoTower(encoder, head, pooling, kwargs.get("use_nli", False))

    def call(
        lengths: Tensor,
        tokens: Tensor | None = None,
        x: Tensor | None = None,
        tokens1: Tensor | None = None,
        lengths1: Tensor | None = None,
    ) -> dict[str, Tensor]:
        inputs = x if tokens is None else tokens
        if tokens1 is None:
            return {"y": one(inputs, lengths)}
        return {"y": two.classify(two.pool(inputs, lengths), two.pool(tokens1, lengths1))}

    return OfficialView(_model_paths(encoder, head), call)


def _model_paths(encoder: Encoder, head: MLPHead) -> Paths:
    embedding = encoder.embedding
    root = "encoder.encoder"
    leaf = "embed_tokens" if isinstance(embedding, RealEmbedding) else "embed_tokens.embed"
    paths: Paths = {
        f"{root}.{leaf}": embedding,
        "classifier.0.0": head.hidden,
        "sentence_projection_layer": head.projection,
    }
    if encoder.final_norm is not None:
        paths[f"{root}.final_norm"] = encoder.final_norm
    for index, block in enumerate(encoder.layers):
        paths[f"{root}.layers.{index}"] = block
    return paths


def _layer(ours: MegaConfig, kwargs: Config, variant: str | None) -> MegaLayer:
    max_positions = kwargs.get("max_positions", 1024)
    return MegaLayer(_attention_class(variant)(ours, max_positions=max_positions), FeedForward(ours))


def _length_first(module: Callable[..., Tensor]) -> Callable[..., dict[str, Tensor]]:
    def call(x: Tensor, padding_mask: Tensor | None = None) -> dict[str, Tensor]:
        mask = None if padding_mask is None else padding_mask.bool()
        return {"y": module(x.transpose(0, 1), mask).transpose(0, 1)}

    return call


def _attention_class(variant: str | None) -> type[MovingAverageGatedAttention]:
    if variant is None:
        return MovingAverageGatedAttention
    if variant == "fused":
        return FusedGatedAttention
    raise Unsupported(f"MEGA has no variant {variant!r}")


def _mega_config(kwargs: Config, renames: Mapping[str, str]) -> MegaConfig:
    for name, value in kwargs.items():
        if name in REQUIRED and value != REQUIRED[name]:
            raise Unsupported(f"no counterpart for {name} {value!r}")
        if name not in renames and name not in REQUIRED and name not in INERT:
            raise Unsupported(f"no counterpart for the option {name!r}")
    ours = {renames[name]: value for name, value in kwargs.items() if name in renames}
    if ours.get("chunk") == -1:
        ours["chunk"] = None
    return MegaConfig(**({"layers": 1, "hidden": 1, "attention_dim": 2, "ffn": 1} | ours))


MODULES: dict[str, Callable[[Config, str | None], OfficialView]] = {
    "mega_layer_attention": attention_layer,
    "mega_encoder_layer": encoder_layer,
    "ema": ema,
    "rel_pos_bias": position_bias,
    "lra_model": lra_model,
}
