"""Rows of a table: what one result file says of each of its cases. A view on records.

A figure that was not measured is None, and is printed as such.
"""

import difflib
import statistics
from collections.abc import Collection, Mapping

import msgspec

from bench.errors import UsageError
from bench.records.environment import Machine, Pairing
from bench.records.published import TASKS, long_range_arena
from bench.records.reading import Results
from bench.records.run import PlugIn, Sample
from bench.records.solo import MEMORY_KIND, MemoryKind, MetricFigure, Solo, Status
from bench.stats.ratios import baseline_of, speed_ratio, step_seconds
from bench.suites.case import Case
from bench.suites.rows import named
from bench.views.tables.retitling import retitled
from implementations import registry
from implementations.errors import RegistryError


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
    """Training on Text at 4K, whatever is measured here; so is `published_memory`."""
    published_memory: float | None
    published_accuracy: dict[str, float | None] | None
    """In percent, by task of the arena; None for a task that it did not learn."""
    step_seconds: float | None
    """Seconds of a step; of one token of each sequence in the phase decode."""
    tokens_per_second: float | None
    real_tokens_per_second: float | None
    state_bytes: int | None
    """Bytes that decoding keeps of the whole batch's sequences; None in other phases."""
    peak_memory_bytes: int | None
    peak_memory_kind: MemoryKind
    parameters: int | None
    gpu_busy: float | None
    """Share of a step in which the GPU computes; None on a CPU."""
    flops: int | None
    """FLOPs of a step, as they were counted."""
    flops_per_second: float | None
    utilisation: float | None
    """FLOP/s over those of the best matrix product of the same precision that the run measured."""
    ceiling_flops_per_second: float | None
    """Ceiling of the device, in FLOP per second of that product."""
    activation_rate: float | None
    activation_by_layer: list[float] | None
    activation_set: float | None
    """The rate that it was set to before measuring."""
    checkpoint: str | None = None
    """The file whose weights it was timed with."""
    workload: str
    length: int
    batch: int
    fill: str
    precision: str
    phase: str
    hyperparameters: str
    device: str
    hardware: str
    threads: int
    torch: str
    allocator: str | None
    """Allocator of a worker's memory on the host; None if the file does not say."""
    pairing: Pairing = "turns"
    """Whether it was timed in turns, or in a duet beside its baseline."""
    variables: str | None = None
    """Environment variables that change how a step is computed."""
    backend: str | None
    backend_set: str
    """The backend that was asked for; `backend` is what that came to."""
    seed: int
    data: str
    mode: str = "eager"
    first_step_seconds: float | None = None
    """Seconds of the step in which a compiled model is compiled."""
    graph_breaks: int | None = None
    width: int | None = None
    """Width of the model, if it was searched for a number of parameters."""
    blocks: int
    """Blocks behind the ratio."""
    case_id: str
    metrics: list[MetricFigure] = []
    """Figures of the user's own metrics, as the suite names them."""
    computed_by: str | None = None
    """Kernels that computed, in the words of a model from elsewhere."""
    remarks: list[str] = []
    code: PlugIn | None = None
    """Whose code it is, of a model from elsewhere."""
    batch_digest: str | None = None
    """Checksum of the batch; None if the file does not say."""
    run: str
    """The file that it comes from."""
    created: str
    """Begin of that run: ISO 8601, UTC."""

    @property
    def machine(self) -> Machine:
        computing = (self.device, self.hardware, self.threads, self.torch, self.allocator, self.pairing)
        return Machine(*computing, self.variables)

    @property
    def cell(self) -> tuple[object, ...]:
        """Key of one measurement, equal in two files that both have it: the case, on one machine."""
        return (self.case_id, self.checkpoint, *self.panel)

    @property
    def panel(self) -> tuple[object, ...]:
        """Key that rows share whose figures may be compared with each other."""
        return (self.length, *self.place)

    @property
    def place(self) -> tuple[object, ...]:
        """The same, at any length."""
        setting = (self.workload, self.batch, self.fill, self.precision, self.phase, self.hyperparameters)
        return (*setting, self.backend_set, self.seed, self.data, self.machine)


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


def title_of(name: str) -> str:
    """Title of a model: its own, or the one that a user gives it."""
    return retitled(name, own_title(name))


def own_title(name: str) -> str:
    try:
        return registry.find(name).title
    except RegistryError:
        return name


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
    solo = results.solos.get(case.id)
    status, reason = _outcome(results, case, solo)
    timed = status == "ok"
    base_id = baseline.id if baseline and _ranked(results, baseline.id) else None
    speed = None
    if timed and base_id is not None:
        via = measured.id if measured else base_id
        together = [sample for name in {base_id, case.id, via} for sample in samples[name]]
        speed = speed_ratio(together, base_id, case.id, via, results.header.estimator)
    seconds = step_seconds(samples[case.id], case.id) if timed else None
    memory = _memory(results, case.id) if status in ("ok", "wrong") else None
    base_memory = _memory(results, base_id) if base_id is not None else None
    arena = long_range_arena().get(case.implementation)
    published = arena if arena and case.workload == "text" else {}
    activation = solo.activation if solo else None
    decoding = solo.decoding if solo else None
    flops = solo.arithmetic.flops if solo and solo.arithmetic else None
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
        tokens_per_second=solo.tokens / seconds if solo and solo.tokens and seconds else None,
        real_tokens_per_second=solo.real_tokens / seconds if solo and solo.real_tokens and seconds else None,
        state_bytes=decoding.state_bytes if decoding else None,
        peak_memory_bytes=memory,
        peak_memory_kind=MEMORY_KIND[results.kind],
        parameters=solo.parameters if solo else None,
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
        first_step_seconds=solo.compiled.first_step_seconds if solo and solo.compiled else None,
        graph_breaks=solo.compiled.graph_breaks if solo and solo.compiled else None,
        width=solo.width if solo else None,
        torch=environment.torch,
        allocator=environment.allocator,
        pairing=environment.pairing,
        variables=environment.set_by_variables,
        backend=solo.backend if solo else None,
        backend_set=case.backend,
        seed=case.seed,
        data=results.header.data,
        blocks=speed.blocks if speed else 0,
        case_id=case.id,
        metrics=solo.metrics if solo else [],
        computed_by=solo.computed_by if solo else None,
        remarks=solo.remarks if solo else [],
        code=results.header.plug_ins.get(case.implementation),
        batch_digest=solo.batch_digest if solo else None,
        run=results.path,
        created=results.header.created,
    )


def busy_share(solo: Solo | None, step_seconds: float | None) -> float | None:
    """The share of a timed step in which the GPU computes, as the solo pass saw it."""
    if solo is None or solo.gpu_busy is None or not step_seconds:
        return None
    return min(1.0, solo.gpu_busy.seconds / step_seconds)


NOT_REACHED = "was not reached before the run stopped"


def _outcome(results: Results, case: Case, solo: Solo | None) -> tuple[Status, str | None]:
    if solo is None:
        return "error", NOT_REACHED
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


def _memory(results: Results, case_id: str) -> int | None:
    solo = results.solos.get(case_id)
    return solo.memory_bytes(MEMORY_KIND[results.kind]) if solo else None
