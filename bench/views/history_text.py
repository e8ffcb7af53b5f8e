"""A history in words: a table for each line, its changes, and whether there is one to act on."""

from collections.abc import Callable, Collection, Mapping, Sequence

from bench.stats.levels import MIN_LEVEL
from bench.text.text_table import text_table
from bench.text.units import format_bytes, format_duration, format_ratio
from bench.views.changes import LevelChange
from bench.views.history import SHORT, History, Line, Point
from bench.views.shelf import Figure
from bench.views.tables.rows import title_of


def as_text(found: History) -> str:
    """A table for each line, its changes marked at the commits that begin them."""
    order = "date" if found.order == "commit" else "time of measurement (not all are in this repository)"
    footer = [
        f"{found.suite}: {_MEANING[found.figure]}. Commits by their {order}; the newest run of each.",
        f"A change is marked where a new level of {MIN_LEVEL} commits or more begins after one as "
        "long; its interval does not count that the same values chose its place.",
        *(
            f"{line.name}: {_sentence(change, found.figure)}"
            for line in found.lines
            for change in line.changes
        ),
    ]
    return "\n".join([*(_line_text(line, found.figure) + "\n" for line in found.lines), *footer])


_MEANING: Mapping[Figure, str] = {
    "speed": "speed over the baseline's, with its 95% interval over blocks",
    "step": "seconds per step, geometric mean over blocks with its 95% interval",
    "memory": "peak memory of a step",
}


def _line_text(line: Line, figure: Figure) -> str:
    against = f" against {title_of(line.baseline)}" if line.baseline else ""
    rows = [
        [
            point.commit[:SHORT],
            point.created[:10],
            *_cells(point, figure),
            _mark(line, point),
            point.subject or "",
        ]
        for point in line.points
    ]
    headers = ["Commit", "Measured", figure.capitalize(), "95% interval", "Change", "Subject"]
    align = ["left", "left", "right", "right", "left", "left"]
    table = text_table(rows, headers, align)
    failed = [
        f"X  {point.commit[:SHORT]}: {point.status}, {point.reason}"
        for point in line.points
        if point.status != "ok"
    ]
    return "\n".join([f"{line.name}{against}: {line.words}", table, *failed])


def _cells(point: Point, figure: Figure) -> list[str]:
    if point.value is None:
        return ["–" if point.status == "ok" else "X", "–"]
    show = format_figure(figure)
    interval = f"{show(point.low)} to {show(point.high)}" if point.low and point.high else "–"
    return [show(point.value), interval]


def format_figure(figure: Figure) -> Callable[[float], str]:
    """Formatter of a figure's values."""
    shown: Mapping[Figure, Callable[[float], str]] = {
        "speed": format_ratio,
        "step": format_duration,
        "memory": format_bytes,
    }
    return shown[figure]


def _mark(line: Line, point: Point) -> str:
    return next((describe(change) for change in line.changes if change.commit == point.commit), "")


def describe(change: LevelChange) -> str:
    """`× 1.24 (1.20 to 1.28), code`."""
    if change.low is None or change.high is None:
        return f"× {change.ratio:.3g}, {change.cause}"
    return f"× {change.ratio:.3g} ({change.low:.3g} to {change.high:.3g}), {change.cause}"


def newest_loss(found: Sequence[History], since: Collection[str] | None = None) -> str | None:
    """The newest change for the worse that is not noise and that nothing newer follows, in a line.

    since: commits that count; all of them if None.
    """
    losses = []
    for history_ in found:
        for line in history_.lines:
            confirmed = [change for change in line.changes if change.cause != "noise"]
            last = confirmed[-1] if confirmed else None
            if last is None or not is_worse(last, history_.figure):
                continue
            if since is None or last.commit in since:
                when = next(point.created for point in line.points if point.commit == last.commit)
                losses.append((when, f"{line.name}: {_sentence(last, history_.figure)}"))
    return max(losses)[1] if losses else None


def is_worse(change: LevelChange, figure: Figure) -> bool:
    return change.ratio < 1 if figure == "speed" else change.ratio > 1


def _sentence(change: LevelChange, figure: Figure) -> str:
    return f"{figure} {describe(change)} at {change.commit[:SHORT]} ({change.why})"
