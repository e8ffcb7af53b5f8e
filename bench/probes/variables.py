"""Environment variables that change what is measured: recorded, and two of them refused on a GPU."""

import os
from collections.abc import Mapping

from bench.errors import UsageError

NAMES = frozenset(
    {
        *("CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER", "CUDA_DEVICE_MAX_CONNECTIONS", "CUDA_MODULE_LOADING"),
        *("CUDA_LAUNCH_BLOCKING", "CUDA_CACHE_DISABLE", "CUBLAS_WORKSPACE_CONFIG", "NVIDIA_TF32_OVERRIDE"),
        *("TORCH_ALLOW_TF32_CUBLAS_OVERRIDE", "TORCH_BLAS_PREFER_CUBLASLT", "TORCHINDUCTOR_CACHE_DIR"),
        *("PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF", "PYTORCH_NO_CUDA_MEMORY_CACHING", "CC"),
        *("OMP_PROC_BIND", "OMP_PLACES", "OMP_WAIT_POLICY", "OMP_SCHEDULE", "GOMP_CPU_AFFINITY"),
        *("GOMP_SPINCOUNT", "KMP_AFFINITY", "KMP_BLOCKTIME", "ATEN_CPU_CAPABILITY", "ONEDNN_MAX_CPU_ISA"),
        *("MKL_ENABLE_INSTRUCTIONS", "DNNL_MAX_CPU_ISA", "ONEDNN_DEFAULT_FPMATH_MODE", "SEQBOAT_NATIVE"),
    }
)
PREFIXES = ("TRITON_", "CUDA_MPS_")

REFUSED = {
    "CUDA_LAUNCH_BLOCKING": "the host would wait for every kernel",
    "TRITON_INTERPRET": "Triton's kernels would run on the CPU, in its interpreter",
}
"""Settings that make timings on a GPU worthless, and why."""


def recorded(environment: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Those that are set, by name; bytes that are not text are replaced."""
    return {
        name: os.fsencode(value).decode(errors="replace")
        for name, value in sorted(environment.items())
        if name in NAMES or name.startswith(PREFIXES)
    }


def in_the_way(environment: Mapping[str, str] = os.environ) -> str | None:
    """A setting that no GPU can be timed with, as `NAME=value: why`; None without any."""
    for name, why in REFUSED.items():
        if environment.get(name, "").lower() not in ("", "0", "false", "no", "off"):
            return f"{name}={environment[name]}: {why}"
    return None


def refuse(device: str) -> None:
    """Raises UsageError if a variable makes timings on this device worthless."""
    if device.startswith("cuda") and (found := in_the_way()) is not None:
        name = found.partition("=")[0]
        raise UsageError(f"{found}; unset {name}, or choose --device cpu")
