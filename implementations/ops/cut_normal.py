"""Initial values of SeqBoat's parameters."""

from torch import Tensor, nn


def cut_normal_(tensor: Tensor, std: float) -> Tensor:
    """Fill with `N(0, std)`, cut at two deviations. Returns the tensor."""
    return nn.init.trunc_normal_(tensor, std=std, a=-2 * std, b=2 * std)
