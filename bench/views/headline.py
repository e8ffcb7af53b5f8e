"""A table in a sentence: how much faster than the baseline the fastest model is, and at which memory.

A view on rows. It says only what was measured: a row that failed wins nothing, an interval that holds 1
decides nothing, and if there is no ratio it says why.
"""

from collections.abc import Sequence

from bench.stats.intervals import MIN_BLOCKS
from bench.text.units import format_bytes, format_duration, format_interval, format_ratio
from bench.views.tables.footnotes import STATUS_WORDS
from bench.views.tables.naming import LENGTH, RATE, SETTINGS, names_of
from bench.views.tables.row import Row
from bench.views.tables.titles import title_of

WITHIN = [setting for setting in SETTINGS if setting.header in ("Mode", "Weights")]
"""Settings in which rows of one table differ."""
ELSEWHERE = [setting for setting in SETTINGS if setting is not LENGTH and setting not in WITHIN]
"""Settings that tell tables of one length apart."""


def sentences(rows: Sequence[Row], baseline: str) -> list[str]:
    """The result of rows of one length: a sentence, or one for each setting and machine.

    baseline: name of the model that ratios are to.
    """
    panels: dict[tuple[object, ...], list[Row]] = {}
    for row in rows:
        panels.setdefault(row.panel, []).append(row)
    telling = [setting for setting in ELSEWHERE if setting.tells(rows)]
    found = []
    for panel in panels.values():
        where = ", ".join(filter(None, (setting.name(panel[0]) for setting in telling)))
        sentence = _sentence(panel, baseline)
        found.append(f"{where}: {sentence}" if len(panels) > 1 and where else sentence)
    return found


def _sentence(panel: Sequence[Row], baseline: str) -> str:
    names = dict(zip((row.case_id for row in panel), names_of(panel, [RATE, *WITHIN]), strict=True))
    ended = [row for row in panel if row.status == "ok" and row.step_seconds is not None]
    against = title_of(baseline)
    if not ended:
        return _nothing(panel)
    others = [row for row in ended if row.model != baseline and row.speed_ratio is not None]
    if others:
        sure = [row for row in others if row.speed_low is not None and row.speed_low > 1]
        best = max(sure or others, key=lambda row: row.speed_ratio or 0.0)
        slower = all(row.speed_high is not None and row.speed_high < 1 for row in others)
        result = _result(best, names[best.case_id], against, all_slower=slower)
    else:
        fastest = min(ended, key=lambda row: row.step_seconds or 0.0)
        least = f"{names[fastest.case_id]} takes the least time: {_cost(fastest)}."
        result = f"{_why_no_ratio(panel, ended, baseline)} {least}"
        if len(ended) == 1 and fastest.model == baseline:
            result = f"Only {against} was timed: {_cost(fastest)}."
    return result + _failures(panel)


def _why_no_ratio(panel: Sequence[Row], ended: Sequence[Row], baseline: str) -> str:
    against = title_of(baseline)
    if all(row.model == baseline for row in ended):
        return f"Only {against} was timed."
    if any(row.model == baseline for row in ended):
        return f"Nothing to compare with: no model was timed together with {against}."
    words = [STATUS_WORDS.get(row.status, row.status) for row in panel if row.model == baseline]
    return f"Nothing to compare with: the baseline, {against}, has no time ({', '.join(words) or 'not run'})."


def _result(best: Row, name: str, against: str, *, all_slower: bool) -> str:
    """The fastest model held against the baseline."""
    memory = _memory(best)
    interval = format_interval(best.speed_low, best.speed_high)
    if interval is None or best.speed_low is None or best.speed_high is None:
        ratio = format_ratio(best.speed_ratio or 0.0)
        return (
            f"{name} is {ratio} times as fast as {against}{memory}; "
            f"without an interval, which needs {MIN_BLOCKS} blocks."
        )
    if best.speed_low > 1:
        return f"{name} is {interval} times as fast as {against}{memory}."
    none = "No model is as fast as" if all_slower else "No model is surely faster than"
    return f"{none} {against}: the nearest, {name}, is {interval} times as fast{memory}."


def _memory(row: Row) -> str:
    """`, at 3% of its memory`; nothing if that was not measured."""
    ratio = row.memory_ratio
    if ratio is None:
        return ""
    if ratio >= 1.995:
        return f", at {format_ratio(ratio)} times its memory"
    percent = f"{100 * ratio:.0f}" if ratio >= 0.095 else f"{100 * ratio:.2g}"
    return f", at {percent}% of its memory"


def _cost(row: Row) -> str:
    unit = "token" if row.phase == "decode" else "step"
    memory = f" and {format_bytes(row.peak_memory_bytes)}" if row.peak_memory_bytes is not None else ""
    return f"{format_duration(row.step_seconds or 0.0)} per {unit}{memory}"


def _nothing(panel: Sequence[Row]) -> str:
    if all(row.status == "ok" for row in panel):
        return "Nothing was timed."
    return "No model was timed." + _failures(panel)


def _failures(panel: Sequence[Row]) -> str:
    """Number of rows with an X; the notes say why."""
    failed = [row for row in panel if row.status != "ok"]
    if not failed:
        return ""
    counts: dict[str, int] = {}
    for row in failed:
        words = STATUS_WORDS.get(row.status, row.status)
        counts[words] = counts.get(words, 0) + 1
    reasons = ", ".join(f"{count} {words}" for words, count in counts.items())
    return f" {len(failed)} of {len(panel)} rows have an X: {reasons}."
