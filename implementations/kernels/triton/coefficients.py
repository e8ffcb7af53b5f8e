"""Coefficients of the damped EMA and its taps, in one kernel each way.

The plain form is `DampedEMA.coefficients` of `implementations.ops.ema`.
"""

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from implementations.kernels.triton.chunks import Chunks
from implementations.kernels.triton.coefficient_kernels import (
    coefficients_backward_kernel,
    coefficients_kernel,
)
from implementations.kernels.triton.launch import ACCUMULATORS, launch, power_of_two
from implementations.kernels.triton.work import Work


@dataclass(frozen=True)
class Coefficients:
    """In the sums' precision; kernels are those of one direction after those of the other."""

    weight: Tensor
    """`(kernels, states)`."""
    log_decay: Tensor
    """ln q `(kernels, states)`."""
    omega: Tensor
    """`(dim,)`."""
    taps: Tensor
    """Those of each Toeplitz matrix, by lag from −steps of a chunk: `(dim, matrices, 2·steps)`."""

    @property
    def options(self) -> dict[str, Any]:
        """Constants of every kernel that has the states of a channel."""
        states = self.weight.shape[1]
        return {
            "STATES": states,
            "SLOTS": power_of_two(states, least=16),
            "ACC": ACCUMULATORS[self.weight.dtype],
        }


def width_of_sums(chunks: Chunks, states: int) -> int:
    """Sums of a pair of blocks: see parameter_sums_kernel."""
    slots = power_of_two(states, least=16)
    return chunks.matrices * 2 * chunks.block + 2 * chunks.directions * slots + 1


def coefficients(
    parameters: tuple[Tensor, ...], omega: Tensor, chunks: Chunks, dtype: torch.dtype
) -> Coefficients:
    """Coefficients from delta, alpha, beta and gamma, `(kernels, states)` each but for sizes of 1."""
    gamma, dim = parameters[-1], omega.shape[0]
    weight, log_decay = gamma.new_empty(2, *gamma.shape, dtype=dtype)
    taps = gamma.new_empty(dim, chunks.matrices, 2 * chunks.steps, dtype=dtype)
    by = Coefficients(weight, log_decay, omega, taps)
    launch(
        coefficients_kernel,
        (dim,),
        parameters,
        weight,
        log_decay,
        taps,
        dim,
        chunks.taps,
        SCALE=math.sqrt(1.0 / gamma.shape[1]),
        **chunks.options,
        **by.options,
        work=lambda: Work((*parameters, weight, log_decay, taps)),
    )
    return by


def coefficients_backward(
    parameters: tuple[Tensor, ...], by: Coefficients, chunks: Chunks, sums: Tensor
) -> tuple[Tensor, ...]:
    """Gradients of delta, alpha, beta, gamma and omega from the sums `(dim, pairs, width)`."""
    grads = (*(torch.empty_like(parameter) for parameter in parameters), torch.empty_like(by.omega))
    launch(
        coefficients_backward_kernel,
        (sums.shape[0],),
        parameters,
        by.log_decay,
        sums,
        grads,
        sums.shape[0],
        chunks.taps,
        SCALE=math.sqrt(1.0 / by.weight.shape[1]),
        WIDTH=sums.shape[2],
        **chunks.options,
        **by.options,
        work=lambda: Work((*parameters, by.log_decay, sums, *grads)),
    )
    return grads
