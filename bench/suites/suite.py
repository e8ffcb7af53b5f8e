"""What to measure: suites, read from YAML and strictly checked."""

import difflib
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated, Any

import msgspec

from bench import workloads
from bench.errors import UsageError
from bench.suites.case import Backend, Case, Fill, HyperparameterMode, Phase, Precision
from bench.system.shipped import shipped
from bench.text.units import parse_duration, parse_percentage
from implementations import registry
from implementations.errors import RegistryError, YamlError
from implementations.yaml_files import read_yaml

LARGEST = (1 << 63) - 1
"""What numpy and torch count with."""
STRETCH = 32
"""Tokens that a step of the phase `decode` takes in after its context."""

Positive = Annotated[int, msgspec.Meta(ge=1, le=LARGEST)]
Seed = Annotated[int, msgspec.Meta(ge=0, le=LARGEST)]
Rate = Annotated[float, msgspec.Meta(ge=0, le=1)]


class Timing(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """When to stop, and how long to wait."""

    min_blocks: Positive = 3
    max_blocks: Positive = 12
    max_rounds: Positive = 8
    """Rounds in a block at most; fewer where a round is long."""
    target: str | float = "3%"
    """Half-width of every interval at which there is nothing more to gain."""
    budget: str | float = "8m"
    """Of the whole run: beyond min_blocks, no block is begun that would pass it."""
    deadline: str | float = "2m"
    """Of one case's solo pass; a case that passes it gets an X."""
    min_run: str | float | None = None
    """Of one timed run, as many steps as that takes; 50 ms on CUDA and 500 ms on a CPU where not given."""


class BatchSizes(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Sequences a step by kind of device."""

    cpu: Positive = 1
    cuda: Positive = 25


class Training(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How `bench train` trains a suite's models, where the cards' settings do not say or are too big."""

    steps: Positive = 10_000
    batch: Positive | None = None
    """Sequences a step; None for the published number."""
    learning_rate: dict[str, Annotated[float, msgspec.Meta(gt=0)]] = {}
    """By implementation, in place of the published one."""
    evaluate_every: Positive = 100
    """Steps from one evaluation and checkpoint to the next."""
    validation_sequences: Positive = 512


class Suite(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One comparison: implementations, workload, lengths and how they are timed."""

    name: str
    description: str
    workload: str
    lengths: tuple[Positive, ...]
    implementations: tuple[str, ...]
    baseline: str
    """The implementation that every ratio is against."""
    batch: BatchSizes = BatchSizes()
    fill: Fill = "full"
    precision: Precision = "fp32"
    phase: Phase = "train"
    """`decode`: `lengths` are contexts, after which tokens come one after another."""
    hyperparameters: HyperparameterMode = "published"
    activation: tuple[Rate, ...] = ()
    """Activation rates that sparse models are set to, a row each; empty leaves them as initialised."""
    backend: Backend = "auto"
    seed: Seed = 0
    training: Training = Training()
    checkpoints: dict[str, str] = {}
    """By implementation, the checkpoint file that it and its other forms are timed with."""
    timing: Timing = Timing()
    quick: Timing = Timing(min_blocks=1, max_blocks=1, max_rounds=1, budget="150s")
    """What --quick replaces `timing` by."""

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

    def cases(self, device: str) -> list[Case]:
        """The grid on a kind of device (`cpu` or `cuda`), length by length."""
        batch = self.batch.cuda if device == "cuda" else self.batch.cpu
        return [
            Case(
                implementation=name,
                workload=self.workload,
                length=length,
                batch=batch,
                fill=self.fill,
                precision=self.precision,
                phase=self.phase,
                hyperparameters=self.hyperparameters,
                activation=rate,
                backend=self.backend,
                seed=self.seed,
                checkpoint=self.checkpoint_of(name),
                held_out=bool(self.checkpoints),
            )
            for length in self.lengths
            for name in self.implementations
            for rate in self._rates(name)
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
    """As the registry has it; a plug-in that is not installed here counts as every plug-in does."""
    try:
        return registry.find(name).sparse
    except RegistryError:
        return None


def suite_folder() -> Path:
    """Where the suites lie."""
    return shipped("suites")


def suite_names() -> list[str]:
    """Of single suites; those of several are bench.measure.collection's."""
    return sorted(path.stem for path in suite_folder().glob("*.yaml") if not lists_suites(path))


def lists_suites(path: Path) -> bool:
    """Whether a file of the package is a collection of suites, by its key `suites`."""
    return re.search(r"^suites:", path.read_text(encoding="utf-8"), re.MULTILINE) is not None


def load(name: str, overrides: dict[str, Any] | None = None) -> Suite:
    """A suite by name, or from a path that ends in .yaml, with some of its fields replaced.

    Raises UsageError: file, place and reason in one line.
    """
    path, raw = read_file(name)
    if "suites" in raw:
        raise UsageError(
            f"{name} is a collection of suites; name one: {', '.join(map(str, raw['suites'] or ()))}"
        )
    return _checked(_decode({"name": path.stem, **raw, **(overrides or {})}, path), path)


def read_file(name: str) -> tuple[Path, dict[str, Any]]:
    """The file of a suite or of a collection, and its keys. Raises UsageError."""
    path = _path_of(name)
    try:
        raw = read_yaml(path)
    except YamlError as error:
        raise UsageError(str(error)) from None
    if not isinstance(raw, dict):
        raise UsageError(f"{path}: must be a mapping of keys (name, workload, lengths, …)")
    return path, raw


def _path_of(name: str) -> Path:
    if name.endswith((".yaml", ".yml")):
        path = Path(name)
        if not _is_file(path):
            raise UsageError(f"{name}: no such suite file")
        return path
    path = suite_folder() / f"{name}.yaml"
    if "/" in name or not _is_file(path):
        known = sorted(file.stem for file in suite_folder().glob("*.yaml"))
        near = difflib.get_close_matches(name, known, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(known)}"
        raise UsageError(f"unknown suite {name!r}; {hint} (a file of your own must end in .yaml)")
    return path


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # The name is too long for a file, or its folder is not ours to look into.
        return False


def _decode(raw: dict[str, Any], path: Path) -> Suite:
    try:
        return msgspec.convert(raw, Suite)
    except (msgspec.ValidationError, RecursionError) as error:
        raise UsageError(f"{path}: {_with_hint(str(error))}") from None


def _with_hint(message: str) -> str:
    unknown = re.search(r"unknown field `(\w+)`", message)
    fields = {name for struct in (Suite, Timing, Training, BatchSizes) for name in struct.__struct_fields__}
    if not unknown:
        return message
    near = difflib.get_close_matches(unknown[1], fields, n=1)
    return (
        f"{message}; did you mean `{near[0]}`?" if near else f"{message}; known: {', '.join(sorted(fields))}"
    )


def _checked(suite: Suite, path: Path) -> Suite:
    for problem in _problems(suite):
        raise UsageError(f"{path}: {problem}")
    return suite


def _problems(suite: Suite) -> Iterator[str]:
    if not suite.lengths:
        yield "`lengths` is empty: give at least one sequence length"
    yield from _repeated("lengths", suite.lengths)
    yield from _repeated("implementations", suite.implementations)
    yield from _repeated("activation", suite.activation)
    for timing, place in ((suite.timing, "timing"), (suite.quick, "quick")):
        yield from _timing_problems(timing, place)
    try:
        workload = workloads.load(suite.workload)
    except UsageError as error:
        yield f"`workload`: {error}"
        return
    after = STRETCH if suite.phase == "decode" else 0
    too_long = [length for length in suite.lengths if length + after > workload.max_length]
    if too_long:
        yield f"`lengths`: {suite.workload} has at most {workload.max_length} time steps, not {too_long[0]}"
    if suite.phase == "decode" and workload.task(suite.lengths[0]).head != "language-model":
        yield f"`phase`: decode is for language models; the workload {suite.workload} has none (lm has)"
    if suite.baseline not in suite.implementations:
        yield f"`baseline`: {suite.baseline!r} is not among the implementations"
    for name in suite.implementations:
        try:
            registry.find(name).hyperparameters(workload.task(suite.lengths[0]).name, suite.hyperparameters)
        except RegistryError as error:
            yield f"`implementations`: {error}"


def _timing_problems(timing: Timing, place: str) -> Iterator[str]:
    try:
        parse_duration(timing.budget)
        parse_duration(timing.deadline)
        if timing.min_run is not None:
            parse_duration(timing.min_run)
        parse_percentage(timing.target)
    except ValueError as error:
        yield f"`{place}`: {error}"
    if timing.max_blocks < timing.min_blocks:
        yield f"`{place}.max_blocks` ({timing.max_blocks}) is below min_blocks ({timing.min_blocks})"


def _repeated(key: str, values: Iterable[object]) -> Iterator[str]:
    seen: set[object] = set()
    for value in values:
        if value in seen:
            yield f"`{key}`: {value} stands there twice"
        seen.add(value)
