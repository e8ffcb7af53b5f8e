"""Steps taken and added, with dropout, and states turned, against torch's operators."""

import pytest
import torch
from torch import Tensor

from implementations.kernels.cpu.steps import KEPT, Dropout, add_, dropped, dropped_sum, take
from implementations.kernels.cpu.tiles import innermost, time_innermost, time_outermost

from .cpu_oracle import numbers

pytestmark = pytest.mark.usefixtures("cpu_kernels")

PRECISIONS = pytest.mark.parametrize("dtype", [torch.float32, torch.float64])


def drawn(x: Tensor, probability: float = 0.3) -> tuple[Dropout, Tensor]:
    """Dropout of x, and its factors."""
    dropout = Dropout.of(x, x.numel(), probability)
    return dropout, dropped(torch.ones_like(x), dropout)


def rows_of(columns: int, dtype: torch.dtype) -> Tensor:
    """Seven rows, which do not lie one after another."""
    torch.manual_seed(0)
    return torch.randn(7, 3, columns, dtype=dtype)[:, 1]


@PRECISIONS
@pytest.mark.parametrize("count", [0, 1, 37, 50])
def test_some_steps_are_taken_and_added(dtype: torch.dtype, count: int) -> None:
    x, steps = rows_of(50, dtype), torch.randperm(50)[:count].sort().values
    assert torch.equal(take(x, steps), x[:, steps])
    part = torch.randn(7, count, dtype=dtype)
    dropout, factors = drawn(part)
    torch.testing.assert_close(take(x, steps, dropout), x[:, steps] * factors)
    for how, factor in ((KEPT, torch.ones_like(part)), (dropout, factors)):
        expected = x.clone()
        expected[:, steps] += part * factor
        found = rows_of(50, dtype)
        add_(found, steps, part.clone(), how)
        torch.testing.assert_close(found, expected)


@PRECISIONS
def test_a_sum_is_dropped_as_its_gradient_is(dtype: torch.dtype) -> None:
    x, out = rows_of(41, dtype), torch.empty(7, 41, dtype=dtype)
    part = torch.randn(7, 41, dtype=dtype)
    dropout, factors = drawn(part)
    assert 0 < (factors == 0).sum() < part.numel()
    torch.testing.assert_close(factors.unique(), torch.tensor([0.0, 1 / 0.7], dtype=dtype))
    dropped_sum(x, part.clone(), dropout, out)
    torch.testing.assert_close(out, x + part * factors)
    torch.testing.assert_close(dropped(x, dropout), x * factors)


@PRECISIONS
@pytest.mark.parametrize(
    ("batch", "length", "dim"), [(1, 48, 32), (3, 70, 13), (2, 2100, 16), (2, 17, 5), (1, 1, 1)]
)
@pytest.mark.parametrize("together", [True, False])
def test_states_are_turned_and_their_gradient_back(
    dtype: torch.dtype, batch: int, length: int, dim: int, together: bool
) -> None:
    x = numbers(batch, length, dim).to(dtype).requires_grad_()
    states = time_innermost(x, together)
    assert states.is_contiguous()
    assert torch.equal(time_outermost(states), x)
    assert time_innermost(time_outermost(states), together).data_ptr() == states.data_ptr()
    weights = torch.randn(batch, length, dim, dtype=dtype)
    (grad,) = torch.autograd.grad((time_outermost(states) * weights).sum(), x)
    assert torch.equal(grad, weights)
    turned = states.detach().permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2)
    assert torch.equal(innermost(turned), turned)
    assert innermost(turned).is_contiguous()
