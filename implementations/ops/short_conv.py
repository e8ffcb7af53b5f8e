"""Causal depthwise convolution over a few steps, as modern recurrent layers have it before their memory."""

from torch import Tensor, nn


class ShortConv(nn.Conv1d):
    """`y_t = Σ_j w_j x_{t − width + 1 + j}` for each channel: `(batch, length, dim)` to the same."""

    def __init__(self, dim: int, width: int, bias: bool = True) -> None:
        super().__init__(dim, dim, width, groups=dim, padding=width - 1, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.mT)[..., : x.shape[1]].mT
