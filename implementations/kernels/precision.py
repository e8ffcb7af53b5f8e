"""Whether CUDA multiplies float32 in TF32: by torch's newer setting if there is one.

Once anything has used the newer one, reading the older one may be an error.
"""

import torch


def is_tf32_allowed() -> bool:
    """Whether it is set for matrix products, by whichever setting."""
    matmul = torch.backends.cuda.matmul
    if hasattr(matmul, "fp32_precision"):
        return bool(matmul.fp32_precision == "tf32")
    return bool(matmul.allow_tf32)
