"""Figures of a row by name, for services that keep numbers by name; what was not measured is left out."""

from collections.abc import Iterator
from dataclasses import dataclass

from bench.records.reading import Results
from bench.stats.ratios import block_step_seconds, step_seconds
from bench.views.tables.row import Row


@dataclass(frozen=True)
class Named:
    """A figure, its unit, and its value in each block, or the one value there is."""

    name: str
    unit: str
    values: tuple[float, ...]
    is_by_block: bool = False


def block_times(results: Results, case_id: str) -> list[float]:
    """Seconds of a step in each block; in decoding, those of one token of each sequence, as in a row."""
    tokens = _tokens(results, case_id)
    return [seconds / tokens for seconds in block_step_seconds(results.samples, case_id)]


def case_seconds(results: Results, case_id: str) -> float | None:
    """Seconds of a step over all blocks, of one token as in `block_times`; None if it was not timed."""
    seconds = step_seconds(results.samples, case_id)
    return None if seconds is None else seconds / _tokens(results, case_id)


def _tokens(results: Results, case_id: str) -> int:
    """Tokens that a timed step decodes one after another; 1 in other phases."""
    solo = results.solos.get(case_id)
    return solo.decoding.tokens if solo is not None and solo.decoding is not None else 1


def figures_of(results: Results, row: Row) -> Iterator[Named]:
    """Measured figures of a row."""
    if row.step_seconds is not None:
        times = block_times(results, row.case_id)
        yield Named("step_time", "ms", tuple(seconds * 1e3 for seconds in times), is_by_block=True)
    if row.status != "ok":
        return
    for name, unit, value in (
        ("tokens_per_second", "", row.tokens_per_second),
        ("real_tokens_per_second", "", row.real_tokens_per_second),
        ("speed_ratio", "", row.speed_ratio),
        ("speed_ratio_low", "", row.speed_low),
        ("speed_ratio_high", "", row.speed_high),
        ("memory_ratio", "", row.memory_ratio),
        ("peak_memory", "bytes", row.peak_memory_bytes),
        ("state", "bytes", row.state_bytes),
        ("parameters", "", row.parameters),
        ("activation_rate", "", row.activation_rate),
    ):
        if value is not None:
            yield Named(name, unit, (float(value),))
    found = [figure for figure in row.metrics if figure.value is not None]
    names = [(figure.name, figure.unit) for figure in found]
    for figure in found:
        several = names.count((figure.name, figure.unit)) > 1
        name = f"{figure.name} of {figure.metric}" if several else figure.name
        yield Named(name, figure.unit, (figure.value or 0.0,))
