"""S4: the truncated C, kernels of other lengths and rates, both directions, heads and hyper-parameters."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from implementations.models.s4 import DPLRKernel, S4Block, build
from implementations.ops.ssm import as_complex
from implementations.task import Task

TINY: dict[str, Any] = {"layers": 2, "dim": 6, "state_dim": 8}
TASKS = {
    "text": Task("text", length=40, classes=3, vocabulary=20),
    "image": Task("image", length=40, classes=3, input="reals"),
    "retrieval": Task("retrieval", length=40, classes=2, head="two-tower", vocabulary=20),
    "enwik8": Task("enwik8", length=40, classes=20, head="language-model", vocabulary=20),
}


def make_kernel(**options: Any) -> DPLRKernel:
    torch.manual_seed(0)
    return DPLRKernel(6, 8, **options).double()


def make_block(**options: Any) -> S4Block:
    """A block whose kernels are long: they have not died out where the sequence ends."""
    bidirectional = options.setdefault("bidirectional", True)
    kernels = options.get("channels", 1) * (2 if bidirectional else 1)
    torch.manual_seed(0)
    return S4Block(6, DPLRKernel(6, 8, kernels, max_length=24, dt_min=0.02), **options).double()


def inputs_for(task: Task, batch: int = 2) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    shape = (batch, 2, task.length) if task.head == "two-tower" else (batch, task.length)
    if task.input == "reals":
        return torch.rand(shape, generator=generator)
    return torch.randint(1, task.vocabulary, shape, generator=generator)


def recurrence(kernel: DPLRKernel, C: Tensor, length: int) -> Tensor:
    """The kernel of channel h, state after state, from a C that is not truncated."""

    def both(x: Tensor) -> Tensor:
        return torch.cat([x, x.conj()], dim=-1)

    ssms = kernel.A_real.shape[0]
    channel_ssm = torch.arange(C.shape[1]) % ssms
    A = torch.complex(-kernel.A_real.exp(), -kernel.A_imag)[channel_ssm]
    B, P = (both(as_complex(x[0])[channel_ssm]) for x in (kernel.B, kernel.P))
    dt = F.softplus(kernel.inv_dt)[:, :, None]
    full = torch.diag_embed(both(A)) - P.unsqueeze(2) * P.unsqueeze(1).conj()
    identity = torch.eye(full.shape[1], dtype=full.dtype)
    inverse = torch.linalg.inv(identity - dt / 2 * full)
    state = inverse @ (dt * B.unsqueeze(2))
    response = []
    for _ in range(length):
        response.append((both(C).unsqueeze(2) @ state)[..., 0, 0])
        state = inverse @ (identity + dt / 2 * full) @ state
    return torch.stack(response, dim=-1).real


@pytest.mark.parametrize("n_ssm", [None, 1, 2, 3])
def test_kernel_is_the_impulse_response_of_the_c_it_began_with(n_ssm: int | None) -> None:
    kernel = make_kernel(kernels=2, n_ssm=n_ssm, max_length=24)
    nn.init.normal_(kernel.A_real)
    nn.init.normal_(kernel.B)
    expected = recurrence(kernel, as_complex(kernel.C).clone(), 24)
    torch.testing.assert_close(kernel(24), expected)
    torch.testing.assert_close(kernel(9), expected[..., :9])


def test_first_forward_rewrites_c_and_the_next_leave_it() -> None:
    kernel = make_kernel(max_length=24, dt_min=0.05)
    before = kernel.C.detach().clone()
    assert kernel.l_kernel == 0
    first = kernel(24)
    after = kernel.C.detach().clone()
    assert kernel.l_kernel == 24
    assert not torch.allclose(before, after)
    assert torch.equal(kernel(24), first)
    assert torch.equal(kernel.C, after)


def test_a_loaded_kernel_is_not_truncated_again() -> None:
    trained, fresh = make_kernel(max_length=24), make_kernel(max_length=24)
    expected = trained(24)
    for _ in range(2):  # before its first forward, and after it
        fresh.load_state_dict(trained.state_dict())
        torch.testing.assert_close(fresh(24), expected)


def test_without_a_longest_length_the_first_one_is_it() -> None:
    kernel = make_kernel()
    kernel(10)
    assert kernel.l_kernel == 10
    with pytest.raises(ValueError, match="length 11 is beyond the 10 steps"):
        kernel(11)


def test_a_longer_sequence_is_refused() -> None:
    with pytest.raises(ValueError, match="length 25 is beyond the 24 steps"):
        make_block()(torch.randn(1, 25, 6, dtype=torch.float64))


def test_half_the_sampling_rate_samples_the_same_response() -> None:
    kernel = make_kernel(max_length=64, dt_min=0.001, dt_max=0.002)
    fine, coarse = kernel(64), kernel(32, rate=2.0)
    # The impulse is held for two steps, so that the response is about twice as high.
    expected = 2 * fine[..., 4::2]
    assert (coarse[..., 2:] - expected).norm() < 0.05 * expected.norm()


def test_a_number_of_state_spaces_that_does_not_divide_the_width_is_refused() -> None:
    with pytest.raises(ValueError, match="n_ssm is 4: it must divide the width, 6"):
        make_kernel(n_ssm=4)


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("bidirectional", [True, False])
def test_block_convolves_past_and_future(channels: int, bidirectional: bool) -> None:
    block = make_block(channels=channels, bidirectional=bidirectional)
    u = torch.randn(2, 17, 6, dtype=torch.float64)
    kernels = block.kernel(17)
    expected = torch.zeros(2, 17, channels, 6, dtype=torch.float64)
    for t in range(17):
        for s in range(17):
            if s <= t:
                expected[:, t] += kernels[:channels, :, t - s] * u[:, s, None]
            elif bidirectional:
                expected[:, t] += kernels[channels:, :, s - t - 1] * u[:, s, None]
    expected = (expected + block.D * u.unsqueeze(2)).flatten(2)
    y = block.convolve(u)
    torch.testing.assert_close(y, expected)
    first, second = block.output_linear(F.gelu(y)).chunk(2, dim=-1)
    torch.testing.assert_close(block(u), first * second.sigmoid())


def test_gradients_of_the_block() -> None:
    block = make_block()
    u = torch.randn(1, 8, 6, dtype=torch.float64, requires_grad=True)
    block(u)
    assert torch.autograd.gradcheck(lambda u, *_: block(u), (u, *block.parameters()))


@pytest.mark.parametrize("step", [0, 7, 16])
def test_one_direction_is_causal(step: int) -> None:
    u = torch.randn(1, 17, 6, dtype=torch.float64, requires_grad=True)
    make_block(bidirectional=False)(u)[0, step].sum().backward()
    assert u.grad is not None
    reach = u.grad[0].abs().sum(dim=-1)
    assert (reach[step + 1 :] < 1e-12).all()
    assert (reach[: step + 1] > 1e-6).all()


@pytest.mark.parametrize("options", [{"norm": "layernorm"}, {"prenorm": False}, {"n_ssm": 2}])
def test_padding_changes_nothing(options: dict[str, Any]) -> None:
    model = build(TASKS["text"], TINY | options).double().eval()
    tokens = inputs_for(TASKS["text"])
    lengths = torch.tensor([40, 23])
    alone = model(tokens[1:, :23])
    tokens[1, 23:] = 0
    torch.testing.assert_close(model(tokens, lengths)[1:], alone)
    tokens[1, 23:] = 5
    torch.testing.assert_close(model(tokens, lengths)[1:], alone)
