"""Liquid-S4 as the official code names it (raminmh/liquid-s4)."""

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor

from implementations.encoder import padding_mask_of
from implementations.models.liquid_s4 import LiquidKernel, LiquidS4Block
from implementations.models.s4 import S4Block
from implementations.official.s4 import ACTIVATIONS, constructor
from implementations.official.view import OfficialView, Unsupported

Config = Mapping[str, Any]

OPTIONS = (
    "d_model", "d_state", "l_max", "bidirectional", "activation", "postact", "dropout", "transposed", "mode",
    "measure", "rank", "n_ssm", "dt_min", "dt_max", "liquid_kernel", "liquid_degree", "allcombs",
)  # fmt: skip
IGNORED = ("C_init", "A")
"""A tensor that the recording added, and a parameter of the diagonal kernel that no forward pass reads."""


def block(config: Config, variant: str | None) -> OfficialView:
    options = constructor(config, variant, OPTIONS)
    length = config["run"]["L"]
    if length > (options.get("l_max") or length):
        raise Unsupported("no Liquid-S4 kernel that is shorter than its input")
    transposed = options.get("transposed", True)
    ours = _block(options)

    def call(x: Tensor, lengths: Tensor | None = None) -> dict[str, Tensor]:
        states = x.transpose(1, 2) if transposed else x
        y = ours(states, padding_mask_of(lengths, states.shape[1]))
        kernels = ours.kernel(states.shape[1])
        return {"y": y.transpose(1, 2) if transposed else y, "kernel_K": kernels}

    return OfficialView(
        {"kernel": ours.kernel, "D": ours.D, "output_linear.0": ours.output_linear}, call, IGNORED
    )


def _block(options: Mapping[str, Any]) -> S4Block:
    activation, gate = options.get("activation", "gelu"), options.get("postact", "glu")
    if activation not in ACTIVATIONS or gate not in ("glu", None):
        raise Unsupported(f"no block with activation {activation!r} and final activation {gate!r}")
    if options.get("rank", 1) != 1:
        raise Unsupported("no low-rank term of another rank than 1")
    bidirectional = options.get("bidirectional", False)
    dim = options["d_model"]
    kernel = LiquidKernel(
        dim,
        options.get("d_state", 64),
        kernels=2 if bidirectional else 1,
        mode=options.get("mode", "nplr"),
        n_ssm=options.get("n_ssm"),
        max_length=options.get("l_max"),
    )
    shared = {
        "bidirectional": bidirectional,
        "dropout": options.get("dropout", 0.0),
        "activation": ACTIVATIONS[activation],
        "gated": gate == "glu",
    }
    liquid = options.get("liquid_kernel")
    if liquid is None:
        return S4Block(dim, kernel, **shared)
    degree, combinations = options.get("liquid_degree", 2), options.get("allcombs", True)
    return LiquidS4Block(dim, kernel, liquid=liquid, degree=degree, all_combinations=combinations, **shared)


MODULES: dict[str, Callable[[Config, str | None], OfficialView]] = {"S4": block}
