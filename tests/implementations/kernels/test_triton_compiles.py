"""What only the compiler can say of the Triton kernels; all shapes and devices: `tox -e kernels`."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("triton", reason="triton is not installed: the extra `fused`")

SCRIPT = Path(__file__).parent / "triton_without_gpu.py"
SEQBOAT = ("--model", "seqboat-fused")


def compile_kernels(*options: str) -> subprocess.CompletedProcess[str]:
    """Two EMA states for sixteen, to be quicker."""
    environment = {**os.environ, "PYTHONPATH": str(SCRIPT.parents[3]), "PYTHONWARNINGS": "ignore"}
    command = [sys.executable, str(SCRIPT), "--states", "2", *options]
    return subprocess.run(command, capture_output=True, text=True, env=environment, check=False)


def parts(*options: str) -> dict[str, list[str]]:
    """What each kernel takes, by device, precision, task and model; all fit."""
    run = compile_kernels(*options)
    assert run.returncode == 0, run.stdout[-2000:] + run.stderr[-2000:]
    found: dict[str, list[str]] = {}
    for line in run.stdout.splitlines():
        if line.startswith("sm_"):
            name, found[line] = line, []
        else:
            found[name].append(line)
    return found


@pytest.mark.slow
def test_kernels_fit_a_device_with_little_shared_memory() -> None:
    """The widest model on the smallest device: loads in fewer stages, then fewer columns."""
    found = parts("--arch", "86", "--precision", "tf32", "--task", "enwik8", *SEQBOAT)
    assert len(found["sm_86 tf32 enwik8 seqboat-fused"]) > 15
    assert found["sm_86 tf32 enwik8 seqboat-fused padded"]


@pytest.fixture(scope="module")
def on_one_device() -> dict[str, list[str]]:
    return parts("--arch", "90", "--precision", "tf32", "bf16", "bf16-pure", "--task", "text", *SEQBOAT)


@pytest.mark.slow
def test_a_device_is_not_given_what_fitted_the_one_before_it(on_one_device: dict[str, list[str]]) -> None:
    alone = {name: kernels for name, kernels in on_one_device.items() if " tf32 " in name}
    both = parts("--arch", "86", "90", "--precision", "tf32", "--task", "text", *SEQBOAT)
    assert alone
    assert {name: kernels for name, kernels in both.items() if name in alone} == alone


@pytest.mark.slow
def test_autocast_and_padding_have_kernels_of_their_own(on_one_device: dict[str, list[str]]) -> None:
    """Beside those that were loaded before: of the precisions above, and without padding."""
    autocast, pure = (on_one_device[f"sm_90 {name} text seqboat-fused"] for name in ("bf16", "bf16-pure"))
    assert autocast
    assert pure
    assert autocast != pure
    for precision in ("tf32", "bf16-pure"):
        plain = on_one_device[f"sm_90 {precision} text seqboat-fused"]
        padded = on_one_device[f"sm_90 {precision} text seqboat-fused padded"]
        assert padded
        assert len(padded) < len(plain), "the others were loaded before"


@pytest.mark.slow
def test_ten_counts_of_active_steps_compile_once() -> None:
    run = compile_kernels("--counts")
    assert run.returncode == 0, run.stdout[-2000:] + run.stderr[-2000:]
