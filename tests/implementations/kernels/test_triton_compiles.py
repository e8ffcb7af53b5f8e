import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("triton", reason="triton is not installed: the extra `fused`")

SCRIPT = Path(__file__).parent / "triton_without_gpu.py"


@pytest.mark.slow
def test_every_kernel_compiles_for_an_h100_within_its_shared_memory() -> None:
    """Two EMA states for sixteen, to be quicker; the cases take every path between them."""
    environment = {**os.environ, "PYTHONPATH": str(SCRIPT.parents[3]), "PYTHONWARNINGS": "ignore"}
    command = [sys.executable, str(SCRIPT), "2", "SC10 float32", "enwik8 float32", "ones and twos"]
    run = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert run.returncode == 0, run.stderr[-2000:]
    assert run.stdout.count("registers") > 30
