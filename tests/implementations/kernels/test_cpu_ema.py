"""The EMA as one circular convolution, against the plain form."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.func import functional_call
from torch.nn import functional as F

from implementations.kernels.cpu.ema import MOST_STATES, fused_ema, kernel_of
from implementations.kernels.cpu.ema_circle import CircularKernel, PowerTables
from implementations.ops.ema import DampedEMA

from .cpu_oracle import check, check_digits, numbers

pytestmark = pytest.mark.usefixtures("cpu_kernels")

DIM, STATES = 5, 3


def ema_of(length: int, truncation: int | None, bidirectional: bool, slow: bool = False) -> DampedEMA:
    torch.manual_seed(length)
    ema = DampedEMA(DIM, STATES, bidirectional, truncation).double()
    if slow:
        with torch.no_grad():  # q about 1 - 1e-4: what the truncation cuts off is large
            ema.delta.fill_(-7.0).add_(torch.rand_like(ema.delta))
            ema.alpha.fill_(-2.0)
    return ema


def by_parameters(ema: DampedEMA, run: Callable[[DampedEMA, Tensor], Tensor]) -> Callable[..., Tensor]:
    """`run(ema, x)` as a function of x and the EMA's parameters."""
    names = [name for name, _ in ema.named_parameters()]

    class Call(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.ema = ema

        def forward(self, x: Tensor) -> Tensor:
            return run(self.ema, x)

    call = Call()
    return lambda x, *values: functional_call(
        call, {f"ema.{name}": value for name, value in zip(names, values, strict=True)}, (x,)
    )


def compare(ema: DampedEMA, x: Tensor, padding: Tensor | None, check: Callable[..., None] = check) -> None:
    check(
        by_parameters(ema, lambda ema, x: ema(x, padding)),
        by_parameters(ema, lambda ema, x: fused_ema(ema, x, padding)),
        x,
        *ema.parameters(),
    )


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize(
    ("length", "truncation"),
    [(1, None), (1, 1), (2, 1), (7, 3), (64, 64), (97, None), (97, 200), (97, 30), (130, 17), (130, 2)],
)
def test_lengths_and_truncations(length: int, truncation: int | None, bidirectional: bool) -> None:
    compare(ema_of(length, truncation, bidirectional), numbers(2, length, DIM), None)


@pytest.mark.parametrize("bidirectional", [False, True])
def test_a_truncated_tail_that_matters(bidirectional: bool) -> None:
    ema = ema_of(4096, 1024, bidirectional, slow=True)
    taps = ema.kernels(4096, torch.float64)[0]
    assert (taps[:, -1] / taps[:, 0]).abs().min() > 0.3
    compare(ema, numbers(1, 4096, DIM), None)


@pytest.mark.parametrize("bidirectional", [False, True])
def test_padded_steps_keep_their_own_input_only(bidirectional: bool) -> None:
    padding = torch.zeros(3, 40, dtype=torch.bool)
    padding[1, 25:] = True
    padding[2, 5:9] = True
    compare(ema_of(40, 12, bidirectional), numbers(3, 40, DIM), padding)


def test_silu_within() -> None:
    ema = ema_of(50, 20, True)
    check(
        by_parameters(ema, lambda ema, x: F.silu(ema(x))),
        by_parameters(ema, lambda ema, x: fused_ema(ema, x, activated=True)),
        numbers(2, 50, DIM),
        *ema.parameters(),
    )


@pytest.mark.parametrize("slow", [False, True])
def test_digits_of_float32(slow: bool) -> None:
    compare(ema_of(1500, 1024, True, slow), numbers(1, 1500, DIM), None, check_digits)


def test_dropout_zeroes_its_share_and_scales_the_rest() -> None:
    ema, x = ema_of(200, 50, True), numbers(4, 200, DIM).requires_grad_()
    torch.manual_seed(1)
    kept = fused_ema(ema, x, activated=True)
    y = fused_ema(ema, x, activated=True, dropout=0.25)
    zero = y == 0
    assert zero.double().mean().item() == pytest.approx(0.25, abs=5 * math.sqrt(0.25 * 0.75 / zero.numel()))
    torch.testing.assert_close(y[~zero], kept[~zero] / 0.75)
    # The gradient is that of the same mask.
    weight = torch.where(zero, 0.0, numbers(*y.shape, seed=2)).detach()
    (ours,) = torch.autograd.grad((y * numbers(*y.shape, seed=2)).sum(), x)
    (theirs,) = torch.autograd.grad((kept / 0.75 * weight).sum(), x)
    torch.testing.assert_close(ours, theirs)


def test_the_same_whatever_lies_innermost() -> None:
    ema, x = ema_of(30, None, True), numbers(2, 30, DIM)
    turned = x.transpose(1, 2).contiguous().transpose(1, 2)
    torch.testing.assert_close(fused_ema(ema, x), fused_ema(ema, turned), rtol=0, atol=0)


@pytest.mark.parametrize("states", [MOST_STATES, MOST_STATES + 1])
def test_states_whose_coefficients_find_no_room_on_a_stack(states: int, cpu_kernels: str) -> None:
    """Sixty times as many would end the process."""
    ema = DampedEMA(2, states, False)
    kernel = kernel_of(torch.randn(2, 1, 8), *ema.coefficients(torch.float32), ema.omega, None)
    assert isinstance(kernel, CircularKernel) == (cpu_kernels == "torch" or states > MOST_STATES)


def test_half_precision_is_computed_in_single() -> None:
    ema, x = ema_of(64, 32, True).float(), numbers(1, 64, DIM).to(torch.bfloat16)
    y = fused_ema(ema, x)
    assert y.dtype == torch.bfloat16
    torch.testing.assert_close(y, ema(x.float()).to(torch.bfloat16))


def test_power_tables_hold_all_powers() -> None:
    log_decay = -numbers(4, STATES).abs()
    for taps in (1, 2, 3, 16, 17, 1000):
        kernel = PowerTables.of(log_decay, taps).kernel(torch.ones(4, STATES, dtype=torch.float64))
        expected = torch.exp(log_decay.unsqueeze(-1) * torch.arange(taps)).sum(dim=1)
        torch.testing.assert_close(kernel, expected)


def test_a_circle_is_as_short_as_it_may_be() -> None:
    """One step shorter, and the tail of a row would wrap onto its head."""
    weight, omega = torch.ones(2, 1), torch.ones(1)
    kernel = CircularKernel.of(weight, -torch.ones(2, 1), omega, length=4096, taps=1024)
    assert kernel.size == 5120 >= 4096 + 1024 - 1
