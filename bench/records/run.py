"""Schema of the records of a result file: what was measured."""

from collections.abc import Mapping
from typing import Annotated, Literal, NamedTuple

import msgspec

from bench.records.conditions import Conditions
from bench.records.gpu import GpuRun, GpuSettings
from bench.records.plan import Outlook, Plan
from bench.records.surroundings import Surroundings
from bench.suites.case import Case
from bench.suites.suite import LARGEST, Positive, Suite
from bench.text.units import format_error

Pairing = Literal["turns", "duet"]
"""What is compared is timed one after the other, or at the same time on a half of the cores each."""


class Machine(NamedTuple):
    """Identity of a machine: figures may be compared only if it is the same for both."""

    device: str
    hardware: str
    threads: int
    torch: str
    allocator: str | None
    pairing: Pairing = "turns"

    @property
    def words(self) -> str:
        """The machine, in a message."""
        memory = f", {self.allocator}" if self.allocator else ""
        return f"{self.hardware}, {threads_in_words(self.threads, self.pairing)}, torch {self.torch}{memory}"


def threads_in_words(threads: int, pairing: Pairing) -> str:
    """`2 threads`, or `side by side, 1 thread each`."""
    words = f"{threads} thread{'' if threads == 1 else 's'}"
    return f"side by side, {words} each" if pairing == "duet" else words


Count = Annotated[int, msgspec.Meta(ge=0, le=LARGEST)]
Quantity = Annotated[float, msgspec.Meta(ge=0)]
AboveZero = Annotated[float, msgspec.Meta(gt=0)]

SCHEMA = 1

Status = Literal["ok", "oom", "timeout", "crashed", "nan", "error", "unsupported", "wrong"]
DeviceKind = Literal["cpu", "cuda"]
MemoryKind = Literal["tensor_bytes", "allocated", "predicted"]
StopReason = Literal["precise", "blocks", "budget", "interrupted", "failed", "devices"]

MEMORY_KIND: Mapping[DeviceKind, MemoryKind] = {"cpu": "tensor_bytes", "cuda": "allocated"}
"""Memory figure of a solo that tables show as its peak memory."""

Estimator = Literal["rounds", "differences", "pairs"]
"""How a block's value for a pair is computed from its visits: functions of `bench.stats.rounds`, or for runs
side by side of `bench.stats.duets`."""
ESTIMATOR: Estimator = "differences"
"""Estimator of new runs in turns."""

STOP_REASONS: dict[StopReason, str] = {
    "precise": "every interval is under its target",
    "blocks": "the limit of blocks was reached",
    "budget": "the time budget was reached",
    "interrupted": "it was interrupted",
    "failed": "nothing was left to time",
    "devices": "no device of the cluster was left",
}


class Environment(msgspec.Struct, frozen=True, kw_only=True):
    """The machine, software and code that a run was made with."""

    device: str
    """`cpu` or `cuda:0`."""
    hardware: str
    """Name of the processor or GPU that computed."""
    processor: str
    threads: Positive
    memory_bytes: Count
    """Memory of the machine, or of the GPU."""
    driver: str | None
    cuda: str | None
    torch: str
    python: str
    platform: str
    libraries: dict[str, str]
    commit: str | None
    """Commit of the code that was measured: of the repository around a user's model, else of the harness."""
    dirty: bool | None
    """Whether that code had uncommitted changes."""
    load_average: Quantity
    allocator: str | None = None
    """Allocator of a worker's memory on the host; None in files that do not say."""
    clocks: dict[str, Count] | None = None
    free_bytes: Count | None = None
    """Bytes free on a GPU when the run began."""
    gpu: GpuSettings | None = None
    """Settings of the GPU; None on a CPU, and if the driver tells nothing."""
    variables: dict[str, str] = {}
    """Environment variables that change what is measured, if they were set."""
    harness: str | None = None
    """Version of the harness, and its commit if it runs from a checkout; None in files that do not say."""
    pairing: Pairing = "turns"
    """How pairs were timed; in a duet `threads` are those of each side."""

    @property
    def kind(self) -> DeviceKind:
        return "cuda" if self.device.startswith("cuda") else "cpu"

    @property
    def machine(self) -> Machine:
        return Machine(self.device, self.hardware, self.threads, self.torch, self.allocator, self.pairing)

    @property
    def words(self) -> str:
        """The machine, in a message."""
        return self.machine.words


class Trained(msgspec.Struct, frozen=True, kw_only=True):
    """A checkpoint that a model is timed with, and how good it was on validation sequences."""

    file: str
    implementation: str
    data: str
    steps: int
    of_steps: int
    """Steps of the whole training."""
    batch: int
    """Sequences per training step."""
    seed: int
    accuracy: float | None = None
    bits_per_character: float | None = None
    activation_by_layer: list[float] = []
    """Mean activation rates over the validation sequences, at the last evaluation of the training."""


class PlugIn(msgspec.Struct, frozen=True, kw_only=True):
    """Code of somebody else's that took part: a model, a workload or a metric."""

    path: str
    """Where it was imported from, `package.module:object`."""
    package: str | None = None
    """The installed package that has it; None if there is none."""
    version: str | None = None
    commit: str | None = None
    """Of the repository that it lies in, or was installed from."""
    dirty: bool | None = None
    """Whether that repository had uncommitted changes."""


class Header(msgspec.Struct, frozen=True, kw_only=True, tag="header", tag_field="type"):
    """First line of a file."""

    schema: int
    created: str
    """ISO 8601, UTC."""
    command: list[str]
    suite: Suite
    environment: Environment
    data: str
    revisions: dict[str, str] | None = None
    """Commits that a gate compares, by the name that their cases carry."""
    checkpoints: dict[str, Trained] = {}
    """Training behind the weights that an implementation is timed with, by implementation."""
    surroundings: Surroundings | None = None
    """What else the machine was at when the run began; None of a cluster, and in files that do not say."""
    sources: dict[str, str] = {}
    """Digests of source and hyper-parameters by implementation; `bench`: of the code that measures."""
    estimator: Estimator = "rounds"
    """Estimator of its ratios; files that do not say used the first one."""
    plug_ins: dict[str, PlugIn] = {}
    """Models, workloads and metrics of somebody else's, by name."""


class Device(msgspec.Struct, frozen=True, kw_only=True, tag="device", tag_field="type"):
    """A device of a cluster; written before anything that was measured on it."""

    node: str
    device: str
    """`cpu`, or `cuda:i` as the node counts; in its environment it is `cuda:0`, the only one of a worker."""
    environment: Environment


class MemoryFigure(msgspec.Struct, frozen=True, kw_only=True):
    """One of the memory figures; `unavailable` says why there are no bytes."""

    kind: str
    bytes: Count | None
    unavailable: str | None = None


class Activation(msgspec.Struct, frozen=True):
    """Share of the real time steps that the configurators switched on."""

    mean: Quantity
    by_layer: list[Quantity]


class Variant(msgspec.Struct, frozen=True, kw_only=True):
    """Difference of a variant from its reference, as largest relative errors.

    They are those of the comparison that failed, else of the one on the case's own batch. An error is None if
    it is infinite: NaN, or another shape.
    """

    reference: str
    output_error: float | None
    """Error of the logits or of a layer's output, at the worst position."""
    gradient_error: float | None
    worst_gradient: str
    """Empty if the phase has no gradients."""
    agrees: bool
    worst_output: str = ""
    sample: str = ""
    """Sequences and weights of the comparison, in words."""
    seconds: float | None = None
    """Seconds that the comparison took."""

    @property
    def words(self) -> str:
        """The errors, in a message."""
        where = f"{self.sample}, " if self.sample else ""
        worst = f" ({self.worst_output})" if self.worst_output else ""
        outputs = f"{where}outputs differ by {format_error(self.output_error)}{worst}"
        if not self.worst_gradient:
            return outputs
        return f"{outputs}, the gradient of {self.worst_gradient} by {format_error(self.gradient_error)}"


class Decoding(msgspec.Struct, frozen=True, kw_only=True):
    """What decoding measured. One step takes in a stretch of tokens after a context of the case's length."""

    tokens: int
    """Tokens per sequence in one step, one after another."""
    state_bytes: int
    """Bytes of all that depends on the sequences so far (caches, windows, recurrent states), for the whole
    batch; with room for the stretch, without what follows from the parameters alone."""
    prefill_seconds: float
    """Seconds of taking the context in, by the parallel form."""
    parallel_error: float
    """Relative error of the stretch's logits against those of the parallel form."""
    agrees: bool


class Energy(msgspec.Struct, frozen=True, kw_only=True):
    """Reading of a device's own energy counter, over some seconds of steps."""

    step_joules: Quantity
    """Joules per step, including what the device draws when idle."""
    idle_watts: float
    steps: Positive
    seconds: AboveZero


class GpuBusy(msgspec.Struct, frozen=True, kw_only=True):
    """Reading of the device's own profiler for one step."""

    seconds: Quantity
    """Seconds in which at least one kernel, copy or fill ran."""
    kernels: Positive
    """Number of these kernels, copies and fills."""


class Compilation(msgspec.Struct, frozen=True, kw_only=True):
    """What compiling a step came to."""

    first_step_seconds: AboveZero
    """Of the step in which it is compiled, with nothing kept of earlier compilations."""
    graph_breaks: Count


class Ceiling(msgspec.Struct, frozen=True, kw_only=True):
    """The most that a device was measured to do, in the precision of a case."""

    flops_per_second: AboveZero
    """Of the best of several large matrix products."""
    matrix: str
    """The product, in words."""


class Arithmetic(msgspec.Struct, frozen=True, kw_only=True):
    """What a step computes, and the most that the device does; without FLOPs `unavailable` says why."""

    flops: Count | None
    """Of a step's operators, forward, backward and optimiser."""
    uncounted: list[str] = []
    """Operators without a formula, which count as nothing."""
    unavailable: str | None = None
    ceiling: Ceiling | None = None
    """None where there was no room for the product."""


class Exact(msgspec.Struct, frozen=True, kw_only=True):
    """Costs of one step, after a first one has made the optimiser's state."""

    parameters: Count
    flops: Count
    """FLOPs of all operators, forward, backward and optimiser; the inside of a Triton kernel is not seen."""
    tensor_bytes: Count
    """Exact peak of live tensor bytes."""
    operators: Count
    """Operators dispatched."""


class MetricFigure(msgspec.Struct, frozen=True, kw_only=True):
    """Figure of a metric of the user's own for a case."""

    metric: str
    """Name of the metric in the suite."""
    name: str = ""
    """Name of the figure, which heads a column."""
    value: float | None = None
    unit: str = ""
    failure: str | None = None
    """Why there is no value."""


class Solo(msgspec.Struct, frozen=True, kw_only=True, tag="solo", tag_field="type"):
    """A case alone in its process: what it needs, and whether it runs at all."""

    case: Case
    status: Status
    reason: str | None = None
    traceback: str | None = None
    """Python's traceback, if the case failed with an exception."""
    printed: str | None = None
    """The end of what the model and its libraries printed."""
    parameters: Count | None = None
    tokens: Count | None = None
    """Positions that a step computes."""
    real_tokens: Count | None = None
    prepare_seconds: Quantity = 0.0
    """Seconds from the start of the process until the model is ready."""
    compile_seconds: Quantity = 0.0
    """Seconds of the first steps on a GPU, which compile and load; they count nowhere else."""
    warmup_seconds: list[Quantity] = []
    stationary: bool | None = None
    step_seconds: AboveZero | None = None
    memory: list[MemoryFigure] = []
    activation: Activation | None = None
    variant: Variant | None = None
    decoding: Decoding | None = None
    backend: str | None = None
    why_plain: str | None = None
    """Why fused layers ran in their plain form, if nobody asked for that."""
    exact: Exact | None = None
    energy: Energy | None = None
    metrics: list[MetricFigure] = []
    computed_by: str | None = None
    """Which kernels computed, in the words of a model from elsewhere; None if it says nothing."""
    remarks: list[str] = []
    """Lines that a model from elsewhere says of itself."""
    batch_digest: str | None = None
    """Checksum of the batch; None in files that do not say."""
    gpu_busy: GpuBusy | None = None
    """None on a CPU, or if the profiler shows nothing."""
    arithmetic: Arithmetic | None = None
    compiled: Compilation | None = None
    """None in other modes."""
    in_mode: Variant | None = None
    """How far the step in its mode is from the plain one; None for that."""
    width: Count | None = None
    """Of the model, where it was searched for a number of parameters."""
    growth_bytes: Count | None = None
    """Bytes live after a step of the warm model and not before it: a leak. None if that can't be seen."""
    node: str | None = None
    device: str | None = None
    """Node and device that it was measured on; both None on the machine of the header."""

    def memory_bytes(self, kind: str) -> int | None:
        return next((figure.bytes for figure in self.memory if figure.kind == kind), None)


class Sample(msgspec.Struct, frozen=True, kw_only=True, tag="sample", tag_field="type"):
    """One timed run: steps of one case at one place of one round of one block."""

    case_id: str
    block: Count
    group: Count
    """Cases that were resident together; ratios are formed within a group only."""
    round: Count
    visit: Literal[0, 1]
    """0 for the order drawn, 1 for its reverse."""
    position: Count
    steps: Positive
    seconds: AboveZero
    activation: Quantity | None = None
    throttled: str | None = None
    waited_seconds: Quantity | None = None
    """Seconds in which the thread that makes the steps was not on a processor; None on CUDA."""
    step_deviation: Quantity | None = None
    """Standard deviation of its steps' times in seconds; None for a single step, and on CUDA."""
    conditions: Conditions | None = None
    """What the kernel says of the run."""
    disturbed_by: str | None = None
    """Why it counts in no ratio, by what the kernel says; it was repeated at once. None if it counts."""
    attempt: Count = 0
    """Number of disturbed runs before it at this place of the round."""
    disturbed: bool = False
    """In files without `conditions`: whether it waited for more than half of the run, beyond what was usual
    for the model. It counts."""
    gpu: GpuRun | None = None
    """What the GPU did meanwhile; None on a CPU."""
    aside_seconds: Quantity = 0.0
    """Part of `seconds` that the timed stream of a GPU did not show: work on other streams."""
    processors: list[Count] = []
    """Those of its side in a duet; empty in turns."""
    alone_seconds: Quantity | None = None
    """Of a run in a duet, before the other side began; None in turns."""
    node: str | None = None
    device: str | None = None
    """Node and device that it was measured on; both None on the machine of the header."""

    @property
    def step_seconds(self) -> float:
        return self.seconds / self.steps


class Lost(msgspec.Struct, frozen=True, kw_only=True, tag="lost", tag_field="type"):
    """A case that failed while it was timed, and takes no part in later blocks."""

    case_id: str
    block: Count
    status: Status
    reason: str
    node: str | None = None
    device: str | None = None
    """Node and device that it was measured on; both None on the machine of the header."""


class Void(msgspec.Struct, frozen=True, kw_only=True, tag="void", tag_field="type"):
    """A job that ended with its device: its records above no longer count."""

    case_ids: Annotated[list[str], msgspec.Meta(min_length=1)]
    block: Count | None
    """None for a solo pass."""
    reason: str
    node: str
    device: str

    def covers(self, record: "Solo | Sample | Lost") -> bool:
        """Whether a record above belongs to that job."""
        if isinstance(record, Solo):
            return self.block is None and record.case.id in self.case_ids
        return self.block == record.block and record.case_id in self.case_ids

    @property
    def words(self) -> str:
        """What was cut off, where, and why, in a message."""
        part = "" if self.block is None else f"block {self.block + 1} of "
        return (
            f"{part}{', '.join(self.case_ids)} was cut off on {self.node} ({self.device}) and counts in no "
            f"figure: {self.reason}"
        )


class End(msgspec.Struct, frozen=True, kw_only=True, tag="end", tag_field="type"):
    """Last line of a run, or of a part that was resumed later: why it stopped."""

    reason: StopReason
    seconds: Quantity
    """Seconds since the start, or since the run was resumed."""
    surroundings: Surroundings | None = None
    """What else the machine was at by then; None of a cluster, and in files that do not say."""
    outlook: Outlook | None = None
    """What more time would have given; None in files that do not say, and if there was no block."""


Finding = Solo | Sample | Lost
Record = Header | Device | Plan | Finding | Void | End


class Prediction(msgspec.Struct, frozen=True, kw_only=True):
    """Peak bytes of a step from shapes alone, or why there are none; an answer, not a record of a file."""

    tensor_bytes: int | None
    parameters: int | None = None
    reason: str | None = None
