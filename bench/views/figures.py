"""Figures of a row by name, for services that keep numbers by name; what was not measured is left out."""

from collections.abc import Iterator
from dataclasses import dataclass

from bench.records.reading import Results
from bench.stats.ratios import block_step_seconds
from bench.views.tables.row import Row


@dataclass(frozen=True)
class Named:
    """A figure, its unit, and its value in each block, or the one value there is."""

    name: str
    unit: str
    values: tuple[float, ...]
    is_by_block: bool = False


def figures_of(results: Results, row: Row) -> Iterator[Named]:
    """Measured figures of a row."""
    if row.step_seconds is not None:
        times = block_step_seconds(results.samples, row.case_id)
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
    for figure in row.metrics:
        if figure.value is not None:
            yield Named(figure.name, figure.unit, (figure.value,))
