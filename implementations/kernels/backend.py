"""Which form of the fused layers runs: by the device, or as asked for."""

from typing import Literal, get_args

import torch
from torch import nn

from implementations.kernels.triton import unavailable

Backend = Literal["auto", "torch", "cpu", "triton"]
Chosen = Literal["torch", "cpu", "triton"]


class BackendUnavailable(RuntimeError):
    """A backend that was asked for cannot run here."""


def choose(backend: Backend, device: torch.device) -> Chosen:
    """The backend for tensors on a device.

    `auto` is `cpu` on the CPU, `triton` on CUDA devices where triton is installed, else `torch`, the plain
    form. Raises BackendUnavailable, in one line, where another one is asked for and cannot run on that
    device, and ValueError for an unknown name.
    """
    if backend == "auto":
        if device.type == "cpu":
            return "cpu"
        return "torch" if device.type != "cuda" or unavailable(device) else "triton"
    if backend not in get_args(Chosen):
        raise ValueError(f"unknown backend {backend!r}: choose {', '.join(get_args(Backend))}")
    if backend == "cpu" and device.type != "cpu":
        raise BackendUnavailable(f"backend cpu: it runs on the CPU, not on {device.type}")
    if backend == "triton" and (reason := unavailable(device)):
        raise BackendUnavailable(f"backend triton: {reason}")
    return backend


def use_backend(model: nn.Module, backend: Backend) -> nn.Module:
    """The model, with this backend for all of its fused layers: those that have an attribute `backend`."""
    for module in model.modules():
        if hasattr(module, "backend"):
            setattr(module, "backend", backend)  # noqa: B010 - of any class
    return model
