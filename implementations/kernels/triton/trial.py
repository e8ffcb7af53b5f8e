"""Trial: can Triton compile and run a kernel here at all?"""

import functools
import importlib
from typing import Any

import torch

ADVICE = "it takes a C compiler (gcc, or CC) and a folder that can be written (HOME, or TRITON_CACHE_DIR)"


@functools.cache
def failure(device: torch.device) -> str | None:
    """Why no kernel can be compiled and run on a device, in one line; None if one can.

    Tried once per process and device. An error of a full device is raised: it says nothing about Triton.
    """
    try:
        # Importing it defines kernels; a triton that is broken fails there.
        kernels: Any = importlib.import_module("implementations.kernels.triton.trial_kernel")
        found = torch.zeros(1, device=device)
        with torch.cuda.device_of(found):  # type: ignore[no-untyped-call]
            kernels.add_one_kernel[(1,)](found)
        computed = float(found)
    except Exception as error:
        text = " ".join(str(error).split())
        if "out of memory" in text.lower():
            raise
        return f"Triton can't compile here: {type(error).__name__}: {text[:200]}; {ADVICE}"
    return None if computed == 1.0 else f"Triton computes {computed:g} here, where it should compute 1"
