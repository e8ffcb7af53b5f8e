"""Primitives, forward and backward, plain and fused, at the Text configuration.

Whole models are in test_models.
"""

import pytest
import torch

from implementations.kernels.cpu.chunked_attention import fused_chunked_attention
from implementations.kernels.cpu.ema import fused_ema
from implementations.kernels.cpu.local_attention import fused_local_attention
from implementations.models.mega import SimpleRelativeBias
from implementations.ops.chunked_attention import chunked_attention
from implementations.ops.ema import DampedEMA
from implementations.ops.local_attention import local_attention
from implementations.ops.relative_bias import RelativeBias

DIM, WIDTH, Z, STATES, WINDOW, TRUNCATION = 128, 256, 64, 16, 128, 1024
ROUNDS = 7


@pytest.fixture(params=["plain", "fused"])
def form(request, benchmark):
    benchmark.extra_info["form"] = request.param
    return request.param


def timed(benchmark, group: str, step) -> None:
    benchmark.group = group
    benchmark.pedantic(step, rounds=ROUNDS, warmup_rounds=2)


def backward(outputs: torch.Tensor) -> None:
    outputs.backward(torch.ones_like(outputs))


@pytest.mark.parametrize("length", [1024, 4096, 16384])
def test_ema(benchmark, form, length):
    ema = DampedEMA(DIM, STATES, bidirectional=True, truncation=TRUNCATION)
    x = torch.randn(1, length, DIM, requires_grad=True)
    forward = ema if form == "plain" else lambda x: fused_ema(ema, x)
    timed(benchmark, f"EMA, {length} steps", lambda: backward(forward(x)))


@pytest.mark.parametrize("kind", ["softmax", "relu2"])
@pytest.mark.parametrize("memory", [1228, 4096])
def test_local_attention(benchmark, form, kind, memory):
    q, k = (torch.randn(1, memory, Z, requires_grad=True) for _ in range(2))
    v = torch.randn(1, memory, WIDTH, requires_grad=True)
    bias = RelativeBias.local(WINDOW)
    attend = local_attention if form == "plain" else fused_local_attention
    timed(
        benchmark,
        f"attention within {WINDOW} of {memory} steps, {kind}",
        lambda: backward(attend(q, k, v, WINDOW, kind=kind, bias=bias)),
    )


@pytest.mark.parametrize("chunk", [128, 4096])
def test_chunked_attention(benchmark, form, chunk):
    q, k = (torch.randn(1, 4096, Z, requires_grad=True) for _ in range(2))
    v = torch.randn(1, 4096, WIDTH, requires_grad=True)
    bias = SimpleRelativeBias(chunk)

    def step():
        if form == "plain":
            backward(chunked_attention(q, k, v, bias, chunk=chunk))
        else:
            backward(fused_chunked_attention(q, k, v, bias.by_distance, chunk=chunk))

    timed(benchmark, f"attention in chunks of {chunk}, 4096 steps", step)
