"""Functions from masked attention scores to weights: softmax, relu² and laplace."""

import math
from typing import Literal

import torch
from torch import Tensor

AttentionKind = Literal["softmax", "relu2", "laplace"]

LAPLACE_MEAN = math.sqrt(0.5)
LAPLACE_DEVIATION = math.sqrt(0.25 / math.pi)


def relu2(scores: Tensor) -> Tensor:
    """`max(x, 0)²` (Hua et al. 2022)."""
    return scores.relu().square()


def laplace(scores: Tensor) -> Tensor:
    """`½(1 + erf((x − √½) / (√(1/4π)·√2)))`, near relu² and bounded (Ma et al. 2023, section 3.3)."""
    return 0.5 * (1.0 + torch.erf((scores - LAPLACE_MEAN) / (LAPLACE_DEVIATION * math.sqrt(2.0))))


def attend(scores: Tensor, values: Tensor, allowed: Tensor | None, kind: AttentionKind) -> Tensor:
    """Sum of values by the weights that the scores give; a pair that is not allowed weighs nothing.

    scores `(…, queries, keys)`; values `(…, keys, dim)`; allowed boolean, broadcast against the scores, or
    None if every pair is. Returns `(…, queries, dim)`; zeros for a query without any allowed key.
    Raises ValueError for an unknown kind.
    """
    if kind == "softmax":
        if allowed is None:
            return torch.softmax(scores, dim=-1) @ values
        lowest = torch.finfo(scores.dtype).min
        weights = torch.softmax(scores.masked_fill(~allowed, lowest), dim=-1)
        return (weights @ values).masked_fill(~allowed.any(dim=-1, keepdim=True), 0.0)
    if kind == "relu2":
        weights = relu2(scores)
    elif kind == "laplace":
        weights = laplace(scores)
    else:
        raise ValueError(f"unknown attention {kind!r}: choose softmax, relu2 or laplace")
    return (weights if allowed is None else weights.masked_fill(~allowed, 0.0)) @ values
