import pytest
import torch

from implementations.ops.fft_conv import fft_convolution, fft_length


def is_smooth(number: int) -> bool:
    for prime in (2, 3, 5):
        while number % prime == 0:
            number //= prime
    return number == 1


def test_fft_length_is_the_next_smooth_number() -> None:
    expected = 1
    for minimum in range(1, 2000):
        expected = max(expected, minimum)
        while not is_smooth(expected):
            expected += 1
        assert fft_length(minimum) == expected


@pytest.mark.parametrize(("length", "taps"), [(1, 1), (7, 1), (7, 3), (7, 7), (16, 16), (37, 12), (5, 9)])
def test_convolution_is_the_sum_of_its_definition(length: int, taps: int) -> None:
    torch.manual_seed(length)
    x = torch.randn(2, length, 3, dtype=torch.float64)
    ahead, back = torch.randn(2, 3, taps, dtype=torch.float64)
    expected = torch.zeros_like(x)
    for t in range(length):
        for s in range(taps):
            if t - s >= 0:
                expected[:, t] += back[:, s] * x[:, t - s]
            if t + s < length:
                expected[:, t] += ahead[:, s] * x[:, t + s]
    torch.testing.assert_close(fft_convolution(x, back, ahead), expected)
    causal_part = fft_convolution(x, back)
    torch.testing.assert_close(causal_part, expected - fft_convolution(x, torch.zeros_like(back), ahead))


def test_gradients() -> None:
    torch.manual_seed(0)
    x = torch.randn(2, 6, 2, dtype=torch.float64, requires_grad=True)
    kernels = [torch.randn(2, 4, dtype=torch.float64, requires_grad=True) for _ in range(2)]
    assert torch.autograd.gradcheck(fft_convolution, (x, *kernels))
