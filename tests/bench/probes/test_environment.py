"""The environment of a run on processors is read without torch, which takes seconds to load."""

import subprocess
import sys

import pytest
import torch


@pytest.mark.skipif(
    torch.version.cuda is not None or torch.version.hip is not None, reason="needs a CPU torch"
)
def test_a_torch_for_no_gpu_is_not_loaded_to_find_one():
    assert told("auto") == ["cpu", str(torch.__version__), "False"]


def test_the_version_of_torch_is_told_without_loading_it():
    assert told("cpu") == ["cpu", str(torch.__version__), "False"]


def told(device: str) -> list[str]:
    """Device, version of torch, and whether it was loaded for that."""
    code = (
        "import sys; from bench.probes.environment import read_environment, resolve_device\n"
        f"found = read_environment(resolve_device({device!r}), 1)\n"
        "print(found.device, found.torch, 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout.split()
