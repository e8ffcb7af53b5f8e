"""A worker: builds one case and answers questions about it, one answer per question."""

import contextlib
import gc
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from bench.probes.conditions import Watcher, between
from bench.records.solo import Compilation
from bench.system import processors
from bench.system.memory_limit import limit_memory
from bench.system.processors import Processors
from bench.workers import findings, location
from bench.workers.failures import Faulty, failure_of
from bench.workers.messages import (
    Answer,
    Check,
    Compile,
    Compiled,
    Count,
    Decode,
    EvaluateMetric,
    Import,
    KeepTo,
    KeptTo,
    Locate,
    MeasureArithmetic,
    MeasureBusy,
    MeasureEnergy,
    MeasureMemory,
    Predict,
    Prepare,
    Prepared,
    Question,
    Time,
    Timed,
    Warm,
    Warmed,
)

if TYPE_CHECKING:
    from bench.probes.clock import Elapsed


MOST_UNTIMED_STEPS = 5
"""Steps before a run on a GPU in which its memory may grow."""


class Worker:
    """Holds its case, and answers questions about it."""

    processors: Processors = ()
    """Those that it was told to keep to; empty for any."""
    goes_on = False
    """Whether it makes steps while nobody asks."""

    def __init__(self) -> None:
        self.watcher = Watcher()
        self.on_gpu = False
        """Whether a GPU computes the case that it holds."""

    def answer(self, question: Question) -> Answer:
        try:
            answer = self._answer(question)
            self._rest()
            return answer
        except Exception as error:
            return failure_of(error)

    def _answer(self, question: Question) -> Answer:
        match question:
            case Prepare():
                return self._prepare(question)
            case Import():
                return findings.imported(question.case)
            case Locate():
                return location.locate(question.case)
            case Predict():
                return findings.predicted(question)
            case Compile():
                return self._compile(question)
            case Warm():
                return self._warm(question)
            case Time():
                return self._time(question)
            case KeepTo():
                return self._keep_to(question)
            case MeasureMemory():
                return findings.memory(self.step, self.idle_bytes)
            case Check():
                return findings.checked(self.step, question)
            case Decode():
                return findings.decoded(self.step)
            case Count():
                return findings.counted(self.step)
            case MeasureEnergy():
                return findings.energy(self.step, self.nvml)
            case EvaluateMetric():
                return findings.measured(self.step, question)
            case MeasureBusy():
                return findings.busy(self.step)
            case MeasureArithmetic():
                return findings.arithmetic(self.step)

    def go_on(self, asked: Callable[[], bool]) -> None:
        """Make steps that nobody times until the next question is there, if the last one said so."""
        while self.goes_on and not asked():
            try:
                self._timed(1)
            except Exception:
                # Whoever asks next makes a step too, and is told what is wrong.
                self.goes_on = False

    def _prepare(self, question: Prepare) -> Answer:
        import torch

        from bench.probes import gpu_state, nvml
        from bench.steps.decoding import open_step
        from bench.steps.plugged import reference_of
        from implementations.encoder import parameter_count

        self.threads = question.threads
        torch.set_num_threads(self.threads)
        if question.memory_limit_bytes is not None:
            limit_memory(question.memory_limit_bytes)
        # Before the model is built, so that others' memory on the device is not taken for ours.
        self.nvml = nvml.open_device(question.device)[0] if question.device.startswith("cuda") else None
        if self.nvml is not None and (near := gpu_state.near_processors(self.nvml)):
            with contextlib.suppress(OSError):
                processors.keep_to(near)
        self.idle_bytes = nvml.device_bytes(self.nvml) or 0
        if question.device.startswith("cuda"):
            # Much of torch and of Triton asks for the current device.
            torch.cuda.set_device(question.device)
        self.step = open_step(question.case, question.device)
        self.on_gpu = self.step.device.type == "cuda"
        if not self.on_gpu:
            self._settle()
        # A module may have changed the threads when it was imported, or the model when it was built.
        torch.set_num_threads(self.threads)
        self.steps = 0
        return Prepared(
            parameters=parameter_count(self.step.model),
            tokens=self.step.tokens,
            real_tokens=self.step.real_tokens,
            backend=self.step.backend,
            reference=reference_of(question.case),
            why_plain=self.step.why_plain,
            batch_digest=self.step.batch.digest,
            remarks=findings.remarks(self.step),
            width=self.step.width,
        )

    def _settle(self) -> None:
        """Set the activation rate, which is done op by op, then enter the mode."""
        from bench.steps import modes

        self.step.calibrate()
        modes.enter(self.step)

    def _compile(self, question: Compile) -> Answer:
        self._settle()
        # A compiled model's first step is the warm-up's, which tells what it took.
        if self.step.case.mode != "compile":
            for _ in range(question.steps):
                self._timed(1)
            self._check_steps()
        return Compiled()

    def _warm(self, question: Warm) -> Answer:
        from bench.stats.stationary import is_stationary

        compiled = self._compiled(question.cold)
        begin = time.perf_counter()
        times: list[float] = []
        while len(times) < question.max_steps:
            elapsed = self._timed(1)
            times.append(elapsed.seconds)
            if len(times) == 1:
                self._check_steps()
            enough = len(times) >= question.min_steps
            if enough and (is_stationary(times) or time.perf_counter() - begin > question.max_seconds):
                break
        self._check_steps()
        # Garbage of building and warming must not be collected in the middle of a timed step.
        gc.collect()
        gc.freeze()
        return Warmed(step_seconds=times, stationary=is_stationary(times), compiled=compiled)

    def _compiled(self, cold: bool) -> Compilation | None:
        from bench.steps.modes import compile_now

        return compile_now(self.step, cold=cold) if self.step.case.mode == "compile" else None

    def _keep_to(self, question: KeepTo) -> Answer:
        self.goes_on = False
        self.processors = tuple(question.processors)
        processors.keep_to(self.processors)
        self._check_processors()
        return KeptTo()

    def _time(self, question: Time) -> Answer:
        from bench.probes import gpu_state
        from bench.probes.clock import wait_until

        if self.on_gpu:
            self._settle_memory()
        if question.moment is not None:
            wait_until(question.moment)
        device = str(self.step.device)
        counted = gpu_state.reading(self.nvml, device) if self.on_gpu else None
        before = self.watcher.read()
        began = time.monotonic()
        elapsed = self._timed(question.steps)
        conditions = between(before, self.watcher.read())
        gpu = None
        if counted is not None:
            now = gpu_state.reading(self.nvml, device)
            gpu = gpu_state.run_between(counted, now, self.nvml)
        self._check_steps()
        self._check_processors()
        activation = findings.activation(self.step)
        self.goes_on = question.go_on
        return Timed(
            seconds=elapsed.seconds,
            activation=activation.mean if activation else None,
            throttled=None if gpu is None else gpu_state.throttled(gpu, elapsed.seconds),
            gpu=gpu,
            waited_seconds=elapsed.waited,
            aside_seconds=elapsed.aside,
            step_deviation=elapsed.step_deviation,
            conditions=conditions,
            began=began,
        )

    def _settle_memory(self) -> None:
        """Make untimed steps until one asks the driver for no memory.

        The first one after others had the device finds its caches cold and its memory given back; where
        sizes vary, later ones may need more.
        """
        from bench.probes.gpu_state import allocations_of

        device = str(self.step.device)
        for _ in range(MOST_UNTIMED_STEPS):
            before = allocations_of(device)
            self._timed(1)
            if allocations_of(device) == before:
                return

    def _rest(self) -> None:
        """Between questions a worker on a GPU keeps what is live, and leaves the rest to the others."""
        if self.on_gpu:
            import torch

            torch.cuda.empty_cache()

    def _timed(self, steps: int) -> "Elapsed":
        self.steps += steps
        return self.step.timed(steps)

    def _check_steps(self) -> None:
        """Check what the last steps left, outside the clock. Raises Faulty."""
        import torch

        not_finite = self.step.not_finite()
        if not_finite is not None:
            raise Faulty("nan", f"at step {self.steps} {not_finite} is not finite")
        if (threads := torch.get_num_threads()) != self.threads:
            raise Faulty(
                "error", f"the model set torch's threads to {threads}; the run has {self.threads} (--threads)"
            )

    def _check_processors(self) -> None:
        """Raises Faulty if a thread may run where it was told not to."""
        if not self.processors:
            return
        strayed = set(processors.reached()) - set(self.processors)
        if strayed:
            told, reached = processors.as_text(self.processors), processors.as_text(strayed)
            raise Faulty(
                "error",
                f"the model left the processors of its side ({told}) for {reached}; --pairing turns lets it",
            )
