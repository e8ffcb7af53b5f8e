"""What was measured: the schema and the append-only store, one line of JSON a record.

A record is written, flushed and synced as its measurement finishes. A torn last line, as a crash or a
full disk leaves it, is dropped with a notice when the file is read.
"""

import os
from collections.abc import Callable, Iterable
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, TypeVar

import msgspec

from bench.case import Case
from bench.errors import UsageError
from bench.suite import Suite

T = TypeVar("T")

SCHEMA = 1

Status = Literal["ok", "oom", "timeout", "crashed", "nan", "error", "unsupported", "wrong"]
StopReason = Literal["precise", "blocks", "budget", "interrupted", "failed"]

STOP_REASONS: dict[StopReason, str] = {
    "precise": "every interval is under its target",
    "blocks": "the limit of blocks was reached",
    "budget": "the time budget was reached",
    "interrupted": "it was interrupted",
    "failed": "nothing was left to time",
}


class Environment(msgspec.Struct, frozen=True, kw_only=True):
    """Where a run was made: what must be equal for two runs to be one."""

    device: str
    """`cpu` or `cuda:0`."""
    hardware: str
    """Name of the processor or GPU that computed."""
    processor: str
    threads: int
    memory_bytes: int
    """Of the machine, or of the GPU."""
    driver: str | None
    cuda: str | None
    torch: str
    python: str
    platform: str
    libraries: dict[str, str]
    commit: str | None
    dirty: bool | None
    load_average: float
    clocks: dict[str, int] | None = None

    @property
    def machine(self) -> tuple[str, str, int, str]:
        return (self.device, self.hardware, self.threads, self.torch)


class Trained(msgspec.Struct, frozen=True, kw_only=True):
    """A checkpoint that a model is timed with, and how good it was on validation sequences."""

    file: str
    implementation: str
    data: str
    steps: int
    of_steps: int
    """Steps of the whole training."""
    batch: int
    """Sequences a training step."""
    seed: int
    accuracy: float | None = None
    bits_per_character: float | None = None
    activation_by_layer: list[float] = []
    """Means over validation sequences, when it was trained."""


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
    """By implementation, the training behind the weights that it is timed with."""


class MemoryFigure(msgspec.Struct, frozen=True, kw_only=True):
    """One of the memory figures; `unavailable` says why there are no bytes."""

    kind: str
    bytes: int | None
    unavailable: str | None = None


class Activation(msgspec.Struct, frozen=True):
    """Share of the real time steps that the configurators switched on."""

    mean: float
    by_layer: list[float]


class Variant(msgspec.Struct, frozen=True, kw_only=True):
    """How far a variant is from its reference, as relative errors on a batch of this shape."""

    reference: str
    output_error: float
    gradient_error: float
    worst_gradient: str
    agrees: bool


class Energy(msgspec.Struct, frozen=True, kw_only=True):
    """What a device's own counter says, over some seconds of steps."""

    step_joules: float
    """Of a whole step, what the idle device uses included."""
    idle_watts: float
    steps: int
    seconds: float


class Exact(msgspec.Struct, frozen=True, kw_only=True):
    """Costs of one step, after a first one has made the optimiser's state."""

    parameters: int
    flops: int
    """Of matrix products, convolutions and attention, forward and backward."""
    tensor_bytes: int
    """Exact peak of live tensor bytes."""
    operators: int
    """Operators dispatched."""


class Solo(msgspec.Struct, frozen=True, kw_only=True, tag="solo", tag_field="type"):
    """A case alone in its process: what it needs, and whether it runs at all."""

    case: Case
    status: Status
    reason: str | None = None
    parameters: int | None = None
    tokens: int | None = None
    """Positions a step computes."""
    real_tokens: int | None = None
    prepare_seconds: float = 0.0
    """From the start of the process to a model that is ready."""
    warmup_seconds: list[float] = []
    stationary: bool | None = None
    step_seconds: float | None = None
    memory: list[MemoryFigure] = []
    activation: Activation | None = None
    variant: Variant | None = None
    backend: str | None = None
    exact: Exact | None = None
    energy: Energy | None = None

    def memory_bytes(self, kind: str) -> int | None:
        return next((figure.bytes for figure in self.memory if figure.kind == kind), None)


class Sample(msgspec.Struct, frozen=True, kw_only=True, tag="sample", tag_field="type"):
    """One timed run: steps of one case at one place of one round of one block."""

    case_id: str
    block: int
    group: int
    """Cases that were resident together; ratios are formed within a group only."""
    round: int
    visit: Literal[0, 1]
    """0 in the order drawn, 1 in its reverse."""
    position: int
    steps: int
    seconds: float
    activation: float | None = None
    throttled: str | None = None

    @property
    def step_seconds(self) -> float:
        return self.seconds / self.steps


class Lost(msgspec.Struct, frozen=True, kw_only=True, tag="lost", tag_field="type"):
    """A case that failed while it was timed, and takes no part from that block on."""

    case_id: str
    block: int
    status: Status
    reason: str


class End(msgspec.Struct, frozen=True, kw_only=True, tag="end", tag_field="type"):
    """Last line of a run: why it stopped."""

    reason: StopReason
    seconds: float


Record = Header | Solo | Sample | Lost | End


class ResultError(UsageError):
    """A result file that cannot be read or written."""


class Results(msgspec.Struct, frozen=True):
    """What a result file holds."""

    path: str
    header: Header
    solos: dict[str, Solo]
    samples: list[Sample]
    lost: dict[str, Lost]
    end: End | None
    notice: str | None = None
    """A torn line that was dropped."""


class Store:
    """Appends records to one file."""

    def __init__(self, path: Path, *, resume: bool = False) -> None:
        self.path = path
        self.count = 0
        if path.exists() and not resume:
            raise ResultError(f"{path}: exists already; continue it with --resume or choose another --out")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            if resume:
                _drop_torn_line(path)
            self._file = path.open("ab" if resume else "xb")
        except OSError as error:
            raise ResultError(f"{path}: cannot be written ({error.strerror})") from None

    def append(self, record: msgspec.Struct) -> None:
        """Write and sync one record. Raises ResultError where the disk does not take it."""
        try:
            self._file.write(msgspec.json.encode(record) + b"\n")
            self._file.flush()
            os.fsync(self._file.fileno())
        except OSError as error:
            raise ResultError(
                f"{self.path}: cannot write record {self.count + 1} ({error.strerror}); "
                f"{self.count} are kept, free some space and continue with --resume {self.path}"
            ) from None
        self.count += 1

    def __enter__(self) -> "Store":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._file.close()
        except OSError:
            # The failed append has already been reported; close would only repeat its flush.
            return


def read(path: Path) -> Results:
    """Everything a result file holds. Raises ResultError: what is wrong, in which line."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ResultError(f"{path}: cannot be read ({error.strerror})") from None
    lines = content.split(b"\n")
    torn = lines.pop()
    notice = f"{path}: its torn last line was dropped" if torn else None
    records = [_decode(line, number, path) for number, line in enumerate(lines, 1)]
    if not records or not isinstance(records[0], Header):
        raise ResultError(
            f"{path}: does not begin with a header; it is no result file, or was cut off at once"
        )
    header = records[0]
    if header.schema != SCHEMA:
        raise ResultError(f"{path}: has schema {header.schema}, this version reads {SCHEMA}")
    return Results(
        path=str(path),
        header=header,
        solos={record.case.id: record for record in _of(records, Solo)},
        samples=_of(records, Sample),
        lost={record.case_id: record for record in _of(records, Lost)},
        end=records[-1] if isinstance(records[-1], End) else None,
        notice=notice,
    )


def json_schema() -> dict[str, Any]:
    """JSON Schema of one line of a result file."""
    return msgspec.json.schema(Record)


def _of(records: Iterable[Any], kind: type[T]) -> list[T]:
    return [record for record in records if isinstance(record, kind)]


def _decode(
    line: bytes, number: int, path: Path, decode: Callable[..., Record] = msgspec.json.decode
) -> Record:
    try:
        return decode(line, type=Record)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ResultError(f"{path}: line {number} is no record of a result file ({error})") from None


def _drop_torn_line(path: Path) -> None:
    content = path.read_bytes()
    whole = content.rfind(b"\n") + 1
    if whole != len(content):
        with path.open("r+b") as file:
            file.truncate(whole)


if __name__ == "__main__":
    print(msgspec.json.format(msgspec.json.encode(json_schema()), indent=2).decode())
