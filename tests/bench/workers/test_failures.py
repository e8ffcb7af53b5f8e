"""What a GPU's errors are called in a row: the words are those of CUDA, its libraries and Triton."""

import os

import msgspec
import pytest
import torch

from bench.records.solo import Solo
from bench.suites import reading as suites
from bench.views.tables.notes import run_notes
from bench.workers.failures import REASON_CHARACTERS, failure_of
from bench.workers.handle import WorkerFailed, WorkerProcess
from bench.workers.messages import Failure, Prepare, Prepared, Warm
from bench.workers.worker import Worker

from ..made_up import results

CASE = suites.load("ci").cases("cpu")[0]
NO_PROCESS = 1 << 30
CAPACITY = " (more than 304 active steps: the capacity)"
HINTS = (
    "\nSearch for `cudaErrorMemoryAllocation' in https://docs.nvidia.com/ for more information."
    "\nCUDA kernel errors might be asynchronously reported at some other API call, so the stacktrace below "
    "might be incorrect.\nFor debugging consider passing CUDA_LAUNCH_BLOCKING=1"
    "\nCompile with `TORCH_USE_CUDA_DSA` to enable device-side assertions.\n"
)
FULL = (
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 64.00 GiB. GPU 0 has …"),
    torch.AcceleratorError("CUDA error: out of memory" + HINTS),
    RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    RuntimeError("cuFFT error: CUFFT_ALLOC_FAILED"),
    RuntimeError("Triton Error [CUDA]: out of memory"),
    RuntimeError("cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED"),
)
FAULTS = {
    "CUDA error: device-side assert triggered": torch.AcceleratorError(
        "CUDA error: device-side assert triggered" + HINTS
    ),
    "CUDA error: an illegal memory access was encountered": torch.AcceleratorError(
        "CUDA error: an illegal memory access was encountered" + HINTS
    ),
    "out of resource: shared memory, Required: 256512, Hardware limit: 232448": RuntimeError(
        "out of resource: shared memory, Required: 256512, Hardware limit: 232448"
    ),
}


@pytest.mark.parametrize("error", FULL, ids=lambda error: str(error)[:30])
def test_a_full_device_is_out_of_memory_in_whosever_words(error):
    failure = failure_of(error)
    assert failure.kind == "oom"
    assert "Search for" not in failure.reason


@pytest.mark.parametrize("words", FAULTS)
def test_a_fault_of_the_device_is_an_error_and_says_which(words):
    failure = failure_of(FAULTS[words])
    assert (failure.kind, failure.reason) == ("error", f"{type(FAULTS[words]).__name__}: {words}")


def test_a_reason_is_short():
    assert len(failure_of(NotImplementedError("no " * 500)).reason) == REASON_CHARACTERS


@pytest.mark.parametrize("number", [1, 4])
def test_a_step_that_finds_the_device_full_is_answered_so(number, monkeypatch):
    """The worker itself answers, in the middle of its warm-up."""
    case = suites.load("ci").cases("cpu")[0]
    worker = Worker()
    worker.answer(Prepare(case, "cpu", torch.get_num_threads(), None))

    def full():
        raise FULL[number]

    monkeypatch.setattr(worker.step, "run", full)
    answer = worker.answer(Warm(1, 1, 1.0))
    assert isinstance(answer, Failure)
    assert answer.kind == "oom"


def test_a_note_names_fused_models_that_were_timed_plain():
    run = results(("transformer", "seqboat-fused"))
    why = "Triton can't compile here: no C compiler"
    for name, solo in run.solos.items():
        if "fused" in name:
            run.solos[name] = Solo(case=solo.case, status="ok", backend="torch", why_plain=why)
    (note,) = [line for line in run_notes(run) if "plain form" in line]
    assert note == f"in the plain form, not fused: SeqBoat (fused) at 4096 ({why})"


@pytest.mark.parametrize(
    ("printed", "ending"),
    [
        ("Sizes.cu:7: Assertion `more than 304 active steps: the capacity` failed.\n", CAPACITY),
        ("Indexing.cu:7: Assertion `index >= 0` failed.\n", ""),
        ("", ""),
    ],
)
def test_the_capacity_that_overflowed_is_in_the_reason(tmp_path, printed, ending):
    """CUDA tells that an assertion failed; which one, only the device's line on standard error does."""
    reason = failure_of(FAULTS["CUDA error: device-side assert triggered"]).reason
    assert told(tmp_path, printed, reason) == reason + ending
    other = "AcceleratorError: CUDA error: an illegal memory access was encountered"
    assert told(tmp_path, printed, other) == other


def told(folder, printed: str, reason: str) -> str:
    """Reason of a worker that failed so, having printed that, as its parent has it."""
    answers, answering = os.pipe()
    questions = os.open(os.devnull, os.O_WRONLY)
    with open(folder / "printed", "w+b") as stderr, open(answering, "wb") as pipe:
        stderr.write(printed.encode())
        stderr.flush()
        worker = WorkerProcess(CASE, NO_PROCESS, lambda pid: 0, questions, answers, stderr)
        pipe.write(msgspec.json.encode(Failure("error", reason)) + b"\n")
        pipe.flush()
        with worker, pytest.raises(WorkerFailed) as failed:
            worker.receive(Prepared, 5)
    return failed.value.reason
