"""Gated DeltaNet: the chunked form is the recurrence, and the rule of another library; every head learns."""

import inspect

import pytest
import torch
from torch import Tensor

from implementations.models.gated_deltanet import build, gated_delta_rule
from implementations.registry import find

from .efficient_attention import (
    growth,
    random,
    seeded,
    task,
    tokens,
)

TINY = {"layers": 2, "dim": 16, "heads": 2, "head_dim": 6, "ffn": 24, "chunk": 8}


def operands(length: int, decay: float = 1.0) -> list[Tensor]:
    """q, k, v, log_decay, beta of two rows, three heads, keys of width 5 and values of width 7."""
    shape = (2, 3, length)
    q, k = (torch.nn.functional.normalize(random(*shape, 5, seed=seed), dim=-1) for seed in (0, 1))
    return [
        q,
        k,
        random(*shape, 7, seed=2),
        -decay * random(*shape, seed=3).square(),
        random(*shape, seed=4).sigmoid(),
    ]


def recurrence(q: Tensor, k: Tensor, v: Tensor, log_decay: Tensor, beta: Tensor) -> Tensor:
    """Step by step, from the definition."""
    state = v.new_zeros(*v.shape[:2], v.shape[-1], k.shape[-1])
    identity = torch.eye(k.shape[-1], dtype=k.dtype)
    outputs = []
    for t in range(q.shape[2]):
        key, b = k[:, :, t, None, :], beta[:, :, t, None, None]
        erase = identity - b * key.mT @ key
        state = log_decay[:, :, t, None, None].exp() * state @ erase + b * v[:, :, t, :, None] @ key
        outputs.append((state @ q[:, :, t, :, None]).squeeze(-1))
    return torch.stack(outputs, dim=2)


@pytest.mark.parametrize("decay", [0.0, 0.1, 300.0])
@pytest.mark.parametrize(("length", "chunk"), [(1, 64), (50, 1), (50, 7), (64, 16), (50, 64)])
def test_the_chunked_form_is_the_recurrence(length: int, chunk: int, decay: float) -> None:
    inputs = operands(length, decay)
    torch.testing.assert_close(gated_delta_rule(*inputs, chunk), recurrence(*inputs))


def test_gradients_of_the_chunked_form() -> None:
    inputs = [tensor[:1, :2].requires_grad_() for tensor in operands(7)]
    assert torch.autograd.gradcheck(lambda *tensors: gated_delta_rule(*tensors, 3), inputs)


def test_the_last_value_of_a_key_is_what_the_memory_holds() -> None:
    """Without decay and with β = 1, the delta rule overwrites: orthonormal keys are a dictionary."""
    keys = torch.eye(4, dtype=torch.float64)[[0, 1, 2, 0, 1]]
    values = random(5, 3)
    q = keys[[0, 1, 2, 2, 0]]
    y = gated_delta_rule(
        *(x[None, None] for x in (q, keys, values, torch.zeros(5).double(), torch.ones(5).double())), 2
    )
    torch.testing.assert_close(y[0, 0], values[[0, 1, 2, 2, 3]])


def test_the_rule_is_that_of_transformers() -> None:
    library = pytest.importorskip("transformers.models.qwen3_next.modeling_qwen3_next")
    q, k, v, log_decay, beta = (x.float().requires_grad_() for x in operands(150))
    plain = inspect.unwrap(library.torch_chunk_gated_delta_rule)  # fla's kernel where fla is installed
    theirs, _ = plain(*(x.transpose(1, 2) for x in (q * q.shape[-1] ** 0.5, k, v, log_decay, beta)))
    results = []
    for y in (gated_delta_rule(q, k, v, log_decay, beta, 64), theirs.transpose(1, 2)):
        weight = random(*y.shape, seed=5).float()
        results.append([y, *torch.autograd.grad((y * weight).sum(), [q, k, v, log_decay, beta])])
    torch.testing.assert_close(results[0], results[1], rtol=1e-3, atol=1e-5)


def test_the_memory_is_held_in_float32_where_the_model_is_not() -> None:
    model = seeded(build, task(length=512), {**TINY, "chunk": 8})
    exact = model(tokens(2, 512))
    with torch.autocast("cpu", torch.bfloat16):
        rounded = model(tokens(2, 512))
    torch.testing.assert_close(rounded.float(), exact, rtol=0, atol=0.02)
    mixer = model.pool.encoder.layers[0].mixer
    for held in mixer._memory(*(x.bfloat16() for x in operands(20))):
        assert held.dtype == torch.float32


def test_time_and_memory_are_linear_in_the_length() -> None:
    growing = growth(build, {**TINY, "dim": 64, "head_dim": 32, "chunk": 64}, length=1024, name="enwik8")
    assert growing.peak_bytes < 2.1
    assert growing.flops < 2.1


def test_language_model_has_the_size_of_the_others() -> None:
    with torch.device("meta"):
        item = find("gated-deltanet")
        model = item.load()(task("enwik8"), item.hyperparameters("enwik8"))
    assert sum(parameter.numel() for parameter in model.parameters()) == pytest.approx(40e6, rel=0.02)
