"""Rates of dropout modules, for kernels that drop by themselves."""

from torch import nn


def rate_of(dropout: nn.Dropout) -> float:
    """Share that is dropped now: nothing if the module is in evaluation, whichever mode its layer is in."""
    return dropout.p if dropout.training else 0.0
