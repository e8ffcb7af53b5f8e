"""Rows of a table: what one result file says of each of its cases. A view on records."""

import difflib
import statistics
from collections.abc import Collection, Mapping

from bench.errors import UsageError
from bench.records.published import TASKS, long_range_arena
from bench.records.reading import Results
from bench.records.run import Sample
from bench.records.solo import MEMORY_KIND, Solo, Status
from bench.stats.ratios import baseline_of, speed_ratio, step_seconds
from bench.suites.case import Case
from bench.suites.rows import named
from bench.views.tables.row import Row
from bench.views.tables.titles import title_of
from implementations import registry
from implementations.errors import RegistryError

NOT_REACHED = "was not reached before the run stopped"


def rows_of(results: Results, baseline: str, models: Collection[str] | None = None) -> list[Row]:
    """Every case of a run, or of some models in it, in its suite's order.

    Raises UsageError if the baseline is not in the file.
    """
    header = results.header
    baseline = named(header.suite, baseline)
    if header.revisions is not None:
        raise UsageError(f"{results.path}: holds a gate's raw data (bench regress or doctor), no table")
    if baseline not in header.suite.implementations:
        known = header.suite.implementations
        near = difflib.get_close_matches(baseline, known, n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise UsageError(f"{results.path}: has no {baseline!r}; {hint}its models: {', '.join(known)}")
    cases = header.suite.cases(results.kind)
    samples: dict[str, list[Sample]] = {case.id: [] for case in cases}
    for sample in results.samples:
        samples.setdefault(sample.case_id, []).append(sample)
    measured = header.suite.baseline
    return [
        _row(results, case, baseline_of(case, cases, baseline), baseline_of(case, cases, measured), samples)
        for case in cases
        if models is None or case.implementation in models
    ]


def _complexity(name: str) -> str:
    try:
        return registry.find(name).complexity
    except RegistryError:
        return "unknown"


def _row(
    results: Results,
    case: Case,
    baseline: Case | None,
    measured: Case | None,
    samples: Mapping[str, list[Sample]],
) -> Row:
    """measured: the baseline of the run, which every group of a block holds."""
    solo = results.solos.get(case.id) or Solo(case=case, status="error", reason=NOT_REACHED)
    status, reason = _outcome(results, case, solo)
    timed = status == "ok"
    base_id = baseline.id if baseline and _ranked(results, baseline.id) else None
    speed = None
    if timed and base_id is not None:
        via = measured.id if measured else base_id
        together = [sample for name in {base_id, case.id, via} for sample in samples[name]]
        speed = speed_ratio(together, base_id, case.id, via, results.header.estimator)
    seconds = step_seconds(samples[case.id], case.id) if timed else None
    memory = results.peak_memory(case.id) if status in ("ok", "wrong") else None
    base_memory = results.peak_memory(base_id) if base_id is not None else None
    arena = long_range_arena().get(case.implementation)
    published = arena if arena and case.workload == "text" else {}
    activation, decoding = solo.activation, solo.decoding
    flops = solo.arithmetic.flops if solo.arithmetic else None
    flops_per_second = flops / seconds if flops and seconds else None
    ceiling = _ceiling(results, case)
    timed_rates = [s.activation for s in samples[case.id] if s.activation is not None]
    environment = results.header.environment
    return Row(
        model=case.implementation,
        title=title_of(case.implementation) + (", trained" if case.checkpoint else ""),
        complexity=_complexity(case.implementation),
        status=status,
        reason=reason,
        speed_ratio=speed.ratio if speed else None,
        speed_low=speed.low if speed else None,
        speed_high=speed.high if speed else None,
        memory_ratio=memory / base_memory if timed and memory and base_memory else None,
        published_speed=published.get("speed"),
        published_memory=published.get("memory"),
        published_accuracy={task: arena[task] for task in TASKS} if arena else None,
        step_seconds=seconds / decoding.tokens if seconds and decoding else seconds,
        tokens_per_second=solo.tokens / seconds if solo.tokens and seconds else None,
        real_tokens_per_second=solo.real_tokens / seconds if solo.real_tokens and seconds else None,
        state_bytes=decoding.state_bytes if decoding else None,
        peak_memory_bytes=memory,
        peak_memory_kind=MEMORY_KIND[results.kind],
        parameters=solo.parameters,
        gpu_busy=busy_share(solo, seconds),
        flops=flops,
        flops_per_second=flops_per_second,
        utilisation=flops_per_second / ceiling if flops_per_second and ceiling else None,
        ceiling_flops_per_second=ceiling,
        activation_rate=statistics.fmean(timed_rates) if timed_rates else None,
        activation_by_layer=activation.by_layer if activation else None,
        activation_set=case.activation,
        checkpoint=case.checkpoint,
        workload=case.workload,
        length=case.length,
        batch=case.batch,
        fill=case.fill,
        precision=case.precision,
        phase=case.phase,
        hyperparameters=case.hyperparameters,
        device=environment.device,
        hardware=environment.hardware,
        threads=case.threads or environment.threads,
        mode=case.mode,
        first_step_seconds=solo.compiled.first_step_seconds if solo.compiled else None,
        graph_breaks=solo.compiled.graph_breaks if solo.compiled else None,
        width=solo.width,
        torch=environment.torch,
        allocator=environment.allocator,
        pairing=environment.pairing,
        variables=environment.set_by_variables,
        backend=solo.backend,
        backend_set=case.backend,
        seed=case.seed,
        data=results.header.data,
        blocks=speed.blocks if speed else 0,
        case_id=case.id,
        metrics=solo.metrics,
        computed_by=solo.computed_by,
        remarks=solo.remarks,
        code=results.header.plug_ins.get(case.implementation),
        batch_digest=solo.batch_digest,
        run=results.path,
        created=results.header.created,
    )


def busy_share(solo: Solo, step_seconds: float | None) -> float | None:
    """The share of a timed step in which the GPU computes, as the solo pass saw it."""
    if solo.gpu_busy is None or not step_seconds:
        return None
    return min(1.0, solo.gpu_busy.seconds / step_seconds)


def _outcome(results: Results, case: Case, solo: Solo) -> tuple[Status, str | None]:
    if solo.status == "ok" and case.id in results.lost:
        lost = results.lost[case.id]
        return lost.status, f"{lost.reason} (in block {lost.block + 1})"
    return solo.status, solo.reason


def _ceiling(results: Results, case: Case) -> float | None:
    """The best product that the run measured in the case's precision, beside whichever model."""
    found = [
        solo.arithmetic.ceiling.flops_per_second
        for solo in results.solos.values()
        if solo.arithmetic
        and solo.arithmetic.ceiling
        and (solo.case.precision, solo.case.threads) == (case.precision, case.threads)
    ]
    return max(found, default=None)


def _ranked(results: Results, case_id: str) -> bool:
    solo = results.solos.get(case_id)
    return solo is not None and solo.status == "ok" and case_id not in results.lost
