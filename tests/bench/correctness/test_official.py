"""Every implementation computes what the official code computes, forward and gradients."""

from pathlib import Path

import pytest

from bench.correctness.golden import GoldenError, find_cases
from bench.correctness.official import bound, verify, verify_case
from implementations import registry
from implementations.models.seqboat import SeqBoatLayer

torch = pytest.importorskip("torch")

FOLDER = Path(__file__).parents[2] / "golden"
CASES = list(find_cases(FOLDER))
VARIANTS = [item for item in registry.catalogue().values() if item.variant is not None]


@pytest.mark.parametrize("file", CASES, ids=lambda file: f"{file.system}/{file.name}")
def test_equals_official_code(file):
    verdict = verify_case(file)
    if not file.required and verdict.status == "unsupported":
        pytest.skip(verdict.detail)
    assert verdict.status == "passed", verdict


@pytest.mark.parametrize(
    ("variant", "file"),
    [(item.variant, file) for item in VARIANTS for file in CASES if file.system == item.golden],
    ids=lambda value: value if isinstance(value, str) else f"{value.system}/{value.name}",
)
def test_variant_equals_official_code(variant, file):
    verdict = verify_case(file, variant)
    if verdict.status == "unsupported":
        pytest.skip(verdict.detail)
    assert verdict.status == "passed", verdict


def test_every_system_of_the_folder_is_covered():
    assert {file.system for file in CASES} >= {"transformer", "mega", "mega_chunk", "s4", "seqboat"}


def _copy_with(path: Path, target: Path, **changes) -> Path:
    from safetensors import safe_open
    from safetensors.torch import save_file

    with safe_open(path, framework="pt") as file:
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        metadata = file.metadata()
    for key, change in changes.items():
        tensors[key] = change(tensors[key])
    target.parent.mkdir(parents=True, exist_ok=True)
    save_file(tensors, target, metadata)
    return target


@pytest.mark.parametrize("key", ["out/y", "grad_in/x", "grad_param/mx_proj.weight"])
def test_a_wrong_tensor_fails(tmp_path, golden, key):
    source = golden / "seqboat" / "layer_batchnorm_eval.safetensors"
    _copy_with(source, tmp_path / "seqboat" / "case.safetensors", **{key: lambda t: t * 1.01})
    (verdict,) = verify(tmp_path)
    assert verdict.status == "failed"
    assert verdict.worst_tensor == key
    assert verdict.counts_as_failure


def test_a_truncated_file_is_an_error(tmp_path, golden):
    content = (golden / "s4" / "kernel_dplr_L64.safetensors").read_bytes()
    path = tmp_path / "s4" / "cut.safetensors"
    path.parent.mkdir()
    path.write_bytes(content[:500])
    (verdict,) = verify(tmp_path)
    assert verdict.status == "error"
    assert "not a file of golden vectors" in verdict.detail


def test_an_unknown_system_is_unsupported_and_counts_unless_optional(tmp_path, golden):
    source = golden / "s4" / "kernel_dplr_L64.safetensors"
    _copy_with(source, tmp_path / "novel" / "case.safetensors")
    (verdict,) = verify(tmp_path)
    assert (verdict.status, verdict.counts_as_failure) == ("unsupported", True)
    (tmp_path / "OPTIONAL.txt").write_text("novel/*\n")
    (verdict,) = verify(tmp_path)
    assert (verdict.status, verdict.counts_as_failure) == ("unsupported", False)


def test_an_empty_folder_is_refused(tmp_path):
    with pytest.raises(GoldenError, match="holds no"):
        list(verify(tmp_path))


def test_bounds():
    assert bound("out/y") == 1e-4
    assert bound("grad_param/h_proj.weight") == 1e-3
    assert bound("grad_param/q_router.temp") == 1e-2
    assert bound("grad_param/rel_pos_bias.rel_pos_bias") == 1e-2


ZEROS = "bigbird/attn_bs8_r1"
"""A case with a bias of keys, whose gradient is analytically zero."""


@pytest.fixture
def key_bias(golden, tmp_path):
    """Verify a case with the recorded gradient of its key bias changed."""

    def check(change):
        path = tmp_path / "bigbird" / "case.safetensors"
        _copy_with(golden / f"{ZEROS}.safetensors", path, **{"grad_param/key.bias": change})
        (found,) = verify(tmp_path)
        return found

    return check


def test_a_gradient_that_is_analytically_zero_is_judged_by_its_rounding(key_bias):
    generator = torch.Generator().manual_seed(0)
    assert key_bias(lambda t: torch.randn(t.shape, generator=generator) * t.std()).status == "passed"
    assert key_bias(torch.zeros_like).status == "passed"


def test_a_recorded_gradient_is_not_taken_for_rounding_because_ours_is_zero(key_bias):
    found = key_bias(lambda t: t + 1e-2)
    assert (found.status, found.worst_tensor) == ("failed", "grad_param/key.bias")


@pytest.mark.parametrize("factor", [0.0, 1.01, -1.0])
def test_a_wrong_gradient_of_ours_fails(golden, monkeypatch, factor):
    """The fault is that of a small parameter, through the module."""
    project = SeqBoatLayer._project

    def planted(layer, m, positions):
        layer.beta.requires_grad_(True)
        layer.beta.register_hook(lambda gradient: gradient * factor)
        return project(layer, m, positions)

    monkeypatch.setattr(SeqBoatLayer, "_project", planted)
    file = next(f for f in CASES if f.system == "seqboat" and f.name == "layer_batchnorm_eval")
    found = verify_case(file)
    assert (found.status, found.worst_tensor) == ("failed", "grad_param/beta")
