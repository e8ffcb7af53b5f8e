"""The table of a result file: rows of figures, with notes on all that is missing from them.

A view on records. A figure that was not measured is None, and is printed as such.
"""

import statistics
from collections.abc import Sequence

import msgspec

from bench.analysis import baseline_of, speed_ratio, step_seconds
from bench.case import Case
from bench.errors import UsageError
from bench.published import long_range_arena
from bench.record import STOP_REASONS, Results, Sample, Solo, Status
from bench.stats import MIN_BLOCKS
from bench.units import format_bytes, format_duration
from implementations import registry
from implementations.registry import RegistryError

MEMORY_KIND = {"cpu": "tensor_bytes", "cuda": "allocated"}
"""Which figure the memory column is, by kind of device."""

MEMORY_KIND_NAMES = {
    "tensor_bytes": "exact peak of live tensor bytes in a step",
    "allocated": "peak allocated by torch in a step",
}


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
    published_memory: float | None
    step_seconds: float | None
    tokens_per_second: float | None
    real_tokens_per_second: float | None
    peak_memory_bytes: int | None
    peak_memory_kind: str
    parameters: int | None
    activation_rate: float | None
    activation_by_layer: list[float] | None
    length: int
    batch: int
    precision: str
    device: str
    backend: str | None
    blocks: int
    """Blocks behind the ratio."""


class Table(msgspec.Struct, frozen=True):
    """Rows, and the lines that belong below them."""

    baseline: str
    workload: str
    rows: list[Row]
    notes: list[str]
    footer: list[str]


def build_table(results: Results, baseline: str | None = None) -> Table:
    """The table of a run, against its suite's baseline or another of its implementations.

    Raises UsageError where the baseline is not in the file.
    """
    suite = results.header.suite
    name = baseline or suite.baseline
    cases = suite.cases(_kind(results))
    if name not in suite.implementations:
        raise UsageError(f"{results.path}: has no {name!r}; its models: {', '.join(suite.implementations)}")
    by_case = {case.id: [s for s in results.samples if s.case_id == case.id] for case in cases}
    rows = [_row(results, case, baseline_of(case, cases, name), by_case) for case in cases]
    return Table(_title(name), suite.workload, rows, _notes(results, rows), _footer(results, rows))


def _kind(results: Results) -> str:
    return "cuda" if results.header.environment.device.startswith("cuda") else "cpu"


def _title(name: str) -> str:
    try:
        return registry.find(name).title
    except RegistryError:
        return name


def _row(results: Results, case: Case, baseline: Case | None, by_case: dict[str, list[Sample]]) -> Row:
    solo = results.solos.get(case.id)
    status, reason = _outcome(results, case, solo)
    timed = status == "ok"
    base_id = baseline.id if baseline else None
    speed = None
    if timed and base_id is not None and _ranked(results, base_id):
        others = by_case[case.id] if case.id != base_id else []
        speed = speed_ratio(by_case[base_id] + others, base_id, case.id)
    seconds = step_seconds(by_case[case.id], case.id) if timed else None
    memory = _memory(results, case.id) if status in ("ok", "wrong") else None
    base_memory = _memory(results, base_id) if base_id is not None and _ranked(results, base_id) else None
    published = long_range_arena().get(case.implementation, {}) if case.workload == "text" else {}
    activation = solo.activation if solo else None
    timed_rates = [s.activation for s in by_case[case.id] if s.activation is not None]
    return Row(
        model=case.implementation,
        title=_title(case.implementation),
        complexity=_complexity(case.implementation),
        status=status,
        reason=reason,
        speed_ratio=speed.ratio if speed else None,
        speed_low=speed.low if speed else None,
        speed_high=speed.high if speed else None,
        memory_ratio=memory / base_memory if timed and memory and base_memory else None,
        published_speed=published.get("speed"),
        published_memory=published.get("memory"),
        step_seconds=seconds,
        tokens_per_second=solo.tokens / seconds if solo and solo.tokens and seconds else None,
        real_tokens_per_second=solo.real_tokens / seconds if solo and solo.real_tokens and seconds else None,
        peak_memory_bytes=memory,
        peak_memory_kind=MEMORY_KIND[_kind(results)],
        parameters=solo.parameters if solo else None,
        activation_rate=statistics.fmean(timed_rates) if timed_rates else None,
        activation_by_layer=activation.by_layer if activation else None,
        length=case.length,
        batch=case.batch,
        precision=case.precision,
        device=results.header.environment.device,
        backend=solo.backend if solo else None,
        blocks=speed.blocks if speed else 0,
    )


def _complexity(name: str) -> str:
    try:
        return registry.find(name).complexity
    except RegistryError:
        return "unknown"


def _outcome(results: Results, case: Case, solo: Solo | None) -> tuple[Status, str | None]:
    if solo is None:
        return "error", "was not reached before the run stopped"
    if solo.status == "ok" and case.id in results.lost:
        lost = results.lost[case.id]
        return lost.status, f"{lost.reason} (in block {lost.block + 1})"
    return solo.status, solo.reason


def _ranked(results: Results, case_id: str) -> bool:
    solo = results.solos.get(case_id)
    return solo is not None and solo.status == "ok" and case_id not in results.lost


def _memory(results: Results, case_id: str) -> int | None:
    solo = results.solos.get(case_id)
    return solo.memory_bytes(MEMORY_KIND[_kind(results)]) if solo else None


def _notes(results: Results, rows: Sequence[Row]) -> list[str]:
    notes = [f"X {row.title} at {row.length}: {_explain(row)}" for row in rows if row.status != "ok"]
    blocks = max((row.blocks for row in rows), default=0)
    if blocks < MIN_BLOCKS:
        notes.append(f"no intervals: {blocks} block(s) were measured, an interval needs {MIN_BLOCKS}")
    unsteady = [solo.case for solo in results.solos.values() if solo.stationary is False]
    if unsteady:
        names = ", ".join(f"{_title(case.implementation)} at {case.length}" for case in unsteady)
        notes.append(f"warm-up ended before the step time was stationary: {names}")
    throttled = sum(sample.throttled is not None for sample in results.samples)
    if throttled:
        notes.append(f"{throttled} of {len(results.samples)} runs were made while the GPU was throttled")
    if results.notice:
        notes.append(results.notice)
    return notes


_WORDS: dict[Status, str] = {
    "oom": "out of memory",
    "timeout": "out of time",
    "crashed": "crashed",
    "nan": "computed NaN",
    "wrong": "WRONG",
    "error": "failed",
    "unsupported": "not supported",
}


def _explain(row: Row) -> str:
    words = _WORDS.get(row.status, row.status)
    return f"{words}: {row.reason}" if row.reason and row.reason != words else words


def _footer(results: Results, rows: Sequence[Row]) -> list[str]:
    header = results.header
    environment, suite = header.environment, header.suite
    batches = ", ".join(sorted({str(row.batch) for row in rows}))
    lines = [
        f"{suite.name}: {suite.phase}, {suite.workload}, {suite.precision}, batch {batches} ({suite.fill}), "
        f"{suite.hyperparameters} hyper-parameters, data: {header.data}",
        f"{environment.hardware}, {_machine(results)}, torch {environment.torch}",
        f"Mem: {MEMORY_KIND_NAMES[MEMORY_KIND[_kind(results)]]}. "
        "Speed: mean over blocks with its 95% interval; each block is a fresh process for every model",
        _how_it_stopped(results),
    ]
    if any(row.published_speed is not None for row in rows):
        lines.append(
            "Published: Text at 4K, on other hardware and by several protocols; see results/published"
        )
    return lines


def _machine(results: Results) -> str:
    environment = results.header.environment
    memory = format_bytes(environment.memory_bytes)
    if environment.driver is None:
        return f"{environment.threads} threads, {memory}"
    return f"{memory}, driver {environment.driver}, CUDA {environment.cuda}"


def _how_it_stopped(results: Results) -> str:
    blocks = 1 + max((sample.block for sample in results.samples), default=-1)
    if results.end is None:
        return f"{blocks} blocks, {len(results.samples)} runs; the run has not ended, or was killed"
    return (
        f"{blocks} blocks, {len(results.samples)} runs in {format_duration(results.end.seconds)}; "
        f"stopped because {STOP_REASONS[results.end.reason]}"
    )
