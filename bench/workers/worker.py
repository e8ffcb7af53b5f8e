"""A process that builds one case and does what it is told, one answer for each question.

Run as `python -m bench.workers.worker` it is the template of such processes: it loads torch, then
forks one for every order. Each has pipes of its own for questions and answers.
"""

import contextlib
import ctypes
import gc
import math
import os
import signal
import socket
import sys
import time
from typing import NoReturn

import msgspec

from bench.records.run import Activation
from bench.workers.messages import (
    Answer,
    Check,
    Checked,
    Count,
    Counted,
    Decode,
    Decoded,
    EnergyMeasured,
    Failure,
    FailureKind,
    Locate,
    MeasureEnergy,
    MeasureMemory,
    MemoryMeasured,
    Prepare,
    Prepared,
    Question,
    Ran,
    Run,
    Warm,
    Warmed,
)

PR_SET_PDEATHSIG = 1
OUT_OF_MEMORY_SCORE = "1000"
"""The kernel kills a worker before anything else, so that the parent can tell what happened."""


class Worker:
    """Holds the case that it was given and answers questions about it."""

    def answer(self, question: Question) -> Answer:
        try:
            return self._answer(question)
        except MemoryError:
            return Failure("oom", "out of memory")
        except Exception as error:
            return Failure(*_classify(error))

    def _answer(self, question: Question) -> Answer:
        match question:
            case Prepare():
                return self._prepare(question)
            case Locate():
                return self._locate(question)
            case Warm():
                return self._warm(question)
            case MeasureMemory():
                return self._measure_memory()
            case Check():
                return self._check()
            case Decode():
                return self._decode()
            case Count():
                return self._count()
            case MeasureEnergy():
                return self._measure_energy()
            case Run():
                return self._time(question)

    def _prepare(self, question: Prepare) -> Answer:
        import torch

        from bench.probes import nvml
        from bench.steps.decoding import open_step
        from implementations.encoder import parameter_count

        torch.set_num_threads(question.threads)
        if question.memory_limit_bytes is not None:
            _limit_memory(question.memory_limit_bytes)
        # Before the model is built, so that what others have on the device is not taken for ours.
        self.nvml = nvml.open_device(question.device)[0] if question.device.startswith("cuda") else None
        self.idle_bytes = nvml.device_bytes(self.nvml) or 0
        self.step = open_step(question.case, question.device)
        self.step.calibrate()
        return Prepared(
            parameters=parameter_count(self.step.model),
            tokens=self.step.tokens,
            real_tokens=self.step.real_tokens,
            data=self.step.workload.data(),
            backend=self.step.backend,
        )

    def _locate(self, question: Locate) -> Answer:
        from bench.workers.location import locate

        return locate(question.case)

    def _warm(self, question: Warm) -> Answer:
        from bench.stats.intervals import is_stationary

        begin = time.perf_counter()
        times: list[float] = []
        while len(times) < question.max_steps:
            times.append(self._seconds(1))
            if len(times) == 1 and not math.isfinite(float(self.step.loss)):
                return Failure("nan", "the loss of the first step is not finite")
            enough = len(times) >= question.min_steps
            if enough and (is_stationary(times) or time.perf_counter() - begin > question.max_seconds):
                break
        # Garbage of building and warming must not be collected in the middle of a timed step.
        gc.collect()
        gc.freeze()
        return Warmed(step_seconds=times, stationary=is_stationary(times))

    def _measure_memory(self) -> Answer:
        from bench.probes.memory import peak_of

        figures = peak_of(self.step, self.step.device, self.step.live(), self.idle_bytes)
        return MemoryMeasured(figures=figures, activation=self._activation())

    def _check(self) -> Answer:
        from bench.correctness.reference import compare_with_reference
        from bench.system import allocator

        allocator.give_back()
        return Checked(compare_with_reference(self.step))

    def _decode(self) -> Answer:
        from bench.steps.decoding import DecodeStep

        assert isinstance(self.step, DecodeStep), "only cases of the phase decode are asked"
        return Decoded(self.step.decoding())

    def _count(self) -> Answer:
        from bench.probes.operators import count
        from bench.probes.tensor_bytes import COMPILED, is_compiled

        exact = count(self.step, self.step.model, self.step.live)
        return Counted(None, unavailable=COMPILED) if is_compiled() else Counted(exact)

    def _measure_energy(self) -> Answer:
        from bench.probes import nvml
        from bench.probes.energy import energy_of

        return EnergyMeasured(energy_of(lambda: self._seconds(1), lambda: nvml.energy_millijoules(self.nvml)))

    def _time(self, question: Run) -> Answer:
        from bench.probes import nvml

        seconds = self._seconds(question.steps)
        activation = self._activation()
        return Ran(
            seconds=seconds,
            activation=activation.mean if activation else None,
            throttled=nvml.throttle_reason(self.nvml),
        )

    def _seconds(self, steps: int) -> float:
        return self.step.seconds(steps)

    def _activation(self) -> Activation | None:
        rates = self.step.activation_rates()
        return Activation(sum(rates) / len(rates), rates) if rates else None


def _classify(error: Exception) -> tuple[FailureKind, str]:
    text = " ".join(str(error).split()) or type(error).__name__
    lowered = text.lower()
    if type(error).__name__ == "OutOfMemoryError" or "can't allocate memory" in lowered:
        return "oom", _first_sentence(text)
    if isinstance(error, NotImplementedError):
        return "unsupported", _first_sentence(text)
    return "error", f"{type(error).__name__}: {_first_sentence(text)}"


def _first_sentence(text: str, limit: int = 300) -> str:
    return text if len(text) <= limit else f"{text[: limit - 1]}…"


def _limit_memory(limit: int) -> None:
    """Let allocations fail cleanly before the machine swaps or the kernel kills something."""
    import resource

    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    resource.setrlimit(resource.RLIMIT_DATA, (limit, hard))


def _die_with_parent() -> None:
    parent = os.getppid()
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        try:
            with open("/proc/self/oom_score_adj", "w", encoding="ascii") as file:
                file.write(OUT_OF_MEMORY_SCORE)
        except OSError:
            pass  # A container may forbid it; the kernel then chooses by size, which is mostly the worker.
    if os.getppid() != parent:
        sys.exit(1)


def _load_libraries() -> None:
    """What every case needs; torch's optimisers import its compiler."""
    import torch._dynamo  # noqa: F401

    import bench.steps.step  # noqa: F401

    gc.collect()
    gc.freeze()


def main() -> None:
    """Fork a worker for every order on the socket that is standard input, until it is closed."""
    _die_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _load_libraries()
    # The harness is loaded: from here on the folders that it was given come before everything else.
    sys.path[:0] = sys.argv[1:]
    with socket.socket(fileno=os.dup(0)) as orders:
        while _obey(orders):
            pass


def _obey(orders: socket.socket) -> bool:
    """Orders: three handles, for a worker to have as its streams; or workers' numbers, to wait for."""
    order, handles, _, _ = socket.recv_fds(orders, 64, 3)
    if not order:
        return False
    if not handles:
        for number in map(int, order.split()):
            _, status = os.waitpid(number, 0)
            orders.sendall(b"%d %d\n" % (number, os.waitstatus_to_exitcode(status)))
        return True
    pid = os.fork()
    if pid == 0:
        orders.close()
        _become_worker(handles)
    # Here and in the worker: whoever comes first, its group is there when the parent hears of it.
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.setpgid(pid, pid)
    for handle in handles:
        os.close(handle)
    orders.sendall(b"fork %d\n" % pid)
    return True


def _become_worker(handles: list[int]) -> NoReturn:
    """Answer questions until there are no more; what a model prints goes to standard error."""
    os.setpgid(0, 0)
    _die_with_parent()
    answers = os.fdopen(handles[1], "wb")
    os.dup2(handles[0], 0)
    for stream in (1, 2):
        os.dup2(handles[2], stream)
    worker = Worker()
    with os.fdopen(0, "rb", closefd=False) as questions:
        for line in questions:
            answer = worker.answer(msgspec.json.decode(line, type=Question))
            answers.write(msgspec.json.encode(answer) + b"\n")
            answers.flush()
    os._exit(0)


if __name__ == "__main__":
    main()
