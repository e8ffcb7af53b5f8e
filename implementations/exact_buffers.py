"""Buffers that a model in half precision keeps in float32: positions, distances, thresholds."""

import torch
from torch import Tensor


def kept_wide(before: Tensor, after: Tensor) -> Tensor:
    """A buffer that `Module._apply` has turned from `before` into `after`: in float32 at least, unrounded."""
    wide = torch.promote_types(after.dtype, torch.float32)
    return after if after.dtype == wide else before.to(after.device, wide)
