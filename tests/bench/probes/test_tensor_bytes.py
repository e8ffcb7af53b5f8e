"""The exact peak of live tensor bytes, against cases counted by hand."""

import pytest
import torch
from torch import nn

from bench.probes.tensor_bytes import TensorBytes, tensor_bytes

KIB = 1024


def block(kib: int) -> torch.Tensor:
    return torch.empty(kib * KIB, dtype=torch.uint8)


def watched(action) -> int:
    """Peak bytes above what was live before."""
    with TensorBytes() as watch:
        action()
    return watch.peak - watch.before


def test_one_after_the_other_counts_once():
    def action():
        for _ in range(3):
            kept = block(8)
            del kept

    assert watched(action) == 8 * KIB


def test_together_they_add_up():
    def action():
        kept = [block(8), block(16)]
        del kept
        block(4)

    assert watched(action) == 24 * KIB


def test_views_are_free_and_keep_their_storage_alive():
    def action():
        view = block(8)[:1]
        other = block(2)
        del view, other

    assert watched(action) == 10 * KIB


def test_in_place_operations_are_free():
    tensor = torch.ones(1000)
    assert watched(lambda: tensor.mul_(2).add_(1)) == 0


def test_a_training_step_by_hand():
    """y = x @ w keeps y (4 KiB); backward makes the gradient of w (4 KiB) while y's gradient is live."""
    x, w = torch.ones(32, 32), nn.Parameter(torch.ones(32, 32))

    def action():
        y = x @ w
        y.backward(torch.ones_like(y))

    assert watched(action) == 3 * 4 * KIB


def test_what_is_named_counts_from_the_start_and_what_is_read_does_too():
    named, read, neither = block(8), block(4), block(2)
    with TensorBytes([named, named[:1]]) as watch:
        block(16)
        read.add_(1)
    assert (watch.before, watch.peak) == (12 * KIB, 28 * KIB)
    assert neither.nbytes == 2 * KIB


def test_what_stays_is_growth():
    kept = []
    with TensorBytes() as watch:
        kept.append(block(4))
        block(8)
    assert (watch.growth, watch.peak) == (4 * KIB, 12 * KIB)


def test_a_sparse_tensor_is_its_indices_and_values():
    dense = torch.eye(64)
    with TensorBytes([dense]) as watch:
        sparse = dense.to_sparse()
        assert watch.growth == tensor_bytes([sparse._indices(), sparse._values()]) == 64 * (2 * 8 + 4)
        rows = dense.to_sparse_csr()
        parts = [rows.crow_indices(), rows.col_indices(), rows.values()]
        assert watch.growth == 64 * (2 * 8 + 4) + tensor_bytes(parts)
    with TensorBytes([sparse, rows]) as after:
        assert after.before == watch.growth


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
def test_a_jagged_tensor_is_its_values_and_offsets():
    jagged = torch.nested.nested_tensor([torch.ones(3, 256), torch.ones(5, 256)], layout=torch.jagged)
    values = jagged.values().nbytes
    with TensorBytes([jagged]) as watch:
        assert watch.before == values + jagged.offsets().nbytes
        doubled = jagged * 2
        assert watch.growth == values
        del doubled
        assert watch.growth == 0


def test_saved_tensors_of_a_custom_function_count():
    class Keeps(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(block(64))
            return x.clone()

        @staticmethod
        def backward(ctx, gradient):
            return gradient

    x = torch.ones(1, requires_grad=True)
    peak = watched(lambda: Keeps.apply(x).backward())
    assert peak == pytest.approx(64 * KIB, abs=64)


def test_tensor_bytes_counts_a_storage_once():
    tensor = torch.zeros(100)
    assert tensor_bytes([tensor, tensor[:10], tensor.view(10, 10)]) == 400
