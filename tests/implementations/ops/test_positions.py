import math

import torch

from implementations.ops.relative_bias import RelativeBias
from implementations.ops.rotary import rotate


def test_simple_bias_reads_its_table_by_the_distance_of_original_positions() -> None:
    bias = RelativeBias.simple(3)
    with torch.no_grad():
        bias.rel_pos_bias.copy_(torch.arange(5.0))  # distances −2 … 2
    positions = torch.tensor([[0, 1, 5]])
    assert bias(positions, positions).tolist() == [[[2, 3, 4], [1, 2, 4], [0, 0, 2]]]


def test_local_bias_holds_distance_zero_at_four_windows() -> None:
    bias = RelativeBias.local(2)
    assert bias.rel_pos_bias.shape == (11,)
    with torch.no_grad():
        bias.rel_pos_bias.copy_(torch.arange(11.0))
    assert bias(torch.arange(2), torch.arange(-2, 4)).tolist() == [[5, 6, 7, 8, 9, 10], [4, 5, 6, 7, 8, 9]]


def test_rotary_turns_neighbouring_channels_by_their_angle() -> None:
    x = torch.tensor([[[1.0, 0.0, 0.0, 1.0]]], dtype=torch.float64)
    turned = rotate(x, torch.tensor([[3]]))[0, 0].tolist()
    slow = 3 * 10000.0**-0.5
    expected = [math.cos(3), math.sin(3), -math.sin(slow), math.cos(slow)]
    torch.testing.assert_close(turned, expected)


def test_rotary_products_depend_on_the_distance_only() -> None:
    torch.manual_seed(0)
    q, k = torch.randn(2, 1, 1, 6, dtype=torch.float64)

    def product(i: int, j: int) -> torch.Tensor:
        return (rotate(q, torch.tensor([i])) * rotate(k, torch.tensor([j]))).sum()

    torch.testing.assert_close(product(3, 10), product(1003, 1010))
    assert not torch.isclose(product(3, 10), product(3, 11))
    torch.testing.assert_close(rotate(q, torch.tensor([7])).norm(), q.norm())
    assert rotate(q.bfloat16(), torch.tensor([7])).dtype == torch.bfloat16
