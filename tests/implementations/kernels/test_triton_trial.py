"""What Triton needs to compile anything, by Triton's own code; only the driver's library is a stub."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("triton", reason="triton is not installed: the extra `fused`")

SCRIPT = """
import torch
from triton.backends.nvidia.driver import CudaDriver
CudaDriver.is_active = staticmethod(lambda: True)
torch.cuda.device_of = lambda tensor: __import__("contextlib").nullcontext()
zeros = torch.zeros
torch.zeros = lambda *size, device: zeros(*size)
from torch import nn
from implementations.kernels.backend import choose, why_plain
class Fused(nn.Module):
    backend = "auto"
cuda = torch.device("cuda:0")
print(choose("auto", cuda), why_plain(nn.Sequential(Fused()), "auto", cuda))
try:
    choose("triton", cuda)
except Exception as error:
    print(error)
"""


@pytest.fixture
def driver_folder(tmp_path: Path) -> Path:
    """A folder with something by the name of the driver's library, for the linker."""
    compiler = shutil.which("gcc")
    if compiler is None:
        pytest.skip("the stub is compiled with gcc")
    (tmp_path / "stub.c").write_text("int stub;\n")
    subprocess.run([compiler, "-shared", "-o", tmp_path / "libcuda.so.1", tmp_path / "stub.c"], check=True)
    return tmp_path


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"PATH": "/nonexistent"}, "Failed to find C compiler"),
        ({"HOME": "/proc/version"}, "/proc/version/.triton"),
    ],
)
def test_auto_falls_back_where_nothing_can_be_compiled(
    driver_folder: Path, changed: dict[str, str], words: str
) -> None:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("TRITON", "CC"))}
    root = Path(__file__).parents[3]
    environment = {
        **kept,
        "PYTHONPATH": str(root),
        "TRITON_INTERPRET": "0",
        "TRITON_LIBCUDA_PATH": str(driver_folder),
        "HOME": str(driver_folder),
        **changed,
    }
    run = subprocess.run(
        [sys.executable, "-c", SCRIPT], capture_output=True, text=True, env=environment, check=True
    )
    chosen, refused = run.stdout.strip().split("\n")
    assert chosen.startswith("torch Triton can't compile here: ")
    assert words in chosen
    assert "TRITON_CACHE_DIR" in chosen
    assert refused.startswith("backend triton: Triton can't compile here: ")
