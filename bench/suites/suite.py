"""A suite: what to measure, and the grid of cases that it stands for."""

from typing import Annotated, TypeVar

import msgspec

from bench.suites.case import Backend, Case, HyperparameterMode, Mode, Phase, Precision
from bench.text.units import parse_duration, parse_percentage
from bench.workloads.base import Fill
from implementations import registry
from implementations.errors import RegistryError

LARGEST = (1 << 63) - 1
"""Largest integer that numpy and torch count with."""
STRETCH = 32
"""Tokens per step of the phase `decode`, after the context."""

Positive = Annotated[int, msgspec.Meta(ge=1, le=LARGEST)]
Seed = Annotated[int, msgspec.Meta(ge=0, le=LARGEST)]
Rate = Annotated[float, msgspec.Meta(ge=0, le=1)]


Value = TypeVar("Value")


def several(values: Value | tuple[Value, ...]) -> tuple[Value, ...]:
    """One value as a tuple of it."""
    return values if isinstance(values, tuple) else (values,)


class Timing(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Rules for when to stop, and how long to wait."""

    min_blocks: Positive = 3
    """Blocks that an interval needs; fewer only if the budget is over before."""
    max_blocks: Positive = 12
    """Blocks after which a length is done, however wide its intervals are."""
    max_rounds: Positive = 8
    """Most rounds per block; fewer if a round is long."""
    target: str | float = "3%"
    """Half-width at which an interval is narrow enough; at this width of all, the run ends."""
    budget: str | float = "8m"
    """Time for the whole run: beyond min_blocks, no block is begun that would exceed it."""
    deadline: str | float = "2m"
    """Time for one case's solo pass; a case that exceeds it gets an X."""
    min_run: str | float | None = None
    """Duration of one timed run, in as many steps as it takes; by default 200 ms on CUDA, 500 ms on a CPU."""


class BatchSizes(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Sequences per step by kind of device, one number or several."""

    cpu: Positive | tuple[Positive, ...] = 1
    """On a CPU."""
    cuda: Positive | tuple[Positive, ...] = 25
    """On a CUDA GPU."""


class Training(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Settings of `bench train` for a suite's models, in place of the published ones."""

    steps: Positive = 10_000
    """Training steps."""
    batch: Positive | None = None
    """Sequences per step; by default the published number."""
    learning_rate: dict[str, Annotated[float, msgspec.Meta(gt=0)]] = {}
    """Learning rate by implementation, in place of the published one."""
    evaluate_every: Positive = 100
    """Steps from one evaluation and checkpoint to the next."""
    validation_sequences: Positive = 512
    """Sequences of each evaluation."""


EVERY = "default"
"""Key of the limits of every model without limits of its own."""


class Allowed(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Growth that a gate allows a model; None for the gate's own limit."""

    margin: str | float | None = None
    """For sure slower than this, or bigger: REGRESSED."""
    tolerance: str | float | None = None
    """For sure not slower than this: PASSED."""


class Suite(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One comparison: implementations, workload, lengths and how they are timed."""

    name: str
    """Name in records and tables."""
    description: str
    """One sentence for `bench list suites`."""
    workload: str
    """Source of batches: a name, `tokens:file.npy`, `text:file.txt` or `package.module:WORKLOAD`."""
    lengths: tuple[Positive, ...]
    """Sequence lengths, in time steps."""
    implementations: tuple[str, ...]
    """Models, a row each: names, `package.module:build`, `seqboat(window=64)`, or mappings as above."""
    baseline: str
    """The implementation that every ratio is against."""
    batch: BatchSizes = BatchSizes()
    """Sequences per step, by kind of device; in a file also one number or a list for all devices."""
    fit_batch: bool = False
    """Whether the batch is made smaller until the baseline fits the device: `batch: auto`."""
    tokens: Positive | None = None
    """Time steps per step, all sequences together, in place of `batch`: the batch is this over the length."""
    fill: Fill | tuple[Fill, ...] = "full"
    """`full` has data at every position, `real` has true lengths, padded on the right."""
    precision: Precision | tuple[Precision, ...] = "fp32"
    """Type of the computation; `bf16` and `fp16` by torch's autocast, `bf16-pure` with weights in it."""
    modes: Mode | tuple[Mode, ...] = "eager"
    """Ways of carrying out steps, one row each; ratios are to the baseline in the first of them."""
    threads: Positive | tuple[Positive, ...] | None = None
    """CPU threads; None for one per core."""
    phase: Phase = "train"
    """`decode`: `lengths` are contexts, after which tokens come one after another."""
    hyperparameters: HyperparameterMode = "published"
    """`published`: the authors'; `matched`: one depth and width for all; `small`: for quick studies;
    `params:10M`: as many parameters for all."""
    activation: tuple[Rate, ...] = ()
    """Activation rates that sparse models are set to, one row per rate; empty leaves them as initialised."""
    backend: Backend = "auto"
    """Kernels of a fused form; `auto` takes those of the device."""
    metrics: tuple[str, ...] = ()
    """Metrics of the user's own beside the times: names, or import paths as `package.module:function`."""
    seed: Seed = 0
    """Seed of weights and batches."""
    training: Training = Training()
    """Training of the models by `bench train`."""
    checkpoints: dict[str, str] = {}
    """Checkpoint file by implementation; its other forms are timed with it too."""
    limits: dict[str, Allowed] = {}
    """Limits of `bench regress` by implementation; `default` is for all others."""
    ignore: dict[str, str] | list[dict[str, str]] = {}
    """Implementations whose regressions are shown but do not count, each with the reason."""
    timing: Timing = Timing()
    """Rules for when to stop, and how long to wait."""
    quick: Timing = Timing(max_blocks=3, max_rounds=2, budget="4m")
    """Timing that --quick uses in place of `timing`."""

    @property
    def ignored(self) -> dict[str, str]:
        """Reasons by implementation, from a mapping or from a list of such."""
        entries = [self.ignore] if isinstance(self.ignore, dict) else self.ignore
        return {name: reason for entry in entries for name, reason in entry.items()}

    @property
    def target(self) -> float:
        return parse_percentage(self.timing.target)

    @property
    def budget_seconds(self) -> float:
        return parse_duration(self.timing.budget)

    @property
    def deadline_seconds(self) -> float:
        return parse_duration(self.timing.deadline)

    @property
    def min_run_seconds(self) -> float | None:
        return None if self.timing.min_run is None else parse_duration(self.timing.min_run)

    def batches(self, kind: str, length: int) -> tuple[int, ...]:
        """Sequences per step on a kind of device, at a length in time steps."""
        if self.tokens is not None:
            return (self.tokens // length,)
        return several(self.batch.cuda if kind == "cuda" else self.batch.cpu)

    @property
    def fills(self) -> tuple[Fill, ...]:
        return several(self.fill)

    @property
    def most_threads(self) -> int | None:
        """The largest number of threads; None for one per core."""
        return None if self.threads is None else max(several(self.threads))

    @property
    def own_threads(self) -> tuple[int | None, ...]:
        """Numbers of threads of cases, if there are several; else none of their own, but the run's."""
        return self.threads if isinstance(self.threads, tuple) and len(self.threads) > 1 else (None,)

    @property
    def each_mode(self) -> tuple[Mode, ...]:
        return several(self.modes)

    @property
    def precisions(self) -> tuple[Precision, ...]:
        return several(self.precision)

    def axes(self, kind: str) -> list[str]:
        """Settings, besides the length, that tell cells apart on a kind of device."""
        batches = self.batches(kind, self.lengths[0])
        values: dict[str, tuple[object, ...]] = {
            "batch": batches,
            "precision": self.precisions,
            "fill": self.fills,
            "threads": self.own_threads,
        }
        return [name for name, choices in values.items() if len(choices) > 1]

    def choices(self, kind: str) -> list[str]:
        """The settings that have several values on a kind of device, rows' own included."""
        return [*self.axes(kind), *(["mode"] if len(self.each_mode) > 1 else [])]

    def where(self, case: Case, kind: str) -> str:
        """A case's cell in words: its length, and what else has several values."""
        more = [f"{axis} {getattr(case, axis)}" for axis in self.axes(kind)]
        return ", ".join([f"length {case.length}", *more])

    def cases(self, kind: str) -> list[Case]:
        """The grid on a kind of device (cpu or cuda), by cell: length, threads, precision, fill, batch."""
        return [
            Case(
                implementation=name,
                workload=self.workload,
                length=length,
                batch=batch,
                fill=fill,
                precision=precision,
                phase=self.phase,
                hyperparameters=self.hyperparameters,
                activation=rate,
                backend=self.backend,
                seed=self.seed,
                checkpoint=self.checkpoint_of(name),
                held_out=bool(self.checkpoints),
                mode=mode,
                threads=threads,
            )
            for length in self.lengths
            for threads in self.own_threads
            for precision in self.precisions
            for fill in self.fills
            for batch in self.batches(kind, length)
            for name in self.implementations
            for rate in self._rates(name)
            for mode in self.each_mode
        ]

    def checkpoint_of(self, name: str) -> str | None:
        """The checkpoint of an implementation, or of another form of it, which has the same parameters."""
        if not self.checkpoints:
            return None
        plain = {registry.find(trained).plain: path for trained, path in self.checkpoints.items()}
        return self.checkpoints.get(name) or plain.get(registry.find(name).plain)

    def _rates(self, name: str) -> tuple[float | None, ...]:
        sparse = _sparse(name)
        if self.checkpoint_of(name) or sparse is False or not self.activation:
            return (None,)
        return self.activation if sparse else self.activation[:1]


def _sparse(name: str) -> bool | None:
    """Whether the registry says that it is sparse; None for a plug-in, installed here or not."""
    try:
        return registry.find(name).sparse
    except RegistryError:
        return None
