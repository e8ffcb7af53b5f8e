"""A row of a table: one model, at one length and setting, of one run.

A figure that was not measured is None, and is printed as such.
"""

import msgspec

from bench.records.environment import Machine, Pairing
from bench.records.run import PlugIn
from bench.records.solo import MemoryKind, MetricFigure, Status


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One model at one length. Ratios are to the baseline: speed above 1 is faster, memory below 1 less."""

    model: str
    title: str
    complexity: str
    status: Status
    reason: str | None
    speed_ratio: float | None
    speed_low: float | None
    speed_high: float | None
    memory_ratio: float | None
    published_speed: float | None
    """Training on Text at 4K, whatever is measured here; so is `published_memory`."""
    published_memory: float | None
    published_accuracy: dict[str, float | None] | None
    """In percent, by task of the arena; None for a task that it did not learn."""
    step_seconds: float | None
    """Seconds of a step; of one token of each sequence in the phase decode."""
    tokens_per_second: float | None
    real_tokens_per_second: float | None
    state_bytes: int | None
    """Bytes that decoding keeps of the whole batch's sequences; None in other phases."""
    peak_memory_bytes: int | None
    peak_memory_kind: MemoryKind
    parameters: int | None
    gpu_busy: float | None
    """Share of a step in which the GPU computes; None on a CPU."""
    flops: int | None
    """FLOPs of a step, as they were counted."""
    flops_per_second: float | None
    utilisation: float | None
    """FLOP/s over those of the best matrix product of the same precision that the run measured."""
    ceiling_flops_per_second: float | None
    """Ceiling of the device, in FLOP per second of that product."""
    activation_rate: float | None
    activation_by_layer: list[float] | None
    activation_set: float | None
    """The rate that it was set to before measuring."""
    checkpoint: str | None = None
    """The file whose weights it was timed with."""
    workload: str
    length: int
    batch: int
    fill: str
    precision: str
    phase: str
    hyperparameters: str
    device: str
    hardware: str
    threads: int
    torch: str
    allocator: str | None
    """Allocator of a worker's memory on the host; None if the file does not say."""
    pairing: Pairing = "turns"
    """Whether it was timed in turns, or in a duet beside its baseline."""
    variables: str | None = None
    """Environment variables that change how a step is computed."""
    backend: str | None
    backend_set: str
    """The backend that was asked for; `backend` is what that came to."""
    seed: int
    data: str
    mode: str = "eager"
    first_step_seconds: float | None = None
    """Seconds of the step in which a compiled model is compiled."""
    graph_breaks: int | None = None
    width: int | None = None
    """Width of the model, if it was searched for a number of parameters."""
    blocks: int
    """Blocks behind the ratio."""
    case_id: str
    metrics: list[MetricFigure] = []
    """Figures of the user's own metrics, as the suite names them."""
    computed_by: str | None = None
    """Kernels that computed, in the words of a model from elsewhere."""
    remarks: list[str] = []
    code: PlugIn | None = None
    """Whose code it is, of a model from elsewhere."""
    batch_digest: str | None = None
    """Checksum of the batch; None if the file does not say."""
    run: str
    """The file that it comes from."""
    created: str
    """Begin of that run: ISO 8601, UTC."""

    @property
    def machine(self) -> Machine:
        computing = (self.device, self.hardware, self.threads, self.torch, self.allocator, self.pairing)
        return Machine(*computing, self.variables)

    @property
    def cell(self) -> tuple[object, ...]:
        """Key of one measurement, equal in two files that both have it: the case, on one machine."""
        return (self.case_id, self.checkpoint, *self.panel)

    @property
    def panel(self) -> tuple[object, ...]:
        """Key that rows share whose figures may be compared with each other."""
        return (self.length, *self.place)

    @property
    def place(self) -> tuple[object, ...]:
        """The same, at any length."""
        setting = (self.workload, self.batch, self.fill, self.precision, self.phase, self.hyperparameters)
        return (*setting, self.backend_set, self.seed, self.data, self.machine)

    @property
    def is_as_published(self) -> bool:
        """Whether it is what papers print speed and memory of: training on Text at 4K."""
        return self.published_speed is not None and self.phase == "train" and self.length == 4096
