"""TF32 by either of torch's settings."""

from collections.abc import Iterator

import pytest
import torch

from bench.steps.step import set_matmul_precision
from implementations.kernels.precision import is_tf32_allowed
from implementations.kernels.triton.launch import dot_precision

MATMUL = torch.backends.cuda.matmul


@pytest.fixture(autouse=True)
def as_it_was() -> Iterator[None]:
    yield
    set_matmul_precision("fp32")


@pytest.mark.parametrize(("allowed", "word"), [(True, "tf32"), (False, "tf32x3")])
def test_it_is_read_as_it_was_set(allowed: bool, word: str) -> None:
    set_matmul_precision("tf32" if allowed else "fp32")
    assert (is_tf32_allowed(), dot_precision()) == (allowed, word)


@pytest.mark.parametrize(("capability", "word"), [((7, 5), "ieee"), ((8, 0), "tf32x3"), ((12, 0), "tf32x3")])
def test_older_gpus_have_no_tf32(
    capability: tuple[int, int], word: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: capability)
    assert dot_precision() == word


@pytest.mark.skipif(not hasattr(MATMUL, "fp32_precision"), reason="this torch has the older setting alone")
def test_a_library_that_sets_the_newer_one_breaks_nothing() -> None:
    MATMUL.allow_tf32 = False
    MATMUL.fp32_precision = "tf32"
    with pytest.raises(RuntimeError):
        bool(MATMUL.allow_tf32)
    assert dot_precision() == "tf32"
