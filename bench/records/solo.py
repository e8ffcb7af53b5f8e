"""Findings about one case alone, before it is timed beside others."""

from collections.abc import Mapping
from typing import Literal

import msgspec

from bench.records.environment import AboveZero, Count, DeviceKind, Quantity
from bench.suites.case import Case
from bench.suites.suite import Positive
from bench.text.units import format_error

Status = Literal["ok", "oom", "timeout", "crashed", "nan", "error", "unsupported", "wrong"]
MemoryKind = Literal["tensor_bytes", "allocated", "predicted"]

MEMORY_KIND: Mapping[DeviceKind, MemoryKind] = {"cpu": "tensor_bytes", "cuda": "allocated"}
"""Memory figure of a solo that tables show as its peak memory."""


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
    whole: bool = True
    """Whether the batch that is timed was compared; else as much of it as the reference had memory for."""

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
    """Figures of decoding. One step takes in a stretch of tokens after a context of the case's length."""

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
    """Costs of compiling a step."""

    first_step_seconds: AboveZero
    """Seconds of the step in which it is compiled, with nothing kept of earlier compilations."""
    graph_breaks: Count
    given_up: Count = 0
    """Functions that torch compiled as often as it allows, and then runs op by op."""


class Ceiling(msgspec.Struct, frozen=True, kw_only=True):
    """The most that a device was measured to do, in the precision of a case."""

    flops_per_second: AboveZero
    """FLOP per second in the best of several large matrix products."""
    matrix: str
    """The product, in words."""


class Arithmetic(msgspec.Struct, frozen=True, kw_only=True):
    """A step's FLOPs, and the device's ceiling; without FLOPs `unavailable` says why."""

    flops: Count | None
    """FLOPs of a step's operators, forward, backward and optimiser."""
    uncounted: list[str] = []
    """Operators without a formula, which count as nothing."""
    unavailable: str | None = None
    ceiling: Ceiling | None = None
    """None if there was no room for the product."""


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
    """Kernels that computed, as a model from elsewhere says, or fused layers on the CPU; else None."""
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
    """Distance of the step in its mode from the plain one; None for that."""
    width: Count | None = None
    """Width of the model, if it was searched for a number of parameters."""
    growth_bytes: Count | None = None
    """Bytes live after a step of the warm model and not before it: a leak. None if that can't be seen."""
    node: str | None = None
    device: str | None = None
    """Node and device that it was measured on; both None on the machine of the header."""

    def memory_bytes(self, kind: str) -> int | None:
        """Bytes of one kind of figure; None if it was not measured."""
        return next((figure.bytes for figure in self.memory if figure.kind == kind), None)
