"""The exact costs of a step, against hand-counted ones."""

import math

import torch
from torch import nn

from bench.probes.operators import count


def test_products_in_place_transforms_and_pointwise_arithmetic_count() -> None:
    x = torch.ones(8, 16)
    total = torch.zeros(8, 8)

    def step() -> None:
        total.addmm_(x, x.t())
        torch.fft.rfft(x).abs()

    exact = count(step, nn.Linear(3, 2))

    product = 2 * 8 * 16 * 8
    transform = int(5 * 8 * 16 * math.log2(16) * 0.5)
    magnitudes = 8 * 9
    assert exact.flops == product + transform + magnitudes
    assert exact.parameters == 8


def test_the_peak_is_that_of_the_second_step() -> None:
    kept: list[torch.Tensor] = []

    def step() -> None:
        if not kept:
            kept.append(torch.zeros(1024))
        torch.zeros(256).add_(1)

    exact = count(step, nn.Linear(1, 1), live=lambda: kept)
    assert exact.tensor_bytes == 4 * (1024 + 256)
