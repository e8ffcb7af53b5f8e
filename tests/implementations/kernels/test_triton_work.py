"""The work that launches declare, against counts by hand; nothing is computed."""

import torch
from torch import Tensor

from implementations.kernels.triton.work import Work, counted

from .triton_oracle import DEVICE, numbers

from implementations.kernels.triton.attention import Attention, Blocks, attention  # isort: skip
from implementations.kernels.triton.packing import Packing  # isort: skip

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
