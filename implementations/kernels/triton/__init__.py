"""Fused forms for CUDA, in Triton. Nothing here imports triton before it is asked for."""

import importlib.util
import os

import torch

from implementations.kernels.triton import trial
from implementations.kernels.triton.work import nothing_runs


def unavailable(device: torch.device) -> str | None:
    """Why these kernels cannot run on a device, in one line; None if they can."""
    if importlib.util.find_spec("triton") is None:
        return "triton is not installed: pip install 'seqboat-bench[fused]'"
    if nothing_runs():
        return None
    if device.type != "cuda" and not interpreted():
        return f"triton runs on CUDA devices, not on {device.type} (for tests: TRITON_INTERPRET=1)"
    return None if interpreted() else trial.failure(device)


def interpreted() -> bool:
    """Whether kernels run on the CPU, in triton's interpreter: for tests, thousands of times slower."""
    return os.environ.get("TRITON_INTERPRET", "").lower() in ("1", "true", "yes", "on")
