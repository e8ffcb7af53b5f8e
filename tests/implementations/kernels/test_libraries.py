"""Other libraries' kernels: called by their conventions, held against the plain forms, refused in one line.

No kernel runs here: plain functions of the same conventions stand in for them, and are held to fla's own.
"""

import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor

from bench.correctness.reference import compare_with_reference
from bench.steps.step import Step
from bench.suites.case import Case
from implementations.kernels import libraries
from implementations.kernels.backend import BackendUnavailable, backend_of, choose, why_plain
from implementations.models import gated_deltanet, mamba2

from ..models.efficient_attention import random, seeded, task

CPU, CUDA = torch.device("cpu"), torch.device("cuda")
TINY_MAMBA = {"layers": 1, "dim": 16, "head_dim": 8, "state_dim": 6, "chunk": 8}
TINY_DELTA = {"layers": 1, "dim": 16, "heads": 2, "head_dim": 6, "ffn": 24, "chunk": 8}


def stand_in(monkeypatch: pytest.MonkeyPatch, path: str, name: str, function: Callable[..., Any]) -> None:
    """Make `from path import name` give a function, whatever is installed."""
    parts = path.split(".")
    for count in range(1, len(parts) + 1):
        monkeypatch.setitem(sys.modules, ".".join(parts[:count]), ModuleType(parts[count - 1]))
    setattr(sys.modules[path], name, function)


def mamba_chunk_scan_combined(
    x: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, chunk_size: int
) -> Tensor:
    """Step by step, by mamba-ssm's convention: B and C `(batch, length, groups, N)`, one group here."""
    state, outputs = x.new_zeros(*x.shape[:1], *x.shape[2:], B.shape[-1]), []
    for t in range(x.shape[1]):
        update = torch.einsum("bhp,bgn->bhpn", x[:, t] * dt[:, t, :, None], B[:, t])
        state = (dt[:, t] * A).exp()[..., None, None] * state + update
        outputs.append(torch.einsum("bhpn,bgn->bhp", state, C[:, t]))
    return torch.stack(outputs, dim=1)


def chunk_simple_gla(q: Tensor, k: Tensor, v: Tensor, g: Tensor, scale: float) -> tuple[Tensor, None]:
    """Step by step, by fla's convention: q, k, v `(batch, length, heads, d)`, g `(batch, length, heads)`."""
    state, outputs = torch.zeros_like(k[:, 0, :, :, None] * v[:, 0, :, None, :]), []
    for t in range(q.shape[1]):
        state = g[:, t].exp()[..., None, None] * state + k[:, t, :, :, None] * v[:, t, :, None, :]
        outputs.append(torch.einsum("bhk,bhkv->bhv", q[:, t] * scale, state))
    return torch.stack(outputs, dim=1), None


def chunk_gated_delta_rule(
    q: Tensor, k: Tensor, v: Tensor, g: Tensor, beta: Tensor, scale: float
) -> tuple[Tensor, None]:
    """Step by step, by fla's convention: the layout of chunk_simple_gla, beta that of g."""
    state, outputs = torch.zeros_like(k[:, 0, :, :, None] * v[:, 0, :, None, :]), []
    for t in range(q.shape[1]):
        state = g[:, t].exp()[..., None, None] * state
        held = torch.einsum("bhk,bhkv->bhv", k[:, t], state)
        write = beta[:, t, :, None] * (v[:, t] - held)
        state = state + k[:, t, :, :, None] * write[:, :, None, :]
        outputs.append(torch.einsum("bhk,bhkv->bhv", q[:, t] * scale, state))
    return torch.stack(outputs, dim=1), None


def ssd_operands() -> list[Tensor]:
    """x, dt, rate, b, c of two rows, three heads of width 4 and five states."""
    return [
        random(2, 20, 3, 4),
        random(2, 20, 3, seed=1).square(),
        -random(3, seed=4).exp(),
        random(2, 20, 5, seed=2),
        random(2, 20, 5, seed=3),
    ]


def delta_operands() -> list[Tensor]:
    """q, k, v, log_decay, beta of two rows and three heads."""
    q, k = (torch.nn.functional.normalize(random(2, 3, 20, 5, seed=seed), dim=-1) for seed in (0, 1))
    decay = -random(2, 3, 20, seed=3).float().square()
    return [q, k, random(2, 3, 20, 7, seed=2), decay, random(2, 3, 20, seed=4).sigmoid()]


@pytest.mark.parametrize("library", ["mamba_ssm", "fla"])
def test_ssd_is_ours(library: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(libraries, "_is_installed", lambda module: module == library)
    stand_in(
        monkeypatch,
        "mamba_ssm.ops.triton.ssd_combined",
        "mamba_chunk_scan_combined",
        mamba_chunk_scan_combined,
    )
    stand_in(monkeypatch, "fla.ops.simple_gla", "chunk_simple_gla", chunk_simple_gla)
    x, dt, rate, b, c = ssd_operands()
    expected = mamba2.ssd(x * dt.unsqueeze(-1), dt * rate, b, c, 8)
    torch.testing.assert_close(libraries.ssd(x, dt, rate, b, c, 8), expected)


def test_the_delta_rule_is_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in(monkeypatch, "fla.ops.gated_delta_rule", "chunk_gated_delta_rule", chunk_gated_delta_rule)
    operands = delta_operands()
    expected = gated_deltanet.gated_delta_rule(*operands[:3], operands[3].double(), operands[4], 8)
    torch.testing.assert_close(libraries.gated_delta_rule(*operands), expected)


def test_the_stand_ins_are_what_fla_computes() -> None:
    naive_gla = pytest.importorskip("fla.ops.simple_gla.naive").naive_chunk_simple_gla
    naive_delta = pytest.importorskip("fla.ops.gated_delta_rule.naive").naive_chunk_gated_delta_rule
    q, k, v, g, beta = (x.transpose(1, 2).float() for x in delta_operands())
    for mine, theirs in (
        (chunk_simple_gla(q, k, v, g, 1.0), naive_gla(q, k, v, g, scale=1.0)),
        (chunk_gated_delta_rule(q, k, v, g, beta, 1.0), naive_delta(q, k, v, g, beta, scale=1.0)),
    ):
        torch.testing.assert_close(mine[0], theirs[0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("build", "tiny"), [(mamba2.build, TINY_MAMBA), (gated_deltanet.build, TINY_DELTA)])
def test_the_backend_of_a_model(build: Any, tiny: dict[str, int], monkeypatch: pytest.MonkeyPatch) -> None:
    model = seeded(build, task(), tiny)
    monkeypatch.setattr(libraries, "_is_installed", lambda module: False)
    assert backend_of(model, "auto", CPU) == backend_of(model, "auto", CUDA) == "torch"
    with pytest.raises(BackendUnavailable, match=r"^backend cpu: [^\n]+choose torch$"):
        backend_of(model, "cpu", CPU)
    with pytest.raises(BackendUnavailable, match=r"^backend triton: [^\n]+on CUDA devices, not on cpu$"):
        backend_of(model, "triton", CPU)
    with pytest.raises(BackendUnavailable, match=r"^backend triton: [^\n]+pip install [^\n]+$"):
        backend_of(model, "triton", CUDA)

    monkeypatch.setattr(libraries, "_is_installed", lambda module: module == "fla")
    monkeypatch.setattr(libraries.trial, "failure", lambda device: None)
    assert why_plain(model, "auto", CPU) is None
    assert "in TF32: choose" in (why_plain(model, "auto", CUDA) or "")
    assert backend_of(model, "auto", CUDA) == "torch"  # full float32, which those kernels do not give
    with pytest.raises(BackendUnavailable, match=r"^backend triton: [^\n]+tf32, bf16 or fp16$"):
        backend_of(model, "triton", CUDA)
    with monkeypatch.context() as autocast:
        autocast.setattr(torch, "is_autocast_enabled", lambda kind: kind == "cuda")
        assert backend_of(model, "auto", CUDA) == "triton"
    torch.backends.cuda.matmul.allow_tf32 = True
    try:
        assert backend_of(model, "auto", CUDA) == backend_of(model, "triton", CUDA) == "triton"
    finally:
        torch.backends.cuda.matmul.allow_tf32 = False


def test_a_model_without_fused_layers_still_refuses_what_cannot_run() -> None:
    assert backend_of(torch.nn.Linear(1, 1), "auto", CPU) == "torch"
    with pytest.raises(BackendUnavailable):
        backend_of(torch.nn.Linear(1, 1), "cpu", CUDA)


@pytest.mark.parametrize(("name", "factor"), [("mamba2", 1.0), ("mamba2", 1.01), ("gated-deltanet", 1.0)])
def test_a_librarys_kernels_are_held_against_the_plain_form(
    name: str, factor: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a run does before it times them; here plain functions stand in, one of them wrong."""

    def pretend(backend: str, device: torch.device, library: object = None) -> str:
        return "triton" if library and backend == "auto" else choose(backend, device)

    def scan(*operands: Any, **options: Any) -> Tensor:
        return factor * mamba_chunk_scan_combined(*operands, **options)

    for module in ("models.mamba2", "models.gated_deltanet", "kernels.backend"):
        monkeypatch.setattr(f"implementations.{module}.choose", pretend)
    monkeypatch.setattr(libraries, "_is_installed", lambda module: True)
    stand_in(monkeypatch, "mamba_ssm.ops.triton.ssd_combined", "mamba_chunk_scan_combined", scan)
    stand_in(monkeypatch, "fla.ops.gated_delta_rule", "chunk_gated_delta_rule", chunk_gated_delta_rule)
    step = Step(
        Case(
            implementation=name, workload="text", length=32, batch=1, fill="full", precision="fp32",
            phase="train", hyperparameters="matched", activation=None, backend="auto", seed=0,
        ),
        "cpu",
    )  # fmt: skip
    assert step.backend == "triton"
    variant = compare_with_reference(step)
    assert variant.reference == f"{name} (torch)"
    assert variant.agrees == (factor == 1.0)


def test_a_model_that_is_plain_has_nothing_to_be_held_against() -> None:
    case = Case(
        implementation="mamba2", workload="text", length=16, batch=1, fill="full", precision="fp32",
        phase="train", hyperparameters="matched", activation=None, backend="auto", seed=0,
    )  # fmt: skip
    with pytest.raises(ValueError, match="no reference"):
        compare_with_reference(Step(case, "cpu"))
