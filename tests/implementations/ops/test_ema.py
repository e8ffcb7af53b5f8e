import pytest
import torch
from torch import Tensor
from torch.func import functional_call

from implementations.ops.ema import DampedEMA

STATES = 4


def ema_recurrence(ema: DampedEMA, x: Tensor) -> Tensor:
    """Step by step: every state decays by q and takes in p·β·x, and leaves out what the kernel truncates."""
    p = torch.sigmoid(ema.delta).squeeze(-1)
    q = 1 - p * torch.sigmoid(ema.alpha).squeeze(-1)
    gain = p * ema.beta.squeeze(-1)
    taps = x.shape[1] if ema.truncation is None else ema.truncation

    def one_way(x: Tensor, rows: slice) -> Tensor:
        state = x.new_zeros(x.shape[0], ema.dim, ema.states)
        steps = []
        for t in range(x.shape[1]):
            state = q[rows] * state + gain[rows] * x[:, t, :, None]
            if t >= taps:
                state = state - gain[rows] * q[rows] ** taps * x[:, t - taps, :, None]
            steps.append((state * ema.gamma[rows]).sum(-1) / ema.states**0.5)
        return torch.stack(steps, dim=1)

    y = ema.omega * x + one_way(x, slice(0, ema.dim))
    if ema.bidirectional:
        y = y + one_way(x.flip(1), slice(ema.dim, None)).flip(1)
    return y


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("truncation", [None, 1, 7, 23, 24, 100])
def test_convolution_equals_the_recurrence(bidirectional: bool, truncation: int | None) -> None:
    torch.manual_seed(1)
    ema = DampedEMA(5, STATES, bidirectional, truncation).double()
    x = torch.randn(3, 23, 5, dtype=torch.float64)
    torch.testing.assert_close(ema(x), ema_recurrence(ema, x), rtol=1e-12, atol=1e-12)


def test_slow_decay_over_a_long_sequence() -> None:
    torch.manual_seed(2)
    ema = DampedEMA(2, STATES).double()
    with torch.no_grad():
        ema.alpha.sub_(9.0)  # q ≈ 1 − 6e-5
    x = torch.randn(1, 2000, 2, dtype=torch.float64)
    torch.testing.assert_close(ema(x), ema_recurrence(ema, x), rtol=1e-10, atol=1e-10)
    # In float32 `1 − p·σ(α)` would round q, and the error of its powers grows with time.
    taps = torch.stack(ema.kernels(2000, torch.float64))
    single = torch.stack(ema.float().kernels(2000, torch.float32))
    torch.testing.assert_close(single.double(), taps, rtol=1e-5, atol=0.0)


def test_padding_feeds_no_other_step_but_keeps_its_own_residual() -> None:
    torch.manual_seed(3)
    ema = DampedEMA(4, STATES).double()
    x = torch.randn(2, 12, 4, dtype=torch.float64)
    padding = torch.zeros(2, 12, dtype=torch.bool)
    padding[1, 9:] = True
    changed = x.clone()
    changed[1, 9:] = 7.0
    y, z = ema(x, padding), ema(changed, padding)
    torch.testing.assert_close(y[~padding], z[~padding])
    torch.testing.assert_close((z - y)[padding], ema.omega * (changed - x)[padding])
    torch.testing.assert_close(y[1, :9], ema(x[1:, :9])[0])


@pytest.mark.parametrize("bidirectional", [False, True])
def test_gradients(bidirectional: bool) -> None:
    torch.manual_seed(4)
    ema = DampedEMA(2, 3, bidirectional, truncation=4).double()
    names = [name for name, _ in ema.named_parameters()]
    padding = torch.zeros(1, 6, dtype=torch.bool)
    padding[0, 5:] = True
    x = torch.randn(1, 6, 2, dtype=torch.float64, requires_grad=True)

    def run(x: Tensor, *values: Tensor) -> Tensor:
        return functional_call(ema, dict(zip(names, values, strict=True)), (x, padding))

    values = [parameter.detach().clone().requires_grad_() for parameter in ema.parameters()]
    assert torch.autograd.gradcheck(run, (x, *values))


def test_never_below_single_precision() -> None:
    torch.manual_seed(5)
    ema = DampedEMA(4, STATES)
    x = torch.randn(2, 50, 4)
    expected = ema(x)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(ema(x), expected)
    half = ema.bfloat16()
    rounded = {name: value.float() for name, value in half.state_dict().items()}
    wide = functional_call(DampedEMA(4, STATES), rounded, (x.bfloat16().float(),))
    assert torch.equal(half(x.bfloat16()), wide.bfloat16())


def test_initial_values() -> None:
    torch.manual_seed(6)
    ema = DampedEMA(64, 16)
    assert ema.beta.shape == (128, 16, 1)
    signs = torch.tensor([1.0, -1.0]).repeat(8).view(16, 1)
    assert (ema.beta - signs).std().item() == pytest.approx(0.02, rel=0.1)
    assert ema.delta.std().item() == pytest.approx(0.2, rel=0.1)
    assert ema.gamma.std().item() == pytest.approx(1.0, rel=0.1)


@pytest.mark.parametrize("truncation", [0, -1])
def test_a_kernel_has_a_step(truncation: int) -> None:
    with pytest.raises(ValueError, match="one step at least"):
        DampedEMA(4, STATES, truncation=truncation)
