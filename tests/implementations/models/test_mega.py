"""MEGA and MEGA-chunk: attention within chunks, an EMA across them, blind to padding and to the future."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from implementations.encoder import parameter_count
from implementations.models.mega import (
    MegaConfig,
    MovingAverageGatedAttention,
    RotaryRelativeBias,
    SimpleRelativeBias,
    build,
)
from implementations.ops.chunked_attention import attention_weights, chunked_attention
from implementations.registry import find
from implementations.task import Task

TINY: dict[str, Any] = {"layers": 2, "dim": 12, "hidden": 16, "attention_dim": 6, "ffn": 14, "states": 3}
TEXT = Task("text", length=40, classes=3, vocabulary=20)
IMAGE = Task("image", length=40, classes=3, input="reals")
RETRIEVAL = Task("retrieval", length=40, classes=2, head="two-tower", vocabulary=20)
LANGUAGE = Task("enwik8", length=40, classes=20, head="language-model", vocabulary=20)
LENGTHS = torch.tensor([40, 9])
KINDS = ["softmax", "relu2", "laplace"]


def tokens(*shape: int) -> Tensor:
    return torch.randint(1, 20, shape, generator=torch.Generator().manual_seed(0))


def padding(lengths: Tensor, length: int) -> Tensor:
    return torch.arange(length) >= lengths[:, None]


def random(*shape: int) -> Tensor:
    generator = torch.Generator().manual_seed(sum(shape))
    return torch.randn(shape, dtype=torch.float64, generator=generator)


def qkv(length: int) -> list[Tensor]:
    return [
        random(2, length, 4).requires_grad_(),
        random(2, length, 4).roll(1, 0).requires_grad_(),
        random(2, length, 5).requires_grad_(),
    ]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("causal", [False, True])
def test_gradients_of_chunked_attention(kind: Any, causal: bool) -> None:
    mask = padding(torch.tensor([6, 4]), 6)
    bias = random(3, 3).requires_grad_()

    def attention(q: Tensor, k: Tensor, v: Tensor, bias: Tensor) -> Tensor:
        return chunked_attention(
            q, k, v, lambda size: bias, chunk=3, kind=kind, causal=causal, padding_mask=mask
        )

    assert torch.autograd.gradcheck(attention, (*qkv(6), bias))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("causal", [False, True])
def test_a_chunk_is_a_sequence_of_its_own(kind: Any, causal: bool) -> None:
    bias = SimpleRelativeBias(8).double()
    mask = padding(torch.tensor([16, 11]), 16)
    q, k, v = qkv(16)
    whole = chunked_attention(q, k, v, bias, chunk=8, kind=kind, causal=causal, padding_mask=mask)
    for part in (slice(0, 8), slice(8, 16)):
        alone = chunked_attention(
            q[:, part], k[:, part], v[:, part], bias, kind=kind, causal=causal, padding_mask=mask[:, part]
        )
        torch.testing.assert_close(whole[:, part], alone)


def test_elementwise_scores_are_averaged_over_the_keys_in_reach() -> None:
    q, k = random(1, 4, 3), random(2, 4, 3)[1:]
    bias = random(4, 4)
    scores = q[0] @ k[0].T
    mask = padding(torch.tensor([3]), 4)
    padded = attention_weights(q, k, bias, "relu2", causal=False, padding_mask=mask)[0]
    torch.testing.assert_close(padded[:, :3], (scores[:, :3] / 3 + bias[:, :3]).relu() ** 2)
    assert padded[:, 3].eq(0).all()
    causal = attention_weights(q, k, bias, "relu2", causal=True, padding_mask=None)[0]
    torch.testing.assert_close(causal[1, :2], (scores[1, :2] / 2 + bias[1, :2]).relu() ** 2)
    assert causal[1, 2:].eq(0).all()


def test_softmax_over_a_chunk_of_padding_is_finite_and_harmless() -> None:
    q, k, v = qkv(8)
    mask = padding(torch.tensor([8, 3]), 8)
    y = chunked_attention(q, k, v, lambda size: q.new_zeros(size, size), chunk=4, padding_mask=mask)
    gradients = torch.autograd.grad(y[1, :3].sum(), (q, k, v))
    assert y.isfinite().all()
    assert all(gradient.isfinite().all() for gradient in gradients)
    assert gradients[2][1, 3:].eq(0).all()


def test_simple_bias_is_looked_up_by_distance() -> None:
    bias = SimpleRelativeBias(7)
    table = bias(5)
    for i in range(5):
        for j in range(5):
            assert table[i, j] == bias.rel_pos_bias[6 + j - i]
    with pytest.raises(ValueError, match="8 time steps are beyond the 7"):
        bias(8)


def test_rotary_bias_depends_on_the_distance_alone() -> None:
    bias = RotaryRelativeBias(6).double()
    table = bias(9)
    torch.testing.assert_close(table[1:, 1:], table[:-1, :-1])
    torch.testing.assert_close(table[0, 0], (bias.alpha * bias.beta).sum())
    assert not torch.allclose(table, table.T)
    with pytest.raises(ValueError, match="5 is odd"):
        RotaryRelativeBias(5)


@pytest.mark.parametrize("options", [{}, {"chunk": 8}, {"chunk": 8, "truncation": 5}, {"chunk": 64}])
@pytest.mark.parametrize("attention", KINDS)
@pytest.mark.parametrize(("norm", "prenorm"), [("scalenorm", False), ("layernorm", True)])
def test_padding_changes_nothing(options: dict[str, Any], attention: str, norm: str, prenorm: bool) -> None:
    torch.manual_seed(0)
    hyperparameters = {**TINY, **options, "attention": attention, "norm": norm, "prenorm": prenorm}
    model = build(TEXT, hyperparameters).double()
    inputs = tokens(2, 40)
    padded = model(inputs, LENGTHS)
    torch.testing.assert_close(padded[:1], model(inputs[:1]))
    torch.testing.assert_close(padded[1:], model(inputs[1:, :9]))


@pytest.mark.parametrize("attention", KINDS)
@pytest.mark.parametrize("options", [{}, {"chunk": 8}])
def test_language_model_does_not_see_the_future(attention: str, options: dict[str, Any]) -> None:
    torch.manual_seed(0)
    hyperparameters = {**TINY, **options, "attention": attention, "relative_bias": "rotary", "prenorm": True}
    model = build(LANGUAGE, hyperparameters).double()
    inputs = tokens(1, 40)
    changed = inputs.clone()
    changed[:, 21:] = changed[:, 21:] % 19 + 1
    before, after = model(inputs), model(changed)
    torch.testing.assert_close(before[:, :21], after[:, :21], rtol=0, atol=1e-12)
    assert (before[:, 21:] - after[:, 21:]).abs().amax(dim=-1).gt(1e-6).all()


def test_the_ema_carries_what_chunks_cut_off() -> None:
    torch.manual_seed(0)
    layer = MovingAverageGatedAttention(MegaConfig(**TINY, chunk=8), causal=True).double()
    x = random(1, 16, 12).requires_grad_()
    (gradient,) = torch.autograd.grad(layer(x)[:, 15].sum(), x)
    assert gradient[:, :8].abs().amax(dim=-1).gt(0).all()


@pytest.mark.parametrize("length", [3, 8, 21])
def test_language_model_takes_any_length(length: int) -> None:
    torch.manual_seed(0)
    model = build(LANGUAGE, {**TINY, "chunk": 8}).double()
    inputs = tokens(2, 24)
    assert model(inputs[:, :length]).shape == (2, length, 20)
    torch.testing.assert_close(model(inputs[:, :length]), model(inputs)[:, :length])


class LargestTensor(TorchDispatchMode):
    """The most elements of any tensor that an operator gives."""

    elements = 0

    def __torch_dispatch__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        for tensor in result if isinstance(result, tuple | list) else (result,):
            if isinstance(tensor, Tensor):
                self.elements = max(self.elements, tensor.numel())
        return result


@pytest.mark.parametrize(("chunk", "growth"), [(None, 4), (32, 2)])
def test_chunks_make_memory_linear_in_the_length(chunk: int | None, growth: int) -> None:
    config = MegaConfig(**TINY, chunk=chunk, truncation=16)
    layer = MovingAverageGatedAttention(config, max_positions=1024)
    largest = []
    for length in (512, 1024):
        with torch.no_grad(), LargestTensor() as seen:
            layer(torch.randn(1, length, 12))
        largest.append(seen.elements)
    assert largest[1] == pytest.approx(growth * largest[0], rel=0.1)


def test_another_form_of_the_attention_keeps_the_parameters() -> None:
    calls = []

    class Counted(MovingAverageGatedAttention):
        def attention(self, q: Tensor, k: Tensor, v: Tensor, padding_mask: Tensor | None) -> Tensor:
            calls.append(q.shape)
            return super().attention(q, k, v, padding_mask)

    plain, other = build(TEXT, TINY), build(TEXT, TINY, gated_attention=Counted)
    other.load_state_dict(plain.state_dict())
    torch.testing.assert_close(other(tokens(2, 40)), plain(tokens(2, 40)))
    assert calls == [(2, 40, 6)] * 2


def test_published_language_model_has_39_million_parameters() -> None:
    task = Task("enwik8", length=8192, classes=205, head="language-model", vocabulary=206)
    with torch.device("meta"):
        model = build(task, find("mega-chunk").hyperparameters("enwik8"))
    assert parameter_count(model) == pytest.approx(39e6, rel=0.01)


def test_mistakes_are_refused() -> None:
    with pytest.raises(TypeError, match="window"):
        build(TEXT, {**TINY, "window": 2})
    with pytest.raises(ValueError, match="not a multiple of the chunk 4"):
        chunked_attention(*qkv(6), lambda size: torch.zeros(size, size), chunk=4)
    with pytest.raises(ValueError, match="sigmoid"):
        build(TEXT, {**TINY, "attention": "sigmoid"})(tokens(1, 8))
