"""What only the compiler can say of the Triton kernels; all shapes and devices: `tox -e kernels`."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("triton", reason="triton is not installed: the extra `fused`")

SCRIPT = Path(__file__).parent / "triton_without_gpu.py"


def compile_kernels(*options: str) -> subprocess.CompletedProcess[str]:
    """Two EMA states for sixteen, to be quicker."""
    environment = {**os.environ, "PYTHONPATH": str(SCRIPT.parents[3]), "PYTHONWARNINGS": "ignore"}
    command = [sys.executable, str(SCRIPT), "--states", "2", *options]
    return subprocess.run(command, capture_output=True, text=True, env=environment, check=False)


@pytest.mark.slow
def test_kernels_fit_a_device_with_little_shared_memory() -> None:
    """The widest model on the smallest device: loads in fewer stages, then fewer columns."""
    options = ("--arch", "86", "--precision", "tf32", "--task", "enwik8", "--model", "seqboat-fused")
    run = compile_kernels(*options)
    assert run.returncode == 0, run.stdout[-2000:] + run.stderr[-2000:]
    assert run.stdout.count("registers") > 15


@pytest.mark.slow
def test_ten_counts_of_active_steps_compile_once() -> None:
    run = compile_kernels("--counts")
    assert run.returncode == 0, run.stdout[-2000:] + run.stderr[-2000:]
