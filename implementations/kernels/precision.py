"""Whether CUDA multiplies float32 in TF32: by torch's newer setting if there is one.

Once anything has used the newer one, reading the older one may be an error.
"""

import torch


def allow_tf32(allowed: bool) -> None:
    """Set it for matrix products and for cuDNN."""
    matmul = torch.backends.cuda.matmul
    if hasattr(matmul, "fp32_precision"):
        matmul.fp32_precision = "tf32" if allowed else "ieee"
    else:
        matmul.allow_tf32 = allowed
    torch.backends.cudnn.allow_tf32 = allowed


def is_tf32_allowed() -> bool:
    """Whether it is set for matrix products, by whichever setting."""
    matmul = torch.backends.cuda.matmul
    if hasattr(matmul, "fp32_precision"):
        return bool(matmul.fp32_precision == "tf32")
    return bool(matmul.allow_tf32)
