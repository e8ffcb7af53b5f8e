"""Attention over packed rows against attention over padded ones."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from implementations.ops.attention_functions import AttentionKind
from implementations.ops.local_attention import full_attention, local_attention
from implementations.ops.relative_bias import RelativeBias
from implementations.ops.sma import choose_steps, compress, extract, steps_in_place

from .matrix_units import matrix_units
from .triton_oracle import DEVICE, check, numbers, outcome

from implementations.kernels.triton.attention import Attention, Bias, Blocks, attention  # isort: skip
from implementations.kernels.triton.packing import Packing, pack, unpack  # isort: skip

Z, HIDDEN, WINDOW = 6, 20, 5
SMALL = Blocks(queries=16, keys=16, slice=16, widest=16)
"""Several blocks of everything, on little: of queries, keys and values."""
KINDS = ("softmax", "relu2", "laplace")


def some(rows: int, length: int, rate: float = 0.5, seed: int = 1) -> Tensor:
    return (torch.rand(rows, length, generator=torch.Generator().manual_seed(seed)) < rate).to(DEVICE)


def bias_of(name: str | None) -> RelativeBias | None:
    if name is None:
        return None
    # A table of `simple` that is shorter than the sequences: its ends repeat.
    made = RelativeBias.simple(9) if name == "simple" else RelativeBias.local(WINDOW)
    torch.nn.init.normal_(made.rel_pos_bias)
    return made.to(DEVICE, torch.float64)


def hold(
    active: Tensor,
    kind: AttentionKind = "softmax",
    *,
    causal: bool = False,
    window: int | None = WINDOW,
    bias: str | None = "local",
    dense: float = 1.0,
    capacity: int | None = None,
    blocks: Blocks = SMALL,
    z: int = Z,
    hidden: int = HIDDEN,
) -> None:
    """Both forms on the active steps, back in place."""
    batch, length = active.shape
    steps, packing = choose_steps(active, dense), Packing.of(active, dense, capacity)
    made = bias_of(bias)
    table = [] if made is None else [made.rel_pos_bias]

    def plain(q: Tensor, k: Tensor, v: Tensor, *tables: Tensor) -> Tensor:
        def score(query: Tensor, key: Tensor) -> Tensor:
            return torch.func.functional_call(made, {"rel_pos_bias": tables[0]}, (query, key))

        options = {
            "kind": kind,
            "causal": causal,
            "valid": steps.valid,
            "bias": score if tables else None,
            "positions": steps.positions if bias == "simple" else None,
        }
        memory = [compress(x, steps) for x in (q, k, v)]
        if window is None:
            return extract(full_attention(*memory, **options), steps)
        return extract(local_attention(*memory, window, **options), steps)

    def fused(q: Tensor, k: Tensor, v: Tensor, *tables: Tensor) -> Tensor:
        added = Bias(tables[0], made.origin, bias == "simple") if tables else None
        packed = [pack(x, packing) for x in (q, k, v)]
        return unpack(
            attention(*packed, packing, Attention(kind, causal, window, blocks), added), packing, batch
        )

    sizes = ((z, 1), (z, 2), (hidden, 3))
    check(plain, fused, *(numbers(batch, length, size, seed=seed) for size, seed in sizes), *table)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("window", [WINDOW, None])
def test_kinds(kind: AttentionKind, causal: bool, window: int | None) -> None:
    active = some(3, 27)
    active[1] = False
    hold(active, kind, causal=causal, window=window, bias="simple", dense=1.0 if window else 0.9)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("bias", [None, "local"])
def test_biases(causal: bool, bias: str | None) -> None:
    hold(some(2, 30), causal=causal, bias=bias)


@pytest.mark.parametrize(("queries", "keys"), [(32, 16), (16, 32)])
@pytest.mark.parametrize("bias", ["simple", "local"])
def test_gradients_of_a_bias_over_blocks_that_are_not_square(queries: int, keys: int, bias: str) -> None:
    """Summed along diagonals if positions have no gaps; those of `simple` do."""
    hold(some(2, 75), window=20, bias=bias, blocks=replace(SMALL, queries=queries, keys=keys))


@pytest.mark.parametrize("length", [1, WINDOW, WINDOW + 1, 16, 17, 33])
def test_lengths_with_every_step_active(length: int) -> None:
    hold(torch.ones(1 + (length < 10), length, dtype=torch.bool, device=DEVICE))


def test_no_active_step() -> None:
    hold(torch.zeros(2, 3, dtype=torch.bool, device=DEVICE), capacity=4)
    hold(torch.zeros(2, 3, dtype=torch.bool, device=DEVICE))


@pytest.mark.parametrize(("kind", "window", "causal"), [("softmax", WINDOW, False), ("relu2", None, True)])
def test_one_full_row_puts_all_steps_in_place(kind: AttentionKind, window: int | None, causal: bool) -> None:
    active = some(2, 24)
    active[0] = True
    hold(active, kind, window=window, causal=causal, bias="simple", dense=1.0 if window else 0.9)


def test_dead_steps_of_a_capacity() -> None:
    hold(some(2, 20), capacity=37)


def test_window_wider_than_the_rows() -> None:
    hold(some(3, 12), window=50, bias="simple")


def test_odd_widths() -> None:
    """Those of the published SC10 model, in the usual blocks."""
    hold(some(1, 40), "relu2", z=30, hidden=120, blocks=Blocks.usual(torch.float64))


@pytest.mark.parametrize("window", [WINDOW, None])
def test_keys_that_nobody_sees(window: int | None) -> None:
    """Every step asks, as without a configurator, and some of them see no key at all."""
    real = some(2, 20)
    real[0, :12] = False
    real[1] = False
    steps = steps_in_place(real)
    packing = Packing.rows_of(2, 20, ~real, DEVICE)

    def plain(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        if window is None:
            return full_attention(q, k, v, kind="laplace", valid=steps.valid)
        return local_attention(q, k, v, window, valid=steps.valid)

    def fused(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        how = Attention("laplace" if window is None else "softmax", window=window, blocks=SMALL)
        out = attention(*(x.flatten(0, 1) for x in (q, k, v)), packing, how)
        return out.view(2, 20, HIDDEN)

    check(plain, fused, *(numbers(2, 20, size, seed=size) for size in (Z, Z, HIDDEN)))


def test_large_scores_do_not_overflow() -> None:
    active = some(1, 20, rate=1.0)
    packing, how = Packing.of(active), Attention("softmax", window=WINDOW, blocks=SMALL)
    q, k, v = (numbers(20, size, seed=size, dtype=torch.float32) for size in (Z, Z, HIDDEN))
    out, *grads = outcome(lambda q, k, v: attention(q, k, v, packing, how), (200 * q, 200 * k, v))
    plain = local_attention(200 * q.double()[None], 200 * k.double()[None], v.double()[None], WINDOW)[0]
    torch.testing.assert_close(out.double(), plain, rtol=1e-3, atol=1e-3)
    assert all(grad.isfinite().all() for grad in grads)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_summed_in_float32(dtype: torch.dtype) -> None:
    active = some(1, 20, rate=1.0)
    packing, how = Packing.of(active), Attention("softmax", window=WINDOW, blocks=SMALL)
    inputs = [numbers(20, size, seed=size, dtype=dtype) for size in (Z, Z, HIDDEN)]
    with matrix_units():
        fused = outcome(lambda q, k, v: attention(q, k, v, packing, how), inputs)
    plain = outcome(
        lambda q, k, v: local_attention(q[None], k[None], v[None], WINDOW)[0], [x.double() for x in inputs]
    )
    tolerance = 5 * torch.finfo(dtype).eps
    for a, b in zip(fused, plain, strict=True):
        assert a.dtype == dtype
        torch.testing.assert_close(a.double(), b, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("kind", KINDS)
def test_float32_in_three_products_of_tf32_is_as_exact_as_the_plain_form(kind: AttentionKind) -> None:
    packing, how = Packing.of(some(1, 50, rate=1.0)), Attention(kind, window=20, blocks=SMALL)
    inputs = [numbers(50, size, seed=size) for size in (Z, Z, HIDDEN)]
    narrow = [tensor.float() for tensor in inputs]

    def plain(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return local_attention(q[None], k[None], v[None], 20, kind=kind)[0]

    with matrix_units():
        fused = outcome(lambda q, k, v: attention(q, k, v, packing, how), narrow)
    for a, b, true in zip(fused, outcome(plain, narrow), outcome(plain, inputs), strict=True):
        error, allowed = ((t.double() - true).norm() / true.norm() for t in (a, b))
        assert error <= 3 * max(allowed, 1e-7)
