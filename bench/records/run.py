"""Schema of the records of a result file: header, timed runs, and how it ended."""

from typing import Annotated, Literal

import msgspec

from bench.records.conditions import Conditions
from bench.records.environment import AboveZero, Count, Environment, Quantity
from bench.records.gpu import GpuRun
from bench.records.plan import Outlook, Plan
from bench.records.solo import Solo, Status
from bench.records.surroundings import Surroundings
from bench.suites.suite import Positive, Suite

SCHEMA = 1

StopReason = Literal["precise", "blocks", "budget", "interrupted", "failed", "devices"]

Estimator = Literal["rounds", "differences", "pairs"]
"""Estimators of a block's value for a pair from its visits: functions of `bench.stats.rounds`, or for runs
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
    """Import path, `package.module:object`."""
    package: str | None = None
    """The installed package that has it; None if there is none."""
    version: str | None = None
    commit: str | None = None
    """Commit of the repository that it lies in, or was installed from."""
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
    """Other work on the machine when the run began; None of a cluster, and in files that do not say."""
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
    """The kernel's account of the run."""
    disturbed_by: str | None = None
    """Why it counts in no ratio, by what the kernel says; it was repeated at once. None if it counts."""
    attempt: Count = 0
    """Number of disturbed runs before it at this place of the round."""
    disturbed: bool = False
    """In files without `conditions`: whether it waited for more than half of the run, beyond what was usual
    for the model. It counts."""
    gpu: GpuRun | None = None
    """The GPU's counters meanwhile; None on a CPU."""
    aside_seconds: Quantity = 0.0
    """Part of `seconds` that the timed stream of a GPU did not show: work on other streams."""
    processors: list[Count] = []
    """Those of its side in a duet; empty in turns."""
    alone_seconds: Quantity | None = None
    """Seconds of a run in a duet before the other side began; None in turns."""
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
    traceback: str | None = None
    printed: str | None = None
    """The end of what the worker and its model printed."""
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
        """A message about the cut: place and reason."""
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
    """Other work on the machine by then; None of a cluster, and in files that do not say."""
    outlook: Outlook | None = None
    """Gain of more time; None in files that do not say, and if there was no block."""


Finding = Solo | Sample | Lost
Record = Header | Device | Plan | Finding | Void | End


class Prediction(msgspec.Struct, frozen=True, kw_only=True):
    """Peak bytes of a step from shapes alone, or why there are none; an answer, not a record of a file."""

    tensor_bytes: int | None
    parameters: int | None = None
    width: int | None = None
    """Width of the model, if it was searched for a number of parameters."""
    reason: str | None = None
