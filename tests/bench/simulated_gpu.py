"""A GPU that is not there: a clock, streams and memory behind `torch.cuda`; its models are sizes and times.

Command, run, plan and the worker's answers are the real ones; only what a device would do is played. Time
passes when a step launches something, or somebody waits for it: no test waits.
"""

import contextlib
import dataclasses
import time
from types import SimpleNamespace

import msgspec
import torch

from bench.measure import batch, block, servers, session
from bench.probes import gpu_busy, nvml
from bench.probes.clock import time_steps
from bench.records.environment import Environment
from bench.records.run import Prediction
from bench.steps import decoding, prediction
from bench.workers.handle import WorkerFailed
from bench.workers.messages import Failure, Prepare
from bench.workers.worker import Worker

from .made_up import CPU

MIB, GIB = 1 << 20, 1 << 30
CONTEXT = 500 * MIB
START_SECONDS = 4.0
"""Time that a process takes until it has its context."""


@dataclasses.dataclass(frozen=True)
class Model:
    """What a step of a model does to a device."""

    kernels: float = 0.010
    """Seconds that the device computes."""
    host: float = 0.001
    """Seconds until everything is launched."""
    compiles: float = 0.0
    """Seconds that the first step takes more."""
    cold: float = 0.0
    """Seconds that the first step takes more after others had the device."""
    aside: float = 0.0
    """Seconds that it computes on a stream that nobody waits for."""
    weights: int = 10 * MIB
    activations: int = GIB
    growth: int = 0
    """Bytes that each step needs more than the one before it, for three steps after others had the device."""
    fails: Exception | None = None
    """What its third step raises."""

    def needs(self, case) -> int:
        """Bytes of a step."""
        return self.weights + self.activations * case.batch // 25


class Memory:
    """Memory of one process on the device: what is live, and what its allocator keeps."""

    def __init__(self, gpu: "Gpu") -> None:
        self.gpu = gpu
        self.live = self.reserved = 0
        self.peak_live = self.peak_reserved = 0
        self.made = 0
        """Blocks that it had from the driver."""

    def allocate(self, size: int) -> None:
        needed = max(0, self.live + size - self.reserved)
        if needed > self.gpu.free:
            raise torch.OutOfMemoryError(f"CUDA out of memory. Tried to allocate {size / GIB:.2f} GiB.")
        self.made += needed > 0
        self.live += size
        self.reserved += needed
        self.peak_live = max(self.peak_live, self.live)
        self.peak_reserved = max(self.peak_reserved, self.reserved)

    def empty_cache(self) -> None:
        self.reserved = self.live

    def reset_peaks(self, device: object = None) -> None:
        self.peak_live, self.peak_reserved = self.live, self.reserved


class Gpu:
    """The device, and the host's clock."""

    def __init__(self, total: int = 80 * GIB) -> None:
        self.total = total
        self.now = 0.0
        self.stream = "main"
        self.busy_until = {"main": 0.0, "side": 0.0}
        self.memories: list[Memory] = []
        self.mine: Memory
        self.starts = 0
        self.most_at_once = 0
        """Most processes that were there together."""
        self.current: list[str] = []
        """Devices that processes took for their current one."""
        self.kernels: list[tuple[float, float]] = []
        """When each began and ended, in seconds."""

    @property
    def free(self) -> int:
        return self.total - sum(memory.reserved + CONTEXT for memory in self.memories)

    def launch(self, seconds: float, stream: str | None = None) -> None:
        stream = stream or self.stream
        begin = max(self.now, self.busy_until[stream])
        self.busy_until[stream] = begin + seconds
        self.kernels.append((begin, begin + seconds))

    def synchronize(self, device: object = None) -> None:
        self.now = max(self.now, *self.busy_until.values())

    def kernels_of(self, step, device) -> list[tuple[float, float]]:
        """As the profiler shows them, in microseconds."""
        first = len(self.kernels)
        step()
        self.synchronize()
        return [(1e6 * begin, 1e6 * end) for begin, end in self.kernels[first:]]

    def event(self, enable_timing: bool = False) -> "Event":
        return Event(self)

    def stats(self, device: object = None) -> dict[str, int]:
        allocated, reserved = self.mine.peak_live, self.mine.peak_reserved
        peaks = {"allocated": allocated, "requested": allocated, "reserved": reserved}
        figures = {f"{name}_bytes.all.peak": size for name, size in peaks.items()}
        return figures | {"num_device_alloc": self.mine.made}


class Event:
    def __init__(self, gpu: Gpu) -> None:
        self.gpu = gpu
        self.at = 0.0

    def record(self) -> None:
        self.at = max(self.gpu.now, self.gpu.busy_until[self.gpu.stream])

    def elapsed_time(self, later: "Event") -> float:
        return 1e3 * (later.at - self.at)


class Step:
    """What a worker has of a case."""

    def __init__(self, case, device: str, gpu: Gpu, model: Model) -> None:
        self.case, self.device, self.gpu, self.played = case, torch.device(device), gpu, model
        self.model = torch.nn.Linear(1, 1)
        self.workload = SimpleNamespace(data=lambda: "made up")
        self.batch = SimpleNamespace(digest=None)
        self.tokens = self.real_tokens = case.length * case.batch
        self.backend, self.why_plain, self.cpu_kernels, self.width = "torch", None, None, None
        self.steps, self.cold, self.own_bytes, self.optimizer = 0, False, 0, None
        self.since_others = 0
        gpu.mine.allocate(model.weights)

    def calibrate(self) -> None:
        """A forward pass, which compiles."""
        self()

    def __call__(self) -> None:
        model, gpu = self.played, self.gpu
        self.steps += 1
        if model.fails is not None and self.steps == 3:
            raise model.fails
        self.since_others = 0 if self.cold else self.since_others + 1
        size = model.activations * self.case.batch // 25 + model.growth * min(self.since_others, 3)
        gpu.mine.allocate(size)
        gpu.now += model.host + (model.compiles if self.steps == 1 else 0.0)
        gpu.launch(model.kernels + (model.cold if self.cold else 0.0))
        if model.aside:
            gpu.launch(model.aside, "side")
        self.cold = False
        gpu.mine.live -= size

    def timed(self, steps: int):
        return time_steps(self, steps, self.device)

    def live(self):
        return ()

    def not_finite(self) -> None:
        return None

    def activation_rates(self) -> list[float]:
        return []


class Process:
    """A worker that is not a process: asked, it answers at once."""

    def __init__(self, case, gpu: Gpu) -> None:
        self.case, self.gpu, self.printed = case, gpu, None
        self.memory = Memory(gpu)
        gpu.memories.append(self.memory)
        gpu.most_at_once = max(gpu.most_at_once, len(gpu.memories))
        self.worker = Worker()
        self.answers = []

    def ask(self, question, expected, deadline_seconds):
        self.send(question)
        return self.receive(expected, deadline_seconds)

    def send(self, question) -> None:
        self.gpu.mine = self.memory
        begin = self.gpu.now
        if isinstance(question, Prepare):
            self.gpu.now += START_SECONDS
            self.gpu.starts += 1
        answer = self.worker.answer(question)
        self.answers.append((answer, self.gpu.now - begin))

    def receive(self, expected, deadline_seconds):
        answer, took = self.answers.pop(0)
        if took > deadline_seconds:
            raise WorkerFailed("timeout", f"gave no answer within {deadline_seconds:.0f} s")
        if isinstance(answer, Failure):
            raise WorkerFailed(answer.kind, answer.reason, answer.traceback)
        assert isinstance(answer, expected), answer
        return answer

    def stop(self) -> None:
        if hasattr(self.worker, "step"):
            self.worker.step.cold = True

    @contextlib.contextmanager
    def awake(self):
        yield self
        self.stop()

    def kill(self) -> None:
        if self.memory in self.gpu.memories:
            self.gpu.memories.remove(self.memory)

    def __enter__(self):
        return self

    def __exit__(self, *error) -> None:
        self.kill()


class Server:
    """A fork server of such workers."""

    def __init__(self, gpu: Gpu) -> None:
        self.gpu = gpu

    def __call__(self, threads, sources):
        return self

    def load(self, cases) -> None:
        """Nothing is to be loaded."""

    def wait(self) -> None:
        """Nothing was begun."""

    def start(self, case) -> Process:
        return Process(case, self.gpu)

    def __enter__(self):
        return self

    def __exit__(self, *error) -> None:
        """It holds nothing."""


def install(monkeypatch, models: dict[str, Model], total: int = 80 * GIB, **environment) -> Gpu:
    """Put the device in the place of torch's, and models in that of steps, by implementation."""
    gpu = Gpu(total)
    where: Environment = msgspec.structs.replace(
        CPU, device="cuda:0", hardware="a GPU", driver="1", cuda="13.0", memory_bytes=total, **environment
    )
    for name, played in {
        "Event": gpu.event,
        "synchronize": gpu.synchronize,
        "set_device": gpu.current.append,
        "device": lambda device: contextlib.nullcontext(),
        "empty_cache": lambda: gpu.mine.empty_cache(),
        "memory_stats": gpu.stats,
        "memory_allocated": lambda device=None: gpu.mine.live,
        "memory_reserved": lambda device=None: gpu.mine.reserved,
        "max_memory_allocated": lambda device=None: gpu.mine.peak_live,
        "reset_peak_memory_stats": lambda device=None: gpu.mine.reset_peaks(),
    }.items():
        monkeypatch.setattr(torch.cuda, name, played)
    monkeypatch.setattr(nvml, "open_device", lambda device: (None, "no driver"))
    monkeypatch.setattr(gpu_busy, "kernels_of", gpu.kernels_of)
    for clock in ("monotonic", "perf_counter"):
        monkeypatch.setattr(time, clock, lambda: gpu.now)
    server = Server(gpu)
    monkeypatch.setattr(servers, "ForkServer", server)
    monkeypatch.setattr(block, "ForkServer", server)
    # What else the machine of the tests does takes no time here.
    monkeypatch.setattr(block, "disturbance", lambda conditions, throttled: None)
    monkeypatch.setattr(batch, "ForkServer", server)
    monkeypatch.setattr(
        prediction,
        "predict",
        lambda case, device: Prediction(tensor_bytes=models[case.implementation].needs(case)),
    )
    monkeypatch.setattr(session, "probe_environment", lambda device, threads: where)
    monkeypatch.setattr(
        decoding, "open_step", lambda case, device: Step(case, device, gpu, models[case.implementation])
    )
    return gpu
