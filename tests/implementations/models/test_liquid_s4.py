"""Liquid-S4: kernels are the recurrence's response, the liquid term its definition, oddities included."""

import itertools
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from bench.probes.tensor_bytes import TensorBytes
from implementations.models.liquid_s4 import LiquidKernel, LiquidS4Block, build
from implementations.models.s4 import S4Block
from implementations.ops.combinations import last_combinations, products
from implementations.task import Task

TINY: dict[str, Any] = {"layers": 2, "dim": 4, "state_dim": 6}
TEXT = Task("text", length=24, classes=3, vocabulary=20)
IMAGE = Task("image", length=24, classes=3, input="reals")
RETRIEVAL = Task("retrieval", length=24, classes=2, head="two-tower", vocabulary=20)
LANGUAGE = Task("enwik8", length=24, classes=20, head="language-model", vocabulary=20)
LENGTHS = torch.tensor([24, 9])
CPU = torch.device("cpu")


def tokens(*shape: int) -> Tensor:
    return torch.randint(1, 20, shape, generator=torch.Generator().manual_seed(0))


def states_of(length: int, dim: int = 4) -> Tensor:
    return torch.randn(2, length, dim, dtype=torch.float64, generator=torch.Generator().manual_seed(length))


def complex_of(pairs: Tensor) -> Tensor:
    return torch.complex(pairs[..., 0], pairs[..., 1])


def block_of(kernel: LiquidKernel, **options: Any) -> LiquidS4Block:
    """A block that shows what its state space gives: no activation, no gate, an identity at its end."""
    dim = len(kernel.log_dt)
    block = LiquidS4Block(dim, kernel, activation=nn.Identity(), gated=False, **options).double()
    with torch.no_grad():
        block.output_linear.weight.copy_(torch.eye(dim))
        block.output_linear.bias.zero_()
    return block


def response(kernel: LiquidKernel, C: Tensor, length: int) -> Tensor:
    """`Re C Ā^l B̄` by powers of the dense transition matrix, both conjugates of every state in it."""
    inner = kernel.kernel
    dt = inner.log_dt.exp()
    if hasattr(inner, "w_imag"):
        w = torch.complex(-inner.inv_w_real.exp(), inner.w_imag)
        B, P = complex_of(inner.B[0]), complex_of(inner.P[0])
        P = torch.cat([P, P.conj()], dim=-1)
        low_rank = P.unsqueeze(2) * P.conj().unsqueeze(1)
    else:
        w, B, low_rank = torch.complex(-inner.inv_A_real.exp(), inner.A_imag), complex_of(inner.B), 0
    repeats = len(dt) // len(w)
    A = (torch.diag_embed(torch.cat([w, w.conj()], dim=-1)) - low_rank).repeat(repeats, 1, 1)
    half = dt[:, None, None] / 2 * A
    identity = torch.eye(A.shape[-1])
    transition = torch.linalg.solve(identity - half, identity + half)
    gain = dt[:, None, None] * torch.cat([B, B.conj()], dim=-1).repeat(repeats, 1).unsqueeze(-1)
    state = torch.linalg.solve(identity - half, gain)
    taps = []
    for _ in range(length):
        taps.append((torch.cat([C, C.conj()], dim=-1) * state.squeeze(-1)).sum(-1).real)
        state = transition @ state
    return torch.stack(taps, dim=-1)


@pytest.mark.parametrize("mode", ["nplr", "diag"])
@pytest.mark.parametrize("n_ssm", [None, 2])
@pytest.mark.parametrize("state_dim", [6, 7])
def test_kernel_is_the_recurrence_s_response(mode: Any, n_ssm: int | None, state_dim: int) -> None:
    torch.manual_seed(1)
    kernel = LiquidKernel(4, state_dim, 2, mode=mode, n_ssm=n_ssm, max_length=33).double()
    C = complex_of(kernel.kernel.C).detach().clone()
    assert C.shape == (2, 4, 3)
    torch.testing.assert_close(kernel(33), response(kernel, C, 33), rtol=1e-8, atol=1e-8)
    torch.testing.assert_close(kernel(20), response(kernel, C, 20), rtol=1e-8, atol=1e-8)
    assert kernel(50).shape == (2, 4, 33)


def test_truncation_is_stored_and_happens_once() -> None:
    torch.manual_seed(2)
    kernel, other = (LiquidKernel(4, 6, max_length=16) for _ in range(2))
    before = kernel.kernel.C.detach().clone()
    first = kernel(16)
    assert not torch.equal(kernel.kernel.C, before)
    torch.testing.assert_close(kernel(16), first, rtol=0, atol=0)
    other(16)
    other.load_state_dict(kernel.state_dict())
    torch.testing.assert_close(other(16), first, rtol=0, atol=0)


@settings(max_examples=60, deadline=None)
@given(length=st.integers(7, 60), degree=st.integers(2, 6))
def test_combinations_are_the_last_in_lexicographic_order(length: int, degree: int) -> None:
    u = states_of(length, 1)
    *_, ours = products(u, degree, all_combinations=True)
    tail = range(max(0, length - 16), length)
    steps = list(itertools.combinations(tail, degree))[-length:]
    torch.testing.assert_close(ours, torch.stack([u[:, list(s)].prod(dim=1) for s in steps], dim=1))


def test_pairs_of_4096_inputs_come_from_the_last_92() -> None:
    first, rest = last_combinations(4096, 2, CPU)
    assert (first.min(), rest.max()) == (4096 - 92, 4095)
    triples, _ = last_combinations(4096, 3, CPU)
    assert triples.min() == 4096 - 31


def test_too_short_a_sequence_for_its_combinations_is_refused() -> None:
    with pytest.raises(ValueError, match="length of 3"):
        list(products(states_of(3), 3, all_combinations=True))


def naive_products(u: Tensor, degree: int, all_combinations: bool) -> dict[int, Tensor]:
    length, found = u.shape[1], {}
    if all_combinations:
        for p in range(2, degree + 1):
            steps = list(itertools.combinations(range(length), p))[-length:]
            found[p] = torch.stack([u[:, list(s)].prod(dim=1) for s in steps], dim=1)
        return found
    found[1] = u
    for p in range(2, degree + 1):
        found[p] = found[p - 1].clone()
        found[p][:, 0] = 0
        found[p][:, 1:] *= found[p - 1][:, :-1]
    del found[1]
    return found


def liquid_term(block: LiquidS4Block, u: Tensor) -> Tensor:
    """What the block adds to S4 on the same kernel."""
    plain = S4Block(u.shape[2], block.kernel, bidirectional=block.bidirectional).double()
    with torch.no_grad():
        plain.D.copy_(block.D)
    return block(u) - plain.convolve(u)


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("all_combinations", [False, True])
@pytest.mark.parametrize("degree", [2, 4])
def test_polyb_term(bidirectional: bool, all_combinations: bool, degree: int) -> None:
    torch.manual_seed(3)
    kernel = LiquidKernel(4, 6, 2 if bidirectional else 1, max_length=14)
    block = block_of(kernel, degree=degree, all_combinations=all_combinations, bidirectional=bidirectional)
    u = states_of(14)
    B, C, w = (complex_of(x) for x in (kernel.B, kernel.C, kernel.w))
    dt = kernel.log_dt.exp()[:, None]
    gain = dt * B / (1 - dt * w / 2)
    expected = torch.zeros_like(u)
    for product in naive_products(u, degree, all_combinations).values():
        gain = gain * (gain + gain.conj()).sum(-1, keepdim=True)
        weights = (C * gain + (C * gain).conj()).sum(-1).real
        expected += product.flip(1) * weights[0]
        if bidirectional:
            expected += product * weights[1]
    torch.testing.assert_close(liquid_term(block, u), expected, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("all_combinations", [False, True])
@pytest.mark.parametrize("length", [14, 17])
def test_kb_term(bidirectional: bool, all_combinations: bool, length: int) -> None:
    torch.manual_seed(4)
    kernel = LiquidKernel(4, 6, 2 if bidirectional else 1, max_length=14)
    block = block_of(
        kernel, liquid="kb", degree=3, all_combinations=all_combinations, bidirectional=bidirectional
    )
    u = states_of(length)
    gain = kernel.input_gain()
    scale = (gain + gain.conj()).sum(-1).real
    kernels = kernel(length)
    size = kernels.shape[-1] + length
    convolved = F.pad(kernels[0], (0, length))
    if bidirectional:
        convolved = convolved + F.pad(kernels[1], (0, length)).flip(-1)
    expected = torch.zeros_like(u)
    for p, inputs in naive_products(u, 3, all_combinations).items():
        spectrum = torch.fft.fft(convolved * scale[:, None] ** (p - 1), n=size // 2 + 1)
        bins = torch.fft.rfft(inputs.flip(1), n=size, dim=1)
        expected += torch.fft.irfft(bins * spectrum.T, n=size, dim=1)[:, :length]
    torch.testing.assert_close(liquid_term(block, u), expected, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("liquid", ["polyb", "kb"])
def test_gradients_of_the_block(liquid: Any) -> None:
    torch.manual_seed(5)
    kernel = LiquidKernel(2, 4, 2, max_length=6, dt_min=0.1, dt_max=0.5)
    block = block_of(kernel, liquid=liquid, degree=3, bidirectional=True)
    block(states_of(6, 2))
    names, values = zip(*block.named_parameters(), strict=True)

    def call(x: Tensor, *values: Tensor) -> Tensor:
        return torch.func.functional_call(block, dict(zip(names, values, strict=True)), (x,))

    arguments = (states_of(6, 2).requires_grad_(), *(v.detach().requires_grad_() for v in values))
    assert torch.autograd.gradcheck(call, arguments, atol=1e-6)


def test_the_liquid_term_is_frozen_at_initialisation() -> None:
    torch.manual_seed(6)
    block = block_of(LiquidKernel(4, 6, max_length=24))
    u = states_of(24)
    before = liquid_term(block, u)
    assert before.abs().max() > 1e-6
    with torch.no_grad():
        for parameter in block.kernel.parameters():
            parameter.mul_(1.1)
    torch.testing.assert_close(liquid_term(block, u), before)
    trained = {name for name, _ in block.named_parameters()}
    stored = block.state_dict().keys()
    assert {"kernel.B", "kernel.C", "kernel.w", "kernel.log_dt"} == {
        name for name in stored - trained if name != "kernel.kernel.L"
    }


@pytest.mark.parametrize("liquid", ["polyb", "kb"])
def test_a_causal_block_sees_the_future_through_its_liquid_term(liquid: Any) -> None:
    torch.manual_seed(7)
    kernel = LiquidKernel(4, 6, max_length=24)
    block = block_of(kernel, liquid=liquid)
    for layer, sees in ((S4Block(4, kernel, bidirectional=False).double(), False), (block, True)):
        u = states_of(24).requires_grad_()
        (gradient,) = torch.autograd.grad(layer.convolve(u)[:, 10].square().sum(), u)
        assert (gradient[:, 11:].norm() > 1e-9 * gradient.norm()) == sees
    with pytest.raises(ValueError, match="causal"):
        build(LANGUAGE, TINY)


def test_appended_padding_moves_the_liquid_term() -> None:
    torch.manual_seed(8)
    kernel = LiquidKernel(4, 6, 2, max_length=24)
    u, mask = states_of(24), torch.arange(24).expand(2, 24) >= 15
    plain = S4Block(4, kernel, bidirectional=True).double()
    torch.testing.assert_close(plain(u, mask)[:, :15], plain(u[:, :15]))
    liquid = block_of(kernel, bidirectional=True)
    assert not torch.allclose(liquid(u, mask)[:, :15], liquid(u[:, :15]), rtol=1e-6)
    # What stands in the padding, though, is never read.
    other = u.masked_fill(mask.unsqueeze(-1), 9.0)
    torch.testing.assert_close(liquid(u, mask)[:, :15], liquid(other, mask)[:, :15])


def test_evaluation_first_does_not_spoil_training() -> None:
    model = build(Task("text", length=23, classes=3, vocabulary=20), TINY)
    last_combinations.cache_clear()
    with torch.inference_mode(), torch.device("meta"):
        last_combinations(23, 2, CPU)
    model(tokens(2, 23)).sum().backward()
    assert all(p.grad is not None for p in model.parameters())


def cost(model: nn.Module, length: int) -> tuple[int, int]:
    """Peak tensor bytes beyond the model and FLOPs of a training step."""
    inputs = tokens(1, length)
    model(inputs)
    with TensorBytes() as memory, FlopCounterMode(display=False) as flops:
        model(inputs).sum().backward()
    return memory.peak - memory.before, flops.get_total_flops()


@pytest.mark.parametrize("options", [{"degree": 4}, {"liquid": "kb", "bidirectional": True}])
def test_cost_is_linear_in_length(options: dict[str, Any]) -> None:
    costs = []
    for length in (1024, 2048):
        task = Task("text", length=length, classes=2, vocabulary=20)
        costs.append(cost(build(task, {**TINY, "dim": 8, **options}), length))
    for name, once, twice in zip(("bytes", "FLOPs"), *costs, strict=True):
        assert 1.8 * once < twice <= 2.2 * once, name


def test_mistakes_are_refused() -> None:
    with pytest.raises(TypeError, match="states"):
        build(TEXT, {**TINY, "states": 2})
    for mistake, message in [
        ({"degree": 1}, "degree is 1"),
        ({"liquid": "polyc"}, "polyb or kb"),
        ({"mode": "dense"}, "nplr or diag"),
    ]:
        with pytest.raises(ValueError, match=message):
            build(TEXT, {**TINY, **mistake})
    with pytest.raises(ValueError, match="n_ssm is 3"):
        LiquidKernel(4, 6, n_ssm=3)
