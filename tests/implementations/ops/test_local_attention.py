import itertools

import pytest
import torch
from torch import Tensor
from torch.func import functional_call

from implementations.ops.attention_functions import AttentionKind, attend, laplace, relu2
from implementations.ops.local_attention import full_attention, local_attention
from implementations.ops.relative_bias import RelativeBias

KINDS: tuple[AttentionKind, ...] = ("softmax", "relu2", "laplace")
DIM, WIDTH, BATCH = 4, 3, 2


def draw(length: int, seed: int = 0) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """q, k, v, valid and original positions that rise."""
    generator = torch.Generator().manual_seed(seed)
    q, k = torch.randn(2, BATCH, length, DIM, generator=generator, dtype=torch.float64)
    v = torch.randn(BATCH, length, WIDTH, generator=generator, dtype=torch.float64)
    valid = torch.rand(BATCH, length, generator=generator) < 0.7
    positions = torch.randint(1, 4, (BATCH, length), generator=generator).cumsum(dim=1)
    return q, k, v, valid, positions


def by_definition(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    allowed: Tensor,
    divisor: Tensor | float,
    kind: AttentionKind,
    bias: Tensor | float = 0.0,
) -> Tensor:
    """Query by query and key by key, `allowed` and bias `(batch, length, length)`."""
    scores = torch.einsum("bid,bjd->bij", q, k) / divisor + bias
    out = torch.zeros(*q.shape[:2], v.shape[-1], dtype=q.dtype)
    for row, i in itertools.product(range(q.shape[0]), range(q.shape[1])):
        keys = [j for j in range(k.shape[1]) if allowed[row, i, j]]
        if not keys:
            continue
        chosen = scores[row, i, keys]
        weights = {"softmax": lambda s: s.softmax(-1), "relu2": relu2, "laplace": laplace}[kind](chosen)
        out[row, i] = weights @ v[row, keys]
    return out


def band(length: int, window: int, causal: bool) -> Tensor:
    back = torch.arange(length)[:, None] - torch.arange(length)
    return (back <= window) & (back >= (0 if causal else -window))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("window", [1, 2, 3, 5])
def test_local_attention_is_full_attention_under_a_band(
    kind: AttentionKind, causal: bool, window: int
) -> None:
    for length in (1, 2, window, window + 1, 2 * window, 2 * window + 1, 3 * window + 2):
        q, k, v, valid, positions = draw(length, seed=length)
        divisor = DIM**0.5 if kind == "softmax" else (window if causal else 2 * window)
        allowed = band(length, window, causal) & valid[:, None, :]
        simple = RelativeBias.simple(4).double()  # shorter than the sequence: its ends repeat
        local = RelativeBias.local(window).double()
        index = torch.arange(length)
        cases = [
            ({}, 0.0),
            ({"bias": simple, "positions": positions}, simple(positions, positions)),
            ({"bias": local}, local(index, index)),
        ]
        for options, bias in cases:
            ours = local_attention(q, k, v, window, kind=kind, causal=causal, valid=valid, **options)
            torch.testing.assert_close(ours, by_definition(q, k, v, allowed, divisor, kind, bias))


@pytest.mark.parametrize("causal", [False, True])
def test_a_window_over_everything_is_full_softmax_attention(causal: bool) -> None:
    q, k, v, valid, positions = draw(11)
    bias = RelativeBias.simple(40).double()
    options = {"causal": causal, "bias": bias, "positions": positions}
    for seen in (None, valid):
        local = local_attention(q, k, v, 11, valid=seen, **options)
        torch.testing.assert_close(local, full_attention(q, k, v, valid=seen, **options))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("causal", [False, True])
def test_full_attention_by_definition(kind: AttentionKind, causal: bool) -> None:
    length = 7
    q, k, v, valid, positions = draw(length)
    valid[0] = torch.arange(length) == 2
    valid[1] = False
    bias = RelativeBias.simple(40).double()
    divisor: Tensor | float
    if kind == "softmax":
        divisor = DIM**0.5
    elif causal:
        divisor = torch.arange(1.0, length + 1)[:, None]
    else:
        divisor = valid.sum(dim=1).clamp(min=1)[:, None, None]
    allowed = band(length, length, causal) & valid[:, None, :]
    ours = full_attention(q, k, v, kind=kind, causal=causal, valid=valid, bias=bias, positions=positions)
    expected = by_definition(q, k, v, allowed, divisor, kind, bias(positions, positions))
    torch.testing.assert_close(ours, expected)
    assert not ours[1].any()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("simple", [False, True])
def test_gradients(kind: AttentionKind, causal: bool, simple: bool) -> None:
    q, k, v, valid, positions = draw(6, seed=3)
    valid[1, :4] = False  # queries that see no key
    bias = (RelativeBias.simple(3) if simple else RelativeBias.local(2)).double()
    inputs = [x.requires_grad_() for x in (q, k, v)]

    def run(q: Tensor, k: Tensor, v: Tensor, table: Tensor) -> Tensor:
        def bias_of(*at: Tensor) -> Tensor:
            return functional_call(bias, {"rel_pos_bias": table}, at)

        options = {"kind": kind, "causal": causal, "valid": valid, "bias": bias_of}
        return local_attention(q, k, v, 2, positions=positions if simple else None, **options)

    table = bias.rel_pos_bias.detach().clone().requires_grad_()
    assert torch.autograd.gradcheck(run, (*inputs, table))


@pytest.mark.parametrize("causal", [False, True])
def test_memory_is_linear_in_the_length(causal: bool) -> None:
    def saved_elements(length: int) -> int:
        q, k, v, valid, positions = draw(length)
        elements = 0

        def count(x: Tensor) -> Tensor:
            nonlocal elements
            elements += x.numel()
            return x

        bias = RelativeBias.simple(64).double()
        with torch.autograd.graph.saved_tensors_hooks(count, lambda x: x):
            local_attention(
                q.requires_grad_(), k, v, 8, causal=causal, valid=valid, bias=bias, positions=positions
            )
        return elements

    assert saved_elements(2048) <= 2.05 * saved_elements(1024)


def test_a_long_row_of_masked_scores_stays_finite_in_half_precision() -> None:
    scores = torch.full((1, 2, 4), 60000.0, dtype=torch.float16)
    allowed = torch.tensor([[[True, False, False, True], [False] * 4]])
    values = torch.ones(1, 4, 1, dtype=torch.float16)
    assert attend(scores, values, allowed, "softmax").squeeze().tolist() == [1.0, 0.0]


def test_an_unknown_kind_is_refused() -> None:
    q, k, v, *_ = draw(3)
    with pytest.raises(ValueError, match="choose softmax, relu2 or laplace"):
        full_attention(q, k, v, kind="cosine")  # type: ignore[arg-type]


def test_the_result_is_dense():
    """Torch takes the stride of one with gaps for fixed, and compiles anew for each length."""
    q = torch.randn(2, 50, 4, generator=torch.Generator().manual_seed(0))
    assert local_attention(q, q, q, 8).is_contiguous()
