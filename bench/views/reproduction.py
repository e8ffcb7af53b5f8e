"""A bundle's run held against one that was made here: per case a verdict, and what else is different.

On the same machine step times are compared. On another one they say nothing: there it is the ratio to the
baseline, which is what a table claims.
"""

import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Literal, get_args

import msgspec

from bench.errors import UsageError
from bench.records.bundle import Bundle
from bench.records.environment import Environment
from bench.records.reading import Results
from bench.stats.intervals import Interval, unpaired_ratio
from bench.stats.ratios import baseline_of, block_step_seconds, block_values
from bench.suites.case import Case
from bench.text.units import format_bytes, format_duration, format_ratio
from bench.views.changes import versions
from bench.views.comparison import SAME_WITHIN, told
from bench.views.figures import case_seconds
from bench.views.tables.choice import chosen_rows
from bench.views.tables.grid import MISSING, Cell, Head
from bench.views.tables.plain import Plain
from bench.views.tables.plugin_notes import words
from bench.views.tables.titles import title_of

Verdict = Literal["SAME", "FASTER", "SLOWER", "CAN'T TELL"]
FAULTS: dict[str, Verdict] = {"slower": "SLOWER", "faster": "FASTER", "cant-tell": "CAN'T TELL"}
"""Words of `--fail-on`, with the verdicts that they mean."""
Figure = Literal["step time", "ratio to the baseline"]
SHOWN_PACKAGES = 12


class ReproducedCase(msgspec.Struct, frozen=True, kw_only=True):
    """One case, then and now. ratio: speed now over speed then; above 1 it is faster now."""

    model: str
    where: str
    verdict: Verdict
    ratio: float | None
    low: float | None
    high: float | None
    reason: str | None
    """Why it can't be told; None if it can, or if the interval is too wide."""
    then_step_seconds: float | None
    now_step_seconds: float | None
    then_memory_bytes: int | None
    now_memory_bytes: int | None


class Reproduction(msgspec.Struct, frozen=True, kw_only=True):
    bundle: str
    run: str
    """The file of what was measured here."""
    figure: Figure
    """Figure that is compared."""
    rows: list[ReproducedCase]
    differences: list[str]
    """Differences beside the figures."""


def reproduction(bundle: Bundle, now: Results, installed: Sequence[str]) -> Reproduction:
    """Case by case, and what differs. installed: packages here, as `name==version`."""
    then = bundle.results
    same_machine = then.header.environment.machine == now.header.environment.machine
    figure: Figure = "step time" if same_machine else "ratio to the baseline"
    cases = then.header.suite.cases(then.kind)
    here = {_same(case): case for case in now.header.suite.cases(now.kind)}
    rows = [_row(case, here.get(_same(case)), then, now, figure) for case in cases]
    return Reproduction(
        bundle=str(bundle.path),
        run=now.path,
        figure=figure,
        rows=rows,
        differences=[*_differences(bundle, now, installed)],
    )


def faults_of(words: Sequence[str] | None) -> list[Verdict]:
    """Verdicts that a reproduction is to fail on. Raises UsageError."""
    for word in words or ():
        if word not in FAULTS:
            raise UsageError(f"--fail-on {word}: choose {', '.join(FAULTS)}, or several with commas")
    return [FAULTS[word] for word in words or ()]


def _same(case: Case) -> Case:
    """The part of a case that is equal then and now; a device of another kind may have another batch."""
    return msgspec.structs.replace(case, revision=None)


def _row(case: Case, here: Case | None, then: Results, now: Results, figure: Figure) -> ReproducedCase:
    reason = _why_not(case, here, then, now)
    change = None
    if reason is None and here is not None:
        change = (_by_step if figure == "step time" else _by_ratio)(case, here, then, now)
        if change is None:
            reason = "it is the baseline, whose time another machine does not reproduce"
        elif change.low is None:
            reason = f"too few blocks for an interval ({change.blocks})"
    return ReproducedCase(
        model=case.implementation
        if case.activation is None
        else f"{case.implementation} at {case.activation:g}",
        where=then.header.suite.where(case, then.kind),
        verdict=_verdict(change),
        ratio=change.ratio if change else None,
        low=change.low if change else None,
        high=change.high if change else None,
        reason=reason,
        then_step_seconds=case_seconds(then, case.id),
        now_step_seconds=case_seconds(now, here.id) if here else None,
        then_memory_bytes=then.peak_memory(case.id),
        now_memory_bytes=now.peak_memory(here.id) if here else None,
    )


def _why_not(case: Case, here: Case | None, then: Results, now: Results) -> str | None:
    """Why a case can't be compared."""
    if here is None:
        return "this machine has another batch for it"
    for results, one, when in ((then, case, "then"), (now, here, "here")):
        lost, solo = results.lost.get(one.id), results.solos.get(one.id)
        if lost is not None:
            return f"failed {when}: {lost.reason}"
        if solo is None:
            return f"was not reached {when}"
        if solo.status != "ok":
            return f"did not run {when}: {solo.reason or solo.status}"
        if not block_step_seconds(results.samples, one.id):
            return f"was not timed {when}"
    return None


def _by_step(case: Case, here: Case, then: Results, now: Results) -> Interval:
    before, after = block_step_seconds(then.samples, case.id), block_step_seconds(now.samples, here.id)
    return unpaired_ratio([*map(math.log, before)], [*map(math.log, after)])


def _by_ratio(case: Case, here: Case, then: Results, now: Results) -> Interval | None:
    """The change of the ratio to the baseline; None of the baseline itself."""
    values = []
    for results, one in ((now, here), (then, case)):
        suite = results.header.suite
        baseline = baseline_of(one, suite.cases(results.kind), suite.baseline)
        if baseline is None or baseline.id == one.id:
            return None
        # Both as the bundle's record has it, whatever this version measures by; a duet's is of duets alone.
        alike = then.header.environment.pairing == now.header.environment.pairing
        estimator = (then if alike else results).header.estimator
        values.append(block_values(results.samples, baseline.id, one.id, estimator=estimator))
    after, before = values
    return unpaired_ratio(after, before) if after and before else None


def _verdict(change: Interval | None) -> Verdict:
    return "CAN'T TELL" if change is None else told(change) or "CAN'T TELL"


def _differences(bundle: Bundle, now: Results, installed: Sequence[str]) -> Iterator[str]:
    then, header = bundle.results, now.header
    yield from _of_machines(then.header.environment, header.environment)
    yield from versions(then.header.environment, header.environment)
    yield from _of_packages(bundle.packages, installed)
    for name, digest in then.header.sources.items():
        if header.sources.get(name) != digest:
            yield f"another source of {'what measures' if name == 'bench' else name}"
    for name, plug_in in then.header.plug_ins.items():
        mine = header.plug_ins.get(name)
        if mine is not None and (plug_in.version, plug_in.commit) != (mine.version, mine.commit):
            yield f"{name}: {words(plug_in)}; here {words(mine)}"
    if then.header.data != header.data:
        yield f"other data ({then.header.data}; here {header.data})"
    others = [
        name
        for name, solo in now.solos.items()
        if bundle.data.batches.get(name, solo.batch_digest) != solo.batch_digest
    ]
    if others:
        yield f"other batches in {len(others)} of {len(now.solos)} cases, {others[0]} first"
    yield from (f"then: {line}" for line in bundle.manifest.since)


def _of_machines(then: Environment, now: Environment) -> Iterator[str]:
    for name in (
        *("device", "hardware", "processor", "threads", "platform", "allocator", "pairing"),
        "set_by_variables",
    ):
        one, other = getattr(then, name), getattr(now, name)
        if one != other:
            yield f"{name.removeprefix('set_by_')} {one} → {other}"


def _of_packages(then: Sequence[str], now: Sequence[str]) -> Iterator[str]:
    """Packages that are not in both lists, or not in the same version."""
    here = {line.partition("==")[0].lower(): line for line in now}
    there = {line.partition("==")[0].lower(): line for line in then if line}
    changed = [
        f"{there[name]} → {here[name].partition('==')[2]}"
        for name in sorted(there.keys() & here.keys())
        if there[name].partition("==")[2] != here[name].partition("==")[2]
    ]
    missing = [there[name] for name in sorted(there.keys() - here.keys())]
    for what, found in (("packages in another version", changed), ("packages that are not here", missing)):
        if found:
            more = f" and {len(found) - SHOWN_PACKAGES} more" if len(found) > SHOWN_PACKAGES else ""
            yield f"{len(found)} {what}: {', '.join(found[:SHOWN_PACKAGES])}{more}"


def as_table(found: Reproduction, wanted: Sequence[str] | None = None) -> Plain[ReproducedCase]:
    """A row per case, or of some models; how often each verdict fell, and what differs. Raises UsageError."""
    heads = [
        Head("Model", "left", label=True, fields=("model",)),
        Head("Where", "left", label=True, fields=("where",)),
        Head("Now it is", "left", fields=("verdict",)),
        Head("Speed now/then", most_first=True, fields=("ratio", "low", "high")),
        Head("Step then", fields=("then_step_seconds",)),
        Head("Step now", fields=("now_step_seconds",)),
        Head("Memory then", fields=("then_memory_bytes",)),
        Head("Memory now", fields=("now_memory_bytes",)),
    ]
    counts = Counter(row.verdict for row in found.rows)
    verdicts = ", ".join(f"{counts[verdict]} {verdict}" for verdict in get_args(Verdict) if counts[verdict])
    reasons = [f"{row.model} at {row.where}: {row.reason}" for row in found.rows if row.reason]
    differs = [f"differs: {line}" for line in found.differences] or ["nothing else that is recorded differs"]
    return Plain(
        heads=heads,
        rows=chosen_rows(found.rows, wanted, _names),
        cells=_cells,
        whole=found,
        field="rows",
        lines_below=[
            f"{verdicts}; compared is the {found.figure}, SAME is within {SAME_WITHIN:.0%} for sure",
            *reasons,
            *differs,
            f"bundle {found.bundle}, measured here in {found.run}",
        ],
    )


def _names(row: ReproducedCase) -> list[str]:
    name = row.model.partition(" at ")[0]
    return [row.model, name, title_of(name)]


def _cells(row: ReproducedCase, digits: int | None) -> list[Cell]:
    seconds, size = partial(format_duration, digits=digits), partial(format_bytes, digits=digits)
    return [
        Cell(row.model),
        Cell(row.where),
        Cell(row.verdict),
        Cell(_speed(row, digits), value=row.ratio),
        *(_cell(row.then_step_seconds, seconds), _cell(row.now_step_seconds, seconds)),
        *(_cell(row.then_memory_bytes, size), _cell(row.now_memory_bytes, size)),
    ]


def _cell(value: float | None, show: Callable[[float], str]) -> Cell:
    return Cell(MISSING) if value is None else Cell(show(value), value=value)


def _speed(row: ReproducedCase, digits: int | None) -> str:
    if row.ratio is None:
        return MISSING
    if row.low is None or row.high is None:
        return format_ratio(row.ratio, digits)
    ratio, low, high = (
        f"{value:.3f}" if digits is None else format_ratio(value, digits)
        for value in (row.ratio, row.low, row.high)
    )
    return f"{ratio} ({low} to {high})"
