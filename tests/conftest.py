"""Shared fixtures. Torch is kept to one thread: the tests are many and the models small."""

import os
import sys
from pathlib import Path

import pytest
from hypothesis import settings

from . import quick_interpreter

os.environ.setdefault("OMP_NUM_THREADS", "1")
# Triton reads this when it is first imported: without a GPU its kernels run in its interpreter.
os.environ.setdefault("TRITON_INTERPRET", "0" if Path("/dev/nvidiactl").exists() else "1")
# Tables are as wide as in a pipe, whatever the terminal that the tests were started from; xdist's workers
# are told its width.
os.environ.pop("COLUMNS", None)

# How long an example takes says more of the machine's other work than of the code.
settings.register_profile("unhurried", deadline=None)
settings.load_profile("unhurried")

GOLDEN = Path(__file__).parent / "golden"


@pytest.fixture(autouse=True)
def nothing_compiled():
    """What an earlier test compiled is not held against the models of the next."""
    yield
    compiler = sys.modules.get("torch._dynamo.utils")
    if compiler is not None:
        compiler.counters.clear()


@pytest.fixture(autouse=True)
def quick_kernels():
    """Where Triton's kernels run in its interpreter; triton is imported with the modules of tests."""
    quick_interpreter.install()


@pytest.fixture(autouse=True)
def one_thread():
    """A test's number of threads is not the next one's: MKL's factorisations of batches hang with two."""
    yield
    torch = sys.modules.get("torch")
    if torch is not None and torch.get_num_threads() != 1:
        torch.set_num_threads(1)


@pytest.fixture
def golden() -> Path:
    return GOLDEN
