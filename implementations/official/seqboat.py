"""The official SeqBoat (renll/SeqBoat): its standalone layer, its fairseq unit and its LRA classifier."""

from collections.abc import Callable, Collection, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from implementations.activation import configurators
from implementations.fused.seqboat import FusedSeqBoatLayer
from implementations.heads import Classifier, MLPHead, Pooling, TwoTower
from implementations.models.seqboat import SeqBoatConfig, SeqBoatLayer, build_encoder
from implementations.official.view import OfficialView, Unsupported, boolean, named, paths_of
from implementations.ops.configurator import LatentConfigurator, Routing
from implementations.ops.ema import DampedEMA
from implementations.ops.relative_bias import RelativeBias
from implementations.ops.sma import compress, compressed_steps, extract
from implementations.task import Task

Config = Mapping[str, Any]
Paths = dict[str, nn.Module | nn.Parameter]

STANDALONE_NAMES = {"ema": "ssm", "configurator": "q_router"}
UNIT_NAMES = {"ema": "move", "configurator": "q_router"}

LAYER_OPTIONS = {
    "embed_dim": "dim",
    "zdim": "attention_dim",
    "hdim": "hidden",
    "ndim": "states",
    "window_size": "window",
    "chunk_size": "window",
    "truncation": "truncation",
    "attention_activation": "attention",
    "norm_type": "norm",
    "prenorm": "prenorm",
    "rel_pos_bias": "relative_bias",
    "local_pos": "local_pos",
    "init_temp_scale": "temperature_scale",
    "dropout": "dropout",
    "hidden_dropout": "hidden_dropout",
    "always_act": "always_active",
}
LAYER_FIXED = {"attention_dropout": 0.0, "activation": "silu", "feature_dropout": False, "norm_affine": True}
MODEL_OPTIONS = {
    "encoder_layers": "layers",
    "encoder_embed_dim": "dim",
    "z_dim": "attention_dim",
    "encoder_hidden_dim": "hidden",
    "n_dim": "states",
    "chunk_size": "window",
    "truncation_length": "truncation",
    "attention_activation_fn": "attention",
    "norm_type": "norm",
    "encoder_normalize_before": "prenorm",
    "rel_pos_bias": "relative_bias",
    "local_pos": "local_pos",
    "init_temp_scale": "temperature_scale",
    "add_apos": "absolute_positions",
    "dropout": "dropout",
    "act_dropout": "hidden_dropout",
    "always_act": "always_active",
}
MODEL_FIXED = {
    "layer_type": "slag",
    "activation_fn": "silu",
    "attention_dropout": 0.0,
    "feature_dropout": False,
    "encoder_ffn_embed_dim": -1,
    "classifier_layers": 1,
    "normalize_embedding": False,
    "use_p": False,
}
MODEL_READ_ELSEWHERE = (
    *("input_type", "max_positions", "sen_rep_type", "sentence_class_num", "use_nli", "act_bias"),
    *("classifier_in_dim", "classifier_out_dim", "classifier_activation_fn"),
    *("apply_bert_init", "max_update"),
)
POOLINGS: dict[str, Pooling] = {"mp": "mean", "cls": "first"}
CLASSIFIER_ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "gelu": F.gelu,
    "relu": F.relu,
    "silu": F.silu,
    "tanh": torch.tanh,
}


def _ema(config: Config, variant: str | None) -> OfficialView:
    options = config["kwargs"]
    ema = DampedEMA(
        options["embed_dim"],
        options.get("ndim", 2),
        bidirectional=options.get("bidirectional", False),
        truncation=options.get("truncation"),
    )

    def call(x: Tensor, padding_mask: Tensor | None = None) -> dict[str, Tensor]:
        return {"y": ema(x.transpose(0, 1), boolean(padding_mask)).transpose(0, 1)}

    return OfficialView({"": ema}, call)


def _relative_bias(config: Config, variant: str | None) -> OfficialView:
    bias = RelativeBias.simple(config["kwargs"]["max_positions"])
    positions = torch.arange(config["seq_len"])
    return OfficialView({"": bias}, lambda: {"y": bias(positions, positions)})


def _sma_ops(config: Config, variant: str | None) -> OfficialView:
    def call(mask: Tensor, h: Tensor, hc: Tensor) -> dict[str, Tensor]:
        steps = compressed_steps(mask.bool())
        compressed = compress(h, steps)
        return {
            "index": mask * mask.cumsum(dim=1),
            "key_valid": steps.valid,
            "compressed": compressed,
            "extracted": extract(hc, steps),
            "roundtrip": extract(compressed, steps),
        }

    return OfficialView({}, call)


def _standalone_layer(config: Config, variant: str | None) -> OfficialView:
    causal = not config["kwargs"].get("bidirectional", False)
    return _layer_view(config, variant, causal, STANDALONE_NAMES)


def _fairseq_unit(config: Config, variant: str | None) -> OfficialView:
    causal = config.get("attn_mask") is not None
    if causal == config["kwargs"].get("bidirectional", False):
        raise Unsupported("an EMA and an attention of which only one looks ahead")
    return _layer_view(config, variant, causal, UNIT_NAMES)


def _layer_view(config: Config, variant: str | None, causal: bool, names: Mapping[str, str]) -> OfficialView:
    elsewhere = ("bidirectional", "max_positions", "act_bias")
    options = _translate(config["kwargs"], LAYER_OPTIONS, LAYER_FIXED, elsewhere)
    ours = _hyperparameters({"layers": 1, "norm": "layernorm", "prenorm": True, **options})
    max_positions = config["kwargs"].get("max_positions", 1024)
    layer = _layer_class(variant)(ours, causal=causal, max_positions=max_positions)
    _set_act_bias(layer, config.get("act_bias", config["kwargs"].get("act_bias", 0.0)))

    def call(
        x: Tensor, padding_mask: Tensor | None = None, attn_mask: Tensor | None = None
    ) -> dict[str, Tensor]:
        padding = boolean(padding_mask)
        _refuse_padding_out_of_reach(ours, padding)
        decisions = _Decisions(layer)
        y = layer(x.transpose(0, 1), padding).transpose(0, 1)
        return {"y": y, **decisions.finish(numbered=False)}

    return OfficialView(paths_of(layer, renames=names), call)


def _lra_model(config: Config, variant: str | None) -> OfficialView:
    official = config["kwargs"]
    reals = official.get("input_type") == "image"
    options = _translate(official, MODEL_OPTIONS, MODEL_FIXED, MODEL_READ_ELSEWHERE)
    ours = _hyperparameters({"norm": "layernorm", "prenorm": False, **options})
    task = Task(
        name="official",
        length=official["max_positions"],
        classes=official["sentence_class_num"],
        input="reals" if reals else "tokens",
        vocabulary=0 if reals else config["vocab_size"],
    )
    encoder = build_encoder(task, ours, _layer_class(variant))
    head = MLPHead(
        official["classifier_in_dim"],
        official["classifier_out_dim"],
        task.classes,
        named(CLASSIFIER_ACTIVATIONS, official.get("classifier_activation_fn", "gelu")),
    )
    pooling = named(POOLINGS, official.get("sen_rep_type", "cls"))
    one = Classifier(encoder, head, pooling)
    two = TwoTower(encoder, head, pooling, interactions=official.get("use_nli", False))
    _set_act_bias(encoder, official.get("act_bias", 0.0))

    def call(
        lengths: Tensor,
        tokens: Tensor | None = None,
        x: Tensor | None = None,
        tokens1: Tensor | None = None,
        lengths1: Tensor | None = None,
    ) -> dict[str, Tensor]:
        decisions = _Decisions(encoder)
        inputs = x if tokens is None else tokens
        if tokens1 is None:
            y = one(inputs, lengths)
        else:
            y = two.classify(two.pool(inputs, lengths), two.pool(tokens1, lengths1))
        return {"y": y, **decisions.finish(numbered=True)}

    root = "encoder.encoder"
    paths: Paths = {
        f"{root}.embed_tokens{'' if reals else '.embed'}": encoder.embedding,
        "classifier.0.0": head.hidden,
        "sentence_projection_layer": head.projection,
    }
    if encoder.positions is not None:
        paths[f"{root}.pos_emb"] = encoder.positions
    if encoder.final_norm is not None:
        paths[f"{root}.final_norm"] = encoder.final_norm
    for index, layer in enumerate(encoder.layers):
        paths |= paths_of(layer, f"{root}.layers.{index}.mega_layer", UNIT_NAMES)
    return OfficialView(paths, call)


class _Decisions:
    """Decisions of each configurator, call by call, under the official output names."""

    def __init__(self, model: nn.Module) -> None:
        self._outputs: list[dict[str, Tensor]] = []
        self._hooks = [module.register_forward_hook(self._record) for module in configurators(model)]

    def _record(self, module: nn.Module, inputs: tuple[Tensor, ...], routing: Routing) -> None:
        assert isinstance(module, LatentConfigurator)
        self._outputs.append(
            {
                "mask": routing.active.float(),
                "router_probs": module.probabilities(inputs[0]),
                "activation_rate": torch.tensor(module.activation_rate()),
            }
        )

    def finish(self, numbered: bool) -> dict[str, Tensor]:
        for hook in self._hooks:
            hook.remove()
        return {
            f"{name}_{call}" if numbered else name: value
            for call, outputs in enumerate(self._outputs)
            for name, value in outputs.items()
        }


def _layer_class(variant: str | None) -> type[SeqBoatLayer]:
    if variant is None:
        return SeqBoatLayer
    if variant == "fused":
        return FusedSeqBoatLayer
    raise Unsupported(f"SeqBoat has no variant {variant!r}")


def _translate(
    official: Config, names: Mapping[str, str], fixed: Config, elsewhere: Collection[str]
) -> dict[str, Any]:
    """Our hyper-parameters. Raises Unsupported for an unknown option, or one not at our only value."""
    ours = {}
    for option, value in official.items():
        if option in names:
            ours[names[option]] = value
        elif option not in elsewhere and (option not in fixed or value != fixed[option]):
            raise Unsupported(f"no counterpart for {option}={value!r}")
    return ours


def _hyperparameters(options: dict[str, Any]) -> SeqBoatConfig:
    window = options.get("window")
    options["window"] = None if window is None or window < 0 else window
    if options.pop("local_pos", False) and options.get("relative_bias") != "rotary":
        options["relative_bias"] = "local"
    if options.get("attention") == "laplace" and options["window"] is not None:
        raise Unsupported("laplace attention in a window, where the official masked keys leak in")
    try:
        return SeqBoatConfig(**options)
    except ValueError as error:
        raise Unsupported(str(error)) from None


def _set_act_bias(model: nn.Module, value: float) -> None:
    for configurator in configurators(model):
        configurator.act_bias.fill_(value)


def _refuse_padding_out_of_reach(config: SeqBoatConfig, padding: Tensor | None) -> None:
    """Official softmax gives a padded query that reaches no real key an average over everything padded."""
    if padding is None or config.window is None or not config.always_active or config.attention != "softmax":
        return
    real = (~padding).float().unsqueeze(1)
    reach = 2 * config.window + 1
    reached = F.max_pool1d(F.pad(real, (config.window, config.window)), reach, stride=1)
    if not reached.all():
        raise Unsupported("padding that is further from real steps than the window, with always_act")


MODULES: dict[str, Callable[[Config, str | None], OfficialView]] = {
    "ema": _ema,
    "rel_pos_bias": _relative_bias,
    "sma_ops": _sma_ops,
    "seqboat_layer": _standalone_layer,
    "seqboat_unit_local": _fairseq_unit,
    "seqboat_unit_full": _fairseq_unit,
    "lra_model": _lra_model,
}
