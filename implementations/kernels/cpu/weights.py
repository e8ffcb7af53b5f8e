"""Attention weights from scores, and back, in place: softmax, relu² and laplace."""

import functools
import math

import torch
from torch import Tensor

from implementations.ops.attention_functions import LAPLACE_DEVIATION, LAPLACE_MEAN, AttentionKind


@functools.lru_cache(maxsize=8)
def hidden_score(dtype: torch.dtype) -> float:
    """The score of a pair that must weigh nothing: finite, so that a query without keys gives no NaN."""
    return torch.finfo(dtype).min / 2


def weigh_(scores: Tensor, kind: AttentionKind, *, blind: bool = False, slope: bool = False) -> Tensor | None:
    """Turn scores, along their last dimension, into weights, in place.

    blind: some queries may have no key that is not hidden; all their weights are then zero.
    slope: return what scores_gradient_ needs besides the weights, the derivative of a weight by its score
    (None for softmax, which finds it from the weights). Raises ValueError for an unknown kind.
    """
    if kind == "softmax":
        nothing = scores.amax(dim=-1, keepdim=True) < hidden_score(scores.dtype) / 2 if blind else None
        torch.softmax(scores, -1, out=scores)
        if nothing is not None:
            scores.masked_fill_(nothing, 0.0)
        return None
    if kind == "relu2":
        scores.relu_()
        derivative = scores * 2.0 if slope else None
        scores.square_()
        return derivative
    if kind == "laplace":
        scores.sub_(LAPLACE_MEAN).mul_(1.0 / (LAPLACE_DEVIATION * math.sqrt(2.0)))
        derivative = None
        if slope:
            derivative = (
                scores.square().neg_().exp_().mul_(1.0 / (LAPLACE_DEVIATION * math.sqrt(2.0 * math.pi)))
            )
        scores.erf_().add_(1.0).mul_(0.5)
        return derivative
    raise ValueError(f"unknown attention {kind!r}: choose softmax, relu2 or laplace")


def scores_gradient_(grad_weights: Tensor, weights: Tensor, slope: Tensor | None) -> None:
    """Turn the gradient of the weights into that of the scores, in place; slope as weigh_ gave it."""
    if slope is not None:
        grad_weights.mul_(slope)
        return
    torch.ops.aten._softmax_backward_data.out(
        grad_weights, weights, -1, weights.dtype, grad_input=grad_weights
    )
