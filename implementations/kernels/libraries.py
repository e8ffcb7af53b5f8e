"""Triton kernels of other libraries for recurrences of ours: their availability, and their calls.

mamba-ssm is Dao and Gu's own code of Mamba-2; fla is flash-linear-attention (Yang and Zhang, 2024). Neither
is imported before it is called. Both multiply matrices of float32 in TF32, so they replace the plain forms
only if TF32 is allowed, or if autocast gives them half precision.
"""

import importlib.util

import torch
from torch import Tensor

from implementations.kernels.precision import is_tf32_allowed
from implementations.kernels.triton import trial
from implementations.kernels.triton.work import nothing_runs


def ssd_unavailable(device: torch.device) -> str | None:
    """Why `ssd` cannot run on a device, in one line; None if it can."""
    return _unavailable("Mamba-2", ("mamba_ssm", "fla"), device)


def delta_rule_unavailable(device: torch.device) -> str | None:
    """Why `gated_delta_rule` cannot run on a device, in one line; None if it can."""
    return _unavailable("Gated DeltaNet", ("fla",), device)


def _unavailable(system: str, modules: tuple[str, ...], device: torch.device) -> str | None:
    if device.type != "cuda":
        return f"the kernels of {system} run on CUDA devices, not on {device.type}"
    if not any(map(_is_installed, modules)):
        names = " or ".join(modules)
        return f"{system} needs {names}, not installed: pip install 'seqboat-bench[peers-cuda]'"
    if not is_tf32_allowed() and not torch.is_autocast_enabled("cuda"):
        return f"the kernels of {system} multiply float32 in TF32: choose the precision tf32, bf16 or fp16"
    return None if nothing_runs() else trial.failure(device)


def _is_installed(module: str) -> bool:
    return importlib.util.find_spec(module) is not None


def _refuse_to_tell(system: str) -> None:
    """Raises NotImplementedError if launches are counted in place of running: only our own kernels tell."""
    if nothing_runs():
        raise NotImplementedError(f"the kernels of {system} do not tell what they allocate")


def ssd(x: Tensor, dt: Tensor, rate: Tensor, b: Tensor, c: Tensor, chunk: int) -> Tensor:
    """`S_t = exp(dt_t·rate)·S_{t−1} + dt_t x_t b_tᵀ`, `y_t = S_t c_t` from zero, by mamba-ssm, else by fla.

    x `(batch, length, heads, P)`; dt `(batch, length, heads)`; rate `(heads,)`, negative; b, c
    `(batch, length, N)`. Returns y in the shape of x.
    """
    _refuse_to_tell("Mamba-2")
    b, c = (shared.to(x.dtype).unsqueeze(2) for shared in (b, c))
    if _is_installed("mamba_ssm"):
        from mamba_ssm.ops.triton.ssd_combined import mamba_chunk_scan_combined

        scanned: Tensor = mamba_chunk_scan_combined(x, dt, rate, b, c, chunk_size=chunk)
        return scanned
    from fla.ops.simple_gla import chunk_simple_gla

    heads = x.shape[2]
    q, k = (shared.expand(-1, -1, heads, -1) for shared in (c, b))
    y: Tensor = chunk_simple_gla(q, k, (x * dt.unsqueeze(-1)).to(x.dtype), g=dt * rate, scale=1.0)[0]
    return y


def gated_delta_rule(q: Tensor, k: Tensor, v: Tensor, log_decay: Tensor, beta: Tensor) -> Tensor:
    """`S_t = exp(log_decay_t)·S_{t−1}(I − β_t k_t k_tᵀ) + β_t v_t k_tᵀ`, `o_t = S_t q_t` from zero, by fla.

    q, k `(batch, heads, length, d)`; v `(batch, heads, length, d_v)`; log_decay, beta
    `(batch, heads, length)`. Returns o in the shape of v. States are float32 whatever the operands are.
    """
    _refuse_to_tell("Gated DeltaNet")
    from fla.ops.gated_delta_rule import chunk_gated_delta_rule

    q, k, v, log_decay, beta = (x.transpose(1, 2) for x in (q, k, v, log_decay, beta))
    y: Tensor = chunk_gated_delta_rule(
        q, k.to(q.dtype), v.to(q.dtype), g=log_decay.float(), beta=beta.to(q.dtype), scale=1.0
    )[0]
    return y.transpose(1, 2)
