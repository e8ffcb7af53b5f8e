"""Attention in blocks of queries over whole sequences and chunks, against the plain forms."""

import pytest
import torch
from torch import Tensor

from implementations.kernels.cpu import dense_attention
from implementations.kernels.cpu.chunked_attention import fused_chunked_attention
from implementations.kernels.cpu.dense_attention import DenseRow
from implementations.kernels.cpu.local_attention import Bias
from implementations.models.mega import RotaryRelativeBias, SimpleRelativeBias
from implementations.ops.chunked_attention import chunked_attention
from implementations.ops.local_attention import full_attention
from implementations.ops.relative_bias import RelativeBias

from .cpu_oracle import check, check_digits, distance, numbers, poisoned

LENGTH = 48


@pytest.fixture(autouse=True, params=[1, 7 * LENGTH, 1 << 19], ids=["a query", "7 queries", "all"])
def block(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks of one query, of a number that divides nothing, and of all."""
    monkeypatch.setattr(dense_attention, "BLOCK_SCORES", request.param)


def inputs() -> list[Tensor]:
    return [numbers(3, LENGTH, 6), numbers(3, LENGTH, 6, seed=1), numbers(3, LENGTH, 10, seed=2)]


@pytest.mark.parametrize("kind", ["softmax", "relu2", "laplace"])
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("chunk", [None, 12, 100])
def test_chunks(chunk: int | None, causal: bool, kind: str) -> None:
    bias = SimpleRelativeBias(LENGTH).double()
    options = {"chunk": chunk, "kind": kind, "causal": causal}
    check(
        lambda q, k, v: chunked_attention(q, k, v, bias, **options),
        lambda q, k, v: fused_chunked_attention(q, k, v, bias.by_distance, **options),
        *inputs(),
    )


@pytest.mark.parametrize("kind", ["softmax", "relu2", "laplace"])
def test_padding(kind: str) -> None:
    """A part of a chunk is padding, and whole chunks are."""
    bias = SimpleRelativeBias(12).double()
    padding = torch.arange(LENGTH) >= torch.tensor([LENGTH, 17, 3])[:, None]
    options = {"chunk": 12, "kind": kind, "padding_mask": padding}
    check(
        lambda q, k, v: chunked_attention(q, k, v, bias, **options),
        lambda q, k, v: fused_chunked_attention(q, k, v, bias.by_distance, **options),
        *inputs(),
    )


@pytest.mark.parametrize("bias", [SimpleRelativeBias(60), RotaryRelativeBias(6)], ids=["simple", "rotary"])
@pytest.mark.parametrize("causal", [False, True])
def test_gradients_of_a_bias(causal: bool, bias: SimpleRelativeBias | RotaryRelativeBias) -> None:
    bias = bias.double()
    for parameter in bias.parameters():
        torch.nn.init.normal_(parameter)
    results = []
    for attend, argument in ((chunked_attention, bias), (fused_chunked_attention, bias.by_distance)):
        out = attend(*inputs(), argument, chunk=24, causal=causal)
        grads = torch.autograd.grad((out * numbers(*out.shape, seed=9)).sum(), list(bias.parameters()))
        results.append(grads)
    for ours, theirs in zip(*results, strict=True):
        assert distance(ours, theirs) <= 1e-9


@pytest.mark.parametrize("by_position", [False, True])
@pytest.mark.parametrize("hide", [False, True])
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("kind", ["softmax", "relu2", "laplace"])
def test_one_row_of_a_working_memory(kind: str, causal: bool, hide: bool, by_position: bool) -> None:
    """Unscaled scores, which full_attention divides for softmax by √6 and else by a count."""
    q, k, v = (x[:1] for x in inputs())
    bias = RelativeBias.simple(30).double()
    steps = torch.randint(1, 4, (1, LENGTH), generator=torch.Generator().manual_seed(4)).cumsum(dim=1)
    valid = torch.rand(1, LENGTH, generator=torch.Generator().manual_seed(7)) < (0.5 if hide else 2.0)
    if hide:
        valid[:, :5] = False  # causal queries that see no key
    leaves = [x.clone().requires_grad_() for x in (q, k, v)]
    plain = full_attention(
        *leaves, kind=kind, causal=causal, valid=valid, bias=bias, positions=steps if by_position else None
    )
    cotangent = numbers(*plain.shape, seed=8)
    expected = [plain, *torch.autograd.grad((plain * cotangent).sum(), [*leaves, bias.rel_pos_bias])]

    count = torch.arange(1.0, LENGTH + 1).double().unsqueeze(-1) if causal else valid.sum().double()
    scale = 6**-0.5 if kind == "softmax" else 1.0 / count
    positions = steps[0] if by_position else None
    row = DenseRow(
        LENGTH,
        kind,
        causal,
        Bias(bias.rel_pos_bias.detach(), bias.origin, positions),
        ~valid[0] if hide else None,
    )
    with poisoned():
        q, k, v = q[0] * scale, k[0], v[0]
        out = row.forward(q, k, v)
        grad_q, *grads = row.backward(cotangent[0], q, k, v)
    for ours, theirs in zip([out, grad_q * scale, *grads], expected, strict=True):
        assert ours is not None
        assert distance(ours, theirs.view_as(ours)) <= 1e-9


def test_digits_of_float32() -> None:
    bias = SimpleRelativeBias(LENGTH)
    check_digits(
        lambda q, k, v: chunked_attention(q, k, v, bias.to(q.dtype), chunk=24),
        lambda q, k, v: fused_chunked_attention(q, k, v, bias.to(q.dtype).by_distance, chunk=24),
        *inputs(),
    )


def test_chunks_that_do_not_divide_the_length() -> None:
    with pytest.raises(ValueError, match="48 time steps are not a multiple of the chunk 20"):
        fused_chunked_attention(*inputs(), SimpleRelativeBias(20).double().by_distance, chunk=20)
