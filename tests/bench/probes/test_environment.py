"""The environment of a run on processors is read without torch, which takes seconds to load."""

import subprocess
import sys

import torch


def test_the_version_of_torch_is_told_without_loading_it():
    code = (
        "import sys; from bench.probes.environment import read_environment, resolve_device\n"
        "print(read_environment(resolve_device('cpu'), 1).torch, 'torch' in sys.modules)"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert told.stdout.split() == [str(torch.__version__), "False"]
