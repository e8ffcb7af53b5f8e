"""A worker: builds one case and answers questions about it, one answer per question."""

import contextlib
import gc
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from bench.errors import UsageError
from bench.probes.conditions import Watcher, between
from bench.records.solo import Activation, Compilation, MemoryFigure, MetricFigure
from bench.system import processors
from bench.system.processors import Processors
from bench.workers.failures import Faulty, failure_of
from bench.workers.messages import (
    Answer,
    ArithmeticMeasured,
    BusyMeasured,
    Check,
    Checked,
    Compile,
    Compiled,
    Count,
    Counted,
    Decode,
    Decoded,
    EnergyMeasured,
    Import,
    Imported,
    KeepTo,
    KeptTo,
    Locate,
    Measure,
    MeasureArithmetic,
    MeasureBusy,
    Measured,
    MeasureEnergy,
    MeasureMemory,
    MemoryMeasured,
    Predict,
    Predicted,
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
                return self._import(question)
            case Compile():
                return self._compile(question)
            case Locate():
                return self._locate(question)
            case Warm():
                return self._warm(question)
            case MeasureMemory():
                return self._measure_memory()
            case Check():
                return self._check(question)
            case Decode():
                return self._decode()
            case Predict():
                return self._predict(question)
            case Count():
                return self._count()
            case MeasureEnergy():
                return self._measure_energy()
            case Measure():
                return self._measure(question)
            case MeasureBusy():
                return self._measure_busy()
            case KeepTo():
                return self._keep_to(question)
            case MeasureArithmetic():
                return self._measure_arithmetic()
            case Time():
                return self._time(question)

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
        from bench.steps.plugged import remarks
        from implementations.encoder import parameter_count

        self.threads = question.threads
        torch.set_num_threads(self.threads)
        if question.memory_limit_bytes is not None:
            _limit_memory(question.memory_limit_bytes)
        # Before the model is built, so that others' memory on the device is not taken for ours.
        self.nvml = nvml.open_device(question.device)[0] if question.device.startswith("cuda") else None
        if self.nvml is not None and (near := gpu_state.near_processors(self.nvml)):
            with contextlib.suppress(OSError):
                processors.keep_to(near)
        self.idle_bytes = nvml.device_bytes(self.nvml) or 0
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
            data=self.step.workload.data(),
            backend=self.step.backend,
            why_plain=self.step.why_plain,
            batch_digest=self.step.batch.digest,
            remarks=[*remarks(self.step.model), *self._own_optimizer()],
            width=self.step.width,
        )

    def _import(self, question: Import) -> Answer:
        from bench.system import own_models
        from implementations import registry

        own_models.load(registry.find(question.case.implementation))
        return Imported()

    def _settle(self) -> None:
        """Set the activation rate, which is done op by op, then enter the mode."""
        from bench.steps import modes

        self.step.calibrate()
        modes.enter(self.step)

    def _compile(self, question: Compile) -> Answer:
        self._settle()
        for _ in range(question.steps):
            self._timed(1)
        self._check_steps()
        return Compiled()

    def _locate(self, question: Locate) -> Answer:
        from bench.workers.location import locate

        return locate(question.case)

    def _warm(self, question: Warm) -> Answer:
        from bench.stats.intervals import is_stationary

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

    def _measure_memory(self) -> Answer:
        from bench.probes.memory import peak_of
        from bench.steps.plugged import computed_by, weights_of

        before = weights_of(self.step.model)
        figures, growth = peak_of(
            self.step, self.step.device, self.step.live(), self.idle_bytes, self.step.own_bytes
        )
        if self.step.case.mode == "graph":
            figures = [_unseen_in_a_graph(figure) for figure in figures]
        return MemoryMeasured(
            figures,
            self._activation(),
            computed_by(self.step.model),
            moved=weights_of(self.step.model) != before,
            growth_bytes=growth,
        )

    def _own_optimizer(self) -> list[str]:
        from bench.steps.plugged import own_optimizer

        name = own_optimizer(self.step.case, self.step.optimizer)
        return [] if name is None else [f"steps by an optimiser of its own, {name}"]

    def _check(self, question: Check) -> Answer:
        from bench.correctness.modes import compare_with_eager
        from bench.correctness.reference import compare_with_reference
        from bench.steps import modes
        from bench.system import allocator

        allocator.give_back()
        variant = in_mode = None
        if question.reference:
            with modes.left(self.step):
                variant = compare_with_reference(self.step)
        if self.step.case.mode != "eager" and (variant is None or variant.agrees):
            in_mode = compare_with_eager(self.step)
        return Checked(variant, in_mode)

    def _decode(self) -> Answer:
        from bench.steps.decoding import DecodeStep

        assert isinstance(self.step, DecodeStep), "only cases of the phase decode are asked"
        return Decoded(self.step.decoding())

    def _predict(self, question: Predict) -> Answer:
        from bench.steps.prediction import predict

        return Predicted(predict(question.case, question.device))

    def _count(self) -> Answer:
        from bench.probes.operators import count
        from bench.probes.tensor_bytes import COMPILED, is_compiled

        exact = count(self.step, self.step.model, self.step.live)
        return Counted(None, unavailable=COMPILED) if is_compiled() else Counted(exact)

    def _measure_energy(self) -> Answer:
        from bench.probes import nvml
        from bench.probes.energy import energy_of

        def step() -> float:
            return self.step.timed(1).seconds

        return EnergyMeasured(energy_of(step, lambda: nvml.energy_millijoules(self.nvml)))

    def _measure(self, question: Measure) -> Answer:
        """Evaluate a metric; an exception costs only the metric's own figure."""
        from bench.suites import metrics

        self.step()
        try:
            figure = metrics.checked(metrics.load(question.metric)(self.step))
        except Exception as error:
            plain = isinstance(error, metrics.NoFigure | UsageError)
            reason = str(error) if plain else failure_of(error).reason
            return Measured(MetricFigure(metric=question.metric, failure=reason))
        return Measured(MetricFigure(metric=question.metric, **figure._asdict()))

    def _measure_busy(self) -> Answer:
        from bench.probes import gpu_busy

        return BusyMeasured(gpu_busy.busy_of(self.step, self.step.device))

    def _keep_to(self, question: KeepTo) -> Answer:
        self.goes_on = False
        self.processors = tuple(question.processors)
        processors.keep_to(self.processors)
        self._check_processors()
        return KeptTo()

    def _measure_arithmetic(self) -> Answer:
        from bench.steps.arithmetic import arithmetic_of

        return ArithmeticMeasured(arithmetic_of(self.step))

    def _time(self, question: Time) -> Answer:
        from bench.probes import gpu_state
        from bench.probes.clock import wait_until

        if self.on_gpu:
            # The first step after others had the device finds its caches cold and its memory given back.
            self._timed(1)
        if question.moment is not None:
            wait_until(question.moment)
        counted = gpu_state.reading(self.nvml) if self.on_gpu else None
        before = self.watcher.read()
        began = time.monotonic()
        elapsed = self._timed(question.steps)
        conditions = between(before, self.watcher.read())
        gpu = None
        if counted is not None:
            gpu = gpu_state.run_between(counted, gpu_state.reading(self.nvml), self.nvml)
        self._check_steps()
        self._check_processors()
        activation = self._activation()
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

    def _activation(self) -> Activation | None:
        rates = self.step.activation_rates()
        return Activation(sum(rates) / len(rates), rates) if rates else None


def _unseen_in_a_graph(figure: MemoryFigure) -> MemoryFigure:
    """Count a graph's tensors, which torch's allocator counts as reserved alone."""
    if figure.kind not in ("allocated", "requested"):
        return figure
    return MemoryFigure(kind=figure.kind, bytes=None, unavailable="a graph's tensors are not counted")


def _limit_memory(limit: int) -> None:
    """Let allocations fail cleanly before the machine swaps or the kernel kills something.

    limit: bytes beyond what this process has now. A lower limit set by the user (`ulimit -d`) stays.
    """
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
    known = [size for size in (soft, hard) if size != resource.RLIM_INFINITY]
    resource.setrlimit(resource.RLIMIT_DATA, (min([_data_bytes() + limit, *known]), hard))


def _data_bytes() -> int:
    """Bytes that RLIMIT_DATA counts already, as inherited from the template; 0 if that is not known."""
    try:
        with open("/proc/self/status", encoding="ascii", errors="replace") as file:
            sizes = [line.split()[1] for line in file if line.startswith("VmData:")]
    except OSError:
        return 0
    return int(sizes[0]) << 10 if sizes else 0
