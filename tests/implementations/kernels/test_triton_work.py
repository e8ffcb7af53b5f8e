"""The work that launches declare, against counts by hand, and against what the interpreter multiplies."""

from collections import Counter
from typing import Any

import pytest
import torch
from torch import Tensor

from implementations.kernels.triton.work import Work, counted
from implementations.ops.ema import DampedEMA

from .triton_oracle import DEVICE, numbers

from implementations.kernels.triton.attention import Attention, Blocks, attention  # isort: skip
from implementations.kernels.triton.chunks import MOST_CHUNKS, Average, Chunks  # isort: skip
from implementations.kernels.triton.ema import damped_ema  # isort: skip
from implementations.kernels.triton.packing import Packing  # isort: skip
import triton  # isort: skip
from triton.runtime.interpreter import InterpreterBuilder  # isort: skip

ROWS, LENGTH, DIM, HIDDEN = 2, 64, 16, 48


def launches(how: Attention) -> dict[str, Work]:
    """Those of attention forward and backward over rows of one length, in blocks of 32 steps and columns."""
    packing = Packing.rows_of(ROWS, LENGTH, None, DEVICE)
    steps = ROWS * LENGTH
    q, k, v = (numbers(steps, width).requires_grad_() for width in (DIM, DIM, HIDDEN))
    found: dict[str, Work] = {}
    with counted(lambda name, work: found.update({name: work})):
        out: Tensor = attention(q, k, v, packing, how)
        out.backward(torch.ones_like(out))
    return found


def blocks() -> Blocks:
    return Blocks(queries=32, keys=32, slice=32, widest=32)


def test_whole_rows_are_all_pairs_and_columns_fill_blocks() -> None:
    """48 columns are two blocks of 32, for each of which the scores are computed."""
    found = launches(Attention(blocks=blocks()))
    pairs = ROWS * LENGTH * LENGTH
    assert found["attention_kernel"].products == 2 * pairs * 2 * (DIM + 32)
    assert found["values_backward_kernel"].products == 2 * pairs * 2 * (DIM + 32)
    assert found["scores_backward_kernel"].products == 2 * pairs * (3 * DIM + 2 * 32)
    once = ROWS * LENGTH * 8
    # q, k, v, the result, the log of each sum; row and place of each step.
    assert found["attention_kernel"].bytes == once * (2 * DIM + 2 * HIDDEN + 1 + 2)


def test_a_window_is_its_band_in_whole_blocks() -> None:
    near, causal = (
        launches(Attention(blocks=blocks(), window=8, causal=causal))["attention_kernel"].products
        for causal in (False, True)
    )
    assert near == 2 * ROWS * LENGTH * 64 * 2 * (DIM + 32)
    assert causal == near


@pytest.mark.skipif(not triton.knobs.runtime.interpret, reason="the interpreter's products are counted")
@pytest.mark.parametrize(
    ("length", "truncation", "chunk"),
    [
        (37, None, 16),
        (150, 112, 16),
        (150, 140, 128),
        (65 * 16, None, 16),
        (130 * 32, None, 32),
        (130 * 32, 1000, 32),
    ],
)
def test_the_products_of_an_average_are_those_that_are_computed(
    length: int, truncation: int | None, chunk: int
) -> None:
    made, x = DampedEMA(2, 3, truncation=truncation), torch.randn(1, length, 2).requires_grad_()
    declared, computed, running = Counter[str](), Counter[str](), ""

    def launched(name: str, work: Work) -> None:
        nonlocal running
        running = name
        declared[name] += work.flops

    create_dot = InterpreterBuilder.create_dot

    def dot(self: Any, a: Any, b: Any, *how: Any) -> Any:
        computed[running] += 2 * a.data.size * b.data.shape[1]
        return create_dot(self, a, b, *how)

    with pytest.MonkeyPatch.context() as patch, counted(launched, run=True):
        patch.setattr(InterpreterBuilder, "create_dot", dot)
        damped_ema(made, x, chunk=chunk).sum().backward()
    for kernel in ("average_kernel", "parameter_sums_kernel"):
        assert declared[kernel] == computed[kernel] > 0


@pytest.mark.parametrize(
    ("length", "steps", "parts"), [(1, 64, 1), (16_384, 64, 1), (16_385, 128, 2), (65_536, 256, 4)]
)
def test_long_rows_have_longer_chunks_of_several_blocks(length: int, steps: int, parts: int) -> None:
    chunks = Chunks.of(Average(bidirectional=True, truncation=None), length)
    assert (chunks.steps, chunks.parts) == (steps, parts)
    assert chunks.count <= MOST_CHUNKS
