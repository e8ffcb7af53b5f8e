"""Choice of the form in which fused layers run: by the device, or as asked for."""

from collections.abc import Callable
from typing import Literal, get_args

import torch
from torch import nn

from implementations.kernels.cpu.native import library as native
from implementations.kernels.triton import unavailable

Backend = Literal["auto", "torch", "cpu", "triton"]
Chosen = Literal["torch", "cpu", "triton"]
Library = Callable[[torch.device], str | None]
"""Why another library's kernels cannot run on a device, in one line; None if they can."""


class BackendUnavailable(RuntimeError):
    """A backend that was asked for cannot run here."""


def choose(backend: Backend, device: torch.device, library: Library | None = None) -> Chosen:
    """The backend for tensors on a device.

    `auto` is `cpu` on the CPU, `triton` on CUDA devices if triton is installed, else `torch`, the plain
    form. library: of a layer whose only fused form is another library's, in Triton; on the CPU it is plain.
    Raises BackendUnavailable, in one line, if another one is asked for and cannot run on that device, and
    ValueError for an unknown name.
    """
    missing = library or unavailable
    if backend == "auto":
        if device.type == "cpu":
            return "torch" if library else "cpu"
        return "torch" if device.type != "cuda" or missing(device) else "triton"
    if backend not in get_args(Chosen):
        raise ValueError(f"unknown backend {backend!r}: choose {', '.join(get_args(Backend))}")
    if backend == "cpu" and device.type != "cpu":
        raise BackendUnavailable(f"backend cpu: it runs on the CPU, not on {device.type}")
    if backend == "cpu" and library:
        raise BackendUnavailable("backend cpu: this model has no fused form for the CPU; choose torch")
    if backend == "triton" and (reason := missing(device)):
        raise BackendUnavailable(f"backend triton: {reason}")
    return backend


def backend_of(model: nn.Module, backend: Backend, device: torch.device) -> Chosen:
    """Backend of a model's fused layers on a device; `torch` for a model without them.

    Raises BackendUnavailable if the backend that is asked for cannot run there.
    """
    for module in model.modules():
        if hasattr(module, "backend"):
            return choose(backend, device, getattr(module, "library", None))
    if backend == "auto":
        return "torch"  # Nothing is tried out for a model that would not use it.
    choose(backend, device)
    return "torch"


def why_plain(model: nn.Module, backend: Backend, device: torch.device) -> str | None:
    """Why `auto` leaves a model's fused layers plain on a CUDA device, in one line; None if it does not."""
    if backend != "auto" or device.type != "cuda":
        return None
    fused = (module for module in model.modules() if hasattr(module, "backend"))
    reasons = ((getattr(module, "library", None) or unavailable)(device) for module in fused)
    return next(reasons, None)


def build_cpu_kernels() -> None:
    """Build the C kernels of fused layers if they can be, and load nothing: a process may fork after that."""
    native.cannot_build()


def cpu_kernels() -> str:
    """Kernels that have computed fused layers on the CPU in this process."""
    from implementations.kernels.cpu.native.calls import computed_by

    return computed_by()


def use_backend(model: nn.Module, backend: Backend) -> nn.Module:
    """The model, with this backend for all of its fused layers: those that have an attribute `backend`."""
    for module in model.modules():
        if hasattr(module, "backend"):
            setattr(module, "backend", backend)  # noqa: B010 - of any class
    return model
