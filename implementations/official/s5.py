"""S5 as the official code names it (lindermanlab/S5, JAX): flax paths joined by dots, layouts like ours."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from implementations.encoder import Classifier
from implementations.official.view import OfficialView, Unsupported
from implementations.s5 import S5SSM, Dense, S5Encoder, S5Layer, hippo_blocks

Config = Mapping[str, Any]

IGNORED = ("init_V", "init_Vinv")
"""Eigenvectors that only the initialisation reads."""


def _ssm(kwargs: Config) -> S5SSM:
    return S5SSM(
        kwargs["H"],
        kwargs["ssm_size"],
        blocks=kwargs["blocks"],
        bidirectional=kwargs["bi"],
        discretization=kwargs["disc"],
        output_init=kwargs["C_init"],
        clip_eigenvalues=kwargs["clip_eigs"],
        dt_min=kwargs["dt_min"],
        dt_max=kwargs["dt_max"],
        conj_sym=kwargs["conj_sym"],
        step_rescale=kwargs.get("step_rescale", 1.0),
    )


def _layer(kwargs: Config) -> S5Layer:
    return S5Layer(
        _ssm(kwargs),
        activation=kwargs["act"],
        norm="batchnorm" if kwargs["batchnorm"] else "layernorm",
        momentum=kwargs.get("bn_momentum", 0.9),
        prenorm=kwargs["prenorm"],
        dropout=kwargs.get("dropout", 0.0),
    )


def ssm(config: Config, variant: str | None) -> OfficialView:
    _plain(variant)
    ours = _ssm(config["ctor"])
    return OfficialView({"": ours}, lambda x: {"y": ours(x)}, IGNORED)


def layer(config: Config, variant: str | None) -> OfficialView:
    _plain(variant)
    ours = _layer(config["ctor"])
    ours.train(config["ctor"]["training"])

    def call(x: Tensor) -> dict[str, Tensor]:
        return {"y": ours(x), **_statistics_after(view)}

    view = OfficialView({"": ours}, call, IGNORED)
    return view


def classifier(config: Config, variant: str | None) -> OfficialView:
    """The official model gives log-probabilities; ours gives the logits below them."""
    _plain(variant)
    kwargs = config["ctor"]
    embedding, decoder = Dense(kwargs["d_input"], kwargs["H"]), Dense(kwargs["H"], kwargs["d_output"])
    encoder = S5Encoder(embedding, [_layer(kwargs) for _ in range(kwargs["n_layers"])])
    ours = Classifier(encoder, decoder)
    ours.train(kwargs["training"])
    mode = kwargs.get("mode", "pool")
    if mode not in ("pool", "last"):
        raise Unsupported(f"no pooling {mode!r} in S5: pool or last")

    def call(x: Tensor, lengths: Tensor | None = None) -> dict[str, Tensor]:
        logits = ours(x, lengths) if mode == "pool" else decoder(encoder(x)[0][:, -1])
        return {"y": logits.log_softmax(dim=-1), **_statistics_after(view)}

    layers: dict[str, nn.Module | nn.Parameter] = {
        f"encoder.layers_{i}": module for i, module in enumerate(encoder.layers)
    }
    view = OfficialView({"encoder.encoder": embedding, **layers, "decoder": decoder}, call, IGNORED)
    return view


def hippo(config: Config, variant: str | None) -> OfficialView:
    """The initial eigenvalues. Eigenvectors are left out: each has an arbitrary phase."""
    _plain(variant)
    kwargs = config["ctor"]
    eigenvalues, _ = hippo_blocks(kwargs["ssm_size"], kwargs["blocks"], kwargs["conj_sym"])
    return OfficialView({}, lambda: {"Lambda": torch.view_as_real(eigenvalues)})


def _plain(variant: str | None) -> None:
    if variant is not None:
        raise Unsupported(f"S5 has no variant {variant!r}")


def _statistics_after(view: OfficialView) -> dict[str, Tensor]:
    return {f"batch_stats_after.{name}": value for name, value in view.named_buffers()}


MODULES: dict[str, Callable[[Config, str | None], OfficialView]] = {
    "S5SSM": ssm,
    "SequenceLayer": layer,
    "BatchClassificationModel": classifier,
    "make_DPLR_HiPPO": hippo,
}
