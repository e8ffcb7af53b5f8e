"""Layers of flax: kernels `(in, out)`, LeCun-normal, and norms with flax's defaults and names."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from implementations.ops.batch_norm import batch_norm


def lecun_normal(*shape: int, fan_in: int) -> Tensor:
    """Normal, cut at two standard deviations and scaled to a variance of `1/fan_in`."""
    cut_normal_std = 0.87962566103423978
    x = nn.init.trunc_normal_(torch.empty(shape), a=-2.0, b=2.0)
    return x / (cut_normal_std * math.sqrt(fan_in))


class Dense(nn.Module):
    """`x·kernel + bias` with kernel `(in, out)`, LeCun-normal: `(…, in)` to `(…, out)`."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.kernel = nn.Parameter(lecun_normal(inputs, outputs, fan_in=inputs))
        self.bias = nn.Parameter(torch.zeros(outputs))

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.kernel.mT, self.bias)


class InputDense(Dense):
    """A dense layer of one-hot tokens, or of one real per step: `(batch, length)` to `(…, outputs)`."""

    def forward(self, inputs: Tensor) -> Tensor:
        if inputs.is_floating_point():
            return super().forward(inputs.unsqueeze(-1))
        return F.embedding(inputs, self.kernel) + self.bias


class BatchNorm(nn.Module):
    """Statistics over batch and length of `(batch, length, dim)`, padding included; biased running variance.

    momentum: share that the running statistics keep at every step.
    """

    mean: Tensor
    var: Tensor

    def __init__(self, dim: int, momentum: float, epsilon: float = 1e-5) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(dim))
        self.bias = nn.Parameter(torch.zeros(dim))
        self.register_buffer("mean", torch.zeros(dim))
        self.register_buffer("var", torch.ones(dim))
        self.momentum = momentum
        self.epsilon = epsilon

    def forward(self, x: Tensor) -> Tensor:
        rows = x.reshape(-1, x.shape[-1])
        if not self.training:
            y = F.batch_norm(rows, self.mean, self.var, self.scale, self.bias, eps=self.epsilon)
            return y.view_as(x)
        y, mean, variance = batch_norm(rows, self.scale, self.bias, self.epsilon)
        biased = variance * ((len(rows) - 1) / len(rows))
        with torch.no_grad():
            self.mean.lerp_(mean.to(self.mean.dtype), 1 - self.momentum)
            self.var.lerp_(biased.to(self.var.dtype), 1 - self.momentum)
        return y.view_as(x)


class LayerNorm(nn.Module):
    """LayerNorm over the last dimension with flax's ε = 1e-6."""

    def __init__(self, dim: int, epsilon: float = 1e-6) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(dim))
        self.bias = nn.Parameter(torch.zeros(dim))
        self.epsilon = epsilon

    def forward(self, x: Tensor) -> Tensor:
        return F.layer_norm(x, self.scale.shape, self.scale, self.bias, self.epsilon)
