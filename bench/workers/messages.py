"""Questions of the parent and answers of a worker: one line of JSON each way.

Every question gets exactly one answer, or a Failure.
"""

from typing import Literal

import msgspec

from bench.records.conditions import Conditions
from bench.records.gpu import GpuRun
from bench.records.run import Prediction
from bench.records.solo import (
    Activation,
    Arithmetic,
    Compilation,
    Decoding,
    Energy,
    Exact,
    GpuBusy,
    MemoryFigure,
    MetricFigure,
    Variant,
)
from bench.suites.case import Case

FailureKind = Literal["oom", "nan", "error", "unsupported"]


class Prepare(msgspec.Struct, frozen=True, tag="prepare"):
    """Build the model, the batch and the optimiser, and set the activation rate."""

    case: Case
    device: str
    threads: int
    memory_limit_bytes: int | None


class Compile(msgspec.Struct, frozen=True, tag="compile"):
    """On a GPU, before anything is counted: set the activation rate, and run the first steps."""

    steps: int


class Import(msgspec.Struct, frozen=True, tag="import"):
    """Import the module of a model, and nothing more."""

    case: Case


class Locate(msgspec.Struct, frozen=True, tag="locate"):
    """Import and build a model, and say where each module came from."""

    case: Case


class Warm(msgspec.Struct, frozen=True, tag="warm"):
    """Run steps until their time is stationary."""

    min_steps: int
    max_steps: int
    max_seconds: float
    cold: bool = False
    """Whether a compiled model's first step uses nothing that was kept of earlier compilations."""


class MeasureMemory(msgspec.Struct, frozen=True, tag="memory"):
    """Watch one more step: peak memory and activation."""


class Check(msgspec.Struct, frozen=True, tag="check"):
    """Compare the implementation with its reference, if it has one, and its mode with the plain step."""

    reference: bool = True


class Decode(msgspec.Struct, frozen=True, tag="decode"):
    """Measure the state of a generation, and compare its logits with the parallel form's."""


class Predict(msgspec.Struct, frozen=True, tag="predict"):
    """Predict the memory of a step of a case from shapes alone. Asked once, and of a fresh worker: what a
    model caches would count in a later answer."""

    case: Case
    device: str


class Count(msgspec.Struct, frozen=True, tag="count"):
    """Count what a step costs without a clock."""


class MeasureEnergy(msgspec.Struct, frozen=True, tag="energy"):
    """Run steps for some seconds, stay idle for as long, and read the device's energy counter."""


class EvaluateMetric(msgspec.Struct, frozen=True, tag="metric"):
    """Run a step, and evaluate a metric of the user's on it."""

    metric: str


class MeasureBusy(msgspec.Struct, frozen=True, tag="busy"):
    """Run one more step under the GPU's profiler: how long does the device compute in it?"""


class KeepTo(msgspec.Struct, frozen=True, tag="keep_to"):
    """Keep to these processors, with every thread, and be ready to begin."""

    processors: list[int]


class MeasureArithmetic(msgspec.Struct, frozen=True, tag="arithmetic"):
    """Count the FLOPs of a step, and measure the most FLOP/s that the device does."""


class Time(msgspec.Struct, frozen=True, tag="time"):
    """Time that many steps."""

    steps: int
    moment: float | None = None
    """Moment to begin, by the system's monotonic clock; None for at once."""
    go_on: bool = False
    """Whether to make steps, which nobody times, after the answer and until the next question: so that
    another's run beside this one is never alone."""


Question = (
    Prepare
    | Compile
    | Import
    | Locate
    | Warm
    | MeasureMemory
    | Check
    | Decode
    | Predict
    | Count
    | MeasureEnergy
    | EvaluateMetric
    | MeasureBusy
    | KeepTo
    | MeasureArithmetic
    | Time
)


class Imported(msgspec.Struct, frozen=True, tag="imported"):
    """It can be imported."""


class Prepared(msgspec.Struct, frozen=True, tag="prepared"):
    parameters: int
    tokens: int
    real_tokens: int
    backend: str
    reference: str | None = None
    """The implementation that it is held against; None for its own plain form, or for nothing."""
    why_plain: str | None = None
    """Why fused layers run in their plain form, if nobody asked for that."""
    batch_digest: str | None = None
    remarks: list[str] = []
    width: int | None = None


class Located(msgspec.Struct, frozen=True, tag="located"):
    path: str
    """Path of its `build`, `package.module:function`; empty if nothing has the implementation's name."""
    missing: str | None
    """Why it can't be had, if the module or the function does not exist; None if it does."""
    files: dict[str, str]
    """Files of all loaded modules, by the module's name."""


class Compiled(msgspec.Struct, frozen=True, tag="compiled"):
    """Nothing is left to compile."""


class Warmed(msgspec.Struct, frozen=True, tag="warmed"):
    step_seconds: list[float]
    stationary: bool
    compiled: Compilation | None = None


class MemoryMeasured(msgspec.Struct, frozen=True, tag="memory"):
    figures: list[MemoryFigure]
    activation: Activation | None
    computed_by: str | None = None
    moved: bool = False
    """Whether the step moved the weights, which it should not."""
    growth_bytes: int | None = None
    """Bytes by which live memory after the step exceeds that before it; None if that can't be seen."""


class Checked(msgspec.Struct, frozen=True, tag="checked"):
    variant: Variant | None
    in_mode: Variant | None = None


class Decoded(msgspec.Struct, frozen=True, tag="decoded"):
    decoding: Decoding


class Predicted(msgspec.Struct, frozen=True, tag="predicted"):
    prediction: Prediction


class Counted(msgspec.Struct, frozen=True, tag="counted"):
    exact: Exact | None
    unavailable: str | None = None
    """Why there are no costs."""


class EnergyMeasured(msgspec.Struct, frozen=True, tag="energy"):
    energy: Energy | None


class MetricEvaluated(msgspec.Struct, frozen=True, tag="metric"):
    figure: MetricFigure


class BusyMeasured(msgspec.Struct, frozen=True, tag="busy"):
    busy: GpuBusy | None


class KeptTo(msgspec.Struct, frozen=True, tag="kept_to"):
    """It keeps to them."""


class ArithmeticMeasured(msgspec.Struct, frozen=True, tag="arithmetic"):
    arithmetic: Arithmetic


class Timed(msgspec.Struct, frozen=True, tag="timed"):
    seconds: float
    activation: float | None
    throttled: str | None = None
    gpu: GpuRun | None = None
    waited_seconds: float | None = None
    aside_seconds: float = 0.0
    step_deviation: float | None = None
    conditions: Conditions | None = None
    began: float = 0.0
    """Begin by the system's monotonic clock."""


class Failure(msgspec.Struct, frozen=True, tag="failure"):
    """The worker could not do what was asked, and can't continue."""

    kind: FailureKind
    reason: str
    traceback: str | None = None


Answer = (
    Prepared
    | Imported
    | Located
    | Compiled
    | Warmed
    | MemoryMeasured
    | Checked
    | Decoded
    | Predicted
    | Counted
    | EnergyMeasured
    | MetricEvaluated
    | BusyMeasured
    | KeptTo
    | ArithmeticMeasured
    | Timed
    | Failure
)
