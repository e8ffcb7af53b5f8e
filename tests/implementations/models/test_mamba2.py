"""Mamba-2: the chunked form is the recurrence, the mixer is that of another library, every head learns."""

import copy

import pytest
import torch
from torch import Tensor, nn

from implementations.models.mamba2 import Mamba2Config, Mamba2Mixer, build, ssd
from implementations.registry import find

from .efficient_attention import (
    growth,
    task,
)

TINY = {"layers": 2, "dim": 16, "head_dim": 8, "state_dim": 6, "chunk": 8}


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def operands(length: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """x, log_decay, b, c of two rows, three heads of width 4 and five states."""
    return (
        random(2, length, 3, 4),
        -random(2, length, 3, seed=1).square(),
        random(2, length, 5, seed=2),
        random(2, length, 5, seed=3),
    )


def recurrence(x: Tensor, log_decay: Tensor, b: Tensor, c: Tensor) -> Tensor:
    """Step by step, from the definition."""
    state = x.new_zeros(*x.shape[:1], *x.shape[2:], b.shape[-1])
    outputs = []
    for t in range(x.shape[1]):
        state = log_decay[:, t].exp()[..., None, None] * state + torch.einsum(
            "bhp,bn->bhpn", x[:, t], b[:, t]
        )
        outputs.append(torch.einsum("bhpn,bn->bhp", state, c[:, t]))
    return torch.stack(outputs, dim=1)


@pytest.mark.parametrize(("length", "chunk"), [(1, 64), (50, 1), (50, 7), (64, 16), (50, 64), (700, 4)])
def test_the_chunked_form_is_the_recurrence(length: int, chunk: int) -> None:
    inputs = operands(length)
    torch.testing.assert_close(ssd(*inputs, chunk), recurrence(*inputs))


def test_gradients_of_the_chunked_form() -> None:
    inputs = [tensor[:1].requires_grad_() for tensor in operands(7)]
    assert torch.autograd.gradcheck(lambda *tensors: ssd(*tensors, 3), inputs)


def test_strong_decays_neither_overflow_nor_spoil_gradients() -> None:
    x, log_decay, b, c = operands(40)
    log_decay = (log_decay * 1000).requires_grad_()
    y = ssd(x, log_decay, b, c, 16)
    torch.testing.assert_close(y, recurrence(x, log_decay, b, c))
    y.sum().backward()
    assert log_decay.grad is not None
    assert log_decay.grad.isfinite().all()


def test_the_mixer_is_that_of_transformers() -> None:
    library = pytest.importorskip("transformers.models.mamba2.modeling_mamba2")
    torch.manual_seed(0)
    config = library.Mamba2Config(
        hidden_size=16, num_heads=4, head_dim=8, state_size=6, n_groups=1, num_hidden_layers=1, chunk_size=16
    )
    theirs = library.Mamba2Mixer(config, layer_idx=0)
    with torch.no_grad():
        for parameter in theirs.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
    ours = Mamba2Mixer(Mamba2Config(**{**TINY, "layers": 1}))
    ours.load_state_dict(theirs.state_dict())
    results = []
    for mixer in (ours, theirs):
        x = random(2, 50, 16).float().requires_grad_()
        y = mixer(x)
        (y * random(2, 50, 16, seed=1)).sum().backward()
        results.append({"y": y, "x": x.grad, **{name: p.grad for name, p in mixer.named_parameters()}})
    torch.testing.assert_close(results[0], results[1], rtol=1e-3, atol=1e-4)


def test_initial_steps_and_decays_lie_in_their_ranges() -> None:
    mixer = Mamba2Mixer(Mamba2Config(layers=1, dim=512, head_dim=2))
    steps = torch.nn.functional.softplus(mixer.dt_bias)
    assert steps.min() >= 0.99e-3
    assert steps.max() <= 1.01e-1
    assert steps.log().std() > 1.0
    assert mixer.A_log.exp().min() >= 1.0
    assert mixer.A_log.exp().max() <= 16.0


def test_time_and_memory_are_linear_in_the_length() -> None:
    growing = growth(build, {**TINY, "dim": 64, "head_dim": 32, "chunk": 64}, length=2048, name="enwik8")
    assert growing.peak_bytes < 2.1
    assert growing.flops < 2.1


def test_language_model_has_the_size_of_the_others() -> None:
    with torch.device("meta"):
        item = find("mamba2")
        model = item.load()(task("enwik8"), item.hyperparameters("enwik8"))
    assert sum(parameter.numel() for parameter in model.parameters()) == pytest.approx(41e6, rel=0.02)


def test_mistakes_are_refused() -> None:
    with pytest.raises(TypeError, match="head_count"):
        build(task(), {**TINY, "head_count": 2})
    with pytest.raises(ValueError, match="heads of width 7"):
        build(task(), {**TINY, "head_dim": 7})


def test_decays_are_summed_in_float32() -> None:
    """In bfloat16 the sums over a long chunk have no digits left, and neither have their differences."""
    torch.manual_seed(0)
    half = Mamba2Mixer(Mamba2Config(**{**TINY, "chunk": 512})).bfloat16()
    nn.init.constant_(half.dt_bias, 0.0)
    wide = copy.deepcopy(half).float()
    x = random(2, 512, 16).bfloat16()
    exact = wide(x.float())
    assert half(x).dtype == torch.bfloat16
    assert (half(x) - exact).norm() < 0.02 * exact.norm()
    state, exact_state = (
        mixer.state_after(states, 512).parts[1].memory[0] for mixer, states in ((half, x), (wide, x.float()))
    )
    assert state.dtype == torch.float32
    assert (state - exact_state).norm() < 0.02 * exact_state.norm()
    step = half.step(x[:, 0], half.state_after(x, 512), 512)
    assert step.dtype == torch.bfloat16
