"""Official S4 modules: the kernel, the block, and the initialisation."""

from collections.abc import Callable, Collection, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from implementations.encoder import padding_mask_of
from implementations.models.s4 import DPLRKernel, S4Block, SSMKernel
from implementations.models.s4d import DiagonalKernel
from implementations.official.view import OfficialView, Unsupported
from implementations.ops.ssm import hippo_legs, nplr_legs

Config = Mapping[str, Any]

IGNORED = ("num_batches_tracked", "C_init")
ACTIVATIONS: Mapping[str | None, Callable[[Tensor], Tensor]] = {
    "gelu": F.gelu,
    "relu": F.relu,
    "silu": F.silu,
    "swish": F.silu,
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
    "id": lambda x: x,
    None: lambda x: x,
}
KERNEL_OPTIONS = (
    "d_model",
    "d_state",
    "channels",
    "l_max",
    "n_ssm",
    "init",
    "disc",
    "dt_transform",
    "dt_min",
    "dt_max",
)
BLOCK_OPTIONS = (
    *KERNEL_OPTIONS,
    *("mode", "bidirectional", "transposed", "activation", "final_act", "dropout", "tie_dropout"),
)


def constructor(config: Config, variant: str | None, supported: Collection[str]) -> dict[str, Any]:
    """Keyword arguments of the official constructor. Raises Unsupported for one without a counterpart."""
    if variant is not None:
        raise Unsupported(f"no variant {variant!r}")
    options = dict(config["ctor"])
    unknown = options.keys() - set(supported)
    if unknown:
        raise Unsupported(f"no counterpart for {', '.join(sorted(unknown))}")
    return options


class CutKernel(nn.Module):
    """A kernel's first taps: the official block never asks for more than l_max of them."""

    def __init__(self, kernel: nn.Module, taps: int) -> None:
        super().__init__()
        self.kernel = kernel
        self.taps = taps

    def forward(self, length: int) -> Tensor:
        """`(kernels, dim, taps)`, or of that length if it is shorter."""
        kernels: Tensor = self.kernel(min(length, self.taps))
        return kernels


def make_kernel(options: Mapping[str, Any], mode: str, kernels: int) -> SSMKernel:
    shared: dict[str, Any] = {
        "dim": options["d_model"],
        "state_dim": options.get("d_state", 64),
        "kernels": kernels,
        "n_ssm": options.get("n_ssm"),
        "dt_transform": options.get("dt_transform", "exp"),
    }
    if shared["dt_transform"] not in ("exp", "softplus"):
        raise Unsupported(f"no step transform {shared['dt_transform']!r}")
    disc = options.get("disc")
    if mode == "dplr" and disc in (None, "bilinear"):
        return DPLRKernel(**shared, max_length=options.get("l_max"))
    if mode == "diag" and disc in (None, "zoh", "bilinear"):
        return DiagonalKernel(**shared, discretisation=disc or "zoh")
    raise Unsupported(f"no kernel of mode {mode!r} with discretisation {disc!r}")


def kernel(config: Config, variant: str | None, mode: str) -> OfficialView:
    options = constructor(config, variant, KERNEL_OPTIONS)
    ours = make_kernel(options, mode, options.get("channels", 1))
    run = config["run"]
    return OfficialView({"": ours}, lambda: {"K": ours(run["L"], run.get("rate", 1.0))}, IGNORED)


def block(config: Config, variant: str | None) -> OfficialView:
    options = constructor(config, variant, BLOCK_OPTIONS)
    activation, final = options.get("activation", "gelu"), options.get("final_act", "glu")
    if activation not in ACTIVATIONS or final not in ("glu", "id", None):
        raise Unsupported(f"no block with activation {activation!r} and final activation {final!r}")
    if config["run"].get("rate", 1.0) != 1.0:
        raise Unsupported("no block at another sampling rate than the trained one")
    bidirectional, channels = options.get("bidirectional", True), options.get("channels", 1)
    ssm = make_kernel(options, options.get("mode", "dplr"), channels * (2 if bidirectional else 1))
    taps = options.get("l_max")
    ours = S4Block(
        options["d_model"],
        ssm if taps is None else CutKernel(ssm, taps),
        channels=channels,
        bidirectional=bidirectional,
        dropout=options.get("dropout", 0.0),
        activation=ACTIVATIONS[activation],
        gated=final == "glu",
    )

    def call(x: Tensor, lengths: Tensor | None = None) -> dict[str, Tensor]:
        states = x.transpose(1, 2) if options.get("transposed", True) else x
        y = ours(states, padding_mask_of(lengths, states.shape[1]))
        kernels = ours.kernel(states.shape[1])
        return {"y": y.transpose(1, 2) if options.get("transposed", True) else y, "kernel_K": kernels}

    paths: dict[str, nn.Module | nn.Parameter] = {
        "layer.kernel": ssm,
        "layer.D": ours.D,
        "output_linear.0": ours.output_linear,
    }
    return OfficialView(paths, call, IGNORED)


def initialisation(config: Config, variant: str | None) -> OfficialView:
    """The parts of HiPPO-LegS that do not depend on the eigenvectors' phase."""
    if variant is not None:
        raise Unsupported(f"no variant {variant!r}")

    def call() -> dict[str, Tensor]:
        A, B = hippo_legs(config["N"])
        legs = nplr_legs(config["N"])
        return {
            "hippo_A": A,
            "hippo_B": B,
            "A": torch.view_as_real(legs.A),
            "s4d_legs_A": torch.view_as_real(legs.A).unsqueeze(0),
            "abs_P": legs.P.abs().unsqueeze(0),
            "abs_B_unclipped": legs.B.abs(),
            "P_conj_times_B_unclipped": torch.view_as_real(legs.P.conj() * legs.B),
        }

    return OfficialView({}, call)


MODULES: dict[str, Callable[[Config, str | None], OfficialView]] = {
    "SSMKernelDPLR": lambda config, variant: kernel(config, variant, "dplr"),
    "S4Block": block,
    "nplr": initialisation,
}
