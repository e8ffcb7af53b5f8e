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
        before = watch.current
        action()
    return watch.peak - before


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


def test_what_lives_at_entry_counts_with_its_gradient():
    parameter = nn.Parameter(torch.ones(1024))
    with TensorBytes() as before:
        bare = before.current
    parameter.sum().backward()
    with TensorBytes() as after:
        assert after.current == bare + 4 * KIB
        assert after.peak >= 8 * KIB


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
