"""State-space primitives: HiPPO's eigenvectors, kernels against their recurrence."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from bench.probes.tensor_bytes import TensorBytes
from implementations.ops import dplr_spectrum
from implementations.ops.ssm import (
    TiedDropout,
    as_complex,
    as_pairs,
    hippo_legs,
    log_uniform,
    nplr_legs,
)
from implementations.ops.ssm_kernels import diagonal_kernel, dplr_kernel, dplr_truncate


def both(x: Tensor) -> Tensor:
    """States with their conjugates."""
    return torch.cat([x, x.conj()], dim=-1)


def dplr(dim: int = 3, states: int = 4, channels: int = 2) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(dim * states)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, dtype=torch.cdouble, generator=generator)

    A = normal(dim, states)
    return {
        "A": torch.complex(-A.real.abs() - 0.1, 5 * A.imag),
        "B": normal(dim, states),
        "C": normal(channels, dim, states),
        "P": normal(dim, states),
        "dt": torch.rand(dim, dtype=torch.float64, generator=generator) * 0.1 + 0.01,
    }


def truncated(system: dict[str, Tensor], length: int) -> dict[str, Tensor]:
    A, C, P, dt = (system[name] for name in ("A", "C", "P", "dt"))
    return {**system, "C": dplr_truncate(A, C, P, dt, length)}


def recurrence(system: dict[str, Tensor], length: int) -> Tensor:
    """The impulse response of the bilinear discretisation, one step after the other."""
    A, P, dt = both(system["A"]), both(system["P"]), system["dt"][:, None, None]
    full = torch.diag_embed(A) - P.unsqueeze(2) * P.unsqueeze(1).conj()
    identity = torch.eye(A.shape[1], dtype=A.dtype)
    inverse = torch.linalg.inv(identity - dt / 2 * full)
    state = inverse @ (dt * both(system["B"]).unsqueeze(2))
    response = []
    for _ in range(length):
        response.append((both(system["C"]).unsqueeze(2) @ state)[..., 0, 0])
        state = inverse @ (identity + dt / 2 * full) @ state
    return torch.stack(response, dim=-1).real


@pytest.mark.parametrize("state_dim", [2, 8, 64])
def test_nplr_is_hippo_plus_a_low_rank_term(state_dim: int) -> None:
    A, B = hippo_legs(state_dim)
    legs = nplr_legs(state_dim)
    P = torch.sqrt(torch.arange(state_dim, dtype=torch.float64) + 0.5)
    rebuilt = 2 * (legs.V @ torch.diag(legs.A) @ legs.V.mH).real
    torch.testing.assert_close(rebuilt, A + torch.outer(P, P))
    torch.testing.assert_close(2 * (legs.V @ legs.P).real, P)
    torch.testing.assert_close(2 * (legs.V @ legs.B).real, B)
    assert (legs.A.imag < 0).all()
    assert (legs.A.imag.diff() > 0).all()


def test_of_an_odd_number_of_states_the_one_without_a_pair_is_left_out() -> None:
    A = nplr_legs(7).A
    assert len(A) == 3
    assert (A.imag < -0.1).all()


@pytest.mark.parametrize("length", [1, 2, 16, 33])
@pytest.mark.parametrize("elements", [1, 1 << 19])
def test_dplr_kernel_is_the_impulse_response(
    length: int, elements: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(dplr_spectrum.SLICE_ELEMENTS, "cpu", elements)
    system = dplr()
    kernel = dplr_kernel(**truncated(system, length), length=length)
    torch.testing.assert_close(kernel, recurrence(system, length))


@pytest.mark.parametrize("length", [7, 8])
@pytest.mark.parametrize("elements", [1, 1 << 19])
def test_gradients_of_dplr_kernel(length: int, elements: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(dplr_spectrum.SLICE_ELEMENTS, "cpu", elements)
    tensors = [x.requires_grad_() for x in dplr(dim=2, states=3).values()]
    assert torch.autograd.gradcheck(lambda *system: dplr_kernel(*system, length), tensors)


@pytest.mark.parametrize("length", [1, 2, 9, 10, 37])
def test_diagonal_kernel_is_a_sum_of_powers(length: int) -> None:
    system = dplr()
    exponents = system["A"] * system["dt"].unsqueeze(1)
    powers = torch.exp(exponents.unsqueeze(-1) * torch.arange(length))
    expected = 2 * (system["C"].unsqueeze(-1) * powers).sum(dim=2).real
    torch.testing.assert_close(diagonal_kernel(system["C"], exponents, length), expected)


@pytest.mark.parametrize("length", [1, 2, 9, 10])
def test_gradients_of_diagonal_kernel(length: int) -> None:
    system = dplr(dim=2, states=3)
    weights, exponents = system["C"].requires_grad_(), (system["A"] * 0.1).requires_grad_()
    assert torch.autograd.gradcheck(lambda w, x: diagonal_kernel(w, x, length), (weights, exponents))


def legs_system(dim: int, state_dim: int, channels: int = 1) -> dict[str, Tensor]:
    """What S4 starts from, with its widest range of step sizes."""
    torch.manual_seed(0)
    legs = nplr_legs(state_dim)
    A, B, P = (x.repeat(dim, 1) for x in (legs.A, legs.B, legs.P))
    C = torch.randn(channels, dim, state_dim // 2, dtype=torch.cdouble)
    return {"A": A, "B": B, "C": C, "P": P, "dt": torch.logspace(-4, -1, dim, dtype=torch.float64)}


def single(system: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: x.to(torch.cfloat if x.is_complex() else torch.float32) for name, x in system.items()}


def test_dplr_kernel_in_single_precision() -> None:
    system = truncated(legs_system(4, 64), 4096)
    exact = dplr_kernel(**system, length=4096)
    kernel = dplr_kernel(**single(system), length=4096)
    assert (kernel - exact).norm() < 1e-4 * exact.norm()


@pytest.mark.parametrize("state_dim", [2, 64, 512])
def test_truncation_is_that_of_the_matrix_power(state_dim: int) -> None:
    system = legs_system(2, state_dim, channels=2)
    A, P, dt = both(system["A"]), both(system["P"]), system["dt"][:, None, None]
    full = dt / 2 * (torch.diag_embed(A) - P.unsqueeze(2) * P.unsqueeze(1).conj())
    identity = torch.eye(A.shape[1], dtype=A.dtype)
    transition = torch.linalg.solve(identity - full, identity + full)
    C = both(system["C"]).transpose(0, 1)
    expected = (C - C @ torch.linalg.matrix_power(transition, 100)).transpose(0, 1)
    error = both(truncated(system, 100)["C"]) - expected
    assert error.norm() < 1e-10 * expected.norm()


def test_truncation_never_holds_a_matrix_of_the_states() -> None:
    """At 512 states a matrix a channel, and its powers, took minutes a model."""
    system = legs_system(4, 512)
    with TensorBytes() as memory:
        truncated(system, 8)
    assert memory.peak - memory.before < 10 * system["C"].nbytes


def test_autocast_leaves_the_kernels_alone() -> None:
    system = single(legs_system(4, 8))
    leaves = [x.requires_grad_() for x in system.values()]

    def results() -> tuple[Tensor, ...]:
        kernel = dplr_kernel(**system, length=64)
        diagonal = diagonal_kernel(system["C"], system["A"] * 0.01, 64)
        return kernel, diagonal, *torch.autograd.grad(kernel.sum() + diagonal.sum(), leaves)

    plain = results()
    with torch.autocast("cpu", torch.bfloat16):
        cast = results()
    for ours, expected in zip(cast, plain, strict=True):
        assert torch.equal(ours, expected)


class Largest(TorchDispatchMode):
    """The largest number of elements of any tensor that an operation gives."""

    elements = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        sizes = [leaf.numel() for leaf in tree_leaves(out) if isinstance(leaf, Tensor)]
        self.elements = max(self.elements, *sizes, 0)
        return out


@pytest.mark.parametrize("kind", ["dplr", "diagonal"])
def test_no_kernel_holds_every_state_at_every_step(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(dplr_spectrum.SLICE_ELEMENTS, "cpu", 1)
    dim, states, length = 8, 16, 1024
    system = {name: x.requires_grad_() for name, x in single(legs_system(dim, 2 * states)).items()}
    make: Callable[[], Tensor] = (
        (lambda: dplr_kernel(**system, length=length))
        if kind == "dplr"
        else (lambda: diagonal_kernel(system["C"], system["A"] * 0.01, length))
    )
    with Largest() as largest:
        make().sum().backward()
    assert largest.elements <= dim * states * length / 4


def test_pairs_round_trip() -> None:
    x = torch.randn(3, 4, dtype=torch.cfloat)
    assert torch.equal(as_complex(as_pairs(x)), x)
    assert as_complex(as_pairs(x).half()).dtype == torch.cfloat


def test_log_uniform_stays_between() -> None:
    steps = log_uniform(1000, 0.001, 0.1).exp()
    assert steps.min() >= 0.001 * 0.999
    assert steps.max() <= 0.1 * 1.001
    assert 0.4 < (steps < 0.01).float().mean() < 0.6


def test_tied_dropout_drops_a_channel_at_all_steps() -> None:
    torch.manual_seed(0)
    dropout = TiedDropout(0.5)
    x = torch.rand(4, 9, 50) + 1
    y = dropout(x)
    assert torch.equal((y == 0).any(dim=1), (y == 0).all(dim=1))
    assert 0.3 < (y == 0).float().mean() < 0.7
    torch.testing.assert_close(y[y != 0], 2 * x[y != 0])
    assert torch.equal(dropout.eval()(x), x)
