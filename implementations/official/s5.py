"""S5 as the official code names it (lindermanlab/S5, JAX): flax paths joined by dots, layouts like ours."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from implementations.encoder import Encoder
from implementations.heads import Classifier
from implementations.models.s5 import S5SSM, S5Layer, hippo_blocks
from implementations.official.s4 import constructor
from implementations.official.view import OfficialView, Unsupported
from implementations.ops.flax_layers import Dense

Config = Mapping[str, Any]

IGNORED = ("init_V", "init_Vinv")
"""Eigenvectors that only the initialisation reads."""
SSM_OPTIONS = (
    "H", "ssm_size", "blocks", "C_init", "disc", "dt_min", "dt_max", "conj_sym", "clip_eigs", "bi",
    "step_rescale",
)  # fmt: skip
LAYER_OPTIONS = (*SSM_OPTIONS, "act", "batchnorm", "bn_momentum", "prenorm", "dropout", "training")
MODEL_OPTIONS = (*LAYER_OPTIONS, "n_layers", "d_input", "d_output", "onehot", "padded", "mode")


def _ssm(options: Config) -> S5SSM:
    return S5SSM(
        options["H"],
        options["ssm_size"],
        blocks=options.get("blocks", 1),
        bidirectional=options.get("bi", False),
        discretization=options["disc"],
        output_init=options["C_init"],
        clip_eigenvalues=options.get("clip_eigs", False),
        conj_sym=options.get("conj_sym", True),
        step_rescale=options.get("step_rescale", 1.0),
    )


def _layer(options: Config) -> S5Layer:
    return S5Layer(
        _ssm(options),
        activation=options.get("act", "gelu"),
        norm="batchnorm" if options.get("batchnorm", False) else "layernorm",
        momentum=options.get("bn_momentum", 0.9),
        prenorm=options.get("prenorm", False),
        dropout=options.get("dropout", 0.0),
    )


def ssm(config: Config, variant: str | None) -> OfficialView:
    ours = _ssm(constructor(config, variant, SSM_OPTIONS))
    return OfficialView({"": ours}, lambda x: {"y": ours(x)}, IGNORED)


def layer(config: Config, variant: str | None) -> OfficialView:
    options = constructor(config, variant, LAYER_OPTIONS)
    ours = _layer(options)
    ours.train(options.get("training", True))

    def call(x: Tensor) -> dict[str, Tensor]:
        return {"y": ours(x), **_statistics_after(view)}

    view = OfficialView({"": ours}, call, IGNORED)
    return view


def classifier(config: Config, variant: str | None) -> OfficialView:
    """The official model gives log-probabilities; ours gives the logits below them."""
    options = constructor(config, variant, MODEL_OPTIONS)
    mode = options.get("mode", "pool")
    if mode not in ("pool", "last"):
        raise Unsupported(f"no pooling {mode!r} in S5: pool or last")
    embedding, decoder = Dense(options["d_input"], options["H"]), Dense(options["H"], options["d_output"])
    layers = [_layer(options) for _ in range(options["n_layers"])]
    encoder = Encoder(embedding, layers, embeds_padding=True)
    ours = Classifier(encoder, decoder, "mean" if mode == "pool" else "last")
    ours.train(options.get("training", True))

    def call(x: Tensor, lengths: Tensor | None = None) -> dict[str, Tensor]:
        return {"y": ours(x, lengths).log_softmax(dim=-1), **_statistics_after(view)}

    paths: dict[str, nn.Module | nn.Parameter] = {
        f"encoder.layers_{i}": module for i, module in enumerate(layers)
    }
    view = OfficialView({"encoder.encoder": embedding, **paths, "decoder": decoder}, call, IGNORED)
    return view


def hippo(config: Config, variant: str | None) -> OfficialView:
    """The initial eigenvalues. Eigenvectors are left out: each has an arbitrary phase."""
    options = constructor(config, variant, ("ssm_size", "blocks", "conj_sym"))
    eigenvalues, _ = hippo_blocks(options["ssm_size"], options["blocks"], options["conj_sym"])
    return OfficialView({}, lambda: {"Lambda": torch.view_as_real(eigenvalues)})


def _statistics_after(view: OfficialView) -> dict[str, Tensor]:
    return {f"batch_stats_after.{name}": value for name, value in view.named_buffers()}


MODULES: dict[str, Callable[[Config, str | None], OfficialView]] = {
    "S5SSM": ssm,
    "SequenceLayer": layer,
    "BatchClassificationModel": classifier,
    "make_DPLR_HiPPO": hippo,
}
