"""Coefficients of the damped EMA, in one kernel each way.

The plain form is `DampedEMA.coefficients` of `implementations.ops.ema`.
"""

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from implementations.kernels.triton.coefficient_kernels import (
    coefficients_backward_kernel,
    coefficients_kernel,
)
from implementations.kernels.triton.launch import ACCUMULATORS, blocks, launch
from implementations.kernels.triton.work import Work

BLOCK = 256


@dataclass(frozen=True)
class Coefficients:
    """weight, decay = q − 1, log_decay = ln q `(kernels, states)`, omega `(dim,)`, in the sums' precision."""

    weight: Tensor
    decay: Tensor
    log_decay: Tensor
    omega: Tensor

    @property
    def options(self) -> dict[str, Any]:
        """Constants of every kernel that has all states of a channel in a thread."""
        return {
            "STATES": self.weight.shape[1],
            "ACC": ACCUMULATORS[self.weight.dtype],
            "num_warps": 1,
        }


def coefficients(parameters: tuple[Tensor, ...], omega: Tensor, dtype: torch.dtype) -> Coefficients:
    """Coefficients from delta, alpha, beta and gamma, `(kernels, states)` each but for sizes of 1."""
    gamma = parameters[-1]
    weight, decay, log_decay = gamma.new_empty(3, *gamma.shape, dtype=dtype)
    launch(
        coefficients_kernel,
        (blocks(gamma.numel(), BLOCK),),
        *parameters,
        weight,
        decay,
        log_decay,
        gamma.numel(),
        SCALE=math.sqrt(1.0 / gamma.shape[1]),
        BLOCK=BLOCK,
        ACC=ACCUMULATORS[dtype],
        work=lambda: Work((*parameters, weight, decay, log_decay)),
    )
    return Coefficients(weight, decay, log_decay, omega)


def coefficients_backward(parameters: tuple[Tensor, ...], sums: Tensor) -> tuple[Tensor, ...]:
    """Gradients of delta, alpha, beta and gamma.

    sums `(directions, 2·states + 1, dim)`: gradient of each weight, that of each ln q over its weight, and
    another.
    """
    gamma = parameters[-1]
    grads = tuple(torch.empty_like(parameter) for parameter in parameters)
    launch(
        coefficients_backward_kernel,
        (blocks(gamma.numel(), BLOCK),),
        *parameters,
        sums,
        *grads,
        gamma.numel(),
        sums.shape[2],
        SCALE=math.sqrt(1.0 / gamma.shape[1]),
        STATES=gamma.shape[1],
        BLOCK=BLOCK,
        ACC=ACCUMULATORS[sums.dtype],
        work=lambda: Work((*parameters, sums, *grads)),
    )
    return grads
