"""Banded attention, against the plain form."""

import pytest
import torch
from torch import Tensor

from implementations.kernels.cpu.band import Band, Square, layout_of, sum_by_distance
from implementations.kernels.cpu.local_attention import fused_local_attention
from implementations.ops.local_attention import local_attention
from implementations.ops.relative_bias import RelativeBias

from .cpu_oracle import check, check_digits, numbers

pytestmark = pytest.mark.usefixtures("cpu_kernels")

WINDOW = 40
LENGTHS = [1, 2, WINDOW, WINDOW + 1, 111, 112, 113, 128, 250]
"""Around the length beyond which rows are banded, and no multiple of a block."""


def compare(
    length: int, window: int = WINDOW, check=check, bias: RelativeBias | None = None, **options
) -> None:
    q, k, v = numbers(2, length, 6), numbers(2, length, 6, seed=1), numbers(2, length, 10, seed=2)
    if bias is None:
        check(
            lambda q, k, v: local_attention(q, k, v, window, **options),
            lambda q, k, v: fused_local_attention(q, k, v, window, **options),
            q,
            k,
            v,
        )
        return

    def with_table(table: Tensor) -> RelativeBias:
        copy = RelativeBias(table.numel(), bias.origin)
        del copy.rel_pos_bias
        copy.rel_pos_bias = table  # type: ignore[assignment]
        return copy

    check(
        lambda q, k, v, table: local_attention(q, k, v, window, bias=with_table(table), **options),
        lambda q, k, v, table: fused_local_attention(q, k, v, window, bias=with_table(table), **options),
        q,
        k,
        v,
        numbers(bias.rel_pos_bias.numel(), seed=3),
    )


@pytest.mark.parametrize("kind", ["softmax", "relu2", "laplace"])
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("length", LENGTHS)
def test_lengths(length: int, causal: bool, kind: str) -> None:
    compare(length, kind=kind, causal=causal)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("length", LENGTHS)
def test_bias_by_distance(length: int, causal: bool) -> None:
    compare(length, bias=RelativeBias.local(WINDOW), causal=causal)


@pytest.mark.parametrize("positions", [7, 60])
@pytest.mark.parametrize("length", [20, 250])
def test_bias_whose_ends_repeat(length: int, positions: int) -> None:
    compare(length, bias=RelativeBias.simple(positions))


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("length", [20, 250])
def test_bias_by_position(length: int, causal: bool) -> None:
    steps = torch.randint(1, 4, (2, length), generator=torch.Generator().manual_seed(4)).cumsum(dim=1)
    compare(length, bias=RelativeBias.simple(200), positions=steps, causal=causal, kind="relu2")


@pytest.mark.parametrize("kind", ["softmax", "relu2", "laplace"])
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("length", [30, 250])
def test_hidden_keys(length: int, causal: bool, kind: str) -> None:
    valid = torch.rand(2, length, generator=torch.Generator().manual_seed(6)) < 0.6
    valid[1, length // 3 : length // 3 + 2 * WINDOW + 5] = False  # queries in the middle see no key at all
    compare(length, valid=valid, kind=kind, causal=causal, bias=RelativeBias.local(WINDOW))


@pytest.mark.parametrize("window", [1, 3, 128])
def test_windows(window: int) -> None:
    compare(4 * window + 30, window)


def test_digits_of_float32() -> None:
    compare(600, 64, check=check_digits, bias=RelativeBias.local(64))


@pytest.mark.parametrize(
    "layout",
    [
        Band(70, 9, 9, 16),
        Band(70, 9, 0, 16),
        Band(71, 3, 5, 32),
        Square(12, 4, 4),
        Square(5, 9, 0),
        Square(36, 4, 4, 3),
    ],
    ids=str,
)
def test_every_pair_has_one_place_in_both_views(layout: Band | Square) -> None:
    """A score written by its query is read by its key, and none is read that no window holds."""
    scores = layout.empty_scores(torch.empty(0, dtype=torch.float64), fill=0.0)
    by_query = layout.by_query(scores)
    blocks, block, window = by_query.shape
    first = 0 if isinstance(layout, Square) else -layout.left
    query = (torch.arange(blocks)[:, None] * block + torch.arange(block)).view(blocks, block, 1)
    key = (torch.arange(blocks)[:, None] * block + torch.arange(window) + first).view(blocks, 1, window)
    in_band = (key - query >= -layout.left) & (key - query <= layout.right)
    by_query.copy_(torch.where(in_band, (1000.0 * query + key).double(), 0.0))

    by_key = layout.by_key(scores)
    start = 0 if isinstance(layout, Square) else -layout.right
    keys = (torch.arange(blocks)[:, None] * block + torch.arange(by_key.shape[2])).view(blocks, 1, -1)
    queries = (torch.arange(blocks)[:, None] * block + torch.arange(by_key.shape[1]) + start).view(
        blocks, -1, 1
    )
    reached = (keys - queries >= -layout.left) & (keys - queries <= layout.right)
    reached &= (queries >= 0) & (queries < blocks * block)
    torch.testing.assert_close(by_key, torch.where(reached, (1000.0 * queries + keys).double(), 0.0))


def test_long_rows_are_banded_and_short_ones_square() -> None:
    assert isinstance(layout_of(288, 128, 128), Square)
    assert isinstance(layout_of(289, 128, 128), Band)


def test_sums_along_diagonals() -> None:
    scores = numbers(3, 5)
    expected = [scores.diagonal(offset).sum() for offset in range(-2, 5)]
    torch.testing.assert_close(sum_by_distance(scores), torch.stack(expected))


def test_memory_is_linear_in_the_length() -> None:
    sizes = [Band(length, 128, 128, 32).empty_scores(torch.empty(0), 0.0).numel() for length in (4096, 16384)]
    assert sizes[1] < 4.1 * sizes[0]
