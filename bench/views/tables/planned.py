"""Notes of a table's footer on how its blocks were planned, and on the gain of more time."""

import statistics
from collections import Counter
from collections.abc import Callable, Iterator

from bench.records.plan import Outlook, Plan
from bench.records.reading import Results
from bench.records.run import StopReason
from bench.suites.case import Case
from bench.text.units import format_duration

WORTH_TELLING = 0.1
"""Least share by which one block more has to narrow the widest interval."""
HOW_TO_MEASURE_MORE: dict[StopReason, str] = {
    "budget": "`bench run --resume {file}` with its own `--budget`",
    "blocks": "the same command with `--resume {file}`, and with more `max_blocks` or without `--quick`",
}
VISITS_WANTED = 3
"""Least visits of each case in a block: the median of fewer is moved by a single burst."""


def plans(run: Results, name: Callable[[Case], str]) -> list[str]:
    """The last plan of each cell: what was chosen and why.

    name: of a case, in a line.
    """
    last: dict[object, Plan] = {}
    for plan in run.plans:
        known = [run.solos[case_id].case for case_id in plan.cases if case_id in run.solos]
        if known:
            last[known[0].cell] = plan
    return [_chosen(run, plan, name) for plan in last.values()]


def _chosen(run: Results, plan: Plan, name: Callable[[Case], str]) -> str:
    usual, _ = Counter(case.visits for case in plan.cases.values()).most_common(1)[0]
    others = {case_id: case.visits for case_id, case in plan.cases.items() if case.visits != usual}
    visits = [f"{usual} visits of each model"] + [
        f"{count} of {', '.join(name(run.solos[i].case) for i, n in others.items() if n == count)}"
        for count in sorted(set(others.values()))
    ]
    rounds = "1 round" if plan.rounds == 1 else f"{plan.rounds} rounds"
    least = plan.rounds * min(case.visits for case in plan.cases.values())
    few = "" if least >= VISITS_WANTED else ", too few for a median that shrugs off a burst"
    width = "" if plan.half_width is None else f": the widest interval is then ±{plan.half_width:.1%}"
    cases = plan.cases.values()
    processes, between, within = (
        statistics.median(getattr(case, part) for case in cases)
        for part in ("processes", "between_visits", "within_visits")
    )
    start = format_duration(plan.start_seconds)
    return (
        f"Planned before block {plan.block + 1}: {plan.blocks} blocks of {rounds} with "
        f"{'; '.join(visits)}{few}; since models vary by {processes:.1%} from process to process, by "
        f"{between:.1%} from visit to visit, by {within:.1%} from step to step (medians), and a block takes "
        f"{start} to start{width}, as estimated"
    )


def outlook(run: Results) -> list[str]:
    """Notes on what the run lacks, and on the gain of more time."""
    if run.end is None or run.end.outlook is None:
        return []
    return list(_outlook(run.end.outlook, run.end.reason, run.path))


def _outlook(found: Outlook, reason: StopReason, file: str) -> Iterator[str]:
    block = format_duration(found.block_seconds)
    how = HOW_TO_MEASURE_MORE.get(reason, "`--resume {file}`").format(file=file)
    if found.lacking:
        yield (
            f"{found.lacking} of the blocks are lacking that the suite wants at least; one takes about "
            f"{block}: {how}"
        )
    elif reason in HOW_TO_MEASURE_MORE and found.half_width and found.gain > WORTH_TELLING:
        yield (
            f"one block more, about {block}, would narrow the widest interval from ±{found.half_width:.1%} "
            f"to about ±{found.narrowed:.1%}, as estimated: {how}"
        )
