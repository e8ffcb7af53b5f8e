"""Map of the fused SeqBoat's steps against the plain one's, over batch, length, width and activation rate.

python tests/throughput/grid.py measure results/fused-map.csv [--width 32]
python tests/throughput/grid.py draw results/fused-map.csv docs/images/fused-map.svg
"""

import argparse
import csv
import dataclasses
import math
import os
import statistics
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import torch
from test_models import case, ready, seconds

from bench.stats.intervals import ratio_interval
from bench.steps.step import Step
from bench.views.charts.style import Spec, alt, save

BATCHES, LENGTHS = (1, 4, 16, 64), (64, 256, 1024, 4096, 16_384)
WIDTHS, RATES = (32, 128, 256), (0.0, 0.1, 0.3, 1.0)
LARGEST = 1 << 20
"""Batch × length × width at most: a step of a second."""
ROUNDS, ENOUGH = (3, 15), 0.7
"""Rounds at least and at most, and seconds after which there are no more."""


@dataclasses.dataclass(frozen=True)
class Cell:
    """A place of the map: plain over fused, median and 95% interval of rounds, and the fused step."""

    batch: int
    length: int
    width: int
    activation: float
    ratio: float
    low: float
    high: float
    fused_ms: float


def places(
    widths: Sequence[int], batches: Sequence[int], lengths: Sequence[int]
) -> Iterator[tuple[int, int, int, float]]:
    for width in widths:
        for batch in batches:
            for length in lengths:
                for rate in RATES if batch * length * width <= LARGEST else ():
                    yield batch, length, width, rate


def measure(batch: int, length: int, width: int, rate: float) -> Cell:
    """Rounds of a palindrome: plain, fused, fused, plain, in this process."""
    sizes = f"(dim={width},hidden={2 * width},attention_dim={max(16, width // 2)})"
    plain, fused = (
        ready(case(name + sizes, "text", length, batch, rate)) for name in ("seqboat", "seqboat-fused")
    )
    ratios, taken, begin = [], [], time.perf_counter()
    while len(ratios) < ROUNDS[0] or (len(ratios) < ROUNDS[1] and time.perf_counter() - begin < ENOUGH):
        both = palindrome(plain, fused)
        ratios.append(math.log(both[0] / both[1]))
        taken.append(both[1])
    found, ratio = ratio_interval(ratios), math.exp(statistics.median(ratios))
    return Cell(batch, length, width, rate, ratio, found.low, found.high, statistics.median(taken) * 1e3)


def palindrome(first: Step, second: Step) -> tuple[float, float]:
    """Seconds of a step of each, the mean of two."""
    a, b, c, d = (seconds(step) for step in (first, second, second, first))
    return (a + d) / 2, (b + c) / 2


def write(path: Path, chosen: Iterable[tuple[int, int, int, float]]) -> None:
    """Add cells to a file that may hold others, one line each, and print them."""
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    new = not path.exists()
    with path.open("a", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        if new:
            writer.writerow(field.name for field in dataclasses.fields(Cell))
        for place in chosen:
            cell = measure(*place)
            values = dataclasses.astuple(cell)
            writer.writerow(f"{value:.3g}" if isinstance(value, float) else value for value in values)
            file.flush()
            print(
                f"{cell.batch} × {cell.length}, width {cell.width}, activation {cell.activation}: "
                f"{cell.ratio:.2f}× ({cell.low:.2f} to {cell.high:.2f}), fused {cell.fused_ms:.0f} ms",
                flush=True,
            )


def chart(rows: Sequence[dict[str, str]]) -> Spec:
    """Panels of widths by rates: a square is a batch and a length, its number and colour the ratio.

    A disturbed one, whose interval is wider than a factor of two, stays blank.
    """
    cells = [{key: float(value) for key, value in row.items()} for row in rows]
    cells = [cell for cell in cells if cell["high"] < 2 * cell["low"]]
    base = alt.Chart(alt.Data(values=cells)).encode(
        alt.X("length:O", title="time steps", axis=alt.Axis(labelAngle=0, format=",d")),
        alt.Y("batch:O", title="batch"),
    )
    colour = alt.Color(
        "ratio:Q",
        title="plain / fused",
        scale=alt.Scale(scheme="redblue", type="log", domain=[0.25, 4], clamp=True),
    )
    text = base.mark_text(fontSize=10).encode(
        alt.Text("ratio:Q", format=".2f"),
        color=alt.condition("datum.ratio > 2.5", alt.value("white"), alt.value("black")),
    )
    panel = alt.layer(base.mark_rect().encode(colour), text).properties(width=230, height=110)
    faceted = panel.facet(
        row=alt.Row("width:O", title="width"), column=alt.Column("activation:O", title="activation rate")
    )
    spec: Spec = faceted.to_dict()
    return spec


def main(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    measuring = commands.add_parser("measure", help="time cells, and add them to a file")
    measuring.add_argument("cells", type=Path)
    measuring.add_argument("--width", type=int, nargs="+", default=WIDTHS)
    measuring.add_argument("--batch", type=int, nargs="+", default=BATCHES)
    measuring.add_argument("--length", type=int, nargs="+", default=LENGTHS)
    drawing = commands.add_parser("draw", help="draw the cells of a file")
    drawing.add_argument("cells", type=Path)
    drawing.add_argument("picture", type=Path)
    options = parser.parse_args(arguments)
    if options.command == "measure":
        write(options.cells, places(options.width, options.batch, options.length))
    else:
        with options.cells.open(newline="") as file:
            save(chart(list(csv.DictReader(file))), options.picture)


if __name__ == "__main__":
    main(sys.argv[1:])
